# Every target does its own set-up: a bare Debian or Ubuntu with Python 3.11+, git and make is enough.
.DEFAULT_GOAL := help
.PHONY: help run test e2e soak lint docs demo bench load clean

PORT ?=
BIN := .venv/bin
SETUP := bash scripts/setup
SITE := build/site

# .venv alone decides what is imported.
unexport PYTHONHOME PYTHONPATH

help: ## show this list
	@echo "usage: make TARGET [PORT=8000] [ARGS=...] [GPU=1] [PYTHON=python3.12]"
	@sed -n 's/^\([a-z0-9]*\):.*## /  \1\t/p' Makefile | expand -t 10

# exec: the server takes the shell's place, so that Ctrl-C and SIGTERM reach it.
run: ## set up and serve on 127.0.0.1:8000 (PORT=8001: another port; GPU=1: with the CUDA build of torch)
	@$(SETUP) run
	@exec env \
		HOMELAB_AI__SECURITY__ALLOW_LOCALHOST="$${HOMELAB_AI__SECURITY__ALLOW_LOCALHOST:-true}" \
		$(BIN)/python -m homelab_ai serve --host 127.0.0.1 $(if $(PORT),--port $(PORT)) $(ARGS)

test: ## set up and run every test that this machine can run (ten to twenty minutes; ARGS go to pytest)
	@$(SETUP) dev
	@exec bash scripts/test $(ARGS)

e2e: ## build the image and try it in containers (ten minutes; CONTAINER_ENGINE=podman: not docker)
	@$(SETUP) dev
	@exec env CONTAINER_ENGINE="$${CONTAINER_ENGINE:-docker}" $(BIN)/python -m pytest -rs tests/container $(ARGS)

soak: ## the long form of what `make test` runs in short: thousands of examples, images and pages, hundreds of loads (two hours and a half)
	@$(SETUP) dev
	@env HOMELAB_AI_TEST_EXAMPLES=2000 HOMELAB_AI_TEST_CYCLES=500 HOMELAB_AI_TEST_IMAGES=20000 \
		HOMELAB_AI_TEST_REQUESTS=10000 HOMELAB_AI_TEST_PAGES=2000 $(BIN)/python -m pytest \
		tests/unit/test_registry_properties.py tests/unit/test_batcher.py tests/unit/test_turns.py \
		tests/integration/test_cycles.py tests/integration/test_decoder.py \
		tests/faults/test_images.py tests/faults/test_on_demand.py tests/e2e/test_logs.py \
		tests/e2e/test_many_pages.py tests/contract/test_generated_requests.py $(ARGS)
	@for round in $$(seq 20); do $(BIN)/python -m pytest tests/faults $(ARGS) || exit 1; done

lint: ## check style, imports and types
	@$(SETUP) dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PYTHONPATH=src $(BIN)/lint-imports
	$(BIN)/mypy

# All of it each time: of a page that has not changed, Sphinx would not warn again.
docs: ## build the documentation as a site, into build/site
	@$(SETUP) dev
	@"$(BIN)/python" -m sphinx -E -W -q -d "$(SITE)/../doctrees" docs "$(SITE)"
	@echo "== the site: $(SITE)/index.html"

demo: ## start the service, embed eight sentences, show which are alike
	@$(SETUP) run
	@exec $(BIN)/python -m demo $(ARGS)

bench: ## measure this machine (a quarter of an hour; ARGS="URL FIELD": another server beside it)
	@$(SETUP) dev
	@exec $(BIN)/python -m benchmarks $(ARGS)

load: ## a mixed day with up to 32 clients, by Locust, drawn into docs/images/load.svg (ten minutes)
	@$(SETUP) dev
	@exec $(BIN)/python -m benchmarks.day docs/images/load.svg $(ARGS)

clean: ## remove the environment and everything that was built (never data/ or models/)
	rm -rf .venv/bin .venv .venv.old .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find src tests benchmarks demo -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
