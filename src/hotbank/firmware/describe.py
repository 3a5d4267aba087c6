# SPDX-License-Identifier: Apache-2.0
"""A board as the bytes that a boot loader would hand over, in each format, and what the format can't carry."""

from __future__ import annotations

from dataclasses import dataclass

from hotbank import kernels
from hotbank.board import Bank, Board
from hotbank.errors import BoardError, Code, Refusal
from hotbank.firmware import atags, cmdline, devicetree, fdt, srat
from hotbank.memory import MemoryRegion, merge


@dataclass(frozen=True, slots=True)
class Description:
    """``data`` for the boot loader; ``lost``: one line for each thing of the board that the format can't say."""

    form: str
    data: bytes
    lost: tuple[str, ...] = ()


def describe(board: Board, form: str, *, base: bytes | None = None) -> Description:
    """The board in ``form``: ``atags``, ``dtb``, ``srat`` or ``cmdline``.

    ``base``, only with ``dtb``: a blob whose memory nodes are replaced by the board's, everything else kept.
    Raises BoardError, FormatError or Refusal when the board can't be said at all.
    """
    if form == "dtb":
        return _dtb(board, base)
    if base is not None:
        raise Refusal(Code.UNSUPPORTED, f"a base blob makes no sense for {form}", remedy="use it with a device tree")
    writers = {"atags": _atags, "srat": _srat, "cmdline": _cmdline}
    if form not in writers:
        raise Refusal(Code.UNSUPPORTED, f"no format {form!r}", remedy="use atags, dtb, srat or cmdline")
    return writers[form](board)


def _atags(board: Board) -> Description:
    tags = [atags.core(pagesize=board.page_size)]
    tags += [atags.mem(b.range, movable=b.movable) for b in _by_address(board) if b.at_boot]
    if board.cmdline:
        tags.append(atags.cmdline(cmdline.typed(board.cmdline)))
    lost = [*_lost_absent(board), *_lost_nodes(board), *_lost_names(board)]
    return Description("atags", atags.encode(tags), tuple(lost))


def _dtb(board: Board, base: bytes | None) -> Description:
    if base is None:
        tree = devicetree.empty(f"hotbank board {board.name}", f"hotbank,{board.name}")
        lost = ["devices: this tree describes memory only; give a base blob to make a bootable one"]
    else:
        tree, lost = devicetree.set_memory(fdt.decode(base)), []
    if board.cmdline or base is None:
        tree = devicetree.set_bootargs(tree, cmdline.typed(board.cmdline))
    at_boot = (MemoryRegion(b.range, b.node, b.movable, f"bank {b.name}") for b in _by_address(board) if b.at_boot)
    absent = (MemoryRegion(b.range, b.node, source=b.name) for b in _absent(board))
    tree = devicetree.add_banks(devicetree.add_memory(tree, at_boot), absent)
    if any(b.at_boot for b in board.banks):
        lost.append("names of banks that are there at boot")
    return Description("dtb", fdt.encode(tree), (*lost, *_lost_domains(board)))


def _srat(board: Board) -> Description:
    at_boot = [b for b in _by_address(board) if b.at_boot]
    domains = sorted({b.node or 0 for b in board.banks})
    structures = [srat.gicc(domains[0], 0)]
    structures += [srat.memory(b.node or 0, b.range, hot_pluggable=b.movable) for b in at_boot]
    lost = _lost_absent(board)
    if board.cmdline:
        lost.append("the command line")
    return Description("srat", srat.encode(srat.Table(tuple(structures))), (*lost, *_lost_names(board)))


def _cmdline(board: Board) -> Description:
    words, lost = _arm_words(board) if kernels.arch(board.arch).mem_has_start else _cap_words(board)
    line = cmdline.decode(cmdline.typed(board.cmdline))
    text = cmdline.encode(cmdline.CommandLine((*words, *line.parameters), line.init))
    return Description("cmdline", text.encode("latin-1") + b"\n", (*lost, *_lost_nodes(board), *_lost_names(board)))


def _arm_words(board: Board) -> tuple[list[cmdline.Parameter], list[str]]:
    """``mem=`` for each bank that stays, ``movablemem=`` for each that may leave; the first mem= drops the rest."""
    at_boot = [b for b in _by_address(board) if b.at_boot]
    if not any(not b.movable for b in at_boot):
        raise BoardError("bank", None, "a command line needs a bank that is there at boot and not movable")
    ordered = sorted(at_boot, key=lambda b: b.movable)
    words = [cmdline.SizedRange("movablemem" if b.movable else "mem", b.range.size, b.range.start) for b in ordered]
    return [w.parameter() for w in words], _lost_absent(board)


def _cap_words(board: Board) -> tuple[list[cmdline.Parameter], list[str]]:
    """Where ``mem=`` only caps the total, it can hide the topmost banks and nothing else."""
    at_boot, absent = merge(b.range for b in board.banks if b.at_boot), _absent(board)
    movable = [b for b in board.banks if b.at_boot and b.movable]
    lost = [f"bank {b.name}: movable (mem= has no start here, and there is no movablemem=)" for b in movable]
    if not absent:
        return [], [*lost, "where memory is: firmware must say it"]
    end = at_boot[-1].end if at_boot else 0
    hidden = [b for b in absent if b.range.start >= end]
    lost += [f"bank {b.name}: it lies below other memory, which mem= can't hide" for b in absent if b not in hidden]
    if len(hidden) < len(absent) or not at_boot:
        return [], [*lost, *(f"bank {b.name}: not there at boot" for b in hidden)]
    word = cmdline.SizedRange("mem", sum(r.size for r in at_boot))
    return [word.parameter()], [*lost, "where memory is: firmware must say it"]


def _by_address(board: Board) -> list[Bank]:
    return sorted(board.banks, key=lambda b: b.range)


def _absent(board: Board) -> list[Bank]:
    return [b for b in _by_address(board) if not b.at_boot]


def _lost_absent(board: Board) -> list[str]:
    return [f"bank {b.name} ({b.range}): it is not there at boot" for b in _absent(board)]


def _lost_nodes(board: Board) -> list[str]:
    return ["NUMA nodes"] if any(b.node is not None for b in board.banks) else []


def _lost_names(board: Board) -> list[str]:
    return ["names of banks", *_lost_domains(board)]


def _lost_domains(board: Board) -> list[str]:
    names = ", ".join(d.name for d in board.domains)
    return [f"power domains ({names})"] if names else []
