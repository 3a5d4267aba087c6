# SPDX-License-Identifier: Apache-2.0
"""``hotbank list --lsmem`` against the program itself: equal bytes for every tree and every option set."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from host import captured_trees as trees
from hotbank.cli import listing, lsmem
from hotbank.cli.listing import list_
from hotbank.host import Host

OPTIONS = [
    "",
    "--output-all",
    "-a",
    "-a --output-all",
    "-b",
    "-n",
    "-b -n -o SIZE",
    "-J",
    "-J -b --output-all",
    "-J -a -n -o range,NODE",
    "-P --output-all",
    "-P -n -b -S zones -o zones,block",
    "-r --output-all",
    "-r -n -o RANGE",
    "-r -a -b",
    "-o +NODE",
    "-o +zones,size",
    "-o ZONES",
    "-o size,Range",
    "-o STATE,RANGE,REMOVABLE",
    "-S none",
    "-S NODE --output-all",
    "-S ZONES --output-all",
    "-S STATE,NODE -o RANGE,ZONES,STATE",
    "-S REMOVABLE",
    "-S BLOCK",
    "--summary",
    "--summary=only -b",
    "--summary=never",
    "--summary=always -o BLOCK",
    "--summary=always -J",
    "--summary=never -r",
]
REFUSED = ["-o foo", "-S foo", "-J -P", "-P -r", "-a -S STATE", "--summary=xyz", "--summary=only -J", "-S none,STATE"]

referee = pytest.mark.referee
Tree = Callable[[Path], Path]


def theirs(root: Path | str, options: str) -> tuple[str, int]:
    environment = os.environ | {"LC_ALL": "C"}
    done = subprocess.run(
        ["lsmem", "--sysroot", str(root), *options.split()],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    return done.stdout, done.returncode


def ours(root: Path | str, options: str) -> tuple[str, int]:
    done = CliRunner().invoke(list_, ["--lsmem", "--sysroot", str(root), *options.split()])
    return done.stdout, done.exit_code


def dumped(dump: Path) -> Tree:
    return lambda root: trees.from_dump(dump, root)


def booted(blocks: Path) -> Tree:
    return lambda root: trees.from_boot(blocks, root)


def without_first_node(root: Path) -> Path:
    made = trees.gaps()
    return trees.Made((trees.MadeBlock(8, node=0), *made.blocks[2:])).at(root)


def with_nodes_and_zones(root: Path) -> Path:
    made = trees.gaps()
    return trees.Made((trees.MadeBlock(0, zones="DMA"), *made.blocks[1:])).at(root)


TREES: dict[str, Tree] = {d.stem: dumped(d) for d in trees.DUMPS}
TREES |= {
    "gaps": trees.gaps().at,
    "starts-at-8": without_first_node,
    "nodes-and-zones": with_nodes_and_zones,
    "64K": trees.Made(tuple(trees.MadeBlock(n) for n in (1, 2, 10, 20, 100)), block_size=512 << 20).at,
}


@referee
@pytest.mark.parametrize("tree", TREES)
def test_equal_bytes_on_trees(tree: str, tmp_path: Path) -> None:
    root = TREES[tree](tmp_path)
    for options in OPTIONS:
        assert ours(root, options) == theirs(root, options), options


@referee
@pytest.mark.parametrize("blocks", trees.BOOTS, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_equal_bytes_on_captured_boots(blocks: Path, tmp_path: Path) -> None:
    root = trees.from_boot(blocks, tmp_path)
    for options in ("", "-J -b --output-all", "-P -a --output-all", "-r -S ZONES"):
        assert ours(root, options) == theirs(root, options), options


@referee
@pytest.mark.skipif(not os.path.isdir("/sys/devices/system/memory"), reason="this kernel shows no memory blocks")
def test_equal_bytes_on_this_host() -> None:
    for options in OPTIONS:
        assert ours("/", options) == theirs("/", options), options


@referee
@pytest.mark.parametrize("options", REFUSED)
def test_same_refusals(options: str, tmp_path: Path) -> None:
    root = trees.gaps().at(tmp_path)
    assert ours(root, options)[1] == theirs(root, options)[1] == 1


@referee
@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("_MOST_ZONES", 9),
        ("_NO_NODE", 0),
        ("_STATES", {"online": "online", "offline": "offline"}),
        ("_ZONES", {}),
        ("human", lambda size: f"{size >> 20}M"),
        ("_width", lambda name, texts: max(map(len, [name, *texts]))),
        ("_zones_or_itself", lambda span: span.zones),
    ],
)
def test_planted_breaches_are_caught(name: str, wrong: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = with_nodes_and_zones(tmp_path)
    monkeypatch.setattr(lsmem, name, wrong)
    if name == "_zones_or_itself":
        column = dataclasses.replace(lsmem._COLUMNS["ZONES"], attribute=wrong)
        monkeypatch.setitem(lsmem._COLUMNS, "ZONES", column)
    assert any(ours(root, options) != theirs(root, options) for options in OPTIONS)


BLOCK = st.builds(
    trees.MadeBlock,
    number=st.just(0),
    state=st.sampled_from(["online", "offline", "going-offline"]),
    zones=st.sampled_from([None, "", "none", "DMA", "Normal Movable", "Movable Normal", "Weird", "Movable Weird"]),
    node=st.sampled_from([None, 0, 1]),
    removable=st.sampled_from([None, "0", "1"]),
)
COLUMNS = st.lists(st.sampled_from(lsmem.ALL_COLUMNS), min_size=1, max_size=5).map(",".join)


@referee
@examples(120)
@given(
    blocks=st.dictionaries(st.integers(0, 12) | st.sampled_from([99, 100, 8192]), BLOCK, min_size=1, max_size=14),
    size=st.integers(1, 64 << 30),
    output=COLUMNS,
    split=st.none() | COLUMNS | st.just("none"),
    flags=st.sets(st.sampled_from(["-b", "-n"])),
    kind=st.sampled_from(["", "-J", "-P", "-r"]),
)
def test_equal_bytes_on_any_machine(
    blocks: dict[int, trees.MadeBlock],
    size: int,
    output: str,
    split: str | None,
    flags: set[str],
    kind: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    made = tuple(trees.MadeBlock(number, b.state, b.zones, b.node, b.removable) for number, b in sorted(blocks.items()))
    root = trees.Made(made, block_size=size).at(tmp_path_factory.mktemp("tree"))
    options = " ".join([kind, *sorted(flags), "-o", output, *([] if split is None else ["-S", split])])
    assert ours(root, options) == theirs(root, options)


def test_a_machine_without_files_prints_the_same_as_its_tree(tmp_path: Path) -> None:
    files = {"sys/module/memory_hotplug/parameters/memmap_on_memory": "N\n"}
    blocks = (trees.MadeBlock(0), trees.MadeBlock(1, node=None), trees.MadeBlock(3, "offline"))
    root = trees.Made(blocks, files=files).at(tmp_path)
    host = Host(root)

    class Answers:
        """The same machine, without files to look at."""

        def snapshot(self) -> object:
            return host.snapshot()

    for kind, every, newer in itertools.product(("table", "json"), (True, False), (True, False)):
        form = lsmem.Format(kind=kind, columns=lsmem.ALL_COLUMNS, every_block=every)
        answers: object = Answers()
        assert lsmem.render(lsmem.blocks_of(answers, newer=newer), form) == lsmem.render(  # type: ignore[arg-type]
            lsmem.blocks_of(host, newer=newer), form
        )


NEW = Path(__file__).parents[1] / "data" / "lsmem-2.42.4"


@pytest.mark.parametrize("tree", TREES)
def test_as_the_newer_one_printed_it(tree: str, tmp_path: Path) -> None:
    """What lsmem 2.42.4 printed of these trees, one option set after the other."""
    root = TREES[tree](tmp_path)
    told = "".join(f"== {options}\n{as_newer(root, options)}" for options in OPTIONS)
    assert told == gzip.decompress((NEW / f"{tree}.gz").read_bytes()).decode()


def as_newer(root: Path, options: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "_as_newer_lsmem", lambda: True)
        return ours(root, options)[0]


@pytest.mark.parametrize(
    ("said", "newer"),
    [
        ("lsmem from util-linux 2.38.1\n", False),
        ("lsmem from util-linux 2.42.4\n", True),
        ("", True),
        ("lsmem 3", True),
    ],
)
def test_the_installed_one_decides(said: str, newer: bool) -> None:
    assert lsmem.newer(said) == newer
