// SPDX-License-Identifier: GPL-2.0-only
/* The supply and the power domain of a bank, and what sleep may not do to them. */

#include <linux/ioport.h>
#include <linux/pm_runtime.h>
#include <linux/regulator/consumer.h>
#include <linux/suspend.h>

#include "bank.h"

static int bank_switch_on(struct bank *bank)
{
	int rc;

	if (bank->powered || !bank_managed(bank))
		return 0;
	if (bank->supply) {
		rc = regulator_enable(bank->supply);
		if (rc)
			return rc;
	}
	if (bank->domain) {
		rc = pm_runtime_resume_and_get(bank->dev);
		if (rc) {
			if (bank->supply)
				regulator_disable(bank->supply);
			return rc;
		}
	}
	WRITE_ONCE(bank->powered, true);
	return 0;
}

/* What it could not let go of is held still, so that its supply is never called off. */
static int bank_switch_off(struct bank *bank)
{
	int rc;

	if (!bank->powered)
		return 0;
	if (bank->domain)
		pm_runtime_put_sync(bank->dev);
	rc = bank->supply ? regulator_disable(bank->supply) : 0;
	if (!rc || (bank->domain && pm_runtime_resume_and_get(bank->dev)))
		WRITE_ONCE(bank->powered, false);
	return rc;
}

int bank_power_on(struct bank *bank)
{
	int rc;

	mutex_lock(&bank->power_lock);
	rc = bank_switch_on(bank);
	mutex_unlock(&bank->power_lock);
	return rc;
}

/*
 * Also what did not come by this driver: by "probe" or kmem, or with the boot, of a
 * bank whose description does not say "at-boot".
 */
bool bank_in_use(const struct bank *bank)
{
	return bank->there || region_intersects(bank->start, bank->size, IORESOURCE_SYSTEM_RAM,
						IORES_DESC_NONE) != REGION_DISJOINT;
}

static int bank_let_go(struct bank *bank)
{
	if (bank_in_use(bank))
		return -EBUSY;
	return bank->shut ? -ESHUTDOWN : bank_switch_off(bank);
}

/* What comes by other ways after it was asked for finds the supply off: see bank_power_for_online. */
int bank_power_off(struct bank *bank)
{
	int rc;

	if (!bank_managed(bank))
		return -EOPNOTSUPP;
	mutex_lock(&bank->power_lock);
	rc = bank_let_go(bank);
	mutex_unlock(&bank->power_lock);
	return rc;
}

/*
 * Memory may come by other ways while we hold no power. It is in /proc/iomem before
 * its blocks go online: whoever is at the switch sees it there, or we see it turned.
 */
bool bank_power_for_online(struct bank *bank)
{
	bool powered;

	mutex_lock(&bank->power_lock);
	powered = bank->powered || !bank_managed(bank);
	mutex_unlock(&bank->power_lock);
	return powered;
}

/* On, and nobody switches it off any more: whoever asks for that may still run. */
int bank_power_for_good(struct bank *bank)
{
	int rc;

	mutex_lock(&bank->power_lock);
	bank->shut = true;
	rc = bank_switch_on(bank);
	mutex_unlock(&bank->power_lock);
	return rc;
}

/*
 * pm_runtime_put does not prove off: another device may be in the domain. Without
 * the lock: whoever asks must not wait for an eviction that may take for ever.
 */
const char *bank_power_name(struct bank *bank)
{
	if (!bank_managed(bank))
		return "unmanaged";
	if (READ_ONCE(bank->powered))
		return "on";
	if (bank->supply && !bank->domain && regulator_is_enabled(bank->supply) == 0)
		return "off";
	return "released";
}

static int bank_sleep_event(struct notifier_block *nb, unsigned long action, void *data)
{
	struct bank *bank;
	int rc = NOTIFY_DONE;

	if (action != PM_HIBERNATION_PREPARE)
		return NOTIFY_DONE;
	mutex_lock(&banks_lock);
	list_for_each_entry(bank, &banks, list)
		if (READ_ONCE(bank->there) != bank->size)
			rc = notifier_from_errno(-EBUSY);
	mutex_unlock(&banks_lock);
	return rc;
}

static struct notifier_block bank_sleep_notifier = { .notifier_call = bank_sleep_event };

int bank_watch_sleep(void)
{
	return register_pm_notifier(&bank_sleep_notifier);
}

void bank_unwatch_sleep(void)
{
	unregister_pm_notifier(&bank_sleep_notifier);
}
