#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Run a reproducer on a stock arm64 kernel in QEMU: UEFI, 1 GiB, and a DIMM of
# $DIMM (2G) beside it.
#
#   guest.sh IMAGE BUSYBOX SCRIPT [KERNEL PARAMETER...]
#
# IMAGE: an arm64 kernel with CONFIG_ACPI_HOTPLUG_MEMORY=y, such as Debian's
# cloud-arm64. BUSYBOX: a static one for arm64. UEFI comes from the package
# qemu-efi-aarch64, or from $EFI.
set -e
[ $# -ge 3 ] || { sed -n '4,11s/^# \{0,1\}//p' "$0" >&2; exit 2; }
image=$1 busybox=$2 script=$3
shift 3
EFI=${EFI:-/usr/share/qemu-efi-aarch64/QEMU_EFI.fd}
tree=$(mktemp -d)
trap 'rm -r "$tree"' EXIT

mkdir "$tree/bin" "$tree/dev" "$tree/proc" "$tree/sys" "$tree/tmp"
cp "$busybox" "$tree/bin/busybox"
cp "${script%/*}/blocks.sh" "$script" "$tree/"
cat >"$tree/init" <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec >/dev/console 2>&1
echo 1 >/proc/sys/kernel/printk
sleep 2 # until the DIMM is there
echo @@
sh /${script##*/}
echo "status \$?"
poweroff -f
INIT
chmod +x "$tree/init"
(cd "$tree" && find . | cpio --quiet -o -H newc) >"$tree.cpio"
trap 'rm -r "$tree" "$tree.cpio"' EXIT

size=${DIMM:-2G}
qemu-system-aarch64 -M virt,gic-version=3 -cpu cortex-a57 -smp 1 -m 1G,slots=2,maxmem=8G -bios "$EFI" \
	-object memory-backend-ram,id=dimm,size="$size" -device pc-dimm,id=d0,memdev=dimm \
	-nographic -no-reboot -kernel "$image" -initrd "$tree.cpio" \
	-append "console=ttyAMA0 quiet panic=-1 $*" </dev/null | tr -d '\r' | sed -n '/^@@$/,$p' | sed 1d
