# SPDX-License-Identifier: Apache-2.0
"""The oldest libraries that pyproject.toml allows are those of Debian 12: the program runs with them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HELP_OF_ALL = """
import click
from hotbank.cli import cli
top = click.Context(cli)
for name in cli.list_commands(top):
    command = cli.get_command(top, name)
    command.get_help(click.Context(command, info_name=name, parent=top))
"""
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """``python -m hotbank`` with the lower bounds of the dependencies and nothing else."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    folder = tmp_path_factory.mktemp("oldest")
    pins = [re.sub(r">=", "==", re.sub(r",.*", "", bound)) for bound in wanted]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", str(folder)]
    subprocess.run([*pip, *pins], check=True, capture_output=True)
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{folder}", "NO_COLOR": "1"}

    def run(*words: str, code: str = "", closed: bool = False) -> subprocess.CompletedProcess[str]:
        # -S: without the packages of this interpreter
        command = [sys.executable, "-S", *(["-c", code] if code else ["-m", "hotbank", *words])]
        shell = ["sh", "-c", '"$@" >&-', "sh", *command] if closed else command
        return subprocess.run(shell, env=env, capture_output=True, text=True, check=False)

    return run


@pytest.mark.long
def test_it_runs_with_the_oldest_libraries(oldest: Run) -> None:
    assert oldest("list").returncode == 0
    assert oldest("-m", "model:arm-2009", "remove", "high", "--wait", "5").returncode == 0
    assert oldest("demo").stdout.count("  yes\n") == 5
    assert "Did you mean explain" in oldest("explai").stderr
    assert '"error"' in oldest("-m", "model:arm-2009", "explain", "nosuch", "--json").stdout
    assert oldest(code=HELP_OF_ALL).returncode == 0
    assert oldest("list", closed=True).returncode == 0
