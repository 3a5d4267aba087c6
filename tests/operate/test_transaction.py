# SPDX-License-Identifier: Apache-2.0
"""Plans and transactions on a scripted machine: order, deadlines, domains, partial success, events, recovery."""

from __future__ import annotations

import errno
import json
from typing import Any, TypeVar

import pytest

from hotbank import operate
from hotbank.errors import Code, KernelError, Refusal
from hotbank.memory import BlockState, KernelState, Power
from hotbank.operate import Event, Limits, MemoryJournal, Outcome
from hotbank.testing import PAGES, SPARE, Faulty, ScriptedMachine, Watched, places, raising, switch_error
from operate.mortal import Mortal, crash

T = TypeVar("T")


def state(machine: ScriptedMachine, bank: str = "high") -> KernelState:
    found = machine.snapshot().bank(bank)
    assert found is not None
    return found.kernel


def test_a_bank_leaves_and_returns() -> None:
    machine = ScriptedMachine()
    before = places(machine)
    out = operate.remove(machine, "high")
    assert (out.code, out.exit, out.kernel, out.power) == (Code.OK, 0, KernelState.ABSENT, Power.OFF)
    assert out.freed == 256 << 20
    assert (out.planned, out.moved) == (400, 400)
    back = operate.add(machine, "high")
    assert (back.code, back.exit, back.kernel, back.power) == (Code.OK, 0, KernelState.ONLINE, Power.ON)
    assert places(machine) == before
    assert not machine.lost


@pytest.mark.parametrize("verb", ["remove", "add"])
def test_a_second_time_there_is_nothing_to_do(verb: str) -> None:
    machine = ScriptedMachine()
    act = operate.remove if verb == "remove" else operate.add
    act(machine, "high")
    watched = Watched(machine)
    outcome = act(watched, "high")
    assert (outcome.code, outcome.exit) == (Code.OK, 0)
    assert "nothing to do" in outcome.fact
    assert set(watched.calls) <= {"snapshot", "survey"}


def test_the_plan_is_the_json_that_interfaces_pins() -> None:
    machine = ScriptedMachine()
    machine.slots[20].pages = 5000
    plan = operate.plan_remove(machine, "high")
    document = json.loads(json.dumps(plan.document()))
    assert list(document) == [
        "schema",
        "machine",
        "verb",
        "targets",
        "banks",
        "blocks",
        "pages",
        "again",
        "seconds",
        "between",
        "steps",
        "code",
        "found",
    ]
    assert document["pages"] == 5300
    assert document["seconds"] > 0
    assert [s["target"] for s in document["steps"]] == ["memory21", "memory22", "memory23", "memory20", "high", "ddr"]
    assert all(list(s) == ["step", "target"] for s in document["steps"])


def test_events_are_numbered_and_the_last_is_done() -> None:
    events: list[Event] = []
    operate.remove(ScriptedMachine(), "high", on_event=events.append)
    documents = [json.loads(json.dumps(e.document())) for e in events]
    keys = ["schema", "t", "seq", "event", "step", "target", "block", "moved", "total", "code", "errno"]
    assert all(list(d) == keys for d in documents[:-1])
    assert list(documents[-1]) == [*keys, "exit", "fact", "remedy"]
    assert [d["seq"] for d in documents] == list(range(len(documents)))
    assert [d["event"] for d in documents] == ["plan", *["step", "progress"] * 6, "done"]
    targets = [d["target"] for d in documents if d["event"] == "step"]
    assert (sorted(targets[:4]), targets[4:]) == ([f"memory{n}" for n in range(20, 24)], ["high", "ddr"])
    assert [d["moved"] for d in documents if d["event"] == "progress"] == [100, 200, 300, 400, 400, 400]
    assert documents[-1]["exit"] == 0


def test_an_observer_that_fails_stops_nothing() -> None:
    machine = ScriptedMachine()

    def broken_pipe(event: Event) -> None:
        if event.event == "progress":
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        operate.remove(machine, "high", on_event=broken_pipe)
    assert state(machine) is KernelState.ABSENT
    assert machine.level is Power.OFF


