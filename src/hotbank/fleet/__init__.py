# SPDX-License-Identifier: Apache-2.0
"""Many machines at once, each asked as anybody asks one: ``hotbank -m MACHINE VERB --json``.

| file | what it has |
|---|---|
| `inventory.py` | which machines there are: a plain list, or TOML with groups and failure domains |
| `asking.py` | all of them asked, so many at a time, each with a limit; what came back |
| `orders.py` | changes: so many machines of a failure domain dark at most, an end after failures, going on |
| `journal.py` | who was asked what, and what came of it |
"""
