# SPDX-License-Identifier: Apache-2.0
"""What a wrong word is answered with, for people and for programs."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from hotbank.cli import run, table
from hotbank.cli.terminal import counted
from hotbank.errors import Code, KernelError
from hotbank.machine import no_such
from hotbank.memory import Kind
from hotbank.operate.outcome import Circumstances, why
from hotbank.operate.plan import Action, Step
from hotbank.operate.verdict import Verdict

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "boards" / "arm-2009.toml"
_LATER = '[bank.high]\nstart = "1G"\nsize = "256M"\nmovable = true\nat_boot = false\nroute = "driver"\n'


def test_a_mistyped_command_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explian"]) == 2
    assert "Did you mean explain" in capsys.readouterr().err


_PRESSED_AT = """
import signal, sys
class Finder:
    at = sys.argv.pop(1)
    def find_spec(self, name, path=None, target=None):
        if name == self.at:
            self.at = ""
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder())
from {} import {} as begin
begin()
"""


@pytest.mark.parametrize("module", ["hotbank.cli", "click", "hotbank.errors", "hotbank.kernels", "hotbank.cli.board"])
def test_ctrl_c_is_one_line_from_the_first_import_on(module: str) -> None:
    """By the entry point that is installed; Ctrl-C comes as that module is asked for."""
    begins = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]["hotbank"]
    command = [sys.executable, "-c", _PRESSED_AT.format(*begins.split(":")), module, "board", "list"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (130, "", "hotbank: INTERRUPTED: interrupted")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_output_that_can_not_be_written_is_one_line(form: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "hotbank", "-m", "model:arm-2009", "list", *form]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "hotbank: SYSTEM_ERROR: standard output: No space left on device\n")


@pytest.mark.parametrize(
    ("option", "example"),
    [
        ("-m", "hotbank -m MACHINE list"),
        ("--machine", "hotbank --machine MACHINE list"),
        ("--timeout", "hotbank --timeout SECONDS list"),
        ("-V", "hotbank -V"),
        ("--version", "hotbank --version"),
    ],
)
def test_an_option_of_all_commands_is_told_where_it_stands(
    option: str, example: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["list", option, "host", "--json"]) == 2
    said = capsys.readouterr()
    assert f"Error: {option} stands before the command: {example}\n" in said.err
    assert json.loads(said.out)["error"]["code"] == "USAGE"


def test_a_picture_that_can_not_be_drawn_is_refused_before_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "arm-2009", "--workload", "camera", "--seconds", "2"]
    assert run([*words, "--plot", "x.nix"]) == 1
    assert capsys.readouterr().err == "hotbank: UNSUPPORTED: x.nix: a picture is one of png, svg; name it FILE.svg\n"


@pytest.mark.parametrize("option", ["--html", "--plot"])
@pytest.mark.parametrize("place", ["/nowhere/x.svg", "FILE/x.svg"])
def test_what_can_not_be_written_is_refused_before_the_work(
    option: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With JSON in one document: a report beside an error would be two."""
    (tmp_path / "file").touch()
    path = place.replace("FILE", str(tmp_path / "file"))
    words = ["simulate", "arm-2009", "--workload", "camera", "--seconds", "2", "--json"]
    assert run([*words, option, path]) == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["error"]["code"] == "SYSTEM_ERROR"
    assert said.err.startswith(f"hotbank: SYSTEM_ERROR: {path}: ")
    assert "policy" not in said.err, "nothing was begun"


