# Everything lands in .venv; only Python 3.11+ and make are needed.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-base setup-service demo demo-queue up down assets tools screenshots test check bench soak chaos lock clean clean-all

PYTHON ?= python3
DIR ?=
ARGS ?=
BIN := .venv/bin
UV := $(BIN)/uv --no-config
# uv reads none of pip's settings (mirror, proxy, certificate): where it fails, pip installs from the same lock, by the same hashes.
INSTALL = $(UV) pip install -q --python $(BIN)/python --require-hashes -r $(1) \
	|| $(BIN)/python -m pip install -q --require-hashes -r $(1)
INSTALL_SELF := $(BIN)/python -m pip install -q --no-deps --no-build-isolation --no-index -e .
PROJECT := pyproject.toml requirements-build.lock

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: .venv/dev.stamp ## Virtual environment with everything: train and dev extras

# A full environment serves for the base one: nothing is taken away from it.
setup-base: $(if $(wildcard .venv/dev.stamp),.venv/dev.stamp,.venv/base.stamp) ## Virtual environment as an analyst has it: no torch

.venv/base.stamp: $(PROJECT) requirements.lock .venv/build.stamp
	$(call INSTALL,requirements.lock)
	$(INSTALL_SELF)
	@touch $@

setup-service: $(if $(wildcard .venv/dev.stamp),.venv/dev.stamp,.venv/service.stamp) ## Virtual environment of a worker node: no torch

.venv/service.stamp: $(PROJECT) requirements-service.lock .venv/build.stamp
	$(call INSTALL,requirements-service.lock)
	$(INSTALL_SELF)
	@touch $@

.venv/dev.stamp: $(PROJECT) requirements-dev.lock .venv/build.stamp
	$(call INSTALL,requirements-dev.lock)
	$(INSTALL_SELF)
	@touch $@

.venv/build.stamp: requirements-build.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "veriframe needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --require-hashes -r requirements-build.lock
	@touch $@

# Exit code 3: some files are no media, and the table says so; the demo went well.
demo: setup-base ## Scan the demo media and show the expected answers; DIR=folder scans that one instead
ifeq ($(strip $(DIR)),)
	$(BIN)/veriframe demo
else
	$(BIN)/veriframe scan "$(DIR)" || test $$? -eq 3
endif

demo-queue: setup-service ## The demo media through a Redis, a worker and signed callbacks, all on this machine
	$(BIN)/veriframe demo --queue

up: setup-service ## Redis, API, two workers and the console, the demo media scanned; ARGS="--port 8090"
	$(BIN)/veriframe up $(ARGS)

down: ## End what `make up` started; nothing of it stays
	@test ! -x $(BIN)/veriframe || $(BIN)/veriframe down $(ARGS)

assets: ## htmx and uPlot for the console's pages, by npm, each checked against the lock; without them it serves plain pages
	deploy/assets/install.sh

tools: ## Prometheus with promtool, unpacked into .tools, and Chromium (as root): what some tests need
	.ci/tools

screenshots: setup assets ## The pictures in docs/screenshots, made anew; needs Chromium
	$(BIN)/python -m tests.browser.screenshots

# Side by side, three processes on two cores (tests/conftest.py); each file's tests stay together until a process runs out of work. ARGS="-n 0": one after the other.
test: setup ## All tests; ARGS are passed to pytest
	$(BIN)/python -m pytest -q --durations=15 -n logical --maxprocesses 8 --dist worksteal $(ARGS)

check: setup ## Lint, format, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## Scan speed and memory against the reference pipeline; DIR=folder of clips, ARGS for veriframe bench scan
	$(BIN)/veriframe bench scan $(if $(strip $(DIR)),"$(DIR)") $(ARGS)

soak: setup ## Longer checks: memory over 10 seconds and 30 minutes of 720p; a face swap spliced into 20 minutes
	$(BIN)/veriframe bench memory $(ARGS)
	$(BIN)/python -m pytest -q -s -m soak

chaos: setup ## Break a running queue in every way and stage, minutes; an auditor compares; ARGS="--short", "--scans 500 --seed 2", "--watch-metrics"
	$(BIN)/python -m tests.chaos drive $(ARGS)

lock: .venv/build.stamp ## Resolve the dependencies of pyproject.toml anew into the lock files
	rm -f requirements-build.lock requirements-dev.lock requirements.lock requirements-service.lock
	$(LOCK) --group build -o requirements-build.lock
	$(LOCK) --extra train --extra service --extra embedded --extra openvino --extra rtx --extra dev pyproject.toml -o requirements-dev.lock
	$(LOCK) -c requirements-dev.lock pyproject.toml -o requirements.lock
	$(LOCK) -c requirements-dev.lock --extra service --extra embedded pyproject.toml -o requirements-service.lock
	rm -f deploy/locks/*.lock
	$(LOCK) --no-annotate deploy/locks/store.in -o deploy/locks/store.lock
	for image in cpu cuda; do $(LOCK) --no-annotate -c requirements-dev.lock deploy/locks/$$image.in -o deploy/locks/$$image.lock || exit 1; done

LOCK := $(UV) pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

clean: ## Remove caches and build output
	rm -rf dist build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find worker training optimize tests -name __pycache__ -prune -exec rm -rf {} +

clean-all: clean ## Also remove the virtual environment
	rm -rf .venv
