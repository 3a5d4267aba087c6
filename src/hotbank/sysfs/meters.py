# SPDX-License-Identifier: Apache-2.0
"""Files of meters: Documentation/hwmon/sysfs-interface.rst, Documentation/power/powercap/powercap.rst and
Documentation/driver-api/thermal/sysfs-api.rst.

hwmon: mV, mA, µW, µJ, thousandths of a degree Celsius; a current and what is made of it may be below 0.
"""

from __future__ import annotations

from hotbank.sysfs.form import Form, decimal, signed

VALUE: Form[int] = signed("meter")
"""What is measured now."""

COUNTER: Form[int] = decimal("energy")
"""Microjoules since the counter began."""
