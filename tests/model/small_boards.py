# SPDX-License-Identifier: Apache-2.0
"""Boards small enough for many runs: 4 MiB blocks, a bank that stays and one that may leave."""

from __future__ import annotations

from hotbank import board
from hotbank.board import Board
from hotbank.errors import KernelError
from hotbank.model import Model

ARM = """
name = "small"
arch = "arm"
block_size = "4M"
describe = "atags"
[bank.low]
start = 0x40000000
size = "32M"
[bank.high]
start = 0x42000000
size = "16M"
movable = true
route = "driver"
domain = "dram"
[domain.dram]
states = ["on", "self-refresh", "off"]
switch = "machine"
"""

HIGH = (264, 265, 266, 267)  # memory blocks of bank high
LOW = tuple(range(256, 264))
FOREVER = 3600.0


def small_board(**changes: str) -> Board:
    """The board, with text of its file replaced: ``small_board(driver="kmem")``."""
    text = ARM
    for old, new in changes.items():
        text = text.replace(old, new)
    return board.loads(text)


def small_model(**changes: str) -> Model:
    """A model of it, just booted."""
    return Model.boot(small_board(**changes))


def errno_of(model: Model, block: int, seconds: float = FOREVER) -> int:
    """0, or the errno with which the block refused to go offline."""
    try:
        model.offline(block, model.clock.now() + seconds)
    except KernelError as e:
        return e.errno
    return 0
