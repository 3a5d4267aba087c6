/* SPDX-License-Identifier: Apache-2.0 */
/* As much of a kernel as kernel/bank/counts.c needs, outside of one: one block of memory, which the test fills. */
#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

typedef uint64_t u64;
typedef uint32_t u32;
typedef int32_t s32;

enum {
	KPF_UPTODATE = 3, KPF_LRU = 5, KPF_SLAB = 7, KPF_BUDDY = 10, KPF_ANON = 12, KPF_SWAPCACHE = 13,
	KPF_SWAPBACKED = 14, KPF_HUGE = 17, KPF_HWPOISON = 19, KPF_OFFLINE = 23, KPF_PGTABLE = 26,
	KPF_RESERVED = 32, KPF_PRIVATE = 35,
};

#define EINTR 4
#define EINVAL 22
#define MAX_ORDER_NR_PAGES 1024
#define ZONE_MOVABLE 3
#define NUMA_NO_NODE (-1)
#define READ_ONCE(x) (x)
#define IS_ALIGNED(x, to) (!((x) & ((to) - 1)))
#define PHYS_PFN(at) ((at) / 4096)
#define max(a, b) ((a) > (b) ? (a) : (b))
#define clamp_t(type, x, low, high) ((type)(x) < (type)(low) ? (type)(low) : max(0, (type)(x) < (type)(high) ? (type)(x) : (type)(high)))

struct page { u64 flags; int _refcount, _mapcount; unsigned long private; struct page *head; int entire, pages; };
struct folio { struct page page; };
struct bank { unsigned long start, size; int looking; struct bin_attribute { void *private; ssize_t (*read)(); } counts; };
struct file;
struct kobject;

static struct page memory[MAX_ORDER_NR_PAGES];

#define page_folio(page) ((struct folio *)(page)->head)
#define folio_nr_pages(folio) ((folio)->page.pages)
#define folio_page(folio, n) (&(folio)->page + (n))
#define page_ref_count(page) ((page)->_refcount)
#define atomic_read(number) (*(number))
#define PageBuddy(page) ((page)->flags >> KPF_BUDDY & 1)
#define PageCompound(page) ((page)->head->pages > 1)
#define PageHWPoison(page) ((page)->flags >> KPF_HWPOISON & 1)
#define page_to_nid(page) 0
#define page_zonenum(page) ZONE_MOVABLE
#define pfn_to_online_page(pfn) (&memory[pfn])
#define memory_block_size_bytes() (4096UL * MAX_ORDER_NR_PAGES)
#define down_read_killable(lock) 0
#define up_read(lock)
#define cond_resched()
#define fatal_signal_pending(task) 0
#define BANK_READER(name)
#define bank_reader(name) ((ssize_t (*)())(name))
#define bank_drain_batches(pfn)
#define bank_describe_file(bank, file, name, size) ((file)->private = (bank), (void)(size))
#define bank_page_flags(page) ((page)->head->flags)
#define bank_entire_maps(folio) ((folio)->page.entire)
#define bank_page_maps(page) ((page)->_mapcount + 1)
