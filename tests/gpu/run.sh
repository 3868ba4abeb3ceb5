#!/usr/bin/env bash
# Everything that needs a GPU, in one go: builds for it, runs the tests marked `gpu`, those under compute-sanitizer,
# and the benchmarks with their goals. Needs nvcc, CMake, Ninja, and a Python (PYTHON, else python3) with torch, numpy,
# pybind11, pytest, hypothesis, typer and rich; a DGL with CUDA where its blocks are to be tested, too. Installs nothing
# and needs no network. NCCL is torch's own, or the system's.
# What it finds lies in OUT, else build/gpu/out; result.md there is the table. BENCH: more options of
# `rudder bench gpu`. STEPS: only these, of "tests nccl memcheck racecheck bench exchange", where time is short.
# Every step runs, whatever those before it did; it ends with 1 where one failed. How many tests skipped themselves, and
# why, is said in the end and in the table.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
python=${PYTHON:-python3}
build=${BUILD:-$root/build/gpu}
out=${OUT:-$build/out}
site=$build/site
sanitizer=${SANITIZER:-compute-sanitizer}
wanted=" ${STEPS:-tests nccl memcheck racecheck bench exchange} "
mkdir -p "$out" && rm -f "$out"/*
gpus=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader)
nvidia-smi >"$out/machine.txt"

cmake -S . -B "$build/cmake" -G Ninja --log-level=WARNING -DRUDDER_WITH_CUDA=ON -DRUDDER_WITH_UCX=OFF \
  -Dpybind11_DIR="$("$python" -m pybind11 --cmakedir)" -DPython_EXECUTABLE="$(command -v "$python")"
cmake --build "$build/cmake" --target _core _cuda _nccl
rm -rf "$site" && mkdir -p "$site" && cp -r rudder "$site/"
cmake --install "$build/cmake" --prefix "$site" >/dev/null
export PYTHONPATH=$site PYTHONUNBUFFERED=1 PYTEST_TIMEOUT=0
cd "$site" # not the checkout, whose package has no compiled part

# Tests that need a GPU skip themselves where none can be used: here that is a failure.
"$python" -c 'import sys, torch, rudder.gpu
sys.exit(rudder.gpu.why_not() or (None if torch.cuda.is_available() else "this torch has no CUDA"))'
why_no_nccl=$("$python" -c 'import rudder.nccl; print(rudder.nccl.why_not() or "")')

failed=0
steps=()
# NAME COMMAND...: what it prints goes to the terminal and to OUT/NAME.txt.
step() {
  local name=$1 verdict=passed
  shift
  [[ $wanted == *" $name "* ]] || { skip "$name" "not asked for" && return; }
  "$@" 2>&1 | tee "$out/$name.txt" || { verdict=FAILED && failed=1; }
  steps+=("| $name | $verdict | $(skipped_in "$out/$name.txt") | $(tail -n 1 "$out/$name.txt" | tr -d '|=') |")
}
skip() { steps+=("| $1 | not run | | $2 |"); }
# Of a log of pytest, whose last line need not be its summary (the sanitizer's follows): tests that skipped themselves.
# Nothing where no tests were run.
skipped_in() {
  local summary
  summary=$(grep -E '^(=+ )?[0-9]+ (passed|failed|skipped|deselected|error).* in [0-9.]+s' "$1" | tail -n 1) || return 0
  grep -oE '[0-9]+ skipped' <<<"$summary" | grep -oE '[0-9]+' || echo 0
}

pytest=("$python" -m pytest -q -s -rs -m gpu -c "$root/pyproject.toml")
step tests "${pytest[@]}" "$root/tests/gpu"
if [ -n "$why_no_nccl" ]; then
  skip nccl "$why_no_nccl"
else
  step nccl "${pytest[@]}" "$root/tests/python/nccl"
fi
if command -v "$sanitizer" >/dev/null; then
  # -k: the profiler and the sanitizer exclude one another. NCCL under memcheck alone: its kernels wait for each other
  # by flags of their own in shared memory, which racecheck calls hazards, and ours use no shared memory there.
  for tool in memcheck racecheck; do
    checked=("$root/tests/gpu")
    [ "$tool" != memcheck ] || [ -n "$why_no_nccl" ] || checked+=("$root/tests/python/nccl")
    step "$tool" "$sanitizer" --tool "$tool" --error-exitcode 7 --target-processes all \
      "${pytest[@]}" "${checked[@]}" -k 'not waits_for_nothing'
  done
else
  skip memcheck "there is no $sanitizer" && skip racecheck "there is no $sanitizer"
  [[ $wanted != *check* ]] || failed=1
fi
bench=(bench gpu --goals --json "$out/bench.json")
# shellcheck disable=SC2086  # BENCH holds words
step bench "$python" -m rudder.cli "${bench[@]}" ${BENCH:-}
count=$(wc -l <<<"$gpus")
if [ "$count" -gt 1 ] && [ -z "$why_no_nccl" ]; then
  # shellcheck disable=SC2086
  step exchange "$python" -m torch.distributed.run --standalone --nproc-per-node "$count" \
    -m rudder.cli bench gpu --json "$out/exchange.json" ${BENCH:-}
else
  skip exchange "${why_no_nccl:-one GPU only}"
fi

{
  printf '# Rudder on %s\n\n' "$(head -n 1 <<<"$gpus" | cut -d, -f1)"
  printf -- '- GPUs (name, driver, memory):\n'
  while read -r line; do printf '  - %s\n' "$line"; done <<<"$gpus"
  printf -- '- processor: %s\n' "$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1)"
  printf -- '- commit: %s\n' "$(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)"
  printf -- '- command: %sbash tests/gpu/run.sh\n\n' "${BENCH:+BENCH='$BENCH' }"
  printf '| step | result | tests skipped | its last line |\n| --- | --- | --- | --- |\n'
  printf '%s\n' "${steps[@]}"
  reasons=$(grep -hE '^SKIPPED ' "$out"/*.txt | sort | uniq -c | sort -rn) || reasons=
  [ -z "$reasons" ] || printf '\nSkipped, and why (once for each step):\n\n```\n%s\n```\n' "$reasons"
  for name in bench exchange; do
    [ ! -f "$out/$name.txt" ] || printf '\n```\n%s\n```\n' "$(cat "$out/$name.txt")"
  done
} >"$out/result.md"
for name in tests nccl memcheck racecheck; do
  [ ! -f "$out/$name.txt" ] || echo "==> $name: $(skipped_in "$out/$name.txt") tests skipped"
done
echo "==> $out/result.md"
exit $failed
