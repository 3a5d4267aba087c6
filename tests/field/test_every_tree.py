# SPDX-License-Identifier: Apache-2.0
"""Every device tree of Debian's arm64 and armhf kernels through ``zones``: zones, or a finding that says why not."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from codec import debian_blobs
from hotbank.cli import run


def answers(blobs: Mapping[str, bytes], folder: Path, capsys: pytest.CaptureFixture[str]) -> Counter[str]:
    """What ``zones`` answers to each tree, counted; an answer that is none fails at the tree's name."""
    found = Counter[str]()
    file = folder / "board.dtb"
    for name, blob in blobs.items():
        file.write_bytes(blob)
        status = run(["zones", "--dtb", str(file), "--json"])
        said = capsys.readouterr()
        found[_answer(name, status, said.out, said.err)] += 1
    return found


def _answer(name: str, status: int, out: str, err: str) -> str:
    if status:
        assert err.startswith("hotbank: "), (name, err)
        return "refused: " + err.split(": ")[1]
    document: dict[str, Any] = json.loads(out)
    if document["zones"]:
        assert document["blocks"], name
        return "zones"
    findings = [f for f in document["warnings"] if f["code"] in ("NO_MEMORY", "PANICS")]
    assert findings, (name, document["warnings"])
    return str(findings[0]["code"])


@pytest.mark.parametrize("arch", ["arm64", "armhf"])
def test_a_sample_of_trees_gets_an_answer(arch: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blobs = {name: blob for name, blob in debian_blobs.sample().items() if name.startswith(f"{arch}/")}
    found = answers(dict(list(blobs.items())[:20]), tmp_path, capsys)
    assert set(found) == {"zones", "NO_MEMORY"}


@pytest.mark.slow
def test_every_tree_of_debians_kernels_gets_an_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blobs = debian_blobs.fetch()
    assert len(blobs) > 1000
    found = answers(blobs, tmp_path, capsys)
    with capsys.disabled():
        print(dict(found))
    assert set(found) <= {"zones", "NO_MEMORY"}, found
