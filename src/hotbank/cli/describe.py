# SPDX-License-Identifier: Apache-2.0
"""``hotbank decode``, ``encode`` and ``zones``: what firmware says about memory, and what a kernel makes of it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

import click

from hotbank import board as boards
from hotbank import firmware, kernels
from hotbank.board import Board
from hotbank.cli import handed, table
from hotbank.cli.releases import Architecture, known_release
from hotbank.cli.terminal import say, say_json
from hotbank.documents import SCHEMA
from hotbank.errors import FILE, Finding, FormatError, Severity, in_file
from hotbank.firmware import atags, cmdline, console, devicetree, efi, fdt, iort
from hotbank.memory import KIB, MemoryMap, MemoryRegion, Range, Unplaced, format_size, merge, parse_size
from hotbank.zones import STRATEGIES, Layout, iomem, predict


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--vendor", type=click.Choice(sorted(atags.VENDORS)), help="Read this vendor's own ATAGs as well.")
@click.option("-J", "--json", "as_json", is_flag=True, help="Print one JSON document.")
def decode(file: str, vendor: str | None, as_json: bool) -> None:
    """Print what a firmware description says about memory.

    FILE is an ATAG list, a device tree, an ACPI SRAT or a command line, recognised by itself; also gzipped, or a
    zImage with a device tree appended. `-` reads standard input.
    """
    with in_file(file):
        data = firmware.unwrap(handed.contents(file))
        form = firmware.recognise(data)
        memory = firmware.memory_map(data, vendor=vendor)
        banks = devicetree.banks(fdt.decode(data)) if form == "dtb" else ()
        tags = atags.decode(data, vendor) if form == "atags" else ()
    if as_json:
        say_json(_map_document(form, memory, banks, tags, vendor), indent=2)
    else:
        say(*_map_lines(form, memory, banks, tags, vendor))


@click.command()
@click.argument("board")
@click.option("--atags", "form", flag_value="atags", help="A list of ATAGs, for 32-bit ARM.")
@click.option("--dtb", "form", flag_value="dtb", help="A flattened device tree.")
@click.option("--srat", "form", flag_value="srat", help="An ACPI SRAT.")
@click.option("--cmdline", "form", flag_value="cmdline", help="Kernel command line words.")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write to this file, not to standard output.",
)
@click.option(
    "--base", type=click.Path(allow_dash=True), help="With --dtb: put the board's memory into this device tree."
)
@click.option(
    "--appended",
    type=click.Choice(["1", "2"]),
    help="With --atags: for a zImage with an appended tree of this #size-cells.",
)
def encode(board: str, form: str | None, output: str | None, base: str | None, appended: str | None) -> None:
    """Write a board as a boot loader would describe it, and say what the format can't carry.

    BOARD is a TOML file or the name of a shipped board. Without a format, the board's own is used.
    """
    known = boards.load(board)
    form = form or known.describe
    if appended and form != "atags":
        raise click.UsageError("--appended goes with --atags")
    description = firmware.describe(known, form, base=handed.contents(base) if base else None)
    if appended:
        tags = atags.decode(description.data)
        atags.check_appended(tags, int(appended))
    _write(description.data, output, binary=form != "cmdline")
    for lost in description.lost:
        say(f"not carried: {lost}", err=True)


@click.command()
@click.option("--dtb", type=click.Path(allow_dash=True), help="A device tree, such as /sys/firmware/fdt.")
@click.option("--atags", "atag_list", type=click.Path(allow_dash=True), help="A list of ATAGs.")
@click.option("--srat", type=click.Path(allow_dash=True), help="An ACPI SRAT; give --iomem too, it says what is there.")
@click.option("--board", help="A board, described in its own format.")
@click.option("--cmdline", metavar="TEXT", help="Kernel command line, instead of the description's own.")
@click.option(
    "--kernel",
    metavar="RELEASE",
    callback=known_release,
    default=kernels.DEFAULT,
    show_default=True,
    help=f"Rules are known for {kernels.known()}; a newer release goes by the newest.",
)
@click.option(
    "--iomem", "iomem_file", type=click.Path(allow_dash=True), help="/proc/iomem of the machine, read as root."
)
@click.option(
    "--efi-memmap",
    type=click.Path(allow_dash=True),
    help="Kernel log of a machine that UEFI booted with efi=debug: its memory map, in place of the tree's.",
)
@click.option(
    "--iort",
    type=click.Path(allow_dash=True),
    help="An ACPI IORT of an arm64 machine: how far its DMA masters reach, hence where zone DMA ends.",
)
@click.option("--strategy", type=click.Choice(STRATEGIES), default="mainline", show_default=True)
@click.option(
    "--arch",
    type=Architecture([name for name in kernels.ARCHES if name != kernels.ANY]),
    metavar="ARCH",
    help=f"Default: what the description says it is for. Rules are known for {' and '.join(kernels.bootable())}.",
)
@click.option("--page-size", type=click.Choice(["4K", "16K", "64K"]), help="Default: 4K.")
@click.option("--block-size", metavar="SIZE", help="Default: 64M on arm, 128M on arm64 (512M with 64K pages).")
@click.option("--dma-size", metavar="SIZE", help="On arm: the machine's DMA zone. Default: no such zone.")
@click.option("--lpae", is_flag=True, help="On arm: the kernel has CONFIG_ARM_LPAE, and reaches beyond 4 GiB.")
@click.option("--numa-emu", is_flag=True, help="The kernel has CONFIG_NUMA_EMU: numa=fake= is followed.")
@click.option("-J", "--json", "as_json", is_flag=True, help="Print one JSON document.")
def zones(**options: Any) -> None:
    """Predict the zones and memory blocks that a kernel will make of a description."""
    request = _request(options)
    layout = _predict(request, options)
    if options["as_json"]:
        say_json(_layout_document(layout), indent=2)
    else:
        say(*_layout_lines(layout, request.page_size))


@dataclass(frozen=True, slots=True)
class _Request:
    """A description and the machine it is for. ``board`` is None for a description that came as a file."""

    memory: MemoryMap
    arch: str
    page_size: int
    block_size: int
    board: Board | None = None


def _request(options: dict[str, Any]) -> _Request:
    sources = {name: options[name] for name in ("dtb", "atag_list", "srat", "board") if options[name] is not None}
    described = options["iomem_file"] or options["efi_memmap"]
    if len(sources) > 1 or not (sources or described):
        what = "give exactly one of --dtb, --atags, --srat and --board; of an ACPI machine without SRAT --iomem"
        raise click.UsageError(what)
    if not sources:  # ACPI without SRAT: all memory is of one node
        request = _Request(MemoryMap(), kernels.DEFAULT_ARCH, 4 * KIB, 0)
    elif options["board"] is not None:
        board = boards.load(options["board"])
        data = firmware.describe(board, board.describe).data
        arch = kernels.board_arch(board.arch).name
        request = _Request(firmware.memory_map(data), arch, board.page_size, board.block_size, board)
    else:
        ((source, path),) = sources.items()
        with in_file(path):
            request = _from_file(handed.contents(path), source.replace("atag_list", "atags"))
    page_size = _size(options["page_size"], "--page-size") or request.page_size
    arch = options["arch"] or request.arch
    default = request.block_size if request.board else kernels.arch(arch).block_size(page_size)
    asked = _size(options["block_size"], "--block-size")
    return replace(request, arch=_as_utf8(arch), page_size=page_size, block_size=default if asked is None else asked)


def _from_file(data: bytes, wanted: str) -> _Request:
    data = firmware.unwrap(data)
    found = firmware.recognise(data)
    if found != wanted:
        raise FormatError(FILE, 0, "magic", f"this is {found}, not {wanted}")
    memory = firmware.memory_map(data)
    arch = kernels.arch(memory.arch) if memory.arch else kernels.arch_described_by(wanted)
    return _Request(memory, arch.name, 4 * KIB, arch.block_size(4 * KIB))


def _predict(request: _Request, options: dict[str, Any]) -> Layout:
    memory, ram, boot = request.memory, tuple[Range, ...](), tuple[Range, ...]()
    line = memory.cmdline if options["cmdline"] is None else cmdline.typed(options["cmdline"])
    alone = not any(options[name] for name in ("dtb", "atag_list", "srat", "board"))
    if options["iomem_file"]:
        text = console.text(handed.contents(options["iomem_file"]))
        ram = iomem.system_ram(text)
        if options["srat"] and not options["efi_memmap"]:
            memory = iomem.restrict(memory, text)
        elif memory.uefi is not None or (alone and not options["efi_memmap"]):
            memory = iomem.as_found(memory, text)
    if options["efi_memmap"]:
        acpi = alone or bool(options["srat"])
        memory, boot = _as_uefi_booted(memory, _descriptors(options["efi_memmap"], line, request.page_size), acpi=acpi)
    memory, unknown = _with_masters(memory, request, options)
    found = memory.arch if alone and not options["arch"] else None
    if options["numa_emu"] and cmdline.memory_options(cmdline.decode(line or "")).numa_fake is None:
        raise click.UsageError("--numa-emu has no effect without numa=fake= on the command line")
    layout = predict(
        memory,
        arch=found or request.arch,
        page_size=request.page_size,
        block_size=request.block_size,
        cmdline=line,
        kernel=options["kernel"],
        strategy=options["strategy"],
        dma_size=_size(options["dma_size"], "--dma-size"),
        numa_emu=options["numa_emu"],
        lpae=options["lpae"],
    ).layout
    later = tuple(iomem.added_later(memory, boot, ram))
    at_boot = tuple(p for r in ram for b in boot if (p := r.intersection(b))) if boot else ram
    differ = iomem.differences(layout, at_boot) if options["iomem_file"] else ()
    return replace(layout, findings=(*layout.findings, *unknown, *_later_banks(request.board), *later, *differ))


def _with_masters(
    memory: MemoryMap, request: _Request, options: dict[str, Any]
) -> tuple[MemoryMap, tuple[Finding, ...]]:
    """The map with what IORT says of DMA, and a finding where nobody says it; a device tree has dma-ranges."""
    acpi = kernels.arch(request.arch).lowmem is None and not (options["dtb"] or options["atag_list"])
    if options["iort"]:
        if not acpi or request.board:
            raise click.UsageError("--iort goes with --srat, or --iomem, of an arm64 machine that ACPI describes")
        with in_file(options["iort"]):
            return replace(memory, dma_limit=iort.dma_limit(handed.contents(options["iort"]))), ()
    if not acpi or request.board:
        return memory, ()
    message = "zone DMA is taken to reach to 4 GiB: a limit of DMA masters in the machine's IORT would end it earlier"
    help_ = "give --iort, /sys/firmware/acpi/tables/IORT of that machine"
    return memory, (Finding("DMA_LIMIT_UNKNOWN", Severity.INFO, message, help_),)


def _efi_words(line: str | None) -> set[str]:
    """What ``efi=`` says (drivers/firmware/efi/efi.c, parse_efi_cmdline)."""
    values = cmdline.decode(line or "").all("efi")
    return {word for value in values for word in (value or "").split(",")}


def _descriptors(log: str, line: str | None, page_size: int) -> tuple[efi.Descriptor, ...]:
    """What UEFI reported, as a kernel with that command line and pages of that size takes it."""
    descriptors = efi.in_pages(efi.decode(console.text(handed.contents(log))), page_size)
    return efi.soft_reservations_ignored(descriptors) if "nosoftreserve" in _efi_words(line) else descriptors


def _as_uefi_booted(
    memory: MemoryMap, descriptors: tuple[efi.Descriptor, ...], *, acpi: bool
) -> tuple[MemoryMap, tuple[Range, ...]]:
    """The map with the memory that UEFI reported, and where that is."""
    if memory.uefi is None and not acpi:
        raise click.UsageError("--efi-memmap goes with an SRAT, or a device tree of a machine that UEFI booted")
    mapped, unmapped = efi.ram(descriptors)
    if memory.regions and acpi:
        found = replace(iomem.within(memory, mapped, unmapped), mirrored=efi.mirrors(descriptors))
        return found, merge([*mapped, *unmapped])
    return efi.apply(memory, descriptors), merge([*mapped, *unmapped])


def _later_banks(board: Board | None) -> Iterable[Finding]:
    for bank in board.banks if board else ():
        if not bank.at_boot:
            message = f"bank {bank.name} ({bank.range}) is added later, by route {bank.route}"
            yield Finding("NOT_AT_BOOT", Severity.INFO, message, "hotbank add, on the running machine")


def _size(text: str | None, option: str) -> int | None:
    try:
        size = None if text is None else parse_size(text)
    except ValueError as e:
        raise click.BadParameter(str(e), param_hint=option) from e
    return size


def _write(data: bytes, path: str | None, *, binary: bool) -> None:
    if path is not None and path != "-":
        Path(path).write_bytes(data)
        return
    if sys.stdout is None:
        raise click.UsageError("standard output is closed: name a file with -o")
    if binary and sys.stdout.isatty():
        raise click.UsageError("this is binary: name a file with -o, or send standard output elsewhere")
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()  # what is said on standard error comes after it


def _map_document(
    form: str, memory: MemoryMap, banks: Sequence[MemoryRegion], tags: Sequence[atags.Tag], vendor: str | None
) -> dict[str, Any]:
    return {
        "schema": SCHEMA["decode"],
        "format": form,
        "regions": [_region_document(r) for r in memory.regions],
        "reserved": [
            {**_range_document(r.range), "name": _as_utf8(r.name), "no_map": r.no_map, "reusable": r.reusable}
            for r in memory.reserved
        ],
        "unplaced": [_unplaced_document(u) for u in memory.unplaced],
        "uefi": memory.uefi is not None,
        "arch": None if memory.arch is None else _as_utf8(memory.arch),
        "no_memory": memory.no_memory,
        "dropped": [_as_utf8(why) for why in memory.dropped],
        "pmem": [_region_document(r) for r in memory.pmem],
        "banks": [{"bank": _as_utf8(b.source), **_range_document(b.range), "node": b.node} for b in banks],
        "usable": [_range_document(r) for r in memory.usable],
        "dma_limit": memory.dma_limit,
        "cmdline": None if memory.cmdline is None else _as_utf8(memory.cmdline),
        "initrd": _range_document(memory.initrd) if memory.initrd else None,
        "cpu_nodes": list(memory.cpu_nodes),
        "tags": [{"tag": t.tag, "name": t.name(vendor), "fields": _fields(t, vendor)} for t in tags],
    }


def _fields(tag: atags.Tag, vendor: str | None) -> dict[str, int | str]:
    return {k: _as_utf8(v) if isinstance(v, str) else v for k, v in tag.fields(vendor).items()}


def _region_document(region: MemoryRegion) -> dict[str, Any]:
    more = {"node": region.node, "hotpluggable": region.hotpluggable, "source": _as_utf8(region.source)}
    return {**_range_document(region.range), **more}


def _unplaced_document(u: Unplaced) -> dict[str, Any]:
    within = [_range_document(r) for r in u.within]
    sizes = {"name": _as_utf8(u.name), "size": u.size, "alignment": u.alignment, "within": within}
    return {**sizes, "no_map": u.no_map, "reusable": u.reusable}


def _range_document(range_: Range) -> dict[str, int]:
    return {"start": range_.start, "size": range_.size}


def _map_lines(
    form: str, memory: MemoryMap, banks: Sequence[MemoryRegion], tags: Sequence[atags.Tag], vendor: str | None
) -> Iterable[str]:
    yield f"format: {form}"
    rows = [(r.range, "hot-pluggable" if r.hotpluggable else "memory", r.node, r.source) for r in memory.regions]
    rows += [(r.range, "persistent", r.node, r.source) for r in memory.pmem]
    rows += [(b.range, "not at boot", b.node, f"bank {b.source}") for b in banks]
    for r in memory.reserved:
        rows.append((r.range, "no-map" if r.no_map else "reusable" if r.reusable else "reserved", None, r.name))
    header = ("START", "LAST", "SIZE", "KIND", "NODE", "SOURCE")
    told = [(*_edges(r), kind, _dash(node), _as_utf8(source)) for r, kind, node, source in rows]
    yield from table.lines(header, told, shown=bool(told))
    for u in memory.unplaced:
        within = f" within {', '.join(map(str, u.within))}" if u.within else ""
        yield f"placed at boot: {_as_utf8(u.name)}, {format_size(u.size)}{within}{' (no-map)' * u.no_map}"
    for why in memory.dropped:
        yield f"passed over: {_as_utf8(why)}"
    if memory.no_memory:
        yield f"no memory: {memory.no_memory}"
    if memory.arch:
        yield f"for: {_as_utf8(memory.arch)}"
    if memory.uefi is not None:
        yield "booted by UEFI: the kernel takes UEFI's memory map in place of these memory nodes"
    if memory.initrd:
        yield f"initrd: {memory.initrd}"
    if memory.usable:
        yield "usable by a crash kernel: " + ", ".join(map(str, memory.usable))
    if memory.dma_limit is not None:
        yield f"DMA reaches below: {memory.dma_limit:#x}"
    if memory.cpu_nodes:
        yield "nodes with processors: " + ", ".join(map(str, memory.cpu_nodes))
    if memory.cmdline is not None:
        yield f"command line: {_as_utf8(memory.cmdline)}"
    for tag in tags:
        fields = " ".join(
            f"{k}={v:#x}" if isinstance(v, int) else f"{k}={v!r}" for k, v in _fields(tag, vendor).items()
        )
        yield f"tag {tag.name(vendor)} {fields or tag.payload.hex(' ', 4)}".rstrip()


def _layout_document(layout: Layout) -> dict[str, Any]:
    return {
        "schema": SCHEMA["zones"],
        "zones": [
            {
                "node": z.node,
                "zone": z.zone,
                "start_pfn": z.start_pfn,
                "spanned": z.spanned,
                "present": z.present,
            }
            for z in layout.zones
        ],
        "blocks": [{"block": b.block, "valid_zones": list(b.valid_zones)} for b in layout.blocks],
        "warnings": [
            {"code": f.code, "severity": f.severity.value, "message": _as_utf8(f.message), "remedy": f.remedy}
            for f in layout.findings
        ],
    }


def _layout_lines(layout: Layout, page_size: int) -> Iterable[str]:
    rows = []
    for z in layout.zones:
        span = Range(z.start_pfn * page_size, z.end_pfn * page_size)
        numbers = (str(z.start_pfn), str(z.spanned), str(z.present))
        rows.append((str(z.node), z.zone, *_edges(span), format_size(z.present * page_size), *numbers))
    header = ("NODE", "ZONE", "START", "LAST", "SPAN", "PRESENT", "START_PFN", "SPANNED", "PRESENT_PAGES")
    yield from table.lines(header, rows, shown=bool(rows))
    if blocks := list(_block_runs(layout)):
        yield ""
        yield from table.lines(("BLOCKS", "VALID_ZONES"), blocks)
    for finding in layout.findings:
        yield f"{finding.code}: {_as_utf8(finding.message)}"
        yield f"  -> {finding.remedy}"


def _block_runs(layout: Layout) -> Iterable[tuple[str, str]]:
    """Neighbouring blocks of the same zones as one row."""
    numbered = enumerate(layout.blocks)
    for (_, valid_zones), run in groupby(numbered, lambda pair: (pair[1].block - pair[0], pair[1].valid_zones)):
        (_, first), *more = run
        yield table.numbers(first.block, len(more)), " ".join(valid_zones)


def _edges(range_: Range) -> tuple[str, str, str]:
    return f"{range_.start:#x}", f"{max(range_.start, range_.end - 1):#x}", format_size(range_.size)


def _as_utf8(text: str) -> str:
    """Firmware's bytes, which decoders take as Latin-1, as UTF-8 if that is what they are."""
    with suppress(UnicodeError):
        return text.encode("latin-1").decode("utf-8")
    return text


def _dash(value: int | None) -> str:
    return "-" if value is None else str(value)
