# Nothing but Python (3.11 or newer) and make is needed; the virtual environment is built when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check format clean

demo: $(READY)                   ## train on embedded people: few labels alone against few labels and unlabeled images
	$(BIN)/semipose demo --upper-bound

test: $(READY)                   ## the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY)                  ## format, lint, types; licences, versions and conflicts of what is installed
	$(BIN)/ruff format --check src tests bench tools
	$(BIN)/ruff check src tests bench tools
	$(BIN)/mypy
	$(BIN)/python -m tools.audit

format: $(READY)                 ## mend format and what lint can mend
	$(BIN)/ruff format src tests bench tools
	$(BIN)/ruff check --fix src tests bench tools

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'semipose needs Python 3.11 or newer; make PYTHON=python3.12 …')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[pretrained,export,dev]'
	touch $(READY)

clean:                           ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis
