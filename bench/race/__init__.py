# SPDX-License-Identifier: Apache-2.0
"""Who frees memory by moving the fewest pages.

states.py    states of ten movable blocks that somebody wants memory from
model.py     the race on models
"""
