# SPDX-License-Identifier: Apache-2.0
"""Metrics against ``list --json`` and ``energy --json``, against promtool, and against what asks for them."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client import generate_latest, start_http_server
from prometheus_client.parser import text_string_to_metric_families

from export.owners import served_model
from hotbank import board, cli, memspec
from hotbank.cli.metrics import metrics
from hotbank.errors import BoardError
from hotbank.export.metrics import Scrape, Seen
from hotbank.govern.guard import State
from hotbank.govern.status import Governed, Orders, Status
from hotbank.machine import Meter, Migrated, Pressure, Quantity
from hotbank.model import Model
from hotbank.operate import Entry, MemoryJournal
from hotbank.report.ledger import of_journal
from hotbank.serve.client import RemoteOwner
from hotbank.serve.owner import Owner
from hotbank.serve.state import listen
from hotbank.session import Session, connect
from hotbank.testing import Faulty
from patience import HANG, ended, until

PACKAGING = Path(__file__).parents[2] / "packaging"
RULES = PACKAGING / "prometheus/hotbank.rules.yml"
ALERTS = re.findall(r"alert: (\w+)", RULES.read_text())
Series = dict[tuple[str, frozenset[tuple[str, str]]], float]


def read(text: str) -> Series:
    """By Prometheus's own parser: each series once."""
    found: Series = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, key
            found[key] = sample.value
    return found


