# Python (3.11 or newer) and make are all that is needed; the virtual environment is built when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CODE := src tests bench tools

.PHONY: demo test test-all check docs gpu format clean

demo: $(READY)                   ## train on the rendered gym: the gain from unlabeled images
	$(BIN)/semipose demo

test: $(READY)                   ## the test suite without the slow tests
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

test-all: $(READY)               ## every test; half an hour on two cores
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(READY)                  ## format, lint, layers, types, licences of dependencies
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python -m tools.audit

docs: $(READY)                   ## the documentation site, in site/
	$(BIN)/mkdocs build --strict

gpu: $(READY)                    ## measure the GPU in under ten minutes: docs/research/gpu.json and speed.md
	$(BIN)/python -m tools.gpu

format: $(READY)                 ## format the code and fix what lint can fix
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'semipose needs Python 3.11 or newer: make PYTHON=python3.12 …')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:                           ## remove the virtual environment and caches
	rm -rf $(VENV) site .pytest_cache .ruff_cache .mypy_cache .hypothesis .import_linter_cache
