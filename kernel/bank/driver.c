// SPDX-License-Identifier: GPL-2.0-only
/*
 * Banks of DRAM that enter and leave a running kernel.
 *
 * A bank is a range of physical addresses that the boot memory map leaves out
 * (on architectures whose boot memory may leave, it may also be boot memory:
 * see the "at-boot" property). It is named by the device tree:
 *
 *	bank@60000000 {
 *		compatible = "hotbank,bank";
 *		label = "high";
 *		reg = <0x0 0x60000000 0x0 0x20000000>;
 *		numa-node-id = <0>;		(optional)
 *		hotbank,default-on;		(optional: add it at probe)
 *		hotbank,at-boot;		(optional: it is in the kernel already)
 *		bank-supply = <&ddr1>;		(optional)
 *		power-domains = <&pd 1>;	(optional)
 *	};
 *
 * or by the parameter banks=LABEL@START+SIZE[,...], for which platform devices
 * are made here. With "hotbank,default-on" and memhp_default_state=online_movable
 * on the command line the machine starts with all of its memory on.
 *
 * Each bank is a device of class "hotbank":
 *
 *	range		start and last byte
 *	state		"present" or "absent"; write "add", "remove" (every block
 *			must be offline) or "evict" (offlines them first; a signal
 *			cancels it)
 *	supply		"on"; "released" (we let go of it, but it may still be on:
 *			someone else holds it); "off" (confirmed); "unmanaged";
 *			write "on" or "off"
 *	pages		16 bytes for each page of the bank: flags, reference count, how
 *			often it is mapped (pages.c). It tells what can move, and a
 *			pinned page from one that is only mapped.
 *	refcounts	of these only the reference counts
 *	counts		256 bytes for each block: pages by kind, free blocks by order,
 *			pages that something may hold (counts.c)
 *
 * What this driver sees to:
 *  - A bank enters block by block, and leaves all at once or not at all.
 *  - A block of a bank is never onlined into a kernel zone: the notifier vetoes
 *    that with EPERM, whatever auto_online_blocks says. Only memory that has been
 *    there since boot may go back to the zone that the boot gave it.
 *  - When a block has gone offline its cache lines are cleaned and invalidated
 *    to the point of coherency, while it still has a mapping.
 *  - While any byte of a bank is in the kernel, its power is held and this
 *    module can't be unloaded. System sleep leaves the power alone.
 *  - Power is back on before a reboot or kexec: the next kernel touches it.
 *  - No hibernation while a bank is out: the image would not match.
 */

#include <linux/memory.h>
#include <linux/module.h>
#include <linux/of.h>
#include <linux/platform_device.h>
#include <linux/pm_runtime.h>
#include <linux/regulator/consumer.h>
#include <linux/slab.h>

#include "bank.h"

LIST_HEAD(banks);
DEFINE_MUTEX(banks_lock);

static char *banks_param = "";
module_param_named(banks, banks_param, charp, 0444);
MODULE_PARM_DESC(banks, "LABEL@START+SIZE[,...]: banks that no device tree names");

/* Files */

static ssize_t range_show(struct device *node, struct device_attribute *attr, char *buf)
{
	struct bank *bank = dev_get_drvdata(node);
	phys_addr_t last = bank->start + bank->size - 1;

	return sysfs_emit(buf, "%pa-%pa\n", &bank->start, &last);
}
static DEVICE_ATTR_RO(range);

static ssize_t state_show(struct device *node, struct device_attribute *attr, char *buf)
{
	struct bank *bank = dev_get_drvdata(node);

	return sysfs_emit(buf, "%s\n", READ_ONCE(bank->there) ? "present" : "absent");
}

static ssize_t state_store(struct device *node, struct device_attribute *attr,
			   const char *buf, size_t count)
{
	struct bank *bank = dev_get_drvdata(node);
	int rc;

	if (mutex_lock_interruptible(&bank->lock))
		return -EINTR;
	if (sysfs_streq(buf, "add"))
		rc = bank_add(bank);
	else if (sysfs_streq(buf, "remove"))
		rc = bank_remove(bank, false);
	else if (sysfs_streq(buf, "evict"))
		rc = bank_remove(bank, true);
	else
		rc = -EINVAL;
	mutex_unlock(&bank->lock);
	return rc ? rc : count;
}
static DEVICE_ATTR_RW(state);

static ssize_t supply_show(struct device *node, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", bank_power_name(dev_get_drvdata(node)));
}

