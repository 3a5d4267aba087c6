# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, as one tree.

    HotbankError
    ├── BoardError       a board file says something impossible: key, value, what is allowed
    ├── FormatError      bytes or text that a decoder refuses: where, and in which field
    ├── Refusal          hotbank itself says no: reason code, evidence in words, remedy
    ├── KernelError      a machine's kernel said no: errno, and to what
    │   └── CancelPending    cancelled, but the kernel has not let go of the block yet
    ├── SwitchError      a power switch failed, hung or lied
    ├── MachineError     no machine, or the one named does not answer; with another code, what one takes is not there
    └── ProtocolError    the other end of a connection spoke nonsense

Every error is a fact in one line (``str(error)``) and carries a stable reason code.
docs/reasons.md has a paragraph for each code.
"""

from __future__ import annotations

import errno as _errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """Reason codes: stable, upper case, documented in docs/reasons.md."""

    OK = "OK"
    BOOT_MEMORY = "BOOT_MEMORY"
    NOT_MOVABLE_ZONE = "NOT_MOVABLE_ZONE"
    UNMOVABLE = "UNMOVABLE"
    PINNED = "PINNED"
    PINS_UNKNOWN = "PINS_UNKNOWN"
    NO_CAPACITY = "NO_CAPACITY"
    HOLES = "HOLES"
    MULTI_ZONE = "MULTI_ZONE"
    CMA = "CMA"
    VETO = "VETO"
    HUGETLB = "HUGETLB"
    POISONED = "POISONED"
    DEADLINE = "DEADLINE"
    INTERRUPTED = "INTERRUPTED"
    CANCEL_PENDING = "CANCEL_PENDING"
    RACED = "RACED"
    AUTO_ONLINE = "AUTO_ONLINE"
    DOMAIN_IN_USE = "DOMAIN_IN_USE"
    POWER_UNKNOWN = "POWER_UNKNOWN"
    SWITCH_FAILED = "SWITCH_FAILED"
    LOST = "LOST"
    STUCK = "STUCK"
    BUSY_TRANSACTION = "BUSY_TRANSACTION"
    SUPERSEDED = "SUPERSEDED"
    NO_SUCH_BANK = "NO_SUCH_BANK"
    NOT_ALIGNED = "NOT_ALIGNED"
    OVERLAP = "OVERLAP"
    UNSUPPORTED = "UNSUPPORTED"
    CHANGED = "CHANGED"
    DAMAGED = "DAMAGED"
    NOT_PERMITTED = "NOT_PERMITTED"
    # Beyond the list that INTERFACES pins: a user's bad input deserves a code as well.
    BAD_BOARD = "BAD_BOARD"
    BAD_FORMAT = "BAD_FORMAT"
    NO_MACHINE = "NO_MACHINE"
    KERNEL_REFUSED = "KERNEL_REFUSED"
    SYSTEM_ERROR = "SYSTEM_ERROR"
    USAGE = "USAGE"


class HotbankError(Exception):
    """Base of every error hotbank raises on purpose. ``remedy`` says what helps, or is empty."""

    code: Code = Code.UNSUPPORTED

    def __init__(self, message: str, *, code: Code | None = None, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        if code is not None:
            self.code = code


class BoardError(HotbankError):
    """A key of one of our TOML files has a value that is not allowed; ``value`` is None where it is missing.

    ``file``, ``line``: where, empty and 0 where that is not known. ``others``: what else is wrong with the same file.
    """

    code = Code.BAD_BOARD

    def __init__(
        self,
        key: str,
        value: object,
        allowed: str,
        *,
        code: Code | None = None,
        remedy: str = "",
        file: str = "",
        line: int = 0,
        others: Iterable[BoardError] = (),
    ) -> None:
        self.key, self.value, self.allowed, self.others = key, value, allowed, tuple(others)
        self.file, self.line = file, line
        given = key if value is None else f"{key} = {brief(value, _LINE)}"
        super().__init__(": ".join(filter(None, (self._place, given, allowed))), code=code, remedy=remedy)

    @property
    def _place(self) -> str:
        """As compilers write it."""
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}" if self.file else f"line {self.line}"

    @property
    def mistakes(self) -> tuple[BoardError, ...]:
        """All that is wrong with the file, in its order."""
        return (self, *self.others)


FILE = "file"
"""The form of what could be of any form."""


class FormatError(HotbankError):
    """Bytes or text that are not what they should be.

    ``offset`` counts bytes (characters in text) from the start of the input; ``field`` is the
    name the format's own documentation uses.
    """

    code = Code.BAD_FORMAT

    def __init__(self, form: str, offset: int, field: str, problem: str) -> None:
        self.form, self.offset, self.field, self.problem = form, offset, field, problem
        super().__init__(f"{form} at offset {offset:#x}, {field}: {problem}")


@contextmanager
def in_file(path: str | os.PathLike[str]) -> Iterator[None]:
    """Whatever is refused of a file's content names the file as well. Raises FormatError."""
    try:
        yield
    except FormatError as e:
        form = os.fspath(path) if e.form == FILE else f"{os.fspath(path)}: {e.form}"
        raise FormatError(form, e.offset, e.field, e.problem) from e


