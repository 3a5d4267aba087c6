/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Nothing of a bank may stay in a cache when its power goes: a dirty line that
 * is evicted later hits a bus without memory behind it.
 */
#ifndef HOTBANK_CACHES_H
#define HOTBANK_CACHES_H

#include <linux/highmem.h>
#include <linux/libnvdimm.h>

#if defined(CONFIG_ARM64) && defined(CONFIG_ARCH_HAS_PMEM_API)

/* The linear mapping is there until the block is removed. */
static inline void bank_clean_caches(unsigned long start_pfn, unsigned long nr_pages)
{
	void *start = page_address(pfn_to_page(start_pfn));

	arch_wb_cache_pmem(start, nr_pages << PAGE_SHIFT);
	arch_invalidate_pmem(start, nr_pages << PAGE_SHIFT);
}

#elif defined(CONFIG_ARM)

#include <asm/cacheflush.h>
#include <asm/outercache.h>

/* Highmem has no mapping of its own: page by page, then the outer cache by physical address. */
static inline void bank_clean_caches(unsigned long start_pfn, unsigned long nr_pages)
{
	unsigned long i;
	void *page;

	for (i = 0; i < nr_pages; i++) {
		page = kmap_local_page(pfn_to_page(start_pfn + i));
		__cpuc_flush_dcache_area(page, PAGE_SIZE);
		kunmap_local(page);
	}
	outer_flush_range(PFN_PHYS(start_pfn), PFN_PHYS(start_pfn + nr_pages));
}

#else

/* Caches are coherent with memory that goes away, or the platform sees to it. */
static inline void bank_clean_caches(unsigned long start_pfn, unsigned long nr_pages)
{
}

#endif
#endif
