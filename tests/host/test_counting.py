# SPDX-License-Identifier: Apache-2.0
"""What kernel/bank/counts.c, compiled for this machine, calls held: large folios, however a kernel counts mappings."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from hotbank.host.pages import ANON, LRU, SWAPBACKED, UPTODATE

SOURCE = Path(__file__).parents[2] / "kernel/bank/counts.c"
AROUND = Path(__file__).with_name("around_counts.h")
FILE, ANONYMOUS, PAGES = LRU | UPTODATE, LRU | UPTODATE | ANON | SWAPBACKED, 512
CACHE, KIND_FREE, KIND_ANON, KIND_FILE = PAGES, 1, 2, 4  # references of the page cache; where each kind is counted
MAIN = """
#include "counts.c"
#include <stdio.h>
#include <stdlib.h>

/* FLAGS ENTIRE EACH REFS: of a folio of 512 pages; as many are free behind it. */
int main(int count, char **words)
{
	struct bank bank = { .size = memory_block_size_bytes() };
	struct bank_counts counts;
	int n;

	bank_describe_counts(&bank);
	for (n = 0; n < MAX_ORDER_NR_PAGES; n++)
		memory[n] = (struct page) {
			.flags = 1 << KPF_BUDDY, ._mapcount = -1, .private = 9, .head = &memory[n], .pages = 1
		};
	for (n = 0; n < 512; n++) {
		memory[n].flags = strtoull(words[1], NULL, 0);
		memory[n]._mapcount = atoi(words[3]) - 1;
		memory[n].head = memory;
	}
	memory->entire = atoi(words[2]);
	memory->_refcount = atoi(words[4]);
	memory->pages = 512;
	bank.counts.read(NULL, NULL, &bank.counts, (char *)&counts, (loff_t)0, sizeof(counts));
	return count != 5 || fwrite(&counts, sizeof(counts), 1, stdout) != 1;
}
"""


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program; whatever counts.c includes is ``around_counts.h``, or nothing."""
    folder = tmp_path_factory.mktemp("counting")
    shutil.copy(SOURCE, folder)
    for header in re.findall(r'#include [<"](\S+)[>"]', SOURCE.read_text(encoding="utf-8")):
        (folder / header).parent.mkdir(exist_ok=True)
        (folder / header).write_text(f'#include "{AROUND}"\n' if header == "bank.h" else "")
    (folder / "main.c").write_text(MAIN)
    argv = ["gcc", "-std=gnu11", "-w", "-I", str(folder), "-o", str(folder / "main"), str(folder / "main.c")]
    subprocess.run(argv, check=True)
    return folder / "main"


def counted(program: Path, flags: int, entire: int, each: int, refs: int) -> tuple[int, list[int]]:
    """Pages that are called held, and pages by kind."""
    words = [str(word) for word in (flags, entire, each, refs)]
    said = struct.unpack("=3Ii60I", subprocess.run([program, *words], check=True, capture_output=True).stdout)
    assert said[0] == 1
    return said[1], list(said[4:20])


@pytest.mark.parametrize(
    ("flags", "entire", "each", "refs"),
    [
        pytest.param(ANONYMOUS, 1, 0, 1, id="anonymous, mapped whole"),
        pytest.param(ANONYMOUS, 0, 1, PAGES, id="anonymous, by its pages"),
        pytest.param(FILE, 0, 0, CACHE, id="a file's, by nobody"),
        pytest.param(FILE, 2, 0, CACHE + 2, id="a file's, mapped whole"),
        pytest.param(FILE, 0, 1, CACHE + PAGES, id="a file's, by its pages"),
        pytest.param(FILE, 1, 1, CACHE + 1, id="a file's, mapped whole, up to 6.1"),
    ],
)
def test_one_reference_too_many_holds_a_folio(counting: Path, flags: int, entire: int, each: int, refs: int) -> None:
    held, kinds = counted(counting, flags, entire, each, refs)
    assert (held, kinds[KIND_FREE], kinds[KIND_ANON] + kinds[KIND_FILE]) == (0, PAGES, PAGES)
    assert counted(counting, flags, entire, each, refs + 1)[0] == PAGES


@pytest.mark.parametrize("refs", [2, 1 + PAGES], ids=["pinned, up to 6.1", "since"])
def test_a_folio_that_is_mapped_both_ways_is_left_to_a_survey(counting: Path, refs: int) -> None:
    """Up to 6.1 its pages are counted as mapped for those who map it whole, and nothing tells the two apart."""
    assert counted(counting, ANONYMOUS, 1, 1, refs)[0] == PAGES
