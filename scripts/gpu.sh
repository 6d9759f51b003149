#!/usr/bin/env bash
# Tests, checks and measures the `cuda` backend on this machine's GPU: `npm run gpu`, described in docs/gpu.md.
#
#   scripts/gpu.sh [test] [sanitize] [bench] [options of the benchmark: --quick --only=… --shape=…]
#   scripts/gpu.sh card [options of rvq bench: --shape=… --vectors=…]
#   scripts/gpu.sh profile [--shape=…]
#
# Without a phase the first three run; card is `rvq bench` of this backend alone: the kernels of all shapes beside the
# card's limits, without Python; profile is the search kernel under Nsight Compute: where its warps wait. Full logs and results go to $OUT (default .gpu/out); the output is short
# and ends with a table. With .gpu/ from scripts/gpu-pack.mjs nothing is built and no Node is needed: its node, packages,
# compiled library and addon are used in a folder of their own. Each phase has a time limit, in seconds:
# RVQ_GPU_TEST_SECONDS, RVQ_GPU_SANITIZE_SECONDS (for each tool), RVQ_GPU_BENCH_SECONDS, RVQ_GPU_CARD_SECONDS,
# RVQ_GPU_PROFILE_SECONDS.
# RVQ_GPU_BACKEND=cpu tries this script without a GPU.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

root=$PWD
packed=$root/.gpu
test_seconds=${RVQ_GPU_TEST_SECONDS:-240}
sanitize_seconds=${RVQ_GPU_SANITIZE_SECONDS:-150}
bench_seconds=${RVQ_GPU_BENCH_SECONDS:-240}
card_seconds=${RVQ_GPU_CARD_SECONDS:-120}
profile_seconds=${RVQ_GPU_PROFILE_SECONDS:-120}
backend=${RVQ_GPU_BACKEND:-cuda}
export OUT=${OUT:-$packed/out}

table=()
failed=0
# What `watch` returns, as `timeout` does.
late=124

main() {
  local phases=() options=() word
  for word in "$@"; do
    case $word in
      test | sanitize | bench | card | profile) phases+=("$word") ;;
      --?*) options+=("$word") ;;
      *) stop "test, sanitize, bench, card or profile is wanted, not $word" ;;
    esac
  done
  [ ${#phases[@]} -gt 0 ] || phases=(test sanitize bench)
  mkdir -p "$OUT" && OUT=$(realpath "$OUT") || stop "$OUT cannot be made"

  phase machine 60 describe_machine
  phase prepare 900 prepare
  if [ $failed -eq 0 ]; then
    # `prepare` ran in a process of its own: what it found is in a file.
    # shellcheck source=/dev/null
    source "$scratch/environment"
    cd "$work" || stop "$work is gone"
    for word in "${phases[@]}"; do
      case $word in
        test) phase test "$test_seconds" run_tests || unfinished "$OUT/contract.log" ;;
        sanitize)
          phase memcheck "$sanitize_seconds" sanitize memcheck || unfinished "$scratch/exercise.log"
          phase racecheck "$sanitize_seconds" sanitize racecheck || unfinished "$scratch/exercise.log"
          ;;
        bench)
          phase bench "$bench_seconds" run_benchmark ${options[@]+"${options[@]}"} || unfinished "$OUT/bench.log"
          ;;
        card) phase card "$card_seconds" measure_card ${options[@]+"${options[@]}"} || unfinished "$OUT/card.log" ;;
        profile)
          phase profile "$profile_seconds" profile_search ${options[@]+"${options[@]}"} || unfinished "$OUT/profile.log"
          ;;
      esac
    done
  fi

  {
    printf '\n%-10s %-9s %5s  %s\n' phase result s detail
    printf '%s\n' "${table[@]}"
  } | tee "$OUT/summary.txt"
  exit $failed
}

# phase <name> <seconds> <function…>: runs it within the time; its last line on descriptor 3 is the detail of the table.
phase() {
  local name=$1 limit=$2 started=$SECONDS status result=ok
  shift 2
  echo "=== $name (at most $limit s)"
  : >"$scratch/detail"
  ("$@") 3>"$scratch/detail" &
  watch $! "$limit"
  status=$?
  [ $status -eq 0 ] || { result="FAILED" && failed=1; }
  [ $status -ne $late ] || result="TIME"
  table+=("$(printf '%-10s %-9s %5d  %s' "$name" "$result" $((SECONDS - started)) "$(tail -n 1 "$scratch/detail")")")
  return $status
}

# After a phase that ran out of time: how far it came.
unfinished() {
  [ $? -ne $late ] || tail -n 25 "$1" | cut -c1-200
}

