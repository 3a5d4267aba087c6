# SPDX-License-Identifier: Apache-2.0
"""Numbers from outside are read in one place, within bounds: tried with numbers of all sizes, and on the source."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank import board as boards
from hotbank.errors import FormatError, HotbankError, KernelError
from hotbank.firmware import cmdline
from hotbank.load import script, trace
from hotbank.machine import Snapshot
from hotbank.memory import parse_size
from hotbank.numbers import LARGEST, U63, U64, decimal, digits, finite, is_whole, literal
from hotbank.operate.targets import resolve
from hotbank.sysfs import files
from hotbank.wire import decode, decode_error

SOURCE = Path(__file__).resolve().parents[2] / "src" / "hotbank"
numbers = st.integers(0, U64 * 2) | st.sampled_from((U63 - 1, U63, U64 - 1, U64))


@given(numbers, st.sampled_from((U63, U64)))
def test_digits_are_a_number_below_the_limit(number: int, limit: int) -> None:
    within = number if number < limit else None
    assert digits(f"{number}", limit=limit) == literal(f"{number}", limit=limit) == within
    assert digits(f"{number:x}", 16, limit=limit) == literal(f"{number:#x}", limit=limit) == within


@given(st.text(max_size=30) | st.sampled_from(("9" * 5000, "٣", "1_0", "+1", "-1", " 1", "1 ", "", "0x", "1e3", "²")))
def test_nothing_else_is_one(text: str) -> None:
    plain = text.isascii() and text.isdigit()
    assert (digits(text) is None) or plain
    assert digits(text) is None or digits(text) == int(text)


@given(st.floats() | st.integers() | st.sampled_from((10**400, 2**20000, -(10**400))))
def test_what_is_finite_is_finite(value: float) -> None:
    found = finite(value)
    assert (found is None) is not (-LARGEST <= value <= LARGEST)
    assert found is None or math.isfinite(found)


@given(st.floats(-LARGEST, LARGEST))
def test_decimals_are_read_as_they_are_written(value: float) -> None:
    assert decimal(repr(value)) == value


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e308", "1e99999", "9" * 5000, "1_0", "", ".", "1e", "0x10"])
def test_no_other_text_is_a_decimal(text: str) -> None:
    assert decimal(text) is None


@pytest.mark.parametrize("value", [True, 1.0, "1", None, U64, -U63 - 1, 10**5000], ids=[*map(str, range(7))])
def test_what_is_no_whole_number_of_64_bits(value: object) -> None:
    assert not is_whole(value)


HUGE = "9" * 5000
_BOARD = 'name = "b"\narch = "arm"\npage_size = "4K"\nblock_size = {}\n[bank.a]\nstart = 0\nsize = "64M"\n{}'
_FORK = 'comm = "c"\nsize = "4K"\nshared = {}\nevery = {}\nlive = 1'
_LOAD = 'name = "w"\nseconds = {}\n[[fork]]\n' + _FORK
_TRACE = "t_s,physmem,anonpages,cached\n0,100,{0},1\n1,100,1,1\n"
DECODERS: dict[str, Callable[[], object]] = {
    "size": lambda: parse_size(HUGE),
    "size with suffix": lambda: parse_size(f"{U64 - 1}K"),
    "hexadecimal size": lambda: parse_size("0x" + "f" * 100_000),
    "block size": lambda: boards.loads(_BOARD.format(HUGE, "")),
    "block size in hexadecimal": lambda: boards.loads(_BOARD.format("0x1" + "0" * 5000, "")),
    "unknown key": lambda: boards.loads(_BOARD.format('"64M"', "odd = 0x1" + "0" * 5000)),
    "time-out": lambda: boards.loads(
        _BOARD.format('"64M"', f'domain = "d"\n[domain.d]\nstates = ["on"]\ntimeout = {"9" * 400}')
    ),
    "time-out of a float": lambda: boards.loads(
        _BOARD.format('"64M"', 'domain = "d"\n[domain.d]\nstates = ["on"]\ntimeout = 1e10')
    ),
    "workload's seconds": lambda: script.loads(_LOAD.format("9" * 400, 0, 1)),
    "workload's sizes": lambda: script.loads(_LOAD.format(10, "0x1" + "0" * 5000, 1)),
    "workload without time": lambda: script.loads(_LOAD.format(10, 0, "5e-324")),
    "deep workload": lambda: script.loads("a=" + "[" * 100_000),
    "trace": lambda: trace.loads(_TRACE.format("1e308")),
    "trace's digits": lambda: trace.loads(_TRACE.format(HUGE)),
    "range on the wire": lambda: decode(Snapshot, _snapshot(10**4000)),
    "bank of more blocks than can be counted": lambda: decode(Snapshot, _snapshot(U64 - 1, 4096)),
    "no block size": lambda: decode(Snapshot, _snapshot(1, 0)),
    "errno on the wire": lambda: decode_error(
        {"type": "KernelError", "errno": 10**30, "what": "", "detail": "", "code": "VETO"}
    ),
    "target": lambda: resolve(Snapshot("m", "arm", 4096, 1 << 27, "b"), HUGE),
    "block": lambda: resolve(Snapshot("m", "arm", 4096, 1 << 27, "b"), f"memory{HUGE}"),
    "block in other digits": lambda: resolve(Snapshot("m", "arm", 4096, 1 << 27, "b"), "memory²"),
}


def _snapshot(end: int, block_size: int = 1 << 27) -> dict[str, object]:
    from hotbank.machine import BankStatus
    from hotbank.memory import Power, Range
    from hotbank.wire import encode

    bank = encode(BankStatus.of("a", Range(0, 1), (), Power.ON))
    bank["range"]["end"] = end
    document: dict[str, object] = encode(Snapshot("m", "arm", 4096, 1 << 27, "b"))
    return document | {"banks": [bank], "block_size": block_size}


@pytest.mark.parametrize("name", DECODERS)
def test_a_decoder_refuses_a_huge_number_in_words(name: str) -> None:
    with pytest.raises(
        ValueError if name.endswith(("size", "suffix")) and "block" not in name else HotbankError
    ) as caught:
        DECODERS[name]()
    assert "integer string conversion" not in str(caught.value)
    assert len(str(caught.value)) < 400 + len(HUGE) * ("block" in name or name == "target")


@pytest.mark.parametrize("number", [-1, 4096, 2**31, 2**63])
def test_an_error_of_no_errno_is_said(number: int) -> None:
    assert "no errno" in str(KernelError(number, "it"))


@pytest.mark.parametrize("text", [HUGE, "f" * 100_000, "²", "0x" + "f" * 5000, f"kB: {HUGE} kB\nMemTotal: {HUGE} kB\n"])
@pytest.mark.parametrize("name", sorted(files.FILES))
def test_a_file_of_sysfs_with_a_huge_number_is_a_value_or_an_error(name: str, text: str) -> None:
    with suppress(FormatError):
        files.FILES[name].parse(text)


def test_a_command_line_counts_as_the_kernel_does_in_64_bits() -> None:
    cmdline.memory_options(cmdline.decode(f"mem={HUGE}@{HUGE} cma={HUGE}G"))


# Who else makes numbers: of a pattern that bounds its digits, or of what is no text.
ROOMS: dict[str, set[str]] = {
    "numbers.py": {"float(1 << 53)", "int(text, base)", "int(digits, base)", "float(text)", "float(value)"},
    "cli/compare.py": {"int(not report.equal)"},
    "cli/describe.py": {"int(appended)"},  # a choice of 1 and 2
    "cli/doctor.py": {"int(blocked(findings))"},
    "cli/times.py": {"int((clock.now() - began) // every)"},
    "cli/journal.py": {"int(seconds)"},
    "firmware/atags.py": {"int(fields['start'])", "int(fields['size'])"},  # unpacked from 32 bits
    "firmware/cmdline.py": {"int(text[at], 16)"},  # one digit after the other, as the kernel does
    "firmware/efi.py": {"int(match['number'])", "int(match['start'], 16)", "int(match['last'], 16)"},
    "govern/gaps.py": {"float(1 << place)"},  # a power of two of its own
    "govern/settings.py": {"float(number)", "int(value)"},  # finite, which keys.py and the line before see to
    "host/evacuating.py": {"float(sys.argv[1])"},  # of our own parent
    "host/evacuation.py": {"int(line.split()[1])"},  # of our own child
    "host/kcore.py": {  # a note of the running kernel; its caller takes ValueError for no note
        "int(note['SIZE(page)'])",
        "int(note['OFFSET(page._refcount)'])",
        "int(note['SYMBOL(vmemmap)'], 16)",
        "int(note['NUMBER(PHYS_OFFSET)'], 16)",
        "int(note['NUMBER(VMEMMAP_START)'], 16)",
        "int(note['PAGESIZE'])",
        "int(text)",
        "int(text, 16)",
    },
    "host/leaves.py": {"int(core.note['PAGESIZE'])", "int(core.note['SYMBOL(swapper_pg_dir)'], 16)"},  # the same
    "host/nodes.py": {"int(line.split()[1], 16)"},  # CapEff of this process
    "host/vacating.py": {  # what the running kernel prints, and our own parent
        "int(file.read().split()[1])",
        "int(line.split()[1])",
        "int(name)",
        "int(word.partition('=')[2])",
        "int(first)",
        "int(last or first)",
        "map(int, sys.argv[1:])",
    },
    "host/owners.py": {"int(start, 16)", "int(end, 16)"},
    "host/rules.py": {"int(escape['hex'], 16)", "int(escape['octal'], 8)"},  # two digits, three digits
    "kernels.py": {"int(match[1])", "int(match[2])"},
    "load/printed.py": {"map(int, match.groups())"},  # two digits each
    "load/script.py": {"float('inf')"},
    "load/stamps.py": {"int(match['day'])"},  # two digits at most
    "load/trace.py": {
        "int(row.get(name, 0))",
        "int(row.get('physmem', row.get('used', 0) + row.get('free', 0)))",
    },
    "operate/sqlite_journal.py": {
        "int(self._db.execute('PRAGMA user_version').fetchone()[0])",
        "int(self._rows('SELECT count(*) FROM act WHERE entry = ?', entry)[0][0])",
        "int(before.keep_partial)",
    },
    "remote.py": {"int(timeout)", "int(timeout % 1 * 1000000.0)"},
    "serve/loop.py": {"int(min(max(0.0, min(moments) - now) * 1000 + 1, LONGEST_POLL))"},  # a time to wait
    "serve/worker.py": {"int(sys.argv[1])"},
    "sysfs/bank.py": {"int(match[1], 16)", "int(match[2], 16)"},
    "sysfs/iomem.py": {"int(start, 16)", "int(last, 16)"},
    "sysfs/node.py": {"int(match[1])", "int(match[2] or match[1])"},
    "sysfs/pressure.py": {"float(share)", "int(total)"},
    "sysfs/vmstat.py": {"int(value)"},  # 20 digits at most
    "sysfs/zoneinfo.py": {"int(m[1])", "int(number)", "int(value)"},
    "zones/iomem.py": {"int(match[2], 16)", "int(match[3], 16)"},
}
# A guest that we start ourselves, Debian's packages, the model's own numbers.
OURS = ("boards_qemu/", "compare/", "guest/", "model/")


def made_numbers(tree: ast.Module) -> Iterator[str]:
    """Calls of ``int`` and ``float``, and these handed on as functions."""
    called = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in ("int", "float"):
                called.add(id(node.func))
                yield ast.unparse(node)
            for argument in node.args:
                if isinstance(argument, ast.Name) and argument.id in ("int", "float") and _hands_on(node):
                    yield ast.unparse(node)


def _hands_on(call: ast.Call) -> bool:
    return ast.unparse(call.func) in ("map", "filter") or ast.unparse(call.func).endswith("Key")


@pytest.mark.parametrize("breach", ["int(x)", "float(x)", "int(x, 16)", "map(int, x)", "Key('a', float)"])
def test_a_number_made_elsewhere_is_seen(breach: str) -> None:
    assert list(made_numbers(ast.parse(breach))) == [breach]


def test_numbers_are_made_in_known_rooms() -> None:
    found: dict[str, set[str]] = {}
    for file in SOURCE.rglob("*.py"):
        name = file.relative_to(SOURCE).as_posix()
        made = set(made_numbers(ast.parse(file.read_text(encoding="utf-8"))))
        if made and not name.startswith(OURS):
            found[name] = made
    assert found == ROOMS
