#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# Memory that was added to a running arm64 system and never leaves again.
#
# Since 7.1 (95a58852b0e5) arm64 vetoes an offline that would split a leaf of
# the linear map or of the vmemmap. With memory_hotplug.memmap_on_memory=1 each
# block's memory map lies in the block, vmemmap maps it by the 2 MiB, and every
# block of an added DIMM answers EPERM, although adding it promised the
# contrary.
#
# Tries every block of ZONE_MOVABLE: add memory with
# memhp_default_state=online_movable. Status 1: some block is vetoed.

. "${0%/*}/blocks.sh"

parameter=/sys/module/memory_hotplug/parameters/memmap_on_memory
echo "kernel $(uname -r), $(cat /proc/cmdline)"
echo "memmap_on_memory: $(cat $parameter 2>/dev/null || echo none)"

vetoed=0
for block in $(online_blocks); do
	[ "$(zone_of "$block")" = Movable ] || continue
	try_offline "$block"
	[ "$answer" = "Operation not permitted" ] && vetoed=$((vetoed + 1))
done
echo "$vetoed blocks were vetoed"
[ $vetoed = 0 ]
