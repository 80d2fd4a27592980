# Everything runs in ./.venv; `make setup` is implied by every other target.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test dev bench soak fuzz lint

setup: $(READY)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: setup
	$(BIN)/python -m cowrie_enrich_dagster.demo run

dev: setup # PORT=3001: at that port
	$(BIN)/python -m cowrie_enrich_dagster.demo dev

test: setup
	$(BIN)/python -m pytest -n auto --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python -m benchmarks

soak: setup
	$(BIN)/python -m tests.soak

fuzz: setup
	$(BIN)/python -m tests.fuzz
