# SPDX-License-Identifier: Apache-2.0
"""Which zones a kernel will make of what firmware says: a pure function from a memory map to a layout.

``prediction``     the whole way
``boot``           early boot up to memblock and the architecture's zone limits
``memblock``       the list of memory that it keeps
``emulation``      nodes of ``numa=fake=``
``mainline``       free_area_init
``proposal_2009``  the two strategies of the 2009 proposal
``layout``         what a prediction is made of
``findings``       what of it will surprise
``iomem``          what a running kernel took as System RAM
"""

from hotbank.zones.layout import BlockZones, Hidden, Layout, Prediction, ZoneSpan
from hotbank.zones.prediction import STRATEGIES, predict

__all__ = ["STRATEGIES", "BlockZones", "Hidden", "Layout", "Prediction", "ZoneSpan", "predict"]
