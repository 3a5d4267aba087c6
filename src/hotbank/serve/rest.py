# SPDX-License-Identifier: Apache-2.0
"""What a governor does between two looks: it waits until the next is due, tasks wait for memory, or it is to end."""

from __future__ import annotations

import os
import select

from hotbank.host.trigger import Trigger
from hotbank.wire import LONGEST_POLL


class Rest:
    """``trigger``: the kernel's word on the machine that is governed; None where there is none, which is asked then as
    often as it is looked at."""

    def __init__(self, trigger: Trigger | None = None) -> None:
        self._trigger, self._pressed = trigger, False
        self._poll = select.poll()
        self._ends, self._told = os.pipe()
        self._poll.register(self._ends, 0)
        if trigger is not None:
            self._poll.register(trigger.fileno(), select.POLLPRI)

    def sleep(self, seconds: float) -> bool:
        """Return at the latest after so many seconds: True when it is to end."""
        ready = dict(self._poll.poll(min(seconds * 1000, LONGEST_POLL)))
        ended = ready.pop(self._ends, 0)
        for descriptor, events in ready.items():
            self._pressed |= bool(events & select.POLLPRI)
            if events & ~select.POLLPRI:
                self._poll.unregister(descriptor)
        return bool(ended)

    def pressed(self) -> bool:
        """Whether tasks waited for memory since this was asked before."""
        pressed, self._pressed = self._pressed, False
        return pressed

    def end(self) -> None:
        """Make ``sleep`` return, now and ever after; from any thread, once."""
        os.close(self._told)
