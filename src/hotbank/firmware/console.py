# SPDX-License-Identifier: Apache-2.0
"""Text that came over a serial console or through an editor: carriage returns, prompts, time stamps, a byte order mark.

What a person copies is the file and some of what stood around it; the lines of the file itself are left as they are.
"""

from __future__ import annotations

import re

_STAMP = re.compile(
    r"(?:<\d{1,3}>)?\[ *\d{1,10}\.\d{1,9}\](?:\[ *[TC]\d+\])? ?"
)  # kernel/printk: print_time, print_caller
_PROMPT = re.compile(r"(?:[\w.@~:/\[\]()-]+ ?)?[#$>%] *(?:(?:sudo )?(?:cat|dmesg|head|more|less|printenv)\b.*)?")


def lines(text: str) -> list[str]:
    """The lines that are no prompt and not blank, without what a terminal or an editor added to them."""
    plain = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    bare = (_STAMP.sub("", line, count=1) if _STAMP.match(line) else line for line in plain)
    return [line for line in bare if line.strip() and not _PROMPT.fullmatch(line.strip())]
