// SPDX-License-Identifier: GPL-2.0-only
/*
 * Fenced evacuation: a bank is emptied by several processes at once, and what
 * leaves one of its blocks does not land in another.
 *
 * /dev/hotbank/LABEL, open once at a time:
 *
 *	write	"START-LAST", as "range" has it: take these pages, moving what is
 *		in them. It returns when all of them are held; EBUSY when something
 *		stays in some of them; EAGAIN when a block of the bank goes online
 *		or offline; ENOMEM when there is no room elsewhere; EINTR after a
 *		fatal signal. What was taken stays held.
 *	read	one line a range: "held START-LAST", then "stuck START-LAST" for
 *		what could not be taken, and for the pages that may be the reason
 *		"candidate PFN count COUNT mapcount MAPCOUNT flags FLAGS"
 *
 * Whoever evacuates opens the file once and has one process a CPU write to it,
 * each its part of the bank: alloc_contig_range() isolates its own range only,
 * so calls that begin together make the fence. Then the blocks are taken offline.
 *
 * What is held belongs to the open file: it is given back when that is closed,
 * and when memory runs out. Held pages are PageOffline and not managed. When a
 * block goes offline those in it are given back in MEM_GOING_OFFLINE: it is
 * isolated by then, nobody gets them, and it leaves empty.
 *
 * A block must not change under alloc_contig_range(), and get_online_mems() is
 * not for modules: while a range is being taken, going online and going offline
 * are vetoed with EBUSY, and while a block changes no range is begun. evacuation_lock
 * guards what both look at; it is held neither across alloc_contig_range() nor from
 * one event to the next, and nothing is allocated under it: running out of memory
 * takes it as well. It takes no other: a switch that is turned under power_lock may
 * ask for memory while the notifier of an onlining waits for it under banks_lock.
 */

#include <linux/bitmap.h>
#include <linux/fs.h>
#include <linux/gfp.h>
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/oom.h>
#include <linux/pagemap.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "bank.h"
#include "compat.h"

/* The allocator merges free pages up to this size, whatever borders lie in between. */
#define UNIT		MAX_ORDER_NR_PAGES
#define UNIT_TRIES	5
#define RANGE_TRIES	2
#define MAX_RANGE_TEXT	48
#define MAX_CANDIDATE_TEXT	112

static DEFINE_MUTEX(evacuation_lock);
static LIST_HEAD(opened);	/* banks whose file is open, under evacuation_lock */

static unsigned long first_pfn(const struct bank *bank)
{
	return PHYS_PFN(bank->start);
}

static unsigned long end_pfn(const struct bank *bank)
{
	return PHYS_PFN(bank->start + bank->size);
}

static unsigned long unit_of(const struct bank *bank, unsigned long pfn)
{
	return (pfn - first_pfn(bank)) / UNIT;
}

/* Held pages, in whole units */

static void mark(unsigned long start, unsigned long end)
{
	unsigned long pfn;

	page_offline_begin();
	for (pfn = start; pfn < end; pfn++)
		__SetPageOffline(pfn_to_page(pfn));
	page_offline_end();
	adjust_managed_page_count(pfn_to_page(start), -(long)(end - start));
}

static void give_back_unit(unsigned long start)
{
	unsigned long pfn;

	for (pfn = start; pfn < start + UNIT; pfn++)
		__ClearPageOffline(pfn_to_page(pfn));
	free_contig_range(start, UNIT);
	adjust_managed_page_count(pfn_to_page(start), UNIT);
}

/* Under evacuation_lock. How many pages that were. */
static unsigned long give_back(struct bank *bank, unsigned long start, unsigned long end)
{
	struct evacuation *evacuation = &bank->evacuation;
	unsigned long last = unit_of(bank, end);
	unsigned long unit = unit_of(bank, start);
	unsigned long pages = 0;

	for_each_set_bit_from(unit, evacuation->held, last) {
		give_back_unit(first_pfn(bank) + unit * UNIT);
		__clear_bit(unit, evacuation->held);
		pages += UNIT;
		cond_resched();
	}
	return pages;
}

/* What stays */

