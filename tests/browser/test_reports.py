# SPDX-License-Identifier: Apache-2.0
"""Pages that stand by themselves, opened from a file: nothing fetched, nothing run but their own program, and what they
show is what the document says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from browser.browsing import complaints, keep, picture, resize, turn
from compare.model_guest import with_model_guests
from hotbank.cli import run
from hotbank.web import page

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
pytestmark = [pytest.mark.long, pytest.mark.referee]


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve minutes of the camera, through the command."""
    file = tmp_path_factory.mktemp("page") / "camera.html"
    assert run(["simulate", "arm-2009", "--workload", "camera", "--seconds", "720", "--html", str(file)]) == 0
    return file


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Forty operations on a model in place of a guest, through the command: the document of its page."""
    file = tmp_path_factory.mktemp("page") / "twins.html"
    with pytest.MonkeyPatch.context() as patch:
        with_model_guests(patch)
        assert run(["compare", "virt-arm64", "--ops", "40", "--seed", "4", "--html", str(file)]) == 0
    return document_in(file)


def document_in(file: Path) -> dict[str, Any]:
    inside = file.read_text("utf-8").partition('id="document">')[2].partition("</script>")[0]
    found: dict[str, Any] = json.loads(inside)
    return found


def fetched(browser: Chrome) -> list[str]:
    names: list[str] = browser.execute_script("return performance.getEntriesByType('resource').map((e) => e.name)")
    return names


def test_a_simulation_shows_what_its_document_says(simulated: Path, browser: Chrome) -> None:
    resize(browser, 1080, 1000)
    browser.get(simulated.as_uri())
    assert complaints(browser) == []
    assert fetched(browser) == []
    policy = document_in(simulated)["policy"]
    words = browser.find_element(By.TAG_NAME, "main").text
    assert f"{policy['share_of_optimum'] * 100:.1f} %" in words
    assert f"{policy['banks'][0]['pages']:,}" in words
    assert dark_seconds(browser, 720) == pytest.approx(policy["banks"][0]["seconds_off"], abs=720 * 0.01)


def dark_seconds(browser: Chrome, seconds: float) -> float:
    """Of the first bank, by the pixels of its bar."""
    share: float = browser.execute_script("""
        const canvas = document.querySelector(".bars canvas"), brush = canvas.getContext("2d");
        const hue = getComputedStyle(document.documentElement).getPropertyValue("--dark").trim();
        const wanted = [1, 3, 5].map((at) => parseInt(hue.slice(at, at + 2), 16));
        const row = brush.getImageData(64, 6, canvas.width - 64 - 26, 1).data;
        let dark = 0;
        const near = (at) => wanted.every((value, i) => Math.abs(row[at + i] - value) < 9);
        for (let at = 0; at < row.length; at += 4) dark += near(at);
        return dark / (row.length / 4);
    """)
    return share * seconds


def test_pictures_of_a_simulation(simulated: Path, browser: Chrome, tmp_path: Path) -> None:
    resize(browser, 1080, 760)
    for scheme in ("light", "dark"):
        turn(browser, scheme)
        browser.get(simulated.as_uri())
        shown = picture(browser)
        keep(shown, tmp_path / f"simulate-{scheme}.png")
        assert (tmp_path / f"simulate-{scheme}.png").stat().st_size < 80_000
        assert (sum(shown.getpixel((4, 4))) > 384) is (scheme == "light")  # type: ignore[arg-type]


def test_a_comparison_shows_each_difference(compared: dict[str, Any], browser: Chrome, tmp_path: Path) -> None:
    found = {
        **compared,
        "differences": [{"step": 3, "operation": "state memory13 offline", "differences": ["EBUSY, not done"]}],
    }
    for document, said in ((compared, "They agree in every one."), (found, "EBUSY, not done")):
        file = tmp_path / "compared.html"
        page.write(str(file), page.comparison(document))
        browser.get(file.as_uri())
        assert said in browser.find_element(By.TAG_NAME, "main").text
    assert complaints(browser) == []
    assert fetched(browser) == []


def test_a_name_stays_a_name(compared: dict[str, Any], browser: Chrome, tmp_path: Path) -> None:
    """Boards and machines are named by others."""
    name = '</title></script><script>document.title = "taken"</script><img src=x onerror=\'document.title = "taken"\'>'
    file = tmp_path / "named.html"
    page.write(str(file), page.comparison({**compared, "machine": name}))
    browser.get(file.as_uri())
    assert browser.title == f"{name}: hotbank compare"
    assert browser.find_element(By.TAG_NAME, "h1").text == name
    assert complaints(browser) == []


def test_a_program_that_is_not_the_page_s_own_does_not_run(
    compared: dict[str, Any], browser: Chrome, tmp_path: Path
) -> None:
    file, made = tmp_path / "breached.html", page.comparison(compared)
    planted = '<script>document.title = "taken"</script></html>'
    file.write_text(made.replace("</html>", planted), encoding="utf-8")
    browser.get(file.as_uri())
    assert browser.title != "taken"
    assert any("Content Security Policy" in line for line in complaints(browser))
