# SPDX-License-Identifier: Apache-2.0
"""Every reason code is documented, in one paragraph of its own, and says what helps."""

from __future__ import annotations

import re
from pathlib import Path

from hotbank.errors import Code
from hotbank.operate.reasons import remedy

PAGE = Path(__file__).parents[2] / "docs" / "reasons.md"
NOTHING_WRONG = {Code.OK}
SAYS_IT_IN_THE_MESSAGE = {Code.BAD_BOARD, Code.BAD_FORMAT, Code.KERNEL_REFUSED, Code.SYSTEM_ERROR, Code.USAGE}


def test_every_code_has_its_paragraph() -> None:
    parts = re.split(r"^### (\w+)\n", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    paragraphs = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert sorted(parts[1::2]) == sorted(code.value for code in Code)
    assert all(len(text.split("\n## ")[0].strip()) > 60 for text in paragraphs.values())


def test_every_reason_has_a_remedy() -> None:
    without = {code for code in Code if not remedy(code)}
    assert without == NOTHING_WRONG | SAYS_IT_IN_THE_MESSAGE