def test_force_meets_its_deadline_and_everything_is_back() -> None:
    machine = ScriptedMachine()
    machine.slots[23].why = Code.PINNED
    before = places(machine)
    outcome = operate.remove(machine, "high", force=True, limits=Limits(total=20, block=3))
    assert (outcome.code, outcome.exit) == (Code.DEADLINE, 1)
    assert outcome.evidence[0].why is Code.PINNED
    assert outcome.seconds == pytest.approx(3.03, abs=0.1)
    assert places(machine) == before


def test_the_total_deadline_cuts_the_blocks_short() -> None:
    machine = ScriptedMachine()
    machine.slots[21].why = Code.PINNED
    outcome = operate.remove(machine, "high", force=True, limits=Limits(total=2, block=30))
    assert outcome.code is Code.DEADLINE
    assert outcome.seconds == pytest.approx(2, abs=0.1)


def test_after_a_deadline_the_machine_is_looked_at_once_before_and_once_after_putting_back() -> None:
    """On an emulated CPU a look takes 20 to 80 ms, and all of them come out of the second that an answer may take."""
    machine = Watched(ScriptedMachine())
    machine.machine.slots[23].why, machine.machine.slots[23].pages = Code.PINNED, 5000  # type: ignore[attr-defined]
    outcome = operate.remove(machine, "high", force=True, limits=Limits(total=20, block=3))
    assert (outcome.code, outcome.exit) == (Code.DEADLINE, 1)
    after = machine.calls[len(machine.calls) - machine.calls[::-1].index("offline") :]
    looks = [call for call in after if call not in ("power", "reading")]
    assert looks == ["snapshot", *["online"] * 3, "snapshot", "snapshot"]


def test_looking_at_the_blocks_takes_no_longer_than_the_deadline() -> None:
    machine = Watched(ScriptedMachine())
    machine.fail("survey", 0, lambda: machine.clock.sleep(2), forever=True)
    outcome = operate.remove(machine, "high", force=True, limits=Limits(total=5))
    assert (outcome.code, outcome.exit, outcome.remedy) == (Code.DEADLINE, 1, operate.remedy(Code.DEADLINE))
    assert "2 of 4 blocks" in outcome.fact
    assert outcome.seconds <= 5
    assert not set(machine.calls) & {"offline", "remove", "set_power"}


def test_a_signal_of_somebody_else_is_no_deadline() -> None:
    watched = Watched(ScriptedMachine())
    watched.fail("offline", 1, raising(KernelError(4, "offline")))
    outcome = operate.remove(watched, "high")
    assert (outcome.code, outcome.exit) == (Code.INTERRUPTED, 1)


@pytest.mark.parametrize(
    ("errno", "before", "after", "code"),
    [
        (16, None, Code.UNMOVABLE, Code.UNMOVABLE),
        (16, None, None, Code.RACED),
        (1, None, None, Code.VETO),
        (5, None, None, Code.VETO),
        (12, None, None, Code.NO_CAPACITY),
        (22, None, None, Code.RACED),
    ],
)
def test_a_second_look_explains_the_errno(errno: int, before: Code | None, after: Code | None, code: Code) -> None:
    machine = ScriptedMachine()
    machine.slots[21].why = before
    watched = Watched(machine)

    def fail() -> None:
        machine.slots[21].why = after
        raise KernelError(errno, "offline memory21")

    watched.fail("offline", 1, fail)
    outcome = operate.remove(watched, "high")
    assert (outcome.code, outcome.exit, outcome.errno) == (code, 1, errno)


def test_boot_memory_is_a_veto_by_name() -> None:
    machine = ScriptedMachine(boot_memory_leaves=False)
    assert operate.remove(machine, "high").code is Code.BOOT_MEMORY
    forced = operate.remove(machine, "high", force=True)
    assert (forced.code, forced.errno) == (Code.BOOT_MEMORY, 1)


