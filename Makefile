# Two commands: `make demo` and `make test`. Both make .venv first and need Python >= 3.11, pip and make.
# `make test-data` runs the tests that read data files, from the folder that MOIETY_DATA names;
# `make docs` builds the documentation site into site/; `make mutants` plants small bugs one at a time and says which the tests catch (AREA="core split" for some).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SHELL := /bin/bash
# One more than the cores of a small machine, for some tests wait for processes of others.
JOBS ?= 3

PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.PHONY: demo docs test test-data mutants lint check-version clean

demo: $(VENV)/.demo
	$(BIN)/moiety run quickstart

test: $(VENV)/.dev lint
	$(PYTEST)

docs: $(VENV)/.dev
	$(BIN)/zensical build --strict --clean
	@echo "open site/index.html, or: $(BIN)/python -m http.server --bind 127.0.0.1 --directory site"

test-data: $(VENV)/.dev
	@[ -d "$$MOIETY_DATA" ] || \
	  { echo "set MOIETY_DATA to the folder of the data files (docs/data.md lists them)"; exit 1; }
	$(PYTEST) -m needs_data $$(grep -rl --include='test_*.py' needs_data tests)

mutants: $(VENV)/.dev
	$(BIN)/python -m tests.mutants --jobs $(JOBS) $(if $(AREA),--area $(AREA))

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/structure/test_tree.py -k "lengths or public_name"

check-version:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "moiety needs Python 3.11 or later; say which: make demo PYTHON=python3.12"; exit 1; }

$(BIN)/python: | check-version
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[data,report]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all,dev]"
	@touch $@ $(VENV)/.demo

clean:
	rm -rf $(VENV) build dist site .cache .pytest_cache .ruff_cache