static ssize_t supply_store(struct device *node, struct device_attribute *attr,
			    const char *buf, size_t count)
{
	struct bank *bank = dev_get_drvdata(node);
	int rc = -EINVAL;

	if (sysfs_streq(buf, "on")) {
		rc = bank_managed(bank) ? bank_power_on(bank) : -EOPNOTSUPP;
	} else if (sysfs_streq(buf, "off")) {
		if (mutex_lock_interruptible(&bank->lock))
			return -EINTR;
		rc = bank_power_off(bank);
		mutex_unlock(&bank->lock);
	}
	return rc ? rc : count;
}
static DEVICE_ATTR_RW(supply);

static struct attribute *bank_attrs[] = {
	&dev_attr_range.attr,
	&dev_attr_state.attr,
	&dev_attr_supply.attr,
	NULL
};
ATTRIBUTE_GROUPS(bank);

static struct class bank_class = {
	.name = "hotbank",
	.dev_groups = bank_groups,
};

/* Devices */

struct bank_data {
	const char *label;
	phys_addr_t start;
	phys_addr_t size;
};

static int bank_describe(struct bank *bank, struct platform_device *pdev)
{
	struct bank_data *data = dev_get_platdata(&pdev->dev);
	const char *label = NULL;
	struct resource *res;

	if (data) {
		label = data->label;
		bank->start = data->start;
		bank->size = data->size;
	} else {
		res = platform_get_resource(pdev, IORESOURCE_MEM, 0);
		if (!res)
			return -EINVAL;
		bank->start = res->start;
		bank->size = resource_size(res);
		of_property_read_string(pdev->dev.of_node, "label", &label);
	}
	if (!label || strscpy(bank->label, label, sizeof(bank->label)) <= 0)
		return -EINVAL;
	if (!IS_ALIGNED(bank->start | bank->size, memory_block_size_bytes()) || !bank->size) {
		dev_err(&pdev->dev, "bank %s is not made of whole memory blocks of %#lx bytes\n",
			bank->label, memory_block_size_bytes());
		return -EINVAL;
	}
	bank->nid = dev_to_node(&pdev->dev);
	if (bank->nid == NUMA_NO_NODE)
		bank->nid = first_online_node;
	return 0;
}

static int bank_find_power(struct bank *bank)
{
	struct regulator *supply = devm_regulator_get_optional(bank->dev, "bank");

	if (IS_ERR(supply) && PTR_ERR(supply) != -ENODEV)
		return dev_err_probe(bank->dev, PTR_ERR(supply), "supply of bank %s\n",
				     bank->label);
	bank->supply = IS_ERR(supply) ? NULL : supply;
	bank->domain = bank->dev->pm_domain;
	return bank->domain ? devm_pm_runtime_enable(bank->dev) : 0;
}

static void bank_unlist(void *data)
{
	struct bank *bank = data;

	mutex_lock(&banks_lock);
	list_del(&bank->list);
	mutex_unlock(&banks_lock);
}

/*
 * Unloading: nothing that we added is in the kernel then, and nobody is left to hold its
 * power. Who takes the device away by other means, as a device tree overlay that goes, or
 * added memory there, is not asked: memory in use keeps its supply.
 */
static void bank_forget_power(void *data)
{
	struct bank *bank = data;

	if (WARN_ON(bank_in_use(bank)))
		return;
	if (bank->powered && bank->domain)
		pm_runtime_put_sync(bank->dev);
	if (bank->powered && bank->supply)
		regulator_disable(bank->supply);
}

static void bank_unregister(void *data)
{
	struct bank *bank = data;

	bank_hide_pages(bank);
	device_unregister(bank->node);
}

static int bank_register(struct bank *bank)
{
	int rc;

	bank->node = device_create(&bank_class, bank->dev, MKDEV(0, 0), bank, "%s", bank->label);
	if (IS_ERR(bank->node))
		return PTR_ERR(bank->node);
	rc = bank_show_pages(bank);
	if (rc) {
		device_unregister(bank->node);
		return rc;
	}
	return devm_add_action_or_reset(bank->dev, bank_unregister, bank);
}

static void bank_start_up(struct bank *bank)
{
	int rc = 0;

	mutex_lock(&bank->lock);
	if (of_property_read_bool(bank->dev->of_node, "hotbank,at-boot")) {
		WRITE_ONCE(bank->boot, true);
		bank_set_there(bank, bank->size);
	} else if (of_property_read_bool(bank->dev->of_node, "hotbank,default-on")) {
		rc = bank_add(bank);
	}
	mutex_unlock(&bank->lock);
	if (rc)
		dev_warn(bank->dev, "bank %s is not added at start: %d\n", bank->label, rc);
}

static void bank_free(struct kref *refs)
{
	struct bank *bank = container_of(refs, struct bank, refs);

	evacuation_free(bank);
	kfree(bank);
}

