# SPDX-License-Identifier: Apache-2.0
"""A captured tree is somebody's files: whatever is in them, reading gives a value or one of our errors."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from host import captured_trees as trees
from host.captured_trees import MEMORY, Made, MadeBlock, words
from host.test_doctor import BOARD, ZONE
from hotbank.cli import lsmem
from hotbank.cli.listing import document, look
from hotbank.errors import HotbankError
from hotbank.host import Host, pages
from hotbank.host.doctor import examine
from hotbank.host.tree import Tree

BLOCK = 1 << 20
FILES: dict[str, bytes] = {
    f"{MEMORY}/block_size_bytes": b"100000\n",
    f"{MEMORY}/auto_online_blocks": b"offline\n",
    f"{MEMORY}/memory1/state": b"online\n",
    f"{MEMORY}/memory1/valid_zones": b"Normal\n",
    f"{MEMORY}/memory1/removable": b"1\n",
    "etc/hotbank/board.toml": BOARD.encode(),
    "proc/iomem": b"00000000-001fffff : System RAM\n  00010000-0001ffff : Kernel code\n",
    "proc/zoneinfo": ZONE.encode(),
    "proc/meminfo": b"MemTotal: 2000 kB\nHugePages_Total:       0\n",
    "proc/kpageflags": words([pages.LRU | pages.ANON] * 512),
    "proc/kpagecount": words([1] * 512),
    "proc/kpagecgroup": words([5] * 512),
    "proc/kcore": trees.kcore({300: 9}, pages=512),
    "proc/9/statm": b"5 5 5\n",
    "proc/9/maps": b"00001000-00003000 rw-p 0 0 0\n",
    "proc/9/pagemap": words([0, 1 << 63 | 300, 0]),
    "proc/sys/kernel/arch": b"aarch64\n",
    "proc/sys/kernel/random/boot_id": b"a04543e0\n",
    "sys/firmware/memmap/0/start": b"0x0\n",
    "sys/firmware/memmap/0/end": b"0x1fffff\n",
    "sys/firmware/memmap/0/type": b"System RAM\n",
    "sys/kernel/debug/cma/a/base_pfn": b"300\n",
    "sys/kernel/debug/cma/a/count": b"64\n",
    "sys/firmware/fdt": b"\xd0\x0d\xfe\xed" + bytes(60),
}
NAMES = sorted(FILES)


@st.composite
def damage(draw: st.DrawFn) -> tuple[str, bytes]:
    """One file, and what is in it instead: cut, with one byte changed, numbers swapped, or something else."""
    name = draw(st.sampled_from(NAMES))
    content = bytearray(FILES[name])
    kind = draw(st.sampled_from(["cut", "byte", "number", "other"]))
    if kind == "cut":
        return name, bytes(content[: draw(st.integers(0, len(content)))])
    if kind == "byte":
        content[draw(st.integers(0, min(len(content), 600) - 1))] = draw(st.integers(0, 255))
        return name, bytes(content)
    if kind == "number":
        old, new = draw(st.sampled_from([b"0", b"1", b"2", b"5"])), draw(st.sampled_from([b"-1", b"9" * 25, b"", b"x"]))
        return name, bytes(content).replace(old, new)
    other = st.sampled_from([b"0\n", b"-8\n", b"ffffffffffffffffffff\n", b"\xff\xfe"])
    return name, draw(st.binary(max_size=40) | other)


@examples(40)
@given(st.lists(damage(), max_size=3))
def test_any_content_gives_a_value_or_one_of_our_errors(
    tmp_path_factory: pytest.TempPathFactory, damages: list[tuple[str, bytes]]
) -> None:
    root = Made((MadeBlock(1),), BLOCK, FILES | dict(damages)).at(tmp_path_factory.mktemp("tree"))
    with suppress(HotbankError):
        examine(Tree(root))
    with suppress(HotbankError):
        document(look(Host(root), used=True))
    with suppress(HotbankError):
        lsmem.render(lsmem.blocks_of(Host(root)), lsmem.Format(kind="json", columns=lsmem.ALL_COLUMNS))
