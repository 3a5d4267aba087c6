# SPDX-License-Identifier: Apache-2.0
"""Each finding of the doctor: there when its cause is there, gone when it is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from host import captured_trees as trees
from host.captured_trees import MEMORY, Made, MadeBlock, write
from hotbank import board as boards
from hotbank.cli.doctor import doctor
from hotbank.host.doctor import Severity, examine
from hotbank.host.tree import Tree

BOARD = """
name = "made"
block_size = "128M"
[bank.low]
start = 0x40000000
size = "128M"
[bank.spare]
start = 0x48000000
size = "128M"
movable = true
at_boot = false
route = "kmem"
"""
HEALTHY: Mapping[str, str | bytes] = {
    f"{MEMORY}/auto_online_blocks": "offline\n",
    "proc/sys/kernel/arch": "aarch64\n",
    "proc/iomem": "40000000-47ffffff : System RAM\n48000000-4fffffff : System RAM (kmem)\n",
    "proc/kpageflags": b"",
    "proc/kpagecount": b"",
    "proc/kpagecgroup": b"",
    "proc/kcore": trees.kcore({}, pages=4),
    "proc/meminfo": "MemTotal: 1000 kB\nHugePages_Total:       0\nHardwareCorrupted:     0 kB\n",
    "sys/kernel/kexec_crash_loaded": "0\n",
    "sys/kernel/kexec_loaded": "0\n",
    "sys/power/state": "freeze mem\n",
    "etc/udev/rules.d/10-net.rules": 'SUBSYSTEM=="net", ATTR{state}="online"\n',
    "etc/udev/rules.d/20-off.rules": '# SUBSYSTEM=="memory", ATTR{state}="online"\n',
    "etc/hotbank/board.toml": BOARD,
}
ZONE = "Node 0, zone Normal\n  pages free 5\n        min 1\n        low 1\n        high 1\n        spanned 512\n"
ZONE += "        present 512\n        managed 500\n        cma      64\n  start_pfn: 0\n"
UDEV = 'SUBSYSTEM=="memory", ACTION=="add", ATTR{state}=="offline", ATTR{state}="online"\n'


def healthy(root: Path, *, changes: Mapping[str, str | bytes] | None = None, movable: str = "Movable") -> Tree:
    blocks = (MadeBlock(8), MadeBlock(9, zones=movable))
    return Tree(Made(blocks, files={**HEALTHY, **(changes or {})}).at(root))


def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path) -> None:
    assert examine(healthy(tmp_path)) == ()


CASES: list[tuple[str, Severity, dict[str, str | bytes]]] = [
    ("NO_HOTPLUG", Severity.BLOCKS, {f"{MEMORY}/block_size_bytes": ""}),
    ("NO_HOTREMOVE", Severity.BLOCKS, {f"{MEMORY}/memory8/removable": "0\n"}),
    ("BOOT_MEMORY", Severity.BLOCKS, {"proc/iomem": "40000000-4fffffff : System RAM\n"}),
    ("CANCEL_PENDING", Severity.BLOCKS, {f"{MEMORY}/memory9/state": "going-offline\n"}),
    ("NOT_MOVABLE_ZONE", Severity.BLOCKS, {f"{MEMORY}/memory9/valid_zones": "Normal\n"}),
    ("AUTO_ONLINE", Severity.BLOCKS, {f"{MEMORY}/auto_online_blocks": "online\n"}),
    ("AUTO_ONLINE", Severity.BLOCKS, {f"{MEMORY}/auto_online_blocks": "online_kernel\n"}),
    ("UDEV_ONLINE", Severity.BLOCKS, {"usr/lib/udev/rules.d/40-redhat.rules": UDEV}),
    ("NOT_ALIGNED", Severity.BLOCKS, {f"{MEMORY}/block_size_bytes": "10000000\n"}),
    ("BIG_BLOCKS", Severity.HURTS, {f"{MEMORY}/block_size_bytes": "20000000\n"}),
    ("CMA", Severity.HURTS, {"proc/zoneinfo": ZONE}),
    ("VIEW_MISSING", Severity.HURTS, {"proc/kcore": b"\x7fELF\x01"}),
    ("VIEW_MISSING", Severity.HURTS, {"proc/iomem": "00000000-00000000 : System RAM\n"}),
    ("KDUMP_LOADED", Severity.HURTS, {"sys/kernel/kexec_crash_loaded": "1\n"}),
    ("KEXEC_LOADED", Severity.HURTS, {"sys/kernel/kexec_loaded": "1\n"}),
    (
        "HIBERNATION",
        Severity.HURTS,
        {"sys/power/state": "mem disk\n", "sys/power/disk": "[platform] reboot\n"},
    ),
    ("HUGETLB", Severity.HURTS, {"proc/meminfo": "HugePages_Total:      12\n"}),
    ("POISONED", Severity.HURTS, {"proc/meminfo": "HardwareCorrupted:     4 kB\n"}),
]


@pytest.mark.parametrize(("name", "severity", "changes"), CASES)
def test_each_finding(name: str, severity: Severity, changes: dict[str, str | bytes], tmp_path: Path) -> None:
    found = {f.name: f for f in examine(healthy(tmp_path, changes=changes))}
    assert name in found
    assert found[name].severity is severity
    assert found[name].remedy
    assert "\n" not in found[name].message


@pytest.mark.parametrize(
    "changes",
    [
        {f"{MEMORY}/auto_online_blocks": "online_movable\n"},
        {"usr/lib/udev/rules.d/40-redhat.rules": UDEV, "etc/udev/rules.d/40-redhat.rules": ""},
        {"usr/lib/udev/rules.d/40-x.rules": UDEV.replace('="online"', '="online_movable"')},
        {"sys/power/state": "mem disk\n", "sys/power/disk": "[disabled]\n"},
    ],
)
def test_what_looks_alike_and_is_fine(changes: dict[str, str | bytes], tmp_path: Path) -> None:
    assert examine(healthy(tmp_path, changes=changes)) == ()


@pytest.mark.parametrize("name", ["kpageflags", "kpagecount", "kpagecgroup", "kcore", "iomem"])
def test_a_missing_view(name: str, tmp_path: Path) -> None:
    tree = healthy(tmp_path)
    (tmp_path / "proc" / name).unlink()
    assert [f.name for f in examine(tree)] == ["VIEW_MISSING"]


def test_a_board_given_in_place_of_the_machines_own(tmp_path: Path) -> None:
    other = boards.loads(BOARD.replace("at_boot = false\n", "").replace('route = "kmem"', ""))
    changes = {f"{MEMORY}/auto_online_blocks": "online\n"}
    (finding,) = examine(healthy(tmp_path, changes=changes), other)
    assert (finding.name, finding.severity) == ("AUTO_ONLINE", Severity.INFO)  # this board adds no bank


@pytest.mark.parametrize("dump", trees.DUMPS, ids=lambda path: path.stem)
def test_captured_kernels(dump: Path, tmp_path: Path) -> None:
    found = {f.name for f in examine(Tree(trees.from_dump(dump, tmp_path)))}
    assert {"BOOT_MEMORY", "NO_MOVABLE_ZONE", "CMA"} <= found
    assert ("AUTO_ONLINE" in found) == dump.stem.startswith("7.3")


def test_exit_status_text_and_json(tmp_path: Path) -> None:
    tree = healthy(tmp_path / "good")
    done = CliRunner().invoke(doctor, ["--sysroot", tree.root], standalone_mode=False)
    assert (done.return_value, done.stdout) == (0, "nothing found\n")
    bad = healthy(tmp_path / "bad", changes={f"{MEMORY}/auto_online_blocks": "online\n"})
    done = CliRunner().invoke(doctor, ["--sysroot", bad.root], standalone_mode=False)
    assert done.return_value == 1
    assert done.stdout.startswith("blocks AUTO_ONLINE: ")
    done = CliRunner().invoke(doctor, ["--sysroot", bad.root, "--json"], standalone_mode=False)
    assert [f["name"] for f in json.loads(done.stdout)["findings"]] == ["AUTO_ONLINE"]
    write(tmp_path / "bad", {f"{MEMORY}/auto_online_blocks": "offline\n", "sys/kernel/kexec_loaded": "1\n"})
    assert CliRunner().invoke(doctor, ["--sysroot", bad.root], standalone_mode=False).return_value == 0
