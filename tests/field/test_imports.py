# SPDX-License-Identifier: Apache-2.0
"""Recordings of other tools: a series written as each of them writes it is the same series as a trace."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from effort import examples
from hotbank.cli import run
from hotbank.errors import FormatError
from hotbank.load import imports, trace
from hotbank.load.imports import FORMS, Known, read
from hotbank.load.stamps import seconds

BEGAN = 1_700_000_000
LINES = {
    "MemTotal": "physmem",
    "MemFree": "free",
    "AnonPages": "anonpages",
    "Cached": "cached",
    "Buffers": "bufmem",
    "SUnreclaim": "slabUnreclaimable",
    "KernelStack": "kernelStack",
    "PageTables": "pageTables",
    "Dirty": "dirty",
}
Rows = list[dict[str, int]]


@st.composite
def series(draw: st.DrawFn) -> Rows:
    """A machine of 8 GiB by meminfo's names, in KiB."""
    rows = []
    for _ in range(draw(st.integers(2, 6))):
        row = {name: draw(st.integers(20_000, 600_000)) for name in LINES}
        rows.append(row | {"MemTotal": 8 << 20, "MemFree": (8 << 20) - sum(row.values()) - 500_000})
    return rows


def at(number: int) -> str:
    return datetime.fromtimestamp(BEGAN + number * 30, UTC).strftime("%Y-%m-%d %H:%M:%S")


def as_sar(rows: Rows, *, old: bool = False) -> str:
    names = {"memfree": "MemFree", "buffers": "Buffers", "cached": "Cached", "dirty": "Dirty", "anonpg": "AnonPages"}
    names |= {"slab": "SUnreclaim", "kstack": "KernelStack", "pgtbl": "PageTables"}
    statistics = []
    for number, row in enumerate(rows):
        caches = 0 if old else row["Buffers"] + row["Cached"] + row["SUnreclaim"]
        used = row["MemTotal"] - row["MemFree"] - caches
        share = round(used * 100 / row["MemTotal"], 2)
        memory = {name: row[line] for name, line in names.items()}
        told = memory | {"memused": used, "memused-percent": share, "commit": 5}
        date, _, time = at(number).partition(" ")
        statistics.append({"timestamp": {"date": date, "time": time, "utc": 1, "interval": 30}, "memory": told})
    return json.dumps({"sysstat": {"hosts": [{"nodename": "db", "statistics": statistics, "restarts": []}]}})


def as_pmrep(rows: Rows) -> str:
    names = [LINES[line] for line in rows[0]]
    header = ",".join(["Time", *(f'"mem.{"" if n == "physmem" else "util."}{n}"' for n in names), '"mem.util.mapped"'])
    return "\n".join([header, *(",".join([at(n), *map(str, row.values()), "7"]) for n, row in enumerate(rows))]) + "\n"


def as_prometheus(rows: Rows) -> str:
    result = [
        {
            "metric": {"__name__": f"node_memory_{line}_bytes", "instance": "db:9100"},
            "values": [[BEGAN + n * 30, str(row.get(line, 1) * 1024)] for n, row in enumerate(rows)],
        }
        for line in (*LINES, "Mapped")
    ]
    return json.dumps({"status": "success", "data": {"resultType": "matrix", "result": result}})


def as_meminfo(rows: Rows) -> str:
    return "".join(
        f"{BEGAN + n * 30}\n"
        + "".join(f"{name}: {kib:>12} kB\n" for name, kib in row.items())
        + "HugePages_Total: 3\n\n"
        for n, row in enumerate(rows)
    )


def as_vmstat(rows: Rows) -> str:
    head = "--procs-- ------------memory------------\n   r    b   swpd   free   buff   cache   si   so\n"
    return "".join(
        (head if n % 2 == 0 else "")
        + f"   1    0            9 {row['MemFree']:>12} {row['Buffers']} {row['Cached']}    0    0\n"
        for n, row in enumerate(rows)
    )


WRITERS: Mapping[str, Callable[[Rows], str]] = {
    "sar": as_sar,
    "pmrep": as_pmrep,
    "prometheus": as_prometheus,
    "meminfo": as_meminfo,
}