/* Movable pages are not in use by more than who maps them, the page cache and its buffers. */
static bool may_stay(struct folio *folio)
{
	int known = 1 + atomic_read(&folio->page._mapcount) + 1;

	if (!folio_test_lru(folio) || folio_test_large(folio))
		return true;
	if (folio_test_swapcache(folio) || (folio->mapping && !folio_test_anon(folio)))
		known += 1 + folio_test_private(folio);
	return folio_ref_count(folio) > known;
}

static bool seen_to_stay(unsigned long pfn, struct candidate *seen)
{
	struct page *page = pfn_to_online_page(pfn);
	struct folio *folio;
	bool stays;

	if (!page)
		return false;
	folio = page_folio(page);
	if (!folio_try_get(folio))
		return false;
	stays = page_folio(page) == folio && may_stay(folio);
	*seen = (struct candidate) {
		.pfn = pfn,
		.count = folio_ref_count(folio) - 1,
		.mapcount = atomic_read(&page->_mapcount) + 1,
		.flags = page_bits(page),
	};
	folio_put(folio);
	return stays;
}

/* A unit at a time: between two looks it may be found in use by others. */
static void note_stuck(struct bank *bank, unsigned long start)
{
	struct evacuation *evacuation = &bank->evacuation;
	struct candidate seen;
	unsigned long pfn;

	mutex_lock(&evacuation_lock);
	__set_bit(unit_of(bank, start), evacuation->stuck);
	for (pfn = start; pfn < start + UNIT && !evacuation->changing; pfn++) {
		if (evacuation->candidates == MAX_CANDIDATES)
			break;
		if (seen_to_stay(pfn, &seen))
			evacuation->candidate[evacuation->candidates++] = seen;
	}
	mutex_unlock(&evacuation_lock);
}

/* Taking */

/* Under evacuation_lock. */
static int may_take(struct bank *bank, unsigned long start, unsigned long end)
{
	struct evacuation *evacuation = &bank->evacuation;
	unsigned long pfn;

	if (evacuation->gone)
		return -ENODEV;
	if (evacuation->changing)
		return -EAGAIN;
	if (evacuation->short_of_memory)
		return -ENOMEM;
	if (find_next_bit(evacuation->held, unit_of(bank, end), unit_of(bank, start)) <
	    unit_of(bank, end))
		return -EEXIST;
	for (pfn = start; pfn < end; pfn += UNIT)
		if (!pfn_to_online_page(pfn))
			return -ENXIO;
		else if (page_zonenum(pfn_to_page(pfn)) != ZONE_MOVABLE)
			return -EPERM;
	return 0;
}

static int begin(struct bank *bank, unsigned long start, unsigned long end)
{
	int rc;

	mutex_lock(&evacuation_lock);
	rc = may_take(bank, start, end);
	if (!rc)
		bank->evacuation.running++;
	mutex_unlock(&evacuation_lock);
	return rc;
}

static void finish(struct bank *bank, unsigned long start, unsigned long end, bool taken)
{
	struct evacuation *evacuation = &bank->evacuation;
	unsigned long unit = unit_of(bank, start);

	mutex_lock(&evacuation_lock);
	evacuation->running--;
	if (taken)
		bitmap_set(evacuation->held, unit, unit_of(bank, end) - unit);
	if (evacuation->short_of_memory)
		give_back(bank, start, end);
	mutex_unlock(&evacuation_lock);
}

static int take(struct bank *bank, unsigned long start, unsigned long end)
{
	int rc = begin(bank, start, end);

	if (rc)
		return rc;
	rc = alloc_contig_range(start, end, BANK_CONTIG_ORDINARY, GFP_KERNEL | __GFP_NOWARN);
	if (!rc)
		mark(start, end);
	finish(bank, start, end, !rc);
	return fatal_signal_pending(current) ? -EINTR : rc;
}

static int try_to_take(struct bank *bank, unsigned long start, unsigned long end)
{
	int tries = end - start == UNIT ? UNIT_TRIES : RANGE_TRIES;
	int rc;

	do {
		rc = take(bank, start, end);
	} while (rc == -EBUSY && --tries);
	return rc;
}

