/* SPDX-License-Identifier: GPL-2.0-only */
/* Fenced evacuation of a bank: see evacuate.c. */
#ifndef HOTBANK_EVACUATE_H
#define HOTBANK_EVACUATE_H

#include <linux/list.h>
#include <linux/memory.h>
#include <linux/miscdevice.h>

#define MAX_CANDIDATES	16

struct bank;

/* A page that may be why a range could not be taken, as it was seen. */
struct candidate {
	unsigned long pfn;
	int count;
	int mapcount;
	unsigned long flags;
};

/* All but the device and the number of units are guarded by evacuation_lock. */
struct evacuation {
	struct miscdevice device;
	unsigned int units;
	unsigned long *held;		/* bits: by the open file, if there is one */
	unsigned long *stuck;		/* bits: could not be taken since it was opened */
	struct list_head opened;	/* its file is, by one at a time */
	bool gone;			/* the device is: nothing is taken any more */
	bool changing;			/* a block of the bank goes online or offline */
	bool short_of_memory;		/* until the file is opened again, nothing is taken */
	unsigned int running;		/* ranges that are being taken */
	unsigned int candidates;
	struct candidate candidate[MAX_CANDIDATES];
};

#if defined(CONFIG_ARM64) && defined(CONFIG_CONTIG_ALLOC)

int evacuation_prepare(struct bank *bank);
void evacuation_free(struct bank *bank);
int evacuation_allow(struct bank *bank);
int evacuation_event(struct bank *bank, unsigned long action, const struct memory_notify *change);
int evacuation_watch_oom(void);
void evacuation_unwatch_oom(void);

#else

static inline int evacuation_prepare(struct bank *bank)
{
	return 0;
}

static inline void evacuation_free(struct bank *bank)
{
}

static inline int evacuation_allow(struct bank *bank)
{
	return 0;
}

static inline int evacuation_event(struct bank *bank, unsigned long action,
				   const struct memory_notify *change)
{
	return 0;
}

static inline int evacuation_watch_oom(void)
{
	return 0;
}

static inline void evacuation_unwatch_oom(void)
{
}

#endif
#endif
