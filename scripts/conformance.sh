#!/usr/bin/env bash
# Runs the conformance suite on every set-up: the scenarios of all built dialects and the backend kit on the memory
# backend, libvirt's test driver and QEMU, and the test that leads VMs through their whole life. Leaves the reports in
# .work/conformance/ (begin with index.html), and, if all passed, writes what was verified to conformance/evidence.json,
# from which `babelvisor coverage` and the README's table are made. Only operations that these runs called are in it.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$REPO"
exec </dev/null

REPORTS=$REPO/.work/conformance
LEDGER=conformance/evidence.json
SEEN=$(mktemp -d)
trap 'rm -rf "$SEEN"' EXIT
scripts/install.sh
rm -rf "$REPORTS"
mkdir -p "$REPORTS"
export BABELVISOR_CONFORMANCE_REPORTS=$REPORTS BABELVISOR_EVIDENCE=$SEEN

# What fails shall not keep the others from being reported.
FAILED=()
run() { say "== $*"; "$@" || FAILED+=("$*"); }
run cargo test --locked -p babelvisor --test conformance
run cargo test --locked -p babelvisor --test life
run cargo test --locked -p babelvisor-memory --test kit
run cargo test --locked -p babelvisor-libvirt --test kit

# One page that leads to all reports.
index() {
    cat <<'HTML'
<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Babelvisor conformance</title><style>
body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;padding:0 1em}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25em .8em;border-bottom:1px solid #8884}
.failed{color:#c22;font-weight:bold}</style></head><body><h1>Conformance</h1>
<table><tr><th>report</th><th>began</th><th>passed</th><th>failed</th><th>skipped</th></tr>
HTML
    local file page
    for file in "$REPORTS"/*.json; do
        [ -e "$file" ] || continue
        page=$(basename "$file" .json)
        if [ -e "$REPORTS/$page.html" ]; then page=$page.html; else page=$page.txt; fi
        jq -r --arg page "$page" '
            (if .totals then [.started, .totals.passed, .totals.failed, .totals.skipped]
             else [.began, .passed, (.failed | length), .skipped + .known] end) as [$began, $passed, $failed, $skipped]
            | (if .totals then "\(.dialect) on \(.label)" else "backend kit: \($page | ltrimstr("kit-") | rtrimstr(".txt"))" end) as $name
            | "<tr><td><a href=\"\($page | @uri)\">\($name | @html)</a></td><td>\($began | @html)</td><td>\($passed)</td>"
              + "<td\(if $failed > 0 then " class=\"failed\"" else "" end)>\($failed)</td><td>\($skipped)</td></tr>"' "$file"
    done
    say '</table></body></html>'
}
index >"$REPORTS/index.html"
say "reports: $REPORTS/index.html"

if [ ${#FAILED[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${FAILED[@]}" >&2
    fail "$LEDGER is left as it was"
fi

COMMIT=$(git rev-parse --short=12 HEAD)
git diff --quiet HEAD -- . ":!$LEDGER" ':!README.md' || COMMIT="$COMMIT with changes"
cat "$SEEN"/*.jsonl | jq -s --arg commit "$COMMIT" --arg date "$(date -u +%F)" '
  reduce .[] as $row ({};
    .[$row.dialect][$row.id][$row.backend] +=
      [{setup: $row.setup, run: $row.run, commit: $commit, date: $date}
       + if $row.report then {report: $row.report} else {} end])
' --sort-keys >"$SEEN/ledger.json"
# A cell that was verified and is not any more may be meant, but must not go unseen.
jq -rn --slurpfile old "$LEDGER" --slurpfile new "$SEEN/ledger.json" '
  def cells: [to_entries[] | .key as $dialect | .value | to_entries[] | .key as $id | .value | to_entries[]
              | .key as $backend | .value[] | "\($dialect) \($id), \($backend): \(.setup)"] | unique;
  ($old[0] | cells) - ($new[0] | cells) | .[] | "verified before and not any more: \(.)"'
cp "$SEEN/ledger.json" "$LEDGER"
scripts/readme.sh
say "wrote $LEDGER from $(cat "$SEEN"/*.jsonl | wc -l) observations on $COMMIT, and the README's table from it"
