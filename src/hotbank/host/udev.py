# SPDX-License-Identifier: Apache-2.0
"""What udev's rules do to a memory block that was just added: udev(7), src/udev/udev-rules.c of systemd.

The rules are parsed and followed for that one event. What can't be known here (which block it is, ``PROGRAM``,
``IMPORT`` and the properties that it gives, ``CONST{virt}``) makes a match open: such a rule may act, and
what a jump that hangs on it leaves out may act, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from hotbank import kernels
from hotbank.host import globs
from hotbank.host import tree as files
from hotbank.host.rules import Rule, Token, parse
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

_VARIABLE = re.compile(
    r"\$env\{(?P<env>[^}]*)\}|%E\{(?P<e>[^}]*)\}|\$(?:attr|sysfs)\{(?P<attr>[^}]*)\}|%s\{(?P<s>[^}]*)\}"
    r"|(?P<result>\$result|%c)(?:\{[^}]*\})?"
)
_OF_DEVICE = re.compile(r"\[(?P<subsystem>(?!memory/)[\w-]+)/(?P<device>[\w:.-]+)\]/?(?P<file>[\w-]+)")
_OTHER_BLOCK = re.compile(r"(?:\[memory/memory\d+\]/?|\.\./memory\d+/)(?=state$|online$)")
_PLAIN = (("$kernel", "%k"), ("$devpath", "%p"), ("$sys", "%S"))
_DONE = re.compile(r"(?<![\w/.-])(online_kernel|online_movable|online)(?![\w-])")
_SCRIPT = re.compile(r"/[\w./+-]+")
_DEVICE, _FOLDER = "memory0", "/devices/system/memory"
_NUMBERS = (*"0123456789", "10", "25", "99", "137", "4095", "123456")  # of blocks, for patterns that mean all or none
_LONGEST_NUMBER = 12  # digits
_MOST = 16  # values of one variable that are followed
_LONGEST_VALUE = 512  # src/udev/udev-def.h: UDEV_NAME_SIZE


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
        text = (tree.read_bytes(f"{folder}/{name}") or b"").decode("utf-8", "replace")
        _follow(event, parse(text, f"{folder}/{name}"))
    return (*event.found, *_by_programs(tree, event.runs))


# Files


def _in_force(tree: Tree) -> Mapping[str, str]:
    """The files by name, with the folder of each: an earlier folder hides the same name in later ones."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for name in tree.names(folder):
            if name.endswith(".rules") and not name.startswith("."):
                found.setdefault(name, folder)
    return dict(sorted(found.items()))


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
            return self.attributes.get(token.of, self._elsewhere(token.of))
        if token.key == "ENV":
            own = _own(token.of, token.value) or (None if self.imports else {""})
            return self.properties.get(token.of, own)
        if token.key == "CONST" and token.of == "arch":
            arch = files.arch(self.tree)
            return None if arch is None else {kernels.arch(arch).systemd or arch}
        return _own(token.key, token.value)

    def _elsewhere(self, attribute: str) -> set[str] | None:
        """``[dmi/id]sys_vendor``: an attribute of another device; a running machine that lacks it has no value."""
        match = _OF_DEVICE.fullmatch(attribute)
        if match is None:
            return None
        said = self.tree.read(f"sys/class/{match['subsystem']}/{match['device']}/{match['file']}")
        return {said} if said is not None else set() if self.tree.running else None

    def asks(self, token: Token) -> bool | None:
        """True, False, or None where it is open."""
        if token.key == "TEST":
            known = (not token.of and token.value in self.attributes) or None
            return known if token.op == "==" or known is None else not known
        values = self.values(token)
        if not values:
            return None if values is None else False
        hits = {_glob(token, value) == (token.op == "==") for value in values}
        return hits.pop() if len(hits) == 1 else None

    def give(self, token: Token, *, sure: bool) -> None:
        """Set a property, for sure or perhaps; of too many values none is known."""
        old, new = self.properties.get(token.of, {""}), self.expand(token.value)
        if token.op == "+=" and old is not None and new is not None:
            new = {" ".join(filter(None, both)) for both in product(old, new)}
        both = new if sure or new is None else None if old is None else old | new
        self.properties[token.of] = None if both is None or len(both) > _MOST else {*both}

    def expand(self, text: str) -> set[str] | None:
        """The text with its variables filled in, in all ways that there are; None where one is not known."""
        choices = [self._filler(match) for match in _VARIABLE.finditer(text)]
        known = [sorted(choice) for choice in choices if choice is not None]
        if len(known) < len(choices):
            return None
        ways = (choice for choice, _ in zip(product(*known), range(_MOST), strict=False))
        return {_fill(text, choice)[:_LONGEST_VALUE] for choice in ways}

    def _filler(self, variable: re.Match[str]) -> set[str] | None:
        """What stands for a variable; None for what a program says, and for a file that nobody can read here."""
        name = variable["env"] or variable["e"]
        if name is not None:
            return self.properties.get(name, None if self.imports else {""})
        return self.attributes.get(variable["attr"] or variable["s"] or "")


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
        fits = (one for one in "1234567890" if wild[0] == "?" or globs.matches(wild[0], one) == hits)
        return "" if wild[0] == "*" else next(fits, "")

    pieces, at = list[str](), 0
    for wild in globs.wild(pattern):
        pieces += [pattern[at : wild.start()], digit(wild)]
        at = wild.end()
    return "".join(pieces) + pattern[at:]


