/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels that this module is built for, from 6.1 on.
 * It asks what is there, not which release it is: distributions take changes back.
 */
#ifndef HOTBANK_COMPAT_H
#define HOTBANK_COMPAT_H

#include <linux/gfp.h>
#include <linux/mm_types.h>
#include <linux/mmzone.h>
#include <linux/sysfs.h>

typedef ssize_t (*bank_read_fn)(struct file *file, struct kobject *kobj,
				const struct bin_attribute *attr, char *buf, loff_t at, size_t count);

/*
 * The reader of a binary file, which gets a const attribute since 6.16 (97d06802d10a):
 * BANK_READER(name) makes name_compat of it, bank_reader(name) is the one of the two
 * that fits here.
 */
#define BANK_READER(name)							\
static ssize_t __maybe_unused name##_compat(struct file *file, struct kobject *kobj, \
					    struct bin_attribute *attr, char *buf,	\
					    loff_t at, size_t count)			\
{										\
	return name(file, kobj, attr, buf, at, count);				\
}

#define bank_reader(name)							\
	_Generic(((struct bin_attribute *)NULL)->read,				\
		 bank_read_fn : name, default : name##_compat)

/* What alloc_contig_range() is told of pages that are not CMA's: a migratetype, flags since 6.17. */
#ifdef ACR_FLAGS_NONE
#define BANK_CONTIG_ORDINARY	ACR_FLAGS_NONE
#else
#define BANK_CONTIG_ORDINARY	MIGRATE_MOVABLE
#endif

/* The flags of a page: a word until 6.17, the only member of a struct since. */
static inline unsigned long page_bits(const struct page *page)
{
	return READ_ONCE(*(const unsigned long *)&page->flags);
}

#endif
