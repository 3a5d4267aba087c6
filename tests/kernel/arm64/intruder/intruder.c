// SPDX-License-Identifier: GPL-2.0-only
/*
 * For tests: memory that comes into the kernel while the module is there, by nobody whom the
 * bank driver knows, as by /sys/devices/system/memory/probe, which Debian's arm64 kernels lack.
 */

#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/module.h>

static ulong start;
module_param(start, ulong, 0444);
MODULE_PARM_DESC(start, "where, a block's edge");

static int __init intruder_init(void)
{
	return add_memory(0, start, memory_block_size_bytes(), MHP_NONE);
}

static void __exit intruder_exit(void)
{
	WARN_ON(offline_and_remove_memory(start, memory_block_size_bytes()));
}

module_init(intruder_init);
module_exit(intruder_exit);

MODULE_DESCRIPTION("Memory from nowhere");
MODULE_LICENSE("GPL");
