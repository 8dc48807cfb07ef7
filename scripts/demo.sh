#!/usr/bin/env bash
# Shows the gateway's main job on this machine, and leaves it running; `make demo-stop` ends and removes all.
#
#   demo.sh      installs what is missing, builds, starts a private libvirtd and the gateway, then makes, reads, stops and
#                deletes VMs across four dialects; every call is printed as a curl line that can be pasted
#
# DEMO_PORT and DEMO_ADMIN_PORT choose other ports than 8080 and 9080.
set -euo pipefail
. "$(dirname "$0")/common.sh"
cd "$REPO"

PORT=${DEMO_PORT:-8080}
ADMIN_PORT=${DEMO_ADMIN_PORT:-9080}
STATE=$REPO/.work/demo
# In /tmp, because the path of a socket must be short.
LIBVIRT=/tmp/babelvisor-demo-$(printf '%s' "$REPO" | cksum | cut -d' ' -f1)
BASE=http://127.0.0.1:$PORT
GUEST=$BASE/api
PVE=$BASE/v1/pve/open
ZSTACK=$BASE/zstack/v1
COMPUTE=$BASE/v1/compute
PASSWORD=Demo-tide-42
ACCOUNT=A10000001
TOKEN=
SESSION=
BEARER=

head_line() { printf '\n\033[1m%s\033[0m\n' "$*"; }

# -- calls ---------------------------------------------------------------------------------------------------------
ANSWER=
# Prints the call as one curl line and its answer, and keeps the answer.
show() {
    local method=$1 url=$2 body=${3:-} line='curl -sS' command=(curl -sS)
    if [ "$method" != GET ]; then line+=" -X $method"; command+=(-X "$method"); fi
    credential "$url"
    if [ -n "$CREDENTIAL" ]; then
        line+=" -H \"$SHOWN\""
        command+=(-H "$CREDENTIAL")
    fi
    if [ -n "$body" ]; then
        line+=" -H 'Content-Type: application/json' -d '$body'"
        command+=(-H 'Content-Type: application/json' -d "$body")
    fi
    printf "  \$ %s '%s'\n" "$line" "$url"
    ANSWER=$("${command[@]}" --max-time 60 "$url")
    printf '    %s\n' "$(cut -c1-400 <<<"$ANSWER")"
}

# The header that a dialect's sign-in gave, and how it is printed.
credential() {
    CREDENTIAL= SHOWN=
    case $1 in
        "$PVE"*) CREDENTIAL="Finovy-Access-Token: $TOKEN" SHOWN='Finovy-Access-Token: $TOKEN' ;;
        "$ZSTACK"*) CREDENTIAL="Authorization: OAuth $SESSION" SHOWN='Authorization: OAuth $SESSION' ;;
        "$BASE/v1/"*) CREDENTIAL="Authorization: Bearer $BEARER" SHOWN='Authorization: Bearer $BEARER' ;;
    esac
}

# A GET without a word, for waiting.
quiet() {
    credential "$1"
    ANSWER=$(curl -sS --max-time 60 ${CREDENTIAL:+-H "$CREDENTIAL"} "$1" 2>/dev/null) || ANSWER=
}

# Guest REST has no sign-in and therefore listens on loopback only; the others have one account, each in its own way.
sign_in() {
    head_line "Signed in to ZStack (SHA-512 of the password) and /v1/compute (MD5)"
    local hash body
    hash=$(printf '%s' "$SECRET" | sha512sum | cut -d' ' -f1)
    body='{"logInByAccount":{"accountName":"'$ACCOUNT'","password":"'$hash'"}}'
    printf "  \$ SESSION=\$(curl -sS -X PUT -H 'Content-Type: application/json' -d '%s' '%s' | jq -r .inventory.uuid)\n" "$body" "$ZSTACK/accounts/login"
    ANSWER=$(curl -sS --max-time 60 -X PUT -H 'Content-Type: application/json' -d "$body" "$ZSTACK/accounts/login")
    SESSION=$(jq -r '.inventory.uuid? // empty' <<<"$ANSWER" 2>/dev/null) || SESSION=
    [ -n "$SESSION" ] || fail "the ZStack login gave no session but: $ANSWER"
    hash=$(printf '%s' "$SECRET" | md5sum | cut -d' ' -f1)
    body='{"tenant":"default","user":"'$ACCOUNT'","password":"'$hash'"}'
    printf "  \$ BEARER=\$(curl -sS -d '%s' '%s' | jq -r .data.token)\n" "$body" "$BASE/v1/authentication/login"
    ANSWER=$(curl -sS --max-time 60 -d "$body" "$BASE/v1/authentication/login")
    BEARER=$(jq -r '.data.token? // empty' <<<"$ANSWER" 2>/dev/null) || BEARER=
    [ -n "$BEARER" ] || fail "the /v1/compute login gave no token but: $ANSWER"

    head_line "A token for pve-open"
    local body='{"uuid":"'$ACCOUNT'","secret":"'$SECRET'"}'
    printf "  \$ TOKEN=\$(curl -sS -H 'Content-Type: application/json' -d '%s' '%s' | jq -r .data.token)\n" "$body" "$BASE/v1/auth/getToken"
    ANSWER=$(curl -sS --max-time 60 -H 'Content-Type: application/json' -d "$body" "$BASE/v1/auth/getToken")
    TOKEN=$(jq -r '.data.token? // empty' <<<"$ANSWER" 2>/dev/null) || TOKEN=
    [ -n "$TOKEN" ] || fail "getToken gave no token but: $ANSWER"
}

