#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# An offline that never ends, where it used to be refused.
#
# Slab pages have a reference count of 0 since v6.14 (9aec2fb0fd5e).
# page_is_unmovable() passes every page with that count, so a block whose only
# unmovable pages are slabs of order 0 is isolated; nothing in it can be moved,
# test_pages_isolated() says no, and offline_pages() goes round until a signal.
# Slabs of a higher order are refused at once (EBUSY).
#
# Fills memory with inodes and tries every block outside ZONE_MOVABLE.
# slub_max_order=0 (slab_max_order=0 from 7.0 on) on the command line makes all
# slabs order 0; without it, it is a matter of chance. Status 1: some block
# hangs.

. "${0%/*}/blocks.sh"

FILES=${FILES:-200000}
full=$(mktemp -d)
mount -t ramfs none "$full"
trap 'umount "$full"; rmdir "$full"' EXIT
echo "kernel $(uname -r), $(cat /proc/cmdline)"
echo "filling memory with $FILES inodes"
i=0
while [ $i -lt "$FILES" ]; do
	: >"$full/$i"
	i=$((i + 1))
done

hangs=0
for block in $(online_blocks); do
	[ "$(zone_of "$block")" = Movable ] && continue
	try_offline "$block"
	[ "$answer" = hangs ] && hangs=$((hangs + 1))
done
echo "$hangs blocks gave no answer in $PATIENCE s"
[ $hangs = 0 ]
