/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Zeroed memory for frame metadata, on huge pages where the process may have them (run.py --huge): numpy
 * asks for them as well, and the kernel maps its memmap that way. So no side wins by its page tables.
 */
#ifndef BENCH_ALLOCATE_H
#define BENCH_ALLOCATE_H
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_PAGE (2ul << 20)

static void *metadata(size_t bytes)
{
	size_t rounded = (bytes + HUGE_PAGE - 1) & ~(HUGE_PAGE - 1);
	void *memory = aligned_alloc(HUGE_PAGE, rounded);

	if (!memory) {
		perror("metadata");
		exit(1);
	}
	madvise(memory, rounded, MADV_HUGEPAGE); /* advice: a system without huge pages runs as well */
	return memset(memory, 0, rounded);
}

#endif
