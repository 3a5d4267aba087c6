# SPDX-License-Identifier: Apache-2.0
# make demo: the main job on a model.  make test: everything CI runs.  make check: the quick part.  make bench: speed.
# make policy: what the governor saves.
# make fuzz: more of the same properties, at random.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
USE    := $(VENV)/.for-use
DEV    := $(VENV)/.for-development

.PHONY: demo test pytest pytest-kernel fuzz soak microscope fence nodes fuzz-properties fuzz-decoders check lint types layers format beside deb packaging install uninstall help bench race policy breathe driver onlining field radar compare verdicts referees kernels clean

demo: $(USE)
	@$(BIN)/hotbank demo

test: lint types layers pytest

# Files run three at a time, the longest first: one of three waits for something at most times, and two cores have work.
PYTEST := $(BIN)/pytest -p no:benchmark -n 3 --dist loadfile --no-loadscope-reorder

pytest: referees kernels $(DEV)
	$(PYTEST) -m "not slow"

pytest-kernel: referees kernels $(DEV)
	$(PYTEST) -m "kernel and not slow"

# The tests of the 32-bit port on another of its kernels: make arm32-6.12. 10 minutes, and 4 to build it the first time.
arm32-%: kernels $(DEV)
	HOTBANK_ARM32=$* $(PYTEST) -m "kernel and not slow" tests/kernel/arm32

# The properties of the same tests, at random and ten times as long. What it finds becomes an @example.
fuzz: fuzz-properties fuzz-decoders

fuzz-properties: referees $(DEV)
	$(BIN)/pytest -p no:benchmark -n 2 -m "hypothesis and not slow" --hypothesis-profile=fuzz

fuzz-decoders: $(DEV)
	$(BIN)/python bench/fuzz_decoders.py

# An hour of an owner in a crowd, 2,000 crashes, 100,000 times out and in: SOAK="--minutes 10 --crashes 200 --cycles 5000".
soak: referees $(DEV)
	PYTHONPATH=tests $(BIN)/python -m soak $(SOAK)

# A full bank emptied behind a fence and block by block, 50 cancels, 200 cycles, on two kernels: docs/speed.md.
fence: referees kernels $(DEV)
	$(BIN)/pytest -n0 -s -m slow tests/kernel/arm64/test_evacuation.py

# A bank that is the only memory of a node, emptied as a whole before its blocks go, on two kernels: docs/removal.md.
nodes: referees kernels $(DEV)
	$(BIN)/pytest -p no:benchmark -n0 -s -m slow tests/kernel/arm64/test_nodes.py

# Our bank driver on a kernel that is built here and looks for its mistakes; each allocation denied once: docs/reliability.md.
# MICROSCOPE="--operations add,remove --no-suite": a part of it.
microscope: referees kernels $(DEV)
	PYTHONPATH=tests $(BIN)/python -m microscope $(MICROSCOPE)

check: lint types layers $(DEV)
	$(PYTEST) -m "not slow and not long and not kernel"

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEV)
	$(BIN)/mypy

layers: $(DEV)
	$(BIN)/lint-imports

