// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory banks that can leave a 32-bit ARM system and return
 * (ARMv7, short-descriptor page tables).
 *
 * Three parts:
 *  - boot: which memory may leave, as the boot loader or the command line
 *    says it;
 *  - the linear mapping of a lowmem bank. Every mm has its own copy of the
 *    kernel's first-level entries (pgd_alloc), so a bank that goes dark must
 *    lose its entries in all of them, or a CPU may still read it
 *    speculatively;
 *  - arch_add_memory() and arch_remove_memory(), with cache maintenance.
 */
#define pr_fmt(fmt) "memhp: " fmt

#include <linux/bootmem_info.h>
#include <linux/highmem.h>
#include <linux/init.h>
#include <linux/libfdt.h>
#include <linux/list.h>
#include <linux/memblock.h>
#include <linux/memory_hotplug.h>
#include <linux/of_fdt.h>
#include <linux/sched.h>
#include <linux/stop_machine.h>
#include <linux/vmalloc.h>

#include <asm/cacheflush.h>
#include <asm/memhp.h>
#include <asm/outercache.h>
#include <asm/setup.h>
#include <asm/tlbflush.h>

#include "mm.h"

/* Boot: which memory may leave */

/**
 * arm_add_memory_zone() - register a bank of memory with the zone it is for
 * @start: physical address
 * @size: bytes
 * @zone: ZONE_MOVABLE for a bank that may leave; any other: the kernel's choice
 *
 * A movable bank is kept free of boot-time allocations, and ZONE_MOVABLE
 * starts at the lowest one (find_zone_movable_pfns_for_nodes).
 */
int __init arm_add_memory_zone(u64 start, u64 size, enum zone_type zone)
{
	u64 end = start + size;
	int ret;

	ret = arm_add_memory(start, size);
	if (ret || zone != ZONE_MOVABLE)
		return ret;

	/* As arm_add_memory() trims it: whole pages, nothing below RAM or above 4 GiB. */
	start = max_t(u64, PAGE_ALIGN(start), PHYS_OFFSET);
	end = min_t(u64, end, ULONG_MAX) & PAGE_MASK;
	if (!IS_ALIGNED(start | end, 1UL << SECTION_SIZE_BITS))
		pr_warn("movable bank %#llx-%#llx is not whole memory blocks, parts of it cannot leave\n",
			start, end - 1);
	pr_info("movable bank %#llx-%#llx\n", start, end - 1);
	movable_node_enabled = true;
	return memblock_mark_hotplug(start, end - start);
}

static int __init parse_tag_mem_movable(const struct tag *tag)
{
	return arm_add_memory_zone(tag->u.mem.start, tag->u.mem.size, ZONE_MOVABLE);
}
__tagtable(ATAG_MEM_MOVABLE, parse_tag_mem_movable);

/* movablemem=size@start, with the suffixes of memparse() */
static int __init early_movablemem(char *p)
{
	u64 size = memparse(p, &p);

	if (!size || *p != '@') {
		pr_warn("movablemem= wants size@start\n");
		return -EINVAL;
	}
	return arm_add_memory_zone(memparse(p + 1, NULL), size, ZONE_MOVABLE);
}
early_param("movablemem", early_movablemem);

/* The memory nodes that the decompressor made of ATAG_MEM_MOVABLE. */
void __init arm_memhp_scan_fdt(void)
{
	const void *fdt = initial_boot_params;
	int node;

	if (!fdt)
		return;
	fdt_for_each_subnode(node, fdt, 0) {
		const __be32 *reg = of_get_flat_dt_prop(node, "reg", NULL);
		u64 start, size;

		if (!reg || !of_get_flat_dt_prop(node, "hotbank,movable", NULL))
			continue;
		start = dt_mem_next_cell(dt_root_addr_cells, &reg);
		size = dt_mem_next_cell(dt_root_size_cells, &reg);
		arm_add_memory_zone(start, size, ZONE_MOVABLE);
	}
}