/* Halves of what fails, down to units: deep by the logarithm of a bank's units. */
static int take_all(struct bank *bank, unsigned long start, unsigned long end)
{
	unsigned long middle = start + rounddown((end - start) / 2, UNIT);
	int rc = try_to_take(bank, start, end), other;

	if (rc != -EBUSY)
		return rc;
	if (middle == start) {
		note_stuck(bank, start);
		return rc;
	}
	rc = take_all(bank, start, middle);
	if (rc && rc != -EBUSY)
		return rc;
	other = take_all(bank, middle, end);
	return other ? other : rc;
}

/* The file */

static struct bank *bank_of_file(struct file *file)
{
	return container_of(file->private_data, struct bank, evacuation.device);
}

static int evacuation_open(struct inode *inode, struct file *file)
{
	struct evacuation *evacuation = &bank_of_file(file)->evacuation;
	int rc = -EBUSY;

	mutex_lock(&evacuation_lock);
	if (list_empty(&evacuation->opened)) {
		list_add_tail(&evacuation->opened, &opened);
		evacuation->short_of_memory = false;
		evacuation->candidates = 0;
		bitmap_zero(evacuation->stuck, evacuation->units);
		bank_get(bank_of_file(file));
		rc = 0;
	}
	mutex_unlock(&evacuation_lock);
	return rc;
}

static int evacuation_release(struct inode *inode, struct file *file)
{
	struct bank *bank = bank_of_file(file);

	mutex_lock(&evacuation_lock);
	give_back(bank, first_pfn(bank), end_pfn(bank));
	list_del_init(&bank->evacuation.opened);
	mutex_unlock(&evacuation_lock);
	bank_put(bank);
	return 0;
}

static ssize_t evacuation_write(struct file *file, const char __user *from, size_t count,
				loff_t *at)
{
	struct bank *bank = bank_of_file(file);
	char text[MAX_RANGE_TEXT] = "";
	unsigned long start, end;
	u64 first, last;
	int rc;

	if (count >= sizeof(text) || copy_from_user(text, from, count))
		return count >= sizeof(text) ? -EINVAL : -EFAULT;
	if (sscanf(text, "%llx-%llx", &first, &last) != 2)
		return -EINVAL;
	start = PHYS_PFN(first);
	end = PHYS_PFN(last + 1);
	if (!IS_ALIGNED(first | (last + 1), PFN_PHYS(UNIT)) || start >= end ||
	    start < first_pfn(bank) || end > end_pfn(bank))
		return -EINVAL;
	rc = take_all(bank, start, end);
	return rc ? rc : count;
}

/* Of two kinds, each with a line for every other unit at most. */
static size_t most_text(const struct bank *bank)
{
	return (bank->evacuation.units + 2) * MAX_RANGE_TEXT + MAX_CANDIDATES * MAX_CANDIDATE_TEXT;
}

static size_t show_units(struct bank *bank, unsigned long *units, const char *word, char *text,
			 size_t at)
{
	size_t most = most_text(bank);
	unsigned int first, end;
	phys_addr_t start, last;

	for_each_set_bitrange(first, end, units, bank->evacuation.units) {
		start = bank->start + PFN_PHYS(first * UNIT);
		last = bank->start + PFN_PHYS(end * UNIT) - 1;
		at += scnprintf(text + at, most - at, "%s %pa-%pa\n", word, &start, &last);
	}
	return at;
}

static size_t show(struct bank *bank, char *text)
{
	struct evacuation *evacuation = &bank->evacuation;
	size_t at, most = most_text(bank);
	unsigned int i;

	at = show_units(bank, evacuation->held, "held", text, 0);
	at = show_units(bank, evacuation->stuck, "stuck", text, at);
	for (i = 0; i < evacuation->candidates; i++)
		at += scnprintf(text + at, most - at,
				"candidate %lu count %d mapcount %d flags %#lx\n",
				evacuation->candidate[i].pfn, evacuation->candidate[i].count,
				evacuation->candidate[i].mapcount, evacuation->candidate[i].flags);
	return at;
}

static ssize_t evacuation_read(struct file *file, char __user *to, size_t count, loff_t *at)
{
	struct bank *bank = bank_of_file(file);
	char *text = kvmalloc(most_text(bank), GFP_KERNEL);
	size_t size;
	ssize_t rc;

	if (!text)
		return -ENOMEM;
	mutex_lock(&evacuation_lock);
	size = show(bank, text);
	mutex_unlock(&evacuation_lock);
	rc = simple_read_from_buffer(to, count, at, text, size);
	kvfree(text);
	return rc;
}

