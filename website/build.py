"""Build the documentation site: python website/build.py [FOLDER], build/site unless one is given.

Pages are those of ``docs``, some files of the repository, and references that are made from the
code. Every warning is an error, so that each page has its place in the navigation, and each link
its target. Nothing is fetched.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from sphinx.cmd.build import main as sphinx

import command_pages
import configuration_page
import python_pages
import repository

HERE = Path(__file__).parent


def assemble(folder: Path) -> None:
    """Write all pages to ``folder``, and files that they link to, in place of what it holds."""
    shutil.rmtree(folder, ignore_errors=True)
    pages = {"index.md": (HERE / "index.md").read_text(encoding="utf-8")}
    pages |= repository.pages()
    pages |= {page: repository.with_links_of_the_site(text, page) for page, text in pages.items()}
    for path in repository.linked_files():
        copy = folder / repository.site_path(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(repository.ROOT / path, copy)
    pages["reference/configuration.md"] = configuration_page.page()
    pages |= command_pages.pages()
    pages |= python_pages.pages()
    for page, text in pages.items():
        target = folder / page
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def build(output: Path) -> int:
    """Build the site in ``output``; returns the exit status."""
    source = HERE.parent / "build" / "pages"
    assemble(source)
    shutil.rmtree(output, ignore_errors=True)
    options = ["-W", "--keep-going", "-q", "-b", "dirhtml", "-c", str(HERE)]
    return sphinx(
        [*options, "-d", str(HERE.parent / "build" / "doctrees"), str(source), str(output)]
    )


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent / "build" / "site"))