@examples(40)
@given(series(), st.sampled_from(sorted(WRITERS)), st.booleans())
def test_every_tool_tells_the_same_series(rows: Rows, form: str, old: bool) -> None:
    found = read(form, as_sar(rows, old=old) if form == "sar" else WRITERS[form](rows))
    wanted = [{LINES[line]: kib for line, kib in row.items()} | {"t_s": BEGAN + n * 30} for n, row in enumerate(rows)]
    assert [*found.rows] == wanted
    assert found.dropped == {"sar": ("commit",), "pmrep": ("mapped",), "prometheus": ("Mapped",)}.get(
        form, ("HugePages_Total",)
    )
    played = trace.loads(found.text())
    assert [s.anon for s in played.samples] == [row["AnonPages"] << 10 for row in rows]
    assert played.total == 8 << 30


@examples(20)
@given(series())
def test_what_vmstat_does_not_name_does_not_move(rows: Rows) -> None:
    found = read("vmstat", as_vmstat(rows), Known(every=30.0, total=8 << 20))
    assert any("anonymous memory is not told" in remark for remark in found.remarks)
    played = trace.loads(found.text())
    named = [row["MemTotal"] - row["MemFree"] - row["Buffers"] - row["Cached"] for row in rows]
    assert [s.unnamed for s in played.samples] == [kib << 10 for kib in named]
    assert [s.seconds for s in played.samples] == [30.0 * n for n in range(len(rows))]


@pytest.mark.parametrize(
    ("form", "text", "said"),
    [
        ("vmstat", as_vmstat([dict.fromkeys(LINES, 5)] * 3), "--every"),
        ("meminfo", "MemTotal: 5 kB\nMemFree: 1 kB\nCached: 1 kB\n" * 3, "--every"),
        ("sar", '{"sysstat": {"hosts": []}}', "one machine"),
        ("sar", "{", "no JSON"),
        ("prometheus", '{"data": 3}', "not laid out"),
        ("pmrep", "Time\n", "fewer than 2"),
        ("meminfo", "", "fewer than 2"),
        ("meminfo", 2 * "5\nMemTotal: 9 kB\nMemFree: 3 kB\nCached: 1 kB\n", "at moments of their own"),
    ],
)
def test_what_is_wanting_is_said(form: str, text: str, said: str) -> None:
    with pytest.raises(FormatError) as caught:
        read(form, text, Known(total=9))
    assert said in str(caught.value)


DATES: Mapping[str, str] = {
    "date": "%a %b %e %H:%M:%S UTC %Y",
    "date in en_US": "%a %b %e %I:%M:%S %p CET %Y",
    "date without a zone": "%a %b %e %H:%M:%S %Y",
    "date -R": "%a, %d %b %Y %H:%M:%S +0000",
    "date -Is": "%Y-%m-%dT%H:%M:%S+00:00",
    "date -Ins": "%Y-%m-%dT%H:%M:%S,123456789+00:00",
    "date --rfc-3339=s": "%Y-%m-%d %H:%M:%S+00:00",
    "date +%s": "%s",
    "date +%s.%N": "%s.123456789",
    "/proc/uptime": "%s.25 4567890.12",
}


@pytest.mark.parametrize("where", ["{0}{1}", "{1}{0}"])
def test_names_that_come_twice_begin_no_dump_unless_a_trace_takes_them(where: str) -> None:
    """Beside each dump of /proc/meminfo, the status of two processes."""
    others, dump = "VmRSS: 1 kB\n" * 2, "MemTotal: 9 kB\nMemFree: 5 kB\nCached: 2 kB\n"
    found = read("meminfo", where.format(others, dump) * 4, Known(every=10))
    assert ([row["t_s"] for row in found.rows], found.lost) == ([0, 10, 20, 30], 0)


