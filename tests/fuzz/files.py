# SPDX-License-Identifier: Apache-2.0
"""Files that people write or keep: boards, workloads, DRAM parts, traces, captures."""

from __future__ import annotations

import functools
import gzip
import json
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from random import Random
from typing import Any

from fuzz.driver import Target
from fuzz.grammar import document_of, grown, json_text, number, numeral, reworded, toml_text
from hotbank import board, keys, memspec, operate
from hotbank.errors import BoardError, FormatError, HotbankError
from hotbank.govern import settings
from hotbank.govern.guard import Guard
from hotbank.govern.policy import Balance
from hotbank.load import script, trace
from hotbank.machine import Snapshot
from hotbank.model import Model, capture
from hotbank.operate import found
from hotbank.testing import ScriptedMachine

_TRACES = Path(__file__).resolve().parents[1] / "data" / "traces"


# TOML


def _toml(kind: str) -> Callable[[Random], bytes]:
    """A grammar: the shipped files of that kind, changed somewhere."""

    def make(rng: Random) -> bytes:
        trees, names = _shipped(kind)
        tree = grown(rng, rng.choice(trees), names)
        return (toml_text(tree) if isinstance(tree, dict) else str(tree)).encode("utf-8", "surrogatepass")

    return make


@functools.cache
def _shipped(kind: str) -> tuple[list[dict[str, Any]], list[str]]:
    files = [file for home in keys.shipped(kind) for file in sorted(home.glob("*.toml"))]
    trees = [tomllib.loads(file.read_text()) for file in files]
    return trees, sorted(
        {key for tree in trees for key in _keys(tree)} | {"off", "status", "regulator", "node", "share"}
    )


def _keys(tree: Any) -> Iterator[str]:
    for value in tree if isinstance(tree, list) else ():
        yield from _keys(value)
    for key, value in tree.items() if isinstance(tree, dict) else ():
        yield key
        yield from _keys(value)


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        raise BoardError("file", data[:20], "unreadable") from e


def _board(data: bytes) -> None:
    read = board.loads(_text(data))
    for domain in read.domains:
        read.status(domain, domain.states[0])
    assert all(read.blocks(bank) for bank in read.banks)


def _workload(data: bytes) -> None:
    assert script.loads(_text(data)).parts


def _memspec(data: bytes) -> None:
    part = memspec.loads(_text(data))
    assert all(part.power(state) >= 0 for state in memspec.DramState)
    part.partial_self_refresh(0.5, 45)


# Traces


def _trace(data: bytes) -> None:
    read = trace.decode(data)
    assert read.total > 0
    assert all(sample.dirty <= sample.cache for sample in read.samples)


def _make_trace(rng: Random) -> bytes:
    columns = ["t_s", "anonpages", "cached", *rng.choice((["physmem"], ["used", "free"])), "dirty", "shmem", "other"]
    rows = [[str(10 * at), *(str(number(rng) % (1 << 40)) for _ in columns[1:])] for at in range(rng.choice((1, 2, 9)))]
    if rng.random() < 0.5:
        rows[rng.randrange(len(rows))][rng.randrange(len(columns))] = numeral(rng)
    text = "\n".join(",".join(row) for row in (columns, *rows)) + "\n"
    text = text if rng.random() < 0.5 else reworded(rng, text, ('"', ",,,", "\r", "\0", "t_s"))
    data = rng.choice((text, _real_trace())).encode("utf-8", "surrogatepass")
    return gzip.compress(data, 1, mtime=0) if rng.random() < 0.2 else data


@functools.cache
def _real_trace() -> str:
    file = next(iter(sorted(_TRACES.glob("*.gz"))))
    return "\n".join(gzip.decompress(file.read_bytes()).decode().splitlines()[:20]) + "\n"


# Captures


def _capture(data: bytes) -> None:
    read = capture.loads(data)
    again = capture.loads(capture.dumps(read))
    assert again == read, "a capture is not what was written"


def _make_capture(rng: Random) -> bytes:
    document = dict(_captured())
    if rng.random() < 0.5:
        document = grown(rng, document, [*document, "runs", "pinned", "number", "range"])
    elif rng.random() < 0.5:
        document["snapshot"] = document_of(rng, Snapshot)
    data = json_text(document).encode("utf-8", "surrogatepass")
    return gzip.compress(data, 1, mtime=0) if rng.random() < 0.2 else data


@functools.cache
def _captured() -> dict[str, Any]:
    tiny = board.loads('name = "t"\nblock_size = "16M"\n[bank.a]\nstart = 0\nsize = "64M"\n')
    document: dict[str, Any] = json.loads(capture.dumps(capture.take(Model.boot(tiny))))
    return document


# Plans and policies


def _plan(data: bytes) -> None:
    try:
        document = json.loads(data.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as e:  # who reads the file says so
        raise FormatError("plan", 0, "JSON", str(e)) from e
    there = found.of_plan(document)
    found.changed(there, there)


def _make_plan(rng: Random) -> bytes:
    document = grown(rng, _planned(), [*_planned(), "banks", "kernel", "boot_id"])
    return json_text(document).encode("utf-8", "surrogatepass")


@functools.cache
def _planned() -> dict[str, Any]:
    document: dict[str, Any] = operate.plan_remove(ScriptedMachine(), "high").document()
    return document | {"given_up": [{"name": "low", "size": 1, "code": "UNMOVABLE", "why": "a page"}]}


def _policy(data: bytes) -> None:
    path = _folder() / "policy.toml"
    path.write_bytes(data)
    read = settings.load(str(path))
    read.guarded()
    json.dumps(read.given(), allow_nan=False)


@functools.cache
def _folder() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="hotbank-fuzz-")
    _folders.append(folder)
    return Path(folder.name)


_folders = list[tempfile.TemporaryDirectory[str]]()  # as long as this process


def _make_policy(rng: Random) -> bytes:
    names = [*(f.name for f in fields(Balance)), *(f.name for f in fields(Guard))]
    policy = {"policy": "balance", "every": 2.0, "settings": {"guess": 0.5}, "guard": {"hourly": 20}}
    tree = grown(rng, policy | {"settings": {rng.choice(names): number(rng)}}, ["policy", "every", *names])
    return (toml_text(tree) if isinstance(tree, dict) else str(tree)).encode("utf-8", "surrogatepass")


TARGETS = (
    Target("board", _board, _toml("boards"), (BoardError,), work=(60_000, 200)),
    Target("workload", _workload, _toml("workloads"), (BoardError,), work=(60_000, 200)),
    Target("memspec", _memspec, _toml("memspecs"), (BoardError,), work=(60_000, 200)),
    Target("trace", _trace, _make_trace),
    Target("plan", _plan, _make_plan, (HotbankError,)),
    Target("policy", _policy, _make_policy, (BoardError,), work=(60_000, 200)),
    Target("capture", _capture, _make_capture, (FormatError,), work=(40_000, 400)),
)
