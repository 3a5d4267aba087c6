# SPDX-License-Identifier: Apache-2.0
"""The parts that make a guest, without one: banks' files, the archive, what a board must be, errors in one line."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank import board
from hotbank.board import Board
from hotbank.boards_qemu import Wanted, arm32, arm64, prepare
from hotbank.boards_qemu.dram import BankFile, BankSwitch, create, discard
from hotbank.boards_qemu.gpio import GpioSwitch, lines_of
from hotbank.boards_qemu.leftovers import new_folder, sweep, sweep_links
from hotbank.boards_qemu.parts import bank_module, elf, kmodules, packages
from hotbank.boards_qemu.parts.cpio import Cpio
from hotbank.boards_qemu.parts.inside import package_files
from hotbank.boards_qemu.parts.packages import Archive
from hotbank.boards_qemu.port import GuestBoot
from hotbank.boards_qemu.qemu import Qemu
from hotbank.boards_qemu.shell import Runner
from hotbank.errors import BoardError, FormatError, MachineError, SwitchError
from hotbank.firmware import devicetree, fdt
from hotbank.guest.agent import wait_for_somebody
from hotbank.machine import Machine
from hotbank.memory import MIB, Power, Range
from patience import HANG, ended

SMALL = Path(__file__).parent / "arm64" / "small.toml"


def test_a_dark_bank_is_empty_and_comes_back_as_noise(tmp_path: Path) -> None:
    file = BankFile(tmp_path / "high", 4 * MIB)
    switch = BankSwitch("ddr", [file])
    file.path.write_bytes(b"content" * 1000)
    assert file.resident > 0
    switch.turn(Power.OFF)
    assert (switch.status(), file.resident) == (Power.OFF, 0)
    switch.turn(Power.ON)
    noise = file.path.read_bytes()
    assert (switch.status(), len(noise), noise.count(0) < len(noise) // 100) == (Power.ON, 4 * MIB, True)
    assert b"content" not in noise
    file.close()


def test_a_touched_dark_bank_is_found(tmp_path: Path) -> None:
    file = BankFile(tmp_path / "high", 4 * MIB)
    switch = BankSwitch("ddr", [file])
    switch.turn(Power.OFF)
    with open(file.path, "r+b") as touched:
        touched.seek(MIB)
        touched.write(b"x")
    with pytest.raises(SwitchError, match="touched while dark"):
        switch.status()
    file.close()


def test_a_bank_that_has_no_room_to_come_back_stays_dark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = BankFile(tmp_path / "high", 32 * MIB)
    file.switch_off()
    write = os.pwrite

    def full(descriptor: int, data: bytes, at: int) -> int:
        if at >= 16 * MIB:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data, at)

    monkeypatch.setattr("os.pwrite", full)
    with pytest.raises(SwitchError, match="No space left"):
        file.switch_on()
    assert (file.power, file.resident) == (Power.OFF, 0)
    file.close()


class Fed:
    """A guest with a driver, and its lines, of which one may not do what the driver says."""

    def __init__(self, file: BankFile) -> None:
        self.says, self.high, self.broken, self._file = Power.ON, {0: True, 1: True}, set[int](), file
        self.seen: list[tuple[Power, int]] = []

    def power(self, domain: str) -> Power:
        return self.says

    def set_power(self, domain: str, want: Power) -> None:
        self.seen.append((want, self._file.resident))
        self.says = want
        self.high |= dict.fromkeys(self.high.keys() - self.broken, want is Power.ON)

    def switch(self) -> GpioSwitch:
        lines = {line: partial(self.high.__getitem__, line) for line in self.high}
        machine = cast(Machine, self)
        return GpioSwitch("ddr", BankSwitch("ddr", [self._file]), lambda: machine, lambda: machine, lines)


def test_content_goes_after_its_supply_and_comes_after_it(tmp_path: Path) -> None:
    file = BankFile(tmp_path / "high", 4 * MIB)
    file.path.write_bytes(b"x" * 4 * MIB)
    fed = Fed(file)
    for want in (Power.OFF, Power.ON):
        fed.switch().turn(want)
        assert fed.switch().status() is want
    assert fed.seen == [(Power.OFF, 4 * MIB), (Power.ON, 0)]
    file.close()


@pytest.mark.parametrize("want", [Power.OFF, Power.ON])
def test_a_line_that_does_not_follow_its_driver(tmp_path: Path, want: Power) -> None:
    file = BankFile(tmp_path / "high", 4 * MIB)
    fed = Fed(file)
    if want is Power.ON:
        fed.switch().turn(Power.OFF)
    fed.broken, before = {1}, file.power
    with pytest.raises(SwitchError, match=f"says that domain ddr is {want}; line 1 is"):
        fed.switch().turn(want)
    assert (file.power, fed.switch().status()) == (before, Power.UNKNOWN)
    file.close()


@pytest.mark.parametrize("wrong", ["driver", "line", "content"])
def test_what_does_not_agree_on_the_power_leaves_it_unknown(tmp_path: Path, wrong: str) -> None:
    file = BankFile(tmp_path / "high", 4 * MIB)
    fed = Fed(file)
    assert fed.switch().status() is Power.ON
    if wrong == "driver":
        fed.says = Power.OFF
    elif wrong == "line":
        fed.high[1] = False
    else:
        file.switch_off()
    assert fed.switch().status() is Power.UNKNOWN
    file.close()


def test_each_domain_of_the_driver_has_a_line() -> None:
    """Not one with a bank that never leaves, nor with a bank of another route, nor with a switch of the board's own."""
    text = 'name = "b"\narch = "arm64"\nblock_size = "128M"\n'
    routes = {"a": "driver", "b": "driver", "c": "kmem", "d": "driver", "e": "driver", "f": "driver"}
    domains = {"a": "one", "b": "one", "c": "two", "d": "two", "e": "three", "f": "four"}
    for number, bank in enumerate(routes):
        text += f'[bank.{bank}]\nstart = {0x4000_0000 + number * 0x800_0000}\nsize = "128M"\nmovable = true\n'
        text += f'route = "{routes[bank]}"\ndomain = "{domains[bank]}"\nat_boot = {str(bank == "e").lower()}\n'
    for domain in ("one", "two", "three", "four"):
        text += f'[domain.{domain}]\nstates = ["on", "off"]\nswitch = "machine"\n'
    assert lines_of(board.loads(text)) == {"a": 0, "b": 0, "f": 1}
    by_command = text.replace('switch = "machine"', 'switch = "regulator"\nregulator = "vdd"')
    assert lines_of(board.loads(by_command)) == {}