# Power domains.


@pytest.mark.parametrize("verb", ["remove", "add"])
def test_a_rollback_takes_no_name_of_a_domain_for_a_block(verb: str) -> None:
    """Block 17 is of another bank. No board may name a domain so, but a machine can."""
    machine, act = ScriptedMachine(others={"mate": "memory17"}), getattr(operate, verb)
    if verb == "add":
        operate.remove(machine, "mate")
    before, watched = places(machine), Watched(machine)
    watched.fail("set_power", 0, raising(switch_error()), forever=True)
    outcome = act(watched, "mate")
    assert (outcome.code, outcome.exit) == (Code.SWITCH_FAILED, 1)
    assert places(machine) == before


def test_a_shared_domain_stays_on_until_its_last_bank_is_out() -> None:
    machine = ScriptedMachine(others={"mate": "ddr"})
    first = operate.remove(machine, "high")
    assert (first.code, first.exit, first.power) == (Code.DOMAIN_IN_USE, 0, Power.ON)
    assert state(machine) is KernelState.ABSENT
    last = operate.remove(machine, "mate")
    assert (last.code, last.exit, last.power) == (Code.OK, 0, Power.OFF)
    assert not machine.lost


def test_a_domain_kept_on_goes_dark_when_asked_again() -> None:
    machine = ScriptedMachine(others={"mate": "ddr"})
    operate.remove(machine, "high")
    machine.slots = {n: s for n, s in machine.slots.items() if s.bank != "mate"}
    assert machine.level is Power.ON
    assert operate.remove(machine, "high").power is Power.OFF


@pytest.mark.parametrize(
    ("states", "reached"),
    [
        ((Power.ON, Power.SELF_REFRESH, Power.OFF), Power.OFF),
        ((Power.ON, Power.SELF_REFRESH), Power.SELF_REFRESH),
        ((Power.ON,), Power.ON),
    ],
)
def test_the_ladder_as_the_board_allows(states: tuple[Power, ...], reached: Power) -> None:
    machine = ScriptedMachine(states=states)
    outcome = operate.remove(machine, "high")
    assert (outcome.exit, outcome.power) == (0, reached)
    assert operate.add(machine, "high").exit == 0
    assert machine.level is Power.ON


def test_self_refresh_where_off_fails() -> None:
    watched, journal = Watched(ScriptedMachine()), MemoryJournal()
    watched.fail("set_power", 0, raising(switch_error()))
    outcome = operate.remove(watched, "high", journal=journal)
    assert (outcome.exit, outcome.power) == (0, Power.SELF_REFRESH)
    assert "would not go off" in outcome.fact
    assert [row.step for row in journal.entries()[0].rows][-2:] == ["power-off", "self-refresh"]


def test_nothing_leaves_under_unknown_power() -> None:
    """It could not come back, if the switch failed then."""
    watched = Watched(ScriptedMachine())
    watched.fail("power", 0, raising(switch_error()), forever=True)
    outcome = operate.remove(watched, "high")
    assert (outcome.code, outcome.exit) == (Code.POWER_UNKNOWN, 1)
    assert "offline" not in watched.calls


def test_no_memory_under_unknown_power() -> None:
    machine = ScriptedMachine()
    operate.remove(machine, "high")
    watched = Watched(machine)
    watched.fail("power", 0, raising(switch_error()), forever=True)
    outcome = operate.add(watched, "high")
    assert (outcome.code, outcome.exit) == (Code.POWER_UNKNOWN, 1)
    assert "add" not in watched.calls


# Adding.


def test_a_policy_of_online_movable_is_fine() -> None:
    machine = ScriptedMachine()
    operate.remove(machine, "high")
    machine.auto_online = "online_movable"
    assert operate.add(machine, "high").exit == 0