@examples(40)
@given(series(), st.sampled_from(sorted(DATES)), st.booleans(), st.booleans())
def test_dumps_are_dated_as_shells_date_them(rows: Rows, form: str, dos: bool, some: bool) -> None:
    """Every 30 seconds; some lines alone (grep), line ends of another system."""
    dumps = as_meminfo(rows).split("\n\n")[: len(rows)]
    own = [line for line in dumps[0].splitlines()[1:] if not some or line.startswith(("Mem", "Cached", "Anon"))]
    text = ""
    for number, dump in enumerate(dumps):
        when = datetime.fromtimestamp(BEGAN + number * 30, UTC)
        kept = [line for line in dump.splitlines() if line.partition(":")[0] in {o.partition(":")[0] for o in own}]
        text += "\n".join([when.strftime(DATES[form]), *(kept[::-1] if some else kept), ""])
    found = read("meminfo", text.replace("\n", "\r\n") if dos else text)
    assert [row["t_s"] - found.rows[0]["t_s"] for row in found.rows] == [30.0 * n for n in range(len(rows))]
    assert [row["anonpages"] for row in found.rows] == [row["AnonPages"] for row in rows]


@examples(20)
@given(series(), st.sampled_from([";", "|", "\t", ":", ","]), st.booleans())
def test_columns_of_pmrep_may_stand_apart_by_anything(rows: Rows, delimiter: str, quoted: bool) -> None:
    header, *lines = as_pmrep(rows).splitlines()
    text = "\n".join(
        [
            f'"Time"{header[4:]}' if quoted else header,
            *(f'"{at}",{rest}' for at, _, rest in (line.partition(",") for line in lines)),
        ]
    )
    assert read("pmrep", text.replace(",", delimiter)).rows == read("pmrep", as_pmrep(rows)).rows


@examples(20)
@given(series(), st.booleans(), st.booleans(), st.booleans())
def test_series_of_prometheus_in_all_its_spellings(rows: Rows, alone: bool, old: bool, exponent: bool) -> None:
    """By promtool, of an old node_exporter, with exponents, beside what is no number."""
    document = json.loads(as_prometheus(rows))
    for one in document["data"]["result"]:
        one["metric"]["job"] = "node"
        one["metric"]["__name__"] = (
            one["metric"]["__name__"].removesuffix("_bytes") if old else one["metric"]["__name__"]
        )
        one["values"] = [[at, f"{int(value):.12e}" if exponent else value] for at, value in one["values"]]
    document["data"]["result"].append(
        {
            "metric": {"__name__": "node_memory_Shmem_bytes", "instance": "db:9100"},
            "values": [[BEGAN, "NaN"], [BEGAN + 30, "+Inf"]],
        }
    )
    text = json.dumps(document["data"]["result"] if alone else document)
    assert read("prometheus", text).rows == read("prometheus", as_prometheus(rows)).rows


@examples(20)
@given(series(), st.booleans())
def test_sar_counts_seconds_and_skips_what_is_not_memory(rows: Rows, restart: bool) -> None:
    """``sadf -U`` has the time as a number without a date; a sample of another kind has no memory."""
    document = json.loads(as_sar(rows))
    (host,) = document["sysstat"]["hosts"]
    for number, sample in enumerate(host["statistics"]):
        sample["timestamp"] = {"time": str(BEGAN + number * 30), "utc": 1, "interval": 30}
    if restart:
        host["statistics"].insert(1, {"timestamp": {"time": str(BEGAN + 15)}, "cpu-load": []})
    found = read("sar", json.dumps(document))
    assert (found.rows, found.lost) == (read("sar", as_sar(rows)).rows, int(restart))


@examples(20)
@given(series(), st.sampled_from(["UTC", "CET", "-03"]), st.booleans())
def test_times_of_vmstat(rows: Rows, zone: str, new: bool) -> None:
    """``vmstat -w -t``; procps 4 has one more column of the processor's time."""
    head, *lines = as_vmstat(rows).splitlines()[1:]
    cpu = ["us", "sy", "id", "wa", "st", *(["gu"] if new else [])]
    out = [f"{head} {' '.join(cpu)} {zone}"]
    for number, line in enumerate(line for line in lines if line.strip()[:1].isdigit()):
        out.append(f"{line} {' '.join('1' for _ in cpu)} {at(number)}")
    found = read("vmstat", "\n".join(out), Known(total=8 << 20))
    assert [(row["t_s"] - BEGAN, row["free"]) for row in found.rows] == [
        (30.0 * n, row["MemFree"]) for n, row in enumerate(rows)
    ]