#ifdef CONFIG_HAVE_BOOTMEM_INFO_NODE
/*
 * Mark the struct pages of whole sections, which came from memblock, so that
 * free_map_bootmem() gives them back when the section leaves. A section with
 * holes can't go offline, and parts of its memory map are free already.
 */
static void __init mark_memory_maps(void)
{
	unsigned long section, i;

	for (section = 0; section < NR_MEM_SECTIONS; section++) {
		phys_addr_t start = PFN_PHYS(section_nr_to_pfn(section));
		struct page *map;

		if (!present_section_nr(section) ||
		    !memblock_is_region_memory(start, 1UL << SECTION_SIZE_BITS))
			continue;
		map = virt_to_page(pfn_to_page(section_nr_to_pfn(section)));
		for (i = 0; i < PFN_UP(PAGES_PER_SECTION * sizeof(struct page)); i++)
			get_page_bootmem(section, map + i, SECTION_INFO);
	}
}
#else
static void __init mark_memory_maps(void) { }
#endif

void __init arm_memhp_mem_init(void)
{
	mark_memory_maps();
}

/* The linear mapping of lowmem banks */

#define FIRST_ENTRY	(PAGE_OFFSET >> SECTION_SHIFT)
#define NR_ENTRIES	(PTRS_PER_PGD * 2 - FIRST_ENTRY)

/* First-level entries of lowmem that is out of the kernel; 0 where it is mapped. */
static pmdval_t taken[NR_ENTRIES];

static DEFINE_RAW_SPINLOCK(pgds_lock);
static LIST_HEAD(pgds);

struct linear_change {
	unsigned int first, last;	/* indices into taken[] */
	bool map;
};

/*
 * An mm that was just made has copied init_mm's entries, perhaps before they
 * changed: copy them again, in step with the list. Going by tasks would miss
 * it, because fork and exec build an mm that no task owns yet.
 */
void arm_memhp_add_pgd(pgd_t *pgd)
{
	pmdval_t *entry = (pmdval_t *)pgd + FIRST_ENTRY;
	pmdval_t *init_entry = (pmdval_t *)init_mm.pgd + FIRST_ENTRY;
	unsigned long flags;

	raw_spin_lock_irqsave(&pgds_lock, flags);
	list_add(&virt_to_page(pgd)->lru, &pgds);
	memcpy(entry, init_entry, NR_ENTRIES * sizeof(*entry));
	raw_spin_unlock_irqrestore(&pgds_lock, flags);
	clean_dcache_area(entry, NR_ENTRIES * sizeof(*entry));
}

void arm_memhp_del_pgd(pgd_t *pgd)
{
	unsigned long flags;

	raw_spin_lock_irqsave(&pgds_lock, flags);
	list_del(&virt_to_page(pgd)->lru);
	raw_spin_unlock_irqrestore(&pgds_lock, flags);
}

static void write_entries(pgd_t *pgd, const struct linear_change *change)
{
	pmdval_t *entry = (pmdval_t *)pgd + FIRST_ENTRY;
	unsigned int i;

	for (i = change->first; i < change->last; i++)
		entry[i] = change->map ? taken[i] : 0;
	clean_dcache_area(entry + change->first,
			  (change->last - change->first) * sizeof(*entry));
}

/*
 * Runs on one CPU while all others spin with interrupts off, so nobody holds
 * pgds_lock and nobody is in between reading init_mm's entry and writing its
 * own (do_translation_fault). init_mm is first when entries go.
 */
static int change_linear(void *arg)
{
	const struct linear_change *change = arg;
	pmdval_t *entry = (pmdval_t *)init_mm.pgd + FIRST_ENTRY;
	struct page *page;
	unsigned int i;

	if (!change->map)
		for (i = change->first; i < change->last; i++)
			taken[i] = entry[i];
	write_entries(init_mm.pgd, change);
	list_for_each_entry(page, &pgds, lru)
		write_entries(page_address(page), change);
	if (change->map)
		for (i = change->first; i < change->last; i++)
			taken[i] = 0;
	return 0;
}