expect() {
    local what=$1 filter=$2
    jq -e "$filter" >/dev/null 2>&1 <<<"$ANSWER" || fail "$what: not what the answer above says"
}

# Repeats a GET until the jq filter holds for its answer; then shows it once.
await() {
    local what=$1 url=$2 filter=$3 seconds=${4:-60} end
    end=$((SECONDS + seconds))
    quiet "$url"
    until jq -e "$filter" >/dev/null 2>&1 <<<"$ANSWER"; do
        [ $SECONDS -lt $end ] || { printf '    %s\n' "$(cut -c1-400 <<<"$ANSWER")"; fail "$what did not happen within $seconds s"; }
        sleep 0.3
        quiet "$url"
    done
    show GET "$url"
}

guest_named() { printf '%s/guests?filter=name:eq:%s' "$GUEST" "$1"; }
pve_page=$PVE'/mypage?page=1&pageSize=25'

# A guest that has not booted yet ignores the power button: wait for its address, where it gets one.
await_booted() {
    [ "$REAL" = yes ] || return 0
    local end=$((SECONDS + 40))
    until virsh -q -c "$URI" domifaddr "$1" 2>/dev/null | grep -q ipv4; do
        [ $SECONDS -lt $end ] || return 0
        sleep 0.5
    done
}

# -- start ---------------------------------------------------------------------------------------------------------
port_is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

start_libvirt() {
    head_line "A private libvirtd with QEMU"
    if "$REPO/scripts/private-libvirtd.sh" start "$LIBVIRT" --net host --kvm; then
        REAL=yes
        URI=$(cat "$LIBVIRT/uri")
        if [ "$(cat "$LIBVIRT/kvm")" = yes ]; then say "guests run on KVM"
        else say "guests are emulated (TCG): hardware virtualisation is missing here or does not work"; fi
        "$REPO/scripts/guest-image.sh" "$LIBVIRT/pool" >/dev/null
        virsh -q -c "$URI" pool-refresh default
    elif "$REPO/scripts/private-libvirtd.sh" start "$LIBVIRT" --net private --driver test; then
        REAL=no
        say "NOTE: QEMU cannot be used here. What follows runs on libvirt's TEST DRIVER: it behaves like a"
        say "      hypervisor, but there are no real machines behind it."
        URI=$(sed -n 's/^test=//p' "$LIBVIRT/ready")
        virsh -q -c "$URI" vol-create-as default-pool tiny.qcow2 64M --format qcow2
    else
        fail "no private libvirtd can be started here; the reason is printed above"
    fi
    POOL=default; [ "$REAL" = yes ] || POOL=default-pool
}

# What the gateway sells: one image, two packages. Written by the demo so that nobody has to.
write_catalogue() {
    cat >"$STATE/catalogue.toml" <<TOML
[[image]]
name = "Tiny test guest"
number = 1
os = "Debian"
os_version = "tiny"
family = "BZ"
admin_user = "root"
native = "$POOL/tiny.qcow2"
format = "qcow2"

[[flavor]]
name = "small, by the hour"
vcpus = 1
memory_mib = 1024
disk_gib = 1
price = 0.5
family = "BZ"
billing = "hourly"

[[flavor]]
name = "small, rented"
vcpus = 1
memory_mib = 1024
disk_gib = 1
price = 0.4
family = "BZ"
billing = "term"
TOML
}

