# SPDX-License-Identifier: Apache-2.0
"""The SRAT codec: its law, its errors, and iasl as referee in both directions."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank.errors import FormatError
from hotbank.firmware import srat
from hotbank.firmware.srat import Structure, Table
from hotbank.memory import MemoryRegion, Range

_u32 = st.integers(0, (1 << 32) - 1)
_memory = st.builds(
    srat.memory,
    _u32,
    st.builds(Range.sized, st.integers(0, 1 << 48), st.integers(0, 1 << 48)),
    hot_pluggable=st.booleans(),
)
_fixed = st.sampled_from(sorted({*srat._SIZES} - {srat.MEMORY})).flatmap(
    lambda kind: st.binary(min_size=srat._SIZES[kind] - 2, max_size=srat._SIZES[kind] - 2).map(
        lambda body: Structure(kind, body)
    )
)
_unknown = st.builds(Structure, st.integers(7, 255), st.binary(max_size=40))
_tables = st.builds(
    Table,
    st.lists(st.one_of(_memory, _fixed, _unknown), max_size=8).map(tuple),
    st.integers(0, 255),
    st.binary(min_size=6, max_size=6),
    st.binary(min_size=8, max_size=8),
    _u32,
    st.binary(min_size=4, max_size=4),
    _u32,
    st.binary(min_size=12, max_size=12),
)
LOW, HIGH = Range.sized(0x80000000, 1 << 30), Range.sized(0x800000000, 4 << 30)
TABLE = Table(
    (
        srat.gicc(5, 0),
        srat.gicc(2, 1),
        srat.memory(2, LOW),
        srat.memory(5, HIGH, hot_pluggable=True),
        Structure(4, bytes(10)),  # ITS affinity: kept, whatever it says
    )
)


@given(_tables)
def test_decode_inverts_encode(table: Table) -> None:
    raw = srat.encode(table)
    assert sum(raw) % 256 == 0
    assert srat.decode(raw + b"behind") == table


@given(_tables, st.data())
def test_a_table_cut_anywhere_is_a_format_error(table: Table, data: st.DataObject) -> None:
    raw = srat.encode(table)
    with pytest.raises(FormatError):
        srat.decode(raw[: data.draw(st.integers(0, len(raw) - 1))])


def test_memory_map() -> None:
    memory = srat.memory_map(TABLE)
    assert memory.regions == (MemoryRegion(LOW, 2, False, "SRAT[2]"), MemoryRegion(HIGH, 5, True, "SRAT[3]"))
    assert memory.cpu_nodes == (5, 2)
    assert srat.domains_in_order(memory) == {5: 0, 2: 1}


def test_disabled_and_persistent_memory_is_no_ram() -> None:
    off = Structure(srat.MEMORY, srat.memory(0, LOW).body[:26] + bytes(12))
    persistent = Structure(srat.MEMORY, srat.memory(0, HIGH).body[:26] + b"\5\0\0\0" + bytes(8))
    memory = srat.memory_map(Table((off, persistent)))
    assert (memory.regions, [r.range for r in memory.pmem]) == ((), [HIGH])


def test_domains_in_the_kernels_order() -> None:
    """Processors and generic initiators as they come, then memory, also what is no RAM."""
    persistent = Structure(srat.MEMORY, srat.memory(9, HIGH).body[:26] + b"\5\0\0\0" + bytes(8))
    nothing = srat.memory(8, Range.sized(0, 0))
    initiators = [Structure(5, bytes((0, 0, d, 0, 0, 0, *bytes(16), on, *bytes(7)))) for d, on in ((3, 0), (4, 1))]
    memory = srat.memory_map(Table((persistent, nothing, srat.memory(7, LOW), *initiators, srat.gicc(1, 0))))
    assert memory.domains == (4, 1, 9, 8, 7)
    assert memory.cpu_nodes == (1,)
    assert srat.domains_in_order(memory)[7] == 4


def test_revision_1_has_8_bit_domains() -> None:
    region = srat.memory_map(Table((srat.memory(0xABCD01, LOW),), revision=1)).regions[0]
    assert region.node == 1


@pytest.mark.parametrize("at", [0, 9, 40, 60, 100])
def test_checksum(at: int) -> None:
    raw = bytearray(srat.encode(TABLE))
    raw[at] ^= 1
    with pytest.raises(FormatError, match="signature" if at == 0 else "checksum"):
        srat.decode(bytes(raw))


@pytest.mark.parametrize(("length", "field"), [(0, "length"), (1, "length"), (39, "length"), (255, "length")])
def test_wrong_structure_lengths(length: int, field: str) -> None:
    raw = bytearray(srat.encode(Table((srat.memory(0, LOW),))))
    raw[49] = length
    raw[9] = 0
    raw[9] = -sum(raw) & 0xFF
    with pytest.raises(FormatError) as caught:
        srat.decode(bytes(raw))
    assert (caught.value.offset, caught.value.field) == (49, field)


def test_memory_beyond_64_bits() -> None:
    body = bytearray(srat.memory(0, LOW).body)
    body[6:14] = b"\xff" * 8
    with pytest.raises(FormatError, match="beyond 64 bits"):
        srat.decode(srat.encode(Table((Structure(srat.MEMORY, bytes(body)),))))


def _iasl(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["iasl", *arguments], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def _disassembled(folder: Path, raw: bytes) -> str:
    (folder / "srat.aml").write_bytes(raw)
    _iasl(folder, "-d", "srat.aml")
    return (folder / "srat.dsl").read_text()


def _values(text: str, field: str) -> list[int]:
    return [int(value, 16) for value in re.findall(rf" {field} : (\w+)$", text, re.MULTILINE)]


@pytest.mark.referee
def test_iasl_reads_what_we_write(tmp_path: Path) -> None:
    text = _disassembled(tmp_path, srat.encode(TABLE))
    assert "Incorrect checksum" not in text
    assert _values(text, "Proximity Domain") == [5, 2, 2, 5, 0]
    assert _values(text, "Base Address") == [LOW.start, HIGH.start]
    assert _values(text, "Address Length") == [LOW.size, HIGH.size]
    assert re.findall(r"Hot Pluggable : (\d)", text) == ["0", "1"]
    _iasl(tmp_path, "srat.dsl")  # and its own compilation gives our bytes, but for who compiled it
    compiled = srat.decode((tmp_path / "srat.aml").read_bytes())
    assert compiled.structures == TABLE.structures
    assert (compiled.revision, compiled.oem_id, compiled.oem_table_id) == (3, TABLE.oem_id, TABLE.oem_table_id)


@pytest.mark.referee
def test_iasl_notices_a_wrong_checksum(tmp_path: Path) -> None:
    raw = bytearray(srat.encode(TABLE))
    raw[9] ^= 0x55
    assert "Incorrect checksum" in _disassembled(tmp_path, bytes(raw))


@pytest.mark.referee
def test_we_read_what_iasl_writes(tmp_path: Path) -> None:
    _iasl(tmp_path, "-T", "SRAT")
    text = (tmp_path / "srat.asl").read_text()
    _iasl(tmp_path, "srat.asl")
    table = srat.decode((tmp_path / "srat.aml").read_bytes())
    affinities = [m for s in table.structures if (m := s.memory())]
    processors = [p for s in table.structures if (p := s.processor())]
    assert affinities
    assert processors
    assert [m.range.start for m in affinities] == _values(text, "Base Address")
    assert [m.range.size for m in affinities] == _values(text, "Address Length")
    assert srat.decode(srat.encode(table)) == table
    assert srat.encode(table) == (tmp_path / "srat.aml").read_bytes()
