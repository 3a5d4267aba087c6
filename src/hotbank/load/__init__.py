# SPDX-License-Identifier: Apache-2.0
"""What keeps a model busy: ``mixed`` draws its acts by chance, ``script`` reads them from a file, ``trace`` plays what
a real machine's memory held."""

from __future__ import annotations

from hotbank.load.mixed import Workload

__all__ = ["Workload"]
