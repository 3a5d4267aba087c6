// SPDX-License-Identifier: GPL-2.0-only
/* Banks into the kernel and out of it, and which zone their blocks get. */

#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/module.h>

#include "bank.h"
#include "caches.h"

#define RESOURCE_NAME	"System RAM (hotbank)"

void bank_hold(struct bank *bank)
{
	WRITE_ONCE(bank->present, true);
	__module_get(THIS_MODULE);
	dev_pm_syscore_device(bank->dev, true);
}

static void bank_let_go(struct bank *bank)
{
	WRITE_ONCE(bank->present, false);
	dev_pm_syscore_device(bank->dev, false);
	module_put(THIS_MODULE);
}

int bank_add(struct bank *bank)
{
	int rc;

	if (bank->present)
		return -EEXIST;
	if (bank_managed(bank) && !bank->powered)
		return -ENXIO;
	rc = add_memory_driver_managed(bank->nid, bank->start, bank->size, RESOURCE_NAME, MHP_NONE);
	if (!rc)
		bank_hold(bank);
	return rc;
}

int bank_remove(struct bank *bank, bool offline_first)
{
	int rc;

	if (!bank->present)
		return -ENODEV;
	rc = offline_first ? offline_and_remove_memory(bank->start, bank->size) :
			     remove_memory(bank->start, bank->size);
	if (rc)
		return rc;
	WRITE_ONCE(bank->boot, false);
	bank_let_go(bank);
	return 0;
}

/* Notifiers */

static struct bank *bank_of(unsigned long start_pfn, unsigned long nr_pages)
{
	phys_addr_t start = PFN_PHYS(start_pfn), end = PFN_PHYS(start_pfn + nr_pages);
	struct bank *bank;

	list_for_each_entry(bank, &banks, list)
		if (start < bank->start + bank->size && end > bank->start)
			return bank;
	return NULL;
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
	if (bank && !rc && action == MEM_OFFLINE)
		bank_clean_caches(change->start_pfn, change->nr_pages);
	else if (bank && !rc && action == MEM_GOING_ONLINE && !READ_ONCE(bank->boot) &&
		 page_zonenum(pfn_to_page(change->start_pfn)) != ZONE_MOVABLE)
		rc = -EPERM;
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