format: $(DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

help:
	@echo 'make demo                        the main job, on a model'
	@echo 'make install [PREFIX=/usr/local] the program in PREFIX/lib/hotbank, with man pages, completions and units'
	@echo 'make uninstall [PREFIX=...]      takes all of that away again'
	@echo 'make deb                         a Debian package in build/; make packaging: tried in a Debian in QEMU'
	@echo 'make test                        everything that CI runs; make check: the quick part'
	@echo 'make format                      before a change is sent; make bench: speed; make fuzz: more of the same tests'

# In an environment of its own below PREFIX. Units name PREFIX/bin/hotbank.
PREFIX ?= /usr/local
HOME_OF := $(abspath $(PREFIX))/lib/hotbank

install:
	$(PYTHON) -m venv $(HOME_OF)
	$(HOME_OF)/bin/python -m pip install --quiet --disable-pip-version-check .
	mkdir -p $(PREFIX)/bin
	ln -sf ../lib/hotbank/bin/hotbank $(PREFIX)/bin/hotbank
	$(HOME_OF)/bin/python packaging/beside.py $(PREFIX) $(abspath $(PREFIX))/bin/hotbank

uninstall:
	$(HOME_OF)/bin/python packaging/beside.py --remove $(PREFIX)
	rm -rf $(HOME_OF) $(PREFIX)/bin/hotbank

# Man pages, completions, units, as they lie below a prefix.
beside: $(USE)
	$(BIN)/python packaging/beside.py build/beside

# A Debian package of this checkout.
deb: $(DEV)
	@$(BIN)/python packaging/deb.py build

# The package in a fresh Debian under its own systemd, in QEMU: docs/reliability.md. Root, five minutes and more the first time.
packaging: $(DEV)
	@sh packaging/trial/packages.sh
	@$(BIN)/python packaging/trial/run.py "$$($(BIN)/python packaging/deb.py build)"

bench: $(DEV)
	$(BIN)/python bench/run.py
	$(BIN)/python bench/replay.py
	$(BIN)/python bench/day.py
	$(BIN)/python bench/fdt_decode.py --check
	$(BIN)/python bench/listing.py --check
	$(BIN)/python bench/look.py --check
	$(BIN)/python bench/sweep.py

# Who frees memory by moving the fewest pages, on models and in a guest: docs/speed.md. RACE="--runs 3 --states third".
race: referees kernels $(DEV)
	PYTHONPATH=tests:bench $(BIN)/python -m race.model
	PYTHONPATH=tests:bench $(BIN)/python -m race $(RACE)

# A real kernel under a governor: ten breaths, and another hand on the way.
breathe: referees kernels $(DEV)
	$(BIN)/pytest -p no:benchmark -s -m slow tests/kernel/arm64/test_breath.py

# Three kernels that put added memory anywhere, each route: the policy is set aside and put back, also by who recovers.
onlining: referees kernels $(DEV)
	$(BIN)/pytest -p no:benchmark -s -m slow tests/kernel/arm64/test_policies.py

# What the field hands in, on 6.1, 6.12 and 7.3: reservations, own memmaps, huge pages of every size, udev's own answers to rules.
field: referees kernels $(DEV)
	$(BIN)/pytest -p no:benchmark -s -m slow tests/kernel/arm64/test_field.py

# The model's rules against every kernel that Debian has, by guests of their own: docs/radar.md. Ten minutes and more.
radar: referees kernels $(DEV)
	$(BIN)/hotbank radar --kernels 6.1,6.12.95,6.12.117,6.16,6.17,6.18,6.19,7.0,7.1,7.2,7.3

# Operations, and verdicts, on another kernel than the usual one: make compare KERNEL=7.3, or, where the kernel has not all
# routes, make compare KERNEL=6.16 ROUTES=kmem,virtio-mem
compare: referees kernels $(DEV)
	KERNEL=$(KERNEL) $(BIN)/pytest -p no:benchmark -s -m "kernel or slow" tests/kernel/arm64/test_compare.py

verdicts: referees kernels $(DEV)
	KERNEL=$(KERNEL) $(BIN)/pytest -p no:benchmark -s -m "kernel and not slow" tests/kernel/arm64/test_verdicts.py

# The bank driver on every kernel that Debian has headers for: built without a word, and a bank of 1 GiB in and out.
driver: referees kernels $(DEV)
	$(BIN)/pytest -p no:benchmark -s -m kernel tests/kernel/test_bank_builds.py tests/kernel/arm64/test_driver.py

# What the governor's policies save of what could be saved, on real series: docs/policy.md.
policy: $(DEV)
	$(BIN)/python bench/policy.py --starts 4

# Programs that judge the codecs, and what boots kernels. pip has neither. Root on Debian gets them; others are told.
referees:
	@sh tests/referees.sh

kernels:
	@sh tests/kernel/packages.sh

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "hotbank needs Python 3.11 or newer and $(PYTHON) is older: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) has no venv: install python3-venv, or make PYTHON=another" >&2; rm -rf $(VENV); exit 1; }

$(USE): pyproject.toml | $(BIN)/python
	@$(PIP) -e .
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	@$(PIP) -e '.[dev]'
	@echo "compiling the model's fast backend, once"
	@$(BIN)/python -m hotbank.model.compiled
	@touch $@ $(USE)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
