# SPDX-License-Identifier: Apache-2.0
"""What a snapshot knows of its banks and blocks, against the plain definitions."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hotbank.errors import KernelError
from hotbank.gate import refuse_dark
from hotbank.machine import BankStatus, Block, DomainStatus, Reading, Snapshot, ZoneInfo
from hotbank.memory import BlockState, KernelState, Power, Range, folded

PAGE, BLOCK = 4096, 1 << 20
DARKER = [Power.SELF_REFRESH, Power.OFF]


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Banks that need not begin or end where a block does, and whichever of their blocks are there."""
    cuts = sorted(draw(st.sets(st.integers(0, 96), min_size=2, max_size=10)))
    spans = [Range(a * BLOCK // 8, b * BLOCK // 8) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]
    states = draw(st.dictionaries(st.integers(0, 13), st.sampled_from(BlockState)))
    blocks = tuple(
        Block(n, Range.sized(n * BLOCK, BLOCK), state, ("Movable",), 0) for n, state in sorted(states.items())
    )
    banks = tuple(
        BankStatus.of(
            f"b{i}", span, (b for b in blocks if b.range.overlaps(span)), Power.ON, domain=draw(st.sampled_from("xy"))
        )
        for i, span in enumerate(spans)
    )
    domains = tuple(DomainStatus(d, Power.ON, banks=tuple(b.name for b in banks if b.domain == d)) for d in "xy")
    return Snapshot("test", "arm", PAGE, BLOCK, "boot", blocks, banks=banks, domains=domains)


@given(snapshots())
def test_the_indexes_say_what_overlap_says(snapshot: Snapshot) -> None:
    for bank in snapshot.banks:
        touched = [n for n in range(20) if Range.sized(n * BLOCK, BLOCK).overlaps(bank.range)]
        assert list(snapshot.blocks_of(bank)) == touched
        assert snapshot.present(bank) == tuple(b for b in snapshot.blocks if b.range.overlaps(bank.range))
        assert bank.blocks == tuple(b.number for b in snapshot.present(bank))
    for number in range(20):
        span = Range.sized(number * BLOCK, BLOCK)
        assert snapshot.bank_at(number) == next((b for b in snapshot.banks if b.range.overlaps(span)), None)
    for domain in snapshot.domains:
        mine = [b.range for b in snapshot.banks if b.domain == domain.name]
        wanted = tuple(b.number for b in snapshot.blocks if any(b.range.overlaps(r) for r in mine))
        assert snapshot.touching(domain.name) == wanted


@given(snapshots())
def test_a_bank_is_online_only_when_all_of_it_is(snapshot: Snapshot) -> None:
    for bank in snapshot.banks:
        states = {b.state for b in snapshot.present(bank)}
        whole = len(bank.blocks) == len(snapshot.blocks_of(bank))
        assert (bank.kernel is KernelState.ABSENT) == (not bank.blocks)
        assert (bank.kernel is KernelState.ONLINE) == (whole and states == {BlockState.ONLINE})
        assert (bank.kernel is KernelState.OFFLINE) == (states == {BlockState.OFFLINE})


@given(snapshots(), st.sampled_from("xy"), st.sampled_from(Power))
def test_no_domain_goes_dark_under_memory(snapshot: Snapshot, domain: str, want: Power) -> None:
    if want is Power.ON or not snapshot.touching(domain):
        refuse_dark(snapshot, domain, want)
        return
    with pytest.raises(KernelError) as caught:
        refuse_dark(snapshot, domain, want)
    assert caught.value.errno == errno.EBUSY


@pytest.mark.parametrize("want", DARKER)
def test_a_bank_that_is_stuck_keeps_its_domain_on(want: Power) -> None:
    bank = BankStatus.of("b", Range(0, BLOCK), (), Power.ON, stuck=True, domain="x")
    snapshot = Snapshot("test", "arm", PAGE, BLOCK, "boot", banks=(bank,), domains=(DomainStatus("x", Power.ON),))
    with pytest.raises(KernelError, match="b in the kernel"):
        refuse_dark(snapshot, "x", want)


def test_a_reading_adds_up_its_zones() -> None:
    zones = (ZoneInfo(0, "Normal", 0, 9, 9, 9, free=3, reclaimable=2), ZoneInfo(0, "Movable", 9, 9, 9, 9, free=4))
    assert (Reading(0.0, zones).free, Reading(0.0, zones).clean) == (7, 2)


@given(st.sets(st.integers(0, 30)))
def test_folded_names_are_all_of_them_in_the_fewest_words(numbers: set[int]) -> None:
    words = [word.removeprefix("memory").split("–") for word in folded(numbers)]
    assert [n for word in words for n in range(int(word[0]), int(word[-1]) + 1)] == sorted(numbers)
    assert len(words) == sum(n - 1 not in numbers for n in numbers)
