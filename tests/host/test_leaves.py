# SPDX-License-Identifier: Apache-2.0
"""The kernel's page tables as /proc/kcore shows them, against the leaves that they were made of."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from host.captured_trees import Made, MadeBlock, words
from hotbank.errors import Code
from hotbank.host import Host
from hotbank.host.leaves import Leaves
from hotbank.host.tree import Tree
from hotbank.memory import GIB, KIB, MIB, Range
from hotbank.operate import explain

MEMSTART = 0x40000000
TABLES = 0x48000000  # where in RAM the tables lie
VOFFSET = 0xFFFF800040000000  # of the kernel's image
WORDS = 1 << 64
SHAPES = {4 * KIB: (48, 16, 16), 16 * KIB: (47, 128, 32), 64 * KIB: (42, 32, 32)}  # VA bits, contiguous PTEs and PMDs


@dataclass
class Tables:
    """Page tables in the making, and the leaves in them by where they begin and end."""

    page_size: int
    raw: bytearray = field(default_factory=bytearray)
    leaves: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bits = SHAPES[self.page_size][0]
        self.page_shift = self.page_size.bit_length() - 1
        self.per_table = self.page_shift - 3
        self.shifts = list(range(self.page_shift, self.bits, self.per_table))[::-1]
        self.new_table()

    def new_table(self) -> int:
        at = TABLES + len(self.raw)
        self.raw += bytes(self.page_size)
        return at

    def map(self, address: int, level: int, *, contiguous: bool) -> None:
        """A leaf, or a run of them, at that level from the top; the address is rounded down to where it may begin."""
        run = self.run(level) if contiguous else 1
        size = run << self.shifts[level]
        start = address // size * size
        if any(start < end and start + size > begin for begin, end in self.leaves):
            return
        for each in range(start, start + size, 1 << self.shifts[level]):
            self._entry(each, level, contiguous)
        self.leaves.append((start, start + size))

    def run(self, level: int) -> int:
        _, ptes, pmds = SHAPES[self.page_size]
        return {len(self.shifts) - 1: ptes, len(self.shifts) - 2: pmds}.get(level, 1)

    def _entry(self, address: int, level: int, contiguous: bool) -> None:
        table = TABLES
        for above in self.shifts[:level]:
            at = self._at(table, address, above)
            (entry,) = struct.unpack_from("<Q", self.raw, at)
            if not entry:
                entry = self.new_table() | 0b11
                struct.pack_into("<Q", self.raw, at, entry)
            table = entry & -self.page_size & (1 << 48) - 1
        last = level == len(self.shifts) - 1
        value = (0b11 if last else 0b01) | contiguous << 52 | 1 << 54
        struct.pack_into("<Q", self.raw, self._at(table, address, self.shifts[level]), value)

    def _at(self, table: int, address: int, shift: int) -> int:
        index = (address & (1 << self.bits) - 1) >> shift & (1 << self.per_table) - 1
        return table - TABLES + index * 8

    def cuts(self, address: int) -> bool:
        """The plain twin of the walk."""
        return any(begin < address < end for begin, end in self.leaves)

    def linear(self, physical: int) -> int:
        return (physical - MEMSTART - (1 << self.bits)) % WORDS

    def memmap(self, physical: int) -> int:
        return (self.vmemmap + physical // self.page_size * 64) % WORDS

    @property
    def vmemmap(self) -> int:
        return (1 << 64) - (1 << self.bits - 4)

    def kcore(self, *, configured: int | None = None, used: int | None = None) -> bytes:
        """``configured``: bits of an address that the kernel could have; ``used``: that the processor has."""
        bits, used = configured or self.bits, used or self.bits
        memstart = MEMSTART - ((1 << bits) - (1 << self.bits))  # arm64_memblock_init
        info = "\n".join(
            [
                f"PAGESIZE={self.page_size}",
                f"SYMBOL(vmemmap)={self.vmemmap:x}",
                f"SYMBOL(swapper_pg_dir)={(TABLES + VOFFSET) % WORDS:x}",
                "SIZE(page)=64",
                "OFFSET(page._refcount)=52",
                f"NUMBER(VA_BITS)={bits}",
                f"NUMBER(TCR_EL1_T1SZ)={64 - used:#x}",
                f"NUMBER(kimage_voffset)=0x{VOFFSET:x}",
                f"NUMBER(PHYS_OFFSET)=0x{memstart % WORDS:x}",
                "",
            ]
        )
        note = struct.pack("<III", 11, len(info), 0) + b"VMCOREINFO\0\0" + info.encode()
        at = 64 + 2 * 56
        rows = ((4, at, 0, 0, len(note)), (1, at + len(note), self.linear(TABLES), TABLES, len(self.raw)))
        headers = b"".join(struct.pack("<IIQQQQQQ", kind, 4, o, va, pa, n, n, 1) for kind, o, va, pa, n in rows)
        ident = b"\x7fELF\x02\x01\x01" + bytes(9)
        elf = ident + struct.pack("<HHIQQQIHHHHHH", 4, 183, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
        return elf + headers + note + bytes(self.raw)


@st.composite
def tables(draw: st.DrawFn) -> Tables:
    made = Tables(draw(st.sampled_from(sorted(SHAPES))))
    for _ in range(draw(st.integers(0, 6))):
        where = draw(st.sampled_from([made.linear, made.memmap]))
        level = draw(st.integers(1, len(made.shifts) - 1))
        contiguous = draw(st.booleans()) and made.run(level) > 1
        made.map(where(draw(st.integers(0, 8 * GIB // MIB)) * MIB + MEMSTART), level, contiguous=contiguous)
    return made


@examples(100)
@given(tables(), st.data())
def test_an_edge_inside_a_leaf_is_found(
    tmp_path_factory: pytest.TempPathFactory, made: Tables, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("tree")
    (root / "proc").mkdir()
    wider = made.page_size == 4 * KIB and data.draw(st.booleans())  # Debian's kernel where there is no FEAT_LPA2
    (root / "proc/kcore").write_bytes(made.kcore(configured=52 if wider else None))
    leaves = Leaves.open(Tree(root))
    assert leaves is not None
    edges = st.integers(0, 64).map(lambda n: MEMSTART + n * 128 * MIB) | st.integers(0, 8 * GIB).map(
        lambda n: MEMSTART + n // made.page_size * made.page_size
    )
    for _ in range(10):
        start, end = sorted((data.draw(edges), data.draw(edges)))
        part = Range(start, end + made.page_size)
        said = leaves.cut_by(part)
        ends = (part.start, part.end)
        if any(made.cuts(made.linear(at)) for at in ends):
            assert said == "linear map"
        else:
            assert said == ("memmap" if any(made.cuts(made.memmap(at)) for at in ends) else "")
    leaves.close()


@pytest.mark.parametrize(("page_size", "used"), [(4 * KIB, 52), (64 * KIB, 48)])
def test_tables_of_another_form_are_not_guessed_at(page_size: int, used: int, tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/kcore").write_bytes(Tables(page_size).kcore(configured=52, used=used))
    assert Leaves.open(Tree(tmp_path)) is None


def machine(root: Path, release: str, kcore: bytes | None, driver: str) -> Host:
    files: dict[str, str | bytes] = {
        "proc/iomem": f"40000000-7fffffff : System RAM\n80000000-bfffffff : System RAM{driver}\n",
        "proc/sys/kernel/arch": "aarch64\n",
        "proc/sys/kernel/osrelease": f"{release}\n",
        "proc/kpageflags": words([]),
    }
    files |= {} if kcore is None else {"proc/kcore": kcore}
    return Host(Made((MadeBlock(16, zones="Movable"),), 128 * MIB, files).at(root))


@pytest.mark.parametrize(
    ("release", "driver", "level", "leaf"),
    [
        ("7.3.4+deb13-arm64", " (kmem)", 1, "linear map"),  # 1 GiB in one leaf
        ("7.3.4+deb13-arm64", " (kmem)", 2, ""),
        ("7.0.13", " (kmem)", 1, ""),
        ("7.3.4", "", 1, ""),  # boot memory is refused before
    ],
)
def test_a_verdict_knows_what_arm64_would_refuse_to_split(
    release: str, driver: str, level: int, leaf: str, tmp_path: Path
) -> None:
    made = Tables(4 * KIB)
    made.map(made.linear(0x80000000), level, contiguous=False)
    host = machine(tmp_path, release, made.kcore(), driver)
    assert host.survey(16).leaf == leaf
    answer = explain(host, 16)
    assert (answer.code is Code.VETO) is bool(leaf)
    assert not leaf or "memory16: a leaf of the kernel's linear map crosses its edge" in answer.fact


def test_tables_that_cannot_be_read_are_said_to_be_unknown(tmp_path: Path) -> None:
    assert "leaf" in machine(tmp_path, "7.3.4", None, " (kmem)").survey(16).unknown
