# SPDX-License-Identifier: Apache-2.0
"""The law of every file, ``parse(show(x)) == x``; what real kernels printed; and what no kernel would."""

from __future__ import annotations

import string
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.captured_trees import BOOTS
from hotbank.errors import FormatError
from hotbank.machine import Pressure, Reading, ZoneInfo
from hotbank.memory import BlockState, Range, Zone
from hotbank.sysfs import bank, iomem, names, vmstat, zoneinfo
from hotbank.sysfs.block import OnlineType
from hotbank.sysfs.files import FILES
from hotbank.sysfs.parameters import MemmapOnMemory, OnlinePolicyName

number = st.integers(0, (1 << 63) - 1)
pages = st.integers(0, 1 << 52)
name = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=20)
zone_name = st.sampled_from([*Zone, "none", "Weird"]).map(str)
MOVABLE_AT = {zone.value: at for at, zone in enumerate(Zone)}


@st.composite
def spans(draw: st.DrawFn, limit: int = 1 << 63) -> Range:
    start = draw(st.integers(0, limit - 1))
    return Range(start, draw(st.integers(start + 1, limit)))


def nodes_in_order(zones: Iterable[ZoneInfo]) -> tuple[ZoneInfo, ...]:
    """As a kernel prints them: node by node, and each zone of a node once."""
    once = {(z.node, z.zone): z for z in zones}
    return tuple(sorted(once.values(), key=lambda z: (z.node, MOVABLE_AT[z.zone])))


zone = st.builds(
    ZoneInfo,
    st.integers(0, 3),
    st.sampled_from([z.value for z in Zone]),
    pages,
    pages,
    st.integers(1, 1 << 52),
    *[pages] * 9,
)
entry = st.builds(
    iomem.Resource,
    spans(),
    st.sampled_from(["System RAM", "System RAM (kmem)", "reserved", "pl011@9000000", "PCI Bus 0000:00", ""]),
    st.integers(0, 7),
)
pressure = st.builds(Pressure, *[st.integers(0, 10000).map(lambda n: n / 100)] * 2, *[number] * 2)
counters = st.dictionaries(name, number, max_size=8)
lines = st.dictionaries(name | name.map(lambda n: f"HugePages_{n}") | st.just("Active(anon)"), number, max_size=8)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    names.BLOCK_SIZE: number,
    names.AUTO_ONLINE: st.sampled_from(OnlineType),
    "state": st.sampled_from(BlockState),
    "online": st.booleans(),
    "valid_zones": st.lists(zone_name, max_size=4).map(tuple),
    "removable": st.booleans(),
    "phys_index": number,
    "phys_device": number,
    "memoryN/nodeN": st.integers(0, 10**9 - 1),
    "nodeN/memoryN": st.integers(0, 10**18 - 1),
    "node/online": st.sets(st.integers(0, 1 << 10)).map(lambda numbers: tuple(sorted(numbers))),
    "online_policy": st.sampled_from(OnlinePolicyName),
    "auto_movable_ratio": number,
    "auto_movable_numa_aware": st.booleans(),
    "memmap_on_memory": st.sampled_from(MemmapOnMemory),
    "range": spans(),
    "range, of 32 bits": spans(1 << 32),
    "NAME/state": st.sampled_from(bank.Presence),
    "supply": st.sampled_from(bank.Supply),
    "start": number,
    "end": number,
    "type": st.sampled_from(["System RAM", "Reserved", "ACPI Tables"]),
    **dict.fromkeys(
        ("inN_input", "currN_input", "powerN_input", "tempN_input", "temp"), number | number.map(int.__neg__)
    ),
    **dict.fromkeys(("energyN_input", "energy_uj", "max_energy_range_uj"), number),
    **dict.fromkeys(("free_hugepages", "resv_hugepages"), number),
    "base_pfn": number,
    "count": number,
    names.IOMEM: st.lists(entry, max_size=6).map(tuple),
    names.MEMINFO: lines,
    names.VMSTAT: counters,
    names.ZONEINFO: st.lists(zone, max_size=8).map(nodes_in_order),
    names.BUDDYINFO: st.dictionaries(
        st.tuples(st.integers(0, 1023), zone_name), st.lists(number, min_size=1, max_size=14).map(tuple), max_size=8
    ),
    names.PRESSURE: pressure,
    names.ARCH: st.sampled_from(["arm", "arm64", "x86_64", "riscv64"]),
}


def values_of(file: str) -> st.SearchStrategy[Any]:
    """The values of a file: by its longest ending that is in the table."""
    file = file.replace("possible", "online").replace("has_memory", "online")
    endings = [file] if file in VALUES else [end for end in VALUES if file.endswith(f"/{end}")]
    return VALUES[max(endings, key=len)]


@pytest.mark.parametrize("file", FILES)
@given(data=st.data())
def test_what_is_shown_is_read_again(file: str, data: st.DataObject) -> None:
    form, value = FILES[file], data.draw(values_of(file))
    assert form.parse(form.show(value)) == value
    assert form.parse(form.show(value).removesuffix("\n")) == value


@pytest.mark.parametrize("file", FILES)
@given(text=st.text(max_size=60) | st.sampled_from(["9" * 5000, "f" * 100_000, "0-99999999999", "-1", "0x", "\0"]))
def test_any_text_is_a_value_or_our_error(file: str, text: str) -> None:
    with suppress(FormatError):
        FILES[file].parse(text)


@pytest.mark.parametrize("blocks", BOOTS, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_a_kernels_own_iomem_is_shown_to_the_byte(blocks: Path) -> None:
    text = (blocks.parent / "iomem").read_text()
    assert iomem.ENTRIES.show(iomem.ENTRIES.parse(text)) == text


@pytest.mark.parametrize("blocks", BOOTS, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_what_is_known_of_a_kernels_zones_survives(blocks: Path) -> None:
    zones = zoneinfo.ZONES.parse((blocks.parent / "zoneinfo").read_text())
    assert zones
    assert zoneinfo.ZONES.parse(zoneinfo.ZONES.show(zones)) == zones


def test_counters_of_a_kernel() -> None:
    moves = "pgmigrate_success 5\npgmigrate_fail 1\n"
    found = vmstat.COUNTERS.parse(f"nr_free_pages 9\n{moves}workingset_refault_anon 2\nworkingset_refault_file 3\n")
    moved = vmstat.migrated(found)
    assert moved is not None
    assert (vmstat.refaults(found), moved.success, moved.fail) == (5, 5, 1)
    assert vmstat.refaults({}) is None
    own = "nr_slab_reclaimable 7\nnr_slab_unreclaimable 20\nnr_page_table_pages 100\n"
    assert vmstat.kernels(vmstat.COUNTERS.parse(own)) == 120
    assert vmstat.kernels({"nr_page_table_pages": 7}) is None
    told = Reading(0.0, refaults=5, kernel=120)
    assert vmstat.kernels(vmstat.counters_of(told)) == told.kernel
    assert vmstat.refaults(vmstat.counters_of(told)) == told.refaults
    assert vmstat.migrated({"pgmigrate_success": 1}) is None


def test_who_added_memory() -> None:
    rows = [("System RAM", True, None), ("System RAM (kmem)", True, "kmem"), ("System RAM ()", True, None)]
    rows += [("reserved", False, None), ("System RAMs", False, None)]
    for title, is_ram, driver in rows:
        found = iomem.Resource(Range(0, 1), title)
        assert (found.is_ram, found.driver) == (is_ram, driver)
