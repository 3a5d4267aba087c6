# SPDX-License-Identifier: Apache-2.0
"""Who frees memory by moving the fewest pages, and in the least time.

states.py    states of ten movable blocks that somebody wants memory from
model.py     the race on models
guests.py    a guest in such a state, and back in the very same one
fill.py      what fills it, in there
__main__.py  the race on guests
"""