def test_a_page_that_could_not_be_written_after_all_is_one_document_of_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("hotbank.cli.handed.check_writable", lambda _: None)
    words = ["simulate", "arm-2009", "--workload", "camera", "--seconds", "2", "--html", "/nowhere/x.html"]
    assert run(words) == 1
    assert "policy balance" in capsys.readouterr().out, "what was reckoned is told all the same"
    assert run([*words, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "SYSTEM_ERROR"


def test_columns_are_of_the_table_and_not_of_its_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-m", "model:arm-2009", "list", "--json", "-o", "BANK"]) == 2
    assert "--json has all of it" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert run(["-m", "model:arm-2009", "list", "--json", "--all"]) == 0


def test_a_table_leaves_out_what_it_can_spare() -> None:
    rows = [["a" * 30, "b" * 30, "c" * 18]]
    assert [line.split() for line in table.lines(("A", "B", "C"), rows, spare=("C", "B"))] == [["A", "B", "C"], *rows]
    rows = [["a" * 30, "b" * 30, "c" * 19]]
    assert [line.split() for line in table.lines(("A", "B", "C"), rows, spare=("C", "B"))] == [["A", "B"], rows[0][:2]]


def test_no_race_is_suspected_where_nobody_could_see_the_pages() -> None:
    step, busy = Step(Action.OFFLINE, "memory4", 4), KernelError(errno.EBUSY, "offline of memory4")
    seen = Verdict("memory4", Code.OK, "", kinds={Kind.FREE: 8})
    unseen = Verdict("memory4", Code.PINS_UNKNOWN, "", kinds={Kind.UNKNOWN: 8}, unknown=("PINS_UNKNOWN",))
    assert why(step, busy, Circumstances(look=seen)).remedy.startswith("run it again")
    assert why(step, busy, Circumstances(look=unseen)).remedy.startswith("pages that do not show what they hold")


def test_a_message_lists_few_names_and_of_many_the_nearest() -> None:
    assert no_such("m", "bank", "'hihg'", ["low", "high"]).remedy == "known: low, high"
    many = no_such("m", "bank", "'b3001'", [f"b{n}" for n in range(8192)]).remedy
    assert "b3001" in many
    assert len(many) < 100
    assert many.endswith("hotbank list shows all 8192")


@pytest.mark.parametrize("name", ["99", "memory99", "0x5000000000"])
def test_who_asks_for_a_block_is_told_blocks(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-m", "model:arm-2009", "explain", name]) == 1
    assert capsys.readouterr().err.endswith(f"has no bank or block '{name}'; known: memory16–23\n")


def test_names_that_are_numbers_are_folded() -> None:
    host = [f"memory{n}" for n in range(8192) if n != 24]
    assert no_such("host", "bank or block", "'9999'", host).remedy == "known: memory0–23, memory25–8191"
    assert "nearest: " in no_such("host", "bank or block", "'high'", host[::2]).remedy


def test_a_physical_address_is_the_block_it_lies_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-m", "model:arm-2009", "explain", "0x55555555"]) == 0
    assert "target    memory21  0x54000000-" in capsys.readouterr().out
    for wrong in ("0x60000000", "0x1ffffffff0000000000", "0x"):
        assert run(["-m", "model:arm-2009", "explain", wrong]) == 1
        assert f"no bank or block '{wrong}'" in capsys.readouterr().err


@pytest.mark.parametrize("spelling", ["-J", "--json"])
def test_a_refusal_is_a_document_for_programs(spelling: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-m", "model:arm-2009", "explain", "nothing", spelling]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["error"]["code"]) == (1, "NO_SUCH_BANK")
    assert document["error"].keys() == {"code", "message", "remedy"}


@pytest.mark.parametrize(("bank", "status"), [("low", 1), ("high", 0)])
@pytest.mark.parametrize("verb", ["explain", "plan"])
def test_an_answer_of_no_is_a_status_where_asked(verb: str, bank: str, status: int) -> None:
    assert run(["-m", "model:arm-2009", verb, bank]) == 0
    assert run(["-m", "model:arm-2009", verb, bank, "--exit-code"]) == status


@pytest.mark.parametrize(
    "words",
    [
        ("--initrd", "x"),
        ("--modules", "x"),
        ("--qemu", "--seed", "0"),
        ("--qemu", "--pages", "4000"),
        ("--qemu", "--description", "x"),
    ],
)
def test_an_option_without_effect_is_refused(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["up", "virt-arm64", *words]) == 2
    assert next(word for word in words if word not in ("--qemu", "x")) in capsys.readouterr().err


FILES = {
    "trace.csv": ("simulate", "arm-2009", "--trace"),
    "tags": ("zones", "--atags"),
    "any": ("decode",),
    "capture.gz": ("list", "-m"),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [None, b"\x1f\x8b\x08", b"one\ntwo\n", b"t_s,x\n1,2\n", b"\xff\n\xfe\n"])
def test_whatever_is_wrong_with_a_file_its_name_is_said(
    name: str, content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    *words, last = FILES[name]
    command = ["-m", f"model:{path}", *words] if last == "-m" else [*words, last, str(path)]
    assert run(command) == 1
    assert str(path) in capsys.readouterr().err


def test_a_file_that_can_not_be_written_is_named_as_it_was_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = tmp_path / "no folder" / "capture.gz"
    assert run(["-m", "model:arm-2009", "capture", "-o", str(wanted)]) == 1
    assert f"SYSTEM_ERROR: {wanted}: No such file" in capsys.readouterr().err


def test_the_list_of_commands_cuts_no_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    assert "..." not in capsys.readouterr().out.split("Options:")[1]


def test_a_plan_of_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("plan", "--add", "high"), ("add", "high", "--dry-run")):
        assert run(["-m", "model:arm-2009", *words]) == 0
        out = capsys.readouterr().out
        assert "high: OK: nothing to do" in out
        assert "total" not in out


def test_a_description_without_memory_has_no_empty_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zones", "--board", "arm-2009", "--cmdline", "mem=foo"]) == 0
    assert capsys.readouterr().out.startswith("NO_MEMORY")


def test_what_is_too_much_to_free_is_not_answered_with_the_remedy_of_one_page(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["-m", "model:arm-2009", "plan", "--free", "400M"]) == 0
    out = capsys.readouterr().out
    assert "only 256M can leave" in out
    assert "remedy    ask for less" in out


def test_a_module_without_headers_names_them() -> None:
    folder = Path(__file__).parents[2] / "kernel/bank"
    done = subprocess.run(
        ["make", "-C", folder, "KERNEL=/nowhere"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"]},
    )
    assert done.returncode != 0
    assert "no kernel headers at /nowhere" in done.stderr


@pytest.mark.parametrize(("number", "words"), [(0, "0 boots"), (1, "1 boot"), (2, "2 boots")])
def test_one_is_one(number: int, words: str) -> None:
    assert counted(number, "boot") == words
    assert counted(number, "process", "es") == f"{number} process" + "es" * (number != 1)


@pytest.mark.parametrize(
    ("words", "help_of"),
    [
        (("list", "--no-such-option"), "hotbank list"),
        (("up", "arm-2009"), "hotbank up"),
        (("plan", "--free", "much"), "hotbank plan"),
        (("lits",), "hotbank"),
    ],
    ids=lambda part: " ".join(part),
)
def test_a_wrong_command_line_is_a_document_for_programs(
    words: tuple[str, ...], help_of: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--json"]) == 2
    told = capsys.readouterr()
    error = json.loads(told.out)["error"]
    assert (error["code"], error["remedy"]) == ("USAGE", f"{help_of} --help")
    assert " ".join(error["message"].split()) in " ".join(told.err.split())
    assert run([*words[:-1], "--no-such-option"]) == 2
    assert capsys.readouterr().out == ""


def test_a_file_that_is_not_there_is_a_document_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["decode", "/nowhere/file", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "SYSTEM_ERROR"


def test_a_bank_that_leaves_for_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spread = tmp_path / "spread.toml"
    shipped = SHIPPED.read_text(encoding="utf-8")
    spread.write_text(shipped.replace("[domain.ddr-high]", "[domain.ddr-high]\ninterleaved = true"))
    for name, told in ((str(spread), True), ("arm-2009", False)):
        assert run(["-m", f"model:{name}", "explain", "high"]) == 0
        assert ("domain ddr-high is interleaved" in capsys.readouterr().out) is told


def test_json_is_no_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("machine.gz", "machine.json"):
        assert run(["-m", "model:arm-2009", "capture", "-o", str(tmp_path / name)]) == 0
        assert run(["decode", str(tmp_path / name)]) == 1
        assert "BAD_FORMAT" in (said := capsys.readouterr().err)
        assert len(said) < 400


def test_a_board_without_memory_at_boot_is_told_what_it_lacks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare.toml"
    bare.write_text('name = "bare"\narch = "arm64"\nblock_size = "128M"\n' + _LATER)
    assert run(["-m", f"model:{bare}", "list"]) == 1
    assert "at_boot = true" in capsys.readouterr().err
