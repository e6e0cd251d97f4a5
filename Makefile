# Everything stays inside this folder and $(VENV). Versions live in requirements.txt, nowhere else.

VENV ?= .venv
PYTHON ?= python3
DEMO_ARGS ?=
FAST ?=
COMPARE_ARGS ?=
BENCHMARK_ARGS ?=
PYTEST_ARGS ?=
# The tests of a file share what they made, so a file stays in one process.
PARALLEL := -n auto --maxprocesses 4 --dist loadfile

PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check
NO_DEPS := $(shell sed -n 's/^\#no-deps: *//p' requirements.txt)
SOURCES := rnnpose_plugin projects configs tools tests

# The stamp's name holds a hash of what an installation depends on, the place of this folder included (an editable
# install points at it), so a venv is used again exactly as long as all of that is the same.
KEY := $(shell { pwd; cat requirements.txt setup.py; } | sha256sum | cut -c 1-16)
STAMP := $(VENV)/.installed-$(KEY)

.DEFAULT_GOAL := help
.PHONY: help install test test-slow lint demo compare benchmark clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

install: $(STAMP) ## make $(VENV) with the pinned stack and this package; does nothing if that is done

$(STAMP):
	@$(PYTHON) -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null || \
		{ echo 'The pinned stack needs Python 3.11 or 3.12 with its venv module, and `$(PYTHON)` is not that: name another with `make install PYTHON=python3.11`.' >&2; exit 1; }
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.txt
	$(PIP) --no-deps $(NO_DEPS)
	$(PIP) --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.installed-*
	@touch $@

test: lint ## run lint and all tests but the slow ones, a process per core (PYTEST_ARGS=... is handed on)
	$(PY) -m pytest -m 'not slow' $(PARALLEL) $(PYTEST_ARGS)

test-slow: install ## run the slow tests
	$(PY) -m pytest -m slow $(PYTEST_ARGS)

lint: install ## check style and format with ruff
	$(PY) -m ruff check
	$(PY) -m ruff format --check

demo: install ## run tools/demo.py (FAST=1: the shipped model, no training; DEMO_ARGS=... is handed on)
	$(PY) tools/demo.py$(if $(filter 1,$(FAST)), --fast) $(DEMO_ARGS)

compare: install ## train AE and the decoder on the synthetic crowd and compare them (COMPARE_ARGS=... is handed on)
	$(PY) tools/compare_crowd.py $(COMPARE_ARGS)

benchmark: install ## measure what the decoder costs (BENCHMARK_ARGS=... is handed on)
	$(PY) tools/benchmark.py $(BENCHMARK_ARGS)

clean: ## remove caches and build leftovers; keeps $(VENV), data and work_dirs
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
	find $(wildcard $(SOURCES)) -name __pycache__ -type d -prune -exec rm -rf {} +