def test_a_block_that_comes_up_in_a_kernel_zone_is_taken_out_again() -> None:
    machine = ScriptedMachine()
    operate.remove(machine, "high")
    before, watched = places(machine), Watched(machine)

    def udev() -> None:
        machine.slots[22].state, machine.slots[22].zone = BlockState.ONLINE, "Normal"

    watched.fail("online", 1, udev)
    outcome = operate.add(watched, "high")
    assert (outcome.code, outcome.exit) == (Code.NOT_MOVABLE_ZONE, 1)
    assert places(machine) == before
    assert machine.level is Power.OFF


@pytest.mark.parametrize("state", [BlockState.ONLINE, BlockState.OFFLINE])
def test_one_block_of_a_bank_that_is_in_can_not_be_brought(state: BlockState) -> None:
    machine = ScriptedMachine()
    del machine.slots[22]
    machine.slots[21].state = state
    plan = operate.plan_add(machine, "high")
    assert (plan.code, "memory22" in plan.fact) == (Code.UNSUPPORTED, True)
    outcome = operate.add(watched := Watched(machine), "high")
    assert (outcome.code, outcome.exit) == (Code.UNSUPPORTED, 1)
    assert "online" not in watched.calls
    assert operate.remove(machine, "high").exit == operate.add(machine, "high").exit == 0


# Partly done.


def test_keep_partial_leaves_out_what_is_out() -> None:
    machine = ScriptedMachine()
    watched = Watched(machine)
    watched.fail("offline", 2, raising(KernelError(16, "offline")))
    outcome = operate.remove(watched, "high", keep_partial=True)
    assert (outcome.code, outcome.exit, outcome.kernel) == (Code.RACED, 64, KernelState.PARTIAL)
    assert not outcome.unrestored
    out = ", ".join(f"memory{n} was online in Movable and is offline" for n in (20, 21))
    assert outcome.fact.endswith(f"; kept: high was online and is partial, {out}")
    assert operate.remove(machine, "high").exit == 0, "and the rest can follow later"


def test_keep_partial_is_kept_by_recovery_too() -> None:
    machine, journal = ScriptedMachine(), MemoryJournal()
    machine.slots[23].pending, machine.slots[23].pages = True, 5000
    assert operate.remove(machine, "high", journal=journal, keep_partial=True).open
    machine.let_go()
    settled = operate.recover(machine, journal)
    assert settled is not None
    assert (settled.exit, settled.kernel, settled.unrestored) == (64, KernelState.PARTIAL, ())
    assert "stays as far as it was done: high was online and is partial, memory20 was" in settled.fact
    assert [machine.slots[n].state for n in range(20, 24)] == [BlockState.OFFLINE] * 3 + [BlockState.ONLINE]


