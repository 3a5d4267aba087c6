# SPDX-License-Identifier: Apache-2.0
"""The wire: values and errors come back as they went, and nothing that arrives can do more than raise ProtocolError."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, make_dataclass, replace
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from hotbank import serve
from hotbank.calls import BY_BLOCK, CLOCK, COUNTING, DOCTOR, GLANCE, MACHINE, PAGES, VACATE, Table
from hotbank.errors import (
    BoardError,
    CancelPending,
    Code,
    FormatError,
    HotbankError,
    KernelError,
    MachineError,
    ProtocolError,
    Refusal,
    SwitchError,
)
from hotbank.machine import Block, Buddies, Fitted, HugePages, Snapshot, Survey
from hotbank.memory import BlockState, Power, Range
from hotbank.numbers import LARGEST, U63, U64
from hotbank.operate import Entry, Event, Limits, Outcome
from hotbank.remote import Remote, SocketStream
from hotbank.serve.protocol import JOB, JOURNAL, OWNER, Order
from hotbank.wire import MAX_REQUEST, VERSION, Lines, decode, decode_error, encode, encode_error
from patience import HANG

st.register_type_strategy(Range, st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)).map(lambda p: Range.sized(*p)))
st.register_type_strategy(float, st.floats(-LARGEST, LARGEST))
st.register_type_strategy(int, st.integers(-U63, U64 - 1))
COUNT = st.integers(0, U63 - 1)
ORDERS = st.lists(COUNT, max_size=12).map(tuple)
BOUNDED: dict[type, dict[str, st.SearchStrategy[Any]]] = {
    Block: {"number": COUNT, "used": st.none() | COUNT},
    Buddies: {"here": ORDERS, "zone": ORDERS},
    Fitted: {name: COUNT.map(lambda n: n + 1) for name in ("ranks", "channels")}
    | {"share": st.none() | st.floats(0, 1, exclude_min=True)},
    HugePages: {"pages": COUNT.map(lambda n: n + 1)},
    Snapshot: {"page_size": st.just(4096), "block_size": st.just(1 << 27)},
}
for cls, parts in BOUNDED.items():
    st.register_type_strategy(cls, st.builds(cls, **{f.name: ... for f in fields(cls)} | parts))
st.register_type_strategy(Limits, st.builds(Limits, *[st.floats(0, LARGEST)] * 3))
VALUES = (Snapshot, Survey, Outcome, Entry, Event, Order)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3),
    max_leaves=8,
)


# What crosses the wire in this version. When it changes, the version of the protocol has to: then note both here.
SHAPE = (13, "d05c02b9ca7c")


def shapes(hint: Any, seen: dict[object, tuple[str, str]]) -> None:
    """Of each class that the type is made of, its name, and its fields with their types, or its members."""
    for part in typing.get_args(hint):
        shapes(part, seen)
    if not isinstance(hint, type) or hint in seen:
        return
    if issubclass(hint, Enum):
        seen[hint] = hint.__name__, repr([member.value for member in hint])
    elif is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        seen[hint] = hint.__name__, repr([(f.name, str(hints[f.name])) for f in fields(hint)])
        for part in hints.values():
            shapes(part, seen)


def shape(*tables: Table) -> str:
    """A digest of all calls and of all that their arguments and results are made of."""
    seen: dict[object, tuple[str, str]] = {}
    for call in (call for calls in tables for call in calls.values()):
        types = [(name, str(hint)) for name, hint in (*call.parameters.items(), ("", call.result))]
        seen[call.name] = call.name, repr(types)
        for hint in (*call.parameters.values(), call.result):
            shapes(hint, seen)
    return hashlib.sha256(repr(sorted(seen.values())).encode()).hexdigest()[:12]


def test_what_crosses_the_wire_changes_with_its_version() -> None:
    found = VERSION, shape(MACHINE, PAGES, GLANCE, COUNTING, BY_BLOCK, VACATE, DOCTOR, CLOCK, OWNER, JOURNAL, JOB)
    assert found == SHAPE, "raise wire.VERSION (and docs/protocol.md), then note both in SHAPE"


def test_a_field_more_is_another_shape() -> None:
    @dataclass
    class Few:
        at: float

    @dataclass
    class More:
        at: float
        pages: int = 0

    one, more = ({"look": replace(CLOCK["now"], result=kind)} for kind in (Few, More))
    More.__name__ = More.__qualname__ = "Few"
    assert shape(one) != shape(more)


def test_two_classes_of_one_name_both_count() -> None:
    def kind(*names: str) -> type:
        return make_dataclass("Outcome", [(name, int) for name in names])

    one, more = (
        {"look": replace(CLOCK["now"], parameters={"at": kind("a")}, result=kind(*names))} for names in ("b", "bc")
    )
    assert shape(one) != shape(more)


@examples(60)
@given(st.one_of(*(st.from_type(cls) for cls in VALUES)))
def test_values_come_back(value: object) -> None:
    assert decode(type(value), json.loads(json.dumps(encode(value)))) == value


@examples(200)
@given(st.sampled_from(VALUES), JSON)
def test_any_json_is_a_value_or_a_protocol_error(hint: type, data: Any) -> None:
    with pytest.raises(ProtocolError):
        decode(hint, data)


def _paths(data: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [p for k, v in items for p in ((*here, k), *_paths(v, (*here, k)))]


@given(st.from_type(Snapshot), st.data(), JSON)
def test_one_wrong_part_is_found_or_fits(value: Snapshot, data: st.DataObject, wrong: Any) -> None:
    document = encode(value)
    path = data.draw(st.sampled_from(_paths(document)))
    part = document
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = wrong
    try:
        found = decode(Snapshot, document)
    except ProtocolError:
        return
    assert json.dumps(encode(found)) == json.dumps(encode(decode(Snapshot, encode(found))))


@pytest.mark.parametrize("change", ["unknown", "missing"])
def test_fields_are_exactly_those_of_the_class(change: str) -> None:
    document = encode(Survey(3))
    if change == "unknown":
        document["extra"] = 1
    else:
        del document["holes"]
    with pytest.raises(ProtocolError, match=r"extra|holes"):
        decode(Survey, document)


@pytest.mark.parametrize(("hint", "data"), [(int, True), (int, 1.0), (bool, 1), (str, 1), (float, "1"), (float, 1e999)])
def test_types_are_not_mixed(hint: type, data: Any) -> None:
    with pytest.raises(ProtocolError):
        decode(hint, data)


@pytest.mark.parametrize(
    ("value", "field", "wrong"),
    [
        (Block(0, Range(0, 4096), BlockState.ONLINE), "number", -1),
        (Block(0, Range(0, 4096), BlockState.ONLINE), "used", -1),
        (Fitted(), "ranks", 0),
        (Fitted(), "channels", -1),
        (Fitted(), "share", 0.0),
        (Fitted(), "share", 1.5),
        (HugePages(512, (), 0), "pages", 0),
        (Buddies((), ()), "here", [0] * 65),
        (Buddies((), ()), "zone", [0] * 65),
    ],
)
def test_numbers_that_no_machine_has_are_refused(value: Any, field: str, wrong: object) -> None:
    """They are divided by, raised to, and made names of."""
    with pytest.raises(ProtocolError, match=r"no such|no huge|no buddy"):
        decode(type(value), {**encode(value), field: wrong})


ERRORS = (
    BoardError("bank.a.start", 5, "must be even", code=Code.NOT_ALIGNED),
    FormatError("dtb", 8, "totalsize", "too large"),
    Refusal(Code.PINNED, "a page is pinned", remedy="wait"),
    KernelError(16, "offline memory4", detail="unmovable page"),
    KernelError(1, "offline memory4", code=Code.BOOT_MEMORY),
    CancelPending("offline memory4", detail="writeback"),
    SwitchError("ddr did not go off", remedy="look"),
    MachineError("gone", remedy="hotbank down"),
    ProtocolError("nonsense"),
    HotbankError("something", code=Code.STUCK),
)


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_errors_come_back(error: HotbankError) -> None:
    back = decode_error(json.loads(json.dumps(encode_error(error))))
    assert type(back) is type(error)
    assert {**vars(back), "code": back.code} == {**vars(error), "code": error.code}
    assert str(back) == str(error)


def test_an_error_that_hotbank_does_not_know_is_named() -> None:
    back = decode_error(encode_error(ZeroDivisionError("division by zero")))
    assert isinstance(back, MachineError)
    assert "ZeroDivisionError: division by zero" in str(back)


@given(JSON | st.fixed_dictionaries({"type": JSON | st.sampled_from(["KernelError", "Refusal"])}))
def test_any_json_is_an_error_or_a_protocol_error(data: Any) -> None:
    with pytest.raises(ProtocolError):
        decode_error(data)


# Lines.


def fed(data: bytes, limit: int = 1000) -> Lines:
    """Lines whose other end sends the bytes and hangs up."""
    ours, theirs = socket.socketpair()
    theirs.sendall(data)
    theirs.close()
    return Lines(SocketStream(ours), limit)


def test_documents_come_line_by_line() -> None:
    lines = fed(b'{"a":1}\n{"b":2}\n')
    assert [lines.receive(), lines.receive(), lines.receive()] == [{"a": 1}, {"b": 2}, None]
    lines.close()


@pytest.mark.parametrize(
    "data",
    [
        b"hello\n",
        b"\n",
        b"[1]\n",
        b'{"a":1',
        b"\xff\xfe\n",
        b"[" * 900 + b"\n",
        b"x" * 2000,
        b'"a"\n',
        b"1" * 999 + b"\n",
        '{"a":1}\n'.encode("utf-16"),
        '{"a":1}\n'.encode("utf-32-le"),
    ],
)
def test_what_is_no_document_is_a_protocol_error(data: bytes) -> None:
    lines = fed(data)
    with pytest.raises(ProtocolError):
        lines.receive()
    lines.close()


def test_silence_is_a_timeout() -> None:
    ours, theirs = socket.socketpair()
    lines = Lines(SocketStream(ours), 1000)
    theirs.sendall(b'{"half":')
    with theirs, pytest.raises(TimeoutError):
        lines.receive(0.05)
    lines.close()


# A Remote whose owner misbehaves.


def misbehaving(*answers: bytes, patience: float = HANG) -> Remote:
    """Connected to an owner that greets well and then says that, whatever it is asked."""
    ours, theirs = socket.socketpair()

    def play() -> None:
        with theirs:
            theirs.sendall(json.dumps({"hotbank": VERSION, "pid": 1, "machine": "m", "can": []}).encode() + b"\n")
            for answer in answers:
                theirs.recv(1 << 16)
                theirs.sendall(answer)
            theirs.recv(1 << 16)

    threading.Thread(target=play, daemon=True).start()
    return Remote(SocketStream(ours), timeout=patience)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b'{"id":1,"result":"on"}\n', ProtocolError),  # a snapshot was asked for
        (b'{"id":7,"result":null}\n', ProtocolError),
        (b'{"id":1}\n', ProtocolError),
        (b'{"id":1,"error":{"type":"OSError"}}\n', ProtocolError),
        (b"no json\n", ProtocolError),
        (b'{"id":1,"resu', MachineError),  # and no more
    ],
)
def test_a_remote_survives_its_owner(answer: bytes, error: type[HotbankError]) -> None:
    patience = HANG if error is ProtocolError else 0.5
    with misbehaving(answer, patience=patience) as machine, pytest.raises(error):
        machine.snapshot()


@pytest.mark.parametrize("act", [lambda m: serve.remove(m, "high"), lambda m: serve.power(m, "ddr", Power.ON)])
def test_an_order_that_ends_without_an_outcome_is_nonsense(act: Callable[[Remote], object]) -> None:
    with misbehaving(b'{"id":1,"result":null}\n') as machine, pytest.raises(ProtocolError, match="nothing to"):
        act(machine)


def test_a_silent_owner_is_an_error_with_a_remedy() -> None:
    with misbehaving(b"", patience=0.5) as machine:
        with pytest.raises(MachineError, match=r"no answer in 0\.5 s") as caught:
            machine.snapshot()
        assert "hotbank down" in caught.value.remedy
        with pytest.raises(MachineError, match="closed"):
            machine.snapshot()


def test_another_version_is_named() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b'{"hotbank":99,"pid":1,"machine":"m"}\n')
    with theirs, pytest.raises(MachineError, match=f"protocol 99, not {VERSION}"):
        Remote(SocketStream(ours))


def test_a_request_over_the_limit_is_refused_by_the_owner() -> None:
    assert MAX_REQUEST < 1 << 24
    lines = fed(b"x" * 2000, limit=1500)
    with pytest.raises(ProtocolError, match="longer than 1500 bytes"):
        lines.receive()
    lines.close()
