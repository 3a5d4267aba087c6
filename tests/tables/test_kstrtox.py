# SPDX-License-Identifier: Apache-2.0
"""Numbers and switches as the kernel reads them (lib/kstrtox.c), and what a boot makes of its parameters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank.model import Model
from hotbank.numbers import kstrtobool, kstrtouint
from model.small_boards import small_board


@pytest.mark.parametrize("word", ["1", "y", "Y", "yes", "t", "true", "True", "on", "oN", "On now"])
def test_yes(word: str) -> None:
    assert kstrtobool(word) is True


@pytest.mark.parametrize("word", ["0", "n", "no", "f", "false", "off", "OF"])
def test_no(word: str) -> None:
    assert kstrtobool(word) is False


@pytest.mark.parametrize("word", ["", "o", "ox", "2", "force", " y"])
def test_neither(word: str) -> None:
    assert kstrtobool(word) is (False if word == "force" else None)


@given(st.integers(0, (1 << 32) - 1))
def test_any_base(value: int) -> None:
    assert [kstrtouint(text) for text in (str(value), hex(value), f"0{value:o}", f"+{value}\n")] == [value] * 4


@pytest.mark.parametrize("word", ["", "-5", "1K", "4294967296", "0x100000000", "09", "1 ", "99999999999999999999"])
def test_no_number_of_32_bits(word: str) -> None:
    assert kstrtouint(word) is None


@pytest.mark.parametrize(
    ("line", "online", "ratio"),
    [
        ("memory_hotplug.online_policy=auto-movable memory_hotplug.auto_movable_ratio=0x64", "auto-movable", 100),
        ("memory_hotplug.online_policy=foo memory_hotplug.auto_movable_ratio=1K", "contig-zones", 301),
        ("memory_hotplug.auto_movable_ratio=-5", "contig-zones", 301),
    ],
)
def test_what_the_kernel_refuses_changes_nothing(line: str, online: str, ratio: int) -> None:
    policy = Model.boot(small_board(), cmdline=line, backend="reference").snapshot().policy
    assert (policy.online, policy.ratio) == (online, ratio)
