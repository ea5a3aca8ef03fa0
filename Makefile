# make help    what there is
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do \
	$$p -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Wheels of torch-scatter and torch-cluster, one folder for each torch, Python and platform.
export TMT_GEO_WHEELS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tmt-geo/wheels
export MAX_JOBS ?= 2
WHEEL_TAG := import sys, sysconfig, torch; \
	print(f"torch-{torch.__version__}-cp{sys.version_info[0]}{sys.version_info[1]}-{sysconfig.get_platform()}")

WORKERS ?= 2
ARGS ?=

.PHONY: help demo test test-latest lint docs bench device mutants

help:
	@echo "make demo   train a small TMT and a Llama of its size, compare them, write runs/demo/report.html"
	@echo "            (options of the command go into ARGS, as in: make demo ARGS=--help)"
	@echo "make test   install everything, then ruff, mypy and pytest"
	@echo "make test-latest  install the wheel with the newest of everything but torch, and try it"
	@echo "make lint   ruff and mypy alone"
	@echo "make docs   build the documentation into docs/_build/html; a warning is an error"
	@echo "make bench  measure what has no result yet beside its peers, and write the tables into docs/results/speed.md"
	@echo "            (takes about an hour; one row: make bench ARGS='--again --rows search')"
	@echo "make mutants plant silent bugs in copies of the tree: the tests must see each of them (a minute for each)"
	@echo "            (a word of a bug's name tries it alone: make mutants ARGS=decay)"
	@echo "make device try a CUDA GPU in eight minutes: tests, speed, a short training; results in runs/device"
	@echo "            (with the text of WikiText-2: make device ARGS='--data FOLDER')"

demo: $(VENV)/.demo
	$(BIN)/tmt-geo demo $(ARGS)

test: $(VENV)/.test
	@$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

# What somebody gets who installs the wheel today, in an environment made anew: first bare, then with what draws, each
# tried from an empty folder.
LATEST ?= .venv-latest
LATEST_PIP := $(LATEST)/bin/python -m pip --disable-pip-version-check --quiet
LATEST_TRY = try() { mkdir $(LATEST)/$$1; cd $(LATEST)/$$1; $(abspath $(LATEST))/bin/python -E $(CURDIR)/tests/latest/$$1.py; }

test-latest:
	$(PYTHON) -m venv --clear $(LATEST)
	$(LATEST_TRY); torch=$$(grep '^torch==' requirements.txt); rm -rf build; \
	$(LATEST_PIP) install "$$torch"; \
	$(LATEST_PIP) wheel --no-deps --wheel-dir $(LATEST)/wheel .; \
	$(LATEST_PIP) install "$$torch" $(LATEST)/wheel/*.whl; \
	(try bare); \
	$(LATEST_PIP) install "$$torch" "$$(ls $(LATEST)/wheel/*.whl)[demo,web]"; \
	(try smoke)

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

docs: $(VENV)/.docs
	rm -rf docs/_build
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going docs docs/_build/html

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks.speed --write $(ARGS)

mutants: $(VENV)/.test
	$(BIN)/python -m benchmarks.planted_bugs $(ARGS)

device: $(VENV)/.test
	$(BIN)/python -m benchmarks.device $(ARGS)

# Torch comes first everywhere and is held at its pin, so that nothing later pulls another one in.
$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "tmt_geo needs Python 3.11 or newer (found none)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: requirements.txt | $(BIN)/python
	$(PIP) install --constraint requirements.txt torch numpy
	@touch $@

$(VENV)/.demo: $(VENV)/.torch requirements.txt pyproject.toml
	$(PIP) install --constraint requirements.txt --editable '.[demo]'
	@touch $@

$(VENV)/.extensions: $(VENV)/.torch requirements.txt
	$(PIP) install --constraint requirements.txt ninja setuptools wheel scipy
	@wheels="$$TMT_GEO_WHEELS/$$($(BIN)/python -c '$(WHEEL_TAG)')"; mkdir -p "$$wheels"; \
	for pin in $$(grep -E '^torch-(scatter|cluster)==' requirements.txt); do \
		name=$${pin/==/-}; name=$${name/torch-/torch_}; \
		if ! compgen -G "$$wheels/$$name-*.whl" > /dev/null; then \
			echo "Building $$pin from source for this torch. This takes 5 to 15 minutes, once: the wheel is kept in"; \
			echo "$$wheels"; \
			PATH="$(abspath $(BIN)):$$PATH" $(PIP) wheel --no-build-isolation --no-deps --no-cache-dir \
				--wheel-dir "$$wheels" "$$pin"; \
		fi; \
		$(PIP) install --no-deps --force-reinstall "$$wheels/$$name"-*.whl; \
	done
	$(BIN)/python -c 'import torch_scatter, torch_cluster'
	@touch $@

$(VENV)/.test: $(VENV)/.extensions requirements.txt pyproject.toml
	$(PIP) install --requirement requirements.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $(VENV)/.demo $@

$(VENV)/.docs: $(VENV)/.torch requirements.txt pyproject.toml
	$(PIP) install --constraint requirements.txt --editable '.[docs]'
	@touch $@

# Mypy reads the libraries that the package imports.
$(VENV)/.lint: $(VENV)/.demo
	$(PIP) install --constraint requirements.txt mypy ruff
	@touch $@