def test_two_machines_are_no_series() -> None:
    document = json.loads(as_prometheus([dict.fromkeys(LINES, 5)] * 3))
    document["data"]["result"][0]["metric"]["instance"] = "web:9100"
    with pytest.raises(FormatError, match="2 machines"):
        read("prometheus", json.dumps(document))


@given(st.sampled_from(FORMS), st.text(max_size=200) | st.sampled_from(["[]", "{}", "null", "1", '{"sysstat": 1}']))
def test_any_text_is_a_series_or_an_error(form: str, text: str) -> None:
    with suppress(FormatError):
        assert len(imports.read(form, text).rows) > 1


def test_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [dict.fromkeys(LINES, 500) | {"MemTotal": 8 << 20}] * 3
    (tmp_path / "in").write_text(as_meminfo(rows))
    arguments = ["trace", "import", "--from", "meminfo", str(tmp_path / "in"), "-o", str(tmp_path / "out.csv")]
    assert run(arguments) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["dropped   HugePages_Total"]
    assert len(trace.load(tmp_path / "out.csv").samples) == 3


# What people post.

_SAR = """Linux 3.10.0-1160.el7.x86_64 (server.example.com) \t25/05/21 \t_x86_64_\t(1 CPU)

16:00:01    kbmemfree kbmemused  %memused kbbuffers  kbcached  kbcommit   %commit  kbactive   kbinact   kbdirty
16:10:01       212980    801800     79.01         0    293512   1247884    122.97    530056    109360         0
16:20:01       214984    799796     78.81         0    293556   1248208    123.00    528032    109352         4

16:00:01    kbswpfree kbswpused  %swpused  kbswpcad   %swpcad
16:10:01      2097148         0      0.00         0      0.00
Average:      2097148         0      0.00         0      0.00

16:20:03  LINUX RESTART

16:30:01    kbmemfree kbmemused  %memused kbbuffers  kbcached  kbcommit   %commit  kbactive   kbinact   kbdirty
00:10:01        86396    928384     91.49         0    293656   1367420    134.75    656212    109392         0
Average:       171453    843326     83.10         0    293574   1287837    126.91    571433    109368         1
"""
_SADF = """# hostname;interval;timestamp;kbmemfree;kbavail;kbmemused;%memused;kbbuffers;kbcached;kbcommit;%commit
db;600;2021-05-25 16:10:01 UTC;212980;500000;801800;79.01;0;293512;1247884;122.97
db;600;2021-05-25 16:20:01 UTC;214984;500000;799796;78.81;0;293556;1248208;123.00
db;-1;2021-05-25 16:20:03 UTC;LINUX-RESTART\t(1 CPU)
db;600;2021-05-26 00:10:01 UTC;86396;400000;928384;91.49;0;293656;1367420;134.75
"""
_GERMAN = _SAR.replace(".01 ", ",01 ").replace(".81", ",81").replace("Average:", "Durchschn.:")
_AMERICAN = (
    _SAR.replace("16:10:01 ", "04:10:01 PM ")
    .replace("16:20:01 ", "04:20:01 PM ")
    .replace("00:10:01 ", "12:10:01 AM ")
    .replace("16:00:01 ", "04:00:01 PM ")
    .replace("16:30:01 ", "04:30:01 PM ")
)


@pytest.mark.parametrize("text", [_SAR, _SADF, _GERMAN, _AMERICAN, _SAR.replace("\n", "\r\n")])
def test_sar_as_it_prints(text: str) -> None:
    found = read("sar", text)
    assert [(row["t_s"] - found.rows[0]["t_s"], row["free"]) for row in found.rows] == [
        (0, 212980),
        (600, 214984),
        (28800, 86396),
    ]
    assert {row["physmem"] for row in found.rows} == {1014780}  # kbmemused has the caches in it: 79.01 % of that
    assert "swpfree" not in found.dropped
    assert "commit" in found.dropped


