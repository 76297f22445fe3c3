# make demo   sets everything up and explains a sample picture
# make test   passes the tests
# make lint   style and types        make format   rewrites the style
# make coverage  passes the tests and says which lines they don't run
# make gate-demo  three gates: one passes, one blocks a model that cheats, one judges an int8 model
# make bench  benchmarks beside other libraries, results in benchmarks/results/

PYTHON ?= python3
BIN := .venv/bin
OUT ?= demo-report
GATES ?= gate-demo
# one thread per process: the tests run one process per core
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.PHONY: demo gate-demo setup test test-all coverage lint format bench docs clean

demo: setup
	$(BIN)/onnxplain explain models/shapes_cnn.onnx models/samples/shapes_star.png \
		-m lrp -m grad-cam -m cam -m integrated-gradients -m smoothgrad -m guided-backprop -m occlusion -m lime \
		-p smoothgrad.samples=25 -o $(OUT) --force
	@echo "The report lies at $(abspath $(OUT)/report.html)"

gate-demo: setup
	$(BIN)/python -m models.gate_demo $(GATES)
	$(BIN)/onnxplain gate run $(GATES)/shapes_cnn.toml
	$(BIN)/onnxplain gate run $(GATES)/shapes_cheater.toml; test $$? -eq 1 # it reads the tag: blocked
	$(BIN)/onnxplain gate run $(GATES)/shapes_int8.toml
	@echo "The reports lie at $(abspath $(GATES))/*/report.html"

setup: .venv/.installed

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'onnxplain needs Python 3.11 or newer')"
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev,text]"
	touch $@

test: setup
	$(TEST_ENV) $(BIN)/python -m pytest -n auto

test-all: setup
	$(TEST_ENV) $(BIN)/python -m pytest -n auto -m "not gpu"

coverage: setup
	$(TEST_ENV) $(BIN)/python -m pytest -n auto --cov --cov-report=term:skip-covered --cov-report=xml

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup .venv-bench/.installed
	$(BIN)/python -m benchmarks.localisation
	$(BIN)/python -m benchmarks.importing
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.rules
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.compiled
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.incremental
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.perturbation

.venv-bench/.installed: benchmarks/peers.txt
	test -x .venv-bench/bin/python || $(PYTHON) -m venv .venv-bench
	.venv-bench/bin/python -m pip install -q -r benchmarks/peers.txt
	touch $@

docs: setup
	$(BIN)/python -m docs.make

clean:
	rm -rf .venv .venv-bench build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage coverage.xml $(OUT) $(GATES)
