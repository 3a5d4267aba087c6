# SPDX-License-Identifier: Apache-2.0
"""The commands as a user meets them: a machine that lasts, help, exit codes, and bad input that changes nothing."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest

from hotbank import board
from hotbank.errors import Code
from hotbank.firmware import describe
from patience import until

Hotbank = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Its runtime folder has a short name: a socket's has room for 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="hb", ignore_cleanup_errors=True) as runtime:
        env = {**os.environ, "XDG_RUNTIME_DIR": runtime, "NO_COLOR": "1"}
        env.pop("HOTBANK_MACHINE", None)
        yield env


@pytest.fixture
def hotbank(environment: dict[str, str], tmp_path: Path) -> Iterator[Hotbank]:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "hotbank", *arguments],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    yield call
    call("down", "--all")


def state(hotbank: Hotbank) -> object:
    """All that ``list`` knows of the current machine, the use of each block apart, which a workload changes."""
    return json.loads(hotbank("list", "--json").stdout)


def refused(done: subprocess.CompletedProcess[str], code: Code, status: int = 1) -> None:
    """One line on standard error with the reason code, no traceback, the exit status."""
    assert done.returncode == status, done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"hotbank: {code}: ")


@pytest.mark.long
def test_a_machine_lasts_and_its_bank_leaves_and_returns(hotbank: Hotbank) -> None:
    assert hotbank("up", "arm-2009").returncode == 0
    assert "high can leave" in hotbank("explain", "high").stdout
    assert "power-off" in hotbank("plan", "high").stdout
    removed = hotbank("remove", "high")
    assert (removed.returncode, removed.stderr) == (0, "")
    assert removed.stdout.startswith("machine model:arm-2009\n")
    banks = {b["bank"]: b for b in json.loads(hotbank("list", "--json").stdout)["banks"]}
    assert (banks["high"]["kernel"], banks["high"]["power"], banks["high"]["blocks"]) == ("absent", "off", [])
    added = hotbank("add", "high", "--json")
    events = [json.loads(line) for line in added.stdout.splitlines()]
    assert events[0]["event"] == "plan"
    assert (events[-1]["event"], events[-1]["code"], events[-1]["exit"]) == ("done", "OK", 0)
    assert [e["seq"] for e in events] == list(range(len(events)))
    assert hotbank("down").returncode == 0


@pytest.mark.long
def test_a_capture_is_a_machine_like_any_other(hotbank: Hotbank) -> None:
    """What is changed on it lasts, as on a board; it holds what the machine held, and boots no second time."""
    assert hotbank("-m", "model:arm-2009", "capture", "-o", "idle.gz").returncode == 0
    assert hotbank("up", "arm-2009", "--pages", "500").returncode == 0
    assert hotbank("capture", "-o", "busy.gz").returncode == 0
    before = state(hotbank)
    assert hotbank("down").returncode == 0
    for option in (("--qemu",), ("--kernel", "6.12"), ("--description", "tags"), ("--cmdline", "quiet")):
        done = hotbank("up", "busy.gz", *option)
        assert (done.returncode, done.stderr.count("a captured machine has booted already")) == (2, 1)
    assert hotbank("up", "busy.gz").returncode == 0
    assert state(hotbank) == before
    assert hotbank("remove", "high").returncode == 0
    assert '"off"' in hotbank("list", "--json").stdout
    assert hotbank("down").returncode == 0
    assert hotbank("up", "idle.gz", "--pages", "500").returncode == 0
    used = sum(block["used"] for block in json.loads(hotbank("list", "--json", "--used").stdout)["blocks"])
    assert used > 500


@pytest.mark.long
def test_a_machine_can_be_kept_busy(hotbank: Hotbank) -> None:
    assert hotbank("up", "arm-2009", "--pages", "0", "--workload", "camera").returncode == 0
    until(lambda: in_use(hotbank) > 500, "a workload")
    assert hotbank("remove", "high").returncode == 0
    assert hotbank("down").returncode == 0
    refused(hotbank("up", "arm-2009", "--workload", "nowhere"), Code.BAD_BOARD)


def in_use(hotbank: Hotbank) -> int:
    """Pages of the Movable zone."""
    told = json.loads(hotbank("list", "--json", "--used").stdout)
    return sum(block["used"] for block in told["blocks"] if block["valid_zones"] == ["Movable"])


@pytest.mark.long
def test_bad_input_is_one_line_and_changes_nothing(hotbank: Hotbank) -> None:
    hotbank("up", "arm-2009")
    before = state(hotbank)
    refused(hotbank("remove", "nope"), Code.NO_SUCH_BANK)
    refused(hotbank("explain", "memory9999"), Code.NO_SUCH_BANK)
    refused(hotbank("add", "nope"), Code.NO_SUCH_BANK)
    refused(hotbank("remove", "low"), Code.UNMOVABLE)
    again = hotbank("up", "virt-arm64")
    assert again.returncode == 1
    assert "already" in again.stderr
    assert state(hotbank) == before


@pytest.mark.long
def test_several_machines_last_side_by_side(hotbank: Hotbank) -> None:
    """Of one board: each has a journal of its own, and the nameless one stays current."""
    assert "next: hotbank -m up:a list" in hotbank("up", "arm-2009", "--name", "a").stdout
    refused(hotbank("remove", "high"), Code.NO_MACHINE)
    assert hotbank("up", "arm-2009").returncode == 0
    assert hotbank("-m", "up:a", "remove", "high").returncode == 0
    assert [bank["kernel"] for bank in json.loads(hotbank("-m", "up:a", "list", "-J").stdout)["banks"]][1] == "absent"
    assert [bank["kernel"] for bank in json.loads(hotbank("list", "-J").stdout)["banks"]][1] == "online"
    assert json.loads(hotbank("history", "-J").stdout)["transactions"] == []
    told = json.loads(hotbank("up", "--json").stdout)["machines"]
    assert [(machine["name"], machine["answers"]) for machine in told] == [(None, True), ("a", True)]
    os.kill(told[1]["pid"], signal.SIGKILL)
    refused(gone := hotbank("-m", "up:a", "list"), Code.NO_MACHINE)
    assert "hotbank down a clears the record" in gone.stderr
    assert hotbank("up").stdout.splitlines()[2].split() == ["a", "model:arm-2009", str(told[1]["pid"]), "silent"]
    assert hotbank("down", "--all").stdout.splitlines() == [
        "model:arm-2009 is down",
        "model:arm-2009 was gone already; its record is cleared",
    ]
    refused(hotbank("down", "a"), Code.NO_MACHINE)
    assert "no machine is up" in hotbank("up").stdout


@pytest.mark.parametrize(
    "words",
    [("--name", "a"), ("--qemu",), ("--pages", "3")],
    ids=lambda words: " ".join(words),
)
def test_what_a_list_does_not_take_is_a_usage_error(hotbank: Hotbank, words: tuple[str, ...]) -> None:
    done = hotbank("up", *words)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_name_is_no_path(hotbank: Hotbank, tmp_path: Path) -> None:
    refused(hotbank("up", "arm-2009", "--name", "../a"), Code.NO_MACHINE)
    refused(hotbank("-m", "up:a/b", "list"), Code.NO_MACHINE)
    assert not list(tmp_path.rglob("a"))


def test_who_asks_for_a_machine_that_is_not_up_leaves_nothing(hotbank: Hotbank, tmp_path: Path) -> None:
    refused(hotbank("-m", "up:nobody", "list"), Code.NO_MACHINE)
    refused(hotbank("down", "nobody"), Code.NO_MACHINE)
    assert not list(tmp_path.rglob("nobody"))


@pytest.mark.long
def test_a_dead_machine_of_an_earlier_up_is_an_error_until_down(hotbank: Hotbank) -> None:
    pid = int(hotbank("up", "arm-2009").stdout.split("pid ")[1].split(")")[0])
    os.kill(pid, signal.SIGKILL)
    for verb in (["list"], ["explain", "high"], ["remove", "high"], ["add", "high"]):
        refused(hotbank(*verb), Code.NO_MACHINE)
    assert hotbank("down").returncode == 0
    refused(hotbank("remove", "high"), Code.NO_MACHINE)


@pytest.mark.long
def test_a_terminal_gets_a_bar_and_the_same_end(hotbank: Hotbank, environment: dict[str, str]) -> None:
    hotbank("up", "arm-2009", "--pages", "500")
    for verb, end in (("remove", "kernel absent, power off"), ("add", "kernel online, power on")):
        parent, child = pty.openpty()
        command = [sys.executable, "-m", "hotbank", verb, "high"]
        with subprocess.Popen(command, env=environment, stdin=child, stdout=child, stderr=child) as process:
            os.close(child)
            shown = "".join(_written_to(parent))
        os.close(parent)
        assert process.returncode == 0, shown
        assert end in shown
        assert "Traceback" not in shown


def _written_to(terminal: int) -> Iterator[str]:
    """All that is written to a terminal, until the last process closes it."""
    with suppress(OSError):  # EIO then
        while data := os.read(terminal, 4096):
            yield data.decode("utf-8", "replace")


def test_dry_run_prints_the_plan_and_changes_nothing(hotbank: Hotbank) -> None:
    hotbank("up", "arm-2009")
    before = state(hotbank)
    planned = hotbank("remove", "high", "--dry-run", "--json")
    assert planned.returncode == 0
    assert [s["step"] for s in json.loads(planned.stdout)["steps"]][-2:] == ["remove", "power-off"]
    assert hotbank("remove", "low", "--dry-run").returncode == 1
    assert state(hotbank) == before


@pytest.mark.long
def test_up_boots_from_real_bytes_and_refuses_broken_ones(hotbank: Hotbank, tmp_path: Path) -> None:
    tags = tmp_path / "tags"
    assert hotbank("encode", "arm-2009", "--atags", "-o", str(tags)).returncode == 0
    cut = tmp_path / "cut"
    cut.write_bytes(tags.read_bytes()[:30])
    refused(hotbank("up", "arm-2009", "--description", str(cut)), Code.BAD_FORMAT)
    refused(hotbank("decode", str(cut)), Code.BAD_FORMAT)
    assert hotbank("up", "arm-2009", "--description", str(tags)).returncode == 0
    assert "Movable" in hotbank("list").stdout


BAD_BOARDS = {
    "overlap": ("start = 0x50000000", "start = 0x48000000", Code.OVERLAP),
    "unaligned": ("start = 0x50000000", "start = 0x50001000", Code.NOT_ALIGNED),
    "word": ('arch = "arm"', 'arch = "z80"', Code.BAD_BOARD),
}


@pytest.mark.parametrize("case", BAD_BOARDS)
def test_a_wrong_board_starts_nothing(case: str, hotbank: Hotbank, environment: dict[str, str], tmp_path: Path) -> None:
    old, new, code = BAD_BOARDS[case]
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(board.find("arm-2009").read_text().replace(old, new))
    refused(hotbank("up", str(wrong)), code)
    assert not Path(environment["XDG_RUNTIME_DIR"], "hotbank", "current").exists()


@pytest.mark.long
def test_a_dtb_cut_anywhere_is_refused_with_its_place(hotbank: Hotbank, tmp_path: Path) -> None:
    blob = describe(board.load("virt-arm64"), "dtb").data
    cut = tmp_path / "cut.dtb"
    for length in (0, 3, 39, 40, len(blob) // 2, len(blob) - 1):
        cut.write_bytes(blob[:length])
        refused(hotbank("decode", str(cut)), Code.BAD_FORMAT)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_end_no_command(closed: str, environment: dict[str, str]) -> None:
    for arguments in ("demo --json", "-m model:arm-2009 remove high", "explain high"):
        command = ["sh", "-c", f"exec {sys.executable} -m hotbank {arguments} {closed}"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == (1 if arguments == "explain high" else 0)
        assert "Traceback" not in done.stderr


def test_files_that_are_not_there_and_boards_too_small(hotbank: Hotbank, tmp_path: Path) -> None:
    refused(hotbank("decode", str(tmp_path / "nothing")), Code.SYSTEM_ERROR)
    refused(hotbank("up", "arm-2009", "--pages", "99999999"), Code.NO_CAPACITY)


@pytest.mark.parametrize(
    ("options", "fact", "help_"),
    [
        (("--kernel", "nowhere/Image"), "--kernel nowhere/Image: there is no such file", "a series"),
        (("--kernel", "6"), "--kernel 6: there is no such file", "such as 6.12"),
        (("--kernel", "."), "--kernel .: there is no such file", "give an Image"),
        (("--initrd", "nowhere"), "--initrd nowhere: there is no such file", "leave it out"),
        (("--modules", "nowhere"), "--modules belongs to an Image of your own", "--kernel"),
    ],
)
def test_a_guest_of_files_that_are_not_there(hotbank: Hotbank, options: tuple[str, ...], fact: str, help_: str) -> None:
    done = hotbank("up", "virt-arm64", "--qemu", *options)
    refused(done, Code.UNSUPPORTED if "--modules" in options else Code.SYSTEM_ERROR)
    assert fact in done.stderr
    assert help_ in done.stderr


def test_usage_errors_exit_2(hotbank: Hotbank) -> None:
    for wrong in (["remove"], ["frobnicate"], ["list", "--no-such-option"], ["remove", "high", "--deadline", "-1"]):
        assert hotbank(*wrong).returncode == 2


def test_nothing_is_changed_without_a_named_machine(hotbank: Hotbank) -> None:
    refused(hotbank("remove", "memory0"), Code.NO_MACHINE)
    refused(hotbank("-m", "nowhere", "list"), Code.NO_MACHINE)


def test_who_runs_no_programs_is_told_that_their_switch_is_played(hotbank: Hotbank, tmp_path: Path) -> None:
    plan = tmp_path / "programs.toml"
    switch = 'switch = "command"\nstatus = ["cat", "/dev/null"]\non = ["true"]\nself-refresh = ["true"]\noff = ["true"]'
    plan.write_text(board.find("arm-2009").read_text(encoding="utf-8").replace('switch = "machine"', switch))
    assert "ddr-high are played; --run-commands" in hotbank("up", str(plan)).stderr
    assert hotbank("down").returncode == 0
    assert hotbank("up", str(plan), "--run-commands").stderr == ""


def test_help_is_grouped_and_every_command_has_one(hotbank: Hotbank) -> None:
    from hotbank.cli import SECTIONS

    text = hotbank("--help").stdout
    places = [text.index(f"{section}:") for section in SECTIONS]
    assert places == sorted(places)
    for names in SECTIONS.values():
        for name in names:
            assert hotbank(name, "--help").returncode == 0


def test_no_sentence_of_a_help_is_cut() -> None:
    from hotbank.cli import cli

    lines = [line for text in _helps(cli, click.Context(cli)) for line in text.splitlines()]
    assert [line for line in lines if line.endswith("...") and "]" not in line] == []


def _helps(command: click.Command, context: click.Context) -> Iterator[str]:
    yield command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from _helps(found, click.Context(found, info_name=name, parent=context))


@pytest.mark.long
def test_ctrl_c_rolls_back_and_exits_130(hotbank: Hotbank, environment: dict[str, str]) -> None:
    hotbank("up", "arm-2009", "--pages", "50000")
    before = json.loads(hotbank("list", "--json").stdout)["blocks"]
    command = [sys.executable, "-m", "hotbank", "remove", "high", "--json"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        next(line for line in job.stdout if '"offline"' in line)
        time.sleep(0.1)
        job.send_signal(signal.SIGINT)
        rest, _ = job.communicate()
    assert job.returncode == 130
    assert json.loads(rest.splitlines()[-1])["code"] == "INTERRUPTED"
    after = json.loads(hotbank("list", "--json").stdout)["blocks"]
    same = ("block", "state", "valid_zones")
    assert [[b[k] for k in same] for b in after] == [[b[k] for k in same] for b in before]
