# SPDX-License-Identifier: Apache-2.0
"""A timeline and an ftrace of the guest's kernel, one behind the other in one file, tell of the same moments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import KprobeEvent, Trace

from export.perfetto_reader import BOOTTIME, REALTIME, Shown, read
from hotbank import operate
from hotbank.boards_qemu import Wanted
from hotbank.boards_qemu.supervisor import QemuMachine
from hotbank.export import timeline
from hotbank.export.perfetto import trace
from hotbank.export.timeline import Timeline
from hotbank.operate import MemoryJournal
from kernel.kernel_kit import LIMITS, Holder, add, guest, lean

pytestmark = [pytest.mark.kernel, pytest.mark.slow]  # a guest of its own, for one removal

NEAR = 10_000_000  # nanoseconds
TRACING = "/sys/kernel/tracing"
PROBES = f"""mount -t tracefs tracefs {TRACING} 2>/dev/null
echo boot > {TRACING}/trace_clock
echo 'p:begin offline_pages' > {TRACING}/kprobe_events
echo 'r:end offline_pages' >> {TRACING}/kprobe_events
echo 1 > {TRACING}/events/kprobes/enable
echo 1 > {TRACING}/tracing_on
"""
# A line: task-pid, [cpu], flags, seconds.micros, event, its place.
_LINE = re.compile(r"-(\d+)\s+\[\d+\]\s+\S+\s+(\d+)\.(\d{6}): (begin|end): \(")
_KINDS = {"begin": KprobeEvent.KprobeType.KPROBE_TYPE_BEGIN, "end": KprobeEvent.KprobeType.KPROBE_TYPE_END}


@pytest.fixture(scope="module")
def machine() -> Iterator[QemuMachine]:
    with guest(lean(Wanted(str(Path(__file__).with_name("small.toml"))))) as booted:
        assert add(booted).exit == 0
        yield booted


def packets(text: str) -> bytes:
    """Perfetto's packets of what tracefs printed: its times are CLOCK_BOOTTIME, which is also theirs."""
    made = Trace()
    bundle = made.packet.add(trusted_packet_sequence_id=7).ftrace_events
    for pid, seconds, micros, kind in _LINE.findall(text):
        event = bundle.event.add(pid=int(pid), timestamp=(int(seconds) * 1_000_000 + int(micros)) * 1000)
        event.kprobe_event.name, event.kprobe_event.type = "offline_pages", _KINDS[kind]
    return bytes(made.SerializeToString())


def kernels(data: bytes) -> list[tuple[int, int]]:
    """When the kernel was within offline_pages, by CLOCK_BOOTTIME."""
    events = [event for packet in Trace.FromString(data).packet for event in packet.ftrace_events.event]
    begun = [e.timestamp for e in events if e.kprobe_event.type == _KINDS["begin"]]
    ended = [e.timestamp for e in events if e.kprobe_event.type == _KINDS["end"]]
    return list(zip(begun, ended, strict=True))


def apart(offlines: list[Shown], clocks: dict[int, int], kernel: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """By how much each of the kernel's offlines begins after ours and ends before it, in nanoseconds."""
    shift = clocks[BOOTTIME] - clocks[REALTIME]
    assert len(offlines) == len(kernel)
    pairs = zip(offlines, kernel, strict=True)
    return [(began - (our.began + shift), (our.ended or 0) + shift - ended) for our, (began, ended) in pairs]


def test_the_offlines_of_both_are_the_same_moments(machine: QemuMachine) -> None:
    """Ours, which asks for the kernel's, is around it; a clock that is wrong by more than that shows."""
    machine.runner.run(PROBES)
    journal = MemoryJournal()
    with Holder(machine, anon=64, shared=16, tmpfs=16, file=16):
        assert operate.remove(machine, "high", limits=LIMITS, journal=journal).exit == 0
    text = machine.runner.run(f"cat {TRACING}/trace")
    slices = timeline.of_journal(machine.snapshot(), journal.entries(), 0.0)
    ours = trace(Timeline("guest", tuple(slices), (), machine.reading().clocks))
    both = ours + packets(text)
    shown = read(both)
    offlines = [step for step in shown.on(timeline.STEPS) if step.name.startswith("offline ")]
    found = apart(offlines, dict(shown.clocks), kernels(both))
    print("offlines of ours around the kernel's, ms:", [(round(a / 1e6, 2), round(b / 1e6, 2)) for a, b in found])
    assert len(found) > 1
    assert min(min(pair) for pair in found) > -NEAR, found
    late = {**shown.clocks, REALTIME: shown.clocks[REALTIME] + 10**9}  # planted: a clock that is a second wrong
    assert min(min(pair) for pair in apart(offlines, late, kernels(both))) < -NEAR
