# SPDX-License-Identifier: Apache-2.0
"""``--kernel RELEASE`` and ``--arch ARCH``: what the tables of kernels and architectures know, for options."""

from __future__ import annotations

from typing import Any

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


class Architecture(click.Choice):  # type: ignore[type-arg]  # Debian 12 has click 8.1, where it is no generic
    """One of these, by the kernel's name or another that people have for it: ``aarch64``, ``amd64``."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The kernel's name."""
        return super().convert(kernels.arch_called(value), param, ctx)
