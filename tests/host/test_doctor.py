# SPDX-License-Identifier: Apache-2.0
"""Each finding of the doctor: there when its cause is there, gone when it is not."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from contract.promises import the_doctor_reads_the_machines_own_files
from host import captured_trees as trees
from host.captured_trees import MEMORY, Made, MadeBlock, write
from hotbank import board as boards
from hotbank.cli.board import board as command
from hotbank.cli.context import Context
from hotbank.cli.doctor import doctor
from hotbank.errors import BoardError, Code, Refusal, Severity
from hotbank.host import Host
from hotbank.host.doctor import examine
from hotbank.host.tree import Tree
from hotbank.serve.local import attached
from hotbank.serve.owner import Owner
from hotbank.serve.state import listen
from hotbank.sysfs.names import OSRELEASE, PARAMETERS
from patience import ended

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


OWN_MEMMAP: dict[str, str | bytes] = {f"{PARAMETERS}/memmap_on_memory": "Y\n", OSRELEASE: "7.1.13+deb13-arm64\n"}

SWAPPED = "00000000-3fffffff : System RAM\n50000000-9fffffff : System RAM\n  50000000-98ffffff : Crash kernel\n"
CASES: list[tuple[str, Severity, dict[str, str | bytes]]] = [
    ("NO_HOTPLUG", Severity.BLOCKS, {f"{MEMORY}/block_size_bytes": ""}),
    ("NO_HOTREMOVE", Severity.BLOCKS, {f"{MEMORY}/memory{n}/removable": "0\n" for n in (8, 9)}),
    ("NOT_REMOVABLE", Severity.INFO, {f"{MEMORY}/memory8/removable": "0\n"}),
    ("BOOT_MEMORY", Severity.BLOCKS, {"proc/iomem": "40000000-4fffffff : System RAM\n"}),
    ("OWN_MEMMAP", Severity.BLOCKS, OWN_MEMMAP),
    ("OWN_MEMMAP", Severity.BLOCKS, {**OWN_MEMMAP, f"{PARAMETERS}/memmap_on_memory": "force\n"}),
    ("OWN_MEMMAP", Severity.HURTS, {**OWN_MEMMAP, "etc/hotbank/board.toml": BOARD.replace("kmem", "driver")}),
    ("CANCEL_PENDING", Severity.BLOCKS, {f"{MEMORY}/memory9/state": "going-offline\n"}),
    ("NOT_MOVABLE_ZONE", Severity.BLOCKS, {f"{MEMORY}/memory9/valid_zones": "Normal\n"}),
    ("AUTO_ONLINE", Severity.HURTS, {f"{MEMORY}/auto_online_blocks": "online\n"}),
    ("AUTO_ONLINE", Severity.HURTS, {f"{MEMORY}/auto_online_blocks": "online_kernel\n"}),
    ("UDEV_ONLINE", Severity.BLOCKS, {"usr/lib/udev/rules.d/40-redhat.rules": UDEV}),
    (
        "UDEV_MOVABLE",
        Severity.INFO,
        {"usr/lib/udev/rules.d/40-x.rules": UDEV.replace('="online"', '="online_movable"')},
    ),
    ("NOT_ALIGNED", Severity.BLOCKS, {f"{MEMORY}/block_size_bytes": "10000000\n"}),
    ("BIG_BLOCKS", Severity.HURTS, {f"{MEMORY}/block_size_bytes": "20000000\n"}),
    ("CMA", Severity.HURTS, {"proc/zoneinfo": ZONE}),
    ("VIEW_MISSING", Severity.HURTS, {"proc/kcore": b"\x7fELF\x01"}),
    ("VIEW_MISSING", Severity.HURTS, {"proc/iomem": "00000000-00000000 : System RAM\n"}),
    ("KDUMP_LOADED", Severity.HURTS, {"sys/kernel/kexec_crash_loaded": "1\n"}),
    ("KDUMP_LOADED", Severity.HURTS, {"sys/kernel/kexec_crash_loaded": "1\n", f"{MEMORY}/crash_hotplug": "0\n"}),
    ("KEXEC_LOADED", Severity.HURTS, {"sys/kernel/kexec_loaded": "1\n", f"{MEMORY}/crash_hotplug": "1\n"}),
    ("KEXEC_LOADED", Severity.HURTS, {"sys/kernel/kexec_loaded": "1\n"}),
    ("KDUMP_KEEPS", Severity.INFO, {"proc/sys/kernel/arch": "s390x\n", "proc/iomem": SWAPPED}),
    (
        "HIBERNATION",
        Severity.HURTS,
        {"sys/power/state": "mem disk\n", "sys/power/disk": "[platform] reboot\n"},
    ),
    ("HUGETLB", Severity.HURTS, {"proc/meminfo": "HugePages_Total:      12\n"}),
    ("HUGETLB", Severity.HURTS, {"proc/sys/vm/movable_gigantic_pages": "1\n"}),
    ("POISONED", Severity.HURTS, {"proc/meminfo": "HardwareCorrupted:     4 kB\n"}),
]


@pytest.mark.parametrize(("name", "severity", "changes"), CASES)
def test_each_finding(name: str, severity: Severity, changes: dict[str, str | bytes], tmp_path: Path) -> None:
    found = {f.code: f for f in examine(healthy(tmp_path, changes=changes))}
    assert name in found
    assert found[name].severity is severity
    assert found[name].remedy
    assert "\n" not in found[name].message


@pytest.mark.parametrize(
    "changes",
    [
        {f"{MEMORY}/auto_online_blocks": "online_movable\n"},
        {"usr/lib/udev/rules.d/40-redhat.rules": UDEV, "etc/udev/rules.d/40-redhat.rules": ""},
        {"sys/power/state": "mem disk\n", "sys/power/disk": "[disabled]\n"},
        {**OWN_MEMMAP, OSRELEASE: "7.0.13+deb13-arm64\n"},
        {**OWN_MEMMAP, f"{PARAMETERS}/memmap_on_memory": "N\n"},
        {**OWN_MEMMAP, "proc/sys/kernel/arch": "x86_64\n"},
        {"sys/kernel/kexec_crash_loaded": "1\n", f"{MEMORY}/crash_hotplug": "1\n"},
        {"proc/sys/kernel/arch": "x86_64\n", "proc/iomem": SWAPPED},
        {"proc/sys/kernel/arch": "s390x\n", "proc/iomem": SWAPPED.replace("98ffffff", "58ffffff")},
    ],
)
def test_what_looks_alike_and_is_fine(changes: dict[str, str | bytes], tmp_path: Path) -> None:
    assert examine(healthy(tmp_path, changes=changes)) == ()


def test_a_crash_kernel_whose_addresses_are_hidden_keeps_nothing(tmp_path: Path) -> None:
    first = {"state": "online\n", "valid_zones": "Movable\n", "phys_index": "00000000\n"}
    hidden = "00000000-00000000 : System RAM\n  00000000-00000000 : Crash kernel\n"
    changes = {"proc/sys/kernel/arch": "s390x\n", "proc/iomem": hidden}
    found = examine(healthy(tmp_path, changes={**changes, **{f"{MEMORY}/memory0/{k}": v for k, v in first.items()}}))
    assert {f.code for f in found} == {"VIEW_MISSING"}


FAR = BOARD.replace("0x48000000", "0x68000000")
PMEM: dict[str, str | bytes] = {
    "sys/bus/nd/devices/region0/resource": "0x47ff0000\n",
    "sys/bus/nd/devices/region0/size": f"{256 << 20}\n",
}
NODES = BOARD.replace("movable = true", "movable = true\nnode = 1")
SWITCHED = BOARD + 'domain = "ddr"\n[domain.ddr]\nstates = ["on", "off"]\nswitch = "regulator"\nregulator = "vdd"\n'
RAIL, CONSUMER = "sys/class/regulator/regulator.1", "sys/bus/platform/drivers/reg-userspace-consumer/vdd"
RAILS: dict[str, str | bytes] = {
    f"{RAIL}/name": "vdd\n",
    f"{RAIL}/state": "enabled\n",
    f"{CONSUMER}/name": "vdd\n",
    f"{CONSUMER}/state": "enabled\n",
}
MISPLACED: list[tuple[str, str, dict[str, str | bytes]]] = [
    (
        "NO_MEMORY",
        BOARD.replace('size = "128M"\n[bank.spare]', 'size = "1G"\n[bank.spare]').replace("0x48", "0x88"),
        {},
    ),
    ("NO_DEVICE", FAR, PMEM),
    ("OTHER_NODE", NODES, {}),
    ("BAD_SWITCH", SWITCHED, {}),
    ("BAD_SWITCH", SWITCHED, {**RAILS, f"{CONSUMER}/name": "other\n"}),
    ("BAD_SWITCH", SWITCHED, {**RAILS, f"{RAIL}/state": "disabled\n"}),
]


@pytest.mark.parametrize(("name", "board", "changes"), MISPLACED)
def test_what_the_board_says_and_the_machine_does_not(
    name: str, board: str, changes: dict[str, str | bytes], tmp_path: Path
) -> None:
    """And nothing is said where it is so."""
    found = {f.code: f for f in examine(healthy(tmp_path, changes=changes), boards.loads(board))}
    assert name in found
    assert found[name].remedy


@pytest.mark.parametrize(
    ("board", "changes"),
    [(BOARD, PMEM), (FAR, {}), (NODES.replace("node = 1", "node = 0"), {}), (SWITCHED, RAILS)],
)
def test_where_the_machine_is_as_the_board_says(board: str, changes: dict[str, str | bytes], tmp_path: Path) -> None:
    codes = {finding.code for finding in examine(healthy(tmp_path, changes=changes), boards.loads(board))}
    assert not codes & {"NO_MEMORY", "NO_DEVICE", "OTHER_NODE", "BAD_SWITCH"}


class Running(Tree):
    """A captured tree that is taken for the machine that runs us, so that programs are run."""

    @property
    def running(self) -> bool:
        return True


PROGRAMS = """
domain = "ddr"
[domain.ddr]
states = ["on", "off"]
switch = "command"
on = ["true"]
off = ["true"]
status = ["echo", "on"]
"""


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            'off = ["true"]',
            'off = ["/nowhere/ddrctl", "off"]',
            "ddr: /nowhere/ddrctl, its program for off, can't be run",
        ),
        ('["echo", "on"]', '["no-such-program"]', "no-such-program, its program for status, can't be run here"),
        ('["echo", "on"]', '["echo", "off"]', "domain ddr is off by its switch, and memory9 of it is in the kernel"),
        ('["echo", "on"]', '["echo", "enabled"]', "exited with 0 and said 'enabled"),
        ('["echo", "on"]', '["false"]', "false exited with 1"),
    ],
)
def test_programs_are_there_and_say_what_is_so(old: str, new: str, said: str, tmp_path: Path) -> None:
    board = (BOARD + PROGRAMS).replace('arch = "arm64"', "")
    tree = Running(healthy(tmp_path).root)
    assert "BAD_SWITCH" not in {finding.code for finding in examine(tree, boards.loads(board))}
    assert board.count(old) == 1
    (finding,) = [f for f in examine(tree, boards.loads(board.replace(old, new))) if f.code == "BAD_SWITCH"]
    assert said in finding.message


def test_a_switch_that_is_somewhere_else_is_said_to_be(tmp_path: Path) -> None:
    board = boards.loads(BOARD + 'domain = "ddr"\n[domain.ddr]\nstates = ["on", "off"]\nswitch = "machine"\n')
    tree = healthy(tmp_path)
    assert not {finding.code for finding in examine(tree, board)} & {"NO_SWITCH", "BAD_SWITCH"}
    (finding,) = [f for f in examine(Running(tree.root), board) if "SWITCH" in f.code]
    assert (finding.code, finding.severity) == ("NO_SWITCH", Severity.HURTS)


def test_programs_of_another_machine_are_not_run(tmp_path: Path) -> None:
    board = boards.loads(BOARD + PROGRAMS.replace('"echo", "on"', f'"touch", "{tmp_path}/ran"'))
    assert "BAD_SWITCH" not in {finding.code for finding in examine(healthy(tmp_path), board)}
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["kpageflags", "kpagecount", "kpagecgroup", "kcore", "iomem"])
def test_a_missing_view(name: str, tmp_path: Path) -> None:
    tree = healthy(tmp_path)
    (tmp_path / "proc" / name).unlink()
    assert [f.code for f in examine(tree)] == ["VIEW_MISSING"]


def test_a_board_given_in_place_of_the_machines_own(tmp_path: Path) -> None:
    other = boards.loads(BOARD.replace("at_boot = false\n", "").replace('route = "kmem"', ""))
    changes = {f"{MEMORY}/auto_online_blocks": "online\n"}
    (finding,) = examine(healthy(tmp_path, changes=changes), other)
    assert (finding.code, finding.severity) == ("AUTO_ONLINE", Severity.INFO)  # this board adds no bank


@pytest.mark.parametrize("dump", trees.DUMPS, ids=lambda path: path.stem)
def test_captured_kernels(dump: Path, tmp_path: Path) -> None:
    found = {f.code for f in examine(Tree(trees.from_dump(dump, tmp_path)))}
    assert {"BOOT_MEMORY", "NO_MOVABLE_ZONE", "CMA"} <= found
    assert ("AUTO_ONLINE" in found) == dump.stem.startswith("7.3")


def run(*arguments: str, machine: str | None = None) -> Result:
    return CliRunner().invoke(doctor, arguments, standalone_mode=False, obj=Context(machine))


def test_a_board_of_another_machine_is_said_first(tmp_path: Path) -> None:
    """32-bit ARM with blocks of 64M, held against arm64 with blocks of 128M: nothing else is said of its banks."""
    changes = {"sys/kernel/kexec_loaded": "1\n"}
    found = examine(healthy(tmp_path, changes=changes, movable="Normal"), boards.load("arm-2009"))
    assert [f.code for f in found] == ["OTHER_BOARD", "NO_MOVABLE_ZONE", "KEXEC_LOADED"]
    assert found[0].message == "board arm-2009 is of arm with blocks of 64M, this machine arm64 with 128M"


def test_a_board_is_checked_against_a_machine(tmp_path: Path) -> None:
    tree = healthy(tmp_path / "tree")
    (tmp_path / "mine.toml").write_text(BOARD)
    fits = check("mine.toml", tree.root, tmp_path)
    assert (fits.return_value, fits.stdout.splitlines()[1:]) == (0, [f"machine   {tree.root}", "nothing found"])
    other = check("arm-2009", tree.root, tmp_path)
    assert (other.return_value, other.stdout.splitlines()[2].split(":")[0]) == (1, "blocks OTHER_BOARD")


def check(board: str, root: str, folder: Path) -> Result:
    name = str(folder / board) if board.endswith(".toml") else board
    arguments = ["check", name, "--host", "--sysroot", root]
    return CliRunner().invoke(command, arguments, standalone_mode=False, obj=Context(None))


def test_blocks_of_another_size_are_said_first(tmp_path: Path) -> None:
    board = boards.loads(BOARD.replace('block_size = "128M"', 'block_size = "64M"'))
    codes = [f.code for f in examine(healthy(tmp_path, movable="Normal"), board)]
    assert codes == ["OTHER_BOARD", "NOT_MOVABLE_ZONE"]


def test_a_machine_is_examined_where_its_files_are(tmp_path: Path) -> None:
    """Over a socket, as ssh: and unix: do; with the machine's own board, and one that is given."""
    tree = healthy(tmp_path, changes={f"{MEMORY}/auto_online_blocks": "online\n"})
    with attached(Owner(Host(tree.root))) as machine:
        assert machine.doctor() == examine(tree)
        the_doctor_reads_the_machines_own_files(machine)
        codes = [f.code for f in machine.doctor(boards.read("arm-2009"))]
        assert codes[0] == "OTHER_BOARD"
        with pytest.raises(BoardError):
            machine.doctor("board = ")


