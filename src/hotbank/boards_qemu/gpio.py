# SPDX-License-Identifier: Apache-2.0
"""The supply of emulated banks: a GPIO line for each domain, switched by the guest's driver and watched from outside.

A line of the PL061 enables a ``regulator-fixed``, and the bank driver holds that as it would a board's rail
(kernel/bank/power.c). Nobody believes the driver: its line is read in QEMU's monitor, behind the guest's back
(hw/gpio/pl061.c: the data register reads as the lines are; hw/arm/virt.c: where it is, and what is wired to them).

The content follows the line. Off: the line falls, then the files are emptied. On: the line rises, then the files are
filled with noise, because DRAM has no content before it has power, and what it comes up with is arbitrary.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hotbank.board import Board
from hotbank.boards_qemu.dram import BankSwitch
from hotbank.boards_qemu.qmp import Qmp
from hotbank.errors import SwitchError
from hotbank.machine import Machine
from hotbank.memory import Power
from hotbank.routes import route

_DATA = 0x0903_0000 + (0xFF << 2)  # the PL061's GPIODATA with every line in the address mask
_FREE_LINES = (0, 1, 2, 4, 5, 6, 7)  # line 3 is the power button


def lines_of(board: Board) -> dict[str, int]:
    """The line that feeds each bank, by its name: one for every domain that the bank driver can switch as a whole.

    The board says ``switch = "machine"``, and all of the domain's banks go by the driver and may leave. Where there are
    more domains than lines, the last ones go without.
    """
    domains = []
    for domain in board.domains:
        banks = [bank for bank in board.banks if bank.domain == domain.name]
        driven = all(route(bank.route).switches and not bank.at_boot for bank in banks)
        if banks and driven and domain.switch == "machine":
            domains.append(banks)
    return {bank.name: line for banks, line in zip(domains, _FREE_LINES, strict=False) for bank in banks}


def line_is_high(qmp: Qmp, line: int) -> bool:
    """True while that line of the PL061 is high. Raises SwitchError when QEMU does not say, MachineError without it."""
    words: dict[str, Any] = {"command-line": f"xp /1xb {_DATA:#x}"}
    said = qmp.execute("human-monitor-command", **words)
    value = re.search(r": 0x([0-9a-f]+)\s*$", str(said))
    if value is None:
        raise SwitchError(f"QEMU does not say how the lines of its GPIO block stand: {str(said).strip()!r}")
    return bool(int(value[1], 16) >> line & 1)


class GpioSwitch:
    """The switch of a domain that the guest's driver feeds.

    ``files``: the content of its banks. ``reader`` and ``writer``: the guest, to be asked and to be told. ``lines``:
    asks each of the domain's lines, by its number, whether it is high.
    """

    def __init__(
        self,
        domain: str,
        files: BankSwitch,
        reader: Callable[[], Machine],
        writer: Callable[[], Machine],
        lines: Mapping[int, Callable[[], bool]],
    ) -> None:
        self._domain, self._files, self._lines = domain, files, lines
        self._reader, self._writer = reader, writer

    def status(self) -> Power:
        """On or off when the driver, the lines and the content agree, else unknown. Raises SwitchError when the driver
        can't say, or a dark bank was touched."""
        return self.agreed(self._reader().power(self._domain))

    def agreed(self, told: Power) -> Power:
        """The same, where the driver has been asked already."""
        powers = {told, self._files.status()}
        powers |= {Power.ON if is_high() else Power.OFF for is_high in self._lines.values()}
        return powers.pop() if len(powers) == 1 else Power.UNKNOWN

    def turn(self, want: Power) -> None:
        """Have the driver switch it, see that the lines follow, and let the content follow them.

        Raises SwitchError when the driver refuses, or a line is not where the driver says.
        """
        if want is Power.ON and not all(is_high() for is_high in self._lines.values()):
            self._files.turn(Power.OFF)  # whoever let the line fall, the content fell with it
        self._writer().set_power(self._domain, want)
        for line, is_high in self._lines.items():
            if is_high() is not (want is Power.ON):
                level = "low" if want is Power.ON else "high"
                raise SwitchError(
                    f"the guest's driver says that domain {self._domain} is {want}; line {line} is {level}"
                )
        self._files.turn(want)
