# SPDX-License-Identifier: Apache-2.0
"""Machines asked, so many at a time: ``hotbank -m MACHINE`` and words, each in a process of its own.

So every verb means what it means of one machine, and a machine that hangs costs its time and nothing else: its process
and the ssh below it are ended. Processes die with this one, and ssh asks nothing on the terminal.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from hotbank.documents import EXIT_DONE, EXIT_FAILED, SCHEMA
from hotbank.errors import Code
from hotbank.fleet.inventory import Member

FORKS, TIMEOUT = 32, 10.0  # machines at a time; seconds of wall time for a machine's word
_GRACE = 4.0  # seconds of wall time beyond it, for whoever can say why there was none
_ENTRY = (  # in a session of its own no terminal would end it
    "from hotbank.serve.children import die_with_parent; die_with_parent(); from hotbank.cli import main; main()"
)


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of asking a machine. ``documents``: what it printed; ``exit``: of its process, 1 where that was ended.

    ``certain``: False where the machine may have done what it was asked though nobody heard of it.
    """

    member: Member
    code: Code
    exit: int = EXIT_DONE
    message: str = ""
    documents: tuple[Mapping[str, Any], ...] = ()
    seconds: float = 0.0
    certain: bool = True

    @property
    def answered(self) -> Mapping[str, Any] | None:
        """The last document, None where there is none, or it says why there is no answer."""
        last = self.documents[-1] if self.documents else None
        return None if last is None or "error" in last else last

    def document(self) -> dict[str, Any]:
        """The JSON of one machine."""
        return {
            "schema": SCHEMA["fleet"],
            "member": self.member.name,
            "where": self.member.where,
            "failure_domain": self.member.domain,
            "code": self.code.value,
            "exit": self.exit,
            "message": self.message,
            "seconds": round(self.seconds, 3),
            "answers": list(self.documents),
        }


Heard = Callable[[Reply], None]


def ask(
    members: Iterable[Member], words: Sequence[str], *, forks: int = FORKS, timeout: float = TIMEOUT, heard: Heard
) -> list[Reply]:
    """The same of each; ``heard`` has each reply as it comes. In the order of ``members``.

    Raises KeyboardInterrupt, after every process was ended.
    """
    return asyncio.run(all_asked(members, words, forks, timeout, heard))


async def all_asked(
    members: Iterable[Member], words: Sequence[str], forks: int, timeout: float, heard: Heard
) -> list[Reply]:
    """The same for who has a loop already."""
    room = asyncio.Semaphore(forks)

    async def one(member: Member) -> Reply:
        async with room:
            reply = await asked(member, words, timeout)
        heard(reply)
        return reply

    return await asyncio.gather(*map(one, members))


async def asked(member: Member, words: Sequence[str], timeout: float, *, more: float = 0.0) -> Reply:
    """One machine's reply. ``timeout``: seconds for its first word over ssh; ``more``: that what it does may take."""
    began = time.monotonic()
    async with _process(member, words, timeout) as process:
        try:
            async with asyncio.timeout(timeout + more + _GRACE):
                out, err = await process.communicate()
        except TimeoutError:
            what = f"no answer in {timeout + more:g} s"
            return Reply(member, Code.NO_MACHINE, EXIT_FAILED, what, (), time.monotonic() - began, certain=False)
        return read(member, process.returncode or EXIT_DONE, out, err, time.monotonic() - began)


@asynccontextmanager
async def _process(member: Member, words: Sequence[str], timeout: float) -> AsyncIterator[asyncio.subprocess.Process]:
    """Ended at the end, with all that it started."""
    pipe = asyncio.subprocess.PIPE
    patience = ("--timeout", f"{timeout:g}") if member.where.startswith("ssh:") else ()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _ENTRY, "-m", member.where, *patience, *words),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=pipe,
        stderr=pipe,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def read(member: Member, status: int, out: bytes, err: bytes, seconds: float) -> Reply:
    """What a process said: how it ended by its last document, or by its last line of errors."""
    found = tuple(_documents(out))
    last = found[-1] if found else {}
    told = err.decode("utf-8", "replace").strip().splitlines()
    if isinstance(refused := last.get("error"), Mapping):
        code = _code(refused.get("code"))
        heard = code is not Code.NO_MACHINE  # else the link may have been lost behind an order
        return Reply(member, code, status, f"{refused.get('message')}", found, seconds, heard)
    if last and "code" in last and ("event" in last or "steps" in last):  # how an order ended, or a plan would
        ended = last.get("event") in ("done", None)
        code = (
            Code.OK if last["code"] is None and status == EXIT_DONE else _code(last["code"])
        )  # there was nothing to do
        return Reply(member, code, status, f"{last.get('fact') or ''}", found, seconds, ended)
    if last:
        return Reply(member, Code.OK, EXIT_DONE, "", found, seconds)
    if status == EXIT_DONE:
        return Reply(member, Code.OK, EXIT_DONE, "", (), seconds)
    code, message = _told(told[-1] if told else f"ended with {status} and no word")
    return Reply(member, code, status, message, (), seconds, certain=False)


def _told(line: str) -> tuple[Code, str]:
    """Code and fact of a line of errors."""
    code, _, fact = line.removeprefix("hotbank: ").partition(": ")
    return (Code(code), fact) if code in list(Code) else (Code.NO_MACHINE, line)


def _documents(out: bytes) -> Iterable[Mapping[str, Any]]:
    for line in out.splitlines():
        with suppress(ValueError, RecursionError):
            document = json.loads(line)
            if isinstance(document, dict):
                yield document


def _code(word: object) -> Code:
    """The code; KERNEL_REFUSED for one that only another version knows."""
    return Code(word) if isinstance(word, str) and word in list(Code) else Code.KERNEL_REFUSED
