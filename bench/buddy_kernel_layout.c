// SPDX-License-Identifier: Apache-2.0
/*
 * A buddy allocator with the kernel's data layout: 64 bytes of struct page for each frame, doubly linked
 * list heads inside it, one free list for each order and migratetype (mm/page_alloc.c: __free_one_page,
 * __rmqueue_smallest, expand). Without per-CPU lists, locks and zones: what is left is the memory traffic
 * that the layout costs. The baseline of run.py.
 */
#define _GNU_SOURCE
#include "allocate.h"

#define ORDERS 11
#define NO_FRAME UINT32_MAX
#define PAGE_BUDDY 0x80u
#define PAGEBLOCK_ORDER 9

enum migratetype { UNMOVABLE, MOVABLE, RECLAIMABLE, MIGRATETYPES };

struct list_head {
	struct list_head *next, *prev;
};

struct page {
	uint64_t flags;
	struct list_head buddy_list;
	uint64_t private; /* order of a free block, in its first page */
	uint32_t page_type;
	uint32_t refcount;
	uint64_t unused[3];
} __attribute__((aligned(64)));

struct free_area {
	struct list_head free_list[MIGRATETYPES];
	size_t nr_free;
};

static struct page *memmap;
static uint32_t nr_frames;
static struct free_area areas[ORDERS];
static uint8_t *pageblock_type;
static size_t free_pages;

static inline void list_add(struct list_head *entry, struct list_head *head)
{
	entry->next = head->next;
	entry->prev = head;
	head->next->prev = entry;
	head->next = entry;
}

static inline void list_del(struct list_head *entry)
{
	entry->next->prev = entry->prev;
	entry->prev->next = entry->next;
}

static inline struct page *page_of(struct list_head *entry)
{
	return (struct page *)((char *)entry - offsetof(struct page, buddy_list));
}

static inline void add_to_free_list(struct page *page, unsigned order, enum migratetype type)
{
	page->private = order;
	page->page_type = PAGE_BUDDY;
	list_add(&page->buddy_list, &areas[order].free_list[type]);
	areas[order].nr_free++;
}

static inline void del_from_free_list(struct page *page, unsigned order)
{
	list_del(&page->buddy_list);
	page->page_type = 0;
	areas[order].nr_free--;
}

static inline int page_is_buddy(const struct page *page, unsigned order)
{
	return page->page_type == PAGE_BUDDY && page->private == order;
}

static inline void free_one_page(uint32_t pfn, unsigned order, enum migratetype type)
{
	free_pages += 1ul << order;
	while (order < ORDERS - 1) {
		uint32_t buddy = pfn ^ (1u << order);

		if (buddy + (1u << order) > nr_frames || !page_is_buddy(memmap + buddy, order))
			break;
		del_from_free_list(memmap + buddy, order);
		pfn &= buddy;
		order++;
	}
	add_to_free_list(memmap + pfn, order, type);
}

static inline struct page *rmqueue_smallest(unsigned order, enum migratetype type)
{
	for (unsigned current = order; current < ORDERS; current++) {
		struct list_head *list = &areas[current].free_list[type];
		struct page *page;

		if (list->next == list)
			continue;
		page = page_of(list->next);
		del_from_free_list(page, current);
		while (current > order) {
			current--;
			add_to_free_list(page + (1u << current), current, type);
		}
		free_pages -= 1ul << order;
		return page;
	}
	return NULL;
}

static void frames_init(uint32_t frames)
{
	if (!memmap) {
		memmap = metadata(frames * sizeof(*memmap));
		pageblock_type = metadata(frames >> PAGEBLOCK_ORDER);
	}
	memset(memmap, 0, frames * sizeof(*memmap));
	memset(pageblock_type, MOVABLE, frames >> PAGEBLOCK_ORDER);
	nr_frames = frames;
	free_pages = 0;
	for (unsigned order = 0; order < ORDERS; order++) {
		areas[order].nr_free = 0;
		for (unsigned type = 0; type < MIGRATETYPES; type++) {
			struct list_head *list = &areas[order].free_list[type];

			list->next = list->prev = list;
		}
	}
	/* From the top down: the lowest block is the first to be taken, as after memblock_free_all. */
	for (uint32_t pfn = frames, step = 1u << (ORDERS - 1); pfn >= step; pfn -= step)
		free_one_page(pfn - step, ORDERS - 1, MOVABLE);
}

static inline uint32_t frames_get(unsigned order)
{
	struct page *page = rmqueue_smallest(order, MOVABLE);

	if (!page)
		return NO_FRAME;
	page->refcount = 1;
	return page - memmap;
}

static inline void frames_put(uint32_t pfn, unsigned order)
{
	memmap[pfn].refcount = 0;
	free_one_page(pfn, order, pageblock_type[pfn >> PAGEBLOCK_ORDER]);
}

#include "harness.h"
