// SPDX-License-Identifier: GPL-2.0-only
/* Banks into the kernel and out of it, and which zone their blocks get. */

#include <linux/lockdep.h>
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/module.h>
#include <linux/sched/signal.h>

#include "bank.h"
#include "caches.h"

/* One object: resources are merged only if they share it. */
static const char resource_name[] = "System RAM (hotbank)";

/* While a byte is in the kernel, the module and the power have to stay. */
void bank_set_there(struct bank *bank, phys_addr_t there)
{
	bool was = bank->there;

	WRITE_ONCE(bank->there, there);
	if (was == !!there)
		return;
	dev_pm_syscore_device(bank->dev, there);
	if (there)
		__module_get(THIS_MODULE);
	else
		module_put(THIS_MODULE);
}

/*
 * Block by block: in one call arm64 would map several blocks by one leaf of its page
 * tables, and from 7.1 on (95a58852b0e5) it lets nothing go that would split one.
 * Merged, because a range is released only from a resource that holds all of it.
 */
static int bank_add_block(struct bank *bank)
{
	unsigned long size = memory_block_size_bytes();
	int rc;

	if (fatal_signal_pending(current))
		return -EINTR;
	rc = add_memory_driver_managed(bank->nid, bank->start + bank->there, size, resource_name,
				       MHP_MERGE_RESOURCE);
	if (!rc)
		bank_set_there(bank, bank->there + size);
	return rc;
}

/* Offline first: a policy may have onlined them already. */
static void bank_take_back(struct bank *bank, phys_addr_t to)
{
	phys_addr_t size = bank->there - to;

	if (size && offline_and_remove_memory(bank->start + to, size))
		dev_warn(bank->dev, "bank %s is partly in the kernel: add the rest, or remove it\n",
			 bank->label);
	else
		bank_set_there(bank, to);
}

int bank_add(struct bank *bank)
{
	phys_addr_t before = bank->there;
	int rc = 0;

	lockdep_assert_held(&bank->lock);
	if (before == bank->size)
		return -EEXIST;
	if (bank_managed(bank) && !bank->powered)
		return -ENXIO;
	while (!rc && bank->there < bank->size)
		rc = bank_add_block(bank);
	if (rc)
		bank_take_back(bank, before);
	return rc;
}

int bank_remove(struct bank *bank, bool offline_first)
{
	int rc;

	lockdep_assert_held(&bank->lock);
	if (!bank->there)
		return -ENODEV;
	rc = offline_first ? offline_and_remove_memory(bank->start, bank->there) :
			     remove_memory(bank->start, bank->there);
	if (rc)
		return rc;
	WRITE_ONCE(bank->boot, false);
	bank_set_there(bank, 0);
	return 0;
}

static struct bank *bank_of(unsigned long start_pfn, unsigned long nr_pages)
{
	phys_addr_t start = PFN_PHYS(start_pfn), end = PFN_PHYS(start_pfn + nr_pages);
	struct bank *bank;

	lockdep_assert_held(&banks_lock);
	list_for_each_entry(bank, &banks, list)
		if (start < bank->start + bank->size && end > bank->start)
			return bank;
	return NULL;
}

/*
 * Nothing without power, whoever brought it. Only memory that has been there since boot
 * may go back to the zone that the boot gave it.
 */
static int bank_going_online(struct bank *bank, struct memory_notify *change)
{
	if (!bank_power_for_online(bank))
		return -EPERM;
	if (READ_ONCE(bank->boot) || page_zonenum(pfn_to_page(change->start_pfn)) == ZONE_MOVABLE)
		return 0;
	return -EPERM;
}

/* Its pages are offline, so that nobody begins to look at them now: wait for who is at it. */
static void bank_went_offline(struct bank *bank, struct memory_notify *change)
{
	down_write(&bank->looking);
	up_write(&bank->looking);
	bank_clean_caches(change->start_pfn, change->nr_pages);
}

static int bank_memory_event(struct notifier_block *nb, unsigned long action, void *data)
{
	struct memory_notify *change = data;
	struct bank *bank;
	int rc = 0;

	mutex_lock(&banks_lock);
	bank = bank_of(change->start_pfn, change->nr_pages);
	if (bank)
		rc = evacuation_event(bank, action, change);
	if (bank && !rc && action == MEM_GOING_ONLINE)
		rc = bank_going_online(bank, change);
	else if (bank && !rc && action == MEM_OFFLINE)
		bank_went_offline(bank, change);
	mutex_unlock(&banks_lock);
	return notifier_from_errno(rc);
}

static struct notifier_block bank_memory_notifier = { .notifier_call = bank_memory_event };

int bank_watch_memory(void)
{
	return register_memory_notifier(&bank_memory_notifier);
}

void bank_unwatch_memory(void)
{
	unregister_memory_notifier(&bank_memory_notifier);
}
