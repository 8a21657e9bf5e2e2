# Both commands need only Python >= 3.10 and make; everything else goes into .venv-nox
# and .nox in this folder. Another interpreter: make test PYTHON=python3.12
PYTHON ?= python3
NOX := .venv-nox/bin/nox

.PHONY: help demo test lint docs clean

help:
	@echo "make demo   train MACE with and without LES on ions and on water, write a report"
	@echo "make test   lint and all tests, each backend in its own environment"
	@echo "make lint   ruff and mypy only"
	@echo "make docs   the documentation as a site, in build/site"
	@echo "make clean  remove environments, caches and builds (results/ stays)"

demo: $(NOX)
	$(NOX) -s demo

# nox's default sessions: lint, the documentation, then the tests without and with each backend
test: $(NOX)
	$(NOX)

lint: $(NOX)
	$(NOX) -s lint

docs: $(NOX)
	$(NOX) -s docs

$(NOX): constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("les needs Python >= 3.10, " + sys.executable + " is " + sys.version.split()[0] + "; try: make PYTHON=python3.12" if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv --clear .venv-nox
	.venv-nox/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt nox
	@touch $@

clean:
	rm -rf .nox .venv-nox .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
