# `make demo` and `make test` work on a fresh machine with Python 3.11+ and make; all goes into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs

.PHONY: help install demo test types units docs clean

help:
	@echo "make demo   set up, reconstruct the embedded data set, print the path of the report"
	@echo "make test   set up, check style and types, run the tests"
	@echo "make docs   build the documentation as a site, site/index.html; reads no network once it is set up"
	@echo "make clean  remove .venv, caches and the demo's output"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; run: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $(STAMP)

demo: $(STAMP)
	$(BIN)/manyviews demo --out demo-run --overwrite

test: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@$(MAKE) --no-print-directory --jobs 2 types units

types: $(STAMP)
	$(BIN)/mypy

# A process a core, and one for the time that others wait; more than eight would spend theirs on imports.
units: $(STAMP)
	$(BIN)/python -m pytest --maxprocesses 8 \
		-n $$($(BIN)/python -c 'import os; print(1 + (os.cpu_count() or 1))')

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $(DOCS_STAMP)

docs: $(DOCS_STAMP)
	$(BIN)/python docs/site/collect.py build/site-source
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	$(BIN)/python docs/site/check.py site

clean:
	rm -rf $(VENV) demo-run site .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
