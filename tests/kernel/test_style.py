# SPDX-License-Identifier: Apache-2.0
"""Our kernel code in the kernel's own style: scripts/checkpatch.pl of Debian's kernel source finds nothing."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kernel.kernel_source import from_source

KERNEL = Path(__file__).resolve().parents[2] / "kernel"
OURS = sorted(p for p in KERNEL.rglob("*") if p.suffix in (".c", ".h", ".S") or p.name in ("Kbuild", "Makefile"))
PROPOSED = sorted(KERNEL.glob("upstream/*.patch"))

pytestmark = pytest.mark.kernel

NEEDS = ("scripts/checkpatch.pl", "scripts/spelling.txt", "scripts/const_structs.checkpatch")
# Of patches: MAINTAINERS has a pattern for each new file's folder; a Kconfig that sources another one names it; and the
# kernel's history is not here.
OF_PATCHES = "FILE_PATH_CHANGES,EMBEDDED_FILENAME,UNKNOWN_COMMIT_ID"


def complaints(path: Path) -> list[str]:
    """What checkpatch has to say about a file: its errors and warnings."""
    return _checkpatch("--file", str(path))


def complaints_about_patch(path: Path, *options: str) -> list[str]:
    """What checkpatch has to say about a patch, its text included."""
    return _checkpatch(f"--ignore={OF_PATCHES}", *options, str(path))


def _checkpatch(*arguments: str) -> list[str]:
    script = from_source(*NEEDS) / NEEDS[0]
    argv = ["perl", str(script), "--no-tree", "--terse", "--no-summary", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("path", OURS, ids=lambda path: str(path.relative_to(KERNEL)))
def test_checkpatch_finds_nothing(path: Path) -> None:
    assert complaints(path) == []


@pytest.mark.parametrize("path", PROPOSED, ids=lambda path: path.name)
def test_checkpatch_finds_nothing_in_what_we_propose(path: Path) -> None:
    """Who sends it signs it off."""
    assert complaints_about_patch(path, "--no-signoff") == []


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
