#!/usr/bin/env bash
# Builds a tiny bootable guest from Debian packages: kernel, busybox, guest agent; nothing is installed on the machine.
#
#   guest-image.sh OUT_DIR [cloud|generic]      writes OUT_DIR/tiny.qcow2 (or tiny-generic.qcow2) and prints its path
#
# `cloud` (the default) has Debian's cloud kernel: it boots in 3 s but knows only virtio and IDE, no SATA and no e1000, as
# the kernels of many cloud images. `generic` knows those too and takes 6 s.
# The guest boots from its disk in a few seconds under emulation with 192 MiB, takes DHCP leases, answers the ACPI power
# button and the guest agent, reads a NoCloud seed (label `cidata`) and has a login on the serial console (root, without a
# password unless the seed sets one). The result is cached; the key is this script, its files and the package versions.
set -euo pipefail
. "$(dirname "$0")/common.sh"

[ $# -ge 1 ] || { sed -n '4s/^# *//p' "$0" >&2; exit 2; }
OUT=$(mkdir -p "$1" && cd "$1" && pwd)
case ${2:-cloud} in
    cloud)   META=linux-image-cloud-amd64; NAME=tiny ;;
    generic) META=linux-image-amd64; NAME=tiny-generic ;;
    *) fail "the kernel is cloud or generic, got '$2'" ;;
esac
FILES=$REPO/scripts/guest
CACHE=$(cache_dir)

[ "$(dpkg --print-architecture 2>/dev/null)" = amd64 ] || fail "needs Debian on amd64"
for tool in apt-get dpkg-deb qemu-img gzip ldd; do have $tool || fail "missing: $tool. Run scripts/install.sh."; done

kernel_package() {
    apt-cache depends --no-recommends --no-suggests $META 2>/dev/null | awk '/Depends: linux-image-/ { print $2; exit }'
}
KERNEL=$(kernel_package)
if [ -z "$KERNEL" ]; then
    if [ "$(id -u)" -eq 0 ]; then apt-get update -q >&2; else sudo -n apt-get update -q >&2; fi ||
        fail "the package lists are empty and could not be fetched; run: apt-get update"
    KERNEL=$(kernel_package)
fi
[ -n "$KERNEL" ] || fail "no kernel package found behind $META"
PACKAGES=("$KERNEL" busybox-static qemu-guest-agent syslinux syslinux-common mtools)

