/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rows of the benchmark as a shared library, the same for each allocator.
 *
 * An allocator is a file that defines, before it includes this one,
 *     static void frames_init(uint32_t frames);
 *     static uint32_t frames_get(unsigned order);           first pfn, or NO_FRAME
 *     static void frames_put(uint32_t pfn, unsigned order);
 * run.py makes the arrays, times the calls, and compares the pfns that all allocators gave.
 */
#ifndef BENCH_HARNESS_H
#define BENCH_HARNESS_H
#include <stddef.h>

/* Allocate n blocks of the given orders. */
void row_take(uint32_t *held, const uint8_t *orders, size_t n)
{
	for (size_t i = 0; i < n; i++)
		held[i] = frames_get(orders[i]);
}

/* Free n blocks in the order given. */
void row_give(const uint32_t *held, const uint8_t *orders, size_t n)
{
	for (size_t i = 0; i < n; i++)
		frames_put(held[i], orders[i]);
}

/* Each pick frees one held block and allocates one of the same order in its place. */
void row_churn(uint32_t *held, const uint8_t *orders, const uint32_t *picks, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t slot = picks[i];

		frames_put(held[slot], orders[slot]);
		held[slot] = frames_get(orders[slot]);
	}
}

/* The same in runs: free the blocks of a whole batch, then allocate as many of the same orders. */
void row_runs(uint32_t *held, const uint8_t *orders, const uint32_t *picks, size_t n, size_t batch)
{
	for (size_t start = 0; start < n; start += batch) {
		size_t end = start + batch < n ? start + batch : n;

		for (size_t i = start; i < end; i++)
			frames_put(held[picks[i]], orders[picks[i]]);
		for (size_t i = start; i < end; i++)
			held[picks[i]] = frames_get(orders[picks[i]]);
	}
}

void row_init(uint32_t frames)
{
	frames_init(frames);
}

/* The bare scan that ranking is measured against: how many of n state bytes have the top bit set,
 * in vectors, which -O2 alone leaves out. */
__attribute__((optimize("O3"))) size_t row_scan(const uint8_t *state, size_t n)
{
	size_t set = 0;

	for (size_t i = 0; i < n; i++)
		set += state[i] >> 7;
	return set;
}

#endif
