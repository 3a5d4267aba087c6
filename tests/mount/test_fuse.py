# SPDX-License-Identifier: Apache-2.0
"""Programs that nobody here wrote, on a mounted model: lsmem, chmem, the kernel's own selftest, plain shells.

They run in a mount namespace of their own, in which the model's /sys stands in for this host's.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from hotbank import board, operate
from hotbank.errors import CancelPending, Code, KernelError
from hotbank.host import Host
from hotbank.load import Workload
from hotbank.machine import Block, Machine
from hotbank.memory import BlockState, Kind, Power
from hotbank.model import Model, WallClock
from kernel.kernel_source import from_source
from mount.mounts import MEMORY, mounted, needs_fuse
from patience import HANG, ended, promised, until

pytestmark = [pytest.mark.referee, needs_fuse]
ZERO = Path(__file__).with_name("zero.toml")
KERNEL = Path(__file__).resolve().parents[2] / "kernel"
SELFTEST = "tools/testing/selftests/memory-hotplug/mem-on-off-test.sh"


@dataclass(frozen=True)
class Mounted:
    """A model and where it is mounted."""

    model: Model
    folder: Path

    def run(self, script: str) -> tuple[str, int]:
        """A shell script with the model's /sys; what it said on both outputs, and its status."""
        script = f"mount --bind {self.folder}/sys /sys && exec sh -c '{script}'"
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return done.stdout, done.returncode

    def states(self) -> str:
        """A letter for each block: o online in a kernel zone, M Movable, - offline."""
        return "".join(map(_letter, self.model.snapshot().blocks))

    def path(self, block: int, name: str = "state") -> Path:
        return self.folder / MEMORY / f"memory{block}" / name


def _letter(block: Block) -> str:
    return "-" if block.state is BlockState.OFFLINE else "M" if block.valid_zones == ("Movable",) else "o"


@pytest.fixture(scope="module")
def shared() -> Iterator[Mounted]:
    """One mount for the tests that leave the model as they found it."""
    model = _model(seed=1)
    with mounted(model) as folder:
        yield Mounted(model, folder)


@pytest.fixture
def zero(shared: Mounted) -> Iterator[Mounted]:
    before = shared.model.snapshot().blocks
    yield shared
    now = shared.model.snapshot().blocks
    assert [(b.number, b.state, b.valid_zones) for b in now] == [(b.number, b.state, b.valid_zones) for b in before]
    shared.model.validate()


def _model(seed: int) -> Model:
    model = Model.boot(board.load(str(ZERO)), backend="reference", seed=seed, clock=WallClock())
    Workload(model, seed, pages=1500).fill()
    return model


LSMEM = (
    "-a -o RANGE,SIZE,STATE,REMOVABLE,BLOCK,NODE,ZONES",
    "-b -n -o SIZE,STATE",
    "-J --output-all",
    "-P -S ZONES -o RANGE,ZONES",
    "-r --output-all",
    "--summary=only -b",
)


@pytest.mark.parametrize("options", LSMEM)
def test_lsmem(zero: Mounted, options: str, tmp_path: Path) -> None:
    """What it says in place of this host's /sys, and of a copy in plain files that Host was made for, is the same."""
    seen, status = zero.run(f"lsmem {options}")
    assert status == 0, seen
    subprocess.run(["cp", "-a", str(zero.folder), str(tmp_path / "copy")], check=True)
    argv = ["lsmem", "--sysroot", str(tmp_path / "copy"), *options.split()]
    assert seen == subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def test_lsmem_says_what_is_so(zero: Mounted) -> None:
    said, _ = zero.run("lsmem -n -a -o BLOCK,STATE,ZONES --summary=never")
    rows = [tuple(line.split()) for line in said.splitlines()]
    assert rows == [(str(b.number), b.state.value, b.valid_zones[0]) for b in zero.model.snapshot().blocks]