@pytest.mark.parametrize(
    "form",
    [
        "%H時%M分%S秒",
        "%H时%M分%S秒",
        "%H시 %M분 %S초",
        "%H.%M.%S",
        "下午 %I:%M:%S",
        "%I:%M:%S μμ",
        "오후 %I시 %M분 %S초",
    ],
)
def test_sar_tells_the_time_as_its_language_does(form: str) -> None:
    """sysstat prints %X. Twelve hours: past one o'clock in the afternoon no day has begun."""
    moments = [datetime(2021, 5, 25, 12, 40, tzinfo=UTC) + timedelta(minutes=10 * n) for n in range(4)]
    head, row = _SAR.splitlines()[2:4]
    lines = [head.replace("16:00:01", f"{moments[0]:{form}}")]
    lines += [row.replace("16:10:01", f"{moment:{form}}") for moment in moments]
    found = read("sar", "\n".join(["Linux 6.1 (h) 28/11/26", "", *lines]))
    assert [row["t_s"] - found.rows[0]["t_s"] for row in found.rows] == [0, 600, 1200, 1800]


@pytest.mark.parametrize(("file", "later"), [("", 600), ("\nLinux 6.1 (h) 31/10/26\n\n", 86400 - 3000)])
def test_summer_ends_while_sar_records(file: str, later: int) -> None:
    head, row = _SAR.splitlines()[2:4]
    times = [
        ("01:50:01", ""),
        ("02:00:01", ""),
        ("02:50:01", ""),
        ("02:00:01", file and f"{file}{head}\n"),
        ("02:50:01", ""),
    ]
    lines = [head, *(f"{before}{row.replace('16:10:01', time)}" for time, before in times)]
    found = read("sar", "Linux 6.1 (h) 30/10/26\n\n" + "\n".join(lines))
    told = [row["t_s"] - found.rows[0]["t_s"] for row in found.rows]
    assert told == [0, 600, 3600, 3600 + later, 6600 + later]


def test_a_series_comes_through_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sar").write_text(_SAR)
    with (tmp_path / "sar").open(encoding="utf-8") as piped:
        monkeypatch.setattr("sys.stdin", piped)
        assert run(["trace", "import", "--from", "sar", "-", "-o", str(tmp_path / "a.csv")]) == 0
    assert run(["trace", "import", "--from", "sar", str(tmp_path / "sar"), "-o", str(tmp_path / "b.csv")]) == 0
    assert (tmp_path / "a.csv").read_text() == (tmp_path / "b.csv").read_text()


def test_two_machines_of_sadf_are_no_series() -> None:
    with pytest.raises(FormatError, match="one machine"):
        read("sar", _SADF.replace("db;600;2021-05-26", "web;600;2021-05-26"))


_FREE = """               total        used        free      shared  buff/cache   available
Mem:        16303428     4410420     8203872      345872     3689136    11231232
Swap:        2097148           0     2097148

"""
_FREES = {
    "": (_FREE, 16303428, 8203872, 3689136),
    "-w": (
        "               total        used        free      shared     buffers       cache   available\n"
        "Mem:        16303428     4410420     8203872      345872       10000     3679136    11231232\n\n",
        16303428,
        8203872,
        3679136,
    ),
    "-h": (
        "              total        used        free      shared  buff/cache   available\n"
        "Mem:           16Gi       4,2Gi       7.5Gi       338Mi       3.5Gi        10Gi\nSwap: 2.0Gi 0B 2.0Gi\n\n",
        16 << 20,
        7.5 * (1 << 20),
        3.5 * (1 << 20),
    ),
    "-m": (
        "              total        used        free      shared  buff/cache   available\n"
        "Mem:          15921        4307        8011         337        3602       10967\n\n",
        15921 << 10,
        8011 << 10,
        3602 << 10,
    ),
    "-b": (
        "               total        used        free      shared  buff/cache   available\n"
        "Mem:     16694710272  4516270080  8400764928   354172928  3777675264 11500781568\n\n",
        16303428,
        8203872,
        3689136,
    ),
    "-w in French": (
        "              total       utilisé      libre     partagé    tampons       cache   disponible\n"
        "Mem:       16303428     4410420     8203872      345872       10000     3679136    11231232\n\n",
        16303428,
        8203872,
        3679136,
    ),
    "in German": (
        "              gesamt     benutzt        frei     gemns. Puffer/Cache verfügbar\n"
        "Speicher:   16303428     4410420     8203872      345872     3689136    11231232\nAuslager: 5 0 5\n\n",
        16303428,
        8203872,
        3689136,
    ),
    "of procps 3.2": (
        "             total       used       free     shared    buffers     cached\n"
        "Mem:      16303428    8099556    8203872          0     310000    3379136\n"
        "-/+ buffers/cache:    4410420   11893008\nSwap:      2097148          0    2097148\n\n",
        16303428,
        8203872,
        3379136,
    ),
}