void bank_get(struct bank *bank)
{
	kref_get(&bank->refs);
}

void bank_put(struct bank *bank)
{
	kref_put(&bank->refs, bank_free);
}

static void bank_left(void *data)
{
	bank_put(data);
}

static int bank_probe(struct platform_device *pdev)
{
	struct bank *bank = kzalloc(sizeof(*bank), GFP_KERNEL);
	int rc;

	if (!bank)
		return -ENOMEM;
	kref_init(&bank->refs);
	rc = devm_add_action_or_reset(&pdev->dev, bank_left, bank);
	if (rc)
		return rc;
	bank->dev = &pdev->dev;
	mutex_init(&bank->lock);
	mutex_init(&bank->power_lock);
	init_rwsem(&bank->looking);
	platform_set_drvdata(pdev, bank);
	rc = bank_describe(bank, pdev);
	if (!rc)
		rc = bank_find_power(bank);
	if (!rc)
		rc = evacuation_prepare(bank);
	if (!rc)
		rc = bank_power_on(bank);
	if (rc)
		return rc;
	rc = devm_add_action_or_reset(bank->dev, bank_forget_power, bank);
	if (rc)
		return rc;
	mutex_lock(&banks_lock);
	list_add_tail(&bank->list, &banks);
	mutex_unlock(&banks_lock);
	rc = devm_add_action_or_reset(bank->dev, bank_unlist, bank);
	if (!rc)
		rc = bank_register(bank);
	if (!rc)
		rc = evacuation_allow(bank);
	if (!rc)
		bank_start_up(bank);
	return rc;
}

static void bank_shutdown(struct platform_device *pdev)
{
	struct bank *bank = platform_get_drvdata(pdev);

	if (bank_power_for_good(bank))
		dev_err(&pdev->dev, "bank %s can't be switched on for the next kernel\n",
			bank->label);
}

static const struct of_device_id bank_match[] = {
	{ .compatible = "hotbank,bank" },
	{ }
};
MODULE_DEVICE_TABLE(of, bank_match);

static struct platform_driver bank_driver = {
	.probe = bank_probe,
	.shutdown = bank_shutdown,
	.driver = {
		.name = "hotbank-bank",
		.of_match_table = bank_match,
		.suppress_bind_attrs = true,
	},
};

/* Banks of the module parameter */

#define MAX_PARAM_BANKS	16
static struct platform_device *param_devices[MAX_PARAM_BANKS];

static void param_unregister(void)
{
	int i;

	for (i = 0; i < MAX_PARAM_BANKS; i++)
		platform_device_unregister(param_devices[i]);
}

static int param_register(void)
{
	char *rest = banks_param, *part;
	struct bank_data data;
	int i = 0;

	while ((part = strsep(&rest, ",")) && *part) {
		data.label = strsep(&part, "@");
		data.start = part ? memparse(part, &part) : 0;
		if (!part || *part++ != '+' || i == MAX_PARAM_BANKS)
			return -EINVAL;
		data.size = memparse(part, &part);
		if (*part)
			return -EINVAL;
		param_devices[i] = platform_device_register_data(NULL, "hotbank-bank", i,
								 &data, sizeof(data));
		if (IS_ERR(param_devices[i]))
			return PTR_ERR(xchg(&param_devices[i], NULL));
		i++;
	}
	return 0;
}

static int __init bank_init(void)
{
	int rc = class_register(&bank_class);

	if (rc)
		return rc;
	rc = bank_watch_memory();
	if (rc)
		goto no_notifier;
	rc = bank_watch_sleep();
	if (rc)
		goto no_sleep;
	rc = evacuation_watch_oom();
	if (rc)
		goto no_oom;
	/* The driver comes last: a bank that it adds at once stays, even where this fails. */
	rc = param_register();
	if (!rc)
		rc = platform_driver_register(&bank_driver);
	if (!rc)
		return 0;

	param_unregister();
	evacuation_unwatch_oom();
no_oom:
	bank_unwatch_sleep();
no_sleep:
	bank_unwatch_memory();
no_notifier:
	class_unregister(&bank_class);
	return rc;
}

static void __exit bank_exit(void)
{
	platform_driver_unregister(&bank_driver);
	param_unregister();
	evacuation_unwatch_oom();
	bank_unwatch_sleep();
	bank_unwatch_memory();
	class_unregister(&bank_class);
}

module_init(bank_init);
module_exit(bank_exit);
MODULE_VERSION("3");
MODULE_LICENSE("GPL");
MODULE_AUTHOR("The hotbank authors");
MODULE_DESCRIPTION("Banks of DRAM that enter and leave a running kernel");
