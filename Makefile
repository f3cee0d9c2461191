# make demo             train the language model on the text inside Python, and compare it with torch's layers
# make test             build, install, lint, and run all tests
# make test-cuda-build  build the CUDA extension against a CUDA torch (no GPU needed), and run the tests on that torch
# make cuda-resources   after test-cuda-build: write docs/results/cuda-resources.md, and fail if a kernel spills registers
# make gpu-check        on a machine with a GPU, in 10 minutes: build, test, sanitize, time, report (docs/guides/gpu-check.md)
# make lint | format | bench | clean | distclean
#
# Everything is installed into .venv and .venv-cuda here. PYTHON (3.10 or newer) makes them; MAX_JOBS bounds parallel compilation.
PYTHON ?= python3
DEMO ?= seqkern demo
# Pins hold inside pip's isolated builds as well.
export PIP_CONSTRAINT := requirements/constraints.txt
export PIP_BUILD_CONSTRAINT := $(PIP_CONSTRAINT)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

VENV := .venv
CUDA_VENV := .venv-cuda
CMAKE_BUILD := build/cmake
CPP = $(shell find bench csrc -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh')

# Warnings are errors in the tests' builds.
test-python test-cuda-build: export SEQKERN_WERROR := 1

.NOTPARALLEL:
.PHONY: demo test test-python test-cpp test-cuda-build cuda-resources gpu-check lint format bench clean distclean

demo: $(VENV)/demo.stamp
	$(VENV)/bin/pip install -q .
	$(VENV)/bin/$(DEMO)

test: lint test-cpp test-python

# Tests run beside the sources, not among them (`import seqkern` must find the installed package), a file of them on each core.
PYTEST := bin/pytest -n auto --dist loadfile
RUN_PYTEST = cd python_tests && ../$(1)/$(PYTEST) $(2) . && ../$(1)/bin/pytest --doctest-modules --pyargs seqkern

# On the CPU kernels, and on the CUDA kernels as the host executor runs them (csrc/tests/cuda_host).
test-python: $(VENV)/test.stamp
	$(VENV)/bin/pip install -q --no-build-isolation --no-deps .
	$(call RUN_PYTEST,$(VENV))
	cd python_tests && ../$(VENV)/$(PYTEST) --backend cuda-on-host .

test-cpp: $(VENV)/test.stamp
	$(VENV)/bin/cmake -S . -B $(CMAKE_BUILD) -G Ninja -DCMAKE_MAKE_PROGRAM='$(CURDIR)/$(VENV)/bin/ninja'
	$(VENV)/bin/cmake --build $(CMAKE_BUILD) --target tests
	$(VENV)/bin/ctest --test-dir $(CMAKE_BUILD) --output-on-failure

# Another torch changes nothing of the CPU's other instruction sets, and little of the benchmarks: both take minutes.
test-cuda-build: $(CUDA_VENV)/cuda.stamp
	SEQKERN_CUDA=1 $(CUDA_VENV)/bin/pip install -q .
	$(call RUN_PYTEST,$(CUDA_VENV),--ignore=test_isa.py --ignore=test_bench.py --ignore=test_gpu_check.py)

cuda-resources: $(CUDA_VENV)/cuda.stamp
	$(CUDA_VENV)/bin/python bench/cuda_resources.py --out docs/results

lint: $(VENV)/test.stamp
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/clang-format --dry-run -Werror $(CPP)
	$(VENV)/bin/mypy

format: $(VENV)/test.stamp
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .
	$(VENV)/bin/clang-format -i $(CPP)

bench: $(VENV)/test.stamp
	$(VENV)/bin/pip install -q --no-build-isolation --no-deps .
	cd bench && ../$(VENV)/bin/pytest --benchmark-only .

# With the torch, and the rest of requirements/cuda.txt, that PYTHON has; OUT is the report's folder, ARGS are bench/gpu_check.py's.
OUT ?= docs/results
gpu-check:
	$(PYTHON) bench/gpu_check.py --out '$(OUT)' $(ARGS)

# An environment per torch; its stamp is newer than the requirements it was made from.
$(VENV)/%.stamp: requirements/%.txt requirements/demo.txt requirements/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -r $<
	touch $@

$(CUDA_VENV)/cuda.stamp: requirements/cuda.txt requirements/constraints.txt
	$(PYTHON) -m venv $(CUDA_VENV)
	$(CUDA_VENV)/bin/pip install -q -r $<
	touch $@

clean:
	rm -rf build dist *.egg-info .benchmarks .hypothesis .mypy_cache .pytest_cache .ruff_cache seqkern/*.so
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) $(CUDA_VENV)
