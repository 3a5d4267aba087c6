# SPDX-License-Identifier: Apache-2.0
"""What crosses a wire, both ways, and what a journal's file holds. The grammar is made from the calls' own types."""

from __future__ import annotations

import functools
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

from fuzz.driver import Target
from fuzz.grammar import WORDS, document_of, error_of, json_text, leaf, number
from hotbank.calls import CLOCK, DOCTOR, MACHINE, PAGES, Call
from hotbank.errors import BoardError, HotbankError
from hotbank.operate import Before, Event
from hotbank.operate.journal import PERSON
from hotbank.operate.sqlite_journal import SqliteJournal
from hotbank.remote import Hello, Remote
from hotbank.serve.answers import Answer, Answers
from hotbank.serve.crew import Crew, Task
from hotbank.serve.line import ENDLESS, Line
from hotbank.serve.loop import Loop, Service
from hotbank.serve.protocol import JOB, JOURNAL, OWNER
from hotbank.wire import VERSION, encode

CALLS: tuple[Call, ...] = tuple(
    call for t in (MACHINE, PAGES, DOCTOR, CLOCK, OWNER, JOURNAL, JOB) for call in t.values()
)
_HELLO = {"hotbank": VERSION, "pid": 1, "machine": "board", "can": ["pages"]}


