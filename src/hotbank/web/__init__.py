# SPDX-License-Identifier: Apache-2.0
"""A machine in the browser, and pages that stand by themselves. No build step: what the browser runs is in ``static``.

page.py     files that carry all they need: of a simulation, of a comparison
"""
