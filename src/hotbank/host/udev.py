# SPDX-License-Identifier: Apache-2.0
"""What udev's rules do to a memory block that was just added: udev(7), src/udev/udev-rules.c of systemd.

The rules are parsed and followed for that one event. What can't be known here (which block it is, ``PROGRAM``,
``IMPORT`` and the properties that it gives, ``CONST{virt}``) makes a match open: such a rule may act, and a jump that
hangs on it is not taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import product

from hotbank import kernels
from hotbank.host import tree as files
from hotbank.host.tree import Tree
from hotbank.memory import Online

FOLDERS = (
    "etc/udev/rules.d",
    "run/udev/rules.d",
    "usr/local/lib/udev/rules.d",
    "usr/lib/udev/rules.d",
    "lib/udev/rules.d",
)
OWN = FOLDERS[0]

_TOKEN = re.compile(
    r"""[\s,]*(?P<key>[A-Z_]+)\s*(?:\{(?P<of>[^}]*)\})?\s*(?P<op>==|!=|\+=|-=|:=|=)\s*(?P<kind>[ei]?)"(?P<value>(?:[^"\\]|\\.)*)\""""
)
_VARIABLE = re.compile(r"\$(?:env|attr|sysfs)\{([^}]*)\}|%E\{([^}]*)\}|%s\{([^}]*)\}")
_PLAIN = (("$kernel", "%k"), ("$devpath", "%p"), ("$sys", "%S"))
_DONE = re.compile(r"(?<![\w/.-])(online_kernel|online_movable|online)(?![\w-])")
_SCRIPT = re.compile(r"/[\w./+-]+")
_DEVICE, _FOLDER = "memory0", "/devices/system/memory"
_WILD = re.compile(r"\[!?\]?[^\]]*\]|[*?]")
_NUMBERS = (*"0123456789", "10", "25", "99", "137", "4095", "123456")  # of blocks, for patterns that mean all or none
_LONGEST_NUMBER = 12  # digits
_MOST = 16  # values of one variable that are followed
_LONGEST_LINE, _LONGEST_VALUE = 16384, 512  # src/udev/udev-def.h: UDEV_LINE_SIZE, UDEV_NAME_SIZE


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
        return self.op in ("==", "!=") or self.key in ("PROGRAM", "IMPORT")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line, which may be continued up to ``last``. ``file`` relative to the root; lines count from 1."""

    file: str
    line: int
    last: int
    tokens: tuple[Token, ...]

    def text(self, key: str) -> str | None:
        """What the rule gives that key, None where it does not."""
        return next((token.value for token in self.tokens if token.key == key and not token.matches), None)


@dataclass(frozen=True, slots=True)
class Onlining:
    """A rule that puts an added block online. ``word``: what it writes; ``sure``: nothing that it asks is open."""

    word: str
    rule: Rule
    sure: bool

    @property
    def remedy(self) -> str:
        """What keeps the rule from acting, and all other rules of its file in force."""
        rule, name = self.rule, self.rule.file.rpartition("/")[2]
        copy = "" if rule.file.startswith(OWN) else f"cp /{rule.file} /{OWN}/; "
        lines = f"line {rule.line}" if rule.line == rule.last else f"lines {rule.line} to {rule.last}"
        return f"{copy}put # before {lines} of /{OWN}/{name}; udevadm control -R"


def onlinings(tree: Tree) -> tuple[Onlining, ...]:
    """Every rule that puts an added block online, in the order in which they act."""
    event = _Event(tree)
    for name, folder in _in_force(tree).items():
        _follow(event, parse(tree.read(f"{folder}/{name}") or "", f"{folder}/{name}"))
    return (*event.found, *_by_programs(tree, event.runs))


def parse(text: str, file: str = "") -> tuple[Rule, ...]:
    """The rules of a file; a line that is none is left out, as udev does."""
    found = ((first, last, _tokens(line)) for first, last, line in _lines(text))
    return tuple(Rule(file, first, last, tokens) for first, last, tokens in found if tokens)


# Files and lines


