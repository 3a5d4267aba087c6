// SPDX-License-Identifier: GPL-2.0-only
/*
 * How many pages of each kind the blocks of a bank hold, for whoever chooses among them
 * and need not see each page: free blocks are passed over whole, and so are folios.
 *
 *	counts		a struct bank_counts for each block, native-endian
 *
 * Hints, as in pages.c, and of pages whose struct page is held there in the same way.
 */

#include <linux/kernel-page-flags.h>
#include <linux/memory.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/string.h>

#include "bank.h"
#include "compat.h"

/* Of everything that has another layout the form is another one. */
#define COUNTS_FORM	1

enum bank_kind {
	KIND_HOLE,	/* no struct page that is in use, as of an offline block */
	KIND_FREE,
	KIND_ANON,
	KIND_SHMEM,
	KIND_FILE,
	KIND_HUGETLB,
	KIND_OFFLINE,	/* PageOffline: held by evacuate.c or by a hypervisor's driver */
	KIND_SLAB,
	KIND_PGTABLE,
	KIND_RESERVED,
	KIND_KERNEL,	/* in use for something else */
	KIND_POISONED,
	MAX_KINDS = 16,
};

#define MAX_ORDERS	32

struct bank_counts {
	u32 form;
	u32 held;		/* pages that can move, of more references than are explained */
	u32 movable;		/* pages in ZONE_MOVABLE */
	s32 node;		/* of them all; -1 where there are none */
	u32 pages[MAX_KINDS];
	u32 free[MAX_ORDERS];	/* free blocks, by order */
	u32 unused_too[12];
};

#define HAS(flags, name)	((flags) & 1ULL << KPF_##name)

/* The first that is true, in the order of docs/survey.md; "referred": somebody has it in use. */
static enum bank_kind bank_kind(u64 flags, bool referred)
{
	if (HAS(flags, BUDDY))
		return KIND_FREE;
	if (HAS(flags, OFFLINE))
		return KIND_OFFLINE;
	if (HAS(flags, PGTABLE))
		return KIND_PGTABLE;
	if (HAS(flags, SLAB))
		return KIND_SLAB;
	if (HAS(flags, HUGE))
		return KIND_HUGETLB;
	if (HAS(flags, RESERVED))
		return KIND_RESERVED;
	if (HAS(flags, ANON))
		return KIND_ANON;
	if (HAS(flags, SWAPBACKED))
		return KIND_SHMEM;
	if (HAS(flags, LRU) || HAS(flags, UPTODATE))
		return KIND_FILE;
	return flags || referred ? KIND_KERNEL : KIND_FREE;	/* or in a CPU's list of free pages */
}

/* Of a kind whose references are understood: mappings, the cache, buffers, a batch. */
static bool bank_is_held(struct page *head, u64 flags, int pages, int maps)
{
	int known = maps + !!HAS(flags, PRIVATE) + !HAS(flags, LRU);

	if (!HAS(flags, ANON) || HAS(flags, SWAPCACHE))
		known += pages;
	return page_ref_count(head) > known;
}

static bool bank_may_move(enum bank_kind kind)
{
	return kind == KIND_ANON || kind == KIND_SHMEM || kind == KIND_FILE;
}

/* A free block of the allocator. What became of it meanwhile may have written its order over. */
static unsigned long bank_count_free(struct page *page, unsigned long pfn, unsigned long most,
				     struct bank_counts *counts)
{
	unsigned long order = READ_ONCE(page->private);
	unsigned long pages = 1;

	if (order < MAX_ORDERS - 1 && 1UL << order <= most && IS_ALIGNED(pfn, 1UL << order)) {
		pages <<= order;
		counts->free[order]++;
	}
	counts->pages[KIND_FREE] += pages;
	return pages;
}

/*
 * A large folio from this page of it on, or what of it lies before the end. Until 6.2
 * (cb67f4282bf9) who maps it whole may be counted at each of its pages as well. So of one
 * that is mapped whole only those are taken for sure, and other mappings look like pins.
 */
