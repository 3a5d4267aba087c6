# SPDX-License-Identifier: Apache-2.0
"""Captures: a machine's snapshot with the kind of every page, as a file that a model starts from (resume.py).

The file is one JSON document, gzipped if its name ends in ``.gz``: ``{"hotbank": "capture", "version": 1, "kinds":
[names], "snapshot": {...}, "blocks": [...]}`` with one entry per memory block, whose ``runs`` alternate between an
index into ``kinds`` and a number of pages. A machine that runs on while it is looked at is not caught at one moment.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from hotbank import kernels, packed
from hotbank.errors import Code, FormatError, ProtocolError, Refusal, in_file
from hotbank.machine import HugePages, Machine, Pages, Snapshot, Survey, tells_pages
from hotbank.memory import BlockState, Kind, Range, Zone
from hotbank.regular import open_regular, read_regular
from hotbank.wire import decode, encode

FORM, VERSION = "capture", 1
_LARGEST = 1 << 30  # bytes of JSON: more than 16 TiB of memory in long runs
_TIMES, _LITTLE = 8, 16 << 20  # bytes that reading may take: times the text, and besides
# What the parts of a document take as Python's values, in bytes: two kinds of containers, a key, a text.
_OBJECT, _LIST, _KEY, _TEXT = 112, 72, 40, 80
_SAME = 1 << 14  # small numbers, and runs of pages, of which there is one each however often they are written
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW
_NO_PAGES = (Kind.HOLE, Kind.UNKNOWN)


@dataclass(frozen=True, slots=True)
class BlockCapture:
    """One memory block: its pages, and what a survey says beside them (see Survey)."""

    pages: Pages
    boot: bool | None = None
    holes: bool = False
    clean: int | None = None
    unknown: tuple[str, ...] = ()
    huge: tuple[HugePages, ...] = ()
    leaf: str = ""


@dataclass(frozen=True, slots=True)
class Capture:
    """A machine as it was. ``blocks`` in the order of the snapshot's."""

    snapshot: Snapshot
    blocks: tuple[BlockCapture, ...]


def take(machine: Machine) -> Capture:
    """Look at every page of the machine; changes nothing.

    Raises Refusal(UNSUPPORTED) where the kinds of pages can't be seen, as on a host for users other than root.
    """
    snapshot = machine.snapshot()
    capture = Capture(snapshot, tuple(_look(machine, snapshot, block.number) for block in snapshot.blocks))
    online = {block.number for block in snapshot.blocks if block.state is not BlockState.OFFLINE}
    seen = {kind for b in capture.blocks if b.pages.block in online for kind, _ in b.pages.runs}
    if seen <= set(_NO_PAGES):
        raise Refusal(
            Code.UNSUPPORTED,
            f"what the pages of {snapshot.machine} are can't be seen",
            remedy="capture as root, on a kernel that has /proc/kpageflags",
        )
    return capture


