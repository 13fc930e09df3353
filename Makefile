# Everything a clean checkout needs is Python 3.11+ and make. `make` alone lists the commands.
#
# Variables:
#   PYTHON       interpreter for the environment (default: the first Python >= 3.11 on the path)
#   TORCH_INDEX  package index to take torch from (default: PyTorch's CPU index on Linux x86-64
#                without an NVIDIA GPU, else your pip's own; see README, "Installing")
#   JOBS         test processes (default: 2)
#   DEMO_ARGS    more arguments for `thumbnet demo`

VENV        := .venv
BIN         := $(VENV)/bin
STAMP       := $(VENV)/.installed
PYTHON      ?=
TORCH_INDEX ?=
CPU_INDEX   := https://download.pytorch.org/whl/cpu
JOBS        ?= 2
DEMO_ARGS   ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format lock clean distclean

help: ## list the commands
	@echo "Thumbnet: own network in, verified firmware for Arm Cortex-M out."; echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv and install the pinned packages

demo: $(STAMP) ## solar-cell inspection on a Cortex-M4: search, firmware, proof, report
	@$(BIN)/thumbnet demo $(DEMO_ARGS)

test: $(STAMP) ## run the tests
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

lint: $(STAMP) ## check formatting, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP) ## format the code and apply the safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(STAMP) ## write requirements.lock from what .venv holds now
	@{ sed -n '/^#/p' requirements.lock; \
	  $(BIN)/python -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9._-]+==' \
	    | sed 's/+.*//' | LC_ALL=C sort -f; } > requirements.lock.new
	@mv requirements.lock.new requirements.lock
	@touch $(STAMP)

clean: ## remove build outputs and caches, keep .venv and runs
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf $(VENV)

# The stamp makes setup idempotent: it runs again only when a requirement changed.
$(STAMP): pyproject.toml requirements.lock
	@python=""; \
	for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11 python; do \
	  if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    python=$$candidate; break; \
	  elif [ "$$candidate" = "$(PYTHON)" ]; then \
	    echo "PYTHON=$(PYTHON) is not a Python 3.11 or newer."; exit 1; \
	  fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "No Python 3.11 or newer found. Install one, or name it: make setup PYTHON=/path/to/python3.12"; exit 1; \
	fi; \
	if ! [ -x $(BIN)/python ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  echo "==> Creating $(VENV) with $$($$python --version)"; \
	  rm -rf $(VENV); \
	  if ! $$python -c 'import ensurepip, venv' 2>/dev/null || ! $$python -m venv $(VENV); then \
	    rm -rf $(VENV); \
	    echo "$$python cannot create environments. On Debian and Ubuntu: apt install python3-venv"; \
	    echo "(or the package of that version, such as python3.12-venv)."; exit 1; \
	  fi; \
	fi
	@torch=$$(grep '^torch==' requirements.lock); \
	if [ -n "$(TORCH_INDEX)" ]; then \
	  echo "==> Installing $$torch from $(TORCH_INDEX)"; \
	  $(BIN)/python -m pip install --no-deps --index-url "$(TORCH_INDEX)" "$$torch"; \
	elif [ "$$(uname -sm)" = "Linux x86_64" ] && ! command -v nvidia-smi >/dev/null 2>&1; then \
	  echo "==> No NVIDIA GPU here: installing the CPU build of $$torch from $(CPU_INDEX)"; \
	  $(BIN)/python -m pip install --quiet --retries 0 --no-deps --index-url "$(CPU_INDEX)" "$$torch" 2>/dev/null || \
	    echo "    That index does not answer: torch comes from your pip's own, maybe with CUDA (gigabytes)."; \
	fi
	@echo "==> Installing the packages of requirements.lock into $(VENV) (a few minutes)"
	@$(BIN)/python -m pip install --constraint requirements.lock --editable '.[dev]'
	@touch $@
	@echo "==> Ready: $(BIN)/thumbnet --help"
