# Every target sets up what it needs by itself (scripts/setup.sh). Paths stay relative: the checkout's own may hold spaces.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-long lint bench docs lock clean

BIN := .venv/bin
# Test processes. One more than cores: half of the time goes to waiting for tasks, servers and the disk.
WORKERS ?= $(shell n=$$(( $$(nproc 2>/dev/null || echo 1) + 1 )); [ "$$n" -gt 4 ] && n=4; echo $$n)
PYTEST_ARGS ?=
COMPILE := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --no-annotate --python-version 3.11

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 20

setup: ## install everything a developer needs
	@scripts/setup.sh dev

demo: ## play the tutorials of all three roles on this machine (KEEP=1 keeps what it made)
	@scripts/setup.sh server
	@$(BIN)/python scripts/demo.py

test: ## all tests but the long ones (under ten minutes; needs port 8000)
	@scripts/setup.sh dev
	@$(BIN)/python scripts/real_parts.py --port 8000
	@$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m "not long" $(PYTEST_ARGS)

test-long: ## the full counts: hundreds of kills, retraining
	@scripts/setup.sh dev
	@$(BIN)/python scripts/real_parts.py
	@$(BIN)/pytest -n $(WORKERS) --dist loadgroup -m long --timeout 1500 $(PYTEST_ARGS)

lint: ## formatting, types, import arrows, file contents, shell syntax
	@scripts/setup.sh dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src/medperf
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_files.py

bench: ## run the performance harness
	@scripts/setup.sh dev
	@set -e; for file in benchmarks/*.py; do [ -e "$$file" ] || continue; echo "== $$file"; $(BIN)/python "$$file"; done

docs: ## remake the command reference, check the pages and build site/
	@scripts/setup.sh dev
	$(BIN)/python scripts/build_docs.py

lock: ## remake requirements/*.txt from pyproject.toml (newest versions)
	@scripts/setup.sh dev
	$(COMPILE) --upgrade requirements/installer.in -o requirements/installer.txt
	$(COMPILE) --upgrade pyproject.toml requirements/build.in --extra server --group dev -o requirements/dev.txt
	$(COMPILE) --constraint requirements/dev.txt pyproject.toml requirements/build.in -o requirements/site.txt
	$(COMPILE) --constraint requirements/dev.txt pyproject.toml requirements/build.in --extra server -o requirements/server.txt

clean: ## delete what was built or cached here, .venv too
	rm -rf .venv site dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .grimp_cache medperf_tutorial
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
