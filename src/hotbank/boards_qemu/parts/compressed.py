# SPDX-License-Identifier: Apache-2.0
"""What Debian packs kernels and modules with: gzip, xz, zstd, and an EFI zboot image around one of them.

Truth: drivers/firmware/efi/libstub/zboot-header.S (the header of a zboot image).
"""

from __future__ import annotations

import gzip
import lzma
import struct
import subprocess
from collections.abc import Callable, Mapping

from hotbank.errors import Code, MachineError

_ZBOOT = struct.Struct("<4s4sII8x32s")  # MZ, zimg, offset and size of the payload, its compression


def unpacked(data: bytes, form: str, what: str) -> bytes:
    """The bytes that ``form`` (``gzip``, ``xz``, ``zstd``) packed. Raises MachineError that names ``what``."""
    if form not in _BY_FORM:
        raise MachineError(
            f"{what} is packed with {form}",
            code=Code.UNSUPPORTED,
            remedy=f"give one packed with {', '.join(_BY_FORM)} or none",
        )
    try:
        return _BY_FORM[form](data)
    except FileNotFoundError as e:
        raise MachineError(f"{what} needs zstd to unpack", code=Code.SYSTEM_ERROR, remedy="apt-get install zstd") from e
    except (OSError, EOFError, lzma.LZMAError, subprocess.CalledProcessError) as e:
        raise MachineError(f"{what} is damaged: no {form} data", code=Code.BAD_FORMAT, remedy="fetch it again") from e


def kernel_image(data: bytes, what: str) -> bytes:
    """A kernel as it lies in memory: out of gzip or of a zboot image, or as it is."""
    if data[:2] == b"\x1f\x8b":
        return unpacked(data, "gzip", what)
    if data[:2] != b"MZ" or data[4:8] != b"zimg" or len(data) < _ZBOOT.size:
        return data
    _, _, offset, size, form = _ZBOOT.unpack_from(data)
    name = form.split(b"\0", 1)[0].decode("ascii", "replace")
    return unpacked(data[offset : offset + size], "zstd" if name.startswith("zstd") else name, what)


def _unzstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout


_BY_FORM: Mapping[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "xz": lzma.decompress, "zstd": _unzstd}
