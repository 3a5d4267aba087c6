# SPDX-License-Identifier: Apache-2.0
"""Promises of the Machine protocol that hold on every machine, whatever it is made of: no model behind it is needed."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import pytest

from hotbank.errors import Code, KernelError, Refusal, SwitchError
from hotbank.machine import BankStatus, Machine, Survey, can_vacate, is_examinable, is_interruptible
from hotbank.memory import BlockState, KernelState, Kind, Online, Power, format_size

NOWHERE, GONE = "nowhere", 99_999  # a name and a block that no machine has
PATIENCE = 60.0  # seconds on the machine's clock for an offline


def refused(call: Callable[[], object], expected: int) -> KernelError:
    """The kernel says no, with that errno."""
    with pytest.raises(KernelError) as caught:
        call()
    assert caught.value.errno == expected
    return caught.value


def bank_of(machine: Machine, name: str) -> BankStatus:
    """Where the bank stands now."""
    found = machine.snapshot().bank(name)
    assert found is not None
    return found


def state(machine: Machine, block: int) -> tuple[BlockState, str]:
    """The block's state and zone now."""
    found = machine.snapshot().block(block)
    assert found is not None
    return found.state, found.valid_zones[0]


def take_offline(machine: Machine, blocks: Iterable[int]) -> None:
    """All of these that are not."""
    for block in blocks:
        if state(machine, block)[0] is not BlockState.OFFLINE:
            machine.offline(block, machine.clock.now() + PATIENCE)


def empty(machine: Machine, bank: str) -> None:
    """Take the bank out of the kernel."""
    take_offline(machine, bank_of(machine, bank).blocks)
    machine.remove(bank)


def unknown_names_have_one_refusal(machine: Machine) -> None:
    """A bank or a domain that the machine has not, whatever is wanted of it."""
    _refused_as_unknown(machine, NOWHERE, partial(machine.add, NOWHERE), partial(machine.remove, NOWHERE))
    _refused_as_unknown(machine, NOWHERE, partial(machine.power, NOWHERE))
    _refused_as_unknown(machine, NOWHERE, *(partial(machine.set_power, NOWHERE, want) for want in Power))


def unknown_blocks_have_one_refusal(machine: Machine) -> None:
    """A block that the kernel has not."""
    calls = (
        partial(machine.survey, GONE),
        partial(machine.online, GONE, Online.MOVABLE),
        partial(machine.offline, GONE, machine.clock.now() + PATIENCE),
    )
    _refused_as_unknown(machine, f"memory{GONE}", *calls)


def _refused_as_unknown(machine: Machine, name: str, *calls: Callable[[], object]) -> None:
    before = machine.snapshot()
    for call in calls:
        with pytest.raises(Refusal) as caught:
            call()
        assert (type(caught.value), caught.value.code) == (Refusal, Code.NO_SUCH_BANK)
        assert name in str(caught.value)
    assert machine.snapshot().banks == before.banks


def a_policy_is_what_was_written(machine: Machine) -> None:
    """Each word that the kernel takes, and none besides; a bank that is added has what the last one says."""
    was = machine.snapshot().auto_online
    for word in ("online", "online_kernel", "offline", "online_movable"):
        machine.set_auto_online(word)
        assert machine.snapshot().auto_online == word
    refused(partial(machine.set_auto_online, "sideways"), errno.EINVAL)
    assert machine.snapshot().auto_online == "online_movable"
    machine.set_auto_online(was)


def power_stays_under_memory(machine: Machine, domain: str) -> None:
    """Less than ``on`` is refused as long as the kernel has one block that touches the domain, and nothing happens."""
    assert machine.snapshot().touching(domain)
    for want in (Power.OFF, Power.SELF_REFRESH):
        refused(partial(machine.set_power, domain, want), errno.EBUSY)
        assert machine.power(domain) is Power.ON


def only_states_of_the_board(machine: Machine, domain: str) -> None:
    """With all of it out, the switch goes to no state that the board does not list, and nothing happens."""
    status = machine.snapshot().domain(domain)
    assert status is not None
    for want in set(Power) - set(status.states):
        with pytest.raises(SwitchError, match=f"domain {domain} has no state {want}"):
            machine.set_power(domain, want)
        assert machine.power(domain) is status.power


def a_reading_answers(machine: Machine) -> None:
    """It is of the machine's clock and zones, and counts up."""
    before, now = machine.reading(), machine.clock.now()
    after = machine.reading()
    assert before.at <= now <= after.at
    assert {(zone.node, zone.zone) for zone in before.zones} == {(z.node, z.zone) for z in machine.snapshot().zones}
    assert 0 < before.free < sum(zone.managed for zone in before.zones)
    assert 0 <= before.clean < sum(zone.managed for zone in before.zones)
    assert before.migrated is not None
    assert after.migrated is not None
    assert after.migrated.success >= before.migrated.success


