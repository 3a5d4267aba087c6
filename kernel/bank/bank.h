/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A bank, and what the parts of this module ask of each other:
 *
 *	driver.c	devices, their files, the module itself
 *	hotplug.c	into the kernel and out of it; which zone its blocks get
 *	power.c		supply and power domain
 *	pages.c		what its pages are
 *	counts.c	how many of each kind
 *	evacuate.c	emptied by several processes, behind a fence
 *	compat.h	what differs between kernels
 *
 * Locks, outermost first: bank->lock, the kernel's hotplug lock, banks_lock, then
 * evacuation_lock, bank->looking or bank->power_lock; and bank->lock, bank->power_lock.
 */
#ifndef HOTBANK_BANK_H
#define HOTBANK_BANK_H

#include <linux/device.h>
#include <linux/kref.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/rwsem.h>
#include <linux/types.h>

#include "evacuate.h"

#define MAX_LABEL	32

struct bank {
	struct kref refs;		/* its device, and the open file of evacuate.c */
	struct list_head list;
	struct device *dev;		/* the platform device */
	struct device *node;		/* the device of class "hotbank" */
	char label[MAX_LABEL];
	phys_addr_t start;
	phys_addr_t size;
	int nid;
	struct regulator *supply;	/* or NULL */
	bool domain;			/* it is in a power domain */
	phys_addr_t there;		/* bytes of it in the kernel, from its start on */
	bool boot;			/* they have been there since boot */
	struct mutex lock;		/* there and boot: held while pages move, perhaps for ever */
	bool powered;			/* we hold the supply and the domain */
	bool shut;			/* and keep them, for the next kernel */
	struct mutex power_lock;	/* powered and shut: held for a switch to turn */
	struct rw_semaphore looking;	/* its struct pages that are in use */
	struct bin_attribute pages;
	struct bin_attribute refcounts;
	struct bin_attribute counts;
	struct evacuation evacuation;
};

extern struct list_head banks;
/* Taken inside the hotplug lock: never held across add or remove. */
extern struct mutex banks_lock;

/* driver.c: when the last reference goes, so does the bank */
void bank_get(struct bank *bank);
void bank_put(struct bank *bank);

static inline bool bank_managed(const struct bank *bank)
{
	return bank->supply || bank->domain;
}

/* hotplug.c, under bank->lock */
int bank_add(struct bank *bank);
int bank_remove(struct bank *bank, bool offline_first);
void bank_set_there(struct bank *bank, phys_addr_t there);
int bank_watch_memory(void);
void bank_unwatch_memory(void);

/* power.c; off under bank->lock */
bool bank_in_use(const struct bank *bank);
int bank_power_on(struct bank *bank);
int bank_power_off(struct bank *bank);
int bank_power_for_good(struct bank *bank);
bool bank_power_for_online(struct bank *bank);
const char *bank_power_name(struct bank *bank);
int bank_watch_sleep(void);
void bank_unwatch_sleep(void);

/* pages.c */
int bank_show_pages(struct bank *bank);
void bank_hide_pages(struct bank *bank);
u64 bank_page_flags(struct page *page);
s32 bank_entire_maps(struct folio *folio);
s32 bank_page_maps(struct page *page);
void bank_drain_batches(unsigned long pfn);
void bank_describe_file(struct bank *bank, struct bin_attribute *file, const char *name,
			size_t size);

/* counts.c */
void bank_describe_counts(struct bank *bank);

#endif
