# SPDX-License-Identifier: Apache-2.0
"""Perfetto's traces, read with the classes that Perfetto generates, as its own reader does: by clocks and by tracks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

REALTIME, MONOTONIC, BOOTTIME = 1, 3, 6


@dataclass(frozen=True)
class Shown:
    """A slice. Nanoseconds of CLOCK_REALTIME; ``ended`` None: a moment."""

    track: str
    name: str
    began: int
    ended: int | None
    notes: Mapping[str, str | int]
    flows: tuple[int, ...]


@dataclass(frozen=True)
class Read:
    """What a trace shows. ``counters``: by track, moments and values. ``clocks``: the first snapshot's."""

    slices: tuple[Shown, ...]
    counters: Mapping[str, list[tuple[int, float]]]
    clocks: Mapping[int, int] = field(default_factory=dict)

    def on(self, track: str) -> list[Shown]:
        return [shown for shown in self.slices if shown.track == track]


def read(data: bytes) -> Read:
    """Raises AssertionError where something ends that did not begin, or never ends."""
    trace = Trace.FromString(data)
    names = {p.track_descriptor.uuid: p.track_descriptor.name for p in trace.packet if p.HasField("track_descriptor")}
    open_: dict[int, list[Any]] = {}
    slices, counters = list[Shown](), dict[str, list[tuple[int, float]]]()
    for packet in (p for p in trace.packet if p.HasField("track_event")):
        event = packet.track_event
        assert packet.trusted_packet_sequence_id
        assert packet.timestamp_clock_id == REALTIME
        track = names[event.track_uuid]
        if event.type == TrackEvent.TYPE_COUNTER:
            counters.setdefault(track, []).append((packet.timestamp, event.double_counter_value))
        elif event.type == TrackEvent.TYPE_SLICE_BEGIN:
            open_.setdefault(event.track_uuid, []).append(packet)
        elif event.type == TrackEvent.TYPE_SLICE_END:
            slices.append(_shown(track, open_[event.track_uuid].pop(), packet.timestamp))
        else:
            slices.append(_shown(track, packet, None))
    assert not any(open_.values())
    return Read(tuple(slices), counters, _clocks(trace))


def _shown(track: str, began: Any, ended: int | None) -> Shown:
    event = began.track_event
    notes = {a.name: a.string_value if a.HasField("string_value") else a.int_value for a in event.debug_annotations}
    return Shown(track, event.name, began.timestamp, ended, notes, tuple(event.flow_ids))


def _clocks(trace: Any) -> dict[int, int]:
    found = next(p.clock_snapshot for p in trace.packet if p.HasField("clock_snapshot"))
    return {clock.clock_id: clock.timestamp for clock in found.clocks}
