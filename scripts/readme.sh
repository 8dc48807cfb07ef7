#!/usr/bin/env bash
# Writes the tables that `babelvisor coverage` prints into the coverage page, and the first of them into the README.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$REPO"
TABLES=$(cargo run --locked -q -p babelvisor -- coverage --format markdown)
put() { TEXT=$2 perl -0pi -e 's/(<!-- coverage:begin -->\n).*?(<!-- coverage:end -->)/$1$ENV{TEXT}\n$2/s' "$1"; }
put docs/coverage.md "$TABLES"
put README.md "${TABLES%%$'\n\n'*}"
