# SPDX-License-Identifier: Apache-2.0
"""The file that says what against what, and the runs that it comes to.

    policies = ["balance", "reserve"]      # names, or files of policies
    seeds = [1, 2, 3]
    boards = ["arm-2009"]                  # boards or captures, each under each workload and each trace
    workloads = ["camera"]
    traces = ["vm01"]
    seconds = 600                          # of each run

    [settings.balance]                     # each value against each other
    guess = [0.25, 0.5]
    guard.hourly = [20, 60]

A fleet on paper has machines instead of boards:

    [machine.office]
    count = 600
    trace = "vm01"
    banks = 8
    part = "micron-4gb-lpddr3-1600-x32"
    size = "8G"                            # as recorded without it
    shift = 7200                           # seconds over which the days begin; all of the record without it
    period = 2                             # seconds between looks; at samples only without it

Files stand beside the sweep's own, or are named as on the command line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, TypeVar

from hotbank import board, keys, memspec
from hotbank.board import Board
from hotbank.errors import Code, in_file
from hotbank.govern import settings
from hotbank.keys import Key, Keys
from hotbank.load import script, trace
from hotbank.load.script import Script
from hotbank.model import clock, named
from hotbank.model.clock import Costs
from hotbank.model.named import Source
from hotbank.numbers import finite
from hotbank.regular import read_regular
from hotbank.sweep.paper import Kind
from hotbank.sweep.run import Booted, Choice, Contents, File, Member, Run, Subject

MOST = 1_000_000  # runs: rows of a kilobyte each, and a day of one processor at a tenth of a second
_LARGEST = 256 << 20  # bytes of any file
_KIND = "sweep"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Grid:
    """All runs, each once, in the file's order; ``contents``: of the files that they need, by digest."""

    name: str
    runs: tuple[Run, ...]
    contents: Contents


def load(path: str | os.PathLike[str]) -> Grid:
    """Read a sweep's file and all that it names. Raises BoardError, which has all mistakes; FormatError, OSError."""
    text = keys.read(_KIND, path, code=Code.BAD_FORMAT)
    table = keys.table(_KIND, text, code=Code.BAD_FORMAT, file=os.fspath(path), schema=_TABLES)
    machines = [(name, below.read(_TABLES["machine"])) for name, below in table.tables("machine")]
    given = table.read(_TABLES[""])
    _check(table, given, machines)
    files = _Files(Path(path).parent)
    choices = list(_choices(given, files))
    subjects = list(_on_paper(machines, given, files) if machines else _booted(given, files))
    runs = (Run(*each) for each in product(subjects, choices, given["seeds"]))
    return Grid(Path(path).stem, tuple({run.name: run for run in runs}.values()), files.contents)