static unsigned long bank_count_folio(struct page *page, unsigned long most,
				      struct bank_counts *counts)
{
	struct folio *folio = page_folio(page);
	int pages = folio_nr_pages(folio);
	unsigned long part = clamp_t(long, folio_page(folio, 0) + pages - page, 1, most);
	u64 flags = bank_page_flags(&folio->page);
	enum bank_kind kind = bank_kind(flags, page_ref_count(&folio->page));
	int whole = bank_entire_maps(folio), single = 0;
	unsigned long i, bad = 0;

	for (i = 0; i < part; i++) {
		bad += !!PageHWPoison(page + i);
		single += max(atomic_read(&page[i]._mapcount) + 1, 0);
	}
	counts->pages[KIND_POISONED] += bad;
	counts->pages[kind] += part - bad;
	if (bank_may_move(kind) && bank_is_held(&folio->page, flags, pages, whole ?: single))
		counts->held += part - bad;
	return part;
}

static unsigned long bank_count_page(struct page *page, struct bank_counts *counts)
{
	u64 flags = bank_page_flags(page);
	enum bank_kind kind = bank_kind(flags, page_ref_count(page));

	if (HAS(flags, HWPOISON))
		kind = KIND_POISONED;
	counts->pages[kind]++;
	if (bank_may_move(kind) && bank_is_held(page, flags, 1, bank_page_maps(page)))
		counts->held++;
	return 1;
}

/* As many of the next pages as are one thing, "most" at the most. */
static unsigned long bank_count(struct page *page, unsigned long pfn, unsigned long most,
				struct bank_counts *counts)
{
	if (PageBuddy(page))
		return bank_count_free(page, pfn, most, counts);
	if (PageCompound(page))
		return bank_count_folio(page, most, counts);
	return bank_count_page(page, counts);
}

/* No section is smaller than the largest free block: what is online of it is so as a whole. */
static void bank_count_unit(unsigned long pfn, struct bank_counts *counts)
{
	struct page *page = pfn_to_online_page(pfn);
	unsigned long done = 0;

	if (!page) {
		counts->pages[KIND_HOLE] += MAX_ORDER_NR_PAGES;
		return;
	}
	counts->node = page_to_nid(page);
	if (page_zonenum(page) == ZONE_MOVABLE)
		counts->movable += MAX_ORDER_NR_PAGES;
	while (done < MAX_ORDER_NR_PAGES)
		done += bank_count(page + done, pfn + done, MAX_ORDER_NR_PAGES - done, counts);
}

static int bank_count_block(struct bank *bank, unsigned long pfn, struct bank_counts *counts)
{
	unsigned long end = pfn + PHYS_PFN(memory_block_size_bytes());

	memset(counts, 0, sizeof(*counts));
	counts->form = COUNTS_FORM;
	counts->node = NUMA_NO_NODE;
	bank_drain_batches(pfn);
	if (down_read_killable(&bank->looking))
		return -EINTR;
	for (; pfn < end && !fatal_signal_pending(current); pfn += MAX_ORDER_NR_PAGES) {
		bank_count_unit(pfn, counts);
		cond_resched();
	}
	up_read(&bank->looking);
	return pfn < end ? -EINTR : 0;
}

static ssize_t counts_read(struct file *file, struct kobject *kobj,
			   const struct bin_attribute *attr, char *buf, loff_t at, size_t count)
{
	unsigned long block = PHYS_PFN(memory_block_size_bytes());
	struct bank *bank = attr->private;
	unsigned long pfn = PHYS_PFN(bank->start) +
			    (unsigned long)at / sizeof(struct bank_counts) * block;
	size_t done;
	int rc;

	if ((at | count) & (sizeof(struct bank_counts) - 1))
		return -EINVAL;
	for (done = 0; done < count; done += sizeof(struct bank_counts), pfn += block) {
		rc = bank_count_block(bank, pfn, (struct bank_counts *)(buf + done));
		if (rc)
			return rc;
	}
	return count;
}
BANK_READER(counts_read)

void bank_describe_counts(struct bank *bank)
{
	size_t blocks = PHYS_PFN(bank->size) / PHYS_PFN(memory_block_size_bytes());

	static_assert(sizeof(struct bank_counts) == 256);
	bank_describe_file(bank, &bank->counts, "counts", blocks * sizeof(struct bank_counts));
	bank->counts.read = bank_reader(counts_read);
}
