# SPDX-License-Identifier: Apache-2.0
"""Which machine a command works on (DESIGN, invariant 9).

Reading defaults to the machine of ``hotbank up``, else to this host. Changing this host needs ``-m host``.
A recorded machine that doesn't answer is an error, never a fall-through to the host.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hotbank.errors import Code, MachineError, Refusal

if TYPE_CHECKING:
    from hotbank.machine import Machine


@dataclass(frozen=True, slots=True)
class Context:
    """What all commands share: the value of ``-m``, or None."""

    machine_name: str | None

    def machine(self, *, changing: bool) -> Machine:
        """The machine this command works on, connected. Raises MachineError or Refusal."""
        if self.machine_name is not None:
            return _named(self.machine_name, changing)
        from hotbank import serve

        record = serve.current()
        if record is not None:
            return serve.connect(record)
        if changing:
            raise Refusal(
                Code.NO_MACHINE,
                "no machine is up, and this host is changed only when it is named",
                remedy="start one with `hotbank up BOARD`, or name the host with -m host",
            )
        from hotbank.host import Host

        return Host()


def _named(name: str, changing: bool) -> Machine:
    kind, _, rest = name.partition(":")
    if name == "host":
        return _host(changing)
    if kind == "model" and rest:
        return _model(rest)
    if kind in ("unix", "ssh") and rest:
        from hotbank.remote import Remote

        return Remote.unix(rest) if kind == "unix" else Remote.ssh(rest)
    raise MachineError(
        f"no machine is called {name!r}", remedy="use host, model:BOARD, model:CAPTURE, ssh:HOST or unix:PATH"
    )


def _model(name: str) -> Machine:
    """A fresh model: of a board, or in the state of a machine that ``hotbank capture`` looked at."""
    from hotbank import board
    from hotbank.model import Model, capture

    path = board.find(name)
    return Model.restore(capture.load(path)) if capture.is_capture(path) else Model.boot(board.load(path))


def _host(changing: bool) -> Machine:
    """This host: to read, its files; to change, its owner, which is this process where nobody serves it."""
    from hotbank.host import Host

    if not changing:
        return Host()
    from hotbank.remote import Remote, SocketStream
    from hotbank.serve import local

    served = local.served_host()
    return Remote(SocketStream(served)) if served is not None else local.attached(local.owner_of(Host()))
