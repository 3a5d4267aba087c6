# SPDX-License-Identifier: Apache-2.0
"""What keeps a model busy.

mixed.py    acts drawn by chance
script.py   acts from a TOML file
faults.py   trouble on purpose
trace.py    what a real machine's memory held, played again
looks.py    what a governor looked at, as such a trace
imports.py  what other tools recorded of it
printed.py  of those, tables that are meant for people
stamps.py   moments as people and tools write them
"""

from __future__ import annotations

from hotbank.load.mixed import Workload

__all__ = ["Workload"]
