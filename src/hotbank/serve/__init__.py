# SPDX-License-Identifier: Apache-2.0
"""A machine that lasts: served by a background process on a Unix socket, and found again from other shells.

    record = serve_in_background(ModelSpec("arm-2009"))     hotbank up
    with connect(current()) as machine: ...                 a Machine, see hotbank.remote
    remove(machine, "high", on_event=...)                   carried out by the owner's worker
    down(record)                                            hotbank down

| module | what it is |
|---|---|
| `owner`, `answers` | who owns a machine and lets one change happen at a time; the functions that answer calls |
| `loop`, `crew` | one thread for all clients; few threads for what they ask |
| `door`, `line`, `later` | who comes in; a client's line; answers that are not due yet |
| `job`, `worker`, `watchdog` | one order; the child that carries it out; who sees that child die |
| `workers`, `firm` | such children, one of which stands ready while somebody governs; how that one holds out |
| `client` | what a client orders |
| `protocol` | what an owner answers beyond its machine |
| `desk` | where a governor tells of its looks and hears what it was told |
| `governing`, `rest` | a governor at work on a machine that has an owner; what it does between looks |
| `news`, `past` | what happens on a machine, for any number of readers; its journal, a part at a time |
| `background`, `daemon` | the current machine: started, recorded, found, ended; the process it lives in |
| `local` | this host's owner |
| `systemd` | what the service manager is told, and the socket that it hands over |
| `state`, `peers`, `children` | sockets and journals; who is at the other end; child processes |
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hotbank.faces import handing_on

if TYPE_CHECKING:
    from hotbank.serve.background import (
        ModelSpec,
        Record,
        check_free,
        connect,
        current,
        down,
        forget,
        home,
        names,
        recorded,
        remember,
        serve_in_background,
        start_in_background,
    )
    from hotbank.serve.client import add, history, power, recover, remove
    from hotbank.serve.protocol import Order
    from hotbank.serve.state import runtime_folder

__all__ = [
    "ModelSpec",
    "Order",
    "Record",
    "add",
    "check_free",
    "connect",
    "current",
    "down",
    "forget",
    "history",
    "home",
    "names",
    "power",
    "recorded",
    "recover",
    "remember",
    "remove",
    "runtime_folder",
    "serve_in_background",
    "start_in_background",
]

_HOMES = {
    "background": {
        "ModelSpec",
        "Record",
        "check_free",
        "connect",
        "current",
        "down",
        "forget",
        "home",
        "names",
        "recorded",
        "remember",
        "serve_in_background",
        "start_in_background",
    },
    "client": {"add", "history", "power", "recover", "remove"},
    "protocol": {"Order"},
    "state": {"runtime_folder"},
}

if not TYPE_CHECKING:
    __getattr__ = handing_on(__name__, _HOMES)
