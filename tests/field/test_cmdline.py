# SPDX-License-Identifier: Apache-2.0
"""Command lines as machines have them: words that take memory are followed, others that decide about it are named."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from field import kernel_words
from hotbank import board, kernels
from hotbank.cli import run
from hotbank.firmware import bootwords
from hotbank.firmware.cmdline import Parameter, decode
from hotbank.firmware.ground import Ground
from hotbank.memory import GIB, MIB, MemoryMap, MemoryRegion, Range, Reservation
from hotbank.model import Model
from hotbank.zones import Layout, predict
from hotbank.zones.emulation import emulated
from hotbank.zones.memblock import Memblock, Region

MEMORY = MemoryMap((MemoryRegion(Range.sized(GIB, 4 * GIB), 0, source="/memory"),), arch="arm64")


def layout(line: str, kernel: str = "6.12", arch: str = "arm64") -> Layout:
    block = (64 if arch == "arm" else 128) * MIB
    return predict(MEMORY, arch=arch, page_size=4096, block_size=block, cmdline=line, kernel=kernel).layout


def said(made: Layout, code: str) -> list[str]:
    return [finding.message for finding in made.findings if finding.code == code]


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("crashkernel=256M@0x60000000", Range.sized(0x60000000, 256 * MIB)),
        ("crashkernel=1G-8G:128M,8G-:512M@1536M", Range.sized(1536 * MIB, 128 * MIB)),
        ("crashkernel=64M@0x60000000 crashkernel=128M@0x60000000", Range.sized(0x60000000, 128 * MIB)),
    ],
)
def test_what_has_a_place_is_kept(line: str, place: Range) -> None:
    assert layout(line).reserved == (place,)
    assert [h.why for h in layout(line).hidden if h.range == place] == ["reserved: crashkernel="]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("crashkernel=256M", ["crashkernel= (reserved) takes 256M"]),
        ("crashkernel=8G-:512M", []),  # this machine has 4 GiB
        ("crashkernel=2G-:512M", ["crashkernel= (reserved) takes 512M"]),
        ("crashkernel=1G,high", ["crashkernel=,high (reserved) takes 1G", "crashkernel=,low (reserved) takes 128M"]),
        ("crashkernel=1G,high crashkernel=0,low", ["crashkernel=,high (reserved) takes 1G"]),
        ("crashkernel=nonsense", []),
        ("cma=64M", ["cma= (CMA pool) takes 64M"]),
        ("cma=64M@1G-2G", ["cma= (CMA pool) takes 64M within 0x40000000-0x7fffffff"]),
        ("cma=0", []),
        ("reserve_mem=4M:4096:trace reserve_mem=2M:4096:oops", ["reserve_mem= trace", "reserve_mem= oops"]),
        ("reserve_mem=4M", []),
        (
            "hugepagesz=1G hugepages=2 hugepagesz=2M hugepages=0:3,1:4",
            ["of 2M (reserved) takes 14M", "of 1G (reserved) takes 2G"],
        ),
        ("hugepages=5", ["hugepages= of 2M (reserved) takes 10M"]),
        ("default_hugepagesz=1G hugepages=1", ["of 1G"]),
        ("hugepagesz=3M hugepages=5", []),
    ],
)
def test_what_has_no_place_is_told(line: str, words: list[str]) -> None:
    found = said(layout(line), "RESERVED_SOMEWHERE")
    assert len(found) == len(words), found
    assert all(word in one for word, one in zip(words, found, strict=True)), found


@pytest.mark.parametrize(
    ("line", "kernel", "words"),
    [
        # Rounded up to 128 MiB: 4095 MiB are of the range that begins at 4 GiB; an earlier entry may spoil the rest.
        ("mem=4095M crashkernel=1G-4G:64M,4G-:128M", "6.12", ["crashkernel= (reserved) takes 128M"]),
        ("mem=3967M crashkernel=1G-4G:64M,4G-:128M", "6.12", ["crashkernel= (reserved) takes 64M"]),
        ("crashkernel=4G-1G:64M,1G-:128M", "6.12", []),
        ("crashkernel=1G-2G:8G,2G-:128M", "6.12", []),
        ("crashkernel=0-2G:64M,2G-4G:128M,4G-:256M", "6.12", ["takes 256M"]),
        ("crashkernel=auto", "6.12", []),
        ("crashkernel=64M,128M", "6.12", []),
        ("crashkernel=4G", "6.12", []),
        ("crashkernel=256M crashkernel=64M,128M", "6.12", []),  # the last counts, though nobody can read it
        ("crashkernel=256M crashkernel=128M,high", "6.12", ["crashkernel= (reserved) takes 256M"]),
        ("crashkernel=256M crashkernel", "6.12", ["crashkernel= (reserved) takes 256M"]),
        (
            "crashkernel=256M,high crashkernel=64M,low",
            "6.12",
            ["=,high (reserved) takes 256M", "=,low (reserved) takes 64M"],
        ),
        ("crashkernel=1G-:256M,high", "6.12", []),
        ("crashkernel=256M,high crashkernel=x,low", "6.12", []),
        ("crashkernel=256M,low", "6.12", []),
        ("crashkernel=256M,high", "6.1", ["=,high (reserved) takes 256M"]),  # low memory by itself since 6.2
        ("crashkernel=256M,high", "6.2", ["=,high (reserved) takes 256M", "=,low (reserved) takes 128M"]),
        ("mem=2G crashkernel=256M,high", "6.12", ["=,high (reserved) takes 256M within 0x0-0xbfffffff"]),
        ("crashkernel=256M crashkernel=128M,cma", "6.12", []),  # a word of its own, and the last
        ("crashkernel=256M crashkernel=128M,cma", "6.17", ["crashkernel= (reserved) takes 256M"]),
        ("crashkernel=256M crashkernel=128M,cma", "7.2.12", ["crashkernel= (reserved) takes 256M"]),
        ("crashkernel=128M,cma crashkernel=256M", "7.3.4", ["crashkernel= (reserved)", "=,cma (CMA pool) takes 128M"]),
        ("crashkernel=256M,high crashkernel=1G,cma", "7.3", ["=,high", "=,low", "=,cma (CMA pool) takes 1G"]),
        ("crashkernel=64M@8G crashkernel=128M,cma", "7.3", ["=,cma (CMA pool) takes 128M"]),  # read, and not there
        ("crashkernel=128M,cma", "7.3", []),
        ("crashkernel=x crashkernel=128M,cma", "7.3", []),
        ("crashkernel=128M crashkernel=y,cma", "7.3", ["crashkernel= (reserved) takes 128M"]),
        ("hugepagesz=4M hugepages=9", "6.12", []),
        ("hugepagesz=64K hugepages=16 hugepagesz=32M hugepages=2", "6.12", ["of 64K (reserved) takes 1M", "of 32M"]),
        ("hugepages=7 hugepages=9", "6.12", ["of 2M (reserved) takes 14M"]),
        ("hugepages=7 default_hugepagesz=32M", "6.12", ["of 32M (reserved) takes 224M"]),
        ("default_hugepagesz=1G hugepagesz=2M hugepages=3", "6.12", ["of 2M (reserved) takes 6M"]),
        ("default_hugepagesz=3M hugepages=4", "6.12", []),
        ("hugepagesz=2M hugepages=4 hugepagesz=2M hugepages=8", "6.12", ["of 2M (reserved) takes 8M"]),
        ("hugepages=5G", "6.12", ["of 2M (reserved) takes 10M"]),
        ("hugepages=x", "6.12", []),
        ("reserve_mem=4M:4096:a reserve_mem=8M:4096:a", "6.12", ["reserve_mem= a (reserved) takes 4M"]),
        ("reserve_mem=4M:4096:abcdefghijklmnop", "6.12", []),
        ("reserve_mem=4M:abc", "6.12", []),
        ("reserve_mem=4M,4096,a", "6.12", []),
        ("cma=64M cma=32M", "6.12", ["cma= (CMA pool) takes 32M"]),
        ("cma=64M@0x60000000 cma=32M", "6.12", ["takes 32M within 0x60000000-0x63ffffff"]),
        ("cma=64M@4G-5G", "6.12", []),  # above what DMA reaches
        ("cma=5G", "6.12", []),
        ("cma=", "6.12", []),
    ],
)
def test_what_a_word_takes_and_what_it_does_not(line: str, kernel: str, words: list[str]) -> None:
    made = layout(line, kernel)
    found = said(made, "RESERVED_SOMEWHERE")
    assert len(found) == len(words), found
    assert all(word in one for word, one in zip(words, found, strict=True)), found
    silent = {"crashkernel=256M,low", "cma=", "hugepages=x", "cma=64M cma=32M"}
    assert words or said(made, "OPTION_IGNORED") or line in silent


@pytest.mark.parametrize("word", ["cma=64M@0x60100000", "cma=64M@0x100000000", "crashkernel=64M@0x60100000"])
def test_a_place_that_is_no_good_takes_nothing(word: str) -> None:
    made = layout(word)
    assert made.reserved == ()
    assert not said(made, "RESERVED_SOMEWHERE")
    assert "nothing is reserved" in said(made, "OPTION_IGNORED")[0]


@pytest.mark.parametrize("word", ["swiotlb=65536", "memmap=64M"])
def test_no_word_is_obeyed_that_the_kernel_does_not_keep(word: str) -> None:
    line = " ".join(["quiet"] * (2048 // 6)) + " more"
    assert [f.code for f in layout(f"{line} {word}").findings] == ["LINE_TOO_LONG"]


@given(st.integers(0, 40), st.integers(0, 3), st.sampled_from(["arm", "arm64"]))
def test_what_the_kernel_does_not_keep_of_a_line_decides_nothing(more: int, words: int, arch: str) -> None:
    size = kernels.arch(arch).command_line
    kept = "x" * (size - 12 - words) + " " * words + " mem=512M"
    assert len(kept) < size
    lost = kept + " " * more + " mem=256M@0x40000000"
    cut, whole = layout(lost, arch=arch), layout(lost[: size - 1], arch=arch)
    assert (cut.zones, cut.ram, cut.reserved) == (whole.zones, whole.ram, whole.reserved)
    assert bool(said(cut, "LINE_TOO_LONG")) == (len(lost) >= size)


@pytest.mark.parametrize("kernel", ["6.1", "6.12", "7.3"])
def test_an_empty_value_is_a_value(kernel: str) -> None:
    """``mem=`` lifts an earlier cap on arm64 and leaves nothing on arm; ``vmalloc=`` asks for the least."""
    assert layout("mem=1G mem=", kernel).ram == layout("", kernel).ram
    assert layout("mem=1G mem", kernel).ram == layout("mem=1G", kernel).ram
    assert said(layout("mem=", kernel, arch="arm"), "NO_MEMORY")
    assert layout("vmalloc=", kernel, arch="arm").zones == layout("vmalloc=16M", kernel, arch="arm").zones


def test_only_cma_takes_a_place_in_a_bank_that_movable_node_keeps() -> None:
    bank = MemoryRegion(Range.sized(0x60000000, 512 * MIB), 0, hotpluggable=True, source="bank")
    memory = MemoryMap((MemoryRegion(Range.sized(0x40000000, 512 * MIB), 0, source="memory"), bank))

    def marked(line: str) -> Layout:
        words = f"movable_node {line}"
        return predict(memory, arch="arm64", page_size=4096, block_size=128 * MIB, kernel="6.1", cmdline=words).layout

    assert not said(marked("cma=64M@0x68000000"), "OPTION_IGNORED")
    why = "crashkernel= asks for 0x68000000-0x6bffffff, which movable_node keeps free of it: nothing is reserved"
    assert said(marked("crashkernel=64M@0x68000000"), "OPTION_IGNORED") == [why]


def test_cma_lies_on_one_side_of_highmem() -> None:
    assert "crosses the end of the linear map" in said(layout("cma=64M@0x6e000000", arch="arm"), "OPTION_IGNORED")[0]
    for start in ("0x6c000000", "0x70000000"):
        assert not said(layout(f"cma=64M@{start}", arch="arm"), "OPTION_IGNORED")
    assert not said(layout("cma=64M@0x6e000000"), "OPTION_IGNORED")


def test_32_bit_arm_reads_crashkernel_its_own_way() -> None:
    assert said(layout("crashkernel=256M", arch="arm"), "RESERVED_SOMEWHERE")[0].startswith("crashkernel= (reserved)")
    assert not said(layout("crashkernel=256M,high", arch="arm"), "RESERVED_SOMEWHERE")
    assert layout("crashkernel=64M@0x60100000", arch="arm").reserved == (Range.sized(0x60100000, 64 * MIB),)
    assert layout("crashkernel=64M@0x60080000", arch="arm").reserved == ()
    assert layout("crashkernel=64M@0xa0000000", arch="arm").reserved == (Range.sized(0xA0000000, 64 * MIB),)
    assert not said(layout("hugepages=4", arch="arm"), "RESERVED_SOMEWHERE")


def test_a_kernel_that_does_not_know_a_word_does_not_obey_it() -> None:
    assert not said(layout("reserve_mem=4M:4096:trace", "6.1"), "RESERVED_SOMEWHERE")
    assert "read by x86 only" in said(layout("memmap=512M$0x60000000"), "OPTION_IGNORED")[0]
    assert layout("memmap=512M$0x60000000").reserved == ()


@pytest.mark.parametrize("word", ["cma", "crashkernel"])
def test_a_place_beyond_all_addresses_takes_nothing(word: str) -> None:
    made = layout(f"{word}=1G@0xffffffffffffffff")
    assert made.reserved == ()
    (message,) = said(made, "OPTION_IGNORED")
    assert message.startswith(f"{word}= asks for 0xffffffffffffffff-0x1000000003ffffffe, which ends beyond")


@pytest.mark.parametrize("word", ["cma", "crashkernel"])
@pytest.mark.parametrize(
    ("place", "why"),
    [
        (Range(0x2000_0000, 0x3000_0000), "is no memory"),  # below all memory
        (Range(0x1_4000_0000, 0x1_5000_0000), "is no memory"),  # right above it
        (Range(0x3000_0000, 0x5000_0000), "is not all memory"),
        (Range(0x1_3000_0000, 0x1_5000_0000), "is not all memory"),
    ],
)
def test_a_place_without_memory_takes_nothing_and_is_told(word: str, place: Range, why: str) -> None:
    made = layout(f"{word}={place.size:#x}@{place.start:#x}")
    assert made.reserved == ()
    (message,) = said(made, "OPTION_IGNORED")
    assert message.startswith(f"{word}= asks for {place}, which {why} that is mapped: nothing is reserved")


def test_a_place_that_firmware_does_not_map_takes_nothing() -> None:
    hole = Reservation(Range.sized(0x6000_0000, 64 * MIB), "secure", no_map=True)
    made = predict(
        replace(MEMORY, reserved=(hole,)),
        arch="arm64",
        page_size=4096,
        block_size=128 * MIB,
        cmdline=f"cma=128M@{hole.range.start:#x}",
    ).layout
    (message,) = said(made, "OPTION_IGNORED")
    assert "which is not all memory that is mapped" in message


def ground(memory: Sequence[Range], taken: Sequence[Range] = (), kernel: str = "6.12", arch: str = "arm64") -> Ground:
    total, end = sum(r.size for r in memory), max(r.end for r in memory)
    reach, its = min(end, 4 * GIB), kernels.arch(arch)
    return Ground(total, tuple(memory), tuple(taken), (), reach, reach, end, its, kernels.kernel(kernel), 4096)


@given(st.integers(1, 2**64 - 1), st.integers(2**64 - 2**33, 2**64 - 1))
def test_a_reservation_ends_where_addresses_do(size: int, start: int) -> None:
    start -= start % (2 * MIB)
    taken = bootwords.taken(decode(f"crashkernel={size:#x}@{start:#x}"), ground([Range(0, 2**64)]))
    assert [r.range for r in taken.reserved] == ([Range.sized(start, size)] if start + size <= 2**64 else [])
    assert len(taken.reserved) + len(taken.refused) == 1


FREE, UNIT = 64, 2 * MIB


@given(st.sampled_from(["cma", "crashkernel"]), st.integers(1, 3 * MIB), st.integers(0, 3 * MIB), st.integers(0, 70))
def test_what_is_taken_is_free_whole_and_begins_where_it_may(word: str, size: int, off: int, at: int) -> None:
    """By brute force: memory of 64 units from 1 GiB on, of which every fifth is taken."""
    memory, held = Range.sized(GIB, FREE * UNIT), [Range.sized(GIB + n * UNIT, UNIT) for n in range(0, FREE, 5)]
    start = GIB + at * UNIT - off
    found = bootwords.taken(decode(f"{word}={size:#x}@{start:#x}"), ground([memory], held))
    whole = Range.sized(start, size if word == "crashkernel" else -(-size // UNIT) * UNIT)
    good = start % UNIT == 0 and memory.contains(whole) and not any(r.overlaps(whole) for r in held)
    assert [r.range for r in found.reserved] == ([whole] if good else [])
    assert bool(found.refused) != good


@examples(30)
@given(st.integers(0, 27), st.integers(1, 64))
def test_cma_in_a_place_is_lent_there(at: int, units: int) -> None:
    """A model that boots so has its CMA area where the line says, and none besides."""
    own = board.load("arm-2009")
    start = own.bank("low").range.start + at * 8 * MIB  # type: ignore[union-attr]
    size = min(units * 4, (28 - at) * 8) * MIB
    model = Model.boot(own, cmdline=f"cma={size // MIB}M@{start:#x}")
    unit = 4096 << model.geometry.shape.pageblock_order
    lent = [part for n in (block.number for block in model.snapshot().blocks) for part in model.pages(n).cma]
    pages = {pfn for first, count in lent for pfn in range(first, first + count)}
    wanted = set(range(start // 4096, (start + size) // 4096)) if size % unit == 0 and start % unit == 0 else set()
    assert pages <= wanted


def test_what_is_not_followed_is_named_once() -> None:
    found = said(layout(" ".join(f"{word}=1 {word}=2" for word in bootwords.UNFOLLOWED), "7.3"), "OPTION_NOT_FOLLOWED")
    assert [message.partition("= decides ")[0] for message in found] == list(bootwords.UNFOLLOWED)
    assert all("the kernel obeys this, the prediction does not" in message for message in found)


def test_words_that_decide_nothing_are_not_named() -> None:
    line = "console=ttyAMA0 root=/dev/vda1 ro quiet numa_balancing=enable nobodyknows=1 init=/bin/sh -- memtest=1"
    assert {f.code for f in layout(line).findings} <= {"BOOT_MEMORY"}


@pytest.mark.parametrize("release", kernel_words.RELEASES)
def test_each_word_of_the_kernels_own_list_gets_its_answer(release: str) -> None:
    known = {word.name: word.answer for word in kernel_words.table().values() if release in word.releases}
    asked = [f"{word}=1" for word, answer in known.items() if answer != "followed"]
    lines = [" ".join(words) for words in (asked[::3], asked[1::3], asked[2::3])]  # 2047 bytes are kept
    found = [finding for line in lines for finding in layout(line, release).findings]
    told = {f.message.partition("=")[0]: f.code for f in found if f.code.startswith("OPTION_")}
    codes = {"named": "OPTION_NOT_FOLLOWED", "elsewhere": "OPTION_IGNORED"}
    assert told == {word: codes[answer] for word, answer in known.items() if answer in codes}
    assert set(known.values()) == {*codes, "followed", "nothing"}


@pytest.mark.parametrize("word", sorted(kernels.WORDS))
def test_a_word_is_named_from_the_release_on_that_knows_it(word: str) -> None:
    since = kernels.WORDS[word].since
    assert said(layout(f"{word}=1", since), "OPTION_NOT_FOLLOWED")
    assert not said(layout(f"{word}=1", "6.1"), "OPTION_NOT_FOLLOWED")


def test_a_words_release_lies_between_the_lists_that_lack_it_and_those_that_have_it() -> None:
    for word in kernel_words.table().values():
        if word.answer == "named":
            knowing = tuple(r for r in kernel_words.RELEASES if kernels.kernel(r).knows(word.name))
            assert knowing == word.releases


@pytest.mark.slow
@pytest.mark.parametrize("release", kernel_words.PACKAGED)
def test_the_table_is_made_from_the_kernels_own_list(release: str) -> None:
    ours = {word.name for word in kernel_words.table().values() if release in word.releases}
    assert kernel_words.about_memory(kernel_words.packaged(release)) == ours


def test_fake_nodes_are_named_where_the_kernel_can_make_them() -> None:
    (told,) = (one for one in layout("numa=fake=4").findings if one.code == "OPTION_NOT_FOLLOWED")
    assert "CONFIG_NUMA_EMU" in told.message
    assert "--numa-emu" in told.remedy
    for made in (layout("numa=fake=4", "6.1"), layout("numa=fake=4", arch="arm")):
        assert not said(made, "OPTION_NOT_FOLLOWED")
        assert "is not read by kernel 6." in said(made, "OPTION_IGNORED")[0]


# Nodes that numa=fake= makes.

NODE = st.tuples(st.integers(2, 96), st.integers(0, 8))  # 32 MiB of memory, and of the hole above it


@st.composite
def machines(draw: st.DrawFn) -> MemoryMap:
    """Memory of one node, or of several that follow each other, with holes."""
    regions, at = list[MemoryRegion](), GIB
    for number, (size, hole) in enumerate(draw(st.lists(NODE, min_size=1, max_size=4))):
        regions.append(MemoryRegion(Range.sized(at, size * 32 * MIB), number, source="/memory"))
        at += (size + hole) * 32 * MIB
    return MemoryMap(tuple(regions), arch="arm64")


def faked(memory: MemoryMap, words: str, kernel: str = "7.3") -> Layout:
    line = f"numa=fake={words}"
    shape = {"arch": "arm64", "page_size": 4096, "block_size": 128 * MIB}
    return predict(memory, cmdline=line, kernel=kernel, numa_emu=True, **shape).layout  # type: ignore[arg-type]


def by_node(made: Layout) -> dict[int, int]:
    """Bytes of memory on each node."""
    held: dict[int, int] = {}
    for zone in made.zones:
        held[zone.node] = held.get(zone.node, 0) + zone.present * 4096
    return held


@examples(60)
@given(machines(), st.integers(1, 40), st.sampled_from(["", "U", "G", "M"]))
def test_fake_nodes_share_the_memory(memory: MemoryMap, number: int, letter: str) -> None:
    """Whatever is asked for, all memory has a node, nodes count from 0 on, and none is of two of the machine's own
    unless there are more of those than nodes."""
    made = faked(memory, f"{number * (32 if letter == 'M' else 1)}{letter}")
    total, nodes = sum(region.range.size for region in memory.regions), by_node(made)
    assert sum(nodes.values()) == total
    assert sorted(nodes) == [*range(len(nodes))]
    assert len(nodes) <= 16
    if letter == "U" and not said(made, "OPTION_IGNORED"):
        assert len(nodes) == min(16, number * len(memory.regions))
    if letter == "" and len(memory.regions) == 1 and not said(made, "OPTION_IGNORED"):
        assert len(nodes) == min(16, number)
        assert max(nodes.values()) - min(nodes.values()) <= 64 * MIB


@pytest.mark.parametrize(
    ("words", "nodes"),
    [
        ("4", {0: 1024, 1: 1024, 2: 1024, 3: 1024}),
        ("3", {0: 1376, 1: 1344, 2: 1376}),
        ("512M", dict.fromkeys(range(8), 512)),
        ("1G", dict.fromkeys(range(4), 1024)),
        ("16M", dict.fromkeys(range(16), 256)),  # too small for 16 nodes
        ("512m", dict.fromkeys(range(16), 256)),  # a small letter is no size
        ("2U", {0: 2048, 1: 2048}),
        ("0x2", {0: 2048, 1: 2048}),
        ("100", dict.fromkeys(range(16), 256)),
    ],
)
def test_what_the_words_ask_for(words: str, nodes: dict[int, int]) -> None:
    for own in (None, 0):
        memory = MemoryMap((MemoryRegion(Range.sized(GIB, 4 * GIB), own, source="/memory"),), arch="arm64")
        assert by_node(faked(memory, words)) == {node: size * MIB for node, size in nodes.items()}


@pytest.mark.parametrize("words", ["0", "", "many", "-1", "40U"])
def test_words_that_make_no_nodes_are_told(words: str) -> None:
    made = faked(MEMORY, words)
    assert by_node(made) == {0: 4 * GIB}
    assert "makes no nodes" in said(made, "OPTION_IGNORED")[0]


def test_nodes_of_firmware_that_are_incomplete_take_the_word_with_them() -> None:
    regions = (
        MemoryRegion(Range.sized(GIB, GIB), None, source="/memory"),
        MemoryRegion(Range.sized(4 * GIB, GIB), 1, source="/memory"),
    )
    assert by_node(faked(MemoryMap(regions, arch="arm64"), "4")) == {0: 2 * GIB}


def test_movable_memory_is_taken_from_each_fake_node() -> None:
    high = MemoryMap((MemoryRegion(Range.sized(8 * GIB, 4 * GIB), 0, source="/memory"),), arch="arm64")
    made = faked(high, "4 movablecore=1G")
    movable = {zone.node: zone.present * 4096 for zone in made.zones if zone.zone == "Movable"}
    assert movable == dict.fromkeys(range(4), 256 * MIB)


def test_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    board = ["zones", "--board", "virt-arm64", "--numa-emu"]
    assert run([*board, "--cmdline", "numa=fake=2", "--json"]) == 0
    assert {zone["node"] for zone in json.loads(capsys.readouterr().out)["zones"]} == {0, 1}
    assert run(board) == 2
    assert "no effect without numa=fake=" in capsys.readouterr().err


# One line, spelled in several ways.

INDEPENDENT = [
    ("movablecore", "1G"),
    ("cma", "64M@0x60000000"),
    ("crashkernel", "256M@0x80000000"),
    ("numa", "off"),
    ("reserve_mem", "4M:4096:x"),
    ("hugepages", "7"),
    ("log_buf_len", "1M"),
    ("memory_hotplug.auto_movable_ratio", "500"),
    ("memhp_default_state", "offline"),
    ("mem", "3G"),
    ("quiet", None),
    ("movable_node", None),
    ("kernelcore", "512M"),
    ("vmalloc", "300M"),
    ("memmap", "512M$0x60000000"),
    ("default_hugepagesz", "1G"),
    ("swiotlb", "65536"),
    ("kho", "on"),
]
SAME = {
    "1G": ["1g", "1024M", "0x40000000", "1048576K", "010000000000"],
    "64M@0x60000000": ["64m@0x60000000", "0x4000000@0x60000000", "65536k@1536M"],
    "256M@0x80000000": ["256m@2G", "0x10000000@0x80000000"],
    "off": ["off,"],
    "1M": ["1m", "1024K"],
    "3G": ["3g", "3072M", "0xC0000000", "0xc0000000"],
    "512M": ["512m", "0x20000000", "524288K", "04000000000"],
    "300M": ["300m", "0x12c00000", "307200k"],
}


@st.composite
def spelled(draw: st.DrawFn, words: list[tuple[str, str | None]]) -> str:
    parts = []
    for key, value in draw(st.permutations(words)):
        name = "".join(draw(st.sampled_from("-_")) if c in "-_" else c for c in key)
        text = None if value is None else draw(st.sampled_from([value, *SAME.get(value, [])]))
        plain = Parameter.make(name, text).text
        parts.append(draw(st.sampled_from([plain, f'"{plain}"', plain if text is None else f'{name}="{text}"'])))
    return draw(st.sampled_from([" ", "  ", "\t", "\n"])).join(parts)


@examples(60)
@given(
    st.data(),
    st.lists(st.sampled_from(INDEPENDENT), max_size=6, unique=True),
    st.sampled_from(["6.1", "6.12", "7.3"]),
    st.sampled_from(["arm", "arm64"]),
)
def test_two_spellings_of_one_line_predict_the_same(
    data: st.DataObject, words: list[tuple[str, str | None]], kernel: str, arch: str
) -> None:
    one, other = (layout(data.draw(spelled(words)), kernel, arch) for _ in range(2))
    assert (one.zones, one.blocks, one.ram, one.reserved) == (other.zones, other.blocks, other.ram, other.reserved)
    assert sorted(f.message for f in one.findings) == sorted(f.message for f in other.findings)


@pytest.mark.parametrize("words", ["2", "64M", "3U"])
def test_fake_nodes_cost_no_more_when_memory_lies_far_apart(words: str) -> None:
    class Counted(Memblock):
        looks = 0

        def __iter__(self) -> Iterator[Region]:
            self.looks += 1
            return super().__iter__()

    def looks(apart: int) -> int:
        memory = Counted([Region(Range.sized(2 * GIB, 2 * GIB)), Region(Range.sized(apart, 6 * GIB))])
        assert emulated([(memory.extent, 0)], memory, words, 4096)
        return memory.looks

    assert looks(1 << 46) <= 2 * looks(8 * GIB)
