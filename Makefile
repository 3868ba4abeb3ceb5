# Two commands do everything on a fresh machine: `make demo` and `make test`. Both go through `make env`, which
# builds .venv. Needed beforehand: Python 3.9-3.12 with venv, a C++20 compiler, make. `make help` lists the rest.

VENV := .venv
BIN := $(VENV)/bin
EXTRAS := dgl,cli,ucx,agent,pilot,dev
# Modules of the extras: with one of them missing, tests must fail, not be skipped (tests/python/test_required.py).
REQUIRED := llama_cpp,gguf,torch,sklearn,typer,rich
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

# How llama.cpp is built for the agent: only the library that is used, its files compiled many at a time, which halves
# the work. Not for this very CPU: pip keeps the wheel, and a home folder may be seen by several machines.
LLAMA_CMAKE := -DLLAVA_BUILD=OFF -DGGML_NATIVE=OFF -DCMAKE_UNITY_BUILD=ON -DCMAKE_UNITY_BUILD_BATCH_SIZE=12 \
  -DCMAKE_PROJECT_INCLUDE=$(CURDIR)/cmake/llama_quickly.cmake

# The python at hand, if DGL has wheels for it; else any other that has.
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.10 python3.9; do \
	$$p -c 'import ensurepip, sys, venv; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 12))' \
	>/dev/null 2>&1 && echo $$p && break; done)

# make's own default is g++, CMake's is c++.
ifeq ($(origin CXX),default)
CXX := c++
endif

# cmake, ninja and clang-format of .venv come first, so that every machine uses the pinned ones.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export CMAKE_BUILD_PARALLEL_LEVEL := $(JOBS)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

have_header = $(shell echo '\#include <$(1)>' | $(CXX) -std=c++20 -E -x c++ - >/dev/null 2>&1 && echo yes)
say = @printf '==> %s\n'

# Directories too: theirs is the time that changes when a file is added or removed.
NATIVE := CMakeLists.txt $(shell find csrc bindings 2>/dev/null)
CXX_FILES = $(shell git ls-files -co --exclude-standard '*.h' '*.cc' '*.cpp' '*.cu' '*.cuh')

.PHONY: help env demo test test-cpp test-python lint lint-ruff lint-mypy lint-format lint-tidy format gpu-test bench bench-cpp bench-python asan tsan clean distclean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo 'make env      build .venv with the package and everything it needs (quick when nothing changed)'
	@echo 'make demo     a DistDGL job without and with Rudder, side by side (ARGS="--hosts 4" for options)'
	@echo 'make test     C++ tests (where GoogleTest is), Python tests, multi-process DistDGL tests'
	@echo 'make asan     C++ tests under address and undefined-behaviour sanitizers'
	@echo 'make tsan     C++ tests under the thread sanitizer'
	@echo 'make gpu-test what needs a GPU: tests, compute-sanitizer, benchmark (BENCH="--repeats 51")'
	@echo 'make lint     ruff, mypy --strict, clang-format, clang-tidy'
	@echo 'make format   apply ruff format and clang-format'
	@echo 'make bench    benchmarks, the C++ ones where Google Benchmark is (FILTER=Gather: only those)'
	@echo 'make clean    remove build folders and caches; `make distclean` removes .venv too'

env: $(VENV)/.installed

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo 'Needed: Python 3.9-3.12 with venv (Debian: apt-get install python3-venv),' \
	  'or name one: make env PYTHON=/path/to/python3' >&2; exit 1; }
	$(say) "creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

# What builds the package: its build requirements, of the pinned versions, outside of pip's build isolation, so that
# a rebuild compiles only what changed.
$(VENV)/.tools: constraints.txt | $(BIN)/python
	$(say) 'installing the build tools: CMake, Ninja, scikit-build-core, pybind11'
	@$(BIN)/python -m pip install -qq -c constraints.txt setuptools scikit-build-core pybind11 cmake ninja \
	  'libucx-cu13; platform_machine == "x86_64" or platform_machine == "aarch64"'
	@touch $@

