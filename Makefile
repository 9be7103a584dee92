# Each target does its own set-up: a clone, make, and any Python from 3.11 on are enough.
# `make PYTHON=/path/to/python` chooses the interpreter; it counts when .venv is made.

PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3 python; do \
  $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$python; break; }; done)
BIN := .venv/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet
PURE = $(shell $(BIN)/python .ci/pure.py)
SEED ?= 0
SEEDS ?= 200
STORY ?= usual
SECONDS ?= 60

.DEFAULT_GOAL := check
.PHONY: setup demo test check lint coverage format bench peers hostile chaos simulate fuzz wheel

setup: .venv/dev

demo: .venv/runtime
	$(BIN)/python examples/census.py $(ARGS)

test: .venv/dev
	$(BIN)/python -m pytest $(ARGS)

check: lint coverage

lint: .venv/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

coverage: .venv/dev
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --include='$(PURE)' --fail-under=100
	$(BIN)/coverage report --omit='$(PURE)' --fail-under=90

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/runtime
	$(BIN)/python -m benchmarks $(ARGS)

peers: .venv/runtime
	$(BIN)/python -m benchmarks.peers $(ARGS)

hostile: .venv/dev
	$(BIN)/python -m benchmarks.hostile $(ARGS)

chaos: .venv/dev
	$(BIN)/python -m benchmarks.chaos $(ARGS)

simulate: .venv/dev
	RINGCAST_LOG=critical $(BIN)/python -m tests.simulation.run --first $(SEED) --count $(SEEDS) --story $(STORY) $(ARGS)
	$(BIN)/python -m tests.simulation.run --first $(SEED) --count $(SEEDS) --cores
	SEED=$(SEED) SEEDS=$(SEEDS) $(BIN)/python -m pytest -q tests/simulation/test_seeds.py

fuzz: .venv/dev
	$(BIN)/python -m tests.fuzz.run --seconds $(SECONDS) $(ARGS)

wheel: .venv/dev
	rm -rf build  # what an earlier build left there would get into the wheel
	$(BIN)/python -m build --wheel --no-isolation

$(BIN)/pip:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer with its venv module was found on the path." \
	  "Install one, or name it: make PYTHON=/path/to/python" >&2; exit 1; }
	"$(PYTHON)" -m venv .venv

.venv/runtime: pyproject.toml | $(BIN)/pip
	$(PIP) --editable .
	@touch $@

.venv/dev: pyproject.toml | $(BIN)/pip
	$(PIP) --editable '.[dev]'
	@touch .venv/runtime $@
