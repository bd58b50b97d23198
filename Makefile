# `make` alone lists what there is to do. Every target works in a fresh clone: it makes the virtual environment first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV := .venv
RUN := $(VENV)/bin/python
STACK := $(RUN) -m deploy.local
COMPILE := $(VENV)/bin/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --quiet $(if $(UPGRADE),--upgrade)

# Only the target that names them passes these on; a stray variable of the caller's shell must not.
SERVICE ?=
N ?=
FOLLOW ?=
QUICK ?=
ONLY ?=
EVENTS ?=
FAULT ?=
SEED ?=
SDK ?=
TESTS ?= tests/unit tests/integration tests/e2e

.PHONY: help up down status logs scale clean demo bench check test test-faults test-sdks lock venv

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

$(VENV)/.installed: requirements-dev.lock pyproject.toml deploy/local/venv.sh
	@PYTHON="$(PYTHON)" deploy/local/venv.sh

venv: $(VENV)/.installed ## the virtual environment with the locked packages, in .venv
	@echo "$(VENV) is ready"

up: $(VENV)/.installed ## start everything on this machine, wait until it is healthy, print addresses and a key
	@$(STACK) up

down: $(VENV)/.installed ## stop everything, keep the data
	@$(STACK) down

status: $(VENV)/.installed ## each process: state, pid, uptime, port, health
	@$(STACK) status

logs: $(VENV)/.installed ## the last lines of the logs [SERVICE=gateway] [N=50] [FOLLOW=1]
	@$(STACK) logs $(SERVICE) $(if $(N),--lines $(N)) $(if $(FOLLOW),--follow)

scale: $(VENV)/.installed ## run several processes of a service: SERVICE=projector N=3
	@$(STACK) scale "$(SERVICE)" "$(N)"

clean: $(VENV)/.installed ## stop everything and delete its data, after saying what
	@$(STACK) clean

demo: $(VENV)/.installed ## send a few thousand events to the running system and show the statistics
	@$(RUN) -m deploy.demo

bench: $(VENV)/.installed ## measure, as ratios to a baseline taken in the same run [QUICK=1] [ONLY=growth] [EVENTS=50000000]
	@QUICK="$(QUICK)" ONLY="$(ONLY)" EVENTS="$(EVENTS)" $(RUN) -m tests.load.bench

check: $(VENV)/.installed ## lint, format, types, import contracts
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

# servers named in the environment are for one worker
WORKERS ?= $(if $(TRACKING_TEST_POSTGRES_URL),0,2)
test: $(VENV)/.installed ## all tests on real servers, which it starts itself [TESTS=tests/unit] [WORKERS=2]
	@$(RUN) -m pytest --numprocesses=$(WORKERS) --dist=loadfile $(TESTS)

test-faults: $(VENV)/.installed ## break every part under load and compare promises with facts [FAULT=postgres-kill] [SEED=1]
	@FAULT="$(FAULT)" SEED="$(SEED)" $(RUN) -m tests.faults

test-sdks: $(VENV)/.installed ## 2 000 events by each SDK of Segment and RudderStack, every tenth answer lost [SDK=rudder-sdk-python]
	@SDK="$(SDK)" $(RUN) -m tests.sdks

lock: $(VENV)/.installed ## pin the packages pyproject.toml asks for, with hashes [UPGRADE=1]
	@$(COMPILE) --output-file requirements.lock
	@$(COMPILE) --extra dev --output-file requirements-dev.lock
	@! grep -nE '://|--(extra-)?index|--find-links' requirements*.lock \
	  || { echo 'the locks must name no package index: see the lines above' >&2; exit 1; }
