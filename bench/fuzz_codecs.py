# SPDX-License-Identifier: Apache-2.0
"""Mutated inputs through every codec: python bench/fuzz_codecs.py [COUNT [SEED]], 200,000 for each without COUNT.

Other inputs each time; the SEED that a run prints repeats it. Exits with 1 when anything but a value or FormatError
came out, or an input took over 1 s or 64 MiB.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from codec import fuzzing  # noqa: E402

DEFAULTS = (200_000, random.randrange(1 << 32))


def main(arguments: list[str]) -> int:
    """One process for each codec, one after the other: each measures its own memory."""
    if not all(word.isdecimal() for word in arguments[:2]):
        print(__doc__)
        return 2
    count, seed = (int(word) for word in [*arguments, *DEFAULTS[len(arguments) :]][:2])
    if len(arguments) > 2:
        return _one(arguments[2], count, seed)
    print(f"seed {seed}", flush=True)
    command = [sys.executable, __file__, str(count), str(seed)]
    failed = [c for c in fuzzing.CODECS if subprocess.run([*command, c], check=False).returncode]
    return 1 if failed else 0


def _one(codec: str, count: int, seed: int) -> int:
    begin = time.perf_counter()
    report = fuzzing.run(codec, count, seed)
    print(
        f"{codec:8} {report.inputs:7} inputs, {report.decoded} decoded, {len(report.findings)} findings, "
        f"slowest {report.slowest * 1000:.1f} ms, {time.perf_counter() - begin:.0f} s"
    )
    for finding in report.findings:
        print(f"  {finding.what}: {finding.data[:64].hex()}")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
