# SPDX-License-Identifier: Apache-2.0
"""The compiled backend of the page frames (``hotbank[fast]``): ``frames`` is its face, ``buddy`` the allocator."""

from __future__ import annotations

from hotbank.model.compiled.frames import CompiledFrames

__all__ = ["CompiledFrames"]