def _in_force(tree: Tree) -> Mapping[str, str]:
    """The files by name, with the folder of each: an earlier folder hides the same name in later ones."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for name in tree.names(folder):
            if name.endswith(".rules"):
                found.setdefault(name, folder)
    return dict(sorted(found.items()))


def _lines(text: str) -> Iterator[tuple[int, int, str]]:
    """Lines that are not empty and no comment, continued ones joined, each with the numbers of its first and last.

    One that is too long is left out, as udev does.
    """
    first, parts, length = 0, list[str](), 0
    for number, raw in enumerate(text.splitlines(), 1):
        if raw.lstrip().startswith("#"):
            continue
        part = raw.rstrip()
        first, length = first if length else number, length + len(part)
        if length < _LONGEST_LINE:
            parts.append(part.removesuffix("\\"))
        if part.endswith("\\"):
            continue
        if length < _LONGEST_LINE and (joined := " ".join(parts)).strip():
            yield first, number, joined
        parts, length = [], 0


def _tokens(line: str) -> tuple[Token, ...]:
    found, at = list[Token](), 0
    while (match := _TOKEN.match(line, at)) is not None:
        found.append(Token(match["key"], match["of"] or "", match["op"], match["value"], match["kind"] == "i"))
        at = match.end()
    return () if line[at:].strip(" \t,") else tuple(found)


# The event


@dataclass(slots=True)
class _Event:
    """An ``add`` of one offline block. What is known: for each name the values that it may have, None for unknown."""

    tree: Tree
    attributes: dict[str, set[str]] = field(default_factory=lambda: {"state": {"offline"}, "online": {"0"}})
    properties: dict[str, set[str] | None] = field(default_factory=dict)
    imports: bool = False  # of which nobody here knows what they give
    found: list[Onlining] = field(default_factory=list)
    runs: list[tuple[Rule, str, bool]] = field(default_factory=list)

    def values(self, token: Token) -> set[str] | None:
        """What the event has for a key that is asked."""
        if token.key in ("ATTR", "ATTRS"):
            return self.attributes.get(token.of)
        if token.key == "ENV":
            own = _own(token.of, token.value) or (None if self.imports else {""})
            return self.properties.get(token.of, own)
        if token.key == "CONST" and token.of == "arch":
            arch = files.arch(self.tree)
            return None if arch is None else {kernels.arch(arch).systemd or arch}
        return _own(token.key, token.value)

    def asks(self, token: Token) -> bool | None:
        """True, False, or None where it is open."""
        if token.key == "TEST":
            known = token.value in self.attributes or None
            return known if token.op == "==" or known is None else not known
        values = self.values(token)
        if values is None:
            return None
        hits = {_glob(token, value) == (token.op == "==") for value in values}
        return hits.pop() if len(hits) == 1 else None

    def give(self, name: str, values: Set[str], *, sure: bool) -> None:
        """Let a property have one of these, for sure or perhaps; of too many none is known."""
        old = self.properties.get(name, {""})
        both = values if sure else None if old is None else old | values
        self.properties[name] = None if both is None or len(both) > _MOST else {*both}

    def expand(self, text: str) -> set[str]:
        """The text with its variables filled in, in all ways that there are."""
        names = [next(filter(None, match.groups())) for match in _VARIABLE.finditer(text)]
        choices = [sorted(self.properties.get(name) or self.attributes.get(name) or {""}) for name in names]
        ways = (choice for choice, _ in zip(product(*choices), range(_MOST), strict=False))
        return {_fill(text, choice)[:_LONGEST_VALUE] for choice in ways}


_SAME: Mapping[str, set[str]] = {
    "ACTION": {"add"},
    "SUBSYSTEM": {"memory"},
    "SUBSYSTEMS": {"memory"},
    "DRIVER": {""},
    "NAME": {""},
    "SYMLINK": {""},
}


def _own(key: str, asked: str) -> set[str] | None:
    """What the event itself has, as far as ``asked`` tells blocks apart; None for what it has not."""
    if key in ("KERNEL", "KERNELS"):
        return {f"memory{number}" for number in _numbers(asked)}
    if key == "DEVPATH":
        return {f"{_FOLDER}/memory{number}" for number in _numbers(asked)}
    return _SAME.get(key)


def _numbers(asked: str) -> set[str]:
    """Numbers of blocks some of which the patterns match if they match any, and some of which they miss if they miss
    any: common ones, and those that the patterns themselves spell."""
    spelled = [_spelled(pattern, hits=hits) for pattern in asked.split("|") for hits in (True, False)]
    tails = [literal[-most:] for literal in spelled for most in range(1, min(len(literal), _LONGEST_NUMBER) + 1)]
    found = (lead + tail for tail in tails for lead in ("", "1"))
    return {*_NUMBERS, *(number for number in found if re.fullmatch(r"0|[1-9][0-9]*", number, re.ASCII))}


def _spelled(pattern: str, *, hits: bool) -> str:
    """The pattern with nothing for each ``*``, and for what else is wild a digit that it matches, or misses."""

    def digit(wild: re.Match[str]) -> str:
        fits = (one for one in "1234567890" if wild[0] == "?" or fnmatchcase(one, wild[0]) == hits)
        return "" if wild[0] == "*" else next(fits, "")

    return _WILD.sub(digit, pattern)


def _glob(token: Token, value: str) -> bool:
    patterns = token.value.split("|")
    if token.folded:
        patterns, value = [pattern.lower() for pattern in patterns], value.lower()
    return any(fnmatchcase(value, pattern) for pattern in patterns)


def _fill(text: str, choice: Sequence[str]) -> str:
    values = iter(choice)
    filled = _VARIABLE.sub(lambda _: next(values), text)
    for names, value in zip(_PLAIN, (_DEVICE, f"{_FOLDER}/{_DEVICE}", "/sys"), strict=True):
        for name in names:
            filled = filled.replace(name, value)
    return filled


def _follow(event: _Event, rules: Sequence[Rule]) -> None:
    """Go through the rules of a file, over what a ``GOTO`` leaves out."""
    at = 0
    while at < len(rules):
        sure = _applies(event, rules[at])
        if sure is not False:
            _act(event, rules[at], sure=sure is True)
        at = _after_jump(rules, at) if sure else at + 1


def _after_jump(rules: Sequence[Rule], at: int) -> int:
    """Where a rule that applies goes on: at its label below, and without one at the next rule, as in udev's
    ``rule_resolve_goto``."""
    label = rules[at].text("GOTO")
    below = range(at + 1, len(rules)) if label is not None else ()
    return next((place for place in below if rules[place].text("LABEL") == label), at + 1)


def _applies(event: _Event, rule: Rule) -> bool | None:
    """Whether all that the rule asks holds; None where that is open."""
    answers = [event.asks(token) for token in rule.tokens if token.matches]
    return False if False in answers else None if None in answers else True


def _act(event: _Event, rule: Rule, *, sure: bool) -> None:
    event.imports |= any(token.key == "IMPORT" for token in rule.tokens)
    for token in rule.tokens:
        if token.matches:
            continue
        if token.key == "ENV":
            event.give(token.of, event.expand(token.value), sure=sure)
        elif token.key == "ATTR":
            _write(event, rule, token, sure=sure)
        elif token.key == "RUN" and token.of in ("", "program"):
            if token.op in ("=", ":=") and sure:
                event.runs.clear()
            event.runs += [(rule, text, sure) for text in sorted(event.expand(token.value))]


def _write(event: _Event, rule: Rule, token: Token, *, sure: bool) -> None:
    """A write to an attribute; of those that put the block online it is told, and that it is online then."""
    values = event.expand(token.value)
    for value in sorted(values):
        word = _word(token.of, value)
        if word is not None and "offline" in event.attributes["state"]:
            event.found.append(Onlining(word, rule, sure and len(values) == 1))
    if token.of in ("state", "online"):
        on = {bool(_word(token.of, value)) for value in values}
        for name, words in (("state", ("offline", "online")), ("online", ("0", "1"))):
            before = set() if sure else event.attributes[name]
            event.attributes[name] = before | {words[yes] for yes in on}


def _word(attribute: str, value: str) -> str | None:
    """What a value written there means for the block: a word of ``state``, None where it leaves it offline."""
    if attribute == "state":
        return value if value in tuple(Online) else None
    return "online" if attribute == "online" and value[:1] in ("1", "y", "Y", "t", "T") else None


def _by_programs(tree: Tree, runs: Sequence[tuple[Rule, str, bool]]) -> Iterator[Onlining]:
    """Programs that a rule runs and that say themselves, or in a script of theirs, what they write."""
    said: dict[str, str | None] = {}

    def script(path: str) -> str | None:
        if path not in said:
            text = tree.read(path[1:]) or ""
            said[path] = None if "\0" in text else _written(text)
        return said[path]

    for rule, text, sure in runs:
        paths = (path for path in _SCRIPT.findall(text) if not path.startswith("/sys"))
        word = _written(text) or next(filter(None, map(script, paths)), None)
        if word is not None:
            yield Onlining(word, rule, sure)


def _written(text: str) -> str | None:
    """The word that a shell command puts a block online with."""
    if _in_a_line(text, r"\bchmem\b", r"-e\b|--enable\b"):
        return "online"
    if "/state" in text and (found := _DONE.search(text)) is not None:
        return found[1]
    return "online" if _in_a_line(text, r"\b1\b", r"/online\b") else None


def _in_a_line(text: str, first: str, then: str) -> bool:
    """Whether a line has the one, and behind it the other."""
    for line in text.splitlines():
        begin = re.search(first, line)
        if begin is not None and re.search(then, line[begin.end() :]):
            return True
    return False