def one(series: Series, name: str, **labels: str) -> float:
    return series[f"hotbank_{name}", frozenset(labels.items())]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``unix:PATH`` of a served model whose bank was out and in, and is out."""
    with served_model(tmp_path_factory.mktemp("owner")) as where:
        for verb in ("remove", "add", "remove"):
            assert cli.run(["-m", where, verb, "high"]) == 0
        assert cli.run(["-m", where, "remove", "low"]) == 1
        yield where


@pytest.fixture
def document(served: str, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Any]:
    def document(command: str) -> Any:
        assert cli.run(["-m", served, command, "--json"]) == 0
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return document


def scraped(served: str, folder: Path) -> Series:
    file = folder / "hotbank.prom"
    assert cli.run(["-m", served, "metrics", "--textfile", str(file)]) == 0
    assert [path.name for path in folder.iterdir()] == [file.name]  # what it was written under is gone
    return read(file.read_text())


def test_a_machine_of_unknown_dram_is_up(served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def named(name: str | None) -> tuple[memspec.Part, ...]:
        raise BoardError("memspec", name, "no such file")

    monkeypatch.setattr(memspec, "named", named)
    series = scraped(served, tmp_path)
    assert (one(series, "machine_up"), one(series, "transactions_open")) == (1, 0)
    assert not any("joules" in name for name, _ in series)


def differences(series: Series, listed: Any, before: Any, after: Any, history: Any) -> list[str]:
    """Series that are not what the commands say; of what grows with time, not between what they said around it."""
    wrong = []
    for bank in listed["banks"]:
        name = bank["bank"]
        wrong += [f"{name} size"] * (one(series, "bank_size_bytes", bank=name) != bank["size"])
        wrong += [f"{name} used"] * (one(series, "bank_used_bytes", bank=name) != bank["used"] * 4096)
        for family, holds in (("bank_kernel_state", bank["kernel"]), ("bank_power_state", bank["power"])):
            states = {
                dict(key[1])["state"]: v
                for key, v in series.items()
                if key[0] == f"hotbank_{family}" and ("bank", name) in key[1]
            }
            wrong += [f"{name} {family}"] * any(value != (state == holds) for state, value in states.items())
    blocks = [block["state"] for block in listed["blocks"]]
    wrong += [f"blocks {s}" for s in set(blocks) if one(series, "blocks", state=s) != blocks.count(s)]
    for was, now in zip(before["banks"], after["banks"], strict=True):
        name = was["bank"]
        for bound in ("low", "typical", "high"):
            value = one(series, "bank_saved_joules_total", bank=name, bound=bound)
            between = was["saved_j"][bound] - 1e-6 <= value <= now["saved_j"][bound] + 1e-6
            wrong += [f"{name} saved {bound} {value}"] * (not between)
            for item in ("pages", "wake", "cpu"):
                value = one(series, "bank_cost_joules_total", bank=name, bound=bound, item=item)
                wrong += [f"{name} cost of {item}"] * (abs(value - was["cost_j"][item][bound]) > 1e-6)
        for state, seconds in was["seconds"].items():
            value = one(series, "bank_power_seconds_total", bank=name, state=state)
            wrong += [f"{name} {state} {value}"] * (not seconds - 1e-6 <= value <= now["seconds"][state] + 1e-6)
        wrong += ["even"] * (abs(one(series, "bank_break_even_seconds", bank=name) - was["break_even_s"]) > 1e-6)
    ends = [entry["code"] for entry in history["transactions"]]
    told = sum(v for (name, _), v in series.items() if name == "hotbank_transactions_total")
    return wrong + ["transactions"] * (told != len(ends))


def test_each_value_is_what_list_and_energy_say(served: str, document: Callable[[str], Any], tmp_path: Path) -> None:
    before = document("energy")
    series = scraped(served, tmp_path)
    after, listed, history = document("energy"), document("list"), document("history")
    assert differences(series, listed, before, after, history) == []
    assert one(series, "transactions_total", verb="remove", cause="person", code="OK") == 2
    for (name, labels), value in series.items():  # planted
        if value and name.startswith(("hotbank_bank_", "hotbank_blocks")):
            planted = {**series, (name, labels): value * 1.5 + 1}
            assert differences(planted, listed, before, after, history), name


def test_no_page_is_walked(tmp_path: Path) -> None:
    machine = Faulty(Model.boot(board.load("arm-2009"), backend="reference", seed=1))

    class Context:
        machine_name = None

        def connect(self, *, changing: bool) -> Session:
            assert not changing
            return connect(machine)

    done = CliRunner().invoke(metrics, ["--textfile", str(tmp_path / "x.prom")], obj=Context())
    assert done.exit_code == 0, done.output
    assert set(machine.calls) == {"snapshot", "reading"}


def fully() -> Seen:
    """A machine that can tell everything."""
    model = Model.boot(board.load("arm-2009"), backend="reference", seed=1)
    snapshot, journal = model.snapshot(), MemoryJournal()
    from hotbank import operate

    operate.remove(model, "high", journal=journal)
    meters = tuple(Meter(quantity.name, quantity, 2.5) for quantity in Quantity)
    reading = replace(
        model.reading(), pressure=Pressure(1, 2, 3_000_000, 4), refaults=5, migrated=Migrated(6, 7), meters=meters
    )
    status = Status(1.0, "p", "w", 1, 2.0, False, 3, 4, 5, "why", (), (), "", State(), None)
    ledger = of_journal(snapshot, journal.entries(), journal.entries()[-1].began + 60, memspec.named)
    return Seen(snapshot, reading, journal.entries(), ledger, Governed(status, Orders("asked"), alive=True))


def told(seen: Seen) -> str:
    return generate_latest(Scrape(lambda: seen, lambda _: None).registry).decode()


def promtool(*words: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *words], input=text, capture_output=True, text=True, check=False)


@pytest.mark.referee
def test_promtool_has_no_complaint() -> None:
    done = promtool("check", "metrics", text=told(fully()))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    planted = told(fully()).replace("hotbank_transactions_total", "hotbank_transactions")
    assert promtool("check", "metrics", text=planted).returncode != 0


def test_what_a_machine_can_tell_is_told() -> None:
    series = read(told(fully()))
    assert one(series, "pressure_stalled_seconds_total", share="some") == 3
    assert one(series, "migrated_pages_total", result="fail") == 7
    assert one(series, "meter_energy_joules_total", meter="ENERGY") == 2.5
    assert (one(series, "governor_up"), one(series, "governor_paused"), one(series, "governor_keep_bytes")) == (1, 1, 5)


def queries() -> Iterator[tuple[str, str]]:
    """Of the dashboard and of the alerts: where, and the expression."""
    dashboard = json.loads((PACKAGING / "grafana/hotbank.json").read_text())
    for panel in dashboard["panels"]:
        yield from ((panel["title"], target["expr"]) for target in panel["targets"])
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], re.sub(r"label_values\((\w+), (\w+)\)", r'\1{\2=""}', variable["query"])
    yield from re.findall(r"alert: (\w+)\n +expr: (.*?)\n +(?:for|labels):", RULES.read_text(), re.DOTALL)


def strangers(query: str, series: Series) -> set[str]:
    """Metrics and labels in a query that no scrape has."""
    labels = {name: {label for key, at in series if key == name for label, _ in at} for name, _ in series}
    asked = re.findall(r"(hotbank_\w+)(?:\{([^}]*)\})?", query)
    unknown = {name for name, _ in asked} - labels.keys()
    for name, matchers in asked:
        unknown |= set(re.findall(r'(\w+)(?:=~|!~|!=|=)"', matchers)) - labels.get(name, set()) - {"instance"}
    return unknown


def test_dashboard_and_alerts_ask_for_what_there_is() -> None:
    series = read(told(fully()))
    found = list(queries())
    assert len(found) > 20
    assert {where: unknown for where, query in found if (unknown := strangers(query, series))} == {}
    assert strangers('sum(hotbank_bank_size{instance="a",bnak="b"})', series) == {"hotbank_bank_size", "bnak"}


@pytest.mark.referee
def test_promtool_accepts_alerts_and_every_query(tmp_path: Path) -> None:
    assert promtool("check", "rules", str(RULES)).returncode == 0
    rules = [
        {"record": f"q{number}", "expr": query.replace("$__rate_interval", "5m").replace("$instance", ".*")}
        for number, (_, query) in enumerate(queries())
    ]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}))  # JSON is YAML
    assert (done := promtool("check", "rules", str(file))).returncode == 0, done.stderr
    file.write_text(json.dumps({"groups": [{"name": "queries", "rules": [{"record": "q", "expr": "sum(("}]}]}))
    assert promtool("check", "rules", str(file)).returncode != 0


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[Callable[[str], list[Any]]]:
    """A real one that scrapes the target every second; what it answers to an instant query."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    scraping = {"job_name": "hotbank", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scraping], "rule_files": [str(RULES)]}))
    words = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    words += [f"--web.listen-address={address}", "--log.level=error"]

    def query(text: str) -> list[Any]:
        asked = urllib.parse.urlencode({"query": text})
        try:
            with closing(urllib.request.urlopen(f"http://{address}/api/v1/query?{asked}", timeout=HANG)) as answer:
                return json.load(answer)["data"]["result"]  # type: ignore[no-any-return]
        except urllib.error.URLError:  # it is not up yet, or does not understand
            return []

    with subprocess.Popen(words) as process:
        try:
            yield query
        finally:
            process.terminate()