@pytest.mark.parametrize("how", _FREES)
@pytest.mark.parametrize("dated", [False, True])
def test_free_again_and_again(how: str, dated: bool) -> None:
    text, total, free, cached = _FREES[how]
    dates = [datetime.fromtimestamp(BEGAN + 30 * n, UTC).strftime("%a %d %b %H:%M:%S UTC %Y\n") for n in range(3)]
    found = read("free", "".join((dates[n] if dated else "") + text for n in range(3)), Known(30, 16 << 20))
    assert [row["t_s"] - found.rows[0]["t_s"] for row in found.rows] == [0, 30, 60]
    assert [(row["physmem"], row["free"], row["cached"]) for row in found.rows] == [(total, free, cached)] * 3
    played = trace.loads(found.text())
    assert played.samples[0].unnamed > 0


def test_what_free_counts_in_must_be_known() -> None:
    with pytest.raises(FormatError, match="give --memory"):
        read("free", _FREES["-m"][0] * 2, Known(every=5))
    mega = "total used free shared buff/cache available\nMem: 25276 5145 13740 2995 10278 20131\n"
    assert read("free", mega * 2, Known(5, 24684084)).rows[0]["free"] == 13740_000_000 / 1024
    assert read("free", _FREES["-b"][0] * 2, Known(every=5)).rows[0]["physmem"] == 16303428
    assert read(
        "free", "total used free shared buff/cache available\nMem: 8388608 0 4194304 0 4194304 0\n" * 2, Known(5)
    )


STAMPS: Mapping[str, str] = {
    "OSWatcher": "zzz ***%a %b %e %H:%M:%S CET %Y",
    "ExaWatcher": "zzz <%m/%d/%Y %H:%M:%S>",
    "a line of signs": "=== %Y-%m-%d %H:%M:%S ===",
    "a word": "Time: %s",
    "another": "Date: %a %b %e %H:%M:%S UTC %Y",
    "milliseconds": "%s000",
    "a log": "%b %e %H:%M:%S",
    "brackets": "[%Y-%m-%dT%H:%M:%S+00:00]",
    "a slash": "%Y/%m/%d %H:%M:%S",
}
LOCAL = {
    "de": "Fr 5. Mär 10:00:00 CET 2027",
    "fr": "ven. 5 mars 2027 10:00:00",
    "es": "vie 05 mar 2027 10:00:00 CET",
    "zh": "2027年 03月 05日 星期五 10:00:00 CST",
    "ja": "2027年  3月  5日 金曜日 10:00:00 JST",
    "ko": "2027년 03월 05일 (금) 오전 10:00:00 KST",
}


@pytest.mark.parametrize("form", STAMPS)
def test_dumps_are_dated_as_collectors_date_them(form: str) -> None:
    dump = "MemTotal: 9000 kB\nMemFree: 5000 kB\nCached: 2000 kB\nAnonPages: 1000 kB\n"
    moments = [datetime.fromtimestamp(BEGAN + n * 30, UTC).strftime(STAMPS[form]) for n in range(4)]
    found = read("meminfo", "".join(f"{moment}\n{dump}" for moment in moments))
    assert [row["t_s"] - found.rows[0]["t_s"] for row in found.rows] == [0, 30, 60, 90]


