# SPDX-License-Identifier: Apache-2.0
"""Which machines there are: a plain list, or TOML with groups and failure domains.

A plain list has a machine a line, a host of ssh's or whatever ``-m`` takes; ``#`` begins a remark.

    board01
    ssh:admin@board02
    unix:/run/other/socket

The same with what machines have in common:

    [machine.board01]
    [machine.board02]
    machine = "ssh:admin@board02"       # what -m takes; ssh:NAME without it
    groups = ["lab"]
    domain = "rack-1"                   # what fails together; without it all that name none

Machines that name no failure domain are of one together: that is the careful guess.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hotbank import keys
from hotbank.errors import BoardError, Code
from hotbank.keys import Key, Keys
from hotbank.machine import no_such

_KIND = "inventory"
_KINDS = ("ssh", "unix", "model")
_NOT_NAMED = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A machine of the fleet. ``where``: what ``-m`` takes; ``domain``: what fails together, empty where not said."""

    name: str
    where: str
    groups: tuple[str, ...] = ()
    domain: str = _NOT_NAMED


def load(path: str | os.PathLike[str]) -> tuple[Member, ...]:
    """The machines of a file, in its order. Raises BoardError, which has all mistakes."""
    text = keys.read(_KIND, path, code=Code.BAD_FORMAT)
    found = _tables(text, os.fspath(path)) if Path(path).suffix == ".toml" else _listed(text, os.fspath(path))
    if not found:
        raise BoardError(_KIND, os.fspath(path), "names no machine", code=Code.BAD_FORMAT)
    return found


def only(members: Sequence[Member], names: Collection[str]) -> tuple[Member, ...]:
    """Those of that name or group; all where nothing is named. Raises Refusal(NO_SUCH_BANK)."""
    known = {name for member in members for name in (member.name, *member.groups)}
    for name in names:
        if name not in known:
            raise no_such("the inventory", "machine or group", name, sorted(known))
    return tuple(m for m in members if not names or not {m.name, *m.groups}.isdisjoint(names))


def _listed(text: str, file: str) -> tuple[Member, ...]:
    found = dict[str, Member]()
    for number, line in enumerate(text.splitlines(), 1):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        try:
            found.setdefault(word, Member(word, _where(word)))
        except ValueError as e:
            raise BoardError("machine", word, str(e), code=Code.BAD_FORMAT, file=file, line=number) from e
    return tuple(found.values())


def _tables(text: str, file: str) -> tuple[Member, ...]:
    table = keys.table(_KIND, text, code=Code.BAD_FORMAT, file=file, schema=_TABLES)
    found = tuple(_members(table))
    table.read(())
    table.check()
    return found


def _members(table: Keys) -> Iterator[Member]:
    for name, its in table.tables("machine"):
        given = its.read(_TABLES["machine"])
        yield Member(name, given["machine"] or f"ssh:{name}", given["groups"], given["domain"])


def _where(value: object) -> str:
    """What ``-m`` takes; a bare word is a host of ssh's. Raises ValueError."""
    word = keys.text(value)
    if not word.isprintable() or not word or " " in word or word.startswith("-"):
        raise ValueError("must be a host, ssh:HOST, unix:PATH or model:BOARD")
    return word if word.partition(":")[0] in _KINDS else f"ssh:{word}"


def _words(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError("must be a list of names")
    return tuple(keys.table_name(keys.text(name)) for name in value)


_TABLES = {
    "machine": (
        Key("machine", _where),
        Key("groups", _words, ()),
        Key("domain", keys.text, _NOT_NAMED),
    )
}
