#!/usr/bin/env bash
# A libvirtd of one's own, for tests and the demo, that leaves no trace on the machine.
#
#   private-libvirtd.sh run   DIR [OPTION...]            in the foreground until standard input ends or SIGTERM; removes DIR
#   private-libvirtd.sh start DIR [OPTION...]            in the background; prints the URIs when ready
#   private-libvirtd.sh stop  DIR                        ends the daemon and all its guests; removes DIR
#   private-libvirtd.sh daemon DIR                       starts libvirtd again after it was killed; guests live on
#   private-libvirtd.sh exec  DIR COMMAND...             runs a command inside (to reach a guest's address or VNC port)
#   private-libvirtd.sh pid   DIR [GUEST]                prints the process id of libvirtd or of a guest, as seen from outside
#
# Everything lives in DIR: configuration, sockets, state, logs, a pool `default` (DIR/pool) and, where bridges can be
# made, a network `default` with DHCP. DIR is mounted over /etc/libvirt, /var/lib/libvirt and so on in a private mount
# namespace, so the machine's own libvirt is neither read nor touched. A process namespace ends everything at once: its
# first process reaps dead QEMUs (without a reaper, destroying a guest takes up to 80 s), and when it goes, all go.
# `--net private` (the default) adds a network namespace: bridges and firewall rules vanish with it. `--net host` uses
# the machine's network so that VNC ports can be reached from outside; its bridge is removed at the end.
# `--driver test` needs no QEMU: only libvirt's test driver is served.
# Guests are emulated (TCG) and /dev/kvm is hidden, so that they behave the same on every machine. `--kvm` shows it where
# hardware virtualisation really works.
set -euo pipefail
. "$(dirname "$0")/common.sh"

usage() { sed -n '4,9s/^# *//p' "$0" >&2; exit 2; }

