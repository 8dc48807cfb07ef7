#!/usr/bin/env bash
# Everything that must be green before a change goes in; what continuous integration runs.
#
#   test.sh            install what is missing, format, lints, all tests
#   test.sh --long     also the suites that take long (BABELVISOR_LONG=1), licences and sources of crates
#
# Needs no terminal and no network beyond Debian packages and crates.
set -uo pipefail
. "$(dirname "$0")/common.sh"
cd "$REPO"
exec </dev/null

LONG=0
case ${1:-} in
    '') ;;
    --long) LONG=1; export BABELVISOR_LONG=1 ;;
    *) sed -n '4,5s/^# *//p' "$0" >&2; exit 2 ;;
esac

SUMMARY=()
BEGAN=$SECONDS

finish() {
    local verdict=$1 text='' part
    for part in ${SUMMARY[@]+"${SUMMARY[@]}"}; do text="$text${text:+, }$part"; done
    say "== $verdict in $((SECONDS - BEGAN)) s: $text"
    [ "$verdict" = passed ] && exit 0
    exit 1
}

# A step that fails ends the run: what follows would only hide it.
step() {
    local name=$1 start=$SECONDS; shift
    say "== $name: $*"
    if "$@"; then SUMMARY+=("$name $((SECONDS - start)) s")
    else SUMMARY+=("$name FAILED after $((SECONDS - start)) s"); finish FAILED; fi
}

have_docs_tests() { grep -rqE '^[[:space:]]*//[/!] ```' --include='*.rs' core schemas frontends backends conformance gateway; }

cargo_deny() {
    have cargo-deny || cargo install cargo-deny --locked || return
    cargo deny check bans licenses sources
}

step install scripts/install.sh
step format cargo fmt --all --check
step lints cargo clippy --locked --workspace --all-targets --features babelvisor-conformance/bench -- -D warnings
# Built once and before the tests: several test programs would otherwise build it at the same time.
step guest scripts/guest-image.sh "$REPO/.work/guest"

if cargo nextest --version >/dev/null 2>&1; then
    # nextest gives each test a process of its own; the kit's checks share one hypervisor, and would start it for each.
    step tests cargo nextest run --locked --workspace --no-fail-fast -E 'not binary(kit)'
    step kit cargo test --locked --workspace --test kit
    if have_docs_tests; then step doc-tests cargo test --locked --workspace --doc; fi
else
    ARGUMENTS=(--locked --workspace --no-fail-fast)
    have_docs_tests || ARGUMENTS+=(--all-targets)
    step tests cargo test "${ARGUMENTS[@]}"
fi

[ $LONG -eq 0 ] || step crates cargo_deny
finish passed
