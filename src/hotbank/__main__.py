# SPDX-License-Identifier: Apache-2.0
"""``python -m hotbank``."""

from hotbank.cli import main

main()
