# Needs only make and Python 3.11 or newer. Every target sets up what it uses.

PYTHON ?= python3
FUZZ_SECONDS ?= 60
TEST_PROCESSES ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
CODE := $(wildcard src tests examples benchmarks scripts)
TYPED := $(wildcard src examples scripts)
# A file's tests stay together and in their order; tests/conftest.py has the long files begin first.
SIDE_BY_SIDE := -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: help setup demo test check format bench torture fuzz mutants clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with everything a developer needs

demo: $(READY) ## run the main job: an agent is killed in the middle of a call and resumes
	$(BIN)/python examples/demo.py

test: $(READY) ## run the tests; PYTEST_ARGS='-k journal -x' passes arguments on, '-n0 --pdb' is one process
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(PYTEST_ARGS)

check: $(READY) ## format, lint, types, architecture, public names, budgets
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy $(TYPED)
	$(BIN)/python -m pytest -q tests/gates

format: $(READY) ## rewrite the code the way `make check` wants it
	$(BIN)/ruff check --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(READY) ## measure speed and memory; prints a table and JSON
	$(BIN)/python -m benchmarks

torture: $(READY) ## 20,000 SIGKILLs, power cuts, races: an hour or so; TORTURE_ARGS='--minutes 5'
	$(BIN)/python -m scripts.torture $(TORTURE_ARGS)

fuzz: $(READY) ## spoiled answers for every driver: five minutes; FUZZ_SECONDS=5 for each of nine parts
	HOLDFAST_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest -q -n $(TEST_PROCESSES) --dist load --maxschedchunk 1 \
		tests/drivers/test_fuzz_streams.py

mutants: $(READY) ## plant bugs, one at a time: which test notices; MUTANTS_ARGS='--only NAME'
	$(BIN)/python -m scripts.mutants $(MUTANTS_ARGS)

clean: ## remove .venv and every cache
	rm -rf $(VENV) build dist .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Holdfast needs Python 3.11 or newer, and $(PYTHON) is " + sys.version.split()[0] + ": try make PYTHON=/path/to/python3.11")'
	@echo "Setting up $(VENV): once, about half a minute ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
	@echo "Ready: $(VENV)"
