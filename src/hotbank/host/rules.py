# SPDX-License-Identifier: Apache-2.0
"""udev's rules files as udev reads them: src/udev/udev-rules.c of systemd (``udev_rules_parse_file``, ``parse_line``,
``parse_token``, ``sort_tokens``).

A line with anything in it that udev does not take is left out whole, as there: a key that it does not know, an operator
that the key does not have (``ACTION="add"``), something after a value.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_SPACE = " \t\n\r"
_TOKEN = re.compile(
    rf"""[{_SPACE},]*(?P<key>[A-Z_]+)(?:\{{(?P<of>[^}}]*)\}})?[{_SPACE}]*(?P<op>==|!=|\+=|-=|:=|=)[{_SPACE}]*"""
    r"""(?P<folded>i?)(?:"(?P<value>(?:\\"|[^"])*+)"|e"(?P<escaped>(?:\\.|[^"\\])*+)")"""
)
_LINE_END = re.compile(r"\r\n|\n\r|[\n\r\0]")  # read_line()
_ESCAPE = re.compile(r"""\\(?:x(?P<hex>[0-9a-fA-F]{2})|(?P<octal>[0-7]{3})|(?P<char>[abfnrtvs\\"'])|(?P<wrong>))""")
_ESCAPED = dict(zip("abfnrtvs", "\a\b\f\n\r\t\v ", strict=True))
_LONGEST_LINE = 16384  # src/udev/udev-def.h: UDEV_LINE_SIZE


@dataclass(frozen=True, slots=True)
class Token:
    """``ATTR{state}=="offline"``. ``of``: what stands in braces."""

    key: str
    of: str
    op: str
    value: str
    folded: bool = False

    @property
    def matches(self) -> bool:
        """True for what asks, and does nothing."""
        return self.op in _ASKS or self.key in ("PROGRAM", "IMPORT")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line, which may be continued up to ``last``. ``file`` relative to the root; lines count from 1. What it does
    comes in the order in which udev does it."""

    file: str
    line: int
    last: int
    tokens: tuple[Token, ...]

    def text(self, key: str) -> str | None:
        """What the rule gives that key, None where it does not."""
        return next((token.value for token in self.tokens if token.key == key and not token.matches), None)


@dataclass(frozen=True, slots=True)
class _Key:
    """Which operators a key has, and whether it has something in braces: None for perhaps, else a pattern of it."""

    ops: frozenset[str]
    of: str | None = ""


_ASKS, _DOES = frozenset({"==", "!="}), frozenset({"=", "+=", ":="})
_KEYS: Mapping[str, _Key] = {
    **dict.fromkeys(("ACTION", "DEVPATH", "KERNEL", "SUBSYSTEM", "DRIVER", "KERNELS", "SUBSYSTEMS"), _Key(_ASKS)),
    **dict.fromkeys(("DRIVERS", "TAGS", "RESULT"), _Key(_ASKS)),
    "CONST": _Key(_ASKS, "arch|virt|cvm"),
    "ATTRS": _Key(_ASKS, ".+"),
    "TEST": _Key(_ASKS, "[0-7]*"),
    **dict.fromkeys(("ENV", "ATTR", "SYSCTL"), _Key(_ASKS | _DOES, ".+")),
    **dict.fromkeys(("SYMLINK", "TAG"), _Key(_ASKS | _DOES | {"-="})),
    **dict.fromkeys(("NAME", "PROGRAM"), _Key(_ASKS | _DOES)),
    "IMPORT": _Key(_ASKS | _DOES, "file|program|builtin|db|cmdline|parent"),
    **dict.fromkeys(("OPTIONS", "OWNER", "GROUP", "MODE"), _Key(_DOES)),
    "SECLABEL": _Key(_DOES, ".+"),
    "RUN": _Key(_DOES, "program|builtin"),
    **dict.fromkeys(("GOTO", "LABEL"), _Key(frozenset({"="}))),
}
_BARE = ("TEST", "RUN")  # with braces or without
_NAMED = {"DEVLINKS", "DEVNAME", "DEVPATH", "DEVTYPE", "DRIVER", "SUBSYSTEM", "TAGS"}
_FIXED = _NAMED | {"ACTION", "IFINDEX", "MAJOR", "MINOR", "SEQNUM"}  # properties that no rule may set
_ORDER = ("ENV", "SYMLINK", "ATTR", "SYSCTL", "RUN")  # UdevRuleTokenType, of what is done


def parse(text: str, file: str = "") -> tuple[Rule, ...]:
    """The rules of a file; a line that is none is left out, as udev does."""
    found = ((first, last, _tokens(line)) for first, last, line in _lines(text))
    return tuple(Rule(file, first, last, tokens) for first, last, tokens in found if tokens)


def _lines(text: str) -> Iterator[tuple[int, int, str]]:
    """Lines that are not empty and no comment, continued ones joined, each with the numbers of its first and last. A
    backslash with a blank behind it continues nothing.

    One that is too long is left out, as udev does, and one whose continuation the file lacks.
    """
    first, parts, length = 0, list[str](), 0
    lines = _LINE_END.split(text)
    for number, raw in enumerate(lines if lines[-1] else lines[:-1], 1):
        part = raw.lstrip(_SPACE)
        if part.startswith("#"):
            continue
        first, length = first if length else number, length + len(part)
        if length < _LONGEST_LINE:
            parts.append(part.removesuffix("\\"))
        if part.endswith("\\"):
            continue
        if length < _LONGEST_LINE and (joined := "".join(parts)).strip(_SPACE):
            yield first, number, joined
        parts, length = [], 0


def _tokens(line: str) -> tuple[Token, ...]:
    """What the line asks and does; nothing for a line that udev leaves out."""
    found, at = list[Token](), 0
    while (match := _TOKEN.match(line, at)) is not None:
        value = _value(match)
        if value is None or not _is_taken(match, value):
            return ()
        found.append(Token(match["key"], match["of"] or "", match["op"], value, match["folded"] == "i"))
        at = match.end()
    return () if line[at:].strip(_SPACE + ",") else tuple(sorted(found, key=_place))


def _is_taken(match: re.Match[str], value: str) -> bool:
    key, of, op = _KEYS.get(match["key"]), match["of"], match["op"]
    if key is None or op not in key.ops or (match["folded"] and op not in _ASKS):
        return False
    if match["key"] == "NAME" and op not in _ASKS and value in ("", "%k"):
        return False
    if match["key"] == "ENV" and op not in _ASKS and of in _FIXED:
        return False
    if of is None:
        return not key.of or match["key"] in _BARE
    return bool(key.of) and re.fullmatch(key.of or "", of) is not None


def _value(match: re.Match[str]) -> str | None:
    """``udev_rule_parse_value``; None for an escape that there is not."""
    if match["escaped"] is None:
        return match["value"].replace('\\"', '"')
    wrong = any(escape["wrong"] is not None for escape in _ESCAPE.finditer(match["escaped"]))
    return None if wrong else _ESCAPE.sub(_unescaped, match["escaped"])


def _unescaped(escape: re.Match[str]) -> str:
    if escape["char"]:
        return _ESCAPED.get(escape["char"], escape["char"])
    return chr(int(escape["hex"], 16) if escape["hex"] else int(escape["octal"], 8))


def _place(token: Token) -> int:
    """``sort_tokens``: what is asked comes first, then properties are set, then files written, then programs run."""
    return -1 if token.matches or token.key not in _ORDER else _ORDER.index(token.key)
