# SPDX-License-Identifier: Apache-2.0
"""A ledger as a picture: what is on, per bank, over time; and self-refresh by the share kept, PASR against naive.

Needs matplotlib, the extra ``plot``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hotbank.cli import plots
from hotbank.energy.dram import affine
from hotbank.memory import Power
from hotbank.memspec import Part, parts
from hotbank.report.ledger import Ledger

_COLORS = {Power.ON: "#d95f02", Power.SELF_REFRESH: "#7570b3", Power.OFF: "#bbbbbb", Power.UNKNOWN: "#ffffff"}


def draw(ledger: Ledger, path: str) -> None:
    """Write the picture, SVG or PNG by its name. Raises Refusal without matplotlib or for another kind, OSError."""
    kind = plots.kind_of(path)
    figure = plots.figure(9, 3 + 0.4 * len(ledger.accounts))
    banks, pasr = figure.subplots(1, 2, width_ratios=(2, 1))
    _draw_banks(banks, ledger)
    _draw_pasr(pasr, _with_table(ledger))
    Path(path).write_bytes(plots.rendered(figure, kind))


def _draw_banks(axes: Any, ledger: Ledger) -> None:
    for row, account in enumerate(ledger.accounts):
        for power, color in _COLORS.items():
            bars = [(s.began - ledger.since, s.seconds) for s in account.states if s.power is power]
            axes.broken_barh(bars, (row - 0.4, 0.8), facecolors=color, edgecolor="black", linewidth=0.3)
    axes.set_yticks(range(len(ledger.accounts)), [account.bank for account in ledger.accounts])
    handles = [axes.barh(0, 0, color=color, edgecolor="black", label=power.value) for power, color in _COLORS.items()]
    axes.legend(handles=handles, loc="upper right", fontsize="small")
    axes.set(title=ledger.machine, xlabel="seconds", xlim=(0, max(1e-9, ledger.until - ledger.since)))


def _with_table(ledger: Ledger) -> Part:
    """A part of the ledger whose data sheet has PASR, else the shipped one that has."""
    fitted = [part for account in ledger.accounts for part in account.dram.parts]
    return next(part for part in (*fitted, *parts()) if part.pasr)


def _draw_pasr(axes: Any, part: Part) -> None:
    for temperature, table in sorted(part.pasr.items()):
        fixed, slope = affine(part, temperature)
        shares = sorted(table)
        drawn = [part.partial_self_refresh(share, temperature) for share in shares]
        (line,) = axes.plot([0, 1], [fixed, fixed + slope], label=f"affine, {temperature} °C")
        axes.plot(shares, drawn, "o", color=line.get_color())
        axes.plot([0, 1], [0, fixed + slope], "--", color=line.get_color(), label="naive")
    axes.legend(fontsize="small")
    axes.set(title=f"self-refresh of {part.name}", xlabel="share kept", ylabel="mW/GiB")
    axes.title.set_fontsize("small")
