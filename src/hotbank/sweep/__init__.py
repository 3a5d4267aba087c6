# SPDX-License-Identifier: Apache-2.0
"""Many simulations: everything against everything, each once, on as many processors as there are.

| file | what it has |
|---|---|
| `grid.py` | the file that says what against what, and the runs that it comes to |
| `run.py` | one run: what it is made of, which is its name, and the row that comes of it |
| `paper.py` | machines on paper: a recorded demand over equal banks, shifted for each machine |
| `crew.py` | runs in groups over an executor, whose workers may die |
| `cluster.py` | a Dask cluster as such an executor |
| `store.py` | the folder of results: what is in it is not run again |
| `report.py` | mean, spread, tail, and energy against shortage |
"""