/* arm_lowmem_limit is gone after boot. */
static u64 lowmem_end(void)
{
	return (u64)max_low_pfn << PAGE_SHIFT;
}

/* The part of a bank that is lowmem; empty (first == last) for highmem. */
static struct linear_change linear_part(u64 start, u64 size, bool map)
{
	u64 end = min(start + size, lowmem_end());
	struct linear_change change = { .map = map };

	if (start < end) {
		change.first = (__phys_to_virt(start) >> SECTION_SHIFT) - FIRST_ENTRY;
		change.last = ((__phys_to_virt(end - 1) >> SECTION_SHIFT) - FIRST_ENTRY) + 1;
	}
	return change;
}

static void set_linear(u64 start, u64 size, bool map)
{
	struct linear_change change = linear_part(start, size, map);

	if (change.first == change.last)
		return;
	stop_machine_cpuslocked(change_linear, &change, NULL);
	if (!map)
		flush_tlb_all();
}

/* True if all of the bank's linear mapping was taken down before. */
static bool linear_is_taken(u64 start, u64 size)
{
	struct linear_change change = linear_part(start, size, true);
	unsigned int i;

	for (i = change.first; i < change.last; i++)
		if (!taken[i])
			return false;
	return true;
}

/* Add and remove */

/*
 * Clean and invalidate a bank to the point of coherency, and in the outer
 * cache. On the way out no dirty line may stay behind that would be evicted
 * into a dark bank: inner before outer. On the way in no line of what the bank
 * held before may be left, nor come back from the outer cache: outer before
 * inner.
 */
static void flush_bank(u64 start, u64 size)
{
	u64 phys, low = min(start + size, lowmem_end());

	outer_flush_range(start, start + size);
	for (phys = start; phys < start + size; phys += PAGE_SIZE) {
		void *page = phys < low ? __va((phys_addr_t)phys) : kmap_local_pfn(PFN_DOWN(phys));

		__cpuc_flush_dcache_area(page, PAGE_SIZE);
		if (phys >= low)
			kunmap_local(page);
		if (!(phys & (SZ_1M - 1)))
			cond_resched();
	}
	outer_flush_range(start, start + size);
}

/*
 * Only lowmem that was there at boot has a place in the linear mapping, and
 * highmem needs a zone whose pages are mapped one by one: where the kernel
 * booted without HighMem, ZONE_MOVABLE is taken for lowmem.
 */
static int check_bank(u64 start, u64 size)
{
	if (start < lowmem_end() && !linear_is_taken(start, size)) {
		pr_warn("%#llx: lowmem that was not there at boot cannot be added\n", start);
		return -EINVAL;
	}
#ifdef CONFIG_HIGHMEM
	if (start + size > lowmem_end() && movable_zone == ZONE_HIGHMEM)
		return 0;
#endif
	if (start + size > lowmem_end()) {
		pr_warn("%#llx: highmem cannot be added to a system that booted without\n", start);
		return -EINVAL;
	}
	return 0;
}

int arch_add_memory(int nid, u64 start, u64 size, struct mhp_params *params)
{
	int ret = check_bank(start, size);

	if (ret)
		return ret;
	set_linear(start, size, true);
	flush_bank(start, size);
	ret = __add_pages(nid, PFN_DOWN(start), PFN_DOWN(size), params);
	if (ret)
		set_linear(start, size, false);
	else
		max_pfn = max_t(unsigned long, max_pfn, PFN_DOWN(start + size));
	return ret;
}

#ifdef CONFIG_MEMORY_HOTREMOVE
void arch_remove_memory(u64 start, u64 size, struct vmem_altmap *altmap,
			struct dev_pagemap *pgmap)
{
	/* Mappings of its pages that were kept for reuse. */
	kmap_flush_unused();
	vm_unmap_aliases();
	flush_bank(start, size);
	set_linear(start, size, false);
	__remove_pages(PFN_DOWN(start), PFN_DOWN(size), altmap, pgmap);
}
#endif
