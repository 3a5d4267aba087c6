# SPDX-License-Identifier: Apache-2.0
"""How long domains were in which state: known journals by hand, conservation on random ones."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from hotbank.errors import Code
from hotbank.memory import Power
from hotbank.operate import Before, Entry, Row
from hotbank.operate.journal import DomainBefore
from hotbank.report.states import DARK, Now, dark_seconds, seconds_by_state, stretches, turned
from hotbank.testing import ScriptedMachine

OK = Code.OK
OFF, ON, SELF, UNKNOWN = Power.OFF, Power.ON, Power.SELF_REFRESH, Power.UNKNOWN


def entry(
    boot: str, began: float, *rows: tuple[str, Code | None, float], found: Power | None = None, code: Code | None = OK
) -> Entry:
    """A transaction of that boot with acts on the domain: step, how it ended, and when."""
    acts = tuple(Row(step, "ddr", code, None, at, at if code else None) for step, code, at in rows)
    domains = (DomainBefore("ddr", found),) if found else ()
    return Entry(1, 1, Before("remove", ("high",), boot, domains=domains), began, acts, code)


def spent(entries: tuple[Entry, ...], boot: str = "a", power: Power | None = None) -> dict[Power, float]:
    """By state, when it is the 100th second and the machine is in that boot."""
    found = stretches(entries, Now(100.0, boot, {} if power is None else {"ddr": power}))
    return seconds_by_state(found.get("ddr", ()))


@pytest.mark.parametrize(
    ("rows", "more", "now", "codes"),
    [
        ([("power-off", OK, 10)], [], OFF, []),
        ([("power-off", OK, 10)], [], ON, ["SWITCH_TURNED"]),
        ([("power-off", OK, 10)], [], UNKNOWN, []),  # said by who asks the switch
        ([("power-off", OK, 10), ("power-on", OK, 20)], [], OFF, ["SWITCH_TURNED"]),
        ([("power-off", Code.SWITCH_FAILED, 10)], [], ON, []),  # nobody knows how it was left
        ([("power-off", OK, 10)], [("b", OK)], ON, []),  # as this boot found it
        ([("power-off", OK, 10)], [("a", None)], ON, []),  # under way
    ],
)
def test_a_switch_that_another_hand_turned_is_found(
    rows: list[tuple[str, Code | None, float]], more: list[tuple[str, Code | None]], now: Power, codes: list[str]
) -> None:
    entries = [entry("a", 0, *rows, found=ON), *(entry(boot, 50, found=ON, code=code) for boot, code in more)]
    machine = ScriptedMachine(boot_id=entries[-1].before.boot_id)
    machine.levels["ddr"] = now
    assert [finding.code for finding in turned(machine.snapshot(), entries)] == codes


DARK_AT_10 = entry("a", 0, ("power-off", OK, 10), found=ON)


@pytest.mark.parametrize(
    ("entries", "boot", "expected"),
    [
        ((), "a", {}),
        ((entry("a", 0, ("offline", OK, 5)),), "a", {}),
        ((DARK_AT_10,), "a", {ON: 10, OFF: 90}),  # to this day
        ((DARK_AT_10,), "b", {ON: 10, UNKNOWN: 90}),  # the machine was down, nobody knows from when
        ((DARK_AT_10, entry("a", 20, ("power-on", OK, 30))), "a", {ON: 80, OFF: 20}),
        (
            (DARK_AT_10, entry("a", 30, ("offline", OK, 35)), entry("b", 40, found=ON)),
            "b",
            {ON: 70, OFF: 25, UNKNOWN: 5},
        ),
        ((DARK_AT_10, entry("a", 60, found=ON)), "a", {ON: 50, UNKNOWN: 50}),  # another hand, nobody knows when
        ((DARK_AT_10, entry("a", 60, found=UNKNOWN)), "a", {ON: 10, UNKNOWN: 90}),
        ((entry("a", 0, ("power-off", Code.SWITCH_FAILED, 10), found=ON),), "a", {ON: 10, UNKNOWN: 90}),
        ((entry("a", 0, ("power-off", Code.DOMAIN_IN_USE, 10), found=ON),), "a", {ON: 100}),
        ((entry("a", 0, ("power-off", None, 10), found=ON),), "a", {ON: 10, UNKNOWN: 90}),
        (
            (entry("a", 0, ("self-refresh", OK, 10), ("power-off", OK, 20), ("power-on", OK, 25), found=ON),),
            "a",
            {ON: 85, SELF: 10, OFF: 5},
        ),
        ((entry("a", 50, ("power-off", OK, 10), found=ON),), "a", {OFF: 50}),  # the clock was set back
    ],
)
def test_seconds_of_known_journals(entries: tuple[Entry, ...], boot: str, expected: dict[Power, float]) -> None:
    assert spent(entries, boot) == expected


def test_the_machine_has_the_last_word() -> None:
    assert spent((DARK_AT_10,), power=OFF) == {ON: 10, OFF: 90}
    assert spent((DARK_AT_10,), power=ON) == {ON: 10, UNKNOWN: 90}


def test_a_transaction_that_a_later_boot_closed_is_no_sign_of_the_earlier_one() -> None:
    left = Entry(1, 1, DARK_AT_10.before, 0.0, DARK_AT_10.rows, Code.SUPERSEDED, None, 80.0)
    assert spent((left,), "b") == {ON: 10, UNKNOWN: 90}


def test_a_clock_that_was_not_set_counts_no_decades() -> None:
    born = 1_800_000_000.0
    entries = (entry("a", 3, ("power-off", OK, 5), found=ON), entry("a", born, ("power-on", OK, born + 10)))
    found = stretches(entries, Now(born + 20, "a"))["ddr"]
    assert seconds_by_state(found) == {OFF: 10, ON: 10}


_TIMES = st.floats(0, 3e9, allow_nan=False)
_ROWS = st.builds(
    Row,
    st.sampled_from(["power-off", "self-refresh", "power-on", "offline", "no such step"]),
    st.sampled_from(["ddr", "other", "memory3", ""]),
    st.sampled_from([OK, None, Code.SWITCH_FAILED, Code.DOMAIN_IN_USE, Code.DAMAGED]),
    st.none(),
    _TIMES,
    st.none() | _TIMES,
)
_DOMAINS = st.builds(DomainBefore, st.sampled_from(["ddr", "other"]), st.sampled_from(Power))
_ENTRIES = st.builds(
    lambda boot, domains, began, rows, code, ended: Entry(
        1, 1, Before("remove", ("high",), boot, domains=tuple(domains)), began, tuple(rows), code, None, ended
    ),
    st.sampled_from("abc"),
    st.lists(_DOMAINS, max_size=2),
    _TIMES,
    st.lists(_ROWS, max_size=4),
    st.sampled_from([OK, None, Code.SUPERSEDED, Code.DAMAGED, Code.INTERRUPTED]),
    st.none() | _TIMES,
)
_NOW = st.builds(Now, _TIMES, st.sampled_from("abc"), st.dictionaries(st.sampled_from(["ddr"]), st.sampled_from(Power)))


@examples(1000)
@given(st.lists(_ENTRIES, min_size=1, max_size=6), _NOW)
def test_states_add_up_to_the_span(entries: list[Entry], now: Now) -> None:
    """With reboots, crashes, clocks that were set, open and damaged transactions."""
    found = stretches(entries, now)
    spans = {(states[0].began, states[-1].ended) for states in found.values() if states}
    assert len(spans) <= 1
    for states in found.values():
        assert all(
            before.ended == after.began and before.power is not after.power for before, after in pairwise(states)
        )
        assert all(stretch.seconds > 0 for stretch in states)
        total = states[-1].ended - states[0].began if states else 0
        assert sum(seconds_by_state(states).values()) == pytest.approx(total)


@examples(200)
@given(st.lists(_ENTRIES, min_size=1, max_size=6), _NOW)
def test_nothing_is_dark_that_no_act_and_no_look_made_so(entries: list[Entry], now: Now) -> None:
    dark = {d.name for e in entries for d in e.before.domains if d.power in DARK}
    dark |= {
        row.target for e in entries for row in e.rows if row.code is OK and row.step in ("power-off", "self-refresh")
    }
    dark |= {name for name, power in now.powers.items() if power in DARK}
    assert all(
        not dark_seconds(seconds_by_state(states))
        for name, states in stretches(entries, now).items()
        if name not in dark
    )
