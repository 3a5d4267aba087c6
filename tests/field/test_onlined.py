# SPDX-License-Identifier: Apache-2.0
"""Who brought a block online: four answers, and none that nothing supports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from field.trees import FREE, Run, Zoned, machine
from hotbank.errors import Code, Finding, Severity
from hotbank.host import Host
from hotbank.machine import Block, Snapshot
from hotbank.memory import MIB, BlockState, Range
from hotbank.operate.journal import Before, Entry, Row
from hotbank.operate.onlined import By, onlined_by

KMEM = "100000000-107ffffff : System RAM (kmem)"
RULE = 'SUBSYSTEM=="memory", ACTION=="add", ATTR{state}="online"\n'
BOOT = "1f2e"


def host(root: Path, zone: str = "Normal", policy: str = "offline", rules: str = "", boot_id: str = BOOT) -> Host:
    files = {
        "sys/devices/system/memory/auto_online_blocks": f"{policy}\n",
        "proc/sys/kernel/random/boot_id": f"{boot_id}\n",
        "lib/udev/rules.d/40-x.rules": rules,
    }
    return Host(machine(root, 32, [Run(FREE, 32768)], Zoned(zone), iomem=KMEM, files=files))


def journal(*rows: Row, boot_id: str = BOOT) -> tuple[Entry, ...]:
    return (Entry(1, 1, Before("add", ("b",), boot_id), 0.0, rows, Code.OK),)


def who(own: Host, history: tuple[Entry, ...] = ()) -> tuple[By, str] | None:
    snapshot = own.snapshot()
    block = snapshot.block(32)
    assert block is not None
    found = onlined_by(snapshot, block, own.survey(32).boot, history, own.doctor())
    return None if found is None else (found.by, found.where)


_BLOCK = Block(32, Range.sized(32 * 128 * MIB, 128 * MIB), BlockState.ONLINE, ("Normal",), 0)
_SNAPSHOT = Snapshot("m", "x86_64", 4096, 128 * MIB, BOOT, (_BLOCK,))
OURS = Row("online", "memory32", Code.OK)


def test_hotbank(tmp_path: Path) -> None:
    assert who(host(tmp_path, policy="online", rules=RULE), journal(OURS)) == (By.HOTBANK, "its journal")


@pytest.mark.parametrize(
    "history",
    [
        journal(OURS, boot_id="another"),
        journal(OURS, Row("offline", "memory32", Code.OK)),
        journal(Row("online", "memory32", Code.RACED)),
        journal(Row("online", "memory32")),
        journal(Row("online", "memory33", Code.OK)),
    ],
)
def test_what_the_journal_does_not_say_is_not_ours(tmp_path: Path, history: tuple[Entry, ...]) -> None:
    assert who(host(tmp_path), history) == (By.UNKNOWN, "")


@pytest.mark.parametrize(
    ("policy", "zone", "by"),
    [
        ("online", "Normal", By.KERNEL),
        ("online", "Movable", By.KERNEL),
        ("online_movable", "Movable", By.KERNEL),
        ("online_kernel", "Normal", By.KERNEL),
        ("online_movable", "Normal", By.UNKNOWN),  # it was put there otherwise
        ("online_kernel", "Movable", By.UNKNOWN),
        ("offline", "Normal", By.UNKNOWN),
    ],
)
def test_the_kernels_policy(tmp_path: Path, policy: str, zone: str, by: By) -> None:
    found = who(host(tmp_path, zone, policy))
    assert found == ((by, f"auto_online_blocks is {policy}") if by is By.KERNEL else (by, ""))


def test_a_rule_with_file_and_line(tmp_path: Path) -> None:
    assert who(host(tmp_path, rules="# one\n" + RULE)) == (By.UDEV, "/lib/udev/rules.d/40-x.rules:2")
    assert who(host(tmp_path / "open", rules='RESULT=="x", ' + RULE)) == (By.UNKNOWN, "")
    assert who(host(tmp_path / "movable", "Movable", rules=RULE)) == (By.UNKNOWN, "")


@pytest.mark.parametrize(
    ("zone", "second", "known"), [("Movable", "", True), ("Normal", "", False), ("Movable", RULE, True)]
)
def test_a_rule_for_zone_movable(tmp_path: Path, zone: str, second: str, known: bool) -> None:
    """The first to act is who it was; a later one finds the block online."""
    later = second.replace("ACTION", 'ATTR{state}=="offline", ACTION')
    found = who(host(tmp_path, zone, rules=RULE.replace("online", "online_movable") + later))
    assert found == ((By.UDEV, "/lib/udev/rules.d/40-x.rules:1") if known else (By.UNKNOWN, ""))


@given(st.booleans(), st.sampled_from([True, False, None]), st.lists(st.sampled_from(["", "/a:1", "/b:2"]), max_size=3))
def test_nothing_is_guessed(online: bool, boot: bool | None, rules: list[str]) -> None:
    """Without a journal and a policy only one sure rule is an answer."""
    findings = [Finding("UDEV_ONLINE", Severity.INFO, "m", "r", where) for where in rules]
    block = replace(_BLOCK, state=BlockState.ONLINE if online else BlockState.OFFLINE)
    found = onlined_by(replace(_SNAPSHOT, blocks=(block,)), block, boot, (), findings)
    if not online or boot:
        assert found is None
    else:
        sure = boot is False and len(rules) == 1 and rules[0] != ""
        assert found is not None
        assert found.by is (By.UDEV if sure else By.UNKNOWN)
