/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Memory banks that can leave a 32-bit ARM system and return.
 */
#ifndef __ASM_ARM_MEMHP_H
#define __ASM_ARM_MEMHP_H

#include <linux/types.h>
#include <linux/mmzone.h>
#include <asm/pgtable.h>

#ifdef CONFIG_MEMORY_HOTPLUG
int arm_add_memory_zone(u64 start, u64 size, enum zone_type zone);
void arm_memhp_scan_fdt(void);
void arm_memhp_mem_init(void);
void arm_memhp_add_pgd(pgd_t *pgd);
void arm_memhp_del_pgd(pgd_t *pgd);
#else
static inline void arm_memhp_scan_fdt(void) { }
static inline void arm_memhp_mem_init(void) { }
static inline void arm_memhp_add_pgd(pgd_t *pgd) { }
static inline void arm_memhp_del_pgd(pgd_t *pgd) { }
#endif

#endif
