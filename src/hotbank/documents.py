# SPDX-License-Identifier: Apache-2.0
"""What scripts rely on beside the reason codes: the version of each JSON document, and how a command ends.

A document's version grows when a field goes or changes its meaning; a field that is added leaves it as it is.
docs/reasons.md lists the exit statuses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

SCHEMA: Mapping[str, int] = {
    "auto": 1,
    "board": 1,
    "boards": 1,
    "cache": 1,
    "check": 1,
    "compare": 1,
    "decode": 1,
    "demo": 1,
    "doctor": 1,
    "energy": 1,
    "error": 1,
    "event": 1,
    "explain": 1,
    "fleet": 1,
    "frame": 1,
    "history": 2,
    "kernel": 1,
    "list": 1,
    "measure": 1,
    "plan": 1,
    "power": 1,
    "radar": 1,
    "recover": 2,
    "run": 1,
    "series": 1,
    "simulate": 2,
    "sweep": 1,
    "up": 1,
    "zones": 1,
}

EXIT_DONE, EXIT_FAILED, EXIT_PARTLY, EXIT_INTERRUPTED = 0, 1, 64, 130


def together(exits: Collection[int]) -> int:
    """The exit status of several: the one they share, 130 after an interruption, else 64: partly done."""
    if EXIT_INTERRUPTED in exits:
        return EXIT_INTERRUPTED
    return max(exits, default=EXIT_DONE) if len(set(exits)) < 2 else EXIT_PARTLY
