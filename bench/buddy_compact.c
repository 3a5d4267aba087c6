// SPDX-License-Identifier: Apache-2.0
/*
 * The same buddy allocator as a structure of arrays: one state byte and two 32-bit links a frame, one
 * bit for each order that has free blocks. Its ratio to buddy_kernel_layout.c says whether that baseline
 * is a fair one: 0.2 to 0.3 is what the layout alone is worth.
 */
#define _GNU_SOURCE
#include "allocate.h"

#define ORDERS 11
#define NO_FRAME UINT32_MAX
#define FREE 0x80u /* with the order: the first frame of a free block */

static uint8_t *state;
static uint32_t *next, *prev;
static uint32_t first[ORDERS], orders_free, nr_frames;

static inline void push(uint32_t pfn, unsigned order)
{
	state[pfn] = FREE | order;
	prev[pfn] = NO_FRAME;
	next[pfn] = first[order];
	if (first[order] != NO_FRAME)
		prev[first[order]] = pfn;
	first[order] = pfn;
	orders_free |= 1u << order;
}

static inline void unlink_block(uint32_t pfn, unsigned order)
{
	uint32_t before = prev[pfn], after = next[pfn];

	if (before != NO_FRAME)
		next[before] = after;
	else if ((first[order] = after) == NO_FRAME)
		orders_free &= ~(1u << order);
	if (after != NO_FRAME)
		prev[after] = before;
	state[pfn] = 0;
}

static inline void frames_put(uint32_t pfn, unsigned order)
{
	while (order < ORDERS - 1) {
		uint32_t buddy = pfn ^ (1u << order);

		if (buddy >= nr_frames || state[buddy] != (FREE | order))
			break;
		unlink_block(buddy, order);
		pfn &= buddy;
		order++;
	}
	push(pfn, order);
}

static inline uint32_t frames_get(unsigned order)
{
	uint32_t large_enough = orders_free >> order, pfn;
	unsigned current;

	if (!large_enough)
		return NO_FRAME;
	current = order + __builtin_ctz(large_enough);
	pfn = first[current];
	unlink_block(pfn, current);
	while (current > order) {
		current--;
		push(pfn + (1u << current), current);
	}
	return pfn;
}

static void frames_init(uint32_t frames)
{
	if (!state) {
		state = metadata(frames);
		next = metadata(frames * sizeof(*next));
		prev = metadata(frames * sizeof(*prev));
	}
	memset(state, 0, frames);
	nr_frames = frames;
	orders_free = 0;
	for (unsigned order = 0; order < ORDERS; order++)
		first[order] = NO_FRAME;
	/* From the top down: the lowest block is the first to be taken, as after memblock_free_all. */
	for (uint32_t pfn = frames, step = 1u << (ORDERS - 1); pfn >= step; pfn -= step)
		push(pfn - step, ORDERS - 1);
}

#include "harness.h"
