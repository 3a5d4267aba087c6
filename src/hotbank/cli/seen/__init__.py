# SPDX-License-Identifier: Apache-2.0
"""``hotbank top``: a machine as it changes, on a terminal. Needs textual, and only ``cli/top.py`` imports it.

It draws the frames of hotbank.watch and says everything in the words of the other commands.

| module | what it is |
|---|---|
| `palette` | colours, dark and light, and what of them stands for what |
| `tiles` | the map on a screen of some size: which block is drawn where; pure |
| `mapview` | the map that is drawn, with the block that is selected |
| `panels` | the block's verdict, sparklines, the transaction, the governor, the journal |
| `dialogs` | a plan to be confirmed, help, what to do with an order when somebody leaves |
| `app` | the whole, its keys, and how a frame reaches the screen |
"""
