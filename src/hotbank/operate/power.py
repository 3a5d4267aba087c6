# SPDX-License-Identifier: Apache-2.0
"""Power of a domain: never off under memory that is in use, never on by hearsay.

Off only after every block that touches the domain is out of the kernel and the machine said so when asked
again; on confirmed before the first block returns. A switch is believed by its status, not by its exit.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import suppress
from functools import partial

from hotbank.errors import Code, HotbankError, KernelError, Refusal, SwitchError
from hotbank.gate import came_back, refuse_unlisted
from hotbank.machine import DomainStatus, Machine, Snapshot, no_such
from hotbank.memory import KernelState, Power
from hotbank.operate.reasons import remedy


def in_use(snapshot: Snapshot, domain: str, besides: Collection[str] = ()) -> tuple[str, ...]:
    """Banks of the domain that the kernel still has, but for those named: ``touching`` by bank, and stuck ones."""
    found = snapshot.domain(domain)
    names = [name for name in (found.banks if found is not None else ()) if name not in besides]
    banks = [bank for name in names if (bank := snapshot.bank(name)) is not None]
    return tuple(b.name for b in banks if b.kernel is not KernelState.ABSENT or snapshot.present(b))


def stays_on(domain: str, banks: Sequence[str]) -> str:
    """Why the power of a domain is not touched, in words."""
    return f"domain {domain} stays on while {', '.join(banks)} {'is' if len(banks) == 1 else 'are'} in use"


def confirm_out(machine: Machine, domain: str) -> DomainStatus:
    """Ask the machine again: the domain, if nothing of it is in the kernel. Raises Refusal(DOMAIN_IN_USE).

    Asked before every switch that goes dark; the machine's own gate asks again (gate.py).
    """
    snapshot = machine.snapshot()
    status = snapshot.domain(domain)
    if status is None:
        raise no_such(snapshot.machine, "domain", domain, [d.name for d in snapshot.domains])
    held = in_use(snapshot, domain)
    if held or snapshot.pending is not None:
        by = held or (f"memory{snapshot.pending}",)
        raise Refusal(Code.DOMAIN_IN_USE, stays_on(domain, by), remedy=remedy(Code.DOMAIN_IN_USE))
    return status


def ask(machine: Machine, domain: str) -> Power:
    """The domain's power by its switch; a switch that can't be asked gives ``unknown``."""
    try:
        return machine.power(domain)
    except (SwitchError, KernelError):
        return Power.UNKNOWN


def turn(machine: Machine, domain: str, want: Power) -> None:
    """Turn the switch and ask whether it took effect.

    Raises SwitchError when it failed or lied, Refusal(POWER_UNKNOWN) when it can't be asked.
    """
    try:
        machine.set_power(domain, want)
    except KernelError as e:
        raise SwitchError(f"domain {domain} was not switched {want}: {e}", remedy=remedy(Code.SWITCH_FAILED)) from e
    power = ask(machine, domain)
    if power is Power.UNKNOWN:
        code = Code.POWER_UNKNOWN
        raise Refusal(code, f"domain {domain} was switched {want} and can't say whether it is", remedy=remedy(code))
    if power is not want:
        _turn_back(machine, domain)
        help_ = remedy(Code.SWITCH_FAILED)
        raise SwitchError(f"domain {domain} was switched {want} and says {power}", remedy=help_)


def _turn_back(machine: Machine, domain: str) -> None:
    """Either the switch or its status lied. Whichever it was, on is what does no harm."""
    with suppress(SwitchError, KernelError):
        machine.set_power(domain, Power.ON)


def switch_on(machine: Machine, domain: str) -> None:
    """Power on, confirmed: ask first; whatever else the answer was, switch on and ask again.

    Raises SwitchError when the switch fails, Refusal(POWER_UNKNOWN) when it can't say that it is on.
    """
    if ask(machine, domain) is not Power.ON:
        turn(machine, domain, Power.ON)


def darken(machine: Machine, domain: str, want: Power) -> Power:
    """Take the domain down to ``want``, or to the next state that its switch reaches; the state it is in then.

    Falls back (off, then self-refresh) only while the switch says that the power is still on. Raises
    Refusal(DOMAIN_IN_USE) when something of it is in the kernel, SwitchError with code LOST when it came in while the
    domain was off, with RACED in self-refresh; SwitchError or Refusal(POWER_UNKNOWN) when no state was reached, or
    the domain has no state ``want``.
    """
    status = confirm_out(machine, domain)
    refuse_unlisted(status, want)
    rungs = [power for power in status.rungs if power.dark]
    reached = _first_that_works(machine, domain, rungs[rungs.index(want) :])
    _confirm_still_out(machine, domain, reached)
    return reached


def _confirm_still_out(machine: Machine, domain: str, was: Power) -> None:
    """Look under a domain that may be dark by now; the light goes on over what came in. Raises as ``came_back``."""
    try:
        confirm_out(machine, domain)
    except Refusal as e:
        raise came_back(domain, was, str(e), partial(switch_on, machine, domain)) from e


def _first_that_works(machine: Machine, domain: str, rungs: list[Power]) -> Power:
    failed: HotbankError | None = None
    for rung in rungs:
        confirm_out(machine, domain)
        try:
            turn(machine, domain, rung)
            return rung
        except (SwitchError, Refusal) as e:
            if e.code in (Code.LOST, Code.RACED):
                raise
            failed = failed or e
            if ask(machine, domain) is not Power.ON:
                _confirm_still_out(machine, domain, rung)
                break
    confirm_out(machine, domain)  # the machine refuses as well when something came in since
    assert failed is not None
    raise failed
