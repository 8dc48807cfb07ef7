#!/usr/bin/env bash
# Measures the gateway beside a bare hyper server that returns the same bytes and beside raw libvirt calls.
#
#   bench.sh [SIZE,SIZE...]      at 10, 1,000 and 10,000 VMs unless told otherwise (or by BENCH_SIZES)
#
# Servers run on the first processor, the load on the second, where there are two. Build and run take some minutes. Run
# nothing else meanwhile, and compare ratios, not numbers.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$REPO"

SIZES=${1:-${BENCH_SIZES:-10,1000,10000}}

"$REPO/scripts/install.sh"
cargo build --locked --release -p babelvisor
cargo build --locked --release -p babelvisor-conformance --features bench --bin babelvisor-bench
BIN=${CARGO_TARGET_DIR:-$REPO/target}/release

LOAD=()
if taskset -c 0 true 2>/dev/null && taskset -c 1 true 2>/dev/null; then
    export BENCH_SERVER_CPU=0
    LOAD=(taskset -c 1)
else
    say "No two processors to choose from: servers and load share what there is."
fi
exec "${LOAD[@]}" "$BIN/babelvisor-bench" "$BIN/babelvisor" "$SIZES"
