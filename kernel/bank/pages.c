// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the pages of a bank are, for whoever plans to take it away.
 *
 *	pages		16 bytes for each page, native-endian: see struct bank_page
 *	refcounts	of these only the reference count, an s32 for each page
 *
 * A page without a struct page that is in use, as of an offline block, has KPF_NOPAGE
 * and the count -1. All are hints, as in /proc/kpageflags: nothing holds the pages still.
 * bank->looking holds their struct pages, until bank_went_offline() has waited for it.
 */

#include <linux/kernel-page-flags.h>
#include <linux/memory_hotplug.h>
#include <linux/mm.h>
#include <linux/swap.h>

#include "bank.h"
#include "compat.h"

struct bank_page {
	u64 flags;	/* KPF_* of its folio, of those that bank_page_flags() knows */
	s32 refs;	/* _refcount of its own */
	s32 maps;	/* how often it is mapped, as in /proc/kpagecount */
};

#define COPY(bits, name, flag)	(((bits) >> PG_##flag & 1ULL) << KPF_##name)
#define TELL(condition, name)	((condition) ? 1ULL << KPF_##name : 0)

static u64 bank_page_bits(unsigned long bits)
{
	return COPY(bits, LOCKED, locked) | COPY(bits, UPTODATE, uptodate) |
	       COPY(bits, DIRTY, dirty) | COPY(bits, LRU, lru) |
	       COPY(bits, WRITEBACK, writeback) | COPY(bits, SWAPBACKED, swapbacked) |
	       COPY(bits, UNEVICTABLE, unevictable) | COPY(bits, RESERVED, reserved) |
	       COPY(bits, PRIVATE, private) | COPY(bits, OWNER_PRIVATE, owner_priv_1);
}

/* What kind of compound page it is; a folio of page cache or anonymous memory is a THP. */
static u64 bank_compound_flags(struct page *page, struct page *head, u64 known)
{
	u64 part = TELL(page == head, COMPOUND_HEAD) | TELL(page != head, COMPOUND_TAIL);

	if (PageHuge(head))
		return part | TELL(true, HUGE);
	return part | TELL(known & (1ULL << KPF_LRU | 1ULL << KPF_ANON), THP);
}

u64 bank_page_flags(struct page *page)
{
	struct page *head = compound_head(page);
	u64 flags = bank_page_bits(page_bits(head));

	flags |= TELL(PageAnon(head), ANON) | TELL(folio_test_swapcache(page_folio(head)), SWAPCACHE) |
		 TELL(PageSlab(head), SLAB) | TELL(PageTable(head), PGTABLE) |
		 TELL(PageOffline(head), OFFLINE) | TELL(PageHWPoison(page), HWPOISON) |
		 TELL(!page_ref_count(page) && is_free_buddy_page(page), BUDDY);
	if (PageCompound(page))
		flags |= bank_compound_flags(page, head, flags);
	return flags;
}

/*
 * The folio was looked up once, and nothing holds it: what is split meanwhile is its own,
 * with nothing behind it, and a kernel with CONFIG_DEBUG_VM would stop if it were asked.
 */
s32 bank_entire_maps(struct folio *folio)
{
	return folio_test_large(folio) ? folio_entire_mapcount(folio) : 0;
}

/* A page type lies where the count of mappings does and makes it negative. */
s32 bank_page_maps(struct page *page)
{
	return max(atomic_read(&page->_mapcount) + 1, 0) + bank_entire_maps(page_folio(page));
}

static void bank_show_page(struct page *page, void *buf)
{
	struct bank_page *out = buf;

	out->flags = page ? bank_page_flags(page) : 1ULL << KPF_NOPAGE;
	out->refs = page ? page_ref_count(page) : -1;
	out->maps = page ? bank_page_maps(page) : 0;
}

static void bank_show_refcount(struct page *page, void *buf)
{
	*(s32 *)buf = page ? page_ref_count(page) : -1;
}

/*
 * A page in a CPU's batch, on its way to another LRU list, has a reference that
 * looks like a pin, perhaps for long. Offlining drains the batches first; a
 * module can do that only where the kernel lets it (our 32-bit port does).
 */
void bank_drain_batches(unsigned long pfn)
{
#ifdef CONFIG_ARM_MEMORY_HOTPLUG
	if (IS_ALIGNED(pfn, PAGES_PER_SECTION))
		lru_add_drain_all();
#endif
}

/* Show the pages that a file with records of that size has from there on. */
static ssize_t bank_look(struct bank *bank, char *buf, loff_t at, size_t count, size_t record,
			 void (*show)(struct page *page, void *buf))
{
	unsigned long pfn = PHYS_PFN(bank->start) + (unsigned long)at / record;
	size_t done;

	if ((at | count) & (record - 1))
		return -EINVAL;
	bank_drain_batches(pfn);
	if (down_read_killable(&bank->looking))
		return -EINTR;
	for (done = 0; done < count; done += record)
		show(pfn_to_online_page(pfn++), buf + done);
	up_read(&bank->looking);
	return count;
}

static ssize_t pages_read(struct file *file, struct kobject *kobj,
			  const struct bin_attribute *attr, char *buf, loff_t at, size_t count)
{
	return bank_look(attr->private, buf, at, count, sizeof(struct bank_page), bank_show_page);
}
BANK_READER(pages_read)

static ssize_t refcounts_read(struct file *file, struct kobject *kobj,
			      const struct bin_attribute *attr, char *buf, loff_t at, size_t count)
{
	return bank_look(attr->private, buf, at, count, sizeof(s32), bank_show_refcount);
}
BANK_READER(refcounts_read)

void bank_describe_file(struct bank *bank, struct bin_attribute *file, const char *name, size_t size)
{
	sysfs_bin_attr_init(file);
	file->attr.name = name;
	file->attr.mode = 0400;
	file->size = size;
	file->private = bank;
}

int bank_show_pages(struct bank *bank)
{
	struct bin_attribute *files[] = { &bank->pages, &bank->refcounts, &bank->counts };
	unsigned long pages = PHYS_PFN(bank->size);
	unsigned int made;
	int rc = 0;

	bank_describe_file(bank, &bank->pages, "pages", pages * sizeof(struct bank_page));
	bank->pages.read = bank_reader(pages_read);
	bank_describe_file(bank, &bank->refcounts, "refcounts", pages * sizeof(s32));
	bank->refcounts.read = bank_reader(refcounts_read);
	bank_describe_counts(bank);
	for (made = 0; !rc && made < ARRAY_SIZE(files); made++)
		rc = sysfs_create_bin_file(&bank->node->kobj, files[made]);
	while (rc && --made)
		sysfs_remove_bin_file(&bank->node->kobj, files[made - 1]);
	return rc;
}

void bank_hide_pages(struct bank *bank)
{
	sysfs_remove_bin_file(&bank->node->kobj, &bank->counts);
	sysfs_remove_bin_file(&bank->node->kobj, &bank->refcounts);
	sysfs_remove_bin_file(&bank->node->kobj, &bank->pages);
}
