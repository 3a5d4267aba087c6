# SPDX-License-Identifier: Apache-2.0
"""Made-up and damaged inputs through every decoder: python bench/fuzz_decoders.py [COUNT [SEED [TARGET…]]].

20,000 for each without COUNT. Other inputs each time; the SEED that a run prints repeats it. Exits with 1 when anything
but a value or an error that says where came out, or an input took too much work or memory; each such input is left in
tests/data/corpus, where the tests replay it.
"""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))

from fuzz.driver import run  # noqa: E402
from fuzz.targets import ALL  # noqa: E402

DEFAULTS = (20_000, random.randrange(1 << 32))


def main(arguments: list[str]) -> int:
    """One process for each target, one after the other: what one leaves behind is no burden to the next."""
    numbers, names = arguments[:2], arguments[2:]
    if not all(word.isdecimal() for word in numbers) or not set(names) <= set(ALL):
        print(__doc__, "Targets:", *ALL)
        return 2
    count, seed = (int(word) for word in [*numbers, *DEFAULTS[len(numbers) :]])
    if len(names) == 1:
        return _one(names[0], count, seed)
    print(f"seed {seed}", flush=True)
    command = [sys.executable, __file__, str(count), str(seed)]
    failed = [name for name in names or ALL if subprocess.run([*command, name], check=False).returncode]
    return 1 if failed else 0


def _one(name: str, count: int, seed: int) -> int:
    begin, target = time.perf_counter(), ALL[name]
    report = run(target, count, seed)
    print(
        f"{name:9} {report.inputs:7} inputs, {report.decoded} decoded, {len(report.findings)} findings, "
        f"most work {report.calls} calls, {time.perf_counter() - begin:.0f} s",
        flush=True,
    )
    for finding in report.findings:
        target.corpus.mkdir(parents=True, exist_ok=True)
        kept = target.corpus / hashlib.sha256(finding.data).hexdigest()[:12]
        kept.write_bytes(finding.data)
        print(f"  {finding.what}: {kept.relative_to(TESTS.parent)}")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