@pytest.mark.referee
def test_every_query_of_the_dashboard_has_an_answer(tmp_path: Path) -> None:
    """Of a real Prometheus that has scraped a machine that can tell everything."""
    seen = fully()
    server, thread = start_http_server(0, "127.0.0.1", Scrape(lambda: seen, lambda _: None).registry)
    with prometheus(tmp_path, f"127.0.0.1:{server.server_port}") as query:
        until(lambda: query("count_over_time(hotbank_machine_up[1m]) > 2"), "three scrapes", pause=0.5)
        answers = {
            f"{where}: {text}": query(text.replace("$__rate_interval", "1m").replace("$instance", ".*"))
            for where, text in queries()
            if where not in ALERTS and "instance=" in text
        }
        assert query("hotbank_bank_size") == []  # planted
    server.shutdown()
    server.server_close()
    ended(thread)
    assert len(answers) > 15
    assert [text for text, found in answers.items() if not found and not text.startswith("instance: ")] == []


@pytest.mark.referee
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """By promtool's own unit tests: of a machine that is down, a bank that is stuck, pressure with a bank out."""
    stuck = 'hotbank_bank_kernel_state{instance="a",bank="high",state="stuck"}'
    dark = 'hotbank_bank_kernel_state{instance="a",bank="high",state="absent"}'
    waits = 'hotbank_pressure_stalled_seconds_total{instance="a",share="full"}'
    cases = [
        (
            "HotbankMachineDown",
            [('hotbank_machine_up{instance="a"}', "0x20")],
            [('hotbank_machine_up{instance="a"}', "1x20")],
        ),
        ("HotbankBankStuck", [(stuck, "1x20")], [(stuck, "0x20")]),
        ("HotbankPressureInTheDark", [(waits, "0+6x20"), (dark, "1x20")], [(waits, "0+6x20"), (dark, "0x20")]),
    ]
    file, tests = tmp_path / "t.yml", []
    for alert, fires, rests in cases:
        for series, count in ((fires, 1), (rests, 0)):
            tests.append(_alert_test(alert, series, count))
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = promtool("test", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr


def _alert_test(alert: str, series: list[tuple[str, str]], count: int) -> dict[str, Any]:
    """How many there are, whatever they say."""
    expr = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'
    samples = [{"labels": "{}", "value": count}]
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series],
        "promql_expr_test": [{"expr": expr, "eval_time": "15m", "exp_samples": samples}],
    }


