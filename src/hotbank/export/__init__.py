# SPDX-License-Identifier: Apache-2.0
"""What hotbank knows, in the forms that other programs read; pure functions of values.

| file | what it makes |
|---|---|
| `timeline.py` | journal, looks of a governor and readings → slices and samples on one axis of time |
| `perfetto.py` | a timeline → Perfetto's trace |
| `folded.py` | snapshot and surveys → folded stacks, for flame graphs |
| `metrics.py` | snapshot, reading, journal, ledger and governor → Prometheus's metrics |
| `tables.py` | journal, surveys, simulation → rows for a spreadsheet |
| `utf8.py` | names as all of these can hold them |
"""
