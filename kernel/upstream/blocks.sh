# SPDX-License-Identifier: GPL-2.0-only
# What the reproducers share. POSIX shell, as root; needs sysfs, cat, cut,
# dmesg, grep, sed, sort, tail, timeout.

BLOCKS=/sys/devices/system/memory
PATIENCE=${PATIENCE:-5} # seconds that an offline may take

[ -w "$BLOCKS/probe" ] || [ -e "$BLOCKS/block_size_bytes" ] || { echo "no memory hotplug here" >&2; exit 4; }
[ "$(id -u)" = 0 ] || { echo "must be root" >&2; exit 4; }

# The blocks that are online, the highest first.
online_blocks()
{
	grep -lx online "$BLOCKS"/memory[0-9]*/state | sed 's:.*/memory\([0-9]*\)/state:\1:' | sort -rn
}

zone_of()
{
	cut -d' ' -f1 "$BLOCKS/memory$1/valid_zones"
}

# What the kernel has logged since that line, without emptying its log, which
# is others' as well.
logged_since()
{
	at=$(dmesg | grep -nFx -e "$1" | tail -n 1 | cut -d: -f1)
	dmesg | tail -n +$((${at:-0} + 1))
}

# Offline block $1 and say in one line what came of it; a block that left is
# put back into its zone. Sets answer: left, hangs, or the kernel's error.
try_offline()
{
	zone=$(zone_of "$1")
	last=$(dmesg | tail -n 1)
	# cat, because some shells' echo keeps the error's name to itself; 124 and 130: two programs' ways to say "killed"
	said=$(echo offline | timeout -s INT "$PATIENCE" cat 2>&1 >"$BLOCKS/memory$1/state")
	case $? in
	0) answer=left ;;
	124 | 130) answer=hangs ;;
	*) answer=${said##*: } ;;
	esac
	echo "memory$1 $zone: $answer"
	logged_since "$last" | grep -E 'leaf|Boot memory|refcount|page_type' | sed 's/^/    /' | cut -c1-120 | tail -n 2
	[ "$(cat "$BLOCKS/memory$1/state")" = online ] && return
	case $zone in
	Movable) echo online_movable ;;
	*) echo online_kernel ;;
	esac >"$BLOCKS/memory$1/state"
}
