# SPDX-License-Identifier: Apache-2.0
"""``hotbank power``: the switch of a domain alone, asked or turned."""

from __future__ import annotations

from typing import Any

import click

from hotbank.cli.context import Context
from hotbank.cli.terminal import say, say_json
from hotbank.documents import EXIT_DONE, SCHEMA
from hotbank.machine import DomainStatus, Snapshot, no_such
from hotbank.memory import Power
from hotbank.operate.outcome import is_in
from hotbank.operate.power import in_use

STATUS = "status"
_WORDS = (STATUS, *(power.value for power in (Power.ON, Power.SELF_REFRESH, Power.OFF)))


@click.command("power")
@click.argument("domain", metavar="DOMAIN")
@click.argument("state", type=click.Choice(_WORDS), default=STATUS)
@click.option("-J", "--json", "as_json", is_flag=True, help="One JSON document.")
@click.pass_obj
def power(context: Context, domain: str, state: str, as_json: bool) -> int:
    """Ask the power switch of a domain, or turn it.

    Less than on is refused while any block of the domain is in the kernel; no option goes past that. `hotbank add`
    switches a domain on by itself, `hotbank remove` takes it down with its last bank.
    """
    machine = context.session(changing=state != STATUS)
    if not as_json:
        say(f"machine {machine.name}")
    reached = machine.power(domain, None if state == STATUS else Power(state))
    snapshot = machine.list()
    status = snapshot.domain(domain)
    if status is None:
        raise no_such(snapshot.machine, "domain", domain, [d.name for d in snapshot.domains])
    if as_json:
        say_json(_document(snapshot, status, reached))
    else:
        say(_line(snapshot, status, reached))
    return EXIT_DONE


def _document(snapshot: Snapshot, status: DomainStatus, reached: Power) -> dict[str, Any]:
    return {
        "schema": SCHEMA["power"],
        "machine": snapshot.machine,
        "domain": status.name,
        "power": reached.value,
        "states": [power.value for power in status.states],
        "switch": status.switch,
        "banks": list(status.banks),
        "in_use": list(in_use(snapshot, status.name)),
    }


def _line(snapshot: Snapshot, status: DomainStatus, reached: Power) -> str:
    held = in_use(snapshot, status.name)
    banks = f"; in the kernel: {', '.join(held)}" if held else f"; nothing of {', '.join(status.banks)} in the kernel"
    return f"{is_in(status.name, reached)}{banks if status.banks else ''}"