def save(capture: Capture, path: str | os.PathLike[str]) -> int:
    """Write the file, in one step: it is there whole or not at all. Returns its size in bytes. Raises OSError."""
    target, data = Path(path), dumps(capture)
    if target.suffix == ".gz":
        data = gzip.compress(data, mtime=0)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        descriptor = open_regular(fresh, _NEW, mode=0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            fresh.replace(target)
        except BaseException:
            fresh.unlink(missing_ok=True)  # it is ours from here on, and not before
            raise
    except OSError as e:
        raise OSError(e.errno, e.strerror, os.fspath(path)) from e
    return len(data)


def load(path: str | os.PathLike[str]) -> Capture:
    """Read such a file. Raises FormatError for anything but a whole capture of a known version; OSError."""
    with in_file(path):
        return loads(read_regular(path, _LARGEST))


def dumps(capture: Capture) -> bytes:
    """The bytes of its file, not compressed."""
    return json.dumps(_document(capture), separators=(",", ":")).encode()


def loads(data: bytes) -> Capture:
    """A capture from the bytes of its file. Raises FormatError."""
    plain = packed.unpacked(data, _LARGEST, FORM) if packed.is_packed(data) else data
    try:
        document = json.loads(_checked(plain), parse_int=lru_cache(_SAME)(int), parse_float=lru_cache(_SAME)(float))
    except (ValueError, RecursionError) as e:
        at = e.pos if isinstance(e, json.JSONDecodeError) else 0
        raise FormatError(FORM, at, "document", f"no JSON, or cut short: {e}") from e
    _check_head(document)
    try:
        capture = Capture(
            decode(Snapshot, _whole(document["snapshot"], release="", nodes=[]), "snapshot"), tuple(_blocks(document))
        )
    except ProtocolError as e:
        raise FormatError(FORM, 0, "document", str(e)) from e
    _check(capture)
    return capture


def is_capture(path: str | os.PathLike[str]) -> bool:
    """True if the file looks like one: JSON or gzip, where a board is TOML. Raises OSError."""
    with os.fdopen(open_regular(path), "rb") as file:
        return begins_so(file.read(2))


def begins_so(data: bytes) -> bool:
    """True if the bytes of a file look like a capture's."""
    return data[:2] in (b'{"', packed.MAGIC)


# Looking


def _look(machine: Machine, snapshot: Snapshot, number: int) -> BlockCapture:
    survey = machine.survey(number)
    pages = _counted(survey, snapshot)
    facts = BlockCapture(pages, survey.boot, survey.holes, survey.clean, survey.unknown, survey.huge, survey.leaf)
    if tells_pages(machine):
        return replace(facts, pages=machine.pages(number))
    return replace(facts, unknown=(*survey.unknown, "positions"))


def _counted(survey: Survey, snapshot: Snapshot) -> Pages:
    """Pages laid out kind by kind; the pins that were seen are put onto the first movable ones."""
    runs = tuple((kind, pages) for kind, pages in survey.kinds.items() if pages)
    pins = sum(1 for evidence in survey.blocking if evidence.why is Code.PINNED)
    pfn, pinned = survey.block * (snapshot.block_size // snapshot.page_size), list[int]()
    for kind, pages in runs:
        if kind.movable:
            pinned += range(pfn, pfn + min(pages, pins - len(pinned)))
        pfn += pages
    cma = tuple((evidence.pfn, 1) for evidence in survey.blocking if evidence.why is Code.CMA)
    return Pages(survey.block, runs, tuple(pinned), cma)


# The file


def _document(capture: Capture) -> dict[str, Any]:
    kinds = list(Kind)
    index = {kind: number for number, kind in enumerate(kinds)}
    blocks = [
        encode(block)
        | {
            "pages": encode(block.pages)
            | {"runs": [word for kind, pages in block.pages.runs for word in (index[kind], pages)]}
        }
        for block in capture.blocks
    ]
    return {
        "hotbank": FORM,
        "version": VERSION,
        "kinds": [kind.value for kind in kinds],
        "snapshot": encode(capture.snapshot),
        "blocks": blocks,
    }


def _checked(plain: bytes) -> bytes:
    """Values take much more memory than the text of many small ones: a capture has few but its runs."""
    keys = plain.count(b'":')
    texts = max(0, plain.count(b'"') // 2 - keys)
    takes = plain.count(b"{") * _OBJECT + plain.count(b"[") * _LIST + keys * _KEY + texts * _TEXT
    if takes > _TIMES * len(plain) + _LITTLE:
        raise FormatError(FORM, 0, "document", "too many lists, objects and texts for its length")
    return plain


def _check_head(document: object) -> None:
    if not isinstance(document, dict) or document.get("hotbank") != FORM:
        raise FormatError(FORM, 0, "hotbank", "this is no capture (hotbank capture -o FILE writes one)")
    if document.get("version") != VERSION:
        raise FormatError(FORM, 0, "version", f"{document.get('version')!r}; this hotbank reads version {VERSION}")
    fields = {"hotbank", "version", "kinds", "snapshot", "blocks"}
    if document.keys() != fields:
        raise FormatError(FORM, 0, "document", f"fields {sorted(document)}, not {sorted(fields)}")


def _blocks(document: dict[str, Any]) -> Iterator[BlockCapture]:
    """One after the other, each gone from the document when it is read."""
    kinds = decode(tuple[Kind, ...], document["kinds"], "kinds")
    run = lru_cache(_SAME)(lambda code, count: (kinds[code], count))
    blocks = document["blocks"] if isinstance(document["blocks"], list) else [None]
    for at, entry in enumerate(blocks):
        where, blocks[at] = f"blocks[{at}]", None
        pages = entry.get("pages") if isinstance(entry, dict) else None
        if not isinstance(pages, dict):
            raise ProtocolError(f"{where}: expected an object with pages")
        words = decode(tuple[int, ...], pages.get("runs"), f"{where}.runs")
        if len(words) % 2 or any(not 0 <= code < len(kinds) for code in words[::2]):
            raise ProtocolError(f"{where}.runs: expected pairs of a kind's index and a number of pages")
        entry |= {"pages": _whole(pages, single=[]) | {"runs": []}}
        block = decode(BlockCapture, _whole(entry, huge=[], leaf=""), where)
        yield replace(block, pages=replace(block.pages, runs=tuple(map(run, words[::2], words[1::2]))))


def _whole(entry: Any, **later: Any) -> Any:
    """With the fields that captures did not always have."""
    return later | entry if isinstance(entry, dict) else entry


def _check(capture: Capture) -> None:
    """What JSON can't say: sizes that fit together, and an architecture whose rules the model knows."""
    snapshot = capture.snapshot
    known = [name for name, row in kernels.ARCHES.items() if row.max_orders]
    if snapshot.arch not in known:
        raise FormatError(FORM, 0, "arch", f"{snapshot.arch!r}: the model knows {', '.join(known)}")
    for name, size in (("page_size", snapshot.page_size), ("block_size", snapshot.block_size)):
        if size <= 0 or size & (size - 1):
            raise FormatError(FORM, 0, name, f"{size} is no power of two")
    pages = snapshot.block_size // snapshot.page_size
    least = kernels.arch(snapshot.arch).largest_buddy(snapshot.page_size)
    if pages < least:
        raise FormatError(FORM, 0, "block_size", f"{pages} pages; a block has at least {least}")
    _check_places(snapshot)
    if [block.number for block in snapshot.blocks] != [block.pages.block for block in capture.blocks]:
        raise FormatError(FORM, 0, "blocks", f"{len(capture.blocks)} blocks, the snapshot has {len(snapshot.blocks)}")
    for block in capture.blocks:
        counts = [count for _, count in block.pages.runs]
        if sum(counts) != pages or min(counts, default=0) <= 0:
            where = f"memory{block.pages.block}"
            raise FormatError(FORM, 0, "runs", f"{where} has {sum(counts)} pages, a block has {pages}")
        first = block.pages.block * pages
        if any(not first <= pfn < first + pages for pfn in block.pages.pinned):
            raise FormatError(FORM, 0, "pinned", f"memory{block.pages.block} has no such page")


def _check_places(snapshot: Snapshot) -> None:
    numbers, size = [block.number for block in snapshot.blocks], snapshot.block_size
    astray = numbers != sorted(set(numbers)) or min(numbers, default=0) < 0
    if astray or any(b.range != Range.sized(b.number * size, size) for b in snapshot.blocks):
        raise FormatError(FORM, 0, "blocks", "they do not ascend, or lie elsewhere than their numbers say")
    strange = [zone.zone for zone in snapshot.zones if zone.zone not in set(Zone)]
    if strange:
        raise FormatError(FORM, 0, "zones", f"no zone is called {strange[0]!r}")
    for bank in snapshot.banks:
        if bank.domain is not None and snapshot.domain(bank.domain) is None:
            raise FormatError(FORM, 0, "banks", f"{bank.name} is in domain {bank.domain!r}, which there is not")