@pytest.mark.parametrize(
    ("options", "words", "status", "after"),
    [
        ("-d 128M -z Movable", "", 0, "ooooMM--"),
        ("-d 0x10000000-0x17ffffff", "", 0, "oooo--MM"),
        ("-d -b 5", "", 0, "ooooM-MM"),
        ("-d -b 4-6", "", 0, "oooo---M"),
        ("-d -v -b 7", "Memory Block 7 (0x000000001c000000-0x000000001fffffff) disabled", 0, "ooooMMM-"),
        ("-d -b 0", "chmem: Memory Block 0 (0x0000000000000000-0x0000000003ffffff) disable failed", 1, "ooooMMMM"),
        ("-d 512M -z Movable", "Could only disable", 64, "oooo----"),
        ("-e -b 4", "", 0, "ooooMMMM"),
    ],
)
def test_chmem(zero: Mounted, options: str, words: str, status: int, after: str) -> None:
    said, exited = zero.run(f"chmem {options}")
    assert words in said
    assert exited == status, said
    assert zero.states() == after
    gone = after.count("-")
    if gone:
        said, exited = zero.run(f"chmem -e {64 * gone}M -z Movable")
        assert exited == 0, said


def test_chmem_says_why(zero: Mounted) -> None:
    said, status = zero.run("chmem -d -b 0")
    assert "disable failed: Device or resource busy" in said
    assert status == 1


def _selftest() -> Path:
    """The kernel's memory-hotplug selftest."""
    return from_source(SELFTEST) / SELFTEST


@pytest.mark.long
@pytest.mark.kernel
@pytest.mark.parametrize(("ratio", "gone"), [(2, 1), (50, 4)])
def test_the_kernels_selftest(zero: Mounted, ratio: int, gone: int) -> None:
    said, status = zero.run(f"bash {_selftest()} -r {ratio}")
    assert status == 0, said
    assert f"trying to offline {gone} out of 8" in said
    assert said.count("-> Success") == gone
    assert said.count("offline->online") == gone
    assert "unexpected" not in said


@pytest.mark.long
@pytest.mark.kernel
def test_the_kernels_selftest_fails_where_it_must(zero: Mounted) -> None:
    """All blocks at once can't leave: low ones hold unmovable pages."""
    said, status = zero.run(f"bash {_selftest()} -r 100")
    assert status == 1, said
    assert "FAILED - unable to offline some memory blocks, device busy?" in said


@pytest.fixture
def extended(tmp_path: Path) -> Path:
    """The selftest as we propose it."""
    script = tmp_path / SELFTEST
    script.parent.mkdir(parents=True)
    shutil.copy(_selftest(), script)
    patch = KERNEL / "upstream/selftest.patch"
    subprocess.run(["git", "apply", "--unsafe-paths", f"--directory={tmp_path}", str(patch)], check=True, cwd="/")
    return script


@pytest.mark.long
@pytest.mark.kernel
def test_the_selftest_that_we_propose(zero: Mounted, extended: Path) -> None:
    """All that the kernel's own asks for, and an answer from every block while inodes are held."""
    said, status = zero.run(f"bash {extended} -r 50 -i 100")
    assert status == 0, said
    assert said.count("-> Success") == 4
    assert "with 100 inodes in it" in said
    assert "unexpected" not in said
    assert "FAILED" not in said


@pytest.mark.long
@pytest.mark.kernel
def test_it_fails_where_an_offline_gives_no_answer(own: Mounted, extended: Path) -> None:
    """Which the kernel's own waits for, for ever."""
    block = _pin(own.model)
    said, status = own.run(f"bash {extended} -r 2 -i 10 -t 1")
    assert status == 1, said
    assert f"FAILED - offline memory{block}: no answer within 1 s" in said


@pytest.mark.long
@pytest.mark.kernel
def test_it_fails_where_a_refusal_changes_the_zone(own: Mounted, extended: Path, tmp_path: Path) -> None:
    """A kernel that says no and puts the block back where it was not: planted between the selftest and the model."""
    breach = tmp_path / "timeout"
    breach.write_text(
        "#!/bin/sh\nstate=${6##*> }; echo offline > $state; echo online_kernel > $state; exit 1\n", encoding="ascii"
    )
    breach.chmod(0o755)
    said, status = own.run(f"PATH={tmp_path}:$PATH bash {extended} -r 2 -i 1")
    assert status == 1, said
    assert "unexpected zone, was Movable" in said


