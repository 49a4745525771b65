# The few commands that the README names. Everything lives in .venv and .cache.
SHELL := /bin/bash
PYTHON ?= python3.11
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: setup setup-dev system demo test test-all test-arm64 check bench agent-package lock format clean

# --no-build-isolation: the build backend comes from the lock as well.
.venv/setup: requirements.lock pyproject.toml
	@bash tools/make_venv.sh $(PYTHON)
	$(INSTALL) --require-hashes -r requirements.lock
	$(INSTALL) --no-deps --no-build-isolation -e .
	touch $@

.venv/setup-dev: requirements-dev.lock .venv/setup
	$(INSTALL) --require-hashes -r requirements-dev.lock
	touch $@

setup: .venv/setup
setup-dev: .venv/setup-dev

# Mosquitto and Chromium, for tests only: found, installed, unpacked, or skipped by name.
system:
	@bash tools/system_parts.sh

demo:
	@start=$$(date +%s); $(MAKE) --no-print-directory setup && echo "Set up in $$(( $$(date +%s) - start )) s."
	@$(BIN)/modelfleet demo

# One process more than cores, since tests wait for agents and servers that start; a file
# each at a time: fixtures of a file are made once.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile

test: setup-dev system
	$(PYTEST) -m "not slow"

# The long ones first.
test-all: setup-dev system
	$(PYTEST) --no-loadscope-reorder -m "not arm64"

# The agent's tests as programs of 64-bit ARM, which QEMU runs: many minutes more.
test-arm64: setup-dev system
	$(BIN)/python -m pytest -m arm64

check: setup-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup-dev
	$(BIN)/python -m bench

# The agent for a device: dist/modelfleet-agent_VERSION_ARCH.deb; ARCH=arm64 needs no ARM machine.
agent-package: setup
	$(BIN)/python tools/agent_package.py $(if $(ARCH),--arch $(ARCH))

format: setup-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Pin again what pyproject.toml asks for. No registry address is written.
LOCK := $(BIN)/pip-compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url \
  --no-emit-find-links --no-emit-trusted-host --no-header --no-annotate
lock:
	test -x $(BIN)/pip-compile || $(INSTALL) pip-tools
	$(LOCK) --extra server --extra agent --extra build -o requirements.lock pyproject.toml
	$(LOCK) --extra agent -c requirements.lock -o requirements-agent.lock pyproject.toml
	$(LOCK) --extra server --extra agent --extra build --extra dev -c requirements.lock -o requirements-dev.lock pyproject.toml

clean:
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
