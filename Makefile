# make demo: install and run the main job.  make test: install and run the tests.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Folders that may hold data sets, such as mini_facade/ (see docs/data.md).
export TFPROJ_DATA ?= $(CURDIR)/data:$(CURDIR)/../shared/data

.PHONY: demo test test-fast fuzz soak bench-setup lint format docs clean

demo: $(VENV)/trains
	$(BIN)/tfproj demo

# Two modules at a time: much of a test is a process that starts, on one core.
test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Without the tests that need Fashion-MNIST or the facades.
test-fast: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not real_data"

# Ten times as many damaged files as the tests try.
fuzz: $(VENV)/installed
	TFPROJ_FUZZ_CASES=20000 $(BIN)/python -m pytest tests/test_fuzz.py

# What must hold under kills, faults and load, for an hour: docs/reliability.md.
SOAK_MINUTES ?= 60
SOAK_SEED ?= 0
soak: $(VENV)/installed
	$(BIN)/python -m tests.soak --minutes $(SOAK_MINUTES) --seed $(SOAK_SEED) \
		--json soak.json

# What benchmarks/ compares with; the package itself never needs it.
bench-setup: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
		torch==2.13.0 openvino ai-edge-litert
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target $(VENV)/openvino-provider \
		onnxruntime-openvino==1.24.1

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	.ci/lint-imports $(BIN)

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The API page, from the docstrings, and the examples for ports of the predictor.
docs: $(VENV)/installed
	$(BIN)/python docs/make_api.py
	$(BIN)/python docs/make_port_examples.py

PACKAGES := pyproject.toml setup.py constraints.txt
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# What a training needs; the rest takes half as long again.
$(VENV)/trains: $(PACKAGES) | $(BIN)/python
	$(INSTALL) '.[train]'
	touch $@

$(VENV)/installed: $(PACKAGES) | $(BIN)/python
	$(INSTALL) '.[train,serve,tune,dev]'
	touch $(VENV)/trains $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
