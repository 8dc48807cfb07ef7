#!/usr/bin/env bash
# Runs the tests that verify operations on real backends and writes what they have seen to conformance/evidence.json,
# from which `babelvisor coverage` and the README's table are made. Only operations that a passing test called are in it.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$REPO"

SEEN=$(mktemp -d)
trap 'rm -rf "$SEEN"' EXIT
BABELVISOR_EVIDENCE=$SEEN cargo test --locked -p babelvisor --test life

COMMIT=$(git rev-parse --short=12 HEAD)
cat "$SEEN"/*.jsonl | jq -s --arg commit "$COMMIT" --arg date "$(date -u +%F)" '
  reduce .[] as $row ({};
    .[$row.dialect][$row.id][$row.backend] += [{setup: $row.setup, run: $row.run, commit: $commit, date: $date}])
' --sort-keys >conformance/evidence.json
say "wrote conformance/evidence.json from $(cat "$SEEN"/*.jsonl | wc -l) observations on $COMMIT"