# Where only C++ changed, the dependencies are left alone: quicker, and needs no network.
$(VENV)/.installed: $(VENV)/.tools constraints.txt pyproject.toml $(NATIVE)
	$(say) 'compiling the core and installing rudder into $(VENV) (minutes the first time)'
	@$(BIN)/python -m pip install -qq --no-build-isolation --no-deps -e .
	@if [ -n "$(filter-out $(NATIVE),$?)" ]; then \
	  echo '==> installing what it needs ($(EXTRAS)): DGL, torch, llama.cpp, the tools (minutes the first time)'; \
	  CMAKE_ARGS='$(LLAMA_CMAKE)' $(BIN)/python -m pip install -qq -c constraints.txt 'rudder-gnn[$(EXTRAS)]'; fi
	@touch $@

demo: env
	@$(BIN)/rudder demo $(ARGS)

test: test-cpp test-python

ifeq ($(call have_header,gtest/gtest.h),yes)
test-cpp: env
	$(say) 'C++ tests'
	@cmake --preset default --log-level=WARNING && cmake --build --preset default && ctest --preset default

asan tsan: env
	$(say) 'C++ tests under the sanitizers of preset $@'
	@cmake --preset $@ --log-level=WARNING && cmake --build --preset $@ && ctest --preset $@
else
test-cpp:
	$(say) 'C++ tests SKIPPED: GoogleTest is missing (Debian: apt-get install libgtest-dev)'

asan tsan:
	@echo 'GoogleTest is missing (Debian: apt-get install libgtest-dev)' >&2; exit 1
endif

test-python: env
	$(say) 'Python and distributed tests'
	@RUDDER_REQUIRE=$(REQUIRED) $(BIN)/python -m pytest -q $(ARGS)

gpu-test: env
	$(say) 'tests, compute-sanitizer and benchmark on the GPU'
	@PYTHON=$(CURDIR)/$(BIN)/python BENCH="$(BENCH)" bash tests/gpu/run.sh

lint: lint-ruff lint-mypy lint-format lint-tidy

lint-ruff: env
	$(say) 'ruff'
	@ruff check -q . && ruff format -q --check .

lint-mypy: env
	$(say) 'mypy'
	@mypy

lint-format: env
	$(say) 'clang-format'
	@clang-format --dry-run --Werror $(CXX_FILES)

lint-tidy: env
	$(say) 'clang-tidy (on what changed since the last time)'
	@cmake --preset tidy --log-level=WARNING && cmake --build --preset tidy -- -k 0

format: env
	@ruff check -q --fix-only . && ruff format -q . && clang-format -i $(CXX_FILES)

# FILTER picks C++ benchmarks by a regular expression; without it the Python ones run after them.
bench: bench-cpp $(if $(FILTER),,bench-python)

ifeq ($(call have_header,benchmark/benchmark.h),yes)
bench-cpp: env
	$(say) 'C++ benchmarks'
	@cmake --preset bench --log-level=WARNING && cmake --build --preset bench
	@build/bench/benchmarks/rudder_benchmarks $(if $(FILTER),--benchmark_filter='$(FILTER)') $(ARGS)
else
bench-cpp:
	$(say) 'C++ benchmarks SKIPPED: Google Benchmark is missing (Debian: apt-get install libbenchmark-dev)'
endif

bench-python: env
	$(say) 'features through the buffer against torch.index_select'
	@$(BIN)/python benchmarks/feats_bench.py
	@$(BIN)/python benchmarks/gap_bench.py
	@$(BIN)/python benchmarks/shadow_bench.py
	$(say) 'a step with and without the agent'
	@$(BIN)/python benchmarks/agent_bench.py --rounds 2 --steps 320

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis $(VENV)/.installed

distclean: clean
	rm -rf $(VENV)
