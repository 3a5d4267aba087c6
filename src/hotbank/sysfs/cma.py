# SPDX-License-Identifier: Apache-2.0
"""CMA areas as debugfs shows them (CONFIG_CMA_DEBUGFS): mm/cma_debug.c. A pfn, and a number of pages."""

from __future__ import annotations

from hotbank.sysfs.form import decimal

BASE_PFN = decimal("base_pfn")
COUNT = decimal("count")
