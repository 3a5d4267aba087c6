# SPDX-License-Identifier: Apache-2.0
"""The run that docs/arm32.md shows is one: ``hotbank up arm-2009 --qemu`` and the commands on it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from docs.test_examples import ROOT, blocks, examples, same
from kernel.arm32_guests import RELEASE

pytestmark = pytest.mark.kernel

PAGE = ROOT / "docs/arm32.md"


def test_the_run_of_the_page_prints_what_it_says(tmp_path: Path) -> None:
    shown = blocks(PAGE.read_text(encoding="utf-8"), "kernel-console")
    commands = [found for _, block in shown for found in examples(block)]
    assert len(commands) >= 6
    with tempfile.TemporaryDirectory(prefix="hb") as runtime:  # short: sockets lie in it
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "XDG_RUNTIME_DIR": runtime, "COLUMNS": "110", "NO_COLOR": "1"}
        env.pop("HOTBANK_MACHINE", None)
        try:
            for command, expected in commands:
                done = run(of_release(command), tmp_path, env)
                assert same(expected, done), f"$ {command}\n{done}"
        finally:
            run("hotbank down", tmp_path, env)


def of_release(command: str) -> str:
    """The same guest with the kernel that was asked for."""
    return f"{command} --kernel {RELEASE}" if RELEASE and command.startswith("hotbank up") else command


def run(command: str, folder: Path, env: dict[str, str]) -> str:
    """What the command prints, errors too."""
    joined = subprocess.STDOUT
    return subprocess.run(
        command, shell=True, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=joined
    ).stdout
