# SPDX-License-Identifier: Apache-2.0
"""Series that other tools recorded, as traces (trace.py): sysstat's JSON and its tables, PCP's CSV, ``vmstat -w``,
``free -s``, a range query of Prometheus, dumps of /proc/meminfo one after the other.

What a tool does not tell is left out and said; nothing is made up. Where it does not name anonymous memory, all that is
in use and named by nothing else is memory that does not move.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hotbank.errors import FormatError
from hotbank.load import printed
from hotbank.load.stamps import seconds
from hotbank.memory import KIB
from hotbank.numbers import decimal
from hotbank.sysfs.meminfo import PCP_NAMES

_OF_SAR = {
    "memfree": "free",
    "buffers": "bufmem",
    "cached": "cached",
    "dirty": "dirty",
    "anonpg": "anonpages",
    "slab": "slabUnreclaimable",
    "kstack": "kernelStack",
    "pgtbl": "pageTables",
}
_CACHES = ("buffers", "cached", "slab")
_OF_VMSTAT = {"free": "free", "buff": "bufmem", "cache": "cached"}
_OF_MEMINFO = {line: column for column, line in PCP_NAMES.items()}
_PROMETHEUS = re.compile(r"node_memory_(\w+?)(?:_bytes)?")  # node_exporter before 0.16 had no unit in the name
_DELIMITERS = ",;|:\t "
_UNITS: Mapping[str, float] = {"": 1 / KIB, "k": 1, "m": KIB, "g": KIB**2}
_OF_FREE = {"total": "physmem", "free": "free", "shared": "shmem", "buffers": "bufmem"}
_MOMENTS = ("date", "time", "timestamp", "ts")
_COLUMNS_OF_VMSTAT = ("r", "b", "swpd", "free", "buff", "cache")
_LITTLE = 512  # of this, a part
_NEEDED = ("physmem", "free", "cached")

Row = dict[str, float]
"""Column of a trace → KiB; ``t_s`` in seconds of any beginning."""


@dataclass(frozen=True, slots=True)
class Imported:
    """A series: rows with the same columns, and what was not taken over. ``dropped``: names that a trace has no column
    for; ``lost``: samples that lacked something; ``remarks``: what the tool does not tell."""

    rows: tuple[Row, ...]
    dropped: tuple[str, ...] = ()
    lost: int = 0
    remarks: tuple[str, ...] = ()

    def text(self) -> str:
        """The CSV of a trace. Seconds count from the first sample."""
        columns = [column for column in ("t_s", *PCP_NAMES) if column in self.rows[0]]
        began = self.rows[0]["t_s"]
        lines = (
            ",".join(f"{row[c] - began:.3f}" if c == "t_s" else str(round(row[c])) for c in columns)
            for row in self.rows
        )
        return "\n".join([",".join(columns), *lines]) + "\n"


@dataclass(frozen=True, slots=True)
class Known:
    """What the user adds: seconds between samples of a series without times, KiB of a machine that does not say."""

    every: float | None = None
    total: float | None = None


def read(form: str, text: str, known: Known = Known()) -> Imported:
    """The series in a file that such a tool wrote. Raises FormatError with what is wrong and what helps."""
    try:
        found, dropped, remarks = _READERS[form](text, known)
    except (json.JSONDecodeError, RecursionError) as e:
        raise FormatError(form, getattr(e, "pos", 0), "document", f"no JSON: {e}") from e
    except (AttributeError, KeyError, TypeError, IndexError, ValueError, csv.Error) as e:
        raise FormatError(form, 0, "document", f"it is not laid out as {form} writes it ({e!r})") from e
    rows = list(found)
    whole = list(_in_order(row for row in rows if all(name in row for name in ("t_s", *_NEEDED))))
    if len(whole) < 2:
        lacks = next((n for n in ("t_s", *_NEEDED) if rows and n not in rows[0]), "samples")
        raise FormatError(
            form, 0, lacks, _WANTING.get(lacks, "fewer than 2 have all that is needed, at moments of their own")
        )
    remarks = [*remarks, *([_NO_ANON] if not all("anonpages" in row for row in whole) else [])]
    columns = set[str].intersection(*(set(row) for row in whole)) | {"anonpages"}
    kept = tuple({name: row.get(name, 0.0) for name in sorted(columns)} for row in whole)
    return Imported(kept, tuple(sorted(dropped)), len(rows) - len(kept), tuple(remarks))


_NO_ANON = "anonymous memory is not told: what nothing names counts as memory that does not move"
_WANTING = {
    "t_s": "the samples have no times: give --every",
    "physmem": "the size of the machine's memory is not told: give --memory",
}
_Read = tuple[Iterable[Row], Iterable[str], Sequence[str]]


def _in_order(rows: Iterable[Row]) -> Iterator[Row]:
    """By time, the first of several at the same."""
    last = None
    for row in sorted(rows, key=lambda row: row["t_s"]):
        if last is None or row["t_s"] > last:
            last = row["t_s"]
            yield row


def _numbers(values: Mapping[str, Any], columns: Mapping[str, str], unit: float = 1.0) -> Row:
    """The columns among some values, in KiB; what is no number is left out."""
    found = ((column, decimal(str(values[name]))) for name, column in columns.items() if name in values)
    return {column: number / unit for column, number in found if number is not None and number >= 0}


def _timed(row: Row, at: float | None, number: int, known: Known) -> Row:
    """The sample with its time: its own, else one of a grid."""
    when = at if at is not None else None if known.every is None else number * known.every
    size = {} if known.total is None else {"physmem": known.total}
    return size | row | ({} if when is None else {"t_s": when})


def _sar(text: str, known: Known) -> _Read:
    """sysstat: ``sadf -j -- -r ALL``, or what ``sar -r`` and ``sadf -d`` print. kbmemused counts page cache in older
    versions: the percentage tells."""
    samples = _of_sadf(text) if text.lstrip()[:1] in ("{", "[", "") else [*printed.sar(text)]
    rows, dropped = list[Row](), set[str]()
    with_caches = _used_has_caches(sample.values for sample in samples)
    for number, sample in enumerate(samples):
        dropped |= sample.values.keys() - _OF_SAR.keys() - {"memused", "memused-percent"}
        total = _total_of_sar(sample.values, used_has_caches=with_caches)
        rows.append(_timed(_numbers(sample.values, _OF_SAR) | total, sample.when, number, known))
    return rows, dropped, ["slab is not divided: all of it counts as what can't be reclaimed"]


def _of_sadf(text: str) -> list[printed.Sample]:
    hosts = json.loads(text)["sysstat"]["hosts"]
    if len(hosts) != 1:
        raise FormatError("sar", 0, "hosts", f"{len(hosts)}, and a series is of one machine")
    return [
        printed.Sample(_when(sample.get("timestamp", {})), sample.get("memory") or {})
        for sample in hosts[0]["statistics"]
    ]


def _when(stamp: Mapping[str, Any]) -> float | None:
    return seconds(f"{stamp.get('date', '')} {stamp.get('time', '')}")


def _total_of_sar(memory: Mapping[str, Any], *, used_has_caches: bool) -> Row:
    if not {"memfree", "memused"} <= memory.keys():
        return {}
    own = [memory["memused"], memory["memfree"]]
    caches = [] if used_has_caches else [memory.get(name, 0) for name in _CACHES]
    return {"physmem": sum(decimal(str(value)) or 0.0 for value in (*own, *caches))}


def _used_has_caches(memories: Iterable[Mapping[str, Any]]) -> bool:
    """Whether kbmemused counts page cache and slab, as in sysstat before 11.7: its share of the total tells."""
    off = [0.0, 0.0]
    for memory in memories:
        share, used = (decimal(str(memory.get(name, 0))) or 0.0 for name in ("memused-percent", "memused"))
        for without in (False, True):
            total = _total_of_sar(memory, used_has_caches=not without).get("physmem", 0.0)
            off[without] += abs(total * share / 100 - used)
    return off[0] <= off[1]


def _pmrep(text: str, known: Known) -> _Read:
    """PCP: ``pmrep -o csv mem.physmem mem.util``; the column ``Time`` comes first, behind ``Host`` and ``Interval``
    with ``-k``, and behind each stands what is between columns (``-l``). A line without a time has units."""
    behind = text.lstrip('"').partition("\n")[0].partition("Time")[2].lstrip('"')[:1]
    delimiter = behind if behind and behind in _DELIMITERS else ","
    table: list[list[str]] = [*csv.reader(io.StringIO(text), delimiter=delimiter), []]
    header, samples = table[0], table[1:]
    names = [name.strip().removeprefix("mem.util.").removeprefix("mem.") for name in header]
    at, units, rows = names.index("Time"), dict[str, float](), list[Row]()
    for sample in filter(None, samples):
        cells = dict(zip(names, sample, strict=False))
        if not sample[at].strip():
            units = {name: unit for name, cell in cells.items() if (unit := _unit(cell)) is not None}
            continue
        told = _numbers(cells, {name: name for name in names if name in PCP_NAMES})
        values = {name: value * units.get(name, 1) for name, value in told.items()}
        rows.append(_timed(values, seconds(sample[at]), len(rows), known))
    return rows, [name for name in names[at + 1 :] if name not in PCP_NAMES], []


def _unit(cell: str) -> float | None:
    """KiB of ``Kbyte``, ``MiB``, ``byte``."""
    word = cell.strip().lower()
    known = next((unit for unit in _UNITS if word in (f"{unit}byte", f"{unit}ib", f"{unit}b")), None)
    return None if known is None else _UNITS[known]


def _vmstat(text: str, known: Known) -> _Read:
    """``vmstat -w``, with ``-t`` for times, or with times before each line (ts). Its cache has the slab that can be
    reclaimed in it."""
    names, at, rows, seen = list[str](), 0, list[Row](), set[str]()
    for line in text.splitlines():
        words = line.split()
        if "si" in words and "so" in words:
            at = max(words.index("si") - len(_COLUMNS_OF_VMSTAT), 0)
            names = _named(words[at:])
            seen |= set(names)
        elif names and (rest := words[at:]) and all(printed.number(word) is not None for word in rest[:6]):
            last = words[-2:] if len(rest) > len([n for n in names if n != "UTC"]) else words[:at]
            rows.append(
                _timed(
                    _numbers(dict(zip(names, rest, strict=False)), _OF_VMSTAT),
                    seconds(" ".join(last)),
                    len(rows),
                    known,
                )
            )
    unit = _unit_of_vmstat(rows, known.total)
    scaled = [
        {name: value * (unit if name in _OF_VMSTAT.values() else 1) for name, value in row.items()} for row in rows
    ]
    remarks = ["cache has reclaimable slab in it", *(["it counts in MiB (-S M)"] if unit != 1 else [])]
    return scaled, {"swpd", "inact", "active"} & seen, remarks


def _unit_of_vmstat(rows: Sequence[Row], total: float | None) -> float:
    """KiB of ``-S M``, which no header tells: so little is never free or cached of a machine's memory in KiB."""
    most = max((sum(row.get(name, 0) for name in _OF_VMSTAT.values()) for row in rows), default=0)
    return KIB if total is not None and 0 < most * _LITTLE < total else 1