class Refusal(HotbankError):
    """hotbank will not do this: the code says why, the message has the evidence."""

    def __init__(self, code: Code, message: str, *, remedy: str = "") -> None:
        super().__init__(message, code=code, remedy=remedy)


class KernelError(HotbankError):
    """A kernel refused a primitive. ``errno`` is what a write to sysfs would have returned."""

    code = Code.KERNEL_REFUSED

    def __init__(self, errno: int, what: str, *, detail: str = "", code: Code | None = None) -> None:
        self.errno, self.what, self.detail = errno, what, detail
        text = f"{what}: {_errno.errorcode.get(errno, errno)} ({_strerror(errno)})"
        super().__init__(f"{text}; {detail}" if detail else text, code=code)


class CancelPending(KernelError):
    """An offline was cancelled and the kernel still holds the block (facts: signals are looked at
    only between migration passes); or another write was given up, and the kernel may still do it."""

    code = Code.CANCEL_PENDING

    def __init__(self, what: str, *, detail: str = "") -> None:
        super().__init__(_errno.EINTR, what, detail=detail)


class SwitchError(HotbankError):
    """A power switch did not do what it was asked, or its state could not be learned."""

    code = Code.SWITCH_FAILED


class MachineError(HotbankError):
    """There is no such machine, or it does not answer; with another code than NO_MACHINE, what it takes to have one, to
    reach it or to show it is not there, or not as it should be."""

    code = Code.NO_MACHINE


class ProtocolError(HotbankError):
    """The other end of a connection sent what the protocol does not allow."""

    code = Code.BAD_FORMAT


class Severity(StrEnum):
    """How much a finding matters to taking banks away and giving them back."""

    BLOCKS = "blocks"
    HURTS = "hurts"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something about a machine or a description that its owner should know. ``code`` is stable and upper case.
    ``where``: file and line of what surely does it, if that is a file."""

    code: str
    severity: Severity
    message: str
    remedy: str
    where: str = ""


# Linux numbers that Python's table lacks on some builds, or that exist only on Linux.
EHWPOISON = 133


_MAX_ERRNO = 4095  # include/linux/err.h
_LINE = 200


def _strerror(errno: int) -> str:
    if not 0 <= errno <= _MAX_ERRNO:
        return "no errno"
    return "Memory page has hardware error" if errno == EHWPOISON else os.strerror(errno)


def brief(value: object, most: int = 60) -> str:
    """What is wrong, as Python writes it, cut short."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to print thousands of digits
        return "a huge number"
    return text if len(text) <= most else f"{text[: most - 3]}..."