@pytest.mark.parametrize(
    ("script", "said"),
    [("frozen-slab.sh", "0 blocks gave no answer in 5 s"), ("leaf-veto.sh", "0 blocks were vetoed")],
)
def test_the_reproducers_put_back_what_they_try(zero: Mounted, tmp_path: Path, script: str, said: str) -> None:
    """On a kernel that has neither fault; and this host's log is not theirs to clear."""
    (tmp_path / "dmesg").symlink_to("/bin/true")
    printed, status = zero.run(f"FILES=10 PATH={tmp_path}:$PATH sh {KERNEL}/upstream/{script}")
    assert status == 0, printed
    assert printed.endswith(f"{said}\n")
    assert "left" in printed


def test_a_reproducer_tells_a_hang_from_a_refusal(own: Mounted, tmp_path: Path) -> None:
    (tmp_path / "dmesg").symlink_to("/bin/true")
    block = _pin(own.model)
    printed, _ = own.run(f"PATIENCE=1 PATH={tmp_path}:$PATH sh {KERNEL}/upstream/leaf-veto.sh")
    assert f"memory{block} Movable: hangs" in printed


def test_the_errno_reaches_the_writer(zero: Mounted) -> None:
    for block, word, expected in (
        (4, "nonsense", errno.EINVAL),
        (4, "online", errno.EINVAL),
        (0, "offline", errno.EBUSY),
    ):
        with pytest.raises(OSError) as caught:
            zero.path(block).write_text(word)
        assert caught.value.errno == expected
    with pytest.raises(OSError) as caught:
        zero.path(4, "valid_zones").write_text("Normal")
    assert caught.value.errno == errno.EACCES
    assert not zero.path(77).exists()
    with pytest.raises(IsADirectoryError):
        zero.path(4).parent.read_text()


def test_modes_and_links(zero: Mounted) -> None:
    assert {n: oct(zero.path(4, n).stat().st_mode) for n in ("state", "valid_zones")} == {
        "state": "0o100644",
        "valid_zones": "0o100444",
    }
    assert os.readlink(zero.path(4, "node0")) == "../../node/node0"
    assert zero.path(4, "node0").is_dir()
    assert (zero.folder / "sys/devices/system/node/node0/memory4/state").read_text() == "online\n"


# Offlines that do not come to an end by themselves.


@pytest.fixture
def own() -> Iterator[Mounted]:
    model = _model(seed=2)
    with mounted(model) as folder:
        yield Mounted(model, folder)


def _pin(model: Model) -> int:
    pid = model.spawn("pinner", anon_pages=64)
    block = next(b.number for b in model.snapshot().blocks if model.place(pid, b.number))
    model.pin(pid, model.place(pid, block)[0])
    return block


def test_a_signal_reaches_the_machine(own: Mounted) -> None:
    """A shell that is killed while it writes leaves the kernel soon, and the block is back; reads went on meanwhile."""
    block = _pin(own.model)
    shell = subprocess.Popen(["sh", "-c", f"echo offline > {own.path(block)}"])
    until(lambda: own.path(block).read_text() == "going-offline\n")
    shell.kill()
    began = time.monotonic()
    assert shell.wait() == -signal.SIGKILL
    assert time.monotonic() - began < promised(1)
    assert own.path(block).read_text() == "online\n"
    own.model.validate()


def _host(own: Mounted) -> Host:
    return Host(own.folder, board.load(str(ZERO)))


@pytest.mark.long
def test_a_host_on_a_mounted_model(own: Mounted) -> None:
    """The code for real kernels removes and adds a bank of a model, end to end."""
    host: Machine = _host(own)
    out = operate.remove(host, "high")
    assert (out.code, out.exit, out.power) == (Code.OK, 0, Power.OFF), out.fact
    assert own.model.power("ddr-high") is Power.OFF
    assert own.states() == "oooo"
    back = operate.add(host, "high")
    assert (back.code, back.exit, back.power) == (Code.OK, 0, Power.ON), back.fact
    assert own.states() == "ooooMMMM"
    assert not own.model.check_contents()


