# SPDX-License-Identifier: Apache-2.0
"""A timeline as Perfetto's trace, with the classes that Perfetto generates from its own description (extra ``trace``).

Times are CLOCK_REALTIME. One snapshot of clocks says what CLOCK_MONOTONIC and CLOCK_BOOTTIME of the machine's kernel
were then, so that the trace can be laid beside an ftrace of that kernel: a trace is a list of packets, and two files
one behind the other are one trace. Truth: perfetto's protos/perfetto/trace, perfetto_trace.proto.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import (
    BUILTIN_CLOCK_BOOTTIME,
    BUILTIN_CLOCK_MONOTONIC,
    BUILTIN_CLOCK_REALTIME,
    CounterDescriptor,
    Trace,
    TracePacket,
    TrackEvent,
)

from hotbank.export.timeline import BYTES, Sample, Slice, Timeline, Track
from hotbank.export.utf8 import whole
from hotbank.machine import Clocks

_NS = 1_000_000_000
_LATEST = 1.8e10  # seconds since 1970, in the year 2540
_UNITS = {BYTES: CounterDescriptor.Unit.UNIT_SIZE_BYTES}


def trace(timeline: Timeline) -> bytes:
    """The trace, serialized."""
    made = _Packets(timeline.machine)
    made.snapshot(timeline.clocks)
    made.describe(dict.fromkeys([*(s.track for s in timeline.slices), *(s.track for s in timeline.samples)]))
    for slice_ in timeline.slices:
        made.slice(slice_)
    for sample in timeline.samples:
        made.sample(sample)
    return bytes(made.trace.SerializeToString())


class _Packets:
    """A trace in the making. Machines of different names have different tracks, in one trace, too."""

    def __init__(self, machine: str) -> None:
        self.trace, self._machine = Trace(), machine
        self._sequence = _number(machine) or 1
        first = self._packet()
        first.sequence_flags = TracePacket.SequenceFlags.SEQ_INCREMENTAL_STATE_CLEARED
        first.track_descriptor.uuid = self._uuid()
        first.track_descriptor.name = whole(f"hotbank {machine}")

    def _packet(self) -> TracePacket:
        packet = self.trace.packet.add()
        packet.trusted_packet_sequence_id = self._sequence
        return packet

    def _uuid(self, track: Track | None = None) -> int:
        return _number(self._machine) << 32 | (_number(track.name) if track is not None else 0)

    def describe(self, tracks: Iterable[Track]) -> None:
        """What each track is, below the machine's own."""
        for track in tracks:
            described = self._packet().track_descriptor
            described.uuid, described.parent_uuid = self._uuid(track), self._uuid()
            described.name = whole(track.name)
            if track.unit in _UNITS:
                described.counter.unit = _UNITS[track.unit]
            elif track.unit:
                described.counter.unit_name = track.unit

    def snapshot(self, clocks: Clocks | None) -> None:
        """The clock that times are of, and what the kernel's clocks showed when it showed that. It comes first: whoever
        reads the trace converts as he reads."""
        snapshot = self._packet().clock_snapshot
        snapshot.primary_trace_clock = BUILTIN_CLOCK_REALTIME
        snapshot.clocks.add(clock_id=BUILTIN_CLOCK_REALTIME, timestamp=_ns(0.0 if clocks is None else clocks.real))
        if clocks is not None:
            snapshot.clocks.add(clock_id=BUILTIN_CLOCK_MONOTONIC, timestamp=_ns(clocks.monotonic))
            snapshot.clocks.add(clock_id=BUILTIN_CLOCK_BOOTTIME, timestamp=_ns(clocks.boot))

    def slice(self, slice_: Slice) -> None:
        """Its beginning and its end; a moment has neither."""
        moment = slice_.ended is None
        event = self._event(
            slice_.began, slice_.track, TrackEvent.TYPE_INSTANT if moment else TrackEvent.TYPE_SLICE_BEGIN
        )
        event.name = whole(slice_.name)
        if slice_.flow is not None:
            event.flow_ids.append(_number(self._machine) << 32 | slice_.flow)
        for name, value in slice_.notes.items():
            _annotate(event, name, value)
        if slice_.ended is not None:
            self._event(slice_.ended, slice_.track, TrackEvent.TYPE_SLICE_END)

    def sample(self, sample: Sample) -> None:
        """A value of a counter."""
        event = self._event(sample.at, sample.track, TrackEvent.TYPE_COUNTER)
        event.double_counter_value = sample.value

    def _event(self, at: float, track: Track, kind: TrackEvent.Type) -> TrackEvent:
        packet = self._packet()
        packet.timestamp, packet.timestamp_clock_id = _ns(at), BUILTIN_CLOCK_REALTIME
        packet.track_event.type, packet.track_event.track_uuid = kind, self._uuid(track)
        return packet.track_event


def _annotate(event: TrackEvent, name: str, value: str | int) -> None:
    annotation = event.debug_annotations.add(name=name)
    if isinstance(value, int):
        annotation.int_value = value
    else:
        annotation.string_value = whole(value)


def _ns(seconds: float) -> int:
    """As near as a trace has it: 64 bits from 1970 on."""
    return round(min(max(0.0, seconds), _LATEST) * _NS)


def _number(name: str) -> int:
    """Of 32 bits, the same whenever the name is the same."""
    return zlib.crc32(whole(name).encode())
