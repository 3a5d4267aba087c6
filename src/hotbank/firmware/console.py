# SPDX-License-Identifier: Apache-2.0
"""Text that came over a serial console or through an editor: carriage returns, prompts, time stamps, a byte order mark,
colours, marks of a quotation.

What a person copies is the file and some of what stood around it; the lines of the file itself are left as they are.
"""

from __future__ import annotations

import codecs
import re
import textwrap
from collections.abc import Sequence

_DAY, _TIME = r"\w{3} [ \d]\d", r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_STAMP = re.compile(
    r"(?:<\d{1,3}>)?\[ *\d{1,10}\.\d{1,9}\](?:\[ *[TC]\d+\])? ?"  # kernel/printk: print_time, print_caller
    rf"|\[\w{{3}} {_DAY} {_TIME} \d{{4}}\] ?"  # dmesg -T
    rf"|(?:{_DAY} {_TIME}|\d{{4}}-\d\d-\d\d[ T]{_TIME}(?:Z|[+-]\d\d:?\d\d)?) (?:[\w.-]{{1,64}} kernel: )?"  # journalctl
    rf"|\[(?:\d{{4}}-\d\d-\d\d[ T])?{_TIME}\] ?"  # picocom, tio, minicom
    r"|\[ *\d{1,10}\.\d{1,9} +\d{1,10}\.\d{1,9}\] ?"  # grabserial
)
_COMMAND = (
    r"(?:(?:sudo|doas|adb shell|ssh [\w.@:-]{1,99}) )?['\"]?(?:cat|dmesg|head|tail|more|less|print|printenv|grep|"
    r"journalctl|md(?:\.[bwlq])?|xxd|hexdump|acpidump|exit|logout)\b.*"
)
_PROMPT = re.compile(
    rf"(?:\[[\w.@:~/ -]{{1,80}}\] ?|[\w.@~:/\[\]()+-]{{1,99}} ?(?:[~/][\w.~/-]{{0,99}} ?)?)?=?[#$>%] *(?:{_COMMAND})?"
)
_CHATTER = re.compile(
    r"\[sudo\] password for .*|[Pp]assword: *|exit|logout|\^[CD]|Script (?:started|done)\b.*|Connection to .* closed\.?"
)
_ESCAPE = re.compile("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|[@-Z\\\\^_=>])")
_UNSEEN = dict.fromkeys(map(ord, "\0\4\7\f\ufeff"))


def text(data: bytes) -> str:
    """A file's text, in UTF-8, or in UTF-16 where its first bytes say so; bytes that are neither become U+FFFD."""
    return data.decode("utf-16" if is_wide(data) else "utf-8", "replace")


def is_wide(data: bytes) -> bool:
    """True for text in UTF-16, as other systems' shells write into files."""
    return data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def plain(text: str) -> str:
    """The text without what a terminal obeys and nobody sees: colours, form feeds, the byte order mark."""
    return _ESCAPE.sub("", text).translate(_UNSEEN)


def lines(text: str) -> list[str]:
    """The lines that are no prompt and not blank, without what a terminal or an editor added to them: the indentation
    that all of them have, too."""
    found = textwrap.dedent(re.sub("\r+\n?", "\n", plain(text))).split("\n")
    bare = (_STAMP.sub("", line, count=1) if _STAMP.match(line) else line for line in _unquoted(found))
    return [line for line in bare if line.strip() and not _is_talk(line.strip())]


def _is_talk(line: str) -> bool:
    return bool(_PROMPT.fullmatch(line) or _CHATTER.fullmatch(line))


def _unquoted(lines: Sequence[str]) -> Sequence[str]:
    """Without the ``>`` that a letter puts before each line that it quotes."""
    quoted = [line for line in lines if line.strip()]
    if len(quoted) < 2 or not all(line.startswith(">") for line in quoted):
        return lines
    return [line.removeprefix(">").removeprefix(" ") for line in lines]
