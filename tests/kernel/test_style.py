# SPDX-License-Identifier: Apache-2.0
"""Our kernel code in the kernel's own style: scripts/checkpatch.pl of Debian's kernel source finds nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kernel.kernel_source import from_source

KERNEL = Path(__file__).resolve().parents[2] / "kernel"
OURS = sorted(p for p in KERNEL.rglob("*") if p.suffix in (".c", ".h", ".S") or p.name in ("Kbuild", "Makefile"))

pytestmark = pytest.mark.kernel


def complaints(path: Path) -> list[str]:
    """What checkpatch has to say about a file: its errors and warnings."""
    needs = ("scripts/checkpatch.pl", "scripts/spelling.txt", "scripts/const_structs.checkpatch")
    script = from_source(*needs) / needs[0]
    argv = ["perl", str(script), "--no-tree", "--terse", "--no-summary", "--file", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(KERNEL)))
def test_checkpatch_finds_nothing(path: Path) -> None:
    assert complaints(path) == []


@pytest.mark.parametrize(
    ("clean", "breach", "said"),
    [
        ("\tif (!", "        if (!", "ERROR: code indent should use tabs"),
        (" = NULL;", "=NULL;", "ERROR: spaces required around that '='"),
        ("// SPDX-License-Identifier: GPL-2.0-only\n", "\n", "WARNING: Missing or malformed SPDX"),
    ],
)
def test_checkpatch_finds_a_breach(tmp_path: Path, clean: str, breach: str, said: str) -> None:
    text = (KERNEL / "bank/driver.c").read_text(encoding="utf-8")
    assert clean in text
    broken = tmp_path / "driver.c"
    broken.write_text(text.replace(clean, breach, 1), encoding="utf-8")
    assert any(said in line for line in complaints(broken))
