# SPDX-License-Identifier: Apache-2.0
"""``--kernel RELEASE``: a release that the table of kernels can judge, as an option's callback."""

from __future__ import annotations

import click

from hotbank import kernels
from hotbank.errors import Refusal


def known_release(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """The release as it was given. Raises click.BadParameter for one that the table refuses."""
    try:
        kernels.kernel(value)
    except Refusal as e:
        raise click.BadParameter(f"{e}; {e.remedy}", context, parameter) from e
    return value
