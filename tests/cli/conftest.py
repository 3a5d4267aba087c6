# SPDX-License-Identifier: Apache-2.0
"""All JSON that a command prints in these tests is held against its schema, whatever the test itself looks at."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from documents import documents, wrong
from hotbank.cli import terminal

_ASKED = {"-J", "--json"}


def printed(command: Any, stdout: Any) -> str:
    """What a command line of ours printed as our JSON; that of --lsmem is lsmem's."""
    words = list(map(str, command)) if isinstance(command, list | tuple) else str(command).split()
    ours = any("hotbank" in word for word in words) and not _ASKED.isdisjoint(words) and "--lsmem" not in words
    return (stdout.decode() if isinstance(stdout, bytes) else stdout or "") if ours else ""


@pytest.fixture(autouse=True)
def _documents_are_as_their_schemas_say(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    faults = list[str]()
    run, text = subprocess.run, terminal.json_text

    def run_and_look(*args: Any, **options: Any) -> Any:
        done = run(*args, **options)
        faults.extend(fault for found in documents(printed(done.args, done.stdout)) for fault in wrong(found))
        return done

    def text_and_look(document: Any, indent: int | None = None) -> str:
        told = text(document, indent)
        faults.extend(wrong(json.loads(told)))
        return told

    monkeypatch.setattr(subprocess, "run", run_and_look)
    monkeypatch.setattr(terminal, "json_text", text_and_look)
    yield
    assert not faults
