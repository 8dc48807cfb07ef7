#!/usr/bin/env bash
# Ends what demo.sh left running and removes its files; does nothing if there is nothing.
set -euo pipefail
. "$(dirname "$0")/common.sh"

STATE=$REPO/.work/demo
LIBVIRT=/tmp/babelvisor-demo-$(printf '%s' "$REPO" | cksum | cut -d' ' -f1)

if [ -s "$STATE/gateway.pid" ]; then
    pid=$(cat "$STATE/gateway.pid")
    # The id may belong to somebody else by now: look before shooting.
    if grep -q babelvisor "/proc/$pid/cmdline" 2>/dev/null; then
        kill "$pid" 2>/dev/null || true
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        kill -9 "$pid" 2>/dev/null || true
    fi
fi
"$REPO/scripts/private-libvirtd.sh" stop "$LIBVIRT"
rm -rf "$STATE"
say "the demo is stopped and removed"
