# SPDX-License-Identifier: Apache-2.0
"""``hotbank kernel`` as a user meets it, as far as nothing is fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from hotbank.cli import run


@pytest.mark.parametrize("words", [["build"], ["series", "patches"]])
def test_a_tree_says_itself_which_release_it_is(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["kernel", *words, "--kernel", "6.12", "--source", str(tmp_path)]) == 2
    assert "--kernel 6.12: has no effect beside --source" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["build"], ["series", "patches"]])
def test_a_release_that_the_port_is_not_of(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["kernel", *words, "--kernel", "9.9"]) == 1
    assert "our port is of 6.1 and 6.12, not of 9.9; give --kernel one of these" in capsys.readouterr().err