# watch <pid> <seconds>: waits for a child; past the time ends it with all its children, and returns $late. `set -m`
# gave it a process group of its own.
watch() {
  local pid=$1 end=$((SECONDS + $2))
  while kill -0 "$pid" 2>/dev/null; do
    if [ $SECONDS -ge $end ]; then
      kill -TERM -- "-$pid" 2>/dev/null
      sleep 3
      kill -KILL -- "-$pid" 2>/dev/null
      # Not `wait`: a process that hangs in the driver cannot be ended, and must not hold this one.
      return $late
    fi
    sleep 0.2
  done
  wait "$pid"
}

describe_machine() {
  {
    nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total,clocks.max.sm,clocks.max.memory,power.limit \
      --format=csv,noheader || [ "$backend" != cuda ] || return 1
    nvcc --version 2>/dev/null | grep release || echo "no nvcc"
    uname -srm
    nproc
  } | tee "$OUT/machine.txt"
  head -n 1 "$OUT/machine.txt" >&3
}

# Writes $scratch/environment: PATH with a node, the folder to work in, the addon.
prepare() {
  if [ -e "$packed/files.tar.xz" ]; then unpack; else build; fi || return 1
  # shellcheck source=/dev/null
  source "$scratch/environment"
  cd "$work" || return 1
  node -e '
    const [wanted] = process.argv.slice(1);
    const { backends } = require("./dist/index.js").status();
    const { available, description, reason, file } = backends.find(({ name }) => name === wanted);
    console.log(`${wanted}: ${available ? description : reason} (${file})`);
    require("node:fs").writeSync(3, `node ${process.version}; ${wanted}: ${available ? description : reason}\n`);
    process.exit(available ? 0 : 1);
  ' "$backend"
}

unpack() {
  (cd "$root" && sha256sum --check --quiet "$packed/sources.sha256") || {
    echo "gpu: .gpu/ was packed from other sources: run scripts/gpu-pack.mjs again" >&2
    echo "packed from other sources" >&3
    return 1
  }
  local place=$scratch/checkout name
  mkdir -p "$place" "$scratch/bin"
  for name in lib test bench scripts data package.json vitest.config.mts tsconfig.json tsconfig.base.json; do
    cp -r "$root/$name" "$place/" || return 1
  done
  unxz_to_stdout "$packed/node.xz" >"$scratch/bin/node" && chmod +x "$scratch/bin/node" || return 1
  unxz_to_stdout "$packed/files.tar.xz" | tar -x -C "$place" || return 1
  {
    echo "export PATH=$scratch/bin:\$PATH"
    echo "export RVQ_PREBUILD=$packed"
    echo "work=$place"
  } >"$scratch/environment"
}

# Not every machine with Python has xz.
unxz_to_stdout() {
  if command -v xz >/dev/null; then
    xz --decompress --stdout "$1"
  else
    python3 -c 'import lzma, shutil, sys; shutil.copyfileobj(lzma.open(sys.argv[1]), sys.stdout.buffer, 1 << 20)' "$1"
  fi
}

# The addon for this card alone, in build/gpu; the package's own build stays as it is.
build() {
  local arch
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .) || return 1
  # The warpgroup instructions are of 9.0 alone.
  [ "$arch" != 90 ] || arch=90a
  [ -d node_modules ] || npm ci || return 1
  node scripts/build.mjs --typescript || return 1
  node node_modules/cmake-js/bin/cmake-js build --log-level error --out build/gpu/build --CDRVQ_REQUIRE_CUDA=ON \
    --CDRVQ_TESTING=ON "--CDCMAKE_CUDA_ARCHITECTURES=$arch-real" --CDCMAKE_CUDA_FLAGS=-lineinfo || return 1
  node -e 'import("./scripts/bundle-bench.mjs").then(({ bundleBench }) => bundleBench("cuda"))' || return 1
  {
    echo "export RVQ_PREBUILD=$root/build/gpu"
    echo "work=$root"
  } >"$scratch/environment"
}

# The contract on cuda alone, and what tests this backend besides.
run_tests() {
  local status
  export RVQ_TEST_BACKENDS=$backend RVQ_TEST_RESULTS=$scratch/tests.json NO_COLOR=1
  node node_modules/vitest/vitest.mjs run test/contract test/cuda- >"$OUT/contract.log" 2>&1
  status=$?
  [ -e "$RVQ_TEST_RESULTS" ] || tail -n 30 "$OUT/contract.log"
  node scripts/gpu-test-summary.mjs "$RVQ_TEST_RESULTS" || status=1
  return $status
}

