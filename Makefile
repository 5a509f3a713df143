# Two commands for people: `make run` and `make test`. Both need python3.11+ and make, and nothing else.

VENV   := .venv
BIN    := $(VENV)/bin
LOCK   := requirements-dev.txt
ROOMS  := workflows activities db api local telemetry settings.py worker.py serving.py examination.py flowtrack.py tests
# Overridable: make PYTHON=/opt/python3.12/bin/python3 run
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3.14 python3 python; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
# The stamp's name is the lock's hash: a changed lock builds anew, an unchanged one starts at once.
STAMP  := $(VENV)/.built-$(shell cksum < $(LOCK) | cut -d' ' -f1)

.PHONY: run test lint types imports tests test-slow golden docs screenshot bench lock clean help
.DEFAULT_GOAL := help
# pytest's closing line is the last word, whatever -j says.
.NOTPARALLEL:

help:
	@echo "make run        everything on this machine, with a demo; Ctrl-C stops it, the data stays"
	@echo "make test       what CI checks: lint, format, types, import contracts, tests"
	@echo "make test-slow  the long suites: faults with real processes, load"
	@echo "make golden     record the histories that replay tests lack (ARGS: scenes, or --all)"
	@echo "make docs       the pages that are made from the code"
	@echo "make screenshot  the documentation's pictures of the Temporal Web UI (needs Chromium and its driver)"
	@echo "make bench      the benchmarks behind every published number"
	@echo "make lock       the hashed lock files, from pyproject.toml"
	@echo "make clean      remove the environment and every cache; the data in .flowtrack stays"

run: $(STAMP)
	@$(BIN)/flowtrack up $(ARGS)

test: lint types imports tests

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy $(ROOMS)

imports: $(STAMP)
	$(BIN)/lint-imports --no-logo

# Faults, races and budgets run on real servers and share two cores: what failed gets one more try, alone, and
# both results are printed. A test that is wrong fails twice.
tests: $(STAMP)
	$(BIN)/pytest -n 2 --dist loadfile -m "not slow" $(ARGS) \
		|| $(BIN)/pytest --last-failed --last-failed-no-failures none -m "not slow"

test-slow: $(STAMP)
	$(BIN)/pytest -m slow --timeout 3600 $(ARGS)

golden: $(STAMP)
	$(BIN)/python -m tests.golden.record $(ARGS)

docs: $(STAMP)
	$(BIN)/python -m workflows.catalogue > docs/nodes.md
	$(BIN)/python -m workflows.codes > docs/problems.md

screenshot: $(STAMP)
	$(BIN)/python docs/screenshots/take.py

bench: $(STAMP)
	@for script in benchmarks/*.py; do echo "== $$script"; $(BIN)/python "$$script" $(ARGS) || exit 1; done

# The hashes come from a resolver; uv is the quick one, pip-tools does as well (for one platform only).
lock:
	@command -v uv >/dev/null || { echo "make lock needs uv (https://docs.astral.sh/uv/)"; exit 1; }
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--quiet -o requirements.txt
	uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--quiet --extra local --extra otel --extra dev -c requirements.txt -o requirements-dev.txt

$(STAMP):
	@if [ -z "$(PYTHON)" ] || ! $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
		echo "FlowTrack needs Python 3.11 or newer, and '$(or $(PYTHON),python3)' is not."; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; fi
	@echo "Building $(VENV) with $$($(PYTHON) --version): a few minutes once, later starts are instant."
	@rm -f $(VENV)/.built-*
	@$(PYTHON) -m venv $(VENV) || { echo "Python's venv module is missing; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.flowtrack/*' -prune -exec rm -rf {} +
