# SPDX-License-Identifier: Apache-2.0
"""Which machine a command works on (DESIGN, invariant 9).

Reading defaults to the machine of ``hotbank up``, else to this host. Changing this host needs ``-m host``.
A recorded machine that doesn't answer is an error, never a fall-through to the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

if TYPE_CHECKING:
    from hotbank.machine import Machine
    from hotbank.session import Session


@dataclass(frozen=True, slots=True)
class Context:
    """What all commands share: the value of ``-m``, or None, and of ``--timeout``."""

    machine_name: str | None
    timeout: float | None = None

    def session(self, *, changing: bool) -> Session:
        """The machine this command works on, connected until the command ends. Raises MachineError or Refusal."""
        session = self.connect(changing=changing)
        click.get_current_context().call_on_close(session.close)
        return session

    def visit(self) -> Session:
        """The machine to be watched, and to be changed by the owner that it has. Raises MachineError or Refusal."""
        from hotbank.session import visit

        session = visit(self.machine_name, timeout=self.timeout)
        click.get_current_context().call_on_close(session.close)
        return session

    def connect(self, *, changing: bool) -> Session:
        """The same, for who closes it, or has no command around: another thread."""
        from hotbank.session import connect

        return connect(self.machine_name, change=changing, timeout=self.timeout)

    def at_host(self) -> Context:
        """The same, with this host where no machine is named."""
        return Context(self.machine_name or "host", self.timeout)

    def machine(self, *, changing: bool) -> Machine:
        """The primitives of that machine."""
        return self.session(changing=changing).machine


def given(*names: str) -> tuple[str, ...]:
    """Those of the running command's options that somebody wrote; the others have their default."""
    context = click.get_current_context()
    written = {name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    return tuple(p.opts[0] for p in context.command.params if p.name in written)
