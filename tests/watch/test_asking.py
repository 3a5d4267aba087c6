# SPDX-License-Identifier: Apache-2.0
"""A line that is closed while somebody asks over it ends in words, whatever its stream says of it."""

from __future__ import annotations

import threading
from typing import NoReturn

import pytest

from hotbank import board
from hotbank.errors import MachineError
from hotbank.model import Model
from hotbank.session import Session, connect
from hotbank.watch.asking import Line


@pytest.mark.parametrize("error", [ValueError("file descriptor cannot be a negative integer (-1)"), OSError(9, "x")])
def test_a_line_that_is_closed_under_a_question(error: Exception) -> None:
    line = Line(lambda: connect(Model.boot(board.load("arm-2009"))))

    def question(_: Session) -> NoReturn:
        closing = threading.Thread(target=line.close)
        closing.start()
        closing.join()
        raise error

    with pytest.raises(MachineError, match="the connection is closed"):
        line.ask(question)


def test_what_goes_wrong_in_an_open_line_is_told_as_it_is() -> None:
    line = Line(lambda: connect(Model.boot(board.load("arm-2009"))))

    def question(_: Session) -> NoReturn:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        line.ask(question)
    line.close()
