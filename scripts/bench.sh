#!/usr/bin/env bash
# Measures the gateway beside a bare server and beside raw libvirt calls.
set -euo pipefail
. "$(dirname "$0")/common.sh"
fail "the measurements are not built yet; nothing was run"
