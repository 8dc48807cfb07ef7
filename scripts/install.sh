#!/usr/bin/env bash
# Installs what building and testing need on Debian 12 or 13, and only what is missing.
#
#   install.sh      needs root or sudo if something is missing; does nothing, quickly, if nothing is
#
# No service is started: what the tests need they start themselves, with their own configuration. Files in /etc/libvirt
# are never written, packages excepted.
set -euo pipefail
. "$(dirname "$0")/common.sh"

PACKAGES=(
    # to build
    gcc libc6-dev libvirt-dev pkg-config make ca-certificates
    # to test with real guests
    libvirt-daemon-system libvirt-clients qemu-system-x86 qemu-utils ovmf dnsmasq-base iptables iproute2
    redis-server genisoimage util-linux mount procps xz-utils zstd
    # for the demo
    curl jq
)
RUST_NEEDED=$(sed -n 's/^rust-version *= *"\(.*\)"/\1/p' "$REPO/Cargo.toml")

installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# -- Debian packages -------------------------------------------------------------------------------------------------
MISSING=()
if have dpkg-query; then
    for package in "${PACKAGES[@]}"; do installed "$package" || MISSING+=("$package"); done
else
    for tool in cc pkg-config virsh libvirtd qemu-system-x86_64 qemu-img redis-server curl jq; do
        have $tool || fail "missing: $tool. This script knows Debian only; please install it yourself (and libvirt's headers)."
    done
fi

POLICY=/usr/sbin/policy-rc.d
SAVED=$POLICY.before-babelvisor
forbid_starts() {
    if [ -e $POLICY ]; then as_root mv $POLICY $SAVED; fi
    printf '#!/bin/sh\n# Temporary, by babelvisor/scripts/install.sh: packages shall not start services.\nexit 101\n' |
        as_root tee $POLICY >/dev/null
    as_root chmod 755 $POLICY
    trap allow_starts EXIT
}
allow_starts() {
    trap - EXIT
    as_root rm -f $POLICY
    if [ -e $SAVED ]; then as_root mv $SAVED $POLICY; fi
}

apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=600 \
        install --no-install-recommends "$@" </dev/null
}

# Some machines carry qemu-utils from backports, newer than the emulator that Debian offers; both must be of one version.
same_version_of_qemu() {
    local wanted package
    wanted=$(apt-cache policy qemu-system-x86 | awk '/Candidate:/ { print $2 }')
    for package in qemu-utils qemu-block-extra; do
        if installed $package && [ "$(dpkg-query -W -f '${Version}' $package)" != "$wanted" ]; then
            printf '%s=%s\n' $package "$wanted"
        fi
    done
}

install_missing() {
    apt_install "${MISSING[@]}" && return
    local pins; mapfile -t pins < <(same_version_of_qemu)
    [ ${#pins[@]} -gt 0 ] || return
    say "install: bringing ${pins[*]} to the version of the emulator"
    local others=() package
    for package in "${MISSING[@]}"; do [ "$package" = qemu-utils ] || others+=("$package"); done
    apt_install --allow-downgrades "${others[@]}" "${pins[@]}"
}

if [ ${#MISSING[@]} -gt 0 ]; then
    say "install: missing ${MISSING[*]}"
    as_root true || fail "needs root or sudo without a password. As root, run: apt-get install --no-install-recommends ${MISSING[*]}"
    forbid_starts
    if ! apt-cache show "${MISSING[0]}" >/dev/null 2>&1 || ! install_missing; then
        # No package lists, or lists that name files which are gone: fetch them and try once more.
        as_root apt-get -q -o DPkg::Lock::Timeout=600 update </dev/null || fail "apt-get update failed: is there a package mirror?"
        install_missing || fail "apt-get could not install ${MISSING[*]}; its messages are above"
    fi
    allow_starts
fi

# -- Rust ------------------------------------------------------------------------------------------------------------
rust_version() { rustc --version 2>/dev/null | awk '{ print $2 }' | cut -d- -f1; }
at_least() { [ -n "$1" ] && [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -1)" = "$2" ]; }
candidate() { apt-cache policy "$1" 2>/dev/null | awk '/Candidate:/ { print $2 }' | cut -d+ -f1; }

if ! have cargo || ! at_least "$(rust_version)" "$RUST_NEEDED"; then
    if have apt-get && as_root true; then
        if at_least "$(candidate rustc | sed 's/^(none)$//')" "$RUST_NEEDED"; then
            apt_install cargo rustc rustfmt rust-clippy || true
        elif ! have rustup && installed_candidate=$(candidate rustup) && [ -n "$installed_candidate" ] && [ "$installed_candidate" != "(none)" ]; then
            apt_install rustup || true
        fi
        if have rustup; then rustup toolchain install stable --profile minimal -c rustfmt -c clippy </dev/null || true; fi
    fi
    hash -r
    at_least "$(rust_version)" "$RUST_NEEDED" ||
        fail "Rust $RUST_NEEDED or newer is needed and $(rust_version | sed 's/^$/none/;t;s/.*/only &/') was found. Debian's own is older; install it from https://rustup.rs and run this again."
fi

say "install: all is present (Rust $(rust_version), QEMU $(qemu-system-x86_64 --version | awk 'NR == 1 { print $4 }'), libvirt $(libvirtd --version | awk '{ print $3 }'))"
