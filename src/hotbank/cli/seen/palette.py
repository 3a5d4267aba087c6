# SPDX-License-Identifier: Apache-2.0
"""Colours, dark and light, and what of them stands for what.

Grounds differ in lightness too, not in hue alone, and each has its sign, so that nothing is told by colour only.
Without colours (no-color.org) signs and reverse video tell all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from textual.color import Color
from textual.theme import Theme

from hotbank.report.cells import Group


@dataclass(frozen=True, slots=True)
class Palette:
    """One set. ``used``: of a block whose pages nobody has seen, the part in use; ``unseen``: one of which not even
    that is known. ``ink`` on grounds that are light, ``chalk`` on those that are dark."""

    groups: Mapping[Group, str]
    used: str
    unseen: str
    offline: str
    out: str
    dark: str
    faint: str
    good: str
    warn: str
    bad: str
    accent: str
    ink: str = "#10151b"
    chalk: str = "#eef2f5"


NIGHT = Palette(
    {
        Group.KERNEL: "#c4665a",
        Group.PINNED: "#b079c0",
        Group.ANON: "#4f9fb8",
        Group.FILE: "#6f8fd6",
        Group.UNKNOWN: "#7d8590",
        Group.POISONED: "#e3b341",
        Group.HOLE: "#20262d",
        Group.FREE: "#2b4a41",
    },
    used="#5a86a0",
    unseen="#39424d",
    offline="#4a525c",
    out="#20262d",
    dark="#050709",
    faint="#7d8590",
    good="#6cc49a",
    warn="#e3b341",
    bad="#e5786b",
    accent="#f0c674",
)
DAY = Palette(
    {
        Group.KERNEL: "#d97a6c",
        Group.PINNED: "#c48fd2",
        Group.ANON: "#74b9cf",
        Group.FILE: "#93aeea",
        Group.UNKNOWN: "#b6bcc5",
        Group.POISONED: "#e8bf4f",
        Group.HOLE: "#e4e7ea",
        Group.FREE: "#cfe6da",
    },
    used="#84aac0",
    unseen="#cdd3da",
    offline="#a9b0b9",
    out="#e4e7ea",
    dark="#2b3036",
    faint="#6a737d",
    good="#1f7a4d",
    warn="#8a6100",
    bad="#b3382c",
    accent="#9a5b00",
)

_LIGHT = 0.43  # brightness from which on a ground is light
_NIGHT, _DAY, _PLAIN = "hotbank-night", "hotbank-day", "ansi-dark"
THEMES = (
    Theme(
        _NIGHT, primary="#4f9fb8", accent=NIGHT.accent, success=NIGHT.good, warning=NIGHT.warn, error=NIGHT.bad,
        foreground="#d5dbe1", background="#0e1217", surface="#12171d", panel="#1a2027", dark=True,
    ),
    Theme(
        _DAY, primary="#2f7f99", accent=DAY.accent, success=DAY.good, warning=DAY.warn, error=DAY.bad,
        foreground="#22282e", background="#f6f7f8", surface="#fbfcfc", panel="#e9ecef", dark=False,
    ),
)  # fmt: skip


def theme(*, light: bool, plain: bool) -> str:
    """The name of one; ``plain``: without any colour."""
    return _PLAIN if plain else _DAY if light else _NIGHT


def ink_on(palette: Palette, ground: str) -> str:
    """What reads on it."""
    return palette.ink if Color.parse(ground).brightness > _LIGHT else palette.chalk
