# Everything a user or CI calls. `make help` lists it.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Processes that share the tests; `make test JOBS=0` runs them in one.
JOBS ?= 2
STAMP := $(VENV)/.installed
export NO_ALBUMENTATIONS_UPDATE = 1
export DO_NOT_TRACK = 1
export HF_HUB_OFFLINE = 1

.DEFAULT_GOAL := help
.PHONY: help setup demo down ui test test-faults test-cluster test-slow test-gpu golden check bench seeds variants gpu lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv and install everything from the hash-pinned lock

# uv is used where it is installed, because it is ten times faster; pip reads the same lock.
# --no-deps: the lock is complete, and lifts version caps that pip would not lift (docs/decisions).
$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; name yours: make setup PYTHON=/path/to/python3.11"; exit 2; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else f"Python 3.11 is needed, {sys.executable} is {v[0]}.{v[1]}; make setup PYTHON=/path/to/python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing about 6 GB of packages into $(VENV) (once; minutes)"
	@if command -v uv >/dev/null; then \
	  uv pip install --python $(BIN)/python --no-deps --require-hashes -r requirements.lock; \
	else \
	  $(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r requirements.lock; \
	fi
	@$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: setup ## The main job: url lists in, chat model out (the tiny recipe, about twelve minutes on two cores)
	@$(BIN)/internvl demo

down: ## Stop the services that we started, and nothing else
	@$(BIN)/internvl down

ui: setup ## Start the services and print the addresses of the UI and the reports
	@$(BIN)/internvl up

test: setup ## Run the tests
	@$(BIN)/python -m pytest -m "not slow and not gpu and not cluster" -n $(JOBS) --no-loadscope-reorder

test-faults: setup ## Run the fault suite alone: the hostile web, killed processes, lying storage
	@$(BIN)/python -m pytest -m "faults and not slow and not cluster"

# PostgreSQL comes from Debian where this may install it; without it those tests are skipped, and say so.
test-cluster: setup ## Several Ray nodes, a faulty S3, Prefect on PostgreSQL (25 minutes)
	@ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { test "$$(id -u)" = 0 && apt-get install -qq -y postgresql >/dev/null; } || true
	@$(BIN)/python -m pytest tests/cluster tests/stages/training -m cluster -rs --durations 0

test-slow: setup ## Run the tests that take minutes each
	@$(BIN)/python -m pytest -m "slow and not cluster" --timeout 1800

test-gpu: ## On one GPU: each stage trained, killed, resumed, in fp32 and bf16
	@INTERNVL_TEST_DEVICE=cuda $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m pytest -m gpu

golden: setup ## Renew the golden loss curves, after a change that is meant to move them
	@PYTHONPATH=.:tests:tests/stages/training $(BIN)/python tests/stages/training/golden_curves.py

check: setup ## Lint, types, import contract, spelling
	@twice=$$(find tests -name 'test_*.py' | sed 's|.*/||' | sort | uniq -d); \
	  test -z "$$twice" || { echo "test files need names of their own, pytest imports them by name:" $$twice; exit 1; }
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/codespell pipelines stages filters models infra benchmarks tests docs README.md CHANGELOG.md

seeds: setup ## What the tiny recipe learns on three seeds, beside blind twins (after `make demo`; an hour)
	@$(BIN)/python -m benchmarks.learning
	@$(BIN)/python -m benchmarks.learning_chat
	@$(BIN)/python -m benchmarks.learning_tiles

# What its trainings read is made first where it does not stand: the data part of the tiny recipe, and its language model.
variants: setup ## The paper's hyper-parameter study at 0.3 million parameters (nine minutes; the tiny data first)
	@$(BIN)/internvl variants --budget 0.3M

bench: setup ## Run the benchmarks; results are JSON in benchmarks/results
	@$(BIN)/python -m benchmarks

gpu: ## On one GPU: parity in bf16, attention kernels, speed and memory of the true widths, a resumed run
	@$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -m benchmarks.gpu

lock: ## For maintainers: resolve requirements.lock again (needs uv)
	uv pip compile --python-version 3.11 --extra dev --generate-hashes --no-header pyproject.toml -o requirements.lock

clean: ## Remove the environment and all local state (artifacts too)
	@if test -x $(BIN)/internvl; then $(BIN)/internvl down || true; fi
	rm -rf $(VENV) .internvl *.egg-info .mypy_cache .ruff_cache .import_linter_cache
