# SPDX-License-Identifier: Apache-2.0
"""What journals and simulations tell of the past; pure functions of values.

| file | what it has |
|---|---|
| `states.py` | journal → how long each power domain was in which state |
| `ledger.py` | seconds by state and work → what each bank saved and cost |
"""