def _check(table: Keys, given: Mapping[str, Any], machines: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """What shows only beside other values. Raises BoardError with all mistakes."""
    if bool(given["boards"]) == bool(machines):
        table.note("boards", given["boards"] or None, "give boards, or tables such as [machine.office], and not both")
    if given["boards"] and not given["workloads"] and not given["traces"]:
        table.note("workloads", None, "give workloads, traces or both")
    stray = set(given["settings"]) - {_stem(policy) for policy in given["policies"]}
    for name in sorted(stray):
        table.note(f"settings.{name}", None, "is not one of policies")
    runs = _subjects(given, machines) * _settings(given) * len(given["seeds"])
    if runs > MOST:
        table.note("seeds", given["seeds"], f"that would be more than {MOST} runs")
    table.check()


def _subjects(given: Mapping[str, Any], machines: Sequence[tuple[str, Mapping[str, Any]]]) -> int:
    loads = len(given["workloads"]) + len(given["traces"])
    return sum(machine["count"] or 0 for _, machine in machines) or len(given["boards"]) * loads


def _settings(given: Mapping[str, Any]) -> int:
    """Of all policies together."""
    axes = (given["settings"].get(_stem(policy), ()) for policy in given["policies"])
    return sum(prod(len(values) for _, values in each) for each in axes)


class _Files:
    """Reads each file once. ``contents``: their bytes by digest."""

    def __init__(self, home: Path) -> None:
        self._home, self.contents = home, dict[str, bytes]()

    def path(self, name: str, find: Callable[[str], Path] = Path) -> Path:
        """Beside the sweep's file, or where ``find`` finds it."""
        beside = self._home / name
        return beside if beside.is_file() else find(name)

    def read(self, path: Path) -> File:
        """The file, called by its name without what follows the first point."""
        data = read_regular(path, _LARGEST)
        file = File.of(path.name.partition(".")[0], data)
        self.contents[file.digest] = data
        return file

    def read_as(self, path: Path, decode: Callable[[bytes], _T]) -> tuple[File, _T]:
        """The file and what it says. Raises what ``decode`` raises."""
        file = self.read(path)
        with in_file(path):
            return file, decode(self.contents[file.digest])


def _choices(given: Mapping[str, Any], files: _Files) -> Iterator[Choice]:
    """Each policy with each of its settings."""
    for policy in given["policies"]:
        name = str(files.path(policy)) if policy.endswith(".toml") else policy
        axes = given["settings"].get(_stem(policy), ())
        for values in product(*(values for _, values in axes)):
            pairs = tuple(f"{key}={_exact(value)}" for (key, _), value in zip(axes, values, strict=True))
            yield Choice(policy, pairs, settings.read(name, pairs))


def _exact(value: float) -> str:
    """As short as it can be read back."""
    return repr(value).removesuffix(".0")


def _stem(policy: str) -> str:
    return Path(policy).stem if policy.endswith(".toml") else policy


def _booted(given: Mapping[str, Any], files: _Files) -> Iterator[Subject]:
    gaps, costs = given["allow_gaps"], given["costs"]
    loads = [*_workloads(given["workloads"], files), *_traces(given["traces"], files, gaps)]
    cost = files.read_as(files.path(costs), lambda data: _costs(data, costs))[0] if costs else None
    for name in given["boards"]:
        path = files.path(name, board.find)
        file, source = files.read_as(path, lambda data, path=path: named.decode(data, str(path)))  # type: ignore[misc]
        parts = tuple(_parts(source))
        for load in loads:
            yield Booted(board=file, costs=cost, allow_gaps=gaps, seconds=given["seconds"], parts=parts, **load)


def _workloads(names: Iterable[str], files: _Files) -> Iterator[dict[str, File]]:
    for name in names:
        path = files.path(name, script.find)
        yield {"workload": files.read_as(path, lambda data, path=path: _script(data, str(path)))[0]}  # type: ignore[misc]


def _script(data: bytes, name: str) -> Script:
    return script.loads(keys.decoded("workload", data, name), name)


def _costs(data: bytes, name: str) -> Costs:
    return clock.loads_costs(keys.decoded("costs", data, name, code=Code.BAD_FORMAT), name)


def _traces(names: Iterable[str], files: _Files, gaps: bool) -> Iterator[dict[str, File]]:
    for name in names:
        yield {"trace": _trace(name, files, gaps)}


def _trace(name: str, files: _Files, gaps: bool) -> File:
    return files.read_as(files.path(name, trace.find), lambda data: trace.decode(data, allow_gaps=gaps))[0]


def _parts(source: Source) -> Iterator[tuple[str | None, tuple[memspec.Part, ...]]]:
    """The devices that each name of the board may mean. Raises BoardError."""
    domains = source.domains if isinstance(source, Board) else source.snapshot.domains
    for name in dict.fromkeys(domain.dram.part for domain in domains):
        yield name, memspec.named(name)


def _on_paper(
    machines: Iterable[tuple[str, Mapping[str, Any]]], given: Mapping[str, Any], files: _Files
) -> Iterator[Subject]:
    for name, its in machines:
        part = memspec.load(files.path(its["part"], memspec.find))
        kind = Kind(name, its["banks"], part, its["size"], its["shift"], its["period"])
        demand = _trace(its["trace"], files, given["allow_gaps"])
        yield from (Member(kind, number, demand, given["allow_gaps"]) for number in range(its["count"]))


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
        raise ValueError("must be a list of names")
    return tuple(value)


def _some_names(value: object) -> tuple[str, ...]:
    if not (found := _names(value)):
        raise ValueError("must have a name at least")
    return found


def _seeds(value: object) -> tuple[int, ...]:
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list of whole numbers, one at least")
    return tuple(keys.whole(seed) for seed in value)


def _axes(value: object) -> Mapping[str, Sequence[tuple[str, tuple[float, ...]]]]:
    """By policy: each key and its values."""
    if not isinstance(value, Mapping) or not all(isinstance(table, Mapping) for table in value.values()):
        raise ValueError("must be tables such as [settings.balance]")
    return {policy: tuple(_below("", table)) for policy, table in value.items()}


def _below(where: str, table: Mapping[str, Any]) -> Iterator[tuple[str, tuple[float, ...]]]:
    for key, value in table.items():
        if isinstance(value, Mapping) and not where:
            yield from _below(f"{key}.", value)
            continue
        values = value if isinstance(value, list) else [value]
        numbers = tuple(number for each in values if (number := finite(each)) is not None)
        if not numbers or len(numbers) < len(values):
            raise ValueError(f"{where}{key} must be a number, or a list of numbers")
        yield where + key, numbers


_TABLES: Mapping[str, Sequence[Key]] = {
    "": (
        Key("boards", _names, ()),
        Key("workloads", _names, ()),
        Key("traces", _names, ()),
        Key("policies", _some_names, ("balance",)),
        Key("seeds", _seeds, (0,)),
        Key("seconds", keys.seconds),
        Key("allow_gaps", keys.boolean, False),
        Key("costs", keys.text),
        Key("settings", _axes, {}),
    ),
    "machine": (
        Key("count", keys.count, needed=True),
        Key("trace", keys.text, needed=True),
        Key("banks", keys.count, needed=True),
        Key("part", keys.text, needed=True),
        Key("size", keys.address),
        Key("shift", keys.moment),
        Key("period", keys.seconds),
    ),
}
