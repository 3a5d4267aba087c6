# SPDX-License-Identifier: Apache-2.0
"""Trouble on purpose is the trouble that its name says: by the verdict, and by what a removal meets."""

from __future__ import annotations

import click
import pytest

from hotbank import board, operate
from hotbank.cli import cli
from hotbank.errors import Code, Refusal
from hotbank.load.faults import FAULTS
from hotbank.model import Model
from hotbank.operate import Limits

SHORT = Limits(total=2.0, block=2.0, grace=1.0)


@pytest.fixture
def model() -> Model:
    return Model.boot(board.load("arm-2009"), backend="reference", seed=5)


@pytest.mark.parametrize(("fault", "code"), [("pin", Code.PINNED), ("poison", Code.POISONED)])
def test_the_verdict_names_it(model: Model, fault: str, code: Code) -> None:
    assert operate.explain(model, "high").code is Code.OK
    FAULTS[fault](model)
    assert operate.explain(model, "high").code is code
    model.validate()


def test_a_stalled_device_leaves_the_removal_pending(model: Model) -> None:
    FAULTS["stall"](model)
    outcome = operate.remove(model, "high", limits=SHORT)
    assert (outcome.code, outcome.open) == (Code.CANCEL_PENDING, True)


def test_without_a_bank_to_be_in_the_way_of_it_is_refused(model: Model) -> None:
    operate.remove(model, "high")
    with pytest.raises(Refusal, match="no page of a process lies in a bank that may leave"):
        FAULTS["pin"](model)


def test_the_command_offers_what_there_is() -> None:
    up = cli.get_command(click.Context(cli), "up")
    assert up is not None
    (option,) = [parameter for parameter in up.params if parameter.name == "faults"]
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == list(FAULTS)
