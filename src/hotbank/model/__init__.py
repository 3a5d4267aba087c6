# SPDX-License-Identifier: Apache-2.0
"""The simulated kernel: its memory management in Python, behind the Machine protocol. Start at ``Model``."""

from __future__ import annotations

from hotbank.model.clock import SimClock, WallClock
from hotbank.model.machine import Model

__all__ = ["Model", "SimClock", "WallClock"]
