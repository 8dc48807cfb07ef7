#!/usr/bin/env bash
# Writes the tables that `babelvisor coverage` prints into the README.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$REPO"
TABLES=$(cargo run --locked -q -p babelvisor -- coverage --format markdown)
TABLES=$TABLES perl -0pi -e 's/(<!-- coverage:begin -->\n).*?(<!-- coverage:end -->)/$1$ENV{TABLES}\n$2/s' README.md
