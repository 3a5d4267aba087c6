# SPDX-License-Identifier: Apache-2.0
"""How many examples a property is tried on: a profile's usual number, and what another number means under it.

``test`` finds the same examples each time and knows no clock, so that a run fails only for what was changed.
``fuzz`` (``make fuzz``) is random, remembers what it found in ``.hypothesis``, and takes ten times as many.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings

USUAL, MORE = 100, 10


def register() -> None:
    """Both profiles, of which ``test`` holds unless ``--hypothesis-profile`` names the other."""
    # Hypothesis derandomises whatever runs under CI: both profiles say which they want.
    # Seconds are the machine's, not the property's: no deadline, and no complaint about slow drawing.
    timeless = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("test", timeless, max_examples=USUAL, derandomize=True, database=None)
    settings.register_profile("fuzz", timeless, max_examples=USUAL * MORE, derandomize=False, print_blob=True)
    settings.load_profile("test")


def examples(usual: int, *, steps: int = settings().stateful_step_count) -> settings:
    """For a property that wants more or fewer examples than most: ``usual`` of them, ten times that under ``fuzz``.

    ``steps``: how long a life of a state machine is.
    """
    return settings(max_examples=usual * settings().max_examples // USUAL, stateful_step_count=steps)
