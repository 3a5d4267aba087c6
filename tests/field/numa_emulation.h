/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel's mm/numa_emulation.c needs to be compiled as a program:
 *   WORDS NODE START END ... -- START END ...
 * prints the fake nodes that it makes of the memory, as NODE START END.
 */
#include <ctype.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned long long u64;
typedef unsigned char u8;
typedef unsigned long nodemask_t;

#define __init
#define __initdata
#define KERN_INFO
#define MAX_NUMNODES 16
#define NR_NODE_MEMBLKS (MAX_NUMNODES * 2)
#define NUMA_NO_NODE (-1)
#define LOCAL_DISTANCE 10
#define REMOTE_DISTANCE 20
#define CONFIG_DEBUG_PER_CPU_MAPS 1
#define ENOENT 2
#define EINVAL 22
#define PAGE_SHIFT 12
#define PAGE_SIZE 4096UL
#define SZ_1M 0x100000
#define SZ_4G 0x100000000ULL
#define PFN_UP(x) (((x) + PAGE_SIZE - 1) >> PAGE_SHIFT)
#define PFN_DOWN(x) ((x) >> PAGE_SHIFT)
#define PFN_PHYS(x) ((u64)(x) << PAGE_SHIFT)
#define PHYS_PFN(x) ((unsigned long)((x) >> PAGE_SHIFT))
#define ALIGN(x, a) (((x) + (a) - 1) / (a) * (a))
#define ALIGN_DOWN(x, a) ((x) / (a) * (a))
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define WARN_ON_ONCE(x) ((void)(x))
#define BUG_ON(x) ((void)(x))
#define pr_err(...) ((void)0)
#define pr_info(...) ((void)0)
#define pr_warn(...) ((void)0)
#define printk(...) ((void)0)
#define nodes_empty(m) ((m) == 0)
#define nodes_clear(m) ((m) = 0)
#define node_set(n, m) ((m) |= 1UL << (n))
#define node_clear(n, m) ((m) &= ~(1UL << (n)))
#define for_each_node_mask(i, m) for ((i) = 0; (i) < MAX_NUMNODES; (i)++) if ((m) >> (i) & 1)
#define for_each_online_node(i) for_each_node_mask(i, numa_nodes_parsed)
#define simple_strtoul kernel_strtoul
#define numa_set_distance(i, j, d) ((void)(d))
#define numa_reset_distance() ((void)0)
#define node_distance(i, j) 0
#define fix_pxm_node_maps(n) 0
#define numa_emu_update_cpu_to_node(map, n) ((void)0)
#define memblock_alloc(size, align) malloc(size)
#define memblock_free(at, size) free(at)
#define early_cpu_to_node(cpu) 0
#define debug_cpumask_set_cpu(cpu, nid, enable) ((void)0)

struct numa_memblk {
	u64 start, end;
	int nid;
};

struct numa_meminfo {
	int nr_blks;
	struct numa_memblk blk[NR_NODE_MEMBLKS];
};

static struct numa_meminfo physical, present;
static nodemask_t numa_nodes_parsed;
static unsigned long max_pfn;
static int numa_distance_cnt;

static unsigned long absent_pages_in_range(unsigned long from, unsigned long to)
{
	unsigned long absent = to - from;

	for (int i = 0; i < present.nr_blks; i++) {
		unsigned long start = max(from, present.blk[i].start >> PAGE_SHIFT);
		unsigned long end = min(to, present.blk[i].end >> PAGE_SHIFT);

		absent -= start < end ? end - start : 0;
	}
	return absent;
}

static void numa_remove_memblk_from(int at, struct numa_meminfo *mi)
{
	mi->nr_blks--;
	memmove(&mi->blk[at], &mi->blk[at + 1], (mi->nr_blks - at) * sizeof(mi->blk[0]));
}

/* What it joins is not asked here. */
static int numa_cleanup_meminfo(struct numa_meminfo *mi)
{
	(void)mi;
	return 0;
}

/* lib/vsprintf.c: what is too large wraps around. */
static unsigned long kernel_strtoul(const char *text, char **end, int base)
{
	unsigned long value = 0;

	base = *text == '0' ? 8 : 10;
	if (base == 8 && (text[1] | 0x20) == 'x' && isxdigit(text[2])) {
		base = 16;
		text += 2;
	}
	while (isxdigit(*text)) {
		int digit = isdigit(*text) ? *text - '0' : (*text | 0x20) - 'a' + 10;

		if (digit >= base)
			break;
		value = value * base + digit;
		text++;
	}
	*end = (char *)text;
	return value;
}

static u64 memparse(const char *text, char **end)
{
	u64 value = kernel_strtoul(text, end, 0);
	const char *suffix = "KMGTPE", *found = **end ? strchr(suffix, **end & ~0x20) : NULL;

	if (found) {
		value <<= 10 * (found - suffix + 1);
		(*end)++;
	}
	return value;
}

static int get_option(char **text, int *value)
{
	(void)text;
	(void)value;
	return 0;
}

static u64 numa_emu_dma_end(void)
{
	return present.blk[0].start + SZ_4G;
}

extern int emu_nid_to_phys[];
int numa_emu_cmdline(char *words);
void numa_emulation(struct numa_meminfo *mi, int count);

int main(int argc, char **argv)
{
	int at = 2, made;

	for (; at < argc && strcmp(argv[at], "--"); at += 3) {
		struct numa_memblk one = { strtoull(argv[at + 1], 0, 0), strtoull(argv[at + 2], 0, 0), atoi(argv[at]) };

		physical.blk[physical.nr_blks++] = one;
		node_set(one.nid, numa_nodes_parsed);
	}
	for (at++; at < argc; at += 2) {
		struct numa_memblk one = { strtoull(argv[at], 0, 0), strtoull(argv[at + 1], 0, 0), 0 };

		present.blk[present.nr_blks++] = one;
		max_pfn = one.end >> PAGE_SHIFT;
	}
	for (made = physical.nr_blks; made < NR_NODE_MEMBLKS; made++)
		physical.blk[made].nid = NUMA_NO_NODE;
	numa_emu_cmdline(argv[1]);
	emu_nid_to_phys[0] = INT_MIN;
	numa_emulation(&physical, 0);
	for (at = 0; at < physical.nr_blks; at++)
		printf("%d %llu %llu\n", physical.blk[at].nid, physical.blk[at].start, physical.blk[at].end);
	return 0;
}
