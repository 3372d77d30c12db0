# Two commands for a fresh machine: `make demo` and `make test`. Both set up what they need in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo

.PHONY: demo test faults check docs bench bench-full clean

demo: $(VENV)/.demo
	$(BIN)/ssl4eo-bench run --task bigearthnet --protocol linear --sample --results $(DEMO)/results --cache-dir $(DEMO)/cache
	$(BIN)/ssl4eo-bench report --sample --results $(DEMO)/results --cache-dir $(DEMO)/cache --out $(DEMO)/report.html
	@echo
	@cat $(DEMO)/results/leaderboard.sample.md

# Tests run side by side, each on a thread of its own: most of their work is too small for more. They start hundreds of
# processes, so compiled modules are kept even where the environment says otherwise.
test: check
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4

# Hundreds of kills and flipped bytes, thousands of broken inputs; writes the table in docs/reliability.md.
faults: $(VENV)/.dev
	rm -f faults.jsonl
	SSL4EO_BENCH_FAULTS=long SSL4EO_BENCH_FAULTS_LOG=$(CURDIR)/faults.jsonl OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults
	$(BIN)/python -m tests.faults.table faults.jsonl

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The documentation site, in site/; a warning is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks

bench-full: $(VENV)/.bench
	$(BIN)/python -m benchmarks --full

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[cpu,sample]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

$(VENV)/.docs: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable '.[dev,peers]'
	@touch $@

clean:
	rm -rf $(VENV) $(DEMO) build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
