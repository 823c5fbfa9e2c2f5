# Everything a person does with this repository. `make` alone lists it. Needs Python >= 3.11 with venv, and Go for the
# cluster tests; the rest is fetched into .venv/ once, and again when pyproject.toml has changed.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
BIN := .venv/bin
SUM := $(shell cksum < pyproject.toml | tr ' ' -)
# A stamp is named by pyproject.toml's checksum: another pyproject.toml, another stamp, another installation.
DEMO_STAMP := .venv/.installed-demo-$(SUM)
DEV_STAMP := .venv/.installed-dev-$(SUM)
ORACLES_STAMP := .venv/.installed-oracles-$(SUM)
TRITON_STAMP := .venv/.installed-triton-$(SUM)
GPU_STAMP := .venv/.installed-gpu-$(SUM)
SAY := printf '\n\033[1m==> %s\033[0m\n'
PACKAGES := -p enginewright_runtime -p enginewright_builder -p enginewright_operator
WORKERS ?= 2
MODELS ?= $(HOME)/.cache/enginewright/models
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup

.PHONY: help demo demo-cluster test test-full test-models test-triton test-gpu sanitize-gpu lint format crds clean controlplane

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(DEMO_STAMP) ## the whole way on this machine: the example from model to served, correct answers
	@$(SAY) "Building, proving and serving examples/digits on this machine's CPU"
	$(BIN)/enginewright up -f examples/digits/manifest.yaml -- $(BIN)/python examples/digits/ask.py
	@$(SAY) "What to try next"
	@echo "  $(BIN)/enginewright up -f examples/digits/manifest.yaml        serve it until Ctrl-C, with a request to try"
	@echo "  $(BIN)/enginewright explain -f examples/digits/manifest.yaml   what would be built, where, and why"
	@echo "  $(BIN)/enginewright build YOUR.onnx -o your.plan               your own model; then inspect, compare, bench, serve"
	@echo "  make demo-cluster                                        the same on a real Kubernetes control plane (needs Go)"

demo-cluster: $(DEV_STAMP) controlplane ## the same through a real Kubernetes control plane: operator, Job, Deployment
	@$(SAY) "Building, proving and serving examples/digits on a control plane of this machine"
	PYTHONPATH=tests $(BIN)/python -m controlplane.demo

test: lint controlplane ## lint, types, import contracts, and every test that is neither slow nor needs a GPU
	@$(SAY) "Testing ($(WORKERS) at a time)"
	$(PYTEST) -m 'not slow and not gpu'

test-full: lint controlplane ## the same, with the long sweeps
	@$(SAY) "Testing everything but the GPU"
	$(PYTEST) -m 'not gpu'

test-models: $(ORACLES_STAMP) ## the world's models: fetched, built, compared with their native runtimes, timed beside them
	@$(SAY) "Building the models of bench/models.tsv and comparing each with its native runtime"
	$(BIN)/python bench/models.py $(MODELS) --write docs/models.md

test-triton: $(TRITON_STAMP) ## the tests of kernels in Triton, which `make test` skips: no GPU, but a gigabyte of Triton
	@$(SAY) "Compiling Triton kernels for every architecture, and running them in its interpreter"
	$(BIN)/python -m pytest -m 'not gpu' $$(grep -rl triton_on_host tests --include='test_*.py')

test-gpu: $(GPU_STAMP) ## the tests that need an NVIDIA GPU
	@$(SAY) "Testing on the GPU, one test at a time"
	$(BIN)/python -m pytest -m gpu

sanitize-gpu: $(GPU_STAMP) ## each of our kernels under compute-sanitizer: memory errors, races, barriers (CUDA toolkit)
	@command -v compute-sanitizer > /dev/null || \
	  { echo "compute-sanitizer is not on the PATH: install the CUDA toolkit and add its bin folder to PATH" >&2; exit 1; }
	@$(SAY) "Each of our kernels under memcheck, racecheck and synccheck (slow: every access is watched)"
	$(BIN)/python tests/gpu/sanitize.py

lint: $(DEV_STAMP) ## format, style, types and import contracts, nothing changed
	@$(SAY) "Checking format and style"
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	@$(SAY) "Checking types"
	$(BIN)/mypy $(PACKAGES)
	@$(SAY) "Checking who imports whom"
	$(BIN)/lint-imports

format: $(DEV_STAMP) ## format the code, and mend what ruff can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

crds: $(DEV_STAMP) ## write crds/*.yaml, and the chart's copy, from the pydantic models
	@$(SAY) "Writing the CRDs"
	$(BIN)/python -m enginewright_operator.crds

controlplane: $(DEV_STAMP)
	@if command -v go > /dev/null; then \
	  $(SAY) "Looking for the control plane's programs (the first build takes minutes)"; \
	  $(BIN)/python tests/controlplane/binaries.py; \
	else \
	  $(SAY) "No Go here: the cluster tests will be skipped, unless KUBEBUILDER_ASSETS names the programs"; \
	fi

clean: ## remove the virtual environment and every cache
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Enginewright needs Python 3.11 or newer, and $(PYTHON) is $$($(PYTHON) --version 2>&1): run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(SAY) "Making a virtual environment in .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv || \
	  { echo "Python has no module venv here: install it (Debian and Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(DEMO_STAMP): | $(BIN)/uv
	@$(SAY) "Installing what the demo needs into .venv (once)"
	$(BIN)/uv pip install --python $(BIN)/python -e '.[all]'
	@rm -f .venv/.installed-*; touch $@

$(DEV_STAMP): | $(BIN)/uv
	@$(SAY) "Installing what the development needs into .venv (once)"
	$(BIN)/uv pip install --python $(BIN)/python -e '.[dev]'
	@rm -f .venv/.installed-*; touch $@ $(DEMO_STAMP)

$(ORACLES_STAMP): | $(BIN)/uv
	@$(SAY) "Installing what the development needs, and the native runtimes of other formats, into .venv (once)"
	$(BIN)/uv pip install --python $(BIN)/python -e '.[dev,oracles]'
	@rm -f .venv/.installed-*; touch $@ $(DEV_STAMP) $(DEMO_STAMP)

$(TRITON_STAMP): | $(BIN)/uv
	@$(SAY) "Installing what the development needs, and Triton, into .venv (once)"
	$(BIN)/uv pip install --python $(BIN)/python -e '.[dev,triton]'
	@rm -f .venv/.installed-*; touch $@ $(DEV_STAMP) $(DEMO_STAMP)

$(GPU_STAMP): | $(BIN)/uv
	@$(SAY) "Installing what the development needs, CUDA's libraries and Triton, into .venv (once)"
	$(BIN)/uv pip install --python $(BIN)/python -e '.[dev,cuda13,triton]'
	@rm -f .venv/.installed-*; touch $@ $(TRITON_STAMP) $(DEV_STAMP) $(DEMO_STAMP)