def _named(words: list[str]) -> list[str]:
    """A header in another language has its columns in the same places; ``-a`` has others than those of cache."""
    own = "free" not in words
    return [*_COLUMNS_OF_VMSTAT, *words[len(_COLUMNS_OF_VMSTAT) :]] if own else words


def _free(text: str, known: Known) -> _Read:
    """``free -s``, of any version. Its cache has the slab that can be reclaimed, and without ``-w`` the buffers."""
    rows, dropped = list[Row](), set[str]()
    for number, sample in enumerate(printed.free(text, known.total)):
        cache = next((sample.values[name] for name in ("buff/cache", "cache", "cached") if name in sample.values), None)
        row = _numbers(sample.values, _OF_FREE) | ({} if cache is None else {"cached": cache})
        dropped |= sample.values.keys() & {"used", "available"}
        rows.append(_timed(row, sample.when, number, known))
    return rows, dropped, ["cache has reclaimable slab in it"]


def _prometheus(text: str, known: Known) -> _Read:
    """A range query of ``{__name__=~"node_memory_.*"}`` of one machine: bytes at times. promtool prints the list of
    series alone. Several series of one name are one, as long as they do not tell the same moment: a job was renamed."""
    instances, dropped, samples = set[str](), set[str](), dict[float, dict[str, Any]]()
    document = json.loads(text)
    for one in document if isinstance(document, list) else document["data"]["result"]:
        match = _PROMETHEUS.fullmatch(one["metric"].get("__name__", ""))
        if match is None:
            continue
        instances.add(str(one["metric"].get("instance", "")))
        dropped |= {match[1]} - _OF_MEMINFO.keys()
        for at, value in one["values"]:
            told = samples.setdefault(decimal(str(at)) or 0.0, {})
            if told.setdefault(match[1], value) != value:
                problem = f"two of {one['metric']['__name__']} at {at}: ask for one machine"
                raise FormatError("prometheus", 0, "instance", problem)
    if len(instances) > 1:
        raise FormatError("prometheus", 0, "instance", f"{len(instances)} machines; ask for one: {min(instances)}")
    rows = [_timed(_numbers(values, _OF_MEMINFO, KIB), at, 0, known) for at, values in sorted(samples.items())]
    return rows, dropped, []