def test_scrapes_over_http_from_this_host_only(served: str) -> None:
    words = [sys.executable, "-m", "hotbank", "-m", served, "metrics", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        url = re.search(r"http://\S+/metrics", process.stdout.readline())
        assert url is not None
        with closing(urllib.request.urlopen(url[0], timeout=HANG)) as answer:
            assert one(read(answer.read().decode()), "machine_up") == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(HANG) == 0


@pytest.mark.parametrize(
    "address", ["0.0.0.0:9101", "9101", "127.0.0.1", "127.0.0.1:65536", "example.org:80", "[::]:1"]
)
def test_other_addresses_are_refused(address: str) -> None:
    assert cli.run(["-m", "model:arm-2009", "metrics", "--listen", address]) == 2


def test_a_file_that_is_written_again_and_again_reads_the_journal_once(
    served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, read_each_time, rows = tmp_path / "hotbank.prom", list[int](), list[object]()
    newest = RemoteOwner.newest

    def counted(owner: RemoteOwner) -> Iterator[Entry]:
        for row in newest(owner):
            rows.append(row)
            yield row

    monkeypatch.setattr(RemoteOwner, "newest", counted)

    def sleep(_: float) -> None:
        assert one(read(file.read_text()), "machine_up") == 1
        file.unlink()
        read_each_time.append(len(rows))
        rows.clear()
        if len(read_each_time) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("hotbank.cli.metrics.time.sleep", sleep)
    assert cli.run(["-m", served, "metrics", "--textfile", str(file), "--every", "9"]) == 0
    assert read_each_time[0] > 1
    assert read_each_time[1:] == [1, 1]


@pytest.mark.parametrize(
    "words", [(), ("--textfile", "x", "--listen", "127.0.0.1:0"), ("--listen", "127.0.0.1:0", "--every", "1")]
)
def test_one_way_is_named(words: tuple[str, ...]) -> None:
    assert cli.run(["-m", "model:arm-2009", "metrics", *words]) == 2


def test_an_owner_that_goes_and_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its file says that it is gone, with exit status 1, and what was there before is gone too."""
    file, path = tmp_path / "x.prom", tmp_path / "s"
    words = ["-m", f"unix:{path}", "metrics", "--textfile", str(file)]
    assert cli.run(words) == 1
    assert read(file.read_text()) == {("hotbank_machine_up", frozenset()): 0.0}
    assert "hotbank: NO_MACHINE: " in capsys.readouterr().err
    owner = Owner(Model.boot(board.load("arm-2009"), backend="reference", seed=1), journal=MemoryJournal())
    with listen(path) as listener:
        thread = threading.Thread(target=owner.serve, args=(listener,))
        thread.start()
        assert cli.run(words) == 0
        owner.stop()
        ended(thread)
    assert one(read(file.read_text()), "machine_up") == 1


def test_a_scrape_after_trouble_asks_anew(tmp_path: Path) -> None:
    """One registry, as ``--listen`` has it."""
    from hotbank.cli.metrics import _Asking
    from hotbank.errors import MachineError

    class Context:
        machine_name = "m"
        answers: Iterator[Any] = iter((True, False, True))

        def connect(self, *, changing: bool) -> Session:
            if next(self.answers):
                return connect(Model.boot(board.load("arm-2009"), backend="reference", seed=1))
            raise MachineError("gone")

    asking = _Asking(Context())  # type: ignore[arg-type]
    scrape = Scrape(asking, asking.failed)
    up = [one(read(generate_latest(scrape.registry).decode()), "machine_up") for _ in range(2)]
    assert up == [1, 1]  # one line
    asking._session = None
    up = [one(read(generate_latest(scrape.registry).decode()), "machine_up") for _ in range(3)]
    assert up == [0, 1, 1]


def test_without_the_extra_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "hotbank.export.metrics", None)
    assert cli.run(["-m", "model:arm-2009", "metrics", "--textfile", str(tmp_path / "x")]) == 1
    assert "pip install 'hotbank[metrics]'" in capsys.readouterr().err


def test_the_page_lists_what_there_is() -> None:
    page = (PACKAGING.parent / "docs/metrics.md").read_text(encoding="utf-8")
    table = "".join(line for line in page.splitlines() if line.startswith("| `hotbank_"))
    assert set(re.findall(r"`(hotbank_\w+)`", table)) == {name for name, _ in read(told(fully()))}


def test_a_name_that_is_no_text_is_a_label_all_the_same() -> None:
    seen = fully()
    hostile = replace(seen, snapshot=replace(seen.snapshot, machine='\ud800"\n\udc80'))
    series = read(told(hostile))
    assert one(series, "machine_info", machine='\\ud800"\n\\udc80', arch="arm") == 1
