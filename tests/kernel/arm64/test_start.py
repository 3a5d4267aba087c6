# SPDX-License-Identifier: Apache-2.0
"""How a machine starts: a kernel that onlines by itself, and a machine that stays behind `hotbank up`."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hotbank import boards_qemu, operate, serve
from hotbank.boards_qemu import Wanted
from hotbank.errors import Code, MachineError
from hotbank.memory import BlockState, Online, Power
from hotbank.remote import Remote
from hotbank.session import visit
from hotbank.watch import Feed
from kernel.kernel_kit import add, alive, children_of, guest, lean, span_of
from patience import HANG, until
from report.test_cells import explained
from watch.frames import first

pytestmark = pytest.mark.kernel

BOARD = str(Path(__file__).with_name("small.toml"))


def test_a_kernel_that_onlines_by_itself_gets_no_bank_into_a_kernel_zone() -> None:
    with guest(lean(Wanted(BOARD, cmdline="memhp_default_state=online"))) as machine:
        assert machine.snapshot().auto_online == Online.ONLINE
        machine.add("high")  # the driver vetoes every kernel zone
        blocks = [b for b in machine.snapshot().blocks if b.range.overlaps(span_of(machine))]
        assert {b.state for b in blocks} == {BlockState.OFFLINE}
        assert add(machine).exit == 0
        assert {b.valid_zones for b in machine.snapshot().blocks if b.range.overlaps(span_of(machine))} == {
            ("Movable",)
        }
        assert machine.snapshot().auto_online == Online.ONLINE


@contextmanager
def up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[serve.Record]:
    """A machine in the background, as `hotbank up --qemu` makes it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    record = boards_qemu.up(lean(Wanted(BOARD)))
    try:
        yield record
    finally:
        serve.down(record)


def followed_wrongly(machine: Remote) -> list[int]:
    """Blocks of the live map of which ``explain --all`` says otherwise, among those whose pages stand still meanwhile:
    some of the kernel's own don't."""
    before = explained(machine)
    with visit() as session, Feed(session) as feed:
        for block in before:
            feed.look(block)
        frame = first(feed, lambda frame: all((c := frame.map.cell(n)) and c.kinds for n in before))
    after = explained(machine)
    still = [number for number in before if before[number]["kinds"] == after[number]["kinds"]]
    bank = frame.snapshot.bank("high")
    assert bank is not None
    assert set(bank.blocks) & set(still)
    shown = {cell.block: {kind.value: pages for kind, pages in (cell.kinds or {}).items()} for cell in frame.map.cells}
    return [number for number in still if shown.get(number) != before[number]["kinds"]]


def test_a_machine_in_the_background(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Served to any client; with a console; gone with all its files when its owner is killed."""
    folder = tmp_path_factory.mktemp("r")
    with up(folder, monkeypatch) as record:
        with serve.connect(record) as machine:
            assert serve.add(machine, "high").exit == 0
            assert followed_wrongly(machine) == []
            assert serve.remove(machine, "high").power is Power.OFF
        with boards_qemu.console(record) as console:
            console.sendall(b"echo $((6 * 7))\n")
            console.settimeout(HANG)
            said = b""
            while b"42" not in said:
                said += console.recv(1000)
        (child,) = (pid for pid in children_of(record.pid) if "qemu-system" in Path(f"/proc/{pid}/comm").read_text())
        os.kill(record.pid, signal.SIGKILL)
        until(lambda: not alive(child))
        with pytest.raises(MachineError, match="does not answer"):
            serve.connect(record)
    with up(folder, monkeypatch) as again, serve.connect(again) as machine:
        assert operate.explain(machine, "high").code is Code.OK
