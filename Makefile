# Two commands on a fresh machine: `make demo` and `make test`. They need Python >= 3.11 with its
# venv module, make and git. Everything is installed into .venv in this folder, from the locks in
# requirements/, and only what their hashes allow.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

# What each lock has brought into .venv. The demo needs far less than the tests do.
RUN := $(VENV)/.installed-run
DEV := $(VENV)/.installed-dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help demo test chaos check docs reference bench lock clean node

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(RUN) ## send klines and trades, store, read, compare; DATA=folder replays Binance Vision files
	@$(BIN)/ravenwh demo $(if $(DATA),--data "$$DATA")

test: $(DEV) node ## run the tests; ARGS="-k name" picks some
	$(BIN)/python -m pytest $(ARGS)

chaos: $(DEV) ## kill, cut and fill everything for a quarter of an hour, count, and write docs/chaos.md
	$(BIN)/python -m tests.chaos.run --page docs/chaos.md

check: $(DEV) ## lint, format, types, floors
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DEV) ## build the documentation into docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs docs/_build/html

reference: $(DEV) ## write the pages anew that come from the code: settings, schema, picture
	$(BIN)/python -m ravenwh.config.reference docs/reference/settings.md
	$(BIN)/python -m ravenwh.staging.reference docs/reference/measurements.md
	$(BIN)/python -m docs.schema
	$(BIN)/python -m docs.bar_pictures

bench: $(DEV) ## run the benchmarks, one after the other
	@set -e; for file in benchmarks/[a-z]*.py; do \
		name=$$(basename $$file .py); echo "== $$name"; $(BIN)/python -m benchmarks.$$name; \
	done

lock: ## write requirements/ anew from pyproject.toml; UPGRADE=1 takes the newest versions
	$(call compile,$(PROJECT) --extra charts --group dev,requirements/dev.txt)
	$(call compile,$(PROJECT) --group build --constraint requirements/dev.txt,requirements/run.txt)
	$(call compile,--group node,requirements/node.txt)

clean: ## remove what was built or cached; .venv stays
	rm -rf build dist docs/_build .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

$(RUN): requirements/run.txt pyproject.toml | $(BIN)/python
	$(call install,requirements/run.txt)
	@touch $@

$(DEV): requirements/dev.txt pyproject.toml | $(BIN)/python
	$(call install,requirements/dev.txt)
	@touch $(RUN) $@

# The tests run TimescaleDB in WASM. Where no Node.js >= 20 is on PATH, a wheel of 60 MB brings one;
# where that cannot be had either, those tests are skipped and say so.
node: $(DEV)
	@$(BIN)/python -m tests.engines.node || { \
		echo "installing requirements/node.txt into $(VENV)"; \
		$(PIP) --only-binary :all: --require-hashes --requirement requirements/node.txt || true; }

$(BIN)/python:
	@command -v "$(PYTHON)" > /dev/null || { \
		echo "there is no $(PYTHON): install Python 3.11 or newer, or say make PYTHON=/where/it/is"; \
		exit 1; } >&2
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$("$(PYTHON)" --version 2>&1), ravenwh needs 3.11 or newer:" \
			"say make PYTHON=python3.11"; \
		exit 1; } >&2
	@"$(PYTHON)" -c 'import ensurepip, venv' 2> /dev/null || { \
		echo "$(PYTHON) has no venv module: install it (Debian, Ubuntu: apt install python3-venv)"; \
		exit 1; } >&2
	"$(PYTHON)" -m venv --clear $(VENV)

# Wheels only, and all of them with a hash: what pip would build itself, it would build with tools
# that it fetches without one. The project is built with the hatchling of the lock.
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet

define install
	@echo "installing $(1) into $(VENV)"
	@$(PIP) --only-binary :all: --require-hashes --requirement $(1)
	@$(PIP) --no-index --no-deps --no-build-isolation --editable .
endef

# One lock for every platform and Python version, without addresses: pip asks the index it is
# configured for.
UV ?= $(firstword $(wildcard $(BIN)/uv) uv)
PROJECT := pyproject.toml --extra frames

define compile
	@command -v $(UV) > /dev/null || { \
		echo "make lock needs uv: $(BIN)/python -m pip install uv"; exit 1; } >&2
	$(UV) pip compile $(1) --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --custom-compile-command "make lock" --quiet \
		$(if $(UPGRADE),--upgrade) --output-file $(2)
endef
