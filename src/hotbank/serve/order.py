# SPDX-License-Identifier: Apache-2.0
"""What a client wants done."""

from __future__ import annotations

from dataclasses import dataclass

from hotbank.operate import Limits


@dataclass(frozen=True, slots=True)
class Order:
    """What a client wants done: ``verb`` is ``remove``, ``add`` or ``recover``."""

    verb: str
    target: str
    limits: Limits
    force: bool = False
    keep_partial: bool = False
