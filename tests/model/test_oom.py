# SPDX-License-Identifier: Apache-2.0
"""Memory that runs out in the middle: each operation, with each allocation inside it struck in every way there is.

The points are counted by a run that nothing strikes. Afterwards no page is lost or doubled, and what the operation said
is either done or an errno.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import pytest

from hotbank import board
from hotbank.errors import KernelError, Refusal
from hotbank.memory import BlockState, Kind, Online
from hotbank.model import Model
from hotbank.model.alloc import Gfp, OutOfMemoryError
from hotbank.model.frames import Frame
from hotbank.model.syscalls import SystemCalls
from hotbank.model.tasks import Tasks

BOARD = """
name = "small"
arch = "arm64"
block_size = "8M"
[bank.low]
start = 0x40000000
size = "96M"
[bank.high]
start = 0x46000000
size = "16M"
movable = true
at_boot = false
route = "driver"
"""
BACKENDS = ("reference", "compiled")


@dataclass
class Life:
    """A model in use: ``parent`` has pages, a shared segment, ``pinned`` a pinned page."""

    model: Model
    parent: int = 0
    pinned: int = 0
    key: int = 0
    blocks: tuple[int, ...] = field(default=())


def life(backend: str) -> Life:
    """Files that are clean and dirty, kernel caches, huge pages, and a bank that can leave with all sorts in it."""
    model = Model.boot(board.loads(BOARD), backend=backend)
    model.add("high")
    high = model.snapshot().bank("high")
    assert high is not None
    blocks = tuple(block.number for block in model.snapshot().present(high))
    for block in blocks:
        model.online(block, Online.MOVABLE)
    parent = model.spawn("parent", anon_pages=700)
    model.share(parent, 300)
    pinned = model.spawn("pinned", anon_pages=40)
    key = model.pin(pinned, 3)
    model.read_file("clean", 300)
    model.write_file("dirty", 200)
    model.stall_writeback("dirty", 5)
    model.kernel_alloc("driver", 50)
    model.set_huge_pages(2)
    model.balloon(20)
    return Life(model, parent, pinned, key, blocks)


def _let_go(life: Life) -> None:
    """Of what would keep pages in the bank for good."""
    life.model.end_writeback("dirty")
    if life.pinned in life.model.tasks.processes:
        life.model.unpin(life.key)


def _offline(life: Life) -> None:
    _let_go(life)
    life.model.offline(life.blocks[0], life.model.clock.now() + 5.0)


def _online_again(life: Life) -> None:
    for block in life.model.snapshot().blocks:
        if block.state is BlockState.OFFLINE:
            life.model.online(block.number, Online.MOVABLE)


def _out_and_in(life: Life) -> None:
    model = life.model
    _let_go(life)
    for block in life.blocks:
        model.offline(block, model.clock.now() + 5.0)
    model.remove("high")
    model.add("high")
    _online_again(life)


OPERATIONS: dict[str, Callable[[Life], object]] = {
    "spawn": lambda x: x.model.spawn("more", anon_pages=600),
    "grow": lambda x: x.model.grow(x.parent, 600),
    "shrink": lambda x: x.model.shrink(x.parent, 600),
    "exit": lambda x: x.model.exit(x.parent),
    "fork": lambda x: x.model.fork(x.parent),
    "share": lambda x: x.model.share(x.parent, 600),
    "write": lambda x: x.model.write(x.parent, 0, 9),
    "read": lambda x: x.model.read(x.parent, 0),
    "read_file": lambda x: x.model.read_file("clean", 100),
    "write_file": lambda x: x.model.write_file("dirty", 100),
    "write_back": lambda x: x.model.write_back("dirty"),
    "stall_writeback": lambda x: x.model.stall_writeback("dirty", 20),
    "end_writeback": lambda x: x.model.end_writeback("dirty"),
    "remove_file": lambda x: x.model.remove_file("clean"),
    "drop_caches": lambda x: x.model.drop_caches(),
    "reclaimable": lambda x: x.model.reclaimable(),
    "create_inodes": lambda x: x.model.create_inodes(3000),
    "kernel_alloc": lambda x: x.model.kernel_alloc("driver", 100),
    "kernel_free": lambda x: x.model.kernel_free("driver", 10),
    "free": lambda x: x.model.free(),
    "fill_until": lambda x: x.model.fill_until(x.model.free() - 900),
    "place": lambda x: x.model.place(x.parent, x.blocks[0]),
    "pin": lambda x: x.model.pin(x.parent, 1),
    "register": lambda x: x.model.register(x.parent, 2),
    "unpin": lambda x: x.model.unpin(x.key),
    "poison": lambda x: x.model.poison(x.parent, 0),
    "set_huge_pages": lambda x: x.model.set_huge_pages(4),
    "use_huge_pages": lambda x: x.model.use_huge_pages(2),
    "set_per_cpu_lists": lambda x: x.model.set_per_cpu_lists(64),
    "balloon": lambda x: x.model.balloon(100),
    "quiet": lambda x: _out_and_in(x),
    "offline": _offline,
}


# Strikes

Alloc = Callable[..., list[Frame]]
Strike = Callable[[Model, Gfp], None]


def _kill(model: Model, gfp: Gfp) -> None:
    if gfp.patient:  # the kernel kills for nobody else
        model.tasks.kill()


def _kill_all(model: Model, gfp: Gfp) -> None:
    while gfp.patient and model.tasks.kill():
        pass


def _reclaim(model: Model, gfp: Gfp) -> None:
    model.tasks.reclaim(frozenset(zone.number for zone in model.allocator.zones), 1 << 20)


def _refuse(model: Model, gfp: Gfp) -> None:
    raise OutOfMemoryError([], 1)


STRIKES: dict[str, Strike] = {"kill": _kill, "kill all": _kill_all, "reclaim": _reclaim, "refuse": _refuse}


class Struck:
    """The model's allocator from now on: ``at``: which request is struck, and with ``on`` every later one too.
    ``seen``: requests so far. A refused one had some of its pages already, which it hands back."""

    def __init__(self, model: Model, strike: Strike | None = None, at: int = 0, *, on: bool = False) -> None:
        self._model, self._strike, self._at, self._on, self.seen = model, strike, at, on, 0
        self._alloc: Alloc = model.allocator.alloc
        model.allocator.alloc = self  # type: ignore[method-assign]

    def __call__(self, gfp: Gfp, kind: Kind, count: int, order: int = 0) -> list[Frame]:
        """See PageAllocator."""
        number, self.seen = self.seen, self.seen + 1
        if self._strike is not None and (number == self._at or (self._on and number > self._at)):
            try:
                self._strike(self._model, gfp)
            except OutOfMemoryError:
                some = self._alloc(gfp, kind, count // 2, order) if count > 1 else []
                raise OutOfMemoryError(some, count) from None
        return self._alloc(gfp, kind, count, order)

    def stop(self) -> None:
        """The model's own again."""
        self._model.allocator.alloc = self._alloc  # type: ignore[method-assign]