def _meminfo(text: str, known: Known) -> _Read:
    """Dumps of /proc/meminfo, or of some of its lines, with a line for the time before each or without."""
    rows, dropped, dumps = list[Row](), set[str](), list[tuple[float | None, dict[str, str]]]()
    for line in text.splitlines():
        name, colon, rest = (part.strip() for part in line.partition(":"))
        value = rest.split()[0] if rest else ""
        if colon and re.fullmatch(r"[\w()]+", name) and name.lower() not in _MOMENTS and decimal(value) is not None:
            if not dumps or (name in _OF_MEMINFO and name in dumps[-1][1]):
                dumps.append((None, {}))
            dumps[-1][1][name] = value
        elif (at := seconds(line)) is not None:
            dumps.append((at, {}))
    for at, values in dumps:
        if values:
            dropped.update(values.keys() - _OF_MEMINFO.keys())
            rows.append(_timed(_numbers(values, _OF_MEMINFO), at, len(rows), known))
    return rows, dropped, []


_READERS: Mapping[str, Callable[[str, Known], _Read]] = {
    "sar": _sar,
    "pmrep": _pmrep,
    "vmstat": _vmstat,
    "free": _free,
    "prometheus": _prometheus,
    "meminfo": _meminfo,
}
FORMS = tuple(_READERS)
