# One word for each task; `make` lists them. (make, because it is on nearly every machine already.)
BIN := .venv/bin

.PHONY: help setup quick test stress postgres lint format docs ci

help: ## list the tasks
	@sed -n 's/^\([a-z]*\):.*## /make \1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

setup: ## make .venv and install everything that development takes
	python3 -m venv .venv && $(BIN)/pip install -e '.[test,docs]'

quick: ## the pure tests, in seconds
	$(BIN)/pytest tests/core tests/rules tests/formats

test: ## all tests but the long ones
	$(BIN)/pytest

postgres: ## all tests, with the whole product on PostgreSQL, too
	$(BIN)/pytest --postgres

stress: ## the long tests of kills, races and volume, on a machine that does nothing else
	$(BIN)/pytest -n 0 -m stress

lint: ## ruff and mypy
	$(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy

format: ## let ruff mend what it can
	$(BIN)/ruff check --fix && $(BIN)/ruff format

docs: ## build the site of the pages and the API reference, strictly
	$(BIN)/python -m sphinx -W --keep-going -n -q docs build/site

ci: ## all that a release needs; commit first
	.ci/run