def points(operation: str, backend: str) -> int:
    """Allocations in the course of it when nothing strikes."""
    lived = life(backend)
    struck = Struck(lived.model)
    OPERATIONS[operation](lived)
    return struck.seen


def strike(operation: str, backend: str, how: str, at: int, *, on: bool) -> None:
    """One run. Raises AssertionError for a page that is lost or doubled, now or when everybody ends."""
    lived = life(backend)
    struck = Struck(lived.model, STRIKES[how], at, on=on)
    with suppress(KernelError, Refusal):
        OPERATIONS[operation](lived)
    struck.stop()
    lived.model.validate()
    assert not lived.model.check_contents()
    for pid in [*lived.model.tasks.processes]:
        lived.model.exit(pid)
    lived.model.validate()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_no_page_is_lost_or_doubled_when_memory_runs_out_inside(operation: str, backend: str) -> None:
    for at in range(points(operation, backend)):
        for how, on in (*((how, False) for how in STRIKES), ("refuse", True)):
            strike(operation, backend, how, at, on=on)


def test_every_system_call_is_among_them() -> None:
    calls = {name for name, _ in inspect.getmembers(SystemCalls, inspect.isfunction) if not name.startswith("_")}
    assert calls <= set(OPERATIONS)


def test_some_of_them_allocate_several_times() -> None:
    assert points("fork", "reference") == 3
    assert points("offline", "reference") >= 1


# Breaches


def _fork_that_looks_too_early(self: Tasks, pid: int) -> int:
    parent = self.process(pid)
    segments = [*parent.segments]
    child = self.spawn(parent.holder.comm, anon_pages=len(parent.pages))
    for segment in segments:
        segment.users += 1
    self.processes[child].segments += segments
    self._map_tables(self.processes[child])
    return child


def _charge_that_forgets(self: Tasks, process: object, gfp: Gfp, holder: object, pages: int) -> object:
    return self._take(gfp, holder, pages)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "breach", "operation"),
    [("fork", _fork_that_looks_too_early, "fork"), ("_charge", _charge_that_forgets, "grow")],
)
def test_a_breach_is_noticed(
    method: str, breach: Callable[..., object], operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tasks, method, breach)
    if method == "fork":
        monkeypatch.setitem(OPERATIONS, "fork", lambda x: x.model.tasks.fork(x.parent))
    with pytest.raises((AssertionError, KeyError)):
        _struck_everywhere(operation)


def _struck_everywhere(operation: str) -> None:
    for at in range(6):
        strike(operation, "reference", "kill", at, on=False)
