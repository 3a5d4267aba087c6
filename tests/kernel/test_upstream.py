# SPDX-License-Identifier: Apache-2.0
"""What we propose to the kernel's people fits the newest kernel that Debian has the source of."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from kernel.kernel_source import from_source
from kernel.test_style import PROPOSED

NEWEST = "7.3"

pytestmark = [pytest.mark.kernel, pytest.mark.slow]  # 160 MB that nothing else needs


@pytest.mark.parametrize("patch", PROPOSED, ids=lambda path: path.name)
def test_a_patch_applies(patch: Path, tmp_path: Path) -> None:
    lines = patch.read_text(encoding="utf-8").splitlines()
    files = [line.removeprefix("--- a/") for line in lines if line.startswith("--- a/")]
    source = from_source(*files, series=NEWEST)
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / file, tmp_path / file)
    subprocess.run(["git", "apply", "--unsafe-paths", f"--directory={tmp_path}", str(patch)], check=True, cwd="/")
    assert all((tmp_path / file).read_text() != (source / file).read_text() for file in files)
