# SPDX-License-Identifier: Apache-2.0
"""Promises of the Machine protocol that hold on every machine, whatever it is made of: no model behind it is needed."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from hotbank.errors import Code, KernelError, Refusal
from hotbank.machine import Machine
from hotbank.memory import Power

NOWHERE = "nowhere"


def unknown_names_have_one_refusal(machine: Machine) -> None:
    """A bank or a domain that the machine has not, whatever is wanted of it."""
    calls: list[Callable[[], object]] = [
        lambda: machine.add(NOWHERE),
        lambda: machine.remove(NOWHERE),
        lambda: machine.power(NOWHERE),
        *(lambda want=want: machine.set_power(NOWHERE, want) for want in Power),
    ]
    before = machine.snapshot()
    for call in calls:
        with pytest.raises(Refusal) as caught:
            call()
        assert (type(caught.value), caught.value.code) == (Refusal, Code.NO_SUCH_BANK)
        assert NOWHERE in str(caught.value)
    assert machine.snapshot().banks == before.banks


def power_stays_under_memory(machine: Machine, domain: str) -> None:
    """Less than ``on`` is refused as long as the kernel has one block that touches the domain, and nothing happens."""
    assert machine.snapshot().touching(domain)
    for want in (Power.OFF, Power.SELF_REFRESH):
        with pytest.raises(KernelError) as caught:
            machine.set_power(domain, want)
        assert caught.value.errno == errno.EBUSY
        assert machine.power(domain) is Power.ON


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
