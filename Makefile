# SPDX-License-Identifier: Apache-2.0
# make demo: the main job on a model.  make test: everything CI runs.  make check: the quick part.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: demo test check lint types layers format bench clean

demo: $(STAMP)
	$(BIN)/hotbank demo

test: lint types layers referees $(STAMP)
	$(BIN)/pytest

check: lint types layers $(STAMP)
	$(BIN)/pytest -m "not slow and not long"

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

layers: $(STAMP)
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Programs that judge the codecs and that pip does not have. Root on Debian gets them; others are told.
.PHONY: referees
referees:
	@sh tests/referees.sh

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "hotbank needs Python 3.11 or newer; $(PYTHON) is older. Try make PYTHON=python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "no venv in $(PYTHON): install python3-venv, or make PYTHON=..." >&2; rm -rf $(VENV); exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
