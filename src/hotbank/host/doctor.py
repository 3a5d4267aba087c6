# SPDX-License-Identifier: Apache-2.0
"""What about a machine would make a removal fail or hurt: findings as values.

Each check is one function of Facts and cites where its rule comes from. ``blocks``: the main job, taking
a bank away and giving it back, can't work; ``hurts``: it works and something suffers or stays unseen; ``info``:
good to know. A check that can't read its source finds nothing, unless the missing source is itself a finding.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hotbank import board as boards
from hotbank import kernels
from hotbank.board import Board, Domain
from hotbank.documents import SCHEMA
from hotbank.errors import Finding, MachineError, Severity, SwitchError
from hotbank.host import tree as files
from hotbank.host.devices import Device, devices, regions
from hotbank.host.hugepages import may_be_movable
from hotbank.host.kcore import RefCounts
from hotbank.host.ram import Ram
from hotbank.host.switch import Absent, Regulator, switch_for
from hotbank.host.tree import Tree
from hotbank.host.udev import onlinings
from hotbank.machine import Block
from hotbank.memory import INTO_KERNEL_ZONE, KIB, MIB, BlockState, Power, Range, Zone, format_size
from hotbank.routes import removing, route
from hotbank.sysfs import iomem, meminfo, names

_BIG = 512 * MIB
_FEW = 4
_VIEWS = {
    "kpageflags": "what a page is",
    "kpagecount": "how often a page is mapped, hence pins",
    "kpagecgroup": "whose cgroup pays for a page",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """What the checks look at. ``board`` is None where the machine has none."""

    tree: Tree
    board: Board | None
    block_size: int
    page_size: int | None
    blocks: tuple[Block, ...]
    arch: str | None

    def inside(self, bank: Range) -> tuple[Block, ...]:
        """Blocks that the range touches."""
        return tuple(b for b in self.blocks if b.range.overlaps(bank))

    @property
    def of_its_arch(self) -> bool:
        """False if the board is of another architecture: what it says of banks is then of another machine."""
        return self.board is None or self.arch is None or self.board.arch in (kernels.ANY, self.arch)

    @property
    def adds_banks(self) -> bool:
        """True if the board has banks that enter the kernel after boot."""
        return self.board is not None and any(not b.at_boot or route(b.route).enters for b in self.board.banks)


def examine(tree: Tree, board: Board | None = None) -> tuple[Finding, ...]:
    """All findings, the worst first. ``board``: in place of the machine's own /etc/hotbank/board.toml."""
    try:
        facts = _facts(tree, board)
    except MachineError as e:
        return (
            Finding("NO_HOTPLUG", Severity.BLOCKS, str(e), "CONFIG_MEMORY_HOTPLUG=y in the kernel's configuration"),
        )
    other = tuple(_other_board(facts))
    if not facts.of_its_arch:
        facts = replace(facts, board=None)
    found = [finding for check in CHECKS for finding in check(facts)]
    return (*other, *sorted(found, key=lambda finding: list(Severity).index(finding.severity)))


def document(machine: str, findings: tuple[Finding, ...]) -> dict[str, Any]:
    """The JSON of ``hotbank doctor --json``."""
    return {"schema": SCHEMA["doctor"], "machine": machine, "findings": rows(findings)}


