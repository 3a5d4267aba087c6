# SPDX-License-Identifier: Apache-2.0
"""The command line: quoting as next_arg does it, memparse's numbers, and what the words say about memory."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hotbank.errors import FormatError
from hotbank.firmware import cmdline
from hotbank.firmware.cmdline import CommandLine, Parameter, Share, SizedRange

_bytes = st.text(st.characters(min_codepoint=1, max_codepoint=255), max_size=40)
_words = st.text(st.sampled_from("ab=,.-_@0 \t\xa0"), max_size=12)


@given(_bytes)
@example('a="b c" d="e"f "g h=i" =x ""')
@example('open="to the end')
@example('k="a -- b" -- init "args')
def test_encode_inverts_decode(text: str) -> None:
    line = cmdline.decode(text)
    assert cmdline.decode(cmdline.encode(line)) == line


@given(st.lists(st.tuples(_words, st.none() | _words), max_size=6))
def test_words_made_from_values_read_back(pairs: list[tuple[str, str | None]]) -> None:
    made = []
    for key, value in pairs:
        try:
            made.append(Parameter.make(key, value))
        except FormatError:
            continue
    wanted = CommandLine(tuple(made))
    assert cmdline.decode(cmdline.encode(wanted)) == wanted


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", []),
        ("  quiet  ", [("quiet", None)]),
        ("root=/dev/vda ro", [("root", "/dev/vda"), ("ro", None)]),
        ('dyndbg="file a.c +p" x', [("dyndbg", "file a.c +p"), ("x", None)]),
        ('"one word=with value"', [("one word", "with value")]),
        ('a=b"c d"e', [("a", 'b"c d"e')]),
        ("a= b", [("a", ""), ("b", None)]),
        ("=a=b", [("=a", "b")]),
        ('k="', [("k", "")]),
        ("tab\tnbsp\xa0line\nend", [("tab", None), ("nbsp", None), ("line", None), ("end", None)]),
    ],
)
def test_words(text: str, pairs: list[tuple[str, str | None]]) -> None:
    assert [(p.key, p.value) for p in cmdline.decode(text).parameters] == pairs


def test_two_dashes_end_the_kernels_part() -> None:
    line = cmdline.decode("mem=1G -- mem=2G single")
    assert line.all("mem") == ("1G",)
    assert line.init == "mem=2G single"
    assert cmdline.encode(line) == "mem=1G -- mem=2G single"
    assert cmdline.decode("a --").init == ""


def test_errors_name_the_place() -> None:
    with pytest.raises(FormatError, match=r"offset 0x3.*NUL"):
        cmdline.decode("abc\0def")
    with pytest.raises(FormatError, match=r"offset 0x1.*not a byte"):
        cmdline.decode("a\u20ac")
    with pytest.raises(FormatError, match="not a byte"):
        cmdline.decode("\u20ac")
    assert cmdline.decode(b"abc\0\0") == cmdline.decode("abc")
    with pytest.raises(FormatError, match="open quote"):
        cmdline.encode([Parameter("a", "b c", 'a="b c'), Parameter("d", None)])
    with pytest.raises(FormatError, match="no way to quote"):
        Parameter.make("a", '"')


@pytest.mark.parametrize(
    ("text", "value", "end"),
    [
        ("512M", 512 << 20, 4),
        ("0x20000000@0x40000000", 0x20000000, 10),
        ("010", 8, 3),
        ("08", 0, 1),
        ("0x", 0, 1),
        ("0xfzz", 15, 3),
        ("1k2", 1024, 2),
        ("3E", 3 << 60, 2),
        ("16E", 0, 3),  # wraps, as the kernel's does
        ("18446744073709551617", 1, 20),
        ("", 0, 0),
        ("M", 0, 1),
        ("-1", 0, 0),
        ("2Mi", 2 << 20, 2),
        ("1T", 1 << 40, 2),
        ("1p", 1 << 50, 2),
        ("\u0663", 0, 0),  # a digit to Python, not to the kernel
    ],
)
def test_memparse(text: str, value: int, end: int) -> None:
    assert cmdline.memparse(text) == (value, end)


@given(st.integers(0, (1 << 64) - 1))
@example(1000 << 20)
def test_numbers_read_back(value: int) -> None:
    text = cmdline.format_number(value)
    assert cmdline.memparse(text) == (value, len(text))


def test_memory_options() -> None:
    options = cmdline.memory_options(
        cmdline.decode(
            "mem=256M@0x40000000 movablemem=128M@0x50000000 mem=64M movable-node kernelcore=1G kernelcore=25% "
            "movablecore=10% movablecore=2G memhp_default_state=online_movable memory_hotplug.auto_movable_ratio=400 "
            "memory_hotplug.memmap_on_memory cma=64M@0-1G vmalloc=300M"
        )
    )
    assert options.ranges == (
        SizedRange("mem", 256 << 20, 0x40000000),
        SizedRange("movablemem", 128 << 20, 0x50000000),
        SizedRange("mem", 64 << 20),
    )
    assert [str(r.parameter()) for r in options.ranges[1:]] == ["movablemem=128M@0x50000000", "mem=64M"]
    assert options.movable_node
    assert options.kernelcore == Share(1 << 30, 25)
    assert options.movablecore == Share(2 << 30, 0)
    assert not options.kernelcore_mirror
    assert options.memhp_default_state == "online_movable"
    assert options.memory_hotplug == (("auto_movable_ratio", "400"), ("memmap_on_memory", None))
    assert (options.cma, options.vmalloc) == ("64M@0-1G", 300 << 20)
    assert cmdline.memory_options(cmdline.decode("kernelcore=0xaf%")).kernelcore == Share(0, 0xAF)
    assert cmdline.memory_options(cmdline.decode("kernelcore=mirror kernelcore=1G")).kernelcore_mirror


def test_words_without_a_value_say_nothing() -> None:
    assert cmdline.memory_options(cmdline.decode("mem movablemem= kernelcore movablecore vmalloc cma")) == (
        cmdline.MemoryOptions()
    )
