# SPDX-License-Identifier: Apache-2.0
"""The kernel command line: words, quotes, the kernel's number syntax, and what the words say about memory.

Truth: lib/cmdline.c (next_arg, memparse, parse_option_str), kernel/params.c (parse_args, parameq), and the
early parameters of mm/mm_init.c (kernelcore=, movablecore=), mm/memory_hotplug.c (movable_node) and
arch/*/ (mem=). ``movablemem=size@start`` is this project's, beside ATAG_MEM_MOVABLE.
Text is Latin-1: one character is one byte of the line, whatever its encoding was meant to be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from hotbank.errors import FormatError

FORM = "command line"
_SPACES = " \t\n\v\f\r\xa0"
_SUFFIX = {"K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_HEX = tuple("0123456789abcdef")
_U64 = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Parameter:
    """One word of the line. ``value`` is None without ``=``; ``text`` is the word as it stood, quotes included."""

    key: str
    value: str | None
    text: str = field(default="", compare=False)

    @classmethod
    def make(cls, key: str, value: str | None = None) -> Parameter:
        """A word that reads back as this key and value. Raises FormatError when no quoting can do that."""
        wanted = cls(key, value)
        if wanted == cls("--", None):
            raise FormatError(FORM, 0, "--", "ends the kernel's part of the line and is no parameter")
        bare = key if value is None else f"{key}={value}"
        quoted = f'"{key}"' if value is None else f'{key}="{value}"'
        for text in (bare, quoted):
            if (text + " end").count('"') % 2 == 0 and [*_words(text + " end")] == [wanted, cls("end", None)]:
                return cls(key, value, text)
        raise FormatError(FORM, 0, key or "key", f"no way to quote {bare!r}")

    def __str__(self) -> str:
        return self.text or Parameter.make(self.key, self.value).text

    def named(self, name: str) -> bool:
        """True if this is the parameter ``name``: ``-`` and ``_`` are the same (parameq)."""
        return self.key.replace("-", "_") == name.replace("-", "_")


@dataclass(frozen=True, slots=True)
class CommandLine:
    """All words in their order. ``init``: what follows ``--``, which the kernel leaves to init; None without ``--``."""

    parameters: tuple[Parameter, ...] = ()
    init: str | None = None

    def all(self, name: str) -> tuple[str | None, ...]:
        """The values of every ``name``, in order."""
        return tuple(p.value for p in self.parameters if p.named(name))

    def last(self, name: str) -> str | None:
        """The value of the last ``name``; None when there is none, or it has no value."""
        values = self.all(name)
        return values[-1] if values else None


def decode(text: str | bytes) -> CommandLine:
    """Words of a line. A NUL ends the line when nothing but NULs follow it. Raises FormatError."""
    line = (text.decode("latin-1") if isinstance(text, bytes) else text).rstrip("\0")
    if (nul := line.find("\0")) >= 0:
        raise FormatError(FORM, nul, "character", "NUL inside the line")
    wide = next((i for i, c in enumerate(line) if ord(c) > 0xFF), None)
    if wide is not None:
        raise FormatError(FORM, wide, "character", f"{line[wide]!r} is not a byte")
    parameters: list[Parameter] = []
    for word, end in _spans(line):
        if word.key == "--" and word.value is None:
            return CommandLine(tuple(parameters), line[end:])
        parameters.append(word)
    return CommandLine(tuple(parameters))


def typed(text: str) -> str:
    """A line as a person typed it, or as it stands in a file, with one character for each of its UTF-8 bytes."""
    return text.encode("utf-8", "surrogateescape").decode("latin-1")


def encode(line: CommandLine | Iterable[Parameter]) -> str:
    """The line as text; words keep the spelling they were read in.

    Raises FormatError when a word with an open quote would swallow those behind it.
    """
    whole = line if isinstance(line, CommandLine) else CommandLine(tuple(line))
    words = [str(p) for p in whole.parameters]
    text = " ".join(words if whole.init is None else [*words, "--"])
    if whole.init is not None:
        text += f" {whole.init}" if whole.init else ""
    if decode(text) != whole:
        raise FormatError(FORM, 0, "quote", "a word with an open quote is not the last one")
    return text


def memparse(text: str, start: int = 0) -> tuple[int, int]:
    """A number as the kernel reads it: decimal, 0x, 0 octal, one suffix of K M G T P E, modulo 2**64.

    Returns the number and the index of the first character behind it; no digits count as 0.
    """
    value, at = strtoull(text, start)
    suffix = text[at : at + 1].upper()
    return ((value << _SUFFIX[suffix]) & _U64, at + 1) if suffix in _SUFFIX else (value, at)


def strtoull(text: str, start: int = 0) -> tuple[int, int]:
    """A number without a suffix, by its prefix of base 8, 10 or 16, modulo 2**64; as ``memparse`` else."""
    base, at = 10, start
    if text[at : at + 1] == "0":
        base = 8
        if text[at + 1 : at + 2] in ("x", "X") and text[at + 2 : at + 3].lower() in _HEX:
            base, at = 16, at + 2
    value = 0
    while text[at : at + 1].lower() in _HEX[:base]:
        value, at = (value * base + int(text[at], 16)) & _U64, at + 1
    return value, at


def format_number(value: int) -> str:
    """The shortest of ``256M`` and ``0x40000000`` that memparse reads back as ``value``."""
    for suffix, shift in reversed(_SUFFIX.items()):
        if value and value % (1 << shift) == 0 and value >> shift < 10000:
            return f"{value >> shift}{suffix}"
    return f"{value:#x}" if value >= 4096 else str(value)


@dataclass(frozen=True, slots=True)
class SizedRange:
    """``mem=`` or ``movablemem=``: ``start`` is None where the word has no ``@``. In bytes."""

    key: str
    size: int
    start: int | None = None

    def parameter(self) -> Parameter:
        """The word that says this."""
        where = "" if self.start is None else f"@{self.start:#x}"
        return Parameter.make(self.key, format_number(self.size) + where)


@dataclass(frozen=True, slots=True)
class Share:
    """The amount of ``kernelcore=`` and ``movablecore=``: bytes, or percent of all memory when that is not 0."""

    size: int = 0
    percent: int = 0


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """What a command line says about memory. ``ranges`` keeps the order of mem= and movablemem=, which matters.

    ``memory_hotplug`` holds the module's parameters by their short names, with ``_``; ``cma`` and ``numa_fake`` (of
    ``numa=fake=``) the value as written.
    """

    ranges: tuple[SizedRange, ...] = ()
    movable_node: bool = False
    kernelcore: Share = Share()
    kernelcore_mirror: bool = False
    movablecore: Share = Share()
    memhp_default_state: str | None = None
    memory_hotplug: tuple[tuple[str, str | None], ...] = ()
    cma: str | None = None
    vmalloc: int | None = None
    numa_off: bool = False
    numa_fake: str | None = None

    def hotplug_parameter(self, name: str) -> str | None:
        """The last value that the line gives a parameter of memory_hotplug; None when it gives none."""
        return dict(self.memory_hotplug).get(name)

    @property
    def movablemem(self) -> bool:
        """True if the line marks a bank movable."""
        return any(word.key == "movablemem" for word in self.ranges)


def memory_options(line: CommandLine) -> MemoryOptions:
    """The memory part of a line. Malformed values count as the kernel counts them: whatever digits lead."""
    cores = [v for v in line.all("kernelcore") if v is not None]
    return MemoryOptions(
        ranges=tuple(_ranges(line)),
        movable_node=any(p.named("movable_node") for p in line.parameters),
        kernelcore=_share(v for v in cores if "mirror" not in v.split(",")),
        kernelcore_mirror=any("mirror" in v.split(",") for v in cores),
        movablecore=_share(v for v in line.all("movablecore") if v is not None),
        memhp_default_state=line.last("memhp_default_state"),
        memory_hotplug=tuple(
            (name.split(".", 1)[1], p.value)
            for p in line.parameters
            if (name := p.key.replace("-", "_")).startswith("memory_hotplug.")
        ),
        cma=line.last("cma"),
        vmalloc=next((memparse(v)[0] for v in reversed(line.all("vmalloc")) if v is not None), None),
        numa_off=any((value or "").startswith("off") for value in line.all("numa")),
        numa_fake=next((v[5:] for v in reversed(line.all("numa")) if v and v.startswith("fake=")), None),
    )


def _ranges(line: CommandLine) -> Iterator[SizedRange]:
    for word in line.parameters:
        bank = word.named("movablemem") and word.value
        if word.value is None or not (bank or word.named("mem")):  # mem= without a number lifts a cap, or drops all
            continue
        size, end = memparse(word.value)
        start = memparse(word.value, end + 1)[0] if word.value[end : end + 1] == "@" else None
        yield SizedRange(word.key, size, start)


def _share(values: Iterable[str]) -> Share:
    share = Share()
    for value in values:
        number, end = strtoull(value, 0)
        share = Share(share.size, number) if value[end : end + 1] == "%" else Share(memparse(value)[0])
    return share


def _words(line: str) -> Iterator[Parameter]:
    return (word for word, _ in _spans(line))


def _spans(line: str) -> Iterator[tuple[Parameter, int]]:
    """Each word with the index behind the white space that follows it: next_arg, character by character."""
    at = _skip_spaces(line, 0)
    while at < len(line):
        begin, quoted = at, line[at] == '"'
        at += quoted
        first, in_quote, equals = at, quoted, -1
        while at < len(line) and (in_quote or line[at] not in _SPACES):
            if equals < 0 and line[at] == "=" and at > first:
                equals = at
            in_quote ^= line[at] == '"'
            at += 1
        word = _parameter(line, begin, first, equals, at)
        at = _skip_spaces(line, at)
        yield word, at


def _parameter(line: str, begin: int, first: int, equals: int, end: int) -> Parameter:
    text, body_end = line[begin:end], end
    if equals >= 0 and line[equals + 1 : equals + 2] == '"' and equals + 1 < body_end:
        value_start = equals + 2
        if line[end - 1] == '"':
            body_end = max(end - 1, value_start)
    else:
        value_start = equals + 1
    if begin != first and end > first and line[end - 1] == '"':
        body_end = min(body_end, end - 1)
    if equals < 0:
        return Parameter(line[first:body_end], None, text)
    return Parameter(line[first:equals], line[value_start : max(body_end, value_start)], text)


def _skip_spaces(line: str, at: int) -> int:
    while at < len(line) and line[at] in _SPACES:
        at += 1
    return at