start_gateway() {
    head_line "The gateway"
    write_catalogue
    # Made anew for each demo.
    SECRET=$(od -An -N 16 -tx1 /dev/urandom | tr -d ' \n')
    (umask 077; printf '%s\n' "$SECRET" >"$STATE/secret")
    printf '  $'; printf ' %q' "$BINARY" account add $ACCOUNT --secret-file "$STATE/secret" --state-dir "$STATE/state"; printf '\n'
    "$BINARY" account add $ACCOUNT --secret-file "$STATE/secret" --state-dir "$STATE/state" | sed 's/^/    /'
    local command=("$BINARY" serve --libvirt "$URI" --state-dir "$STATE/state" --listen "127.0.0.1:$PORT"
        --admin "127.0.0.1:$ADMIN_PORT" --catalogue "$STATE/catalogue.toml")
    printf '  $'; printf ' %q' "${command[@]}"; printf '\n'
    setsid "${command[@]}" </dev/null >"$STATE/gateway.log" 2>&1 &
    echo $! >"$STATE/gateway.pid"
    local end=$((SECONDS + 60))
    until [ "$(curl -s -o /dev/null -w '%{http_code}' "http://127.0.0.1:$ADMIN_PORT/readyz" || true)" = 200 ]; do
        kill -0 "$(cat "$STATE/gateway.pid")" 2>/dev/null || { tail -20 "$STATE/gateway.log" >&2; fail "the gateway ended; its log is above"; }
        [ $SECONDS -lt $end ] || { tail -20 "$STATE/gateway.log" >&2; fail "the gateway was not ready within 60 s; its log is above"; }
        sleep 0.2
    done
    say "  ready"
}

# A machine made by hand, as an administrator would.
make_with_virsh() {
    head_line "A VM made with virsh, not by the gateway"
    local nic="<interface type='user'><model type='virtio'/></interface>" type=qemu
    [ "$REAL" = no ] || [ "$(cat "$LIBVIRT/kvm")" = no ] || type=kvm
    [ "$REAL" = yes ] && [ "$(cat "$LIBVIRT/network")" = default ] &&
        nic="<interface type='network'><source network='default'/><model type='virtio'/></interface>"
    if [ "$REAL" = yes ]; then
        virsh -q -c "$URI" vol-clone --pool "$POOL" tiny.qcow2 from-virsh.qcow2
        DISK="<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='$LIBVIRT/pool/from-virsh.qcow2'/><target dev='vda' bus='virtio'/></disk>"
    else type=test; DISK=; nic=; fi
    cat >"$STATE/from-virsh.xml" <<XML
<domain type='$type'>
  <name>from-virsh</name>
  <memory unit='MiB'>192</memory>
  <vcpu>1</vcpu>
  <os><type arch='$([ "$REAL" = yes ] && echo x86_64 || echo i686)'>hvm</type></os>
  <features><acpi/></features>
  <devices>
    $DISK
    $nic
    <serial type='pty'/>
    <graphics type='vnc' port='-1'/>
  </devices>
</domain>
XML
    printf "  \$ virsh -c '%s' define '%s'\n  \$ virsh -c '%s' start from-virsh\n" "$URI" "$STATE/from-virsh.xml" "$URI"
    virsh -q -c "$URI" define "$STATE/from-virsh.xml"
    virsh -q -c "$URI" start from-virsh
}

# -- the show ------------------------------------------------------------------------------------------------------
adoption() {
    head_line "It appears in all dialects"
    await "from-virsh in Guest REST" "$(guest_named from-virsh)" '.data[0].status == 1' 20
    await "from-virsh in pve-open" "$pve_page" '[.data.data[] | select(.name == "from-virsh")] | length == 1' 20
    await "from-virsh in ZStack" "$ZSTACK/vm-instances?q=name=from-virsh" '.inventories[0].state == "Running"' 20
    await "from-virsh in /v1/compute" "$COMPUTE/list?page_num=0&page_size=0&filter_name=from-virsh" '.data.domains[0].state == "running"' 20
}

guest_to_pve() {
    head_line "Created through Guest REST ..."
    show POST "$GUEST/guest" '{"cpu":1,"memory":1,"os_template_id":1,"quantity":1,"name":"made-by-guest","password":"'"$PASSWORD"'","lease_term":100}'
    expect "create" '.state.code == "200"'
    await "made-by-guest being there" "$(guest_named made-by-guest)" '.data[0].status == 1 or .data[0].status == 5' 90
    local uuid id
    uuid=$(jq -r '.data[0].uuid' <<<"$ANSWER")
    if [ "$(jq -r '.data[0].status' <<<"$ANSWER")" = 5 ]; then show PUT "$GUEST/guests/_boot/$uuid"; fi
    await "made-by-guest running" "$GUEST/guest/$uuid" '.data.status == 1'
    await_booted made-by-guest

    head_line "... read, stopped and deleted through pve-open"
    await "made-by-guest in pve-open" "$pve_page" '[.data.data[] | select(.name == "made-by-guest")] | length == 1' 20
    id=$(jq -r '.data.data[] | select(.name == "made-by-guest") | .id' <<<"$ANSWER")
    show GET "$PVE/one/$id"
    expect "one" '.code == 0 and .data.status == "2"'
    show GET "$PVE/operate/$id?type=0"
    expect "operate" '.code == 0'
    await "its stop" "$PVE/one/$id" '.data.status == "0"' 120
    await "its stop, seen by Guest REST" "$GUEST/guest/$uuid" '.data.status == 5' 20
    show DELETE "$PVE/delete/$id"
    expect "delete" '.code == 0 and .data == true'
    await "its end" "$(guest_named made-by-guest)" '.data | length == 0'
}

pve_to_guest() {
    head_line "Created through pve-open ..."
    show GET "$PVE/packAge/0"
    local package image before id uuid name
    package=$(jq -r '.data[0].packageId' <<<"$ANSWER")
    show GET "$PVE/image"
    image=$(jq -r '.data[0].imageId' <<<"$ANSWER")
    quiet "$pve_page"
    before=$(jq -c '[.data.data[].id]' <<<"$ANSWER")
    show POST "$PVE/createquantity" '{"packageId":"'"$package"'","imageId":"'"$image"'"}'
    expect "createquantity" '.code == 0'
    await "the new machine" "$pve_page" "[.data.data[] | select(.id as \$id | $before | index(\$id) | not) | select(.status == \"0\")] | length == 1" 90
    id=$(jq -r ".data.data[] | select(.id as \$id | $before | index(\$id) | not) | .id" <<<"$ANSWER")
    name=$(jq -r ".data.data[] | select(.id == \"$id\") | .name" <<<"$ANSWER")
    show GET "$PVE/operate/$id?type=1"
    expect "operate" '.code == 0'
    await "its start" "$PVE/one/$id" '.data.status == "2"'

    head_line "... read, stopped and deleted through Guest REST"
    await "it in Guest REST" "$(guest_named "$name")" '.data[0].status == 1' 20
    uuid=$(jq -r '.data[0].uuid' <<<"$ANSWER")
    show PUT "$GUEST/guests/_force_shutdown/$uuid"
    expect "force_shutdown" '.state.code == "200"'
    await "its stop" "$GUEST/guest/$uuid" '.data.status == 5'
    show DELETE "$GUEST/guests/$uuid"
    expect "delete" '.state.code == "200"'
    await "its end" "$pve_page" "[.data.data[] | select(.id == \"$id\")] | length == 0"
}

# Waits for the end of what an asynchronous ZStack call began; its answer names the job's address.
await_job() {
    local url
    url=$(jq -r '.location? // empty' <<<"$ANSWER")
    [ -n "$url" ] || fail "$1: no location of a job in the answer above"
    await "$1" "$url" '.location == null and .error == null' 90
}

zstack_to_compute() {
    head_line "Created through ZStack ..."
    local offering image networks uuid hyphened
    show GET "$ZSTACK/instance-offerings?limit=1"
    offering=$(jq -r '.inventories[0].uuid' <<<"$ANSWER")
    show GET "$ZSTACK/images?q=mediaType=RootVolumeTemplate&limit=1&fields=uuid,name"
    image=$(jq -r '.inventories[0].uuid' <<<"$ANSWER")
    show GET "$ZSTACK/l3-networks?limit=1&fields=uuid,name"
    networks=$(jq -c '[.inventories[].uuid]' <<<"$ANSWER")
    show POST "$ZSTACK/vm-instances" '{"params":{"name":"made-by-zstack","instanceOfferingUuid":"'"$offering"'","imageUuid":"'"$image"'","l3NetworkUuids":'"$networks"'}}'
    await_job "the creation"
    uuid=$(jq -r '.inventory.uuid' <<<"$ANSWER")

    head_line "... read and stopped in /v1/compute, started in Guest REST, deleted in pve-open"
    await "made-by-zstack in /v1/compute" "$COMPUTE/list?page_num=0&page_size=0&filter_name=made-by-zstack" '.data.domains | length == 1' 20
    hyphened=$(jq -r '.data.domains[0].uuid' <<<"$ANSWER")
    show POST "$COMPUTE/shutoff" '{"cluster_uuid":"","tenant":"","compute_uuid":"'"$hyphened"'","compute_name":"made-by-zstack"}'
    expect "shutoff" '.scode == 0'
    await "its stop, seen by ZStack" "$ZSTACK/vm-instances?q=uuid=$uuid&fields=name,state" '.inventories[0].state == "Stopped"' 20
    await "it in Guest REST" "$(guest_named made-by-zstack)" '.data[0].status == 5' 20
    show PUT "$GUEST/guests/_boot/$(jq -r '.data[0].uuid' <<<"$ANSWER")"
    await "its start, seen by ZStack" "$ZSTACK/vm-instances?q=uuid=$uuid&fields=name,state" '.inventories[0].state == "Running"' 60
    show POST "$COMPUTE/shutoff" '{"cluster_uuid":"","tenant":"","compute_uuid":"'"$hyphened"'","compute_name":"made-by-zstack"}'
    expect "shutoff" '.scode == 0'
    await "it in pve-open" "$pve_page" '[.data.data[] | select(.name == "made-by-zstack" and .status == "0")] | length == 1' 20
    show DELETE "$PVE/delete/$(jq -r '.data.data[] | select(.name == "made-by-zstack") | .id' <<<"$ANSWER")"
    expect "delete" '.code == 0 and .data == true'
    await "its end, seen by ZStack" "$ZSTACK/vm-instances?q=uuid=$uuid" '.inventories | length == 0' 20
    await "its end, seen by /v1/compute" "$COMPUTE/list?page_num=0&page_size=0&filter_name=made-by-zstack" '.data.domains | length == 0' 20
}

addresses() {
    head_line "Still running"
    cat <<TEXT
  Guest REST        $GUEST/guests
  pve-open          $pve_page   (with the token above)
  ZStack            $ZSTACK/vm-instances   (with the session above)
  /v1/compute       $COMPUTE/list?page_num=0&page_size=0   (with the bearer above)
  admin             http://127.0.0.1:$ADMIN_PORT/_gw/vms   (also /metrics, /_gw/coverage, /_gw/jobs)
  hypervisor        virsh -c '$URI' list --all
  gateway's log     $STATE/gateway.log
TEXT
    [ "$REAL" = no ] || say "  a VM's console    virsh -c '$URI' console from-virsh   (user root, leave with Ctrl+])"
    say
    say "  make demo-stop    ends and removes all of it"
}

give_up() {
    local status=$?
    trap - EXIT
    [ $status -eq 0 ] && return
    [ ! -s "$STATE/gateway.log" ] || { say "-- end of the gateway's log:"; tail -15 "$STATE/gateway.log"; } >&2
    if [ -n "${DEMO_KEEP:-}" ]; then say "kept for inspection; make demo-stop removes it" >&2
    else "$REPO/scripts/demo-stop.sh" >&2; fi
    exit $status
}

[ ! -e "$STATE/gateway.pid" ] || fail "the demo is running already; make demo-stop ends it"
"$REPO/scripts/install.sh"
for port in $PORT $ADMIN_PORT; do
    port_is_free "$port" || fail "port $port is taken; choose others: DEMO_PORT=8088 DEMO_ADMIN_PORT=9088 make demo"
done
head_line "Building the gateway"
cargo build --locked -p babelvisor
BINARY=${CARGO_TARGET_DIR:-$REPO/target}/debug/babelvisor
[ -x "$BINARY" ] || fail "$BINARY was not built"
"$REPO/scripts/demo-stop.sh" >/dev/null
mkdir -p "$STATE/state"
trap give_up EXIT
start_libvirt
start_gateway
make_with_virsh
sign_in
adoption
guest_to_pve
pve_to_guest
zstack_to_compute
addresses
