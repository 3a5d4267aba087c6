# SPDX-License-Identifier: Apache-2.0
"""Joules of banks that are dark, as bounds; pure, and free of files.

| file | what it has |
|---|---|
| `bounds.py` | a figure that is known between two others |
| `dram.py` | the devices behind a bank, and what a dark state of theirs saves |
| `statistics.py` | paired differences, and the interval that holds their mean |
| `ledger.py` | seconds by state, moves and wakes → saved and spent joules, break-even |
"""

from hotbank.energy.bounds import Bounds
from hotbank.energy.dram import Dram
from hotbank.energy.ledger import NOT_COUNTED, Cost, Rates, Saved, Work, break_even, costs, saved, spent

__all__ = ["NOT_COUNTED", "Bounds", "Cost", "Dram", "Rates", "Saved", "Work", "break_even", "costs", "saved", "spent"]