@pytest.mark.long
def test_deadlines_and_interruptions_of_a_host_on_a_mounted_model(own: Mounted) -> None:
    host, block = _host(own), _pin(own.model)
    began = time.monotonic()
    with pytest.raises(KernelError, match="EINTR"):
        host.offline(block, host.clock.now() + 0.5)
    assert 0.5 <= time.monotonic() - began < 0.5 + promised(1)
    assert own.path(block).read_text() == "online\n"
    deadline = host.clock.now() + HANG
    threading.Timer(0.3, host.interrupt, (block, deadline)).start()
    began = time.monotonic()
    with pytest.raises(KernelError, match="EINTR"):
        host.offline(block, deadline)
    assert time.monotonic() - began < 0.3 + promised(1)
    assert own.path(block).read_text() == "online\n"


@pytest.mark.long
def test_stalled_writeback_is_pending_until_the_model_lets_go(own: Mounted) -> None:
    host, model = _host(own), own.model
    model.write_file("disk", 5000)
    model.stall_writeback("disk", 5000)
    surveys = {n: model.survey(n) for n in (4, 5, 6, 7)}
    block = max(surveys, key=lambda n: surveys[n].kinds.get(Kind.FILE, 0))
    assert _offline_until_pending(host, block, 0.3)
    assert host.snapshot().pending == block
    model.end_writeback("disk")
    until(lambda: host.snapshot().pending is None)
    assert own.path(block).read_text() == "online\n"


def _offline_until_pending(host: Machine, block: int, seconds: float) -> bool:
    """Give it more time until it comes as far as to such a page; on an idle machine the first are enough."""
    while seconds < HANG:
        with pytest.raises(KernelError) as caught:
            host.offline(block, host.clock.now() + seconds)
        if caught.value.code is Code.CANCEL_PENDING:
            return True
        seconds *= 3
    return False


@pytest.mark.long
def test_an_interruption_is_answered_within_a_second_also_under_stalled_writeback(own: Mounted) -> None:
    host, model = _host(own), own.model
    model.write_file("disk", 5000)
    model.stall_writeback("disk", 5000)
    surveys = {n: model.survey(n) for n in (4, 5, 6, 7)}
    block = max(surveys, key=lambda n: surveys[n].kinds.get(Kind.FILE, 0))
    deadline = host.clock.now() + HANG
    interrupted = list[float]()

    def interrupt() -> None:
        until(lambda: model.hotplug._under_writeback())
        interrupted.append(time.monotonic())
        host.interrupt(block, deadline)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(CancelPending, match="interrupted and the kernel has not let go"):
        host.offline(block, deadline)
    assert time.monotonic() - interrupted[0] < promised(1)
    ended(interrupter)
    model.end_writeback("disk")


def test_unmounting_ends_it(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "hotbank", "-m", f"model:{ZERO}", "mount", "--read-only", str(tmp_path)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert re.match(r"model:zero is mounted at ", process.stdout.readline())
    with pytest.raises(PermissionError):
        (tmp_path / MEMORY / "memory4/state").write_text("offline")
    subprocess.run(["umount", str(tmp_path)], check=True)
    process.communicate()
    assert process.returncode == 0
    missing = subprocess.run([*argv[:-1], "/nowhere"], capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    assert "/nowhere is no folder" in missing.stderr


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "umount"])
def test_its_ends_are_no_errors(tmp_path: Path, how: str) -> None:
    """Ctrl-C, what a service manager sends, and umount: it is unmounted, and says nothing on standard error."""
    argv = [sys.executable, "-m", "hotbank", "-m", f"model:{ZERO}", "mount", str(tmp_path)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert b"is mounted at" in process.stdout.readline()
    assert os.path.ismount(tmp_path)
    if how == "umount":
        subprocess.run(["umount", str(tmp_path)], check=True)
    else:
        process.send_signal(signal.Signals[how])
    _, said = process.communicate()
    assert (process.returncode, said) == (0, b"")
    assert not os.path.ismount(tmp_path)
