# SPDX-License-Identifier: Apache-2.0
"""hotbank: take DRAM banks away from a running Linux system, power them off, and give them back."""

__version__ = "0.1.0"