[ $# -ge 2 ] || usage
ACTION=$1; DIR=$2; shift 2
URI_QEMU="qemu+unix:///system?socket=$DIR/run/libvirt-sock"
URI_TEST="test+unix:///default?socket=$DIR/run/libvirt-sock"

driver() { cat "$DIR/driver" 2>/dev/null || echo qemu; }
quiet_virsh() { if [ "$(driver)" = test ]; then virsh -q -c "$URI_TEST" "$@"; else virsh -q -c "$URI_QEMU" "$@"; fi; }

init_pid() { cat "$DIR/init.pid" 2>/dev/null; }

alive() { local pid; pid=$(init_pid) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; }

# Enters the namespaces of the running instance.
inside() {
    local pid flags=(--mount --pid)
    pid=$(init_pid) || fail "nothing runs in $DIR"
    [ "$(cat "$DIR/net")" = private ] && flags+=(--net)
    nsenter --target "$pid" "${flags[@]}" --wd="$DIR" -- "$@"
}

check_prerequisites() {
    # libvirtd sets groups for each QEMU, which an unprivileged user namespace does not allow.
    [ "$(id -u)" -eq 0 ] || fail "needs root for namespaces of its own; run it, or the whole of make, with sudo"
    local tool missing=() needed=(libvirtd virsh unshare nsenter)
    [ "$(driver)" = test ] || needed+=(qemu-system-x86_64 qemu-img)
    for tool in "${needed[@]}"; do
        have "$tool" || missing+=("$tool")
    done
    [ ${#missing[@]} -eq 0 ] || fail "missing: ${missing[*]}. Run scripts/install.sh."
    case $DIR in
        /run/*|/var/lib/libvirt*|/var/cache/libvirt*|/var/log/libvirt*|/etc/libvirt*)
            fail "$DIR is under a directory that is hidden inside; choose another, for example under /tmp" ;;
        /*) ;;
        *) fail "the directory must be an absolute path, got '$DIR'" ;;
    esac
    # sockaddr_un holds 107 bytes.
    [ ${#DIR} -le 80 ] || fail "the path $DIR is too long for a socket; use at most 80 characters"
}

# Capabilities of a QEMU binary take 2 to 12 s to probe and are kept by libvirt in a cache. The cache is shared between
# instances by copying, so that two daemons never write the same file.
capability_cache() {
    local key
    key=$(stat -Lc '%s-%Y' "$(command -v libvirtd)" "$(command -v qemu-system-x86_64 || command -v libvirtd)" | tr '\n' '-')$(uname -r)-kvm-$(cat "$DIR/kvm")
    printf '%s/capabilities/%s\n' "$(cache_dir)" "$key"
}

write_configuration() {
    mkdir -p "$DIR"/{etc/qemu,lib,run,cache,log/serial,pool}
    chmod 711 "$DIR"
    # Readable by root only.
    if [ -r /etc/libvirt/nwfilter/clean-traffic.xml ]; then cp -r /etc/libvirt/nwfilter "$DIR/etc/"; fi
    local warm; warm=$(capability_cache)
    [ -d "$warm" ] && cp -rp "$warm/." "$DIR/cache/"
    # A host id of its own, else two daemons on one machine refuse to migrate between each other.
    cat >"$DIR/etc/libvirtd.conf" <<CONF
host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
auth_unix_ro = "none"
auth_unix_rw = "none"
max_client_requests = 32
log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
CONF
    # user root: with any other user an inaccessible /dev/kvm makes libvirt probe QEMU again at every call (92 s).
    # No cgroups, no device namespaces: neither can be had in containers and nothing here needs them.
    cat >"$DIR/etc/qemu.conf" <<CONF
user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
stdio_handler = "file"
cgroup_controllers = [ ]
namespaces = [ ]
vnc_listen = "127.0.0.1"
CONF
    cat >"$DIR/pool.xml" <<XML
<pool type='dir'><name>default</name><target><path>$DIR/pool</path></target></pool>
XML
}

# The first process of the namespace: sets up the mounts, then only reaps, until its standard input ends.
namespace_init() {
    mount -t tmpfs -o mode=755 tmpfs /run
    mkdir -p /run/libvirt /run/lock
    # Fresh sysfs, so that libvirt sees the interfaces of this network namespace.
    if [ "$(cat "$DIR/net")" = private ]; then
        mount -t sysfs sysfs /sys 2>/dev/null || true
        ip link set lo up
    fi
    local pair
    for pair in etc:/etc/libvirt lib:/var/lib/libvirt run:/run/libvirt cache:/var/cache/libvirt log:/var/log/libvirt; do
        mount --bind "$DIR/${pair%%:*}" "${pair#*:}"
    done
    [ "$(cat "$DIR/kvm")" = yes ] || hide_kvm
    echo ready >"$DIR/namespace"
    # bash reaps every child that it inherits while it waits here.
    while read -r _; do :; done
}

network_xml() {
    local octet=150 bridge=virbr0
    if [ "$(cat "$DIR/net")" = host ]; then
        bridge=bv$(printf '%s' "$DIR" | cksum | cut -c1-8)
        while ip -4 route | grep -q "192\.168\.$octet\."; do octet=$((octet + 1)); done
    fi
    echo "$bridge" >"$DIR/bridge"
    # Mode open: no firewall rules, nothing to clean up. No spanning tree: it would delay the first lease by seconds.
    cat <<XML
<network><name>default</name><forward mode='open'/><bridge name='$bridge' stp='off' delay='0'/>
<ip address='192.168.$octet.1' netmask='255.255.255.0'><dhcp><range start='192.168.$octet.10' end='192.168.$octet.250'/></dhcp></ip></network>
XML
}

# /dev/kvm may be there and still be of no use (nested guests without vmx or svm): QEMU must come up on it.
kvm_works() {
    grep -qwE 'vmx|svm' /proc/cpuinfo && [ -r /dev/kvm ] && [ -w /dev/kvm ] &&
        echo '{"execute":"qmp_capabilities"}{"execute":"quit"}' |
            timeout 10 qemu-system-x86_64 -accel kvm -cpu host -machine q35 -nodefaults -display none -S -qmp stdio >/dev/null 2>&1
}

# A /dev without kvm. Removing access is not enough: root has it always, and libvirt would probe QEMU at every call.
hide_kvm() {
    local name new=$DIR/dev
    mkdir -p "$new"
    mount -t tmpfs -o mode=755 tmpfs "$new"
    for name in null zero full random urandom tty console vhost-net loop-control pts shm net hugepages mqueue; do
        if [ -L "/dev/$name" ]; then cp -P "/dev/$name" "$new/"
        elif [ -d "/dev/$name" ]; then mkdir "$new/$name" && mount --rbind "/dev/$name" "$new/$name"
        elif [ -e "/dev/$name" ]; then : >"$new/$name" && mount --bind "/dev/$name" "$new/$name"; fi
    done
    ln -s /proc/self/fd "$new/fd"
    # Made, not mounted: the kernel looks for pts beside it.
    mknod -m 666 "$new/ptmx" c 5 2
    mount --move "$new" /dev
}

# Starts libvirtd inside; it goes into the background by itself. Its standard files are closed to the caller's pipes.
start_daemon() {
    rm -f "$DIR/run/libvirtd.pid"
    inside libvirtd --daemon --config /etc/libvirt/libvirtd.conf --pid-file /run/libvirt/libvirtd.pid \
        </dev/null >>"$DIR/log/daemon.out" 2>&1 || { tail -5 "$DIR/log/daemon.out" >&2; fail "libvirtd did not start"; }
    local tries=0
    until quiet_virsh version >/dev/null 2>"$DIR/log/ready.err"; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] && alive || { cat "$DIR/log/ready.err" >&2; fail "libvirtd did not answer in 60 s; see $DIR/log"; }
        sleep 0.1
    done
    # The test driver forgets everything when its last client leaves: hold one connection, so that the state lives as long
    # as the daemon does.
    : >"$DIR/holder.out"
    inside virsh -q -c "$URI_TEST" "hostname; event --event lifecycle --loop" \
        </dev/null >"$DIR/holder.out" 2>"$DIR/log/holder.err" &
    until [ -s "$DIR/holder.out" ]; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] && alive || fail "the test driver does not answer; see $DIR/log"
        sleep 0.05
    done
}

set_up() {
    start_daemon
    if [ "$(driver)" = test ]; then announce none; return; fi
    quiet_virsh "pool-define $DIR/pool.xml; pool-autostart default; pool-start default" >/dev/null
    network_xml >"$DIR/network.xml"
    if quiet_virsh "net-define $DIR/network.xml; net-autostart default; net-start default" >/dev/null 2>"$DIR/log/network.err"
    then echo default >"$DIR/network"
    else
        quiet_virsh net-undefine default >/dev/null 2>&1 || true
        echo none >"$DIR/network"
    fi
    local warm; warm=$(capability_cache)
    if [ ! -d "$warm" ] && [ -d "$DIR/cache/qemu" ]; then
        quiet_virsh capabilities >/dev/null
        mkdir -p "$(dirname "$warm")"
        cp -rp "$DIR/cache" "$warm.$$" && { mv -T "$warm.$$" "$warm" 2>/dev/null || rm -rf "$warm.$$"; }
    fi
    announce "$(cat "$DIR/network")"
}

announce() {
    printf '%s\n' "$URI_QEMU" >"$DIR/uri"
    # Written last and by rename: whoever waits for it sees it whole.
    printf 'qemu=%s\ntest=%s\nnetwork=%s\n' "$URI_QEMU" "$URI_TEST" "$1" >"$DIR/ready.new"
    mv "$DIR/ready.new" "$DIR/ready"
}

clean_up() {
    trap - EXIT
    local pid; pid=$(init_pid) || pid=
    if [ -n "$pid" ]; then
        kill -9 "$pid" 2>/dev/null || true
        local tries=0
        while kill -0 "$pid" 2>/dev/null && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
    fi
    if [ "$(cat "$DIR/net" 2>/dev/null)" = host ] && [ -s "$DIR/bridge" ]; then
        ip link delete "$(cat "$DIR/bridge")" 2>/dev/null || true
    fi
    rm -rf "$DIR"
}

# Runs in the foreground: the namespace reads our standard input, so it ends when whoever holds the other end ends.
run() {
    local net=private kind=qemu kvm=no
    while [ $# -gt 0 ]; do
        case $1 in
            --net) net=${2:-}; shift 2 ;;
            --driver) kind=${2:-}; shift 2 ;;
            --kvm) kvm=yes; shift ;;
            *) usage ;;
        esac
    done
    case $net in private|host) ;; *) fail "--net takes private or host, got '$net'" ;; esac
    case $kind in qemu|test) ;; *) fail "--driver takes qemu or test, got '$kind'" ;; esac
    [ ! -e "$DIR/init.pid" ] || fail "$DIR is in use; stop it first"
    mkdir -p "$DIR"
    echo "$net" >"$DIR/net"
    echo "$kind" >"$DIR/driver"
    trap clean_up EXIT
    check_prerequisites
    local flags=(--mount --pid --fork --kill-child --mount-proc)
    [ "$net" = private ] && flags+=(--net)
    if [ $kvm = yes ] && ! kvm_works; then kvm=no; fi
    echo $kvm >"$DIR/kvm"
    write_configuration
    trap 'exit 0' TERM INT HUP
    # Child processes in the background get /dev/null as standard input unless it is passed under another number.
    exec 3<&0
    unshare "${flags[@]}" -- "$0" namespace-init "$DIR" <&3 >"$DIR/log/namespace.out" 2>&1 &
    local outer=$! tries=0 init
    until [ -s "$DIR/namespace" ]; do
        tries=$((tries + 1))
        if ! kill -0 $outer 2>/dev/null || [ $tries -gt 200 ]; then
            cat "$DIR/log/namespace.out" >&2
            fail "this machine does not allow private mount and process namespaces (in a container: add CAP_SYS_ADMIN)"
        fi
        sleep 0.05
    done
    init=$(pgrep -P $outer | head -1)
    [ -n "$init" ] || fail "the namespace ended at once"
    echo "$init" >"$DIR/init.pid"
    set_up
    cat "$DIR/ready"
    wait $outer || true
}

start() {
    [ ! -e "$DIR/init.pid" ] || fail "$DIR is in use; stop it first"
    case $DIR in /*) ;; *) fail "the directory must be an absolute path, got '$DIR'" ;; esac
    mkdir -p "$DIR"
    # Not in DIR, which is gone when the start fails.
    local log; log=$(mktemp)
    trap "rm -f '$log'" EXIT
    # A pipe that it holds open by itself as standard input: it ends only when it is told to.
    setsid bash -c 'mkfifo "$1/hold" && exec "$0" run "$@" <>"$1/hold"' "$0" "$DIR" "$@" >"$log" 2>&1 &
    local supervisor=$! tries=0
    until [ -e "$DIR/ready" ]; do
        tries=$((tries + 1))
        if ! kill -0 $supervisor 2>/dev/null || [ $tries -gt 1200 ]; then
            cat "$log" >&2
            [ -e "$DIR/init.pid" ] || rm -rf "$DIR"
            fail "could not start in $DIR"
        fi
        sleep 0.1
    done
    echo $supervisor >"$DIR/supervisor.pid"
    cat "$DIR/ready"
}

stop() {
    [ -d "$DIR" ] || return 0
    local pid=
    [ -s "$DIR/supervisor.pid" ] && pid=$(cat "$DIR/supervisor.pid")
    [ -n "$pid" ] && kill "$pid" 2>/dev/null || true
    # The supervisor cleans up, the directory last; where it is gone already, we do.
    local tries=0
    while [ -n "$pid" ] && [ -d "$DIR" ] && kill -0 "$pid" 2>/dev/null && [ $tries -lt 200 ]; do
        sleep 0.05
        tries=$((tries + 1))
    done
    [ -d "$DIR" ] && clean_up
    return 0
}

# A process id inside, from the file that libvirt wrote, as the id that the rest of the machine knows.
outer_pid() {
    local file=$DIR/run/libvirtd.pid what=libvirtd namespace inner status
    [ -z "${1:-}" ] || { file=$DIR/run/qemu/$1.pid; what="guest $1"; }
    namespace=$(init_pid) || fail "nothing runs in $DIR"
    inner=$(cat "$file" 2>/dev/null) || fail "$what does not run in $DIR"
    # The last number of NSpid is the id inside; the namespace must be ours.
    for status in $(grep -lE "^NSpid:.*[[:space:]]$inner\$" /proc/[0-9]*/status 2>/dev/null); do
        if [ "$(readlink "${status%status}ns/pid")" = "$(readlink "/proc/$namespace/ns/pid")" ]; then
            status=${status#/proc/}
            echo "${status%/status}"
            return 0
        fi
    done
    fail "$what does not run in $DIR"
}

case $ACTION in
    run) run "$@" ;;
    start) start "$@" ;;
    stop) stop ;;
    daemon) start_daemon ;;
    exec) inside "$@" ;;
    pid) outer_pid "$@" ;;
    namespace-init) namespace_init ;;
    *) usage ;;
esac
