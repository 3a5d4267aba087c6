# SPDX-License-Identifier: Apache-2.0
"""docs/board.md against the reader: every key with its default, every word, and boards that load."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from hotbank import board, kernels
from hotbank.board import TABLES, Board
from hotbank.keys import Key
from hotbank.model import Model
from hotbank.routes import ROUTES

PAGE = (Path(__file__).parents[2] / "docs/board.md").read_text()
BOARDS = [board.loads(text) for text in re.findall(r"^```toml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)]
_HEADINGS = {"": "Above all tables", "bank": "`[bank.NAME]`", "domain": "`[domain.NAME]`"}
_ROW = re.compile(r"^\| `([\w-]+)` \|([^|]*)\|([^|]*)\|", re.MULTILINE)


def rows(kind: str) -> dict[str, tuple[str, str]]:
    """Key to what the page says of its values and its default."""
    section = PAGE.split(f"### {_HEADINGS[kind]}\n")[1].split("\n#")[0]
    return {key: (value.strip(), default.strip()) for key, value, default in _ROW.findall(section)}


@pytest.mark.parametrize("kind", TABLES)
def test_the_page_has_every_key_and_its_default(kind: str) -> None:
    told = rows(kind)
    assert {*told} == {key.name for key in TABLES[kind]}
    for key in TABLES[kind]:
        assert _default(key, told[key.name][1]), f"{key.name}: {told[key.name][1]!r} is not {key.default!r}"


def _default(key: Key, told: str) -> bool:
    """True if what the page says is what the reader takes: it reads the page's word as it would a file's."""
    if key.needed:
        return told == "must be given"
    if not told:
        return key.default in (None, ())
    return bool(key.parse(tomllib.loads(f"x = {told.strip('`')}")["x"]) == key.default)


def test_the_page_has_every_word() -> None:
    assert set(re.findall(r"`([\w-]+)`", rows("")["arch"][0])) == {*kernels.ARCHES}
    assert set(re.findall(r"`([\w-]+)`", rows("")["describe"][0])) == {*board.DESCRIPTIONS}
    assert set(re.findall(r"`([\w-]+)`", rows("bank")["route"][0])) == {*ROUTES}
    assert set(re.findall(r"`([\w-]+)`", rows("domain")["switch"][0])) == {*board.SWITCHES}


def test_a_row_with_another_default_is_found() -> None:
    assert not _default(Key("timeout", float, 10.0), "`11.0`")
    assert not _default(Key("timeout", float, 10.0), "")


def test_the_worked_boards_have_all_that_is_promised() -> None:
    assert {bank.route for its in BOARDS for bank in its.banks} >= {"driver", "kmem", "virtio-mem"}
    assert {domain.switch for its in BOARDS for domain in its.domains} == {*board.SWITCHES}
    assert any(domain.interleaved for its in BOARDS for domain in its.domains)
    assert {its.arch for its in BOARDS} == {"arm", "arm64", "x86_64"}


@pytest.mark.parametrize("its", [its for its in BOARDS if its.arch in kernels.bootable()], ids=lambda its: its.name)
def test_a_worked_board_boots_as_a_model(its: Board) -> None:
    assert {bank.name for bank in Model.boot(its, backend="compiled").snapshot().banks} == {b.name for b in its.banks}
