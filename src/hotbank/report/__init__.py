# SPDX-License-Identifier: Apache-2.0
"""What snapshots show and what journals and simulations tell of the past; pure functions of values.

| file | what it has |
|---|---|
| `cells.py` | snapshot and surveys → the map: every block, what is in it, whose it is, which are dark |
| `states.py` | journal → how long each power domain was in which state |
| `ledger.py` | seconds by state and work → what each bank saved and cost |
"""
