# SPDX-License-Identifier: Apache-2.0
"""Every decoder that is fuzzed, by name."""

from __future__ import annotations

from collections.abc import Mapping

from fuzz import files, firmware, lines, machines
from fuzz.driver import Target

ALL: Mapping[str, Target] = {
    target.name: target for module in (firmware, files, machines, lines) for target in module.TARGETS
}
