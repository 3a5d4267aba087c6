# SPDX-License-Identifier: Apache-2.0
"""What a plan was made of, and what of it has changed."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank import operate
from hotbank.errors import FormatError
from hotbank.memory import BlockState, KernelState, Power
from hotbank.operate import BankBefore, Before, BlockBefore, DomainBefore
from hotbank.operate.found import changed, document, of_plan
from hotbank.testing import ScriptedMachine

FOUND = Before(
    "remove",
    ("high",),
    "boot",
    "scripted",
    (BankBefore("high", KernelState.ONLINE, "ddr"),),
    (DomainBefore("ddr", Power.ON),),
    (BlockBefore(20, BlockState.ONLINE, "Movable"), BlockBefore(21, BlockState.OFFLINE)),
)
names = st.text(max_size=3)
befores = st.builds(
    Before,
    verb=names,
    targets=st.tuples(names),
    boot_id=names,
    machine=names,
    banks=st.tuples(st.builds(BankBefore)),
    domains=st.tuples(st.builds(DomainBefore)),
    blocks=st.tuples(st.builds(BlockBefore)),
    planned=st.integers(0, 99),
    cause=st.just(""),
)


def test_nothing_has_changed_in_what_is_the_same() -> None:
    machine = ScriptedMachine()
    made = operate.plan_remove(machine, "high").found
    machine.slots[20].pages = 1
    again = operate.plan_remove(machine, "high").found
    assert made is not None
    assert again is not None
    assert changed(made, again) == ""


@pytest.mark.parametrize(
    "now",
    [
        replace(FOUND, boot_id="next"),
        replace(FOUND, machine="other"),
        replace(FOUND, banks=(BankBefore("high", KernelState.PARTIAL, "ddr"),)),
        replace(FOUND, domains=(DomainBefore("ddr", Power.OFF),)),
        replace(FOUND, blocks=FOUND.blocks[:1]),
        replace(FOUND, blocks=(*FOUND.blocks, BlockBefore(22, BlockState.OFFLINE))),
        replace(FOUND, blocks=(BlockBefore(20, BlockState.ONLINE, "Normal"), FOUND.blocks[1])),
    ],
)
def test_every_difference_is_told(now: Before) -> None:
    assert changed(FOUND, now)
    assert changed(now, FOUND)


def test_power_that_nobody_knows_is_no_difference() -> None:
    unknown = replace(FOUND, domains=(DomainBefore("ddr", Power.UNKNOWN),))
    assert changed(FOUND, unknown) == changed(unknown, FOUND) == ""


def test_many_differences_are_counted() -> None:
    now = replace(FOUND, blocks=tuple(BlockBefore(n, BlockState.OFFLINE) for n in range(30, 40)))
    assert changed(FOUND, now).endswith("and 8 more")


@given(befores)
def test_what_a_document_says_is_what_was_found(found: Before) -> None:
    plan = {"verb": found.verb, "targets": found.targets, "machine": found.machine, "pages": found.planned}
    text = json.dumps({**plan, "found": document(found)})
    assert of_plan(json.loads(text)) == found


@pytest.mark.parametrize("field", ["verb", "targets", "machine", "planned", "cause", "keep_partial", "colour"])
def test_what_was_found_says_nothing_else(field: str) -> None:
    plan = operate.plan_remove(ScriptedMachine(), "high").document()
    plan["found"][field] = {"verb": "add", "targets": ["low"], "planned": 7, "keep_partial": True}.get(field, "other")
    with pytest.raises(FormatError, match=rf"found\.{field}"):
        of_plan(plan)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["found", "verb", "banks"]), inner),
    max_leaves=6,
)


@given(json_values)
def test_any_document_is_a_plan_or_is_refused(value: object) -> None:
    try:
        of_plan(value)
    except FormatError:
        return


def test_what_all_means() -> None:
    machine = ScriptedMachine(others={"mate": "ddr", "far": "ddr2"})
    assert operate.everything(machine.snapshot(), "remove") == (("high", "mate"), ("far",))
    assert operate.everything(machine.snapshot(), "add") == ()
    operate.remove(machine, ["high", "far"])
    assert operate.everything(machine.snapshot(), "remove") == (("mate",),)
    assert operate.everything(machine.snapshot(), "add") == (("high",), ("far",))
    assert operate.of_domain(machine.snapshot(), "ddr") == ("high", "mate")