# sanitize <tool>: memcheck or racecheck of compute-sanitizer over scripts/gpu-exercise.mjs.
sanitize() {
  local status log=$OUT/$1.log
  command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not on PATH" | tee /dev/fd/3 && return 1; }
  compute-sanitizer --tool "$1" --target-processes all --error-exitcode 9 --print-limit 40 --log-file "$log" \
    node scripts/gpu-exercise.mjs "$backend" >"$scratch/exercise.log" 2>&1
  status=$?
  cat "$scratch/exercise.log" >>"$log"
  tail -n 3 "$scratch/exercise.log"
  [ $status -eq 0 ] || grep -v '^exercise: N' "$log" | head -n 60 | cut -c1-200
  { grep -E 'ERROR SUMMARY|RACECHECK SUMMARY' "$log" || echo "no summary: see $1.log"; } | tail -n 1 >&3
  grep -qE 'ERROR SUMMARY|RACECHECK SUMMARY' "$log" || return 1
  return $status
}

run_benchmark() {
  local status python=${RVQ_PYTHON:-python3}
  export RVQ_PYTHON=$python PYTHONPATH=$packed/flash-kmeans${PYTHONPATH:+:$PYTHONPATH}
  node --enable-source-maps --expose-gc build/bench/cuda.mjs "--json=$OUT/bench.json" "$@" >"$OUT/bench.log" 2>&1
  status=$?
  # What was measured last is what the caller of a cut output must see.
  tail -c 9000 "$OUT/bench.log"
  grep -E '^bench: ' "$OUT/bench.log" | tail -n 1 >&3
  return $status
}

measure_card() {
  local status
  node dist/cli/main.js bench --backend "$backend" "$@" >"$OUT/card.log" 2>&1
  status=$?
  cat "$OUT/card.log"
  grep -c '^encode' "$OUT/card.log" | sed 's/$/ shapes/' >&3
  return $status
}

# What products and streams of codewords reach on a Hopper card, where there is nvcc, in $OUT/product-rates.md and
# stream-rates.md; then for each shape $OUT/profile-<shape>.txt, tables and advice, and .csv, the samples at every
# instruction.
profile_search() {
  local ncu shapes shape wanted="" status=0 report rates done=()
  : >"$OUT/profile.log"
  for rates in product stream; do
    command -v nvcc >/dev/null || break
    nvcc -std=c++17 -O3 -arch=sm_90a -Icuda "bench/cuda/${rates}_rates.cu" -o "$scratch/${rates}_rates" \
      >>"$OUT/profile.log" 2>&1 \
      && timeout 60 "$scratch/${rates}_rates" >"$OUT/$rates-rates.md" 2>>"$OUT/profile.log" || status=1
    cat "$OUT/$rates-rates.md" 2>/dev/null
  done
  ncu=$(command -v ncu || ls -d /usr/local/cuda/bin/ncu /opt/nvidia/nsight-compute/*/ncu 2>/dev/null | tail -n 1)
  [ -n "$ncu" ] || { echo "ncu is not on PATH" | tee /dev/fd/3 && return 1; }
  shapes=$(node scripts/gpu-profile.mjs) && [ -n "$shapes" ] || return 1
  for shape in "$@"; do
    case $shape in
      --shape=*) wanted="$wanted ${shape#--shape=}" ;;
      *) echo "profile takes --shape=…, not $shape" | tee /dev/fd/3 && return 1 ;;
    esac
  done
  for shape in ${wanted:-$shapes}; do
    report=$scratch/profile-$shape
    rm -f "$OUT/profile-$shape.txt" "$OUT/profile-$shape.csv"
    "$ncu" --set full --import-source no --target-processes all --kernel-name regex:encode_rows --launch-skip 1 \
      --launch-count 1 --force-overwrite --export "$report" node scripts/gpu-profile.mjs "$shape" >>"$OUT/profile.log" 2>&1 \
      && "$ncu" --import "$report.ncu-rep" --page details >"$OUT/profile-$shape.txt" \
      && "$ncu" --import "$report.ncu-rep" --page source --csv >"$OUT/profile-$shape.csv" \
      && done+=("$shape") || status=1
    grep -hE 'Duration|Executed Ipc Active|Issue Slots Busy|Theoretical Occ|Registers Per|Stall|stalled' \
      "$OUT/profile-$shape.txt" 2>/dev/null | cut -c1-160
  done
  [ $status -eq 0 ] || tail -n 20 "$OUT/profile.log" | cut -c1-200
  echo "${done[*]:-none}" >&3
  return $status
}

stop() {
  echo "gpu: $1" >&2
  exit 2
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Background jobs get process groups of their own, so that a phase can be ended with all that it started.
set -m
main "$@"
