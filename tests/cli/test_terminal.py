# SPDX-License-Identifier: Apache-2.0
"""What is printed of others' words: each field that a hostile owner can fill, met on a terminal by each command."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.hostile_owner import EVENTS, on_a_terminal, owner
from hotbank.cli import terminal
from hotbank.cli.terminal import json_text, visible
from hotbank.errors import Code, MachineError
from hotbank.machine import BankStatus, Block, DomainStatus, Evidence, Owner, Snapshot, Survey, ZoneInfo
from hotbank.memory import MIB, BlockState, KernelState, Kind, Power, Range
from hotbank.operate import Action, Before, Entry, Event, Outcome, Row
from hotbank.operate.journal import BankBefore, DomainBefore
from hotbank.wire import encode

SOURCE = Path(terminal.__file__).parent
# A window's title with BEL, a C1 sequence, a line begun anew, a deletion, writing to the left, half a character.
PLANT = "\x1b]0;owned\x07\x9b31m\rX\b\x7f\u202e\u2028\ud800\n#"
_PRINTS = re.compile(r"print|(click\.)?(echo|secho)|sys\.std(out|err)\.write|.*console\.print")
_OURS = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")  # how rich draws its bar
_RAW = re.compile(
    rb"\x1b|\x07|\x08|\x7f|\xc2[\x80-\x9f]|\xe2\x80[\x8e\x8f\xa8-\xae]|\xed[\xa0-\xbf]|\r[X]|^#", re.MULTILINE
)


def planted(field: str) -> str:
    return field + PLANT


def got_through(written: bytes) -> list[bytes]:
    """What of the plant reached the terminal as it is."""
    return _RAW.findall(_OURS.sub(b"", written))


SIZE = 128 * MIB


def machine(kind: str = "driver") -> Snapshot:
    zone = planted("zone")
    blocks = tuple(
        Block(n, Range(n * SIZE, (n + 1) * SIZE), BlockState.ONLINE, (zone, planted("other")), 0) for n in range(2)
    )
    banks = (
        BankStatus.of(planted("bank"), Range(0, SIZE), blocks[:1], Power.ON, route=kind, domain=planted("domain")),
        BankStatus.of("out", Range(2 * SIZE, 3 * SIZE), (), Power.OFF, route=kind, domain="far"),
    )
    return Snapshot(
        planted("machine"),
        planted("arch"),
        4096,
        SIZE,
        planted("boot"),
        blocks,
        (ZoneInfo(0, zone, 0, 65536, 65536, 65536, 100, 1, 1, 1),),
        banks,
        (
            DomainStatus(planted("domain"), Power.ON, (Power.ON, Power.OFF), (planted("bank"),), planted("switch")),
            DomainStatus("far", Power.OFF, (Power.ON, Power.OFF), ("out",)),
        ),
    )


def survey() -> Survey:
    held = Evidence(5, Kind.SLAB, Code.UNMOVABLE, Owner(7, planted("comm"), planted("cgroup")))
    return Survey(0, {Kind.SLAB: 1, Kind.FREE: 32767}, (held,), 1, (planted("view"),))


def outcome(exit_: int) -> Outcome:
    code = Code.OK if exit_ == 0 else Code.UNMOVABLE
    return Outcome(
        "remove", (planted("target"),), code, exit_, planted("fact"), planted("remedy"), kernel=KernelState.ABSENT
    )


BEGAN = 1_790_000_000.0  # seconds since 1970: no clock that nobody had set


def history() -> list[Entry]:
    before = Before(
        planted("verb"),
        (planted("aim"),),
        planted("boot"),
        banks=(BankBefore(planted("bank"), KernelState.ONLINE, planted("domain")),),
        domains=(DomainBefore(planted("domain"), Power.ON),),
        cause=planted("cause"),
    )
    rows = (Row(Action.POWER_OFF, planted("dark"), Code.OK, None, BEGAN + 1, BEGAN + 2),)
    return [Entry(1, 1, before, BEGAN, rows, Code.OK, 1, BEGAN + 3)]


def finding() -> dict[str, Any]:
    words = {name: planted(name) for name in ("code", "message", "remedy", "where")}
    return words | {"severity": "hurts"}


def answers(exit_: int = 0) -> dict[str, Any]:
    events = [Event(0.1, 1, "step", planted("step"), 0), Event(0.2, 2, "rollback", planted("undoing"), 0)]
    return {
        "machine.snapshot": encode(machine()),
        "machine.survey": encode(survey()),
        "machine.power": "on",
        "machine.doctor": [finding()],
        "clock.now": 1.0,
        "owner.history": {"entries": encode(history()), "more": False},
        "owner.order": encode(outcome(exit_)),
        EVENTS: [encode(event) for event in events],
    }


REFUSED = {"error": encode(MachineError(planted("problem"), remedy=planted("help")))}
HELLO = {"machine": planted("named"), "can": ["doctor"]}
COMMANDS: dict[str, tuple[list[str], dict[str, Any], dict[str, Any], str]] = {
    "list": (["list", "--used"], answers(), HELLO, "bank zone"),
    "list every column": (["list", "-o", "+ROUTE,DOMAIN,BLOCKS"], answers(), HELLO, "bank zone domain"),
    "lsmem": (["list", "--lsmem", "--output-all"], answers(), HELLO, ""),
    "explain": (["explain", "0"], answers(), HELLO, "machine zone comm cgroup view"),
    "explain all": (["explain", "--all"], answers(), HELLO, "view"),
    "plan": (["plan", "0"], answers(), HELLO, "machine"),
    "plan free": (["plan", "--free", "128M"], answers(), HELLO, "machine"),
    "plan add": (["plan", "--add", "out"], answers(), HELLO, "machine"),
    "remove": (["remove", "0"], answers(), HELLO, "named fact target"),
    "remove fails": (["remove", "0"], answers(1), HELLO, "named fact target remedy"),
    "add": (["add", "out"], answers(), HELLO, "named fact target"),
    "power": (["power", "far"], answers(), HELLO, "named"),
    "recover": (["recover"], answers(), HELLO, "named fact"),
    "history": (["history"], answers(), HELLO, "verb cause dark"),
    "history of one": (["history", "1"], answers(), HELLO, "verb aim cause"),
    "doctor": (["doctor"], answers(), HELLO, "named code message remedy"),
    "refused": (["list"], answers() | {"machine.snapshot": REFUSED}, HELLO, "problem help"),
    "turned away": (["list"], answers(), REFUSED, "problem help"),
    "version": (["list"], answers(), {"hotbank": planted("version")}, "version"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_that_a_hostile_owner_says_is_obeyed_by_the_terminal(name: str, tmp_path: Path) -> None:
    words, said, hello, shown = COMMANDS[name]
    with owner(tmp_path / "s", said, hello):
        status, written = on_a_terminal(["-m", f"unix:{tmp_path / 's'}", *words])
    assert status in (0, 1), written.decode(errors="replace")
    assert got_through(written) == []
    seen = written.replace(b"\r\n", b"")
    assert [field for field in shown.split() if f"{field}\\x1b]0;".encode() not in seen] == []


def test_the_plant_is_seen_where_it_gets_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def obey() -> None:
        monkeypatch.setattr(terminal, "visible", lambda text: text.encode(errors="replace").decode())

    with owner(tmp_path / "s", answers(), HELLO):
        _, written = on_a_terminal(["-m", f"unix:{tmp_path / 's'}", "explain", "0"], obey)
    assert {b"\x1b", b"\x07", b"\x08", b"\x7f", b"\xc2\x9b", b"\xe2\x80\xae", b"\rX"} <= set(got_through(written))


@pytest.mark.parametrize("name", ["list", "explain", "plan", "history", "doctor"])
def test_json_of_it_is_plain_on_a_terminal_and_exact(name: str, tmp_path: Path) -> None:
    words, said, hello, _ = COMMANDS[name]
    with owner(tmp_path / "s", said, hello):
        status, written = on_a_terminal(["-m", f"unix:{tmp_path / 's'}", *words, "--json"])
    assert (status, got_through(written)) == (0, [])
    told = json.loads(written)
    assert any(PLANT in word for word in strings(told))


def strings(document: Any) -> Iterator[str]:
    if isinstance(document, dict):
        for value in document.values():
            yield from strings(value)
    elif isinstance(document, list):
        for value in document:
            yield from strings(value)
    elif isinstance(document, str):
        yield document


any_text = st.text(st.characters(exclude_categories=()))


@given(any_text)
def test_visible_is_one_printable_line_and_leaves_what_is(text: str) -> None:
    shown = visible(text)
    assert shown.isprintable()
    shown.encode()
    assert visible(shown) == shown
    assert not text.isprintable() or shown == text


@given(any_text)
def test_json_is_printable_and_exact(text: str) -> None:
    written = json_text({"text": text})
    assert written.isprintable()
    assert json.loads(written) == {"text": text}


def printing(tree: ast.Module) -> Iterator[int]:
    """Lines that print by themselves."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return (call.lineno for call in calls if _PRINTS.fullmatch(ast.unparse(call.func)))


ROOMS = {"terminal.py", "screen.py"}  # the screen prints above what is live what the first hands it


@pytest.mark.parametrize("breach", ["print(x)", "click.echo(x)", "click.secho(x)", "sys.stdout.write(x)", "echo(x)"])
def test_printing_beside_the_one_place_is_seen(breach: str) -> None:
    assert list(printing(ast.parse(breach))) == [1]


def test_one_place_prints() -> None:
    found = {f"{file.name}:{line}" for file in SOURCE.glob("*.py") for line in printing(ast.parse(file.read_text()))}
    assert {place for place in found if place.partition(":")[0] not in ROOMS} == set()
