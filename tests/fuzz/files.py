# SPDX-License-Identifier: Apache-2.0
"""Files that people write or keep: boards, workloads, DRAM parts, traces, captures."""

from __future__ import annotations

import functools
import gzip
import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from fuzz.driver import Target
from fuzz.grammar import document_of, grown, json_text, number, numeral, reworded, toml_text
from hotbank import board, keys, memspec
from hotbank.errors import BoardError, FormatError
from hotbank.load import script, trace
from hotbank.machine import Snapshot
from hotbank.model import Model, capture

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
    found = board.loads(_text(data))
    for domain in found.domains:
        found.status(domain, domain.states[0])
    assert all(found.blocks(bank) for bank in found.banks)


def _workload(data: bytes) -> None:
    assert script.loads(_text(data)).parts


def _memspec(data: bytes) -> None:
    part = memspec.loads(_text(data))
    assert all(part.power(state) >= 0 for state in memspec.DramState)
    part.partial_self_refresh(0.5, 45)


# Traces


def _trace(data: bytes) -> None:
    found = trace.decode(data)
    assert found.total > 0
    assert all(sample.dirty <= sample.cache for sample in found.samples)


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
    found = capture.loads(data)
    again = capture.loads(capture.dumps(found))
    assert again == found, "a capture is not what was written"


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


TARGETS = (
    Target("board", _board, _toml("boards"), (BoardError,), work=(60_000, 200)),
    Target("workload", _workload, _toml("workloads"), (BoardError,), work=(60_000, 200)),
    Target("memspec", _memspec, _toml("memspecs"), (BoardError,), work=(60_000, 200)),
    Target("trace", _trace, _make_trace),
    Target("capture", _capture, _make_capture, (FormatError,), work=(40_000, 400)),
)
