# Every target does its own set-up: a bare Debian or Ubuntu with Python 3.11+, git and make is enough.
.DEFAULT_GOAL := help
.PHONY: help test lint clean

PORT ?=
BIN := .venv/bin
SETUP := bash scripts/setup

# .venv alone decides what is imported.
unexport PYTHONHOME PYTHONPATH

help: ## show this list
	@echo "usage: make TARGET [PORT=8000] [ARGS=...] [GPU=1] [PYTHON=python3.12]"
	@sed -n 's/^\([a-z]*\):.*## /  \1\t/p' Makefile | expand -t 10

test: ## set up and run every test that this machine can run (five minutes; ARGS go to pytest)
	@$(SETUP) dev
	@exec $(BIN)/python -m pytest $(ARGS)

lint: ## check style, imports and types
	@$(SETUP) dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PYTHONPATH=src $(BIN)/lint-imports
	$(BIN)/mypy

clean: ## remove the environment and everything that was built (never data/ or models/)
	rm -rf .venv/bin .venv .venv.old .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find src tests -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
