# SPDX-License-Identifier: Apache-2.0
"""The units, by systemd-analyze and by our own command line."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from hotbank.cli import cli

PACKAGING = Path(__file__).parents[2] / "packaging"
UNITS = sorted((PACKAGING / "systemd").iterdir())
_OURS = re.compile(r"^(Exec\w+=-?)hotbank ", re.MULTILINE)


def read(unit: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(unit)
    return parser


def commands(unit: Path) -> Iterator[list[str]]:
    for line in _OURS.finditer(unit.read_text()):
        rest = unit.read_text()[line.end() :].partition("\n")[0]
        yield shlex.split(rest)


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_units_say_what_our_command_line_understands(unit: Path) -> None:
    assert read(unit)["Unit"]["Description"].startswith("hotbank")
    for words in commands(unit):
        assert CliRunner().invoke(cli, [*words, "--help"]).exit_code == 0, words


def test_our_command_is_found_and_has_no_place_of_its_own() -> None:
    """systemd looks for it in its own search path; ``make install`` writes another place in."""
    assert sum(len(list(commands(unit))) for unit in UNITS) == 3
    assert not [unit.name for unit in UNITS if "/hotbank " in unit.read_text()]


def test_banks_come_in_before_the_machine_goes_down() -> None:
    """A unit is stopped only if it was started, and before what it was started after."""
    banks = read(PACKAGING / "systemd/hotbank-banks.service")
    assert banks["Service"]["ExecStart"].startswith("-")
    assert banks["Service"]["RemainAfterExit"] == "yes"
    assert banks["Unit"]["After"].split() == ["hotbank.service", "hotbank.socket"]
    assert "DefaultDependencies" not in banks["Unit"]  # which put its stop before shutdown.target
    assert read(PACKAGING / "systemd/hotbank.service")["Service"]["Type"] == "notify"


@pytest.mark.referee
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        (tmp_path / unit.name).write_text(_OURS.sub(r"\1/bin/true ", unit.read_text()))
    done = analysed(tmp_path)
    assert not done, done


@pytest.mark.referee
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_notices_a_wrong_unit(tmp_path: Path) -> None:
    text = (PACKAGING / "systemd/hotbank.service").read_text()
    (tmp_path / "hotbank.service").write_text(_OURS.sub(r"\1/bin/true ", text).replace("Type=notify", "Type=ready"))
    assert any("service type, ignoring: ready" in line for line in analysed(tmp_path))


def analysed(folder: Path) -> list[str]:
    """What systemd says of the units in a folder, and of no other."""
    done = subprocess.run(
        ["systemd-analyze", "--man=no", "verify", *map(str, sorted(folder.iterdir()))],
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{folder}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    return [line for line in done.stderr.splitlines() if "hotbank" in line]
