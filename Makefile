# Everything runs in .venv, which the first target that needs it makes. What is installed is
# remembered by stamp files and installed anew only when pyproject.toml changes.

PYTHON ?= python3
VENV   ?= .venv
DEMO   ?= latentood-demo

BIN         := $(VENV)/bin
ACCELERATOR := $(shell nvidia-smi >/dev/null 2>&1 && echo gpu || echo cpu)
OTHER       := $(if $(filter gpu,$(ACCELERATOR)),cpu,gpu)
PIP         := $(BIN)/python -m pip --disable-pip-version-check

BASE  := $(VENV)/.installed-$(ACCELERATOR)
TEST  := $(VENV)/.installed-$(ACCELERATOR)-test
DOCS  := $(VENV)/.installed-$(ACCELERATOR)-docs
PEERS := $(VENV)/.installed-peers

export MLFLOW_DISABLE_TELEMETRY = true
export DO_NOT_TRACK = true
export NO_MKDOCS_2_WARNING = 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-damage lint format types docs check bench clean
.DELETE_ON_ERROR:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(BASE) ## install, train a small network, compare the detectors on it
	$(BIN)/latentood demo --out $(DEMO)

test: $(TEST) $(PEERS) ## run the tests
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

test-damage: $(TEST) ## flip every byte of a small cache (minutes)
	LATENTOOD_SOAK=1 $(BIN)/python -m pytest tests/store/test_damage.py

lint: $(TEST) ## check style and formatting; name files beyond 450 lines
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@find latentood tests docs -name '*.py' | xargs wc -l | \
	    awk '$$2 != "total" && $$1 > 450 {print "long: " $$2 " has " $$1 " lines"}'

format: $(TEST) ## mend style and formatting where a tool can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(TEST) ## check types
	$(BIN)/mypy

docs: $(DOCS) ## build the documentation into site/
	$(BIN)/mkdocs build --strict

check: test test-damage lint types docs ## all of what CI runs

bench: $(TEST) ## measure speed and memory (tests/benchmarks)
	$(BIN)/python -m tests.benchmarks

clean: ## remove build outputs, caches of tools and the demo's folder (keeps .venv)
	rm -rf build dist site .hypothesis .mypy_cache .ruff_cache *.egg-info $(DEMO)
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# A .venv whose pip does not run was left by an interrupted start, or by a tool that needs none;
# venv completes it and keeps what is there.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "latentood needs Python 3.11 or newer, but $(PYTHON) is" \
	         "$$($(PYTHON) --version 2>&1); name another: make PYTHON=/path/to/python3.11" >&2; \
	    exit 1; }
	@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || { \
	    echo "$(PYTHON) -m venv failed; on Debian and Ubuntu it needs the package" \
	         "python3-venv" >&2; exit 1; }
	@touch $@

# faiss-cpu and faiss-gpu provide the same module: exactly one may be there.
$(BASE): pyproject.toml | $(VENV)/.made
	$(PIP) uninstall -qq --yes faiss-$(OTHER)
	$(PIP) install -e ".[$(ACCELERATOR)]"
	@rm -f $(VENV)/.installed-$(OTHER)*
	@touch $@

$(TEST) $(DOCS): $(VENV)/.installed-$(ACCELERATOR)-%: $(BASE)
	$(PIP) install -e ".[$(ACCELERATOR),$*]"
	@touch $@

# oodeel, which tests compare with, and facenet-pytorch, whose weights a test runs, ask for NumPy 1
# and an old torch; their code runs with ours. In a folder of its own nothing else asks what they
# ask for.
$(PEERS): Makefile | $(VENV)/.made
	$(PIP) install --no-deps --upgrade --target $(VENV)/peers oodeel==0.4.0 facenet-pytorch==2.6.0
	@touch $@