static const struct file_operations evacuation_file = {
	.owner = THIS_MODULE,
	.open = evacuation_open,
	.release = evacuation_release,
	.read = evacuation_read,
	.write = evacuation_write,
	.llseek = default_llseek,
};

/* Events */

int evacuation_event(struct bank *bank, unsigned long action, const struct memory_notify *change)
{
	struct evacuation *evacuation = &bank->evacuation;
	bool going = action == MEM_GOING_OFFLINE || action == MEM_GOING_ONLINE;
	int rc = 0;

	mutex_lock(&evacuation_lock);
	if (going && evacuation->running)
		rc = -EBUSY;
	else
		evacuation->changing = going;
	if (!rc && action == MEM_GOING_OFFLINE)
		give_back(bank, change->start_pfn, change->start_pfn + change->nr_pages);
	mutex_unlock(&evacuation_lock);
	return rc;
}

static int evacuation_out_of_memory(struct notifier_block *nb, unsigned long unused, void *data)
{
	unsigned long *freed = data;
	struct bank *bank;

	mutex_lock(&evacuation_lock);
	list_for_each_entry(bank, &opened, evacuation.opened) {
		bank->evacuation.short_of_memory = true;
		*freed += give_back(bank, first_pfn(bank), end_pfn(bank));
	}
	mutex_unlock(&evacuation_lock);
	return NOTIFY_OK;
}

static struct notifier_block evacuation_oom_notifier = {
	.notifier_call = evacuation_out_of_memory
};

/* Have lockdep know from the start that the lock is taken where memory is asked for. */
static void teach_lockdep(void)
{
	fs_reclaim_acquire(GFP_KERNEL);
	might_lock(&evacuation_lock);
	fs_reclaim_release(GFP_KERNEL);
}

int evacuation_watch_oom(void)
{
	teach_lockdep();
	return register_oom_notifier(&evacuation_oom_notifier);
}

void evacuation_unwatch_oom(void)
{
	unregister_oom_notifier(&evacuation_oom_notifier);
}

/* Beginning and end */

/* Before anybody knows of the bank. What it leaves half done is for evacuation_free(). */
int evacuation_prepare(struct bank *bank)
{
	struct evacuation *evacuation = &bank->evacuation;

	INIT_LIST_HEAD(&evacuation->opened);
	evacuation->units = PHYS_PFN(bank->size) / UNIT;
	evacuation->held = bitmap_zalloc(evacuation->units, GFP_KERNEL);
	evacuation->stuck = bitmap_zalloc(evacuation->units, GFP_KERNEL);
	evacuation->device.nodename = kasprintf(GFP_KERNEL, "hotbank/%s", bank->label);
	evacuation->device.name = kasprintf(GFP_KERNEL, "hotbank-%s", bank->label);
	return evacuation->held && evacuation->stuck && evacuation->device.nodename &&
	       evacuation->device.name ? 0 : -ENOMEM;
}

void evacuation_free(struct bank *bank)
{
	struct evacuation *evacuation = &bank->evacuation;

	bitmap_free(evacuation->held);
	bitmap_free(evacuation->stuck);
	kfree(evacuation->device.nodename);
	kfree(evacuation->device.name);
}

/* Who has the file open keeps it, and the bank: what is held is given back when it is closed. */
static void evacuation_forbid(void *data)
{
	struct bank *bank = data;

	misc_deregister(&bank->evacuation.device);
	mutex_lock(&evacuation_lock);
	bank->evacuation.gone = true;
	mutex_unlock(&evacuation_lock);
}

int evacuation_allow(struct bank *bank)
{
	struct miscdevice *device = &bank->evacuation.device;
	int rc;

	device->minor = MISC_DYNAMIC_MINOR;
	device->fops = &evacuation_file;
	device->parent = bank->dev;
	device->mode = 0600;
	rc = misc_register(device);
	return rc ? rc : devm_add_action_or_reset(bank->dev, evacuation_forbid, bank);
}