@pytest.mark.parametrize("at", range(0, 16, 2))
@pytest.mark.parametrize("verb", ["remove", "add"])
def test_so_it_is_after_a_crash(verb: str, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, act = ScriptedMachine(others={"mate": "ddr2"}), getattr(operate, verb)
    if verb == "add":
        operate.remove(machine, ["high", "mate"])
    before, journal = places(machine), Mortal(at, after_writing=True)
    crash(monkeypatch, lambda: act(machine, ["high", "mate"], journal=journal, keep_partial=True))
    done = places(machine)
    settled = operate.recover(machine, journal)
    assert settled is not None
    assert settled.exit != 1 or places(machine) == before
    assert not machine.lost
    if verb == "remove":
        assert places(machine) == done
    else:
        assert all(slot.zone == "Movable" for slot in machine.slots.values() if slot.bank != "low")


def test_keep_partial_of_nothing_is_a_failure() -> None:
    watched = Watched(ScriptedMachine())
    watched.fail("offline", 0, raising(KernelError(16, "offline")))
    assert operate.remove(watched, "high", keep_partial=True).exit == 1


def test_keep_partial_keeps_no_block_in_a_kernel_zone() -> None:
    machine = ScriptedMachine()
    operate.remove(machine, "high")
    watched = Watched(machine)

    def udev() -> None:
        machine.slots[22].state, machine.slots[22].zone = BlockState.ONLINE, "Normal"

    watched.fail("online", 1, udev)
    outcome = operate.add(watched, "high", keep_partial=True)
    assert outcome.exit == 64
    zones = {s.zone for s in machine.slots.values() if s.bank == "high" and s.state is BlockState.ONLINE}
    assert zones == {"Movable"}


def test_a_route_that_lets_go_halfway_leaves_usable_memory() -> None:
    machine = ScriptedMachine()
    before, watched = places(machine), Watched(machine)

    def kmem() -> None:
        machine.stuck = True
        raise KernelError(16, "remove high")

    watched.fail("remove", 0, kmem)
    outcome = operate.remove(watched, "high")
    assert (outcome.code, outcome.exit, outcome.kernel) == (Code.STUCK, 1, KernelState.STUCK)
    assert places(machine) == before
    assert operate.remove(machine, "high", force=True).code is Code.STUCK
    assert operate.add(machine, "high").code is Code.STUCK


# One block, and banks without a route.


def test_a_single_block_goes_offline_and_stays_in_the_kernel() -> None:
    machine = ScriptedMachine()
    outcome = operate.remove(machine, "memory21")
    assert (outcome.exit, outcome.kernel, outcome.power) == (0, KernelState.PARTIAL, Power.ON)
    assert operate.add(machine, 21).exit == 0
    assert state(machine) is KernelState.ONLINE


def test_without_a_route_removal_ends_at_offline() -> None:
    machine = ScriptedMachine(route="none")
    outcome = operate.remove(machine, "high")
    assert (outcome.exit, outcome.kernel, outcome.power) == (0, KernelState.OFFLINE, Power.ON)


def test_an_unknown_bank_is_named() -> None:
    for verb in (operate.remove, operate.add, operate.explain, operate.plan_remove, operate.plan_add):
        with pytest.raises(Refusal, match="no bank or block 'hgih'") as caught:
            verb(ScriptedMachine(), "hgih")
        assert (caught.value.code, caught.value.remedy) == (Code.NO_SUCH_BANK, "known: low, high")


def test_who_names_nothing_is_told_so() -> None:
    for verb in (operate.remove, operate.add, operate.plan_remove, operate.plan_add):
        with pytest.raises(Refusal, match="no bank or block was named") as caught:
            verb(ScriptedMachine(), [])
        assert (caught.value.code, caught.value.remedy) == (Code.NO_SUCH_BANK, operate.remedy(Code.NO_SUCH_BANK))


def test_a_domain_without_banks_is_told_so() -> None:
    machine = ScriptedMachine()
    machine.levels["empty"] = Power.ON
    with pytest.raises(Refusal, match="domain empty has no banks"):
        operate.of_domain(machine.snapshot(), "empty")


def test_an_offline_is_told_what_to_keep_free_and_by_force_nothing() -> None:
    machine = ScriptedMachine()
    assert operate.remove(machine, "high").exit == 0
    assert machine.spared == [SPARE] * 4
    machine = ScriptedMachine()
    assert operate.remove(machine, "high", force=True).exit == 0
    assert machine.spared == [0] * 4


def test_an_offline_that_has_lost_its_room_since_the_plan_is_not_begun() -> None:
    """One pass of a kernel can't be stopped, so the machine must not even be asked; by force it is."""
    machine = ScriptedMachine()
    before, watched = places(machine), Watched(machine)
    watched.fail("offline", 2, lambda: setattr(machine, "free", 0))
    outcome = operate.remove(watched, "high")
    assert (outcome.code, outcome.exit, outcome.errno) == (Code.NO_CAPACITY, 1, None)
    assert "memory23 was not begun: 100 pages have to move" in outcome.fact
    assert (len(machine.spared), places(machine)) == (3, before)
    assert operate.remove(watched, "high", force=True).exit == 0


def test_a_block_that_was_filled_since_the_plan_is_looked_at_again() -> None:
    """It was empty then, and what moved into it must find room now."""
    machine = ScriptedMachine(free=100)
    for number in range(20, 24):
        machine.slots[number].pages = 0
    watched = Watched(machine)
    watched.fail("offline", 2, lambda: setattr(machine.slots[23], "pages", 101))
    outcome = operate.remove(watched, "high")
    assert (outcome.code, len(machine.spared)) == (Code.NO_CAPACITY, 3), outcome
    assert "memory23 was not begun: 101 pages have to move" in outcome.fact


def test_a_block_whose_pages_can_not_be_seen_may_be_full() -> None:
    for free, code in ((PAGES - 1, Code.NO_CAPACITY), (PAGES, Code.OK)):
        machine = ScriptedMachine(free=free)
        for number in range(20, 24):
            machine.slots[number].pages, machine.slots[number].unknown = PAGES, ("kinds", "pins")
        assert operate.remove(machine, "memory20").code is code


def test_a_bank_that_is_not_movable_is_refused() -> None:
    outcome = operate.remove(ScriptedMachine(), "low")
    assert (outcome.code, outcome.exit) == (Code.NOT_MOVABLE_ZONE, 1)


# A kernel that does not let go.


def pending() -> tuple[ScriptedMachine, MemoryJournal, Outcome]:
    machine, journal = ScriptedMachine(), MemoryJournal()
    machine.slots[22].pending = True
    return machine, journal, operate.remove(machine, "high", journal=journal, limits=Limits(total=9, block=4))


def test_cancel_pending_leaves_the_transaction_open_and_the_power_on() -> None:
    machine, journal, outcome = pending()
    assert (outcome.code, outcome.exit, outcome.open, outcome.power) == (Code.CANCEL_PENDING, 1, True, Power.ON)
    assert journal.unfinished() is not None
    for verb in (operate.remove, operate.add):
        assert verb(machine, "high").code is Code.CANCEL_PENDING
    assert operate.explain(machine, 22).code is Code.CANCEL_PENDING


def _found_off(**made: Any) -> Faulty:
    """A bank that is out, its domain off, and whose third block will not come online."""
    machine = ScriptedMachine(**made)
    machine.slots = {n: slot for n, slot in machine.slots.items() if slot.bank != "high"}
    machine.levels["ddr"] = Power.OFF
    faulty = Faulty(machine)
    faulty.fail("online", 2, raising(KernelError(errno.EBUSY, "memory22")), forever=True)
    return faulty


def test_a_state_that_the_board_does_not_list_is_not_gone_back_to() -> None:
    """Another hand had switched it off: the rollback leaves it in the lowest that its switch has, and ends."""
    machine, journal = _found_off(states=(Power.ON, Power.SELF_REFRESH)), MemoryJournal()
    outcome = operate.add(machine, "high", journal=journal)
    assert (outcome.code, outcome.power, outcome.open) == (Code.RACED, Power.SELF_REFRESH, False)
    assert journal.unfinished() is None


def test_a_rollback_writes_down_how_dark_it_got() -> None:
    machine, journal = _found_off(), MemoryJournal()
    machine.fail("set_power", 1, raising(switch_error()))
    assert operate.add(machine, "high", journal=journal).power is Power.SELF_REFRESH
    assert [row.step for row in journal.entries()[0].rows][-2:] == ["power-off", "self-refresh"]


def test_cancel_pending_is_settled_when_the_kernel_lets_go() -> None:
    machine, journal, _ = pending()
    still = operate.recover(machine, journal, patience=2)
    assert still is not None
    assert still.open
    machine.let_go()
    settled = operate.recover(machine, journal)
    assert settled is not None
    assert (settled.exit, settled.open, settled.unrestored) == (1, False, ())
    assert places(machine) == places(ScriptedMachine())
    assert journal.unfinished() is None
    assert operate.remove(machine, "high", journal=journal).exit == 0


def test_one_transaction_at_a_time() -> None:
    machine, journal, _ = pending()
    machine.held = None  # as a client with an old view would have it
    with pytest.raises(Refusal, match=f"pid {journal.pid}") as caught:
        operate.remove(machine, "high", journal=journal)
    assert caught.value.code is Code.BUSY_TRANSACTION


# Crashes, at every point of every act.


ACTS = 6  # of a removal and of an addition of four blocks: each writes an intent and a result


def test_the_crash_points_are_all_of_them() -> None:
    machine, journal = ScriptedMachine(), Mortal(10**6, after_writing=False)
    for act in (operate.remove, operate.add):
        journal.writes = 0
        assert act(machine, "high", journal=journal).exit == 0
        assert journal.writes == 2 * ACTS


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("at", range(2 * ACTS))
@pytest.mark.parametrize("verb", ["remove", "add"])
def test_recovery_after_a_crash(verb: str, at: int, after: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = ScriptedMachine()
    if verb == "add":
        operate.remove(machine, "high")
    before, level = places(machine), machine.level
    journal = Mortal(at, after_writing=after)
    act = operate.remove if verb == "remove" else operate.add
    crash(monkeypatch, lambda: act(machine, "high", journal=journal))
    watched = Watched(machine)
    outcome = operate.recover(watched, journal)
    assert outcome is not None
    assert not outcome.open
    assert not watched.breaches
    assert not machine.lost
    assert journal.unfinished() is None
    forward = verb == "remove" and state(machine) is KernelState.ABSENT
    if forward:
        assert machine.level is Power.OFF
    else:
        assert places(machine) == before
        assert machine.level is level
    assert operate.recover(machine, journal) is None


def test_rows_of_an_earlier_boot_are_superseded() -> None:
    machine, journal, _ = pending()
    machine = ScriptedMachine(boot_id="boot-2")
    watched = Watched(machine)
    outcome = operate.recover(watched, journal)
    assert outcome is not None
    assert (outcome.code, outcome.exit) == (Code.SUPERSEDED, 0)
    assert set(watched.calls) == {"snapshot"}
    assert journal.unfinished() is None


def test_a_machine_that_does_not_say_its_boot_has_not_booted() -> None:
    machine, journal, _ = pending()
    machine.boot_id = ""
    outcome = operate.recover(machine, journal, patience=1.0)
    assert outcome is not None
    assert (outcome.code, outcome.open) == (Code.CANCEL_PENDING, True)


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["total", "block", "grace"])
def test_limits_are_seconds(name: str, seconds: float) -> None:
    with pytest.raises(ValueError, match=f"limits: {name} = "):
        Limits(**{name: seconds})


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "64M", None, 1 << 70])
def test_what_is_to_be_freed_is_a_number_of_bytes(size: object) -> None:
    with pytest.raises(ValueError, match="must be bytes"):
        operate.plan_free(ScriptedMachine(), size)  # type: ignore[arg-type]


def test_the_journal_has_the_reason_that_the_outcome_has() -> None:
    machine, journal = ScriptedMachine(), MemoryJournal()
    machine.slots[22].why = Code.UNMOVABLE
    outcome = operate.remove(machine, "high", journal=journal, force=True, limits=Limits(total=5, block=2))
    (entry,) = journal.entries()
    failed = [row for row in entry.rows if row.target == "memory22"]
    assert (outcome.code, entry.code, [row.code for row in failed]) == (
        Code.UNMOVABLE,
        Code.UNMOVABLE,
        [Code.UNMOVABLE],
    )


@pytest.mark.parametrize("call", ["offline", "remove", "set_power"])
@pytest.mark.parametrize("number", [4, 5, 12, 14, 16, 22])
def test_so_it_has_after_every_errno(call: str, number: int) -> None:
    watched, journal = Watched(ScriptedMachine()), MemoryJournal()
    watched.fail(call, 0, raising(KernelError(number, call)))
    outcome = operate.remove(watched, "high", journal=journal)
    rows = [row for row in journal.entries()[0].rows if row.code is not Code.OK]
    assert outcome.exit == 0 or outcome.code in {row.code for row in rows}