@pytest.mark.parametrize("language", LOCAL)
def test_months_are_told_in_other_languages(language: str) -> None:
    assert seconds(LOCAL[language]) == datetime(2027, 3, 5, 10, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    "text", ["", "MemFree", "10:00:00", "Nov 28", "99 Foo 10:00:00 2026", "1 2 3", "NaN", "Feb 31 10:00:00"]
)
def test_what_is_no_moment(text: str) -> None:
    assert seconds(text) is None


@pytest.mark.parametrize("stamp", ["%Y-%m-%d %H:%M:%S ", "%b %d %H:%M:%S ", "%s "])
@pytest.mark.parametrize("german", [False, True])
def test_lines_of_vmstat_behind_a_time(stamp: str, german: bool) -> None:
    """``vmstat 30 | ts``."""
    names = "r b Swpd frei Puff. Cache si so bi bo" if german else "r b swpd free buff cache si so bi bo"
    lines = ["procs ---memory--- ---swap--", names, *(f"1 0 0 {5000 + n} 100 2000 0 0 1 1" for n in range(3))]
    dated = [
        datetime.fromtimestamp(BEGAN + max(0, n - 2) * 30, UTC).strftime(stamp) + line for n, line in enumerate(lines)
    ]
    found = read("vmstat", "\n".join(dated), Known(total=9000))
    assert [(row["t_s"] - found.rows[0]["t_s"], row["free"]) for row in found.rows] == [
        (0, 5000),
        (30, 5001),
        (60, 5002),
    ]


def test_vmstat_may_count_in_mib() -> None:
    lines = ["r b swpd free buff cache si so bi bo", *("1 0 0 12550 154 9649 0 0 1 1" for _ in range(3))]
    found = read("vmstat", "\n".join(lines), Known(5, 24684084))
    assert (found.rows[0]["free"], found.rows[0]["cached"]) == (12550 << 10, 9649 << 10)
    assert any("MiB" in remark for remark in found.remarks)
    assert read("vmstat", "\n".join(lines), Known(5, 24684)).rows[0]["free"] == 12550


def test_more_of_what_pmrep_writes() -> None:
    """``-k``, and a line of units below the header."""
    rows = [dict.fromkeys(LINES, 500) | {"MemTotal": 8 << 20, "MemFree": 1024 * n} for n in range(1, 4)]
    header, *lines = as_pmrep(rows).splitlines()
    extended = [f"Host,Interval,{header}", *(f"db,30,{line.replace(',', ' UTC+0,', 1)}" for line in lines)]
    assert read("pmrep", "\n".join(extended)).rows == read("pmrep", as_pmrep(rows)).rows
    units = "," + ",".join(["Kbyte"] * (len(header.split(",")) - 1))
    assert read("pmrep", "\n".join([header, units, *lines])) == read("pmrep", as_pmrep(rows))
    scaled = read("pmrep", "\n".join([header, units.replace("Kbyte", "MiB"), *lines]))
    assert [row["free"] for row in scaled.rows] == [1024 * 1024 * n for n in range(1, 4)]


def test_a_job_that_was_renamed_is_one_series_and_two_machines_are_none() -> None:
    rows = [dict.fromkeys(LINES, 500) | {"MemTotal": 8 << 20} for _ in range(4)]
    document = json.loads(as_prometheus(rows))
    halves = []
    for one in document["data"]["result"]:
        for job, part in (("old", one["values"][:2]), ("new", one["values"][2:])):
            halves.append({"metric": one["metric"] | {"job": job}, "values": part})
    document["data"]["result"] = halves
    assert read("prometheus", json.dumps(document)).rows == read("prometheus", as_prometheus(rows)).rows
    halves.append({"metric": halves[0]["metric"] | {"node": "b"}, "values": [[BEGAN, "77"]]})
    with pytest.raises(FormatError, match="ask for one machine"):
        read("prometheus", json.dumps(document))
