# Everything runs in .venv, which is created if it is missing, and updated when pyproject.toml changes.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TEST_INSTALLED := $(VENV)/.installed-test
REAL_INSTALLED := $(VENV)/.installed-real
DEV_INSTALLED := $(VENV)/.installed-dev
# Some clients work with an older release of OpenAI's SDK only.
CLIENTS_VENV ?= .venv-openai-2
CLIENTS_INSTALLED := $(CLIENTS_VENV)/.installed
# Ray is a large package with many requirements, which only its tests need.
RAY_VENV ?= .venv-ray
RAY_INSTALLED := $(RAY_VENV)/.installed
CLIENTS_TESTS := $(addprefix tests/clients/test_,instructor.py llama_index.py openai.py)
SOURCES := mlc_serve tests benchmarks scripts

PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
NODE_MISSING := echo "node (20.19 or newer) is not installed: the page's tests are skipped"

.DEFAULT_GOAL := help
.PHONY: help serve test test-fast test-clients test-ray test-real lint format coverage bench ui ui-test clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

serve: $(INSTALLED) ## Serve the demo model; to serve another one: make serve ARGS="DIR --port 8080"
	$(BIN)/python -m mlc_serve serve $(ARGS)

test: lint ## Lint, then run all tests; to run some of them: make test ARGS=tests/engine
	$(PYTEST) $(ARGS)
	$(if $(ARGS),,$(MAKE) test-clients)

test-clients: $(CLIENTS_INSTALLED) ## Test the clients that need an environment of their own
	$(CLIENTS_VENV)/bin/python -m pytest $(CLIENTS_TESTS)

test-ray: $(RAY_INSTALLED) ## Test with a real Ray Serve, which is installed into an environment of its own
	$(RAY_VENV)/bin/python -m pytest -W ignore tests/cluster $(ARGS)

test-fast: $(TEST_INSTALLED) ## Run the tests that need no compiler, PyTorch or browser, in less than a minute
	$(PYTEST) -p tests.fast $(ARGS)

test-real: $(REAL_INSTALLED) ## Test with real models, which are downloaded into the cache the first time (510 MB)
	$(BIN)/python scripts/real_models.py
	$(BIN)/python -m pytest tests/real $(ARGS)

lint: $(DEV_INSTALLED) ## Check style, format (ruff), types (mypy), the Dockerfile and the manifest for Kubernetes
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile
	$(BIN)/kubernetes-validate --strict --quiet deploy/kubernetes.yaml

format: $(DEV_INSTALLED) ## Format the sources, and fix what ruff can fix
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

coverage: $(DEV_INSTALLED) ## Show which lines the fast tests miss; other tests: make coverage ARGS=tests/supervisor
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(or $(ARGS),-p tests.fast)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --show-missing --skip-covered

bench: $(DEV_INSTALLED) ## Measure the engine and the server; options: make bench ARGS="--shape llama3.2-1b"
	$(BIN)/python -m benchmarks $(ARGS)

ui: ## Build the page at / from ui/ into the package (needs node 20.19 or newer)
	cd ui && npm ci && npm run check && npm test && npm run build

ui-test: ## Check and test the page's sources; does nothing without node
	@if command -v npm >/dev/null; then cd ui && npm ci && npm run check && npm test; else $(NODE_MISSING); fi

clean: ## Remove the virtual environment and all caches of the tools
	rm -rf $(VENV) $(CLIENTS_VENV) $(RAY_VENV) build dist *.egg-info ui/node_modules .coverage* .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(SOURCES) -type d -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(TEST_INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@ $(INSTALLED)

$(REAL_INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[real]'
	touch $@ $(TEST_INSTALLED) $(INSTALLED)

$(DEV_INSTALLED): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@ $(TEST_INSTALLED) $(INSTALLED)

$(CLIENTS_INSTALLED): pyproject.toml
	test -x $(CLIENTS_VENV)/bin/python || $(PYTHON) -m venv $(CLIENTS_VENV)
	$(CLIENTS_VENV)/bin/python -m pip install --quiet --editable '.[clients-openai-2]'
	touch $@

$(RAY_INSTALLED): pyproject.toml
	test -x $(RAY_VENV)/bin/python || $(PYTHON) -m venv $(RAY_VENV)
	$(RAY_VENV)/bin/python -m pip install --quiet --editable '.[cluster]'
	touch $@
