/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ATAG_MEM_MOVABLE for kernels that boot with an appended device tree: each
 * tag becomes a memory node with "hotpluggable". "hotbank,movable" tells the
 * kernel that the node was such a tag, which needs no "movable_node" on the
 * command line (arch/arm/mm/memhp.c).
 */

static uint32_t movable_cells(const void *fdt, const char *name)
{
	const __be32 *cells = getprop(fdt, "/", name, NULL);

	return cells ? fdt32_to_cpu(*cells) : 1;
}

/* The node of that unit address, made if there is none. */
static int movable_node(void *fdt, uint32_t start)
{
	char name[] = "/memory@00000000";
	char *digit = name + sizeof(name) - 1;
	char *first = name + sizeof("/memory@") - 1;
	int offset;

	do {
		*--digit = "0123456789abcdef"[start & 0xf];
		start >>= 4;
	} while (digit > first && start);
	/* Unit addresses have no leading zeros. */
	memmove(first, digit, name + sizeof(name) - digit);

	offset = fdt_path_offset(fdt, name);
	return offset == -FDT_ERR_NOTFOUND ? fdt_add_subnode(fdt, 0, name + 1) : offset;
}

static int movable_tag_to_fdt(void *fdt, uint32_t start, uint32_t size)
{
	uint32_t address_cells = movable_cells(fdt, "#address-cells");
	uint32_t size_cells = movable_cells(fdt, "#size-cells");
	__be32 reg[4] = { 0 };
	int node, ret;

	if (!size)
		return 0;
	if (address_cells - 1 > 1 || size_cells - 1 > 1)
		return -FDT_ERR_BADNCELLS;
	reg[address_cells - 1] = cpu_to_fdt32(start);
	reg[address_cells + size_cells - 1] = cpu_to_fdt32(size);

	node = movable_node(fdt, start);
	if (node < 0)
		return node;
	ret = fdt_setprop(fdt, node, "reg", reg, 4 * (address_cells + size_cells));
	if (!ret)
		ret = fdt_setprop_string(fdt, node, "device_type", "memory");
	if (!ret)
		ret = fdt_setprop(fdt, node, "hotpluggable", NULL, 0);
	if (!ret)
		ret = fdt_setprop(fdt, node, "hotbank,movable", NULL, 0);
	return ret;
}
