// SPDX-License-Identifier: GPL-2.0-only
/* What the pages of a bank are, for whoever plans to take it away. */

#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/swap.h>

#include "bank.h"
#include "compat.h"

/*
 * A page in a CPU's batch, on its way to another LRU list, has a reference that
 * looks like a pin, perhaps for long. Offlining drains the batches first; a
 * module can do that only where the kernel lets it (our 32-bit port does).
 */
static void bank_drain_batches(void)
{
#ifdef CONFIG_ARM_MEMORY_HOTPLUG
	lru_add_drain_all();
#endif
}

static ssize_t refcounts_read(struct file *file, struct kobject *kobj,
			      const struct bin_attribute *attr, char *buf, loff_t at, size_t count)
{
	struct bank *bank = attr->private;
	unsigned long pfn = PHYS_PFN(bank->start) + at / sizeof(s32);
	s32 *out = (s32 *)buf;
	struct page *page;
	size_t i;

	if (at % sizeof(s32) || count % sizeof(s32))
		return -EINVAL;
	if (IS_ALIGNED(pfn, PAGES_PER_SECTION))
		bank_drain_batches();
	for (i = 0; i < count / sizeof(s32); i++) {
		page = pfn_to_online_page(pfn + i);
		out[i] = page ? page_ref_count(page) : -1;
	}
	return count;
}
BANK_READER(refcounts_read)

int bank_show_pages(struct bank *bank)
{
	sysfs_bin_attr_init(&bank->refcounts);
	bank->refcounts.attr.name = "refcounts";
	bank->refcounts.attr.mode = 0400;
	bank->refcounts.size = PHYS_PFN(bank->size) * sizeof(s32);
	bank->refcounts.private = bank;
	bank->refcounts.read = bank_reader(refcounts_read);
	return sysfs_create_bin_file(&bank->node->kobj, &bank->refcounts);
}

void bank_hide_pages(struct bank *bank)
{
	sysfs_remove_bin_file(&bank->node->kobj, &bank->refcounts);
}