def _glob(token: Token, value: str) -> bool:
    asked = token.value
    if token.folded:
        asked, value = asked.lower(), value.lower()
    return globs.any_matches(tuple(asked.split("|")), value)


def _fill(text: str, choice: Sequence[str]) -> str:
    values = iter(choice)
    filled = _VARIABLE.sub(lambda _: next(values), text)
    for names, value in zip(_PLAIN, (_DEVICE, f"{_FOLDER}/{_DEVICE}", "/sys"), strict=True):
        for name in names:
            filled = filled.replace(name, value)
    return filled


def _follow(event: _Event, rules: Sequence[Rule]) -> None:
    """Go through the rules of a file, over what a ``GOTO`` leaves out. What an open one may leave out is open, too."""
    at, doubtful = 0, 0  # rules before that place may have been jumped over
    while at < len(rules):
        holds = _applies(event, rules[at])
        sure, target = holds is True and at >= doubtful, at + 1
        if holds is not False:
            _act(event, rules[at], sure=sure)
            target = _after_jump(rules, at)
        if not sure:
            doubtful, target = max(doubtful, target), at + 1
        at = target


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
            event.give(token, sure=sure)
        elif token.key == "ATTR":
            _write(event, rule, token, sure=sure)
        elif token.key == "RUN" and token.of in ("", "program"):
            if token.op in ("=", ":=") and sure:
                event.runs.clear()
            texts = event.expand(token.value) or {token.value}
            event.runs += [(rule, text, sure) for text in sorted(texts)]


def _write(event: _Event, rule: Rule, token: Token, *, sure: bool) -> None:
    """A write to an attribute; of those that put a block online it is told, and that this one is online then. A value
    that is not known may be any."""
    values = event.expand(token.value)
    known, others = values or {Online.ONLINE, "1", ""}, _OTHER_BLOCK.match(token.of) is not None
    name, sure = _OTHER_BLOCK.sub("", token.of), sure and values is not None and not others
    for value in sorted(known):
        word = _word(name, value)
        if word is not None and (others or "offline" in event.attributes["state"]):
            event.found.append(Onlining(word, rule, sure and len(known) == 1))
    if name in ("state", "online") and not others:
        on = {bool(_word(name, value)) for value in known}
        for file, words in (("state", ("offline", "online")), ("online", ("0", "1"))):
            before = set() if sure else event.attributes[file]
            event.attributes[file] = before | {words[yes] for yes in on}


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
    if _in_a_line(text, r"\bchmem\b", r"(?<!\S)-[a-z]*e|--enable\b"):
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
