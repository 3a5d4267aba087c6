# SPDX-License-Identifier: Apache-2.0
"""The rules of the model against each kernel that Debian has: which rule changed where?

    matrix = radar.look(["6.1", "6.12", "7.3"])

``rules``   each rule as a small experiment: on a guest, and on the model of its kernel's row
``told``    the experiments of those of which the kernel itself tells
``matrix``  what both said, by kernel and rule: differences, changes
``guests``  the guest of an experiment
``sweep``   a guest for each kernel, within a deadline
``search``  between which two releases of the archive a rule changed
"""

from hotbank.radar.matrix import Cell, Matrix
from hotbank.radar.rules import RULES
from hotbank.radar.search import Found, search
from hotbank.radar.sweep import DEADLINE, look

__all__ = ["DEADLINE", "RULES", "Cell", "Found", "Matrix", "look", "search"]
