# SPDX-License-Identifier: Apache-2.0
"""What happens on a machine, whoever ordered it: numbered without a gap, told to every reader, bounded."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank import board
from hotbank.errors import Code, KernelError, Refusal
from hotbank.machine import Machine
from hotbank.memory import Power
from hotbank.model import Model
from hotbank.operate import Event
from hotbank.remote import Remote
from hotbank.serve.client import RemoteOwner, add, recover, remove
from hotbank.serve.later import Newsreader
from hotbank.serve.local import attached
from hotbank.serve.news import LONGEST_WAIT, MOST, Ring
from hotbank.serve.owner import Owner
from hotbank.serve.protocol import Happening, News
from patience import ended


def event(seq: int) -> Event:
    return Event(0.0, seq, "step")


# The ring, against a list that forgets nothing.


class Everything:
    """The plain twin."""

    def __init__(self, kept: int) -> None:
        self.kept, self.all = kept, list[int]()

    def after(self, since: int) -> tuple[list[int], int | None]:
        """Numbers, and how many are missing."""
        there = self.all[max(0, len(self.all) - self.kept) :]
        if since > len(self.all):
            return there, None
        return [n for n in there if n >= since], len([n for n in self.all if n >= since and n not in there])


@given(st.integers(1, 5), st.lists(st.none() | st.integers(0, 25), max_size=40))
def test_a_ring_says_what_a_list_says_and_counts_what_is_gone(kept: int, steps: list[int | None]) -> None:
    ring, twin = Ring(kept, now=lambda: 0.0), Everything(kept)
    for since in steps:
        if since is None:
            twin.all.append(len(twin.all))
            ring.add("remove high", 1, event(twin.all[-1]))
            continue
        news, (numbers, missed) = ring.after(since), twin.after(since)
        assert ([h.seq for h in news.happenings], news.missed, news.next) == (numbers, missed, len(twin.all))
        assert [h.event.seq for h in news.happenings] == numbers


def test_whoever_waits_is_told_at_once(clients: tuple[Remote, Remote]) -> None:
    """Long before it is over, and without anybody looking now and then: the loop sleeps until there is something."""
    first, second = clients
    told = list[News]()
    waiting = threading.Thread(target=lambda: told.append(RemoteOwner(second).events(0, LONGEST_WAIT)))
    waiting.start()
    time.sleep(0.5)
    first.set_power("ddr-high", Power.ON)
    waiting.join(LONGEST_WAIT / 2)
    assert [h.event.step for h in told[0].happenings] == ["set_power"]


def test_nobody_waits_longer_than_the_longest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hotbank.serve.later.LONGEST_WAIT", 0.01)
    waiting = Newsreader(Ring(), None, 1e9)
    time.sleep(0.05)
    assert waiting.over()
    assert waiting.result() == News((), 0, 0)


def test_what_happens_wakes_whoever_waits() -> None:
    stirred = list[int]()
    ring = Ring(stir=lambda: stirred.append(1))
    waiting = Newsreader(ring, None, LONGEST_WAIT)
    assert not waiting.over()
    ring.add("remove high", 1, event(7))
    assert (stirred, waiting.over()) == ([1], True)
    assert [h.event.seq for h in waiting.result().happenings] == [7]


def test_a_reader_that_never_asks_costs_nothing() -> None:
    ring = Ring(kept=10)
    for n in range(1000):
        ring.add("remove high", 1, event(n))
    assert len(ring._kept) == 10
    assert ring.after(0).missed == 990


def test_many_are_told_in_several_answers_each_once() -> None:
    ring, heard, since = Ring(), list[int](), 0
    for n in range(MOST * 2 + 5):
        ring.add("remove high", 1, event(n))
    while news := ring.after(since).happenings:
        assert len(news) <= MOST
        heard, since = heard + [h.seq for h in news], ring.after(since).next
    assert heard == list(range(MOST * 2 + 5))
    assert ring.after(10**6).missed is None
    assert len(ring.after(10**6).happenings) == MOST


# Two clients of an owner.


@pytest.fixture
def clients() -> Iterator[tuple[Remote, Remote]]:
    owner = Owner(Model.boot(board.load("arm-2009"), backend="reference", seed=1))
    with attached(owner) as first, attached(owner) as second:
        yield first, second


def follow(machine: Remote, until: int) -> list[Happening]:
    """All from the first on, until so many orders have ended."""
    owner, since, heard = RemoteOwner(machine), 0, list[Happening]()
    while len([h for h in heard if h.event.event == "done"]) < until:
        news = owner.events(since, 10.0)
        assert news.happenings, "nothing happened for 10 s"
        assert news.missed == 0
        heard, since = [*heard, *news.happenings], news.next
    return heard


def test_a_second_client_follows_what_a_first_one_ordered(clients: tuple[Remote, Remote]) -> None:
    first, second = clients
    heard, told = list[Happening](), list[Event]()
    following = threading.Thread(target=lambda: heard.extend(follow(second, until=2)))
    following.start()
    remove(first, "high", on_event=told.append)
    add(first, "high", on_event=told.append)
    ended(following)
    assert [h.event for h in heard] == told
    assert [h.seq for h in heard] == list(range(len(told)))
    assert list(dict.fromkeys(h.order for h in heard)) == ["remove high", "add high"]


def test_each_order_ends_also_one_that_never_began(clients: tuple[Remote, Remote]) -> None:
    first, second = clients
    with pytest.raises(Refusal):
        remove(first, "nowhere")
    recover(first)
    ends = follow(second, until=2)
    assert [(h.order, h.event.code, h.event.exit) for h in ends] == [
        ("remove nowhere", Code.NO_SUCH_BANK, 1),
        ("recover", Code.OK, 0),
    ]


def test_primitives_are_told_too(clients: tuple[Remote, Remote]) -> None:
    first, second = clients
    block = high(first)
    first.offline(block, first.clock.now() + 60)
    with pytest.raises(KernelError, match="EINVAL"):
        first.offline(block, first.clock.now() + 60)
    done, refused = follow(second, until=2)
    assert (done.event.step, done.event.block, done.event.code, done.event.exit) == ("offline", block, Code.OK, 0)
    assert (refused.event.errno, refused.event.exit) == (errno.EINVAL, 1)


def high(machine: Machine) -> int:
    bank = machine.snapshot().bank("high")
    assert bank is not None
    return bank.blocks[0]