def the_doctor_reads_the_machines_own_files(machine: Machine) -> None:
    """A machine with files: a board that can't be its own is told, by what the machine really is."""
    assert is_examinable(machine)
    now = machine.snapshot()
    board = 'name = "other"\narch = "any"\nblock_size = "1G"\n[bank.a]\nstart = 0\nsize = "1G"\n'
    first = machine.doctor(board)[0]
    assert first.code == "OTHER_BOARD"
    assert f"this machine {now.arch} with {format_size(now.block_size)}" in first.message
    assert "OTHER_BOARD" not in {finding.code for finding in machine.doctor()}


def a_survey_counts_every_page(machine: Machine, blocks: Sequence[int]) -> list[Survey]:
    """The kinds of each block sum to it, and what can't move is counted at least as often as it is shown."""
    size = machine.snapshot().pages_per_block
    surveys = [machine.survey(block) for block in blocks]
    assert [survey.block for survey in surveys] == list(blocks)
    for survey in surveys:
        assert sum(survey.kinds.values()) == size
        assert len(survey.blocking) <= survey.blocked
    return surveys


def a_fence_keeps_no_block_from_anything(machine: Machine, blocks: Sequence[int]) -> None:
    """The first goes offline, the second is what it was, and goes when it is asked to, or after the first is back."""
    first, second = blocks
    machine.offline(first, machine.clock.now() + PATIENCE, fence=(second,))
    found = machine.snapshot().block(second)
    assert found is not None
    assert found.state is BlockState.ONLINE
    machine.offline(second, machine.clock.now() + PATIENCE)
    machine.online(second, Online.MOVABLE)
    machine.online(first, Online.MOVABLE)
    machine.offline(first, machine.clock.now() + PATIENCE, fence=(second,))
    machine.online(first, Online.MOVABLE)
    a_block_goes_offline_and_comes_back(machine, second)


def a_vacated_node_is_as_it_was_but_for_its_pages(machine: Machine, block: int, most: int) -> None:
    """What processes have there lies elsewhere, but for so many pages; every block is where it was, online. Nothing is
    done at the deadline, or by one that was interrupted before."""
    before, deadline = machine.snapshot().blocks, machine.clock.now() + PATIENCE
    assert is_interruptible(machine)
    machine.interrupt(block, deadline)
    assert can_vacate(machine)
    refused(lambda: machine.vacate(block, deadline), errno.EINTR)
    held = _anonymous(machine, block)
    machine.vacate(block, machine.clock.now())
    assert _anonymous(machine, block) == held > most
    assert machine.vacate(block, deadline + 1).left == ()
    assert _anonymous(machine, block) <= most
    after = machine.snapshot().blocks
    assert [(b.number, b.state, b.zone) for b in after] == [(b.number, b.state, b.zone) for b in before]


def _anonymous(machine: Machine, block: int) -> int:
    """Pages of processes on the block's node."""
    blocks = machine.snapshot().blocks
    node = next(b.node for b in blocks if b.number == block)
    return sum(machine.survey(b.number).kinds.get(Kind.ANON, 0) for b in blocks if b.node == node)


def a_block_goes_offline_and_comes_back(machine: Machine, block: int) -> None:
    """An online block of a bank that may leave: off, refused where it is, online as asked, refused where it is."""
    machine.offline(block, machine.clock.now() + PATIENCE)
    assert state(machine, block)[0] is BlockState.OFFLINE
    refused(lambda: machine.offline(block, machine.clock.now() + PATIENCE), errno.EINVAL)
    machine.online(block, Online.MOVABLE)
    assert state(machine, block) == (BlockState.ONLINE, "Movable")
    refused(lambda: machine.online(block, Online.KERNEL), errno.EINVAL)


def a_bank_leaves_and_comes_back(machine: Machine, bank: str) -> None:
    """A bank that is in the kernel: all of its blocks go and come, online or not by policy."""
    before = bank_of(machine, bank)
    refused(lambda: machine.remove(bank), errno.EBUSY)
    refused(lambda: machine.add(bank), errno.EEXIST)
    empty(machine, bank)
    out = bank_of(machine, bank)
    assert (out.kernel, out.blocks) == (KernelState.ABSENT, ())
    machine.add(bank)
    back = bank_of(machine, bank)
    assert back.kernel in (KernelState.OFFLINE, KernelState.ONLINE)
    assert back.blocks == before.blocks


def time_goes_forward(machine: Machine) -> None:
    """By as much as was slept, at least."""
    began = machine.clock.now()
    machine.clock.sleep(0.01)
    assert machine.clock.now() >= began + 0.01


def an_interruption_names_the_offline_that_it_ends(machine: Machine, blocks: Sequence[int]) -> None:
    """One that is only about to begin ends too; another of the same block, and that of another one, do not."""
    first, second = blocks
    deadline = machine.clock.now() + PATIENCE
    before = state(machine, first)
    assert is_interruptible(machine)
    machine.interrupt(first, deadline)
    refused(lambda: machine.offline(first, deadline), errno.EINTR)
    assert state(machine, first) == before
    machine.interrupt(first, deadline)
    machine.offline(second, deadline)
    machine.offline(first, deadline + 1)
    assert {state(machine, n)[0] for n in blocks} == {BlockState.OFFLINE}