def test_banks_of_one_line_share_a_supply(tmp_path: Path) -> None:
    pair = board.load(SMALL.with_name("pair.toml"))
    boot = GuestBoot(Path("kernel"), Path("initrd"), supplies=lines_of(pair))
    gpio = fdt.Node("pl061", (("compatible", fdt.strings("arm,pl061")), ("phandle", fdt.cells(7))))
    bare = devicetree.empty("virt", "virt")
    tree = arm64.device_tree(replace(bare, root=fdt.edit(bare.root, ["pl061"], gpio)), pair, boot, Range(0, 0))
    supplies = [node for _, node in tree.walk() if "regulator-fixed" in node.strings("compatible")]
    wanted = [node.u32s("bank-supply") for _, node in tree.walk() if "hotbank,bank" in node.strings("compatible")]
    assert len(supplies) == 1
    assert wanted == [supplies[0].u32s("phandle")] * 2
    assert supplies[0].u32s("gpio") == (7, 0, 0)


def test_banks_need_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(NamedTuple):
        f_bavail: int = 1
        f_frsize: int = 4096

    files = create(board.load(SMALL), tmp_path)
    discard(files)
    assert not tmp_path.exists()
    monkeypatch.setattr("os.statvfs", lambda _folder: Full())
    with pytest.raises(MachineError, match="need 768"):
        create(board.load(SMALL), tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "wrong"),
    [
        ('arch = "arm64"', 'arch = "arm"', "arch"),
        ("start = 0x60000000", "start = 0x68000000", "no gaps"),
        ("start = 0x40000000", "start = 0x38000000", "0x40000000"),
        ('route = "driver"', 'route = "virtio-mem"', "device memory"),
    ],
)
def test_a_board_that_qemu_can_not_be(old: str, new: str, wrong: str) -> None:
    text = SMALL.read_text(encoding="utf-8")
    assert old in text
    with pytest.raises(BoardError, match=wrong):
        arm64.check(board.loads(text.replace(old, new)))


