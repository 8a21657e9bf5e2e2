"""Tutorials that need no backend, and what runs all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

pytestmark = pytest.mark.cpu_only("the models of these pages compute on the CPU")


@pytest.mark.slow
def test_an_electric_field(run_tutorials):
    pytest.importorskip("calorine")
    run_tutorials("electric-field")


@pytest.mark.slow
def test_path_integrals(run_tutorials):
    pytest.importorskip("ipi")
    run_tutorials("path-integrals")


@pytest.mark.slow
def test_a_backbone(run_tutorials):
    run_tutorials("a-backbone")


PAGE = """# A page

<!-- in tests: range(5) -> range(2) -->

```python
for i in range(5):
    print("line", i)
```

```text
line 0
line 1
```

```python
# module.py
NAME = "a name"
```

```bash
python -c "import module; print(module.NAME)"
```
"""


@pytest.fixture
def tutorials(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "website"))
    return pytest.importorskip("tutorials")


def test_pages_say_what_they_print(run_tutorials, tutorials, tmp_path, monkeypatch):
    """A page that says what is not printed is found, and so is one that says nothing of it."""
    monkeypatch.setattr(tutorials, "PAGES", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    with pytest.raises(AssertionError, match=r"page\.md: a name"):
        run_tutorials("page")
    (tmp_path / "examples").unlink()
    ran = tutorials.run(PAGE, tmp_path, tutorials.environment(tmp_path))
    assert [each.printed for each in ran] == [
        "line 0\nline 1\nline 2\nline 3\nline 4\n",
        "",
        "a name\n",
    ]
    text = tutorials.recorded(PAGE, ran)
    assert text.count("```text") == 2
    assert "line 4" in text
    page.write_text(text)
    (tmp_path / "examples").unlink()
    run_tutorials("page")
    page.write_text(text.replace("a name\n```\n", "another name\n```\n"))
    (tmp_path / "examples").unlink()
    with pytest.raises(AssertionError, match="another name"):
        run_tutorials("page")


def test_blocks_that_fail(tutorials, tmp_path):
    page = "```bash\necho said; false\n```\n"
    with pytest.raises(RuntimeError, match="ended with\nsaid"):
        tutorials.run(page, tmp_path, tutorials.environment(tmp_path))
    with pytest.raises(ValueError, match="no block has '--epochs 9'"):
        tutorials.shortened("<!-- in tests: --epochs 9 -> --epochs 1 -->\n")
