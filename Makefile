# Everything there is to run. Two commands suffice on a fresh machine: `make quickstart` and `make test`.
# The first one makes .venv; an install is repeated only when pyproject.toml or constraints.txt changes.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help quickstart test test-all lint format types docs docs-serve evidence picture page-picture bench constraints clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Fairlead needs Python 3.11 or later; name one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	@touch $@ $(VENV)/.core

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.test $(VENV)/.core

$(VENV)/.bench: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	@touch $@ $(VENV)/.core

quickstart: $(VENV)/.core  ## install, align a small model on this machine, say where the report is
	$(BIN)/fairlead quickstart

WORKERS ?= 2

test: $(VENV)/.test  ## every test that takes seconds, in two processes
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow"

test-all: $(VENV)/.test  ## every test, reproductions included
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(VENV)/.dev  ## style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev  ## repair style and formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(VENV)/.dev  ## static types of the package
	$(BIN)/basedpyright

docs: $(VENV)/.dev  ## build the documentation into site/; a broken link or name is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: $(VENV)/.dev  ## read the documentation while writing it
	$(BIN)/mkdocs serve

evidence: $(VENV)/.core  ## run every recipe that makes a claim, rewrite the evidence tables
	$(BIN)/fairlead evidence

CHROMIUM ?= chromium
REPORT ?= runs/quickstart/report.html

picture: $(VENV)/.core  ## photograph the report of the last quickstart for the README (needs Chromium)
	$(CHROMIUM) --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1200,1820 \
	  --screenshot=$(CURDIR)/docs/images/report.png file://$(abspath $(REPORT))
	$(BIN)/python -c "from PIL import Image; p = 'docs/images/report.png'; \
	  Image.open(p).convert('RGB').quantize(128).save(p, optimize=True)"

page-picture: $(VENV)/.test  ## photograph the page of `fairlead serve` for the documentation (needs Chromium)
	PYTHONPATH=tests $(BIN)/python docs/photograph.py docs/images/page.png

bench: $(VENV)/.bench  ## run the benchmarks one after the other; TRL is installed to be measured beside
	@set -e; for script in benchmarks/[a-z]*.py; do echo "== $$script"; $(BIN)/python $$script; done

constraints: $(VENV)/.dev $(VENV)/.bench  ## write the installed versions down as the tested ones
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' \
	  | grep -v -i '^fairlead'; } > constraints.new && mv constraints.new constraints.txt

clean:  ## remove what was built (not .venv, not runs/)
	rm -rf build dist site .pytest_cache .ruff_cache .hypothesis
	find fairlead tests -name __pycache__ -type d -prune -exec rm -rf {} +