def test_what_a_guest_printed_last_is_plain_text(tmp_path: Path) -> None:
    (tmp_path / "console.log").write_bytes(b"Run /init\r\n\r\n\x1b[6n\x1b[1;32mguest#\x1b[0m \x07reboot\r\n\x1b[6n")
    machine = Qemu.__new__(Qemu)
    machine.folder = tmp_path
    assert machine.last_lines(5) == "Run /init\nguest# reboot"


@pytest.mark.parametrize(
    "line",
    [
        "[    2.9] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)",
        "CONFIG_VIRTIO_CONSOLE is missing: no port to the host",
    ],
)
def test_a_guest_that_gave_up_is_not_waited_for(tmp_path: Path, line: str) -> None:
    (tmp_path / "console.log").write_text(f"Run /init\r\n{line}\r\n")
    machine = Qemu.__new__(Qemu)
    machine.folder, machine._ended, machine._open_ports = tmp_path, False, set()
    machine._changed = threading.Condition()
    with pytest.raises(MachineError) as caught:
        machine.wait_open("agent", 10 * HANG)
    assert caught.value.message == f"the guest stopped: {line.removeprefix('[    2.9] ')}"


def test_the_32_bit_port_is_of_two_series(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"port is of 6\.1 and 6\.12, not of 6\.16"):
        prepare(Wanted("arm-2009", series="6.16"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_driver_hears_which_banks_it_adds_by_itself() -> None:
    small = board.load("arm-2009")
    tree = arm32.device_tree(devicetree.empty("virt", "virt"), small, ["high"])
    flags = {node.name: [name for name, _ in node.properties if name.startswith("hotbank,")] for _, node in tree.walk()}
    assert flags["bank@50000000"] == ["hotbank,at-boot", "hotbank,default-on"]


def test_the_tree_hides_the_bank_and_describes_it(tmp_path: Path) -> None:
    tree = booted_tree(board.load(SMALL))
    memory = devicetree.memory_map(tree)
    assert [region.range for region in memory.regions] == [Range(0x40000000, 0x60000000)]
    assert [(b.source, b.range) for b in devicetree.banks(tree)] == [("high", Range(0x60000000, 0x70000000))]
    assert memory.initrd == Range(0x48000000, 0x49000000)
    assert memory.cmdline == "console=ttyAMA0 quiet"
    assert fdt.decode(fdt.encode(tree)) == tree


def test_the_kmem_bank_begins_below_its_start() -> None:
    text = SMALL.read_text(encoding="utf-8").replace('route = "driver"', 'route = "kmem"')
    memory = devicetree.memory_map(booted_tree(board.loads(text)))
    assert [region.range for region in memory.pmem] == [Range(0x60000000 - arm64.INFO_BLOCK, 0x70000000)]
    assert [(r.range.end, r.node) for r in memory.regions] == [(0x60000000 - arm64.INFO_BLOCK, 0)]


def booted_tree(wanted: Board) -> fdt.Tree:
    """The board's tree on a machine that describes nothing."""
    boot = GuestBoot(Path("kernel"), Path("initrd"), "quiet")
    return arm64.device_tree(devicetree.empty("virt", "virt"), wanted, boot, Range(0x48000000, 0x49000000))


def test_the_stub_is_forty_bytes() -> None:
    code = arm64.stub(0x4400_0000, 0x4020_0000)
    assert len(code) == 40
    assert code[24:] == (0x4400_0000).to_bytes(8, "little") + (0x4020_0000).to_bytes(8, "little")


@pytest.mark.kernel
def test_the_archive_as_cpio_reads_it(tmp_path: Path) -> None:
    archive = Cpio()
    archive.file("bin/tool", "#!/bin/sh\n", 0o755)
    archive.link("bin/other", "tool")
    archive.file("etc/data", b"\0" * 5)
    subprocess.run(["cpio", "-id", "--quiet"], input=archive.finished(), cwd=tmp_path, check=True)
    assert (tmp_path / "bin/other").readlink() == Path("tool")
    assert (tmp_path / "bin/tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "etc/data").read_bytes() == b"\0" * 5


def test_a_guest_carries_no_command_line_and_no_model() -> None:
    names = [name for name, _ in package_files()]
    assert "hotbank/guest/agent.py" in names
    assert not [
        name
        for name in names
        if name.split("/")[1] in ("boards_qemu", "cli", "compare", "mount", "model", "load", "session.py")
    ]


def test_what_a_guest_carries_is_all_that_its_programs_import(tmp_path: Path) -> None:
    for name, content in package_files():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    modules = [Path(name) for name, _ in package_files() if name.endswith(".py")]
    carried = sorted(".".join(path.with_suffix("").parts) for path in modules)
    wanted = [name for name in carried if ".compiled" not in name]  # nobody in a guest asks for what needs numpy
    code = "import importlib, sys; [importlib.import_module(name.removesuffix('.__init__')) for name in sys.argv[1:]]"
    argv = [sys.executable, "-S", "-E", "-c", code, *wanted]
    subprocess.run(argv, check=True, cwd=tmp_path, env={})


def test_a_guest_reads_every_shipped_board(tmp_path: Path) -> None:
    for name, content in package_files():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    code = "import sys; from hotbank import board; [board.load(name) for name in sys.argv[1:]]"
    boards = [str(path) for path in sorted(Path("boards").resolve().glob("*.toml"))]
    assert boards
    subprocess.run([sys.executable, "-S", "-E", "-c", code, *boards], check=True, cwd=tmp_path, env={})


def test_the_agent_waits_for_somebody_at_the_other_end() -> None:
    """A terminal without its other end hangs up, as a port does to which nobody is connected."""
    port, other = os.openpty()
    name = os.ttyname(other)
    os.close(other)
    waiting = threading.Thread(target=wait_for_somebody, args=(port,), daemon=True)
    waiting.start()
    time.sleep(0.3)
    assert waiting.is_alive()
    other = os.open(name, os.O_RDWR | os.O_NOCTTY)
    ended(waiting)
    os.close(other)
    os.close(port)


def test_what_python_itself_needs() -> None:
    needed = elf.needed(Path(sys.executable).resolve().read_bytes())
    assert any(name.startswith("libc.so") for name in needed)


@given(st.binary(max_size=300))
def test_garbage_is_no_program(data: bytes) -> None:
    for head in (b"", b"\x7fELF\x02\x01", b"\x7fELF\x01\x01"):
        try:
            elf.needed(head + data)
        except FormatError:
            continue


def test_a_module_that_is_nowhere(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no kernel module kmem, which the guest needs"):
        kmodules.collect(tmp_path, ["kmem"])


def test_packages_without_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match=r"is not installed|on Debian only"):
        Archive("arm64", tmp_path / "cache").fetch("busybox-static")


def test_packages_without_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(NamedTuple):
        free: int = 100 * MIB

    monkeypatch.setattr("shutil.disk_usage", lambda _folder: Full())
    with pytest.raises(MachineError, match="has 100 MiB free, 160 MiB are needed") as caught:
        Archive("arm64", tmp_path / "cache").fetch("busybox-static")
    assert "XDG_CACHE_HOME" in caught.value.remedy


def test_an_apt_that_runs_out_of_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    apt_with(tmp_path / "bin", 'echo "E: Write error - write (28: No space left on device)" >&2; exit 100', monkeypatch)
    with pytest.raises(MachineError, match="No space left on device") as caught:
        Archive("arm64", tmp_path / "cache").fetch("busybox-static")
    assert "XDG_CACHE_HOME" in caught.value.remedy


def test_lists_that_were_not_all_read_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "cache"
    lists = cache / "apt/lists"
    for reads, ends in ((1, "exit 100"), (2, "exit 0"), (2, "exit 0")):
        apt_with(tmp_path / "bin", f"echo x >>{tmp_path}/reads; touch {lists}/a_Packages; {ends}", monkeypatch)
        Archive("arm64", cache).fetch(f"package-{reads}-{ends}")
        assert (tmp_path / "reads").read_text(encoding="ascii").count("x") == reads


def test_unpacking_many_packages_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And once they are unpacked none."""
    debs = [tmp_path / f"{name}.deb" for name in ("one", "two", "three")]
    for deb in debs:
        folder = tmp_path / deb.stem
        (folder / "DEBIAN").mkdir(parents=True)
        (folder / deb.stem).touch()
        control = f"Package: {deb.stem}\nVersion: 1\nArchitecture: all\nMaintainer: m\nDescription: d\n"
        (folder / "DEBIAN/control").write_text(control, encoding="ascii")
        subprocess.run(["dpkg-deb", "--build", folder, deb], check=True, stdout=subprocess.DEVNULL)
    monkeypatch.setattr(Archive, "fetch", lambda *_, **__: debs)
    said = list[str]()
    archive = Archive("arm64", tmp_path, said.append)
    unpacked = archive.unpack("one", "two", "three")
    assert [sorted(path.name for path in folder.iterdir()) for folder in unpacked] == [["one"], ["two"], ["three"]]
    assert archive.unpack("one", "two", "three") == unpacked
    assert said == ["unpacking 3 packages"]


def apt_with(folder: Path, update: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An apt whose ``update`` is this shell text, and that has nothing to download."""
    folder.mkdir(exist_ok=True)
    target = "http://nowhere/debian trixie main\nhttp://nowhere/debian bookworm main"
    verbs = f'case "$1" in update) {update};; indextargets) printf "{target}\n";; esac'
    for name, text in (("apt-get", verbs), ("apt-config", "exit 0")):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="ascii")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "debian", "VERSION_CODENAME": "bookworm"})