def test_the_machine_that_is_named_is_examined(tmp_path: Path) -> None:
    tree = healthy(tmp_path / "tree", changes={"usr/lib/udev/rules.d/40-redhat.rules": UDEV})
    with listen(tmp_path / "socket") as listener:
        owner = Owner(Host(tree.root))
        thread = threading.Thread(target=owner.serve, args=(listener,))
        thread.start()
        try:
            argv = [sys.executable, "-m", "hotbank", "-m", f"unix:{tmp_path}/socket", "doctor"]
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
        finally:
            owner.stop()
            ended(thread)
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, f"machine   {tree.root}")
    assert "UDEV_ONLINE" in done.stdout


def test_a_model_has_no_files_to_look_at() -> None:
    done = run(machine="model:arm-2009")
    assert isinstance(done.exception, Refusal)
    assert (done.exception.code, done.stdout) == (Code.UNSUPPORTED, "")
    assert "model:arm-2009" in str(done.exception)


def test_exit_status_text_and_json(tmp_path: Path) -> None:
    tree = healthy(tmp_path / "good")
    done = run("--sysroot", tree.root)
    assert (done.return_value, done.stdout) == (0, f"machine   {tree.root}\nnothing found\n")
    bad = healthy(tmp_path / "bad", changes={"usr/lib/udev/rules.d/40-redhat.rules": UDEV})
    done = run("--sysroot", bad.root)
    assert done.return_value == 1
    assert done.stdout.startswith(f"machine   {bad.root}\nblocks UDEV_ONLINE: ")
    done = run("--sysroot", bad.root, "--json")
    assert [f["code"] for f in json.loads(done.stdout)["findings"]] == ["UDEV_ONLINE"]
    write(tmp_path / "bad", {"usr/lib/udev/rules.d/40-redhat.rules": "", "sys/kernel/kexec_loaded": "1\n"})
    assert run("--sysroot", bad.root).return_value == 0
