# SPDX-License-Identifier: Apache-2.0
"""JSON in files that somebody hands in: what commands of ours printed or recorded before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hotbank.errors import FormatError, in_file
from hotbank.regular import read_regular

_MOST = 256 << 20  # bytes


def document(path: str, form: str) -> Any:
    """The one in that file. Raises FormatError, OSError."""
    with in_file(path):
        return _parsed(read_regular(path, _MOST), 0, form)


def lines(path: str, form: str) -> Iterator[tuple[int, Any]]:
    """Those of a file that has one a line, each with the offset that it begins at. Raises FormatError, OSError."""
    at = 0
    with in_file(path):
        for line in read_regular(path, _MOST).splitlines(keepends=True):
            if line.strip():
                yield at, _parsed(line, at, form)
            at += len(line)


def _parsed(text: bytes, at: int, form: str) -> Any:
    try:
        return json.loads(text.decode())
    except (ValueError, RecursionError) as e:
        raise FormatError(form, at, "document", f"is no JSON: {e}") from e