@pytest.mark.parametrize(
    "answer",
    [
        {"libc6": "1"},
        ["../../../etc/passwd"],
        ["0123 ../../../etc/passwd"],
        ["0123 /etc/passwd"],
        ["-oDir=/"],
        ["a\x1b[31m"],
        ["a b c"],
        [7],
        "libc6",
        None,
    ],
)
def test_what_somebody_else_wrote_into_the_cache_is_asked_again(tmp_path: Path, answer: object) -> None:
    archive = packages.Archive("arm64", tmp_path)
    archive._remember("newest version of libc6", ["libc6=1:2.36-9+deb12u9"])
    assert archive._known("newest version of libc6") == ["libc6=1:2.36-9+deb12u9"]
    archive._remember("newest version of libc6", answer)  # type: ignore[arg-type]
    assert archive._known("newest version of libc6") is None


def test_what_is_no_answer_in_the_cache_is_asked_again(tmp_path: Path) -> None:
    archive = packages.Archive("arm64", tmp_path)
    archive._remember("one", ["a"])
    place = archive._request("one")
    for text in (b"", b"[1]", b"[" * 100_000, b'{"request": "two", "answer": ["a"]}', b"\xff"):
        place.write_bytes(text)
        assert archive._known("one") is None
    place.unlink()
    os.mkfifo(place)
    assert archive._known("one") is None
    assert not archive._intact("0123 ..")
    assert not archive._intact("0123")


