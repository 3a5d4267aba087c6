# SPDX-License-Identifier: Apache-2.0
"""A machine in the browser, and pages that stand by themselves. No build step: what the browser runs is in ``static``.

| module | what it is |
|---|---|
| `page` | files that carry all they need: of a simulation, of a comparison |
| `door` | who is let in: token, Host, Origin |
| `app` | what the live page may ask and order |
| `viewers` | one feed for many viewers |
| `series` | what is plotted over time |
| `server` | the server, on loopback |
"""
