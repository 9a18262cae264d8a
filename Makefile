# Both `make demo` and `make test` set up what they need in .venv: only Python 3.11, pip and make are asked for.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

# Where bytecode may not be written, every process would compile its libraries anew: two seconds each.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test test-long faults fuzz lint calibration bench clean

help:
	@echo "make demo         the main job: Table II's rows on a built-in corpus, with real encoders (a quarter of an hour cold)"
	@echo "make test         lint, types, import contracts and all tests (about a quarter of an hour)"
	@echo "make test-long    tests that take minutes each"
	@echo "make faults       every malformed input, kill, failed write and outage (hours); rewrites results/faults.csv"
	@echo "make fuzz         random inputs at every door that reads, ten minutes each"
	@echo "make calibration  5,000 simulated tables: how often a verdict is wrong (about half an hour)"
	@echo "make bench        the benchmarks behind benchmarks/README.md"
	@echo "make clean        remove .venv and caches; results stay"

.venv/demo: pyproject.toml setup.py constraints.txt $(wildcard whisq_core/csrc/*)
	@echo "setting up .venv (one to three minutes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(INSTALL) --editable '.[demo]'
	@touch $@

.venv/test: .venv/demo
	@echo "adding what the tests need ..."
	@$(INSTALL) --editable '.[test]'
	@touch $@

demo: .venv/demo
	@$(BIN)/whisq-study demo

lint: .venv/test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: .venv/test lint
	$(BIN)/pytest -q -n 2 -m "not slow"

test-long: .venv/test
	$(BIN)/pytest -q -m slow --ignore tests/system/malformed --ignore tests/system/faults

faults: .venv/test
	WHISQ_SUMMARY=results/faults.csv $(BIN)/pytest -q -n 2 tests/system/malformed tests/system/faults

fuzz: .venv/test
	WHISQ_FUZZ_SECONDS=600 $(BIN)/pytest -q -n 2 -rP tests/fuzz

calibration: .venv/test
	$(BIN)/python benchmarks/calibration.py

bench: .venv/test
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/encode.py
	$(BIN)/python benchmarks/workers.py
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/search_overhead.py
	$(BIN)/python benchmarks/scale.py

clean:
	rm -rf .venv whisq_core/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
