# SPDX-License-Identifier: Apache-2.0
"""kmem's unbind reports success and removes nothing when a block is online: what hotbank makes of it, on a real kernel
and on the model of the same board."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hotbank import board, operate
from hotbank.boards_qemu import Wanted
from hotbank.errors import Code, KernelError
from hotbank.machine import Machine
from hotbank.memory import KernelState, Online, Power
from hotbank.model import Model
from kernel.kernel_kit import LIMITS, Holder, complaints, guest, intact, lean, span_of

pytestmark = pytest.mark.kernel

SMALL = Path(__file__).with_name("small.toml")
Seen = tuple[object, ...]


def test_a_bank_that_kmem_let_go_of_is_stuck(tmp_path: Path) -> None:
    path = tmp_path / "kmem.toml"
    path.write_text(SMALL.read_text(encoding="utf-8").replace('route = "driver"', 'route = "kmem"'), encoding="utf-8")
    model = Model.boot(board.load(path))
    with guest(lean(Wanted(str(path)))) as machine:
        for each in (machine, model):
            assert operate.add(each, "high", limits=LIMITS).exit == 0
        with Holder(machine, anon=40, shared=16, tmpfs=16) as holder:
            first, last = blocks(machine)
            for act in acts(first, last):
                assert seen(machine, act) == seen(model, act)
                assert sum(holder.where(span_of(machine)).values()) > 0
                assert (machine.files["high"].power, intact(holder.damage())) == (Power.ON, True)
            assert machine.runner.run("dmesg | grep -c 'cannot be hotremoved until the next reboot'").strip() == "1"
            assert machine.runner.run("ls /sys/bus/dax/drivers/kmem | grep -c '^dax' || true").strip() == "0"
            assert intact(holder.rewrite())
        assert complaints(machine) == []


def blocks(machine: Machine) -> tuple[int, ...]:
    """The numbers of the bank's blocks."""
    status = machine.snapshot().bank("high")
    assert status is not None
    return status.blocks


def acts(first: int, last: int) -> list[Callable[[Machine], None]]:
    """Half of the bank goes offline; the bank is removed; and then whatever might help does not."""
    return [
        lambda m: m.offline(last, m.clock.now() + 120),
        lambda m: m.remove("high"),
        check_stuck,
        lambda m: m.remove("high"),
        lambda m: m.add("high"),
        lambda m: m.online(last, Online.MOVABLE),
        check_stuck,
        lambda m: m.offline(last, m.clock.now() + 120),
        check_stuck,
    ]


def seen(machine: Machine, act: Callable[[Machine], None]) -> Seen:
    """Errno and code of an act, and the bank afterwards."""
    refusal: Seen = (0, Code.OK)
    try:
        act(machine)
    except KernelError as e:
        refusal = (e.errno, e.code)
    snapshot = machine.snapshot()
    status = snapshot.bank("high")
    assert status is not None
    own = [(b.number, b.state, b.valid_zones) for b in snapshot.blocks if b.number in status.blocks]
    return (*refusal, status.kernel, status.power, own)


def check_stuck(machine: Machine) -> None:
    """``explain`` says it, and neither ``remove``, even forced, nor ``add`` begins anything."""
    before = machine.snapshot()
    status = before.bank("high")
    assert status is not None
    assert (status.kernel, status.power) == (KernelState.STUCK, Power.ON)
    verdict = operate.explain(machine, "high")
    assert (verdict.code, "reboot" in verdict.remedy) == (Code.STUCK, True)
    outcomes = [operate.remove(machine, "high", limits=LIMITS, force=force) for force in (False, True)]
    for outcome in (*outcomes, operate.add(machine, "high", limits=LIMITS)):
        assert (outcome.code, outcome.exit, outcome.kernel) == (Code.STUCK, 1, KernelState.STUCK)
        assert "reboot" in outcome.remedy
        assert outcome.power is Power.ON
    assert machine.snapshot().bank("high") == status
