# SPDX-License-Identifier: Apache-2.0
"""When banks leave and when they come back: a look → a policy's wish → what the guard lets through.

All of it is pure, but for the loop around it.

| file | what it has |
|---|---|
| `view.py` | what is looked at: memory in use, and the groups of banks that go dark as one |
| `gaps.py` | how long a level of demand lies idle, and how long waiting is worth it (ski rental) |
| `policy.py` | `reserve` and `balance`: how much memory to keep |
| `guard.py` | what any policy has to pass: reserve, pressure, worth, bans, other hands |
| `optimum.py` | the least that a demand could have cost, had it been known |
| `banks.py` | which banks of a machine could go dark together; a look made of a reading |
| `status.py` | what a governor tells of itself |
| `standby.py` | banks that stand by: out of use, and not yet dark |
| `runner.py` | the loop: look, decide, have it carried out |
| `replay.py` | a demand against banks, without pages |
| `settings.py` | which policy, and how it and its guard are set |
"""
