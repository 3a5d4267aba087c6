# SPDX-License-Identifier: Apache-2.0
"""A Dask cluster as crew. Needs distributed, the extra ``sweep``."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import CancelledError, Executor
from typing import Any

from hotbank.errors import Code, HotbankError, MachineError, Refusal
from hotbank.sweep.crew import deadly
from hotbank.sweep.run import Run

PATIENCE = 10.0  # seconds for a scheduler to answer
_AGAIN = "start it again and give the same command: what is done is kept"


class Cluster:
    """The workers of a Dask scheduler, such as ``tcp://node:8786``; Dask itself replaces those that die."""

    def __init__(self, address: str) -> None:
        """Raises Refusal without distributed, MachineError where no scheduler answers or it has no workers."""
        self._address, self._client = address, _connected(address)
        self.workers = sum(self._client.nthreads().values())
        if not self.workers:
            self.end()
            raise MachineError(f"the Dask scheduler at {address} has no workers", remedy=f"dask worker {address}")

    def begin(self) -> Executor:
        """See Crew."""
        executor: Executor = self._client.get_executor()
        return executor

    def told(self, error: Exception, runs: Sequence[Run]) -> HotbankError | None:
        """See Crew."""
        from distributed import KilledWorker

        if isinstance(error, CancelledError):  # a client that lost its scheduler cancels what it waits for
            return MachineError(f"the Dask scheduler at {self._address} is gone", remedy=_AGAIN)
        if isinstance(error, KilledWorker):
            return deadly(runs)
        if isinstance(error, ImportError | RuntimeError):  # what Dask says where it can't unpack what was sent
            what = f"the Dask cluster at {self._address} can't take a run: {str(error).partition('. ')[0]}"
            return MachineError(what, remedy="scheduler and workers need the hotbank that is here")
        return None

    def end(self) -> None:
        """See Crew."""
        self._client.close()


def _connected(address: str) -> Any:
    try:
        import distributed
    except ImportError as e:
        what, remedy = "a cluster needs distributed", "pip install 'hotbank[sweep]'"
        raise Refusal(Code.UNSUPPORTED, what, remedy=remedy) from e
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what it would log is told once, as an error
    client: Any = distributed.Client
    try:
        return client(address, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError) as e:
        raise MachineError(f"no Dask scheduler answers at {address}", remedy="start one: dask scheduler") from e
