# Shared by all scripts here: where things are kept, and how a script speaks.
# Sourced, never run.

REPO=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say()  { printf '%s\n' "$*"; }
fail() { printf '%s: %s\n' "$(basename "$0")" "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# One cache for everything that is slow to make and safe to throw away: guest images, downloaded packages,
# libvirt's knowledge of the QEMU binary.
cache_dir() {
    local dir
    if [ -n "${XDG_CACHE_HOME:-}" ]; then dir=$XDG_CACHE_HOME/babelvisor
    elif [ -n "${HOME:-}" ] && [ -w "$HOME" ]; then dir=$HOME/.cache/babelvisor
    else dir=${TMPDIR:-/tmp}/babelvisor-cache-$(id -u); fi
    mkdir -p "$dir" && printf '%s\n' "$dir"
}

# Daemons live in sbin, which is not on everybody's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
# rustup's directory is missing on the PATH of shells that are no login shells.
[ -z "${HOME:-}" ] || [ ! -d "$HOME/.cargo/bin" ] || PATH=$HOME/.cargo/bin:$PATH
export PATH

# Runs a command as root: directly, or through sudo without asking for a password.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"
    elif have sudo && sudo -n true 2>/dev/null; then sudo -n "$@"
    else return 126; fi
}
