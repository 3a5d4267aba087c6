# SPDX-License-Identifier: Apache-2.0
"""``python -m hotbank``, and where ``hotbank`` begins: Ctrl-C is one line also while the rest is still imported."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the ``hotbank`` command. Exit codes are listed in docs/reasons.md."""
    try:
        from hotbank.cli import main as command_line  # takes a tenth of a second, in which Ctrl-C may come

        command_line()
    except KeyboardInterrupt:
        from hotbank.documents import EXIT_INTERRUPTED  # each import before it is time without an answer
        from hotbank.errors import Code

        if sys.stderr is not None:  # the caller closed it
            print(f"hotbank: {Code.INTERRUPTED}: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
