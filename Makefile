# `make` lists the commands. Everything lives here, in .venv, data/, build/ and frontend/ (node_modules, dist); outside are only
# the broker's jars, in ~/.cache/maskwatch, and Debian packages where they are missing: python3-venv for `make setup`, those of
# infra/apt-test.txt (test servers, Chromium) for `make test`.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup dashboard run test lint types migration docs bench fuzz soak lock clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

.venv/made: requirements.lock pyproject.toml infra/kafka/jgo.lock.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "expected Python 3.11 or newer, got $$($(PYTHON) --version); make PYTHON=python3.12 chooses another"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || sh infra/apt.sh python3-venv
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing the locked packages into .venv (about 3 GB; minutes the first time)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@echo "fetching the broker's jars"
	$(BIN)/python -m infra.local.jars
	@touch $@

setup: .venv/made ## install everything into .venv (again: at once)

WEB := PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix frontend --no-update-notifier

frontend/node_modules/.made: frontend/package-lock.json .venv/made
	@echo "installing the dashboard's locked packages into frontend/node_modules"
	@$(WEB) ci --silent
	@touch $@

frontend/dist/index.html: frontend/node_modules/.made frontend/index.html frontend/vite.config.ts \
		$(shell find frontend/src frontend/public -type f -not -name '*.spec.ts')
	@echo "building the dashboard"
	@$(WEB) run --silent build
	@touch $@

dashboard: setup frontend/dist/index.html ## build the dashboard (again: only when it is stale)

run: setup dashboard ## Kafka, workers, demo cameras and the dashboard on http://127.0.0.1:8000; Ctrl-C stops all
	@exec $(BIN)/maskwatch up --demo

test: setup dashboard ## everything that CI runs, on a real broker; quick tests first
	@sh infra/apt.sh $$(sed 's/#.*//' infra/apt-test.txt) || echo "going on: the tests that need these packages are skipped"
	$(BIN)/maskwatch models fetch
	$(WEB) run --silent check
	$(WEB) run --silent size
	$(WEB) test --silent
	$(BIN)/python -m pytest $(or $(ARGS),-n 2 --dist loadscope --no-loadscope-reorder)

lint: setup ## ruff
	$(BIN)/ruff check .

types: setup ## mypy, strict for pipeline/
	$(BIN)/mypy

migration: setup ## write the next migration of the tables (NAME=what_changed)
	$(BIN)/python -m api.migrations $(NAME)

docs: setup ## schemas, AsyncAPI document and the README's flow picture, from topics.yaml
	$(BIN)/maskwatch topics docs

bench: setup ## every figure of docs/performance.md (about 45 minutes)
	$(BIN)/python -m bench

fuzz: setup ## the OpenAPI document against the running API for SECONDS (600) a role: whatever it allows and forbids
	FUZZ_SECONDS=$(or $(SECONDS),600) $(BIN)/python -m pytest tests/api/test_schema.py

soak: setup ## the kill test with at least 50 events
	$(BIN)/python -m bench.soak

lock: ## resolve requirements.lock and infra/kafka/jgo.lock.toml anew
	$(BIN)/uv pip compile --quiet pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -o requirements.lock
	$(BIN)/python -m infra.local.jars lock

clean: ## remove .venv, data/ (the broker's log too), build/, the built dashboard and caches
	@test ! -e data/up.json || $(BIN)/maskwatch down
	rm -rf frontend/node_modules frontend/dist .venv build dist data *.egg-info .pytest_cache .mypy_cache .ruff_cache
