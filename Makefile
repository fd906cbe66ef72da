# Everything runs in .venv, which is made and brought up to date when pyproject.toml changes.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TEST_INSTALLED := $(VENV)/.installed-test
SOURCES := mlc_serve tests benchmarks scripts

.DEFAULT_GOAL := help
.PHONY: help serve test lint bench ui clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: $(INSTALLED) ## Serve the demo model; another one: make serve ARGS="DIR --port 8080"
	$(BIN)/python -m mlc_serve serve $(ARGS)

test: lint ## Lint, then run the tests; some of them: make test ARGS=tests/engine
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

lint: $(TEST_INSTALLED) ## Check style (ruff) and types (mypy)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy

bench: $(TEST_INSTALLED) ## Measure the engine and the server; options: make bench ARGS="--shape llama3.2-1b"
	$(BIN)/python -m benchmarks $(ARGS)

ui: ## Build the page at / from ui/ into the package (needs node 20.19 or newer)
	cd ui && npm ci && npm run check && npm test && npm run build

clean: ## Remove the virtual environment and all caches of the tools
	rm -rf $(VENV) build dist *.egg-info ui/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(SOURCES) -type d -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(TEST_INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(INSTALLED)