versions() { apt-cache policy "${PACKAGES[@]}" | awk '/^[^ ]/ { name = $1 } /Candidate:/ { print name, $2 }'; }
KEY=$( { cat "$0" "$FILES"/*; versions; } | sha256sum | cut -c1-16)
IMAGE=$CACHE/guest/$NAME-$KEY.qcow2

deliver() {
    mkdir -p "$OUT"
    # By rename, so that nobody who looks at the same directory sees half a file.
    cp "$IMAGE" "$OUT/.$NAME.$$" && mv "$OUT/.$NAME.$$" "$OUT/$NAME.qcow2"
    printf '%s\n' "$OUT/$NAME.qcow2"
}

mkdir -p "$CACHE/guest"
# Several test binaries may ask at once: one builds, the others wait.
exec 9>"$CACHE/guest/lock"
flock 9
if [ -s "$IMAGE" ]; then deliver; exit 0; fi

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
cd "$WORK"
mkdir packages root
(cd packages && apt-get download -q "${PACKAGES[@]}" >../download.log 2>&1) ||
    { cat download.log >&2; fail "could not download ${PACKAGES[*]}"; }
for package in packages/*.deb; do dpkg-deb -x "$package" unpacked; done
BUSYBOX=$WORK/unpacked/bin/busybox
[ -x "$BUSYBOX" ] || BUSYBOX=$WORK/unpacked/usr/bin/busybox
MODULES=$(dirname "$(find unpacked -path '*/modules/*/kernel' -type d | head -1)")
VERSION=$(basename "$MODULES")

# -- the root file system ------------------------------------------------------------------------------------------
mkdir -p root/{bin,sbin,usr/bin,usr/sbin,proc,sys,dev,run,tmp,mnt,root,var,etc/acpi/PWRF,lib/modules}
ln -s /run root/var/run
cp "$BUSYBOX" root/bin/busybox
for applet in $("$BUSYBOX" --list); do
    [ "$applet" = busybox ] || ln -sf /bin/busybox "root/bin/$applet"
done
ln -s /bin/busybox root/sbin/init
ln -s /sbin/init root/init
for file in say lease agent seed shutdown; do install -m 755 "$FILES/$file" "root/sbin/$file"; done
ln -sf /bin/busybox root/sbin/getty
# The kernel calls it by this path for what it finds missing.
ln -sf /bin/busybox root/sbin/modprobe
ln -sf /bin/busybox root/sbin/reboot
install -m 755 "$FILES/chpasswd" root/usr/sbin/chpasswd
install -m 755 "$FILES/rc" root/etc/rc
install -m 755 "$FILES/powerbutton" root/etc/acpi/PWRF/00000080
install -m 644 "$FILES/inittab" root/etc/inittab
echo 'root:x:0:0:root:/root:/bin/sh' >root/etc/passwd
echo 'root::1::::::' >root/etc/shadow
echo 'root:x:0:' >root/etc/group
printf 'ID=tiny\nNAME="Tiny"\nPRETTY_NAME="Tiny test guest"\nVERSION_ID="1"\n' >root/etc/os-release
printf 'Tiny test guest \\n on \\l\n' >root/etc/issue
chmod 600 root/etc/shadow

install -m 755 -D unpacked/usr/sbin/qemu-ga root/usr/sbin/qemu-ga
LIBRARIES=$(ldd root/usr/sbin/qemu-ga)
! grep 'not found' <<<"$LIBRARIES" >&2 || fail "libraries of the guest agent are missing on this machine. Run scripts/install.sh."
for library in $(grep -o '/[^ ]*' <<<"$LIBRARIES"); do
    mkdir -p "root$(dirname "$library")"
    cp -L "$library" "root$library"
done

# -- drivers, with what they depend on -------------------------------------------------------------------------------
WANTED='virtio_pci virtio_blk virtio_net virtio_console virtio_scsi virtio_balloon virtio_rng sd_mod sr_mod ahci ata_piix
    ata_generic e1000 e1000e 8139cp isofs vfat nls_cp437 nls_iso8859_1 nls_ascii nls_utf8 button evdev i6300esb uhci_hcd ehci_pci xhci_pci usb_storage'
"$BUSYBOX" depmod -b "$WORK/unpacked" "$VERSION" 2>/dev/null || "$BUSYBOX" depmod -b "$WORK/unpacked/usr" "$VERSION"
mkdir -p "root/lib/modules/$VERSION"
for name in $WANTED; do
    # A driver that this kernel has built in has no file: nothing to copy.
    awk -F: -v name="$name" '{ file = $1; sub(/.*\//, "", file); sub(/\.ko.*/, "", file); gsub(/-/, "_", file)
        if (file == name) { print $1; print $2 } }' "$MODULES/modules.dep"
done | tr ' ' '\n' | sort -u | while read -r module; do
    [ -n "$module" ] || continue
    mkdir -p "root/lib/modules/$VERSION/$(dirname "$module")"
    case $module in
        *.xz)  xz -dc "$MODULES/$module" >"root/lib/modules/$VERSION/${module%.xz}" ;;
        *.zst) zstd -qdc "$MODULES/$module" >"root/lib/modules/$VERSION/${module%.zst}" ;;
        *)     cp "$MODULES/$module" "root/lib/modules/$VERSION/$module" ;;
    esac
done
"$BUSYBOX" depmod -b "$WORK/root" "$VERSION"

# -- the disk: one FAT file system with a boot loader, no partitions, made without mounting ---------------------------
(cd root && find . | "$BUSYBOX" cpio -o -H newc 2>/dev/null | gzip -1) >initrd.gz
cp unpacked/boot/vmlinuz-* kernel
cat >syslinux.cfg <<CFG
DEFAULT tiny
PROMPT 0
TIMEOUT 1
LABEL tiny
KERNEL kernel
APPEND initrd=initrd.gz console=tty0 console=ttyS0,115200 quiet panic=-1 tsc=unstable nokaslr mitigations=off no_timer_check
CFG
MTOOLS=$WORK/unpacked/usr/bin/mtools
tool() { local applet=$1; shift; ln -sf "$MTOOLS" "$WORK/$applet"; MTOOLS_SKIP_CHECK=1 "$WORK/$applet" "$@"; }
SECTORS=$(( ( $(stat -c %s kernel) + $(stat -c %s initrd.gz) + 6 * 1024 * 1024 ) / 512 / 2048 * 2048 ))
truncate -s $((SECTORS * 512)) disk.raw
tool mformat -i disk.raw -T $SECTORS -h 16 -s 32 -v TINY ::
tool mcopy -i disk.raw kernel initrd.gz syslinux.cfg ::
PATH=$WORK/unpacked/usr/bin:$PATH "$WORK/unpacked/usr/bin/syslinux" --install disk.raw
qemu-img convert -f raw -O qcow2 disk.raw "$IMAGE.new"
mv "$IMAGE.new" "$IMAGE"
deliver
