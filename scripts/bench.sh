#!/usr/bin/env bash
# Measures the gateway beside a bare hyper server that returns the same bytes and beside raw libvirt calls.
#
#   bench.sh [SIZE,SIZE...]      at 10, 1,000 and 10,000 VMs unless told otherwise; on libvirt's test driver over real RPC
#
# Build and run take some minutes. Run nothing else meanwhile, and compare ratios, not numbers.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$REPO"

"$REPO/scripts/install.sh"
cargo build --locked --release -p babelvisor -p babelvisor-conformance --features babelvisor-conformance/bench
BIN=${CARGO_TARGET_DIR:-$REPO/target}/release
exec "$BIN/babelvisor-bench" "$BIN/babelvisor" "$@"
