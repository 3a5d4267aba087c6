# SPDX-License-Identifier: Apache-2.0
"""Names from elsewhere as UTF-8, which has no halves of characters: protobuf, Prometheus and files refuse these."""

from __future__ import annotations


def whole(text: str) -> str:
    r"""The text with half of a character, as JSON and file names may have it, as an escape: ``\ud800``."""
    return text.encode("utf-8", "backslashreplace").decode()
