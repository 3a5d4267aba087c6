# SPDX-License-Identifier: Apache-2.0
"""Device tree decoding beside pylibfdt, in one process: python bench/fdt_decode.py [--check] [--json].

Both read every node and property of the same blobs: hotbank into its tree, libfdt (C, through its Python bindings)
by walking. ``check header only`` is what ``libfdt.FdtRo(blob)`` alone costs, which looks at 40 bytes; it is
shown so that nobody mistakes it for decoding. Each figure is the median of five rounds that alternate between the two.
``--check`` exits with 1 when hotbank takes more than 25 times pylibfdt's time for the walk.
"""

from __future__ import annotations

import gzip
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import libfdt

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from codec import debian_blobs, libfdt_tree  # noqa: E402
from hotbank.firmware import fdt  # noqa: E402

ROUNDS, LIMIT = 5, 25.0


@dataclass(frozen=True, slots=True)
class Row:
    """Milliseconds for all blobs of a set; ``ratio`` is hotbank to the whole walk by pylibfdt."""

    name: str
    blobs: int
    bytes: int
    hotbank: float
    pylibfdt: float
    check_header_only: float
    ratio: float


def compare(name: str, blobs: Sequence[bytes]) -> Row:
    """One set of blobs, measured."""
    readers: tuple[Callable[[bytes], object], ...] = (fdt.decode, libfdt_tree.nested, libfdt.FdtRo)
    rounds = [[_milliseconds(read, blobs) for read in readers] for _ in range(ROUNDS)]
    ours, theirs, header = (statistics.median(column) for column in zip(*rounds, strict=True))
    return Row(name, len(blobs), sum(map(len, blobs)), ours, theirs, header, ours / theirs)


def _milliseconds(read: Callable[[bytes], object], blobs: Sequence[bytes]) -> float:
    begin = time.perf_counter()
    for blob in blobs:
        read(blob)
    return (time.perf_counter() - begin) * 1000


def main(arguments: list[str]) -> int:
    """Both sets, as a table or JSON."""
    padded = gzip.decompress((TESTS / "data" / "zones" / "padded-1MiB.dtb.gz").read_bytes())
    rows = [compare("padded 1 MiB", [padded] * 20), compare("sample of boards", [*debian_blobs.sample().values()])]
    if "--json" in arguments:
        print(json.dumps({"schema": 1, "limit": LIMIT, "rows": [asdict(row) for row in rows]}, indent=2))
    else:
        for row in rows:
            print(
                f"{row.name:17} {row.blobs:4} blobs {row.bytes:9} bytes: hotbank {row.hotbank:8.2f} ms, "
                f"pylibfdt {row.pylibfdt:8.2f} ms (header only {row.check_header_only:.2f}), ratio {row.ratio:.2f}"
            )
    return 1 if "--check" in arguments and any(row.ratio > LIMIT for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
