# SPDX-License-Identifier: Apache-2.0
"""The bank driver against the headers of kernels that Debian has: not a word from the compiler at ``W=1``, nor from
sparse where the headers bring what it needs (those of 7.x do not)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from hotbank.boards_qemu import arm64
from hotbank.boards_qemu.parts import bank_module
from hotbank.boards_qemu.parts.packages import Archive, cache_folder

pytestmark = pytest.mark.kernel

SERIES = ("6.1", *(pytest.param(series, marks=pytest.mark.slow) for series in ("6.12", "7.2", "7.3")))
SAYS_NOTHING_OF_US = (
    "pahole",
    "The kernel was built with",
    "You are using",
    "checker-valid.sh",
    "sparse is not available",
)


def said(series: str, folder: Path, source: Path) -> list[str]:
    """What compiler and sparse say of that source, built for the kernel."""
    release = Archive.open(arm64.DEBIAN).kernel(series, arm64.DEBIAN)
    headers = bank_module.kernel_headers(release, arm64.NAMES, cache_folder())
    work = Path(shutil.copytree(source, folder / "work"))
    argv = [*bank_module.building(work, headers, arm64.NAMES), "W=1", "C=2"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return [line for line in done.stderr.splitlines() if not any(word in line for word in SAYS_NOTHING_OF_US)]


@pytest.mark.parametrize("series", SERIES)
def test_nothing_is_said_of_the_driver(tmp_path: Path, series: str) -> None:
    assert said(series, tmp_path, bank_module.source_folder()) == []


def test_breaches_are_told(tmp_path: Path) -> None:
    broken = Path(shutil.copytree(bank_module.source_folder(), tmp_path / "broken"))
    text = (broken / "driver.c").read_text(encoding="utf-8")
    for clean, breach in (
        ("static struct class bank_class", "struct class bank_class"),
        ("int i = 0;", "int no, i = 0;"),
    ):
        assert clean in text
        text = text.replace(clean, breach)
    (broken / "driver.c").write_text(text, encoding="utf-8")
    told = "\n".join(said("6.1", tmp_path, broken))
    assert "unused variable" in told
    assert "was not declared. Should it be static?" in told