class Played:
    """A stream that gives these bytes and then ends; what is written to it is kept."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0
        self.written = b""
        self._ready = os.open(os.devnull, os.O_RDONLY)

    def fileno(self) -> int:
        """Always readable."""
        return self._ready

    def read(self, size: int) -> bytes:
        """The next bytes."""
        part = self._data[self._at : self._at + size]
        self._at += len(part)
        return part

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.written += data

    def sink(self) -> int:
        """Always writable."""
        return self._ready

    def write_some(self, data: memoryview) -> int:
        """Keep all of it."""
        self.written += data
        return len(data)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._ready >= 0:
            os.close(self._ready)
        self._ready = -1


# Requests to an owner


def _requests(data: bytes) -> None:
    """Every line is answered under its number, or ends the line with an error."""
    stream = Played(data)
    hello = Hello(VERSION, 1, "board", ())
    line = Line(stream, hello, os.getuid(), may_change=True, patience=ENDLESS)
    _answer_alone(line)
    told = [json.loads(line) for line in stream.written.splitlines()]
    assert told[0] == encode(hello)
    assert all(answer.keys() in ({"id", "result"}, {"id", "error"}) for answer in told[1:])
    assert all(answer["id"] is not None for answer in told[1:-1])


class AtOnce(Crew):
    """Does what it is handed, in the thread that hands it: a limit of memory leaves no room for stacks."""

    def hand(self, task: Task) -> None:
        """Do it."""
        task()


class Alone(Loop):
    """A loop in the thread that calls it."""

    def _post(self, act: Callable[[], None]) -> None:
        act()


def _answer_alone(line: Line) -> None:
    loop = Alone(Service(_answers(), "", lambda: None, lambda _block, _deadline: None, lambda: False))
    loop._changes = loop._changers._crew = loop._readers._crew = AtOnce(1)
    loop.add(line)
    while not line.over.is_set():
        loop._pass()


@functools.cache
def _answers() -> Answers:
    """Each call is answered without doing anything, so that what is tried is the line."""
    return {call.name: Answer(call, lambda **_: None) for call in CALLS}


def _make_requests(rng: Random) -> bytes:
    return b"".join(_request(rng) + rng.choice((b"\n", b"\n", b"\r\n", b"")) for _ in range(rng.choice((1, 2, 6))))


def _request(rng: Random) -> bytes:
    if rng.random() < 0.1:
        interrupt = {"block": document_of(rng, int), "deadline": document_of(rng, float)}
        return _line(rng.choice(({"cancel": True}, {"interrupt": interrupt}, {"interrupt": leaf(rng, interrupt)})))
    call = rng.choice(CALLS)
    arguments = {name: document_of(rng, hint) for name, hint in call.parameters.items()}
    request = {"id": rng.choice((1, 2, number(rng))), "call": call.name, "args": arguments}
    if rng.random() < 0.1:
        request[rng.choice([*request, "more"])] = leaf(rng, arguments)
    return _line(request)


def _line(document: Any) -> bytes:
    return json_text(document).encode("utf-8", "surrogatepass")


# Answers of an owner


def _answered(data: bytes) -> None:
    """The first line of the input names the call; the rest is what the owner says."""
    name, _, rest = data.partition(b"\n")
    call = next((call for call in CALLS if call.name.encode() == name), MACHINE["snapshot"])
    with Remote(Played(rest), timeout=1.0) as remote:
        value = remote.ask(call, {}, on_event=lambda _: None)
    encode(value)


def _make_answers(rng: Random) -> bytes:
    call = rng.choice(CALLS)
    hello = _HELLO if rng.random() < 0.9 else _HELLO | {rng.choice([*_HELLO]): leaf(rng, 1)}
    events = [{"id": 1, "event": document_of(rng, Event)} for _ in range(rng.choice((0, 0, 1, 3)))]
    end = {"id": rng.choice((1, 1, 1, 0, None)), "result": document_of(rng, call.result)}
    if rng.random() < 0.2:
        end = {"id": 1, "error": error_of(rng, 0.1)}
    return call.name.encode() + b"\n" + b"".join(_line(document) + b"\n" for document in (hello, *events, end))


# Journals


def _journal(data: bytes) -> None:
    """Columns of an entry and of its acts, as a damaged or planted file may have them."""
    (entry, acts), journal = _columns(data), _opened()
    with closing(sqlite3.connect(_journal_file())) as db, db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("DELETE FROM act")
        db.execute("DELETE FROM entry")
        _insert(db, "entry", {"id": 1, **entry})
        for at, act in enumerate(acts):
            _insert(db, "act", {"entry": 1, "number": at, **act})
    for found in (*journal.entries(), journal.unfinished()):
        if found is not None:
            json.dumps(encode(found), allow_nan=False)


def _columns(data: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    try:
        entry, acts = json.loads(data.decode("utf-8", "surrogatepass"))
        return {k: entry.get(k) for k in _GOOD}, [{k: act.get(k) for k in _ACT} for act in acts]
    except (ValueError, TypeError, AttributeError, RecursionError) as e:
        raise BoardError("row", data[:20], "no row") from e


def _insert(db: sqlite3.Connection, table: str, columns: dict[str, Any]) -> None:
    marks = ", ".join("CAST(? AS TEXT)" if isinstance(value, str) else "?" for value in columns.values())
    values = [v.encode("utf-8", "surrogatepass") if isinstance(v, str) else v for v in columns.values()]
    try:
        db.execute(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", values)
    except (sqlite3.Error, OverflowError) as e:  # a file can't hold that
        raise BoardError("row", list(columns), f"no row: {e}") from e


@functools.cache
def _journal_file() -> str:
    folder = tempfile.TemporaryDirectory(prefix="hotbank-fuzz-")
    _folders.append(folder)
    return str(Path(folder.name) / "journal")


_folders = list[tempfile.TemporaryDirectory[str]]()  # as long as this process


@functools.cache
def _opened() -> SqliteJournal:
    return SqliteJournal(_journal_file())


_GOOD = {
    "pid": 7,
    "verb": "remove",
    "targets": '["high"]',
    "boot_id": "b",
    "machine": "board",
    "cause": PERSON,
    "keep_partial": 0,
    "planned": 5,
    "found": '{"banks":[],"domains":[],"blocks":[]}',
    "began": 1.0,
    "ended": 2.0,
    "code": "OK",
    "moved": 3,
}
_ACT = {"step": "offline", "target": "memory4", "code": "OK", "errno": None, "began": 1.0, "ended": 2.0}


def _make_journal(rng: Random) -> bytes:
    entry = {key: _column(rng, value) for key, value in _GOOD.items()}
    if rng.random() < 0.5:
        document = document_of(rng, Before)
        parts = document if isinstance(document, dict) else {}
        entry["found"] = json_text({key: parts.get(key) for key in ("banks", "domains", "blocks")})
    acts = [{key: _column(rng, value) for key, value in _ACT.items()} for _ in range(rng.choice((0, 1, 3)))]
    return json.dumps([entry, acts]).encode("utf-8", "surrogatepass")


def _column(rng: Random, value: Any) -> Any:
    if rng.random() < 0.95:
        return value
    return rng.choice((None, rng.choice(WORDS), number(rng) % (1 << 63), 1e308, -1.0, "[" * 5000, '{"a":1}', "[1]"))


TARGETS = (
    Target("requests", _requests, _make_requests, (HotbankError,), work=(60_000, 100)),
    Target("answers", _answered, _make_answers, (HotbankError,), work=(20_000, 100)),
    Target("journal", _journal, _make_journal, (HotbankError,), work=(20_000, 100)),
)