def rows(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Findings in a JSON document."""
    return [{"code": f.code, "severity": f.severity.value, "message": f.message, "remedy": f.remedy} for f in findings]


def _facts(tree: Tree, board: Board | None) -> Facts:
    own = tree.path(boards.SYSTEM_BOARD.lstrip("/"))
    if board is None and os.path.exists(own):
        board = boards.load(own)
    size = files.block_size(tree)
    return Facts(tree, board, size, files.page_size(tree), files.blocks(tree, size), files.arch(tree))


def _other_board(facts: Facts) -> Iterator[Finding]:
    """Said before all else: a board of another machine makes nonsense of the rest."""
    board = facts.board
    if board is None or (facts.of_its_arch and board.block_size == facts.block_size):
        return
    its, here = format_size(board.block_size), format_size(facts.block_size)
    message = f"board {board.name} is of {board.arch} with blocks of {its}, this machine {facts.arch} with {here}"
    help_ = f"a board with arch = {facts.arch!r} and block_size = {here!r}"
    yield Finding("OTHER_BOARD", Severity.BLOCKS, message, help_)


def _hotremove(facts: Facts) -> Iterator[Finding]:
    """drivers/base/memory.c, removable_show: 1 exactly when the kernel can take memory away. Before 5.7 a hint about
    each block: 0 where a page was seen that can't move."""
    said = {b.number: facts.tree.read(names.block(b.number, "removable")) for b in facts.blocks if _online(b)}
    told, held = {word for word in said.values() if word}, [number for number, word in said.items() if word == "0"]
    if told == {"0"}:
        message = (
            "no block is removable: this kernel can't take memory away, or one from before 5.7 saw that none can go"
        )
        help_ = "CONFIG_MEMORY_HOTREMOVE=y in the kernel's configuration"
        yield Finding("NO_HOTREMOVE", Severity.BLOCKS, message, help_)
    elif held:
        others = f" and {len(held) - 1} more" if len(held) > 1 else ""
        message = f"memory{held[0]}{others} reads removable 0: a kernel before 5.7 saw pages there that can't move"
        yield Finding("NOT_REMOVABLE", Severity.INFO, message, "hotbank explain looks at each page; the hint is old")


def _rights(facts: Facts) -> Iterator[Finding]:
    """drivers/base/memory.c: ``state`` is root's to write."""
    if facts.tree.running and not files.may_change(facts.tree, facts.blocks):
        message = "this user may look at this host's memory, and change nothing"
        yield Finding("NOT_PERMITTED", Severity.HURTS, message, "run as root, or through the owner: hotbank serve")


def _boot_memory(facts: Facts) -> Iterator[Finding]:
    """arch/arm64/mm/mmu.c, prevent_bootmem_remove_notifier."""
    if kernels.arch(facts.arch).boot_memory_leaves is not False:
        return
    memory = Ram.of(facts.tree, facts.arch)
    help_ = (
        "keep the bank out of the kernel at boot (device tree, or mem=) and add it by a route that can take it out "
        f"again ({', '.join(removing())})"
    )
    if facts.board is None:
        if all(memory.at_boot(b.range) for b in facts.blocks):
            message = f"all memory was there at boot, and {facts.arch} never lets such memory go"
            yield Finding("BOOT_MEMORY", Severity.BLOCKS, message, help_)
        return
    for bank in facts.board.banks:
        present = any(memory.at_boot(b.range) for b in facts.inside(bank.range))
        if (bank.movable or route(bank.route).enters) and present:
            message = f"bank {bank.name} was there at boot, and {facts.arch} never lets such memory go"
            yield Finding("BOOT_MEMORY", Severity.BLOCKS, message, help_)


def _own_memmap(facts: Facts) -> Iterator[Finding]:
    """arch/arm64/mm/mmu.c, can_unmap_without_split: where the memmap of a block ends in the block itself, a leaf of the
    kernel's own map lies across. Our driver and virtio-mem never ask for that (routes.py, ``own_memmap``)."""
    kernel, policy = files.kernel_of(facts.tree), files.policy(facts.tree, facts.arch)
    vetoes = kernel is not None and kernel.vetoes_leaf and kernels.arch(facts.arch).boot_memory_leaves is False
    banks = [b for b in facts.board.banks if not b.at_boot and route(b.route).own_memmap] if facts.board else []
    if vetoes and policy.memmap_on_memory:
        of = f"bank {banks[0].name}" if banks else "what comes as a DIMM or as a dax device"
        message = f"memmap_on_memory is on, so {of} holds its own memmap, and this kernel never lets that go (EPERM)"
        severity = Severity.BLOCKS if banks else Severity.HURTS
        yield Finding("OWN_MEMMAP", severity, message, "memory_hotplug.memmap_on_memory=0 on the command line")


def _movable_zone(facts: Facts) -> Iterator[Finding]:
    """mm/page_alloc.c: only zone Movable keeps the kernel's own pages out."""
    help_ = "boot with movablecore=SIZE, or describe the bank as movable; online added blocks with online_movable"
    banks = facts.board.banks if facts.board else ()
    for bank in banks:
        outside = [b for b in facts.inside(bank.range) if _online(b) and b.valid_zones[:1] != (Zone.MOVABLE,)]
        if bank.movable and outside:
            zone = "/".join(outside[0].valid_zones) or "an unknown zone"
            message = f"bank {bank.name} should be movable, and memory{outside[0].number} of it is in {zone}"
            yield Finding("NOT_MOVABLE_ZONE", Severity.BLOCKS, message, help_)
    if facts.board is None and not any(Zone.MOVABLE in b.valid_zones[:1] for b in facts.blocks if _online(b)):
        message = "no block is in zone Movable, so the kernel's own pages may lie in any of them"
        yield Finding("NO_MOVABLE_ZONE", Severity.HURTS, message, help_)


def _online(block: Block) -> bool:
    return block.state is BlockState.ONLINE


def _places(facts: Facts) -> Iterator[Finding]:
    """What the board says lies somewhere, and nothing here does: blocks of boot, devices of a route (devices.py)."""
    known = (*devices(facts.tree), *regions(facts.tree))
    there = {block.number for block in facts.blocks}
    for bank in facts.board.banks if facts.board else ():
        missing = [number for number in bank.range.blocks(facts.block_size) if number not in there]
        if missing and bank.at_boot and not route(bank.route).removes:
            message = (
                f"bank {bank.name} ({bank.range}) is there from boot on by its board, and memory{missing[0]} is not"
            )
            yield Finding("NO_MEMORY", Severity.BLOCKS, message, "start and size as /proc/iomem has System RAM")
        holders = [device for device in known if device.route == bank.route]
        if len(missing) == len(bank.range.blocks(facts.block_size)) and holders and not _holds(holders, bank.range):
            message = f"bank {bank.name} ({bank.range}) lies on no device of route {bank.route}"
            yield Finding("NO_DEVICE", Severity.BLOCKS, message, _known_devices(holders))


def _holds(holders: Sequence[Device], bank: Range) -> bool:
    return any(device.range.contains(bank) for device in holders)


def _known_devices(holders: Sequence[Device]) -> str:
    return "here are " + ", ".join(f"{device.name} ({device.range})" for device in holders[:_FEW])


def _nodes(facts: Facts) -> Iterator[Finding]:
    """drivers/base/node.c: the node of a block is what the kernel made of firmware's word, or the driver's."""
    for bank in facts.board.banks if facts.board else ():
        other = next(
            (b for b in facts.inside(bank.range) if None not in (bank.node, b.node) and b.node != bank.node), None
        )
        if other is not None:
            message = (
                f"bank {bank.name} is on node {bank.node} by its board, and memory{other.number} of it on {other.node}"
            )
            yield Finding("OTHER_NODE", Severity.HURTS, message, f"node = {other.node} in the board file")


def _switches(facts: Facts) -> Iterator[Finding]:
    """host/switch.py: what turns the power must be there, and what it says must be so."""
    for domain in facts.board.domains if facts.board else ():
        missing = [*_missing_programs(facts, domain)]
        yield from missing or _asked(facts, domain)


def _missing_programs(facts: Facts, domain: Domain) -> Iterator[Finding]:
    """Of a captured tree nobody can tell which programs its machine has."""
    if domain.switch != "command" or not facts.tree.running:
        return
    programs = {argv[0]: word for word, argv in domain.programs.items()}
    for program, word in programs.items():
        if shutil.which(program) is None:
            message = f"domain {domain.name}: {program}, its program for {word}, can't be run here"
            yield Finding(
                "BAD_SWITCH", Severity.BLOCKS, message, "install it, make it executable, or name it by its path"
            )


def _asked(facts: Facts, domain: Domain) -> Iterator[Finding]:
    banks = [bank for bank in facts.board.banks if bank.domain == domain.name] if facts.board else []
    switch = switch_for(domain, banks, facts.tree, _write_nothing)
    if isinstance(switch, Absent):
        yield from _switched_elsewhere(facts, domain)
        return
    try:
        now = switch.status()
        if isinstance(switch, Regulator):
            switch.consumer()
    except SwitchError as e:
        yield Finding("BAD_SWITCH", Severity.BLOCKS, str(e), "the power of this domain can't be known or turned")
        return
    held = next((block for bank in banks for block in facts.inside(bank.range)), None)
    if held is not None and now is not Power.ON:
        message = f"domain {domain.name} is {now} by its switch, and memory{held.number} of it is in the kernel"
        yield Finding(
            "BAD_SWITCH", Severity.BLOCKS, message, "its status must say what the memory gets, at every moment"
        )
    elif now not in domain.states:
        message = f"domain {domain.name} is {now} by its switch, which is not among its states"
        yield Finding("BAD_SWITCH", Severity.BLOCKS, message, f"states = [..., {now.value!r}] in the board file")


def _switched_elsewhere(facts: Facts, domain: Domain) -> Iterator[Finding]:
    """Right for a guest whose owner stands outside; of a captured tree nobody can tell."""
    if facts.tree.running:
        message = f"domain {domain.name} has switch = {domain.switch!r}, and nothing on this host answers for it"
        help_ = (
            "fine where the machine's owner switches it from outside, as of a board in QEMU; else command or regulator"
        )
        yield Finding("NO_SWITCH", Severity.HURTS, message, help_)


def _write_nothing(name: str, word: str, what: str) -> None:
    raise AssertionError(f"the doctor writes nothing: {what}, {word} to {name}")


def _auto_online(facts: Facts) -> Iterator[Finding]:
    """mm/memory_hotplug.c, add_memory_resource: added blocks are onlined by this policy at once. hotbank sets it aside
    while it adds (operate/onlining.py); whoever else adds what is a bank does not."""
    policy = facts.tree.read(names.AUTO_ONLINE)
    if policy in INTO_KERNEL_ZONE:
        severity = Severity.HURTS if facts.adds_banks else Severity.INFO
        message = f"auto_online_blocks is {policy}: what anybody but hotbank adds falls into a kernel zone and stays"
        help_ = (
            f"echo online_movable > /{names.AUTO_ONLINE}, and memhp_default_state=online_movable on the command line"
        )
        yield Finding("AUTO_ONLINE", severity, message, help_)


def _udev(facts: Facts) -> Iterator[Finding]:
    """udev(7): a rule for added blocks acts a moment after they appear, whatever auto_online_blocks says."""
    for found in onlinings(facts.tree):
        where, puts = f"/{found.rule.file}:{found.rule.line}", "puts" if found.sure else "may put"
        message, sure = f"{where} {puts} added blocks {found.word}, a moment after they appear", found.sure
        if found.word in INTO_KERNEL_ZONE:
            severity = Severity.BLOCKS if facts.adds_banks else Severity.INFO
            yield Finding("UDEV_ONLINE", severity, message, found.remedy, where if sure else "")
        else:
            help_ = "nothing: in zone Movable they can leave again"
            yield Finding("UDEV_MOVABLE", Severity.INFO, message, help_, where if sure else "")


def _alignment(facts: Facts) -> Iterator[Finding]:
    """drivers/base/memory.c, memory_block_size_bytes: a block is the smallest thing that leaves."""
    size = format_size(facts.block_size)
    if facts.block_size >= _BIG:
        pages = "" if facts.page_size is None else f" of {format_size(facts.page_size)} pages"
        message = f"a memory block is {size}{pages}: little memory can leave at a time"
        help_ = "a kernel with 4K pages has blocks of 128M" if facts.page_size != 4 * KIB else "make banks that large"
        yield Finding("BIG_BLOCKS", Severity.HURTS, message, help_)
    for bank in facts.board.banks if facts.board else ():
        if (bank.movable or route(bank.route).enters) and not bank.range.aligned(facts.block_size):
            message = f"bank {bank.name} ({bank.range}) is not made of whole blocks of {size}"
            help_ = f"block_size = {size!r} in the board file, and start and size multiples of it"
            yield Finding("NOT_ALIGNED", Severity.BLOCKS, message, help_)


def _cma(facts: Facts) -> Iterator[Finding]:
    """mm/page_isolation.c, has_unmovable_pages: a CMA pageblock is isolated for CMA only."""
    for node, zone, pages in files.cma_pages(facts.tree):
        size = format_size(pages * (facts.page_size or 4 * KIB))
        message = f"zone {zone} of node {node} lends {size} to CMA; the blocks that hold them can't leave"
        yield Finding("CMA", Severity.HURTS, message, "cma=SIZE@START outside of every bank, or cma=0")


def _views(facts: Facts) -> Iterator[Finding]:
    """fs/proc/page.c, fs/proc/kcore.c, kernel/resource.c: what a survey looks through."""
    for name, shows in _VIEWS.items():
        if not _readable(facts.tree, f"proc/{name}"):
            message = f"/proc/{name} can't be read: a survey will not see {shows}"
            severity = Severity.INFO if name == "kpagecgroup" else Severity.HURTS
            yield Finding("VIEW_MISSING", severity, message, "run as root; CONFIG_PROC_PAGE_MONITOR=y, CONFIG_MEMCG=y")
    refs = RefCounts.open(facts.tree)
    if refs is None:
        message = "/proc/kcore shows no reference counts: pinned pages can't be told from others (PINS_UNKNOWN)"
        yield Finding("VIEW_MISSING", Severity.HURTS, message, "run as root; CONFIG_PROC_KCORE=y, lockdown=none")
    else:
        refs.close()
    if Ram.of(facts.tree, facts.arch).resources is None:
        message = "/proc/iomem hides its addresses: holes and boot memory can't be seen"
        yield Finding("VIEW_MISSING", Severity.HURTS, message, "run as root")


def _readable(tree: Tree, name: str) -> bool:
    file = tree.open(name)
    if file is not None:
        os.close(file)
    return file is not None


def _other_kernels(facts: Facts) -> Iterator[Finding]:
    """kernel/kexec_core.c: a kernel loaded earlier knows the memory of that moment, and will touch all of it. One for a
    crash is told of each block where ``crash_hotplug`` is 1, from 6.6 on (kernel/crash_core.c)."""
    follows = facts.tree.read(names.CRASH_HOTPLUG) == "1"
    for name, file, help_ in (
        ("KDUMP_LOADED", "kexec_crash_loaded", "kdump-config reload (or kexec -p again) after each remove and add"),
        ("KEXEC_LOADED", "kexec_loaded", "kexec -u, or add every bank before kexec -e"),
    ):
        if facts.tree.read(f"sys/kernel/{file}") == "1" and not (follows and file == "kexec_crash_loaded"):
            message = f"/sys/kernel/{file} is 1: that kernel would read a bank that is switched off"
            yield Finding(name, Severity.HURTS, message, help_)


def _dumped_from(facts: Facts) -> Iterator[Finding]:
    """arch/s390/kernel/setup.c, kdump_mem_notifier: what begins below the crash kernel's size stays."""
    resources = facts.tree.value(names.IOMEM, iomem.ENTRIES) or ()
    size = max((r.range.size for r in resources if r.name == "Crash kernel"), default=0)
    size = 0 if size == 1 else size  # without CAP_SYS_ADMIN all addresses read as 0
    kept = [b for b in facts.blocks if _online(b) and b.range.start < size]
    if kernels.arch(facts.arch).dumps_from_below and kept:
        what = f"memory{kept[0].number}" + (f" to memory{kept[-1].number}" if len(kept) > 1 else "")
        message = f"{what} stays: a crash kernel of {format_size(size)} would change places with it"
        yield Finding("KDUMP_KEEPS", Severity.INFO, message, "boot with a smaller crashkernel=, or use other blocks")


def _hibernation(facts: Facts) -> Iterator[Finding]:
    """kernel/power/hibernate.c: an image is refused when the memory has changed since."""
    states = (facts.tree.read("sys/power/state") or "").split()
    if "disk" in states and facts.tree.read("sys/power/disk") != "[disabled]":
        message = "hibernation is possible: an image made with a bank away is refused when all memory is back"
        yield Finding("HIBERNATION", Severity.HURTS, message, "nohibernate on the command line, or all banks in first")


def _meminfo(facts: Facts) -> Iterator[Finding]:
    """mm/hugetlb.c, dissolve_free_huge_folios; mm/memory-failure.c."""
    lines = facts.tree.value(names.MEMINFO, meminfo.LINES) or {}
    pool, bad = lines.get("HugePages_Total", 0), lines.get("HardwareCorrupted", 0)
    if pool:
        message = f"the pool of {pool} huge pages shrinks by those in a block that leaves, and does not grow back"
        yield Finding("HUGETLB", Severity.HURTS, message, "set nr_hugepages again after each removal")
    if bad:
        message = f"{bad} KiB of memory are poisoned: a bad page is forgotten when its block leaves and returns"
        yield Finding("POISONED", Severity.HURTS, message, "leave banks with bad pages in, or have the memory replaced")


def _gigantic(facts: Facts) -> Iterator[Finding]:
    """include/linux/hugetlb.h, hugepage_movable_supported: since 7.0 one may have gigantic pages in zone Movable."""
    if may_be_movable(facts.tree):
        message = "vm.movable_gigantic_pages is set: a bank with such a page leaves only if its pool has another free"
        yield Finding("HUGETLB", Severity.HURTS, message, "sysctl vm.movable_gigantic_pages=0 keeps new ones out")


def _stuck(facts: Facts) -> Iterator[Finding]:
    """mm/memory_hotplug.c: one operation at a time, system wide."""
    for block in facts.blocks:
        if block.state is BlockState.GOING_OFFLINE:
            message = f"memory{block.number} is being taken offline, and every other operation waits for that"
            yield Finding("CANCEL_PENDING", Severity.BLOCKS, message, "end the process that writes to its state")


CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    _hotremove,
    _rights,
    _boot_memory,
    _own_memmap,
    _stuck,
    _places,
    _switches,
    _movable_zone,
    _nodes,
    _auto_online,
    _udev,
    _alignment,
    _cma,
    _views,
    _other_kernels,
    _dumped_from,
    _hibernation,
    _meminfo,
    _gigantic,
)
