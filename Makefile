# Everything runs in ./.venv; `make setup` is implied by every other target.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Where it is set, every process of the tests compiles what it imports: three times as long to collect them.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo check test dev bench soak fuzz lint lock

setup: $(READY)

# Every version and hash as tested, hatchling among them: nothing is resolved (old pips refuse extras with hashes).
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --require-hashes --no-deps --requirement constraints.txt
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

demo: setup
	$(BIN)/python -m cowrie_enrich_dagster.demo run

dev: setup # PORT=3001: at that port
	$(BIN)/python -m cowrie_enrich_dagster.demo dev

check: lint # what takes a minute
	$(BIN)/python -m pytest -n auto --dist worksteal tests/unit

test: setup
	$(BIN)/python -m pytest -n auto --dist worksteal

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

# The newest versions that pyproject.toml allows, for Python 3.10 to 3.13 and for the image. Needs uv. With their
# extras: pip before 23.1, which Python 3.10 brings, looks for a pin of each by that name.
COMPILE := uv pip compile --quiet --no-strip-extras --generate-hashes --no-annotate --no-header --no-emit-index-url --upgrade
lock:
	$(COMPILE) --universal --python-version 3.10 --all-extras pyproject.toml --output-file constraints.txt
	$(COMPILE) --python-version 3.12 --python-platform linux --constraint constraints.txt pyproject.toml \
		--output-file deploy/requirements.txt