@pytest.mark.parametrize("name", ["6.1.0/../../x-arm64", "6.1.0\x1b[31m-arm64", "6.1.0 -arm64", "6.1.0\n-arm64"])
def test_no_kernel_has_a_path_for_a_name(name: str) -> None:
    assert packages._release("linux-image-6.1.0-50-arm64", "arm64") == "6.1.0-50-arm64"
    assert packages._release("linux-image-6.12.95+deb12-cloud-arm64", "cloud-arm64") == "6.12.95+deb12-cloud-arm64"
    assert packages._release(f"linux-image-{name}", "arm64") == ""


def test_a_guest_without_qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError, match="qemu-system-aarch64 is not installed") as caught:
        prepare(Wanted(str(SMALL)), tmp_path)
    assert "apt-get install" in caught.value.remedy


def test_given_files_by_their_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon that starts the guest works in another folder."""
    for name in ("Image", "initrd", "qemu-system-aarch64", "setpriv"):
        (tmp_path / name).touch(0o755)
    (tmp_path / "Image").write_bytes(bytes(56) + b"ARM\x64")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    prepared = prepare(Wanted(str(SMALL), kernel="Image", initrd="initrd"), tmp_path)
    assert (prepared.kernel, prepared.initrd) == (str(tmp_path / "Image"), str(tmp_path / "initrd"))


def test_a_runner_runs_side_by_side_and_kills() -> None:
    ours, theirs = socket.socketpair()
    argv = [sys.executable, "-m", "hotbank.guest.runner"]
    with ours, theirs, subprocess.Popen(argv, stdin=theirs.fileno(), stdout=theirs.fileno()) as process:
        runner = Runner(ours)
        sleeping = runner.start("sleep 60 & sleep 60")
        assert runner.run("cat", input="over there\n") == "over there\n"
        sleeping.kill()
        assert sleeping.wait(HANG).status == -9
        with pytest.raises(MachineError, match="ended with 3: no"):
            runner.run("echo no; exit 3")
        runner.close()
        process.kill()


@pytest.fixture
def user() -> Iterator[Callable[[Path], subprocess.Popen[bytes]]]:
    """Starts a process that uses a folder until it is killed."""
    started = []

    def start(folder: Path) -> subprocess.Popen[bytes]:
        code = "import sys, time; from pathlib import Path; from hotbank.boards_qemu.leftovers import held\n"
        code += "with held(Path(sys.argv[1])): print(flush=True); time.sleep(60)"
        started.append(subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == b"\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_folder_is_swept_when_its_last_user_was_killed(
    tmp_path: Path, user: Callable[[Path], subprocess.Popen[bytes]]
) -> None:
    with new_folder(tmp_path, "guest-") as folder:
        (folder / "initrd").write_bytes(b"x")
        handed_on = user(folder)
        sweep(tmp_path, "guest-")
        assert folder.is_dir()
    sweep(tmp_path, "guest-")
    assert (folder / "initrd").exists()
    handed_on.kill()
    handed_on.wait()
    (tmp_path / "other-1").mkdir()
    sweep(tmp_path, "guest-")
    assert os.listdir(tmp_path) == ["other-1"]


def test_banks_hold_their_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path, "banks-") as folder:
        files = create(board.load(SMALL), folder)
    sweep(tmp_path, "banks-")
    assert files["high"].path.exists()
    discard(files)
    assert os.listdir(tmp_path) == []


def test_a_console_of_a_machine_that_is_gone_goes(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for pid, target in ((1, "there"), (2, "gone")):
        (tmp_path / f"{pid}.console").symlink_to(tmp_path / target / "console")  # which QEMU may be about to make
    sweep_links(tmp_path, "*.console")
    assert sorted(os.listdir(tmp_path)) == ["1.console", "there"]


def test_a_tree_of_headers_that_was_cut_short_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between its links and its Makefile must not leave a tree that counts as made."""
    own, shared, tools = (tmp_path / name for name in ("own", "shared", "tools"))
    makefile = own / "usr/src/linux-headers-6.12.95+deb12-arm64/Makefile"
    for path in (makefile, shared / "usr/src/linux-headers-6.12.95+deb12-common/Makefile"):
        path.parent.mkdir(parents=True)
        path.write_text("include /usr/src/linux-headers-6.12.95+deb12-common/Makefile\n")
    (tools / "usr/lib/linux-kbuild-6.12.95+deb12/scripts").mkdir(parents=True)
    monkeypatch.setattr(Archive, "unpack", lambda _, *names: (own, shared) if len(names) > 1 else (tools,))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(bank_module, "_see_that_it_runs", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bank_module.kernel_headers("6.12.95+deb12-arm64", arm64.NAMES, tmp_path)
    for _ in range(2):
        tree = bank_module.kernel_headers("6.12.95+deb12-arm64", arm64.NAMES, tmp_path)
        assert (tree / "Makefile").read_text() == f"include {tree}/common/Makefile\n"
    assert makefile.read_text().startswith("include /usr/src/")


def test_two_builds_of_one_driver_leave_each_other_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, built = tmp_path / "source", tmp_path / "cache/hotbank_bank.ko"
    source.mkdir()
    begun = list[Path]()

    def building(work: Path, headers: Path, target: bank_module.ArchNames) -> list[str]:
        begun.append(work)
        if len(begun) == 1:  # another one begins, and ends, while this one is at it
            bank_module.make_module(source, headers, target, built)
        return ["sh", "-c", f"echo made >{work / built.name}"]

    monkeypatch.setattr(bank_module, "building", building)
    bank_module.make_module(source, tmp_path, bank_module.ArchNames("amd64", "x86", ""), built)
    assert built.read_text() == "made\n"
    assert list(built.parent.iterdir()) == [built]
