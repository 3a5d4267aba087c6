# SPDX-License-Identifier: Apache-2.0
"""The same operations on a real kernel and on the model of the same board: the same errno, states and zones."""

from __future__ import annotations

import errno
import random
from collections import Counter
from pathlib import Path

import pytest

from hotbank import board
from hotbank.boards_qemu import Wanted
from hotbank.errors import KernelError
from hotbank.machine import Machine
from hotbank.memory import Online
from hotbank.model import Model
from kernel.kernel_kit import guest

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(600)]

BOARD = Path(__file__).with_name("small.toml")
SEED, OPERATIONS = 20100, 120

Operation = tuple[str, int]
Seen = tuple[int, tuple[tuple[int, str, tuple[str, ...]], ...]]


def test_random_operations_end_alike() -> None:
    """Known and left out: plain ``online`` and ``online_kernel``, which our driver vetoes and the model allows."""
    dice = random.Random(SEED)
    model = Model.boot(board.load(BOARD))
    span = board.load(BOARD).banks[1].range
    with guest(Wanted(str(BOARD))) as machine:
        numbers = range(span.start // (128 << 20), span.end // (128 << 20))
        refused: Counter[int] = Counter()
        for step in range(OPERATIONS):
            operation = (dice.choice(("add", "remove", "online", "online", "offline", "offline")), dice.choice(numbers))
            real, modelled = outcome(machine, operation, numbers), outcome(model, operation, numbers)
            assert real == modelled, (step, operation)
            refused[real[0]] += 1
        assert refused.keys() >= {0, errno.EINVAL, errno.EBUSY, errno.EEXIST, errno.ENOENT}, refused
        assert refused[0] <= 0.85 * OPERATIONS


def outcome(machine: Machine, operation: Operation, numbers: range) -> Seen:
    """The errno of one operation (0 when it was done), and the bank's blocks afterwards."""
    verb, number = operation
    code = 0
    try:
        if verb == "add":
            machine.add("high")
        elif verb == "remove":
            machine.remove("high")
        elif verb == "online":
            machine.online(number, Online.MOVABLE)
        else:
            machine.offline(number, machine.clock.now() + 60)
    except KernelError as e:
        code = e.errno
    blocks = (b for b in machine.snapshot().blocks if b.number in numbers)
    return code, tuple((b.number, b.state.value, b.valid_zones) for b in blocks)
