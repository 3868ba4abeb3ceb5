#!/usr/bin/env bash
# Everything that needs a GPU, in one go: builds for it, runs the tests marked `gpu`, those under compute-sanitizer,
# and the benchmark. Needs nvcc, CMake, Ninja, and a Python (PYTHON, else python3) with torch, numpy, pybind11, pytest,
# hypothesis, typer and rich; installs nothing and needs no network. What it finds lies in OUT, else build/gpu/out.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
out=${OUT:-$PWD/build/gpu/out}
site=$PWD/build/gpu/site
mkdir -p "$out"
nvidia-smi | tee "$out/machine.txt"

cmake -S . -B build/gpu/cmake -G Ninja --log-level=WARNING -DRUDDER_WITH_CUDA=ON -DRUDDER_WITH_UCX=OFF \
  -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" -DPython_EXECUTABLE="$(command -v "$python")"
cmake --build build/gpu/cmake --target _core _cuda
rm -rf "$site" && mkdir -p "$site" && cp -r rudder "$site/"
cmake --install build/gpu/cmake --prefix "$site" >/dev/null
export PYTHONPATH=$site PYTHONUNBUFFERED=1 PYTEST_TIMEOUT=0
cd "$site"  # not the checkout, whose package has no compiled part
tests="$OLDPWD/tests/gpu"

failed=0
"$python" -m pytest -q -s -m gpu "$tests" -c "$OLDPWD/pyproject.toml" 2>&1 | tee "$out/tests.txt" || failed=1
sanitizer=${SANITIZER:-compute-sanitizer}
if command -v "$sanitizer" >/dev/null; then
  # The profiler and the sanitizer exclude one another.
  for tool in memcheck racecheck; do
    "$sanitizer" --tool "$tool" --error-exitcode 7 --target-processes all "$python" -m pytest -q -m gpu "$tests" \
      -c "$OLDPWD/pyproject.toml" \
      -k 'not waits_for_nothing and not callers_stream' 2>&1 | tee "$out/$tool.txt" || failed=1
  done
else
  echo "no $sanitizer: not run" | tee "$out/sanitizer.txt"
fi
"$python" -m rudder.cli bench gpu --json "$out/bench.json" ${BENCH:-} 2>&1 | tee "$out/bench.txt" || failed=1
exit $failed
