# SPDX-License-Identifier: Apache-2.0
"""What a wrong word is answered with, for people and for programs."""

from __future__ import annotations

import json

import pytest

from hotbank.cli import run
from hotbank.machine import no_such


def test_a_mistyped_command_gets_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explian"]) == 2
    assert "Did you mean explain" in capsys.readouterr().err


def test_a_message_lists_few_names_and_of_many_the_nearest() -> None:
    assert no_such("m", "bank", "'hihg'", ["low", "high"]).remedy == "known: low, high"
    many = no_such("m", "bank", "'b3001'", [f"b{n}" for n in range(8192)]).remedy
    assert "b3001" in many
    assert len(many) < 100
    assert many.endswith("hotbank list shows all 8192")


def test_names_that_are_numbers_are_folded() -> None:
    host = [f"memory{n}" for n in range(8192) if n != 24]
    assert no_such("host", "bank or block", "'9999'", host).remedy == "known: memory0–23, memory25–8191"
    assert "nearest: " in no_such("host", "bank or block", "'high'", host[::2]).remedy


def test_a_physical_address_is_the_block_it_lies_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-m", "model:arm-2009", "explain", "0x55555555"]) == 0
    assert "target    memory21  0x54000000-" in capsys.readouterr().out
    for wrong in ("0x60000000", "0x1ffffffff0000000000", "0x"):
        assert run(["-m", "model:arm-2009", "explain", wrong]) == 1
        assert f"no bank or block '{wrong}'" in capsys.readouterr().err


@pytest.mark.parametrize("spelling", ["-J", "--json"])
def test_a_refusal_is_a_document_for_programs(spelling: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["-m", "model:arm-2009", "explain", "nothing", spelling]) == 1
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["error"]["code"]) == (1, "NO_SUCH_BANK")
    assert document["error"].keys() == {"code", "message", "remedy"}


@pytest.mark.parametrize(("bank", "status"), [("low", 1), ("high", 0)])
@pytest.mark.parametrize("verb", ["explain", "plan"])
def test_an_answer_of_no_is_a_status_where_asked(verb: str, bank: str, status: int) -> None:
    assert run(["-m", "model:arm-2009", verb, bank]) == 0
    assert run(["-m", "model:arm-2009", verb, bank, "--exit-code"]) == status
