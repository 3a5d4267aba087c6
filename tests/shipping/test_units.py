# SPDX-License-Identifier: Apache-2.0
"""The units, by systemd-analyze and by our own command line."""

from __future__ import annotations

import configparser
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from contract import deadly
from contract.crashing import kernels, model_of
from contract.deadly import BOTH
from hotbank import operate
from hotbank.cli import cli
from hotbank.memory import KernelState
from mount.mounts import mounted, needs_fuse
from soak.crowded import MOST_THREADS

TESTS = str(Path(__file__).parents[1])
PACKAGING = Path(__file__).parents[2] / "packaging"
UNITS = sorted(path for path in (PACKAGING / "systemd").iterdir() if path.is_file())
OWNER, DROP_IN = PACKAGING / "systemd/hotbank.service", PACKAGING / "systemd/hotbank.service.d"
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
    assert sum(len(list(commands(unit))) for unit in UNITS) == 4
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
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        (tmp_path / unit.name).write_text(_OURS.sub(r"\1/bin/true ", unit.read_text()))
    done = analysed(tmp_path)
    assert not done, done


def test_debs_installation_brings_no_bank_in_and_a_reboot_after_it_does(tmp_path: Path) -> None:
    """The unit starts, so that it is stopped before the machine goes down; starting does nothing then."""
    place, said = tmp_path / "run/systemd/system", tmp_path / "said"
    drop_in = place / "hotbank-banks.service.d/installed.conf"
    stub = f'#!/bin/sh\necho "${{0##*/}} $*" >>{said}; ! [ -e {drop_in} ] || cat {drop_in} >>{said}\n'
    place.mkdir(parents=True)
    for program in ("systemd-sysusers", "py3compile", "deb-systemd-helper", "systemctl", "deb-systemd-invoke"):
        (tmp_path / program).write_text(stub)
        (tmp_path / program).chmod(0o755)
    script = (PACKAGING / "deb/postinst").read_text().replace("/run/systemd", str(tmp_path / "run/systemd"))
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", script, "postinst", "configure", ""], env=env, check=True)
    text = said.read_text()
    started = text[text.index("deb-systemd-invoke start") :]
    assert "hotbank-banks.service" in started.splitlines()[0]
    assert started.splitlines()[1:4] == ["[Service]", "ExecStart=", "ExecStart=/bin/true"]
    assert started.splitlines()[4:] == ["systemctl --system daemon-reload"], "and the unit is as it was"
    assert not drop_in.parent.exists()


@pytest.mark.referee
def test_systemd_notices_a_wrong_unit(tmp_path: Path) -> None:
    text = (PACKAGING / "systemd/hotbank.service").read_text()
    (tmp_path / "hotbank.service").write_text(_OURS.sub(r"\1/bin/true ", text).replace("Type=notify", "Type=ready"))
    assert any("service type, ignoring: ready" in line for line in analysed(tmp_path))


@pytest.mark.referee
def test_systemd_accepts_what_a_boards_command_may_need(tmp_path: Path) -> None:
    """The drop-in as it is, and each line of it alone: they are for choosing from."""
    (tmp_path / OWNER.name).write_text(_OURS.sub(r"\1/bin/true ", OWNER.read_text()))
    there = tmp_path / DROP_IN.name / "board-commands.conf"
    there.parent.mkdir()
    text = (DROP_IN / there.name).read_text()
    chosen = [line for line in text.splitlines() if line and not line.startswith(("#", "["))]
    for lines in (chosen, *([line] for line in chosen)):
        there.write_text("\n".join(("[Service]", *lines, "")))
        assert analysed(tmp_path) == [], lines
    there.write_text("[Service]\nSystemCallFilter=@no-such-set\n")
    assert analysed(tmp_path) != []


@pytest.mark.referee
def test_systemd_accepts_an_owner_that_governs(tmp_path: Path) -> None:
    """The drop-in starts what the unit starts, with a policy."""
    (tmp_path / OWNER.name).write_text(_OURS.sub(r"\1/bin/true ", OWNER.read_text()))
    there = tmp_path / DROP_IN.name / "auto.conf"
    there.parent.mkdir()
    there.write_text(_OURS.sub(r"\1/bin/true ", (DROP_IN / there.name).read_text()))
    assert analysed(tmp_path) == []
    (plain,), (words,) = commands(OWNER), commands(DROP_IN / there.name)
    assert words == [*plain, "--auto", "balance"]
    assert CliRunner().invoke(cli, [*words, "--help"]).exit_code == 0


@pytest.mark.referee
def test_the_owner_is_not_exposed(tmp_path: Path) -> None:
    """systemd's own reckoning, from 0 (all shut) to 10."""
    (tmp_path / OWNER.name).write_text(_OURS.sub(r"\1/bin/true ", OWNER.read_text()))
    words = ["systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=30", str(tmp_path / OWNER.name)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout.splitlines()[-1]


def test_memory_that_runs_dry_does_not_end_the_owner() -> None:
    service = read(OWNER)["Service"]
    assert not {"MemoryMax", "MemoryHigh", "MemoryLimit"} & service.keys()
    assert int(service["OOMScoreAdjust"]) < 0
    assert service["LimitMEMLOCK"] == "infinity", "a worker's, which stands ready"
    assert int(service["CPUWeight"]) > 100 < int(service["IOWeight"]), "no more than anyone"
    assert int(service["TasksMax"]) >= 2 * MOST_THREADS


@needs_fuse
@pytest.mark.referee
@pytest.mark.parametrize("verb", ["remove", "add"])
def test_what_the_unit_leaves_of_roots_rights_is_enough(tmp_path: Path, verb: str) -> None:
    """An owner of a mounted model with the unit's capabilities, and no more memory that is writable and executable."""
    rights = [word.lower().removeprefix("cap_") for word in read(OWNER)["Service"]["CapabilityBoundingSet"].split()]
    bounded = ["setpriv", "--bounding-set", ",".join(["-all", *(f"+{right}" for right in rights)])]
    bounded += ["--inh-caps=-all", "--no-new-privs"]
    model = model_of("pair")
    with mounted(model) as root:
        if verb == "add":
            assert operate.remove(model, BOTH).exit == 0
        owner = [sys.executable, deadly.__file__, "pair", str(root), str(tmp_path), verb, "-1", ""]
        done = subprocess.run(
            [*bounded, sys.executable, "-c", _NO_NEW_CODE, *owner],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([TESTS, os.environ.get("PYTHONPATH", "")])},
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, "Code.OK" in done.stdout) == (0, True), done.stderr
    assert kernels(model) == {KernelState.ABSENT if verb == "remove" else KernelState.ONLINE}


# prctl(2): PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, as MemoryDenyWriteExecute= does; kernels before 6.3 have it not.
_NO_NEW_CODE = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"


def analysed(folder: Path) -> list[str]:
    """What systemd says of the units in a folder, and of no other."""
    done = subprocess.run(
        ["systemd-analyze", "--man=no", "verify", *(str(path) for path in sorted(folder.iterdir()) if path.is_file())],
        env={"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{folder}:"},
        capture_output=True,
        text=True,
        check=False,
    )
    return [line for line in done.stderr.splitlines() if "hotbank" in line]
