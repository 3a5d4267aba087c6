# SPDX-License-Identifier: Apache-2.0
"""A machine as it changes, for those who look at it: frames, one after the other, and a record of them.

    with Feed(visit("unix:/run/hotbank/socket")) as feed:
        frame = feed.wait(after=0, timeout=5)

| module | what it is |
|---|---|
| `frame` | what is to be seen of a machine at one moment; as JSON, and as what has changed since another one |
| `running` | the order that is carried out, step by step, from what its events tell |
| `record` | the last frames, and which of them was current when |
| `asking` | a line that is dialed again; a question that is asked again when it is due |
| `looker` | pages of what a viewer selected, looked at in the background |
| `feed` | the threads that ask, and those who wait for what they make |
"""

from hotbank.watch.feed import Feed
from hotbank.watch.frame import Frame, merged
from hotbank.watch.looker import Look
from hotbank.watch.record import Record
from hotbank.watch.running import Running, Stage

__all__ = ["Feed", "Frame", "Look", "Record", "Running", "Stage", "merged"]
