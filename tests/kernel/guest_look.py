# SPDX-License-Identifier: Apache-2.0
"""Runs in a guest: what a survey of a block costs there, beside the plain twin of the tests in the same run.

``python3 -S guest_look.py ROUNDS`` prints one JSON list of two numbers for each round: seconds of CPU time of a survey,
and of the twin, which lies beside this file.
"""

import json
import sys
import time
from collections.abc import Callable

from host.page_by_page import look
from hotbank.host import Host
from hotbank.memory import BlockState, Zone


def main(rounds: int) -> None:
    host = Host()
    snapshot = host.snapshot()
    block = next(b for b in snapshot.blocks if b.zone == Zone.MOVABLE and b.state is BlockState.ONLINE)
    span = range(block.range.start // snapshot.page_size, block.range.end // snapshot.page_size)
    host.survey(block.number)
    both = [(spent(lambda: host.survey(block.number)), spent(lambda: look(host.tree, span))) for _ in range(rounds)]
    print(json.dumps(both))


def spent(act: Callable[[], object]) -> float:
    before = time.process_time()
    act()
    return time.process_time() - before


if __name__ == "__main__":
    main(int(sys.argv[1]))
