# SPDX-License-Identifier: Apache-2.0
"""The live page in Chromium: what its canvas shows is what the machine is, now and at any moment of the record."""

from __future__ import annotations

import base64
import io
import json
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import patience
from browser.browsing import complaints, turn
from browser.site import Site
from hotbank.memory import BlockState, Kind, Power, Range
from hotbank.report.cells import Cell, Group
from hotbank.serve import ModelSpec
from hotbank.serve.daemon import boot
from hotbank.watch import Frame

pytestmark = [pytest.mark.long, pytest.mark.referee]
NAMES = (*(group.value for group in Group), "used", "dark")  # of hues that fill a block


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Of a machine in use, with something of each kind in it."""
    with Site(boot(ModelSpec("arm-2009", pages=45_000))) as site:
        yield site


@pytest.fixture
def page(site: Site, browser: Chrome) -> Chrome:
    """Open, and told of the machine."""
    browser.get(site.url)
    patience.until(lambda: state(browser) == "live")
    return browser


def state(page: Chrome) -> str:
    return page.find_element(By.ID, "state").text


def shown(page: Chrome) -> dict[str, Any]:
    """The frame that the page shows."""
    found: dict[str, Any] = page.execute_script("return document.getElementById('map').map.frame")
    return found


def canvas(page: Chrome) -> tuple[Image.Image, dict[int, dict[str, float]], dict[str, tuple[int, ...]]]:
    """Its pixels, the place of each block on it, and the hues of the page."""
    url, places, hues = page.execute_script(
        """
        const canvas = document.getElementById("map"), style = getComputedStyle(document.documentElement);
        const hue = (name) => style.getPropertyValue(`--${name}`).trim();
        const places = [...canvas.map.laid.places].map(([block, { strip, ...place }]) => [block, place]);
        return [canvas.toDataURL(), places, Object.fromEntries(arguments[0].map((name) => [name, hue(name)]))];
        """,
        [*NAMES, "sheet"],
    )
    pixels = Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")
    return pixels, dict(places), {name: tuple(bytes.fromhex(hue[1:])) for name, hue in hues.items()}


def looks_of(page: Chrome) -> dict[int, dict[str, int]]:
    """How many rows of pixels of each block have which hue: the most of its row, whatever pattern runs through it."""
    pixels, places, hues = canvas(page)
    known = {hues[name]: name for name in NAMES}
    return {block: dict(_rows(pixels, place, known)) for block, place in places.items()}


def _rows(pixels: Image.Image, place: dict[str, float], known: dict[tuple[int, ...], str]) -> Counter[str]:
    left, top, width, height = (int(place[key]) for key in ("x", "y", "width", "height"))
    found: Counter[str] = Counter()
    before = ""
    for y in range(top, top + height):
        row = pixels.crop((left, y, left + width, y + 1)).getcolors()
        names = Counter({known[color]: count for count, color in row or () if color in known})
        before = names.most_common(1)[0][0] if names else before  # a line of a pattern belongs to what it runs through
        found[before] += 1
    return found


def expected(frame: Frame, height: int = 64) -> dict[int, dict[str, int]]:
    """The same by report/cells.py."""
    return {cell.block: dict(_expected(frame, cell, height)) for cell in frame.map.cells}


def _expected(frame: Frame, cell: Cell, height: int) -> Counter[str]:
    if cell.dark:
        return Counter({"dark": height})
    if cell.state in (None, BlockState.OFFLINE):
        return Counter({"": height})  # no hue: a line through it, or a dashed rim
    if cell.groups:
        return Counter({group.value: part for group, part in cell.parts(height)})
    assert cell.used is not None
    pages = frame.map.block_size // frame.map.page_size
    kinds = {Kind.ANON: cell.used, Kind.FREE: pages - cell.used}
    like = Cell(cell.block, cell.range, cell.state, cell.zone, cell.power, kinds=kinds)
    return Counter({"used" if group is Group.ANON else group.value: part for group, part in like.parts(height)})


def settled(site: Site, page: Chrome) -> Frame:
    """The machine's frame, once the page shows what it says of memory."""
    found: list[Frame] = []

    def same() -> bool:
        frame = site.feed.frame
        assert frame is not None
        found[:] = [frame]
        return bool(shown(page)["cells"] == json.loads(json.dumps(frame.document()["cells"])))

    patience.until(same)
    return found[0]


def look_everywhere(site: Site) -> None:
    """At every block of the kernel."""
    frame = site.feed.frame
    assert frame is not None
    names = [f"memory{cell.block}" for cell in frame.map.cells if cell.state is not None]
    for name in names:
        site.feed.look(name)
    patience.until(lambda: all(name in now(site).looks and now(site).looks[name].over for name in names))
    patience.until(lambda: all(cell.groups for cell in now(site).map.cells if cell.state is not None))


def now(site: Site) -> Frame:
    assert site.feed.frame is not None
    return site.feed.frame


def state_of(site: Site, block: int) -> BlockState | None:
    cell = now(site).map.cell(block)
    return None if cell is None else cell.state


def ordered(page: Chrome, verb: str, name: str) -> None:
    """By its button and the one of the plan that it shows."""
    page.execute_script("document.getElementById('map').map.select(20)")
    patience.until(lambda: page.find_elements(By.CSS_SELECTOR, f"[data-verb={verb}][data-name={name}]"))
    page.execute_script(f"document.querySelector('[data-verb={verb}][data-name={name}]').click()")
    confirm = page.find_element(By.ID, "confirm")
    patience.until(confirm.is_displayed)
    assert confirm.text == f"{verb} {name}"
    confirm.click()
    patience.until(lambda: not page.find_element(By.ID, "dialog").is_displayed())


def test_it_loads_in_silence_and_keeps_its_token_to_itself(site: Site, page: Chrome) -> None:
    assert complaints(page) == []
    assert site.token not in page.current_url
    assert page.title == "model:arm-2009 · hotbank"
    page.refresh()
    patience.until(lambda: page.title == "model:arm-2009 · hotbank")  # this tab knows where it was
    assert site.token not in page.current_url


def test_the_canvas_shows_every_block_as_it_is(site: Site, page: Chrome) -> None:
    frame = settled(site, page)
    assert looks_of(page) == expected(frame)  # how much is in use, where nobody has looked
    look_everywhere(site)
    for scheme in ("light", "dark"):
        turn(page, scheme)
        frame = settled(site, page)
        assert all(cell.groups for cell in frame.map.cells)
        patience.until(lambda frame=frame: looks_of(page) == expected(frame), "the canvas as the machine is")  # type: ignore[misc]
    assert complaints(page) == []


def test_parts_of_a_block_are_those_of_the_map_s_own_rule(page: Chrome) -> None:
    chance = random.Random(5)

    def pages() -> int:
        return chance.choice([0, 1, 2, chance.randrange(50), chance.randrange(40_000)])

    cases = [Cell(0, Range.sized(0, 1 << 20), kinds={kind: pages() for kind in Kind}) for _ in range(300)]
    asked = [[{group.value: n for group, n in cell.groups.items()}, chance.randrange(1, 90)] for cell in cases]
    answers = page.execute_async_script(
        """
        const [asked, done] = arguments;
        const { parts } = await import(`${sessionStorage.getItem("hotbank")}static/map.js`);
        done(asked.map(([groups, whole]) => parts(groups, whole)));
        """,
        asked,
    )
    for cell, (_, whole), answer in zip(cases, asked, answers, strict=True):
        assert answer == [[group.value, part] for group, part in cell.parts(whole)]  # type: ignore[arg-type]


def test_a_removal_is_watched_to_its_end_and_back(site: Site, page: Chrome) -> None:
    ordered(page, "remove", "high")
    running = page.find_element(By.ID, "running")
    patience.until(lambda: "high is out of the kernel" in running.text)
    entry = site.session.history()[-1]
    steps = [item.text for item in running.find_elements(By.TAG_NAME, "li")]
    assert steps == [f"✓ {row.step} {row.target} done" for row in entry.rows]
    frame = settled(site, page)
    assert {cell.power for cell in frame.map.cells if cell.block >= 20} == {Power.OFF}
    assert looks_of(page) == expected(frame)
    patience.until(lambda: not site.feed.ordering)
    ordered(page, "add", "high")
    patience.until(lambda: "add high" in running.text and "OK" in running.text)
    patience.until(lambda: not site.feed.ordering)
    site.session.remove("memory22")
    patience.until(lambda: state_of(site, 22) is BlockState.OFFLINE)
    frame = settled(site, page)
    assert looks_of(page)[22] == {"": 64} == expected(frame)[22]
    site.session.add("memory22")
    patience.until(lambda: state_of(site, 22) is BlockState.ONLINE)
    assert looks_of(page) == expected(settled(site, page))
    assert complaints(page) == []


def test_brushing_shows_what_was_recorded_then(site: Site, page: Chrome) -> None:
    """After the removal and the addition of the test before, or its own."""
    if not any(cell.dark for each in site.feed.record.since(0) for cell in each.map.cells):
        test_a_removal_is_watched_to_its_end_and_back(site, page)
    seen = set()
    for moment in [frame.at for frame in random.Random(11).sample(site.feed.record.since(0), 5)]:
        brush(page, moment)
        then = site.feed.record.at(float(page.find_element(By.ID, "brush").get_property("value")))  # type: ignore[arg-type]
        assert then is not None
        patience.until(lambda then=then: shown(page)["seq"] == then.seq)  # type: ignore[misc]
        assert shown(page) == json.loads(json.dumps(then.document()))
        assert looks_of(page) == expected(then)
        seen.add(then.seq)
    assert len(seen) > 1, "moments between which the brush can't tell show one frame, but not all five do"
    assert page.find_element(By.ID, "past").is_displayed()
    page.find_element(By.ID, "live").click()
    patience.until(lambda: shown(page)["seq"] > max(seen))
    assert not page.find_element(By.ID, "past").is_displayed()


def test_a_canvas_that_shows_something_else_is_noticed(site: Site, page: Chrome) -> None:
    """In the past, which no frame draws over: one page more or less, and a bank that is not dark."""
    patience.until(lambda: len(site.feed.record.since(0)) > 10)
    brush(page, site.feed.record.since(0)[-5].at)
    then = site.feed.record.at(float(page.find_element(By.ID, "brush").get_property("value")))  # type: ignore[arg-type]
    assert then is not None
    patience.until(lambda: shown(page)["seq"] == then.seq)
    assert looks_of(page) == expected(then)
    for breach in ({"power": "off"}, {"groups": {"kernel": 700, "free": 15684}}, {"groups": {"anon": 16384}}):
        page.execute_script(
            """
            const { map } = document.getElementById("map");
            const cells = { ...map.frame.cells, 17: { ...map.frame.cells[17], ...arguments[0] } };
            map.frame = { ...map.frame, cells };
            map.redraw();
            """,
            breach,
        )
        assert looks_of(page) != expected(then)


def brush(page: Chrome, moment: float) -> None:
    page.execute_script(
        """
        const brush = document.getElementById("brush");
        brush.value = arguments[0];
        brush.dispatchEvent(new Event("input"));
        """,
        moment,
    )


def test_dragging_over_a_plot_goes_back_too(site: Site, page: Chrome) -> None:
    patience.until(lambda: len(site.feed.record.since(0)) > 10)
    over = page.find_element(By.CSS_SELECTOR, ".u-over")
    ActionChains(page).move_to_element_with_offset(over, 0, 0).click_and_hold().move_by_offset(
        -60, 5
    ).release().perform()
    patience.until(lambda: page.find_element(By.ID, "past").is_displayed())
    assert page.find_element(By.ID, "moment").text != "now"


def test_it_is_all_there_for_the_keyboard_and_as_text(site: Site, page: Chrome) -> None:
    page.execute_script("document.getElementById('map').focus()")
    keys = {
        Keys.HOME: 16,
        Keys.ARROW_RIGHT: 17,
        Keys.ARROW_DOWN: 21,
        Keys.ARROW_LEFT: 20,
        Keys.ARROW_UP: 16,
        Keys.END: 23,
    }
    for key, block in keys.items():
        page.switch_to.active_element.send_keys(key)
        assert page.execute_script("return document.getElementById('map').map.selected") == block
        bank = "high" if block >= 20 else "low"
        spoken = page.find_element(By.ID, "spoken").get_attribute("textContent") or ""
        assert spoken.startswith(f"memory{block} in {bank}: online, ")
        assert spoken in (page.find_element(By.ID, "map").get_attribute("aria-label") or "")
    patience.until(lambda: "memory23" in now(site).looks)  # selecting it had it looked at
    page.find_element(By.CSS_SELECTOR, "#words summary").click()
    patience.until(lambda: len(page.find_elements(By.CSS_SELECTOR, ".words li")) == 8)
    for control in page.find_elements(By.CSS_SELECTOR, "button[id], input, summary, canvas[tabindex]"):
        assert control.accessible_name or not control.is_displayed()


def test_a_server_that_goes_comes_back_where_it_was(site: Site, page: Chrome) -> None:
    before = shown(page)["seq"]
    site.viewers.asked.clear()
    site.stop()
    patience.until(lambda: state(page) == "the server does not answer")
    patience.until(lambda: now(site).seq > before + 3)
    site.start()
    patience.until(lambda: state(page) == "live")
    patience.until(lambda: shown(page)["seq"] > before + 3)
    assert any((asked or "").endswith(f"-{n}") for n in range(before, before + 99) for asked in site.viewers.asked)
    settled(site, page)
    rows = page.execute_script("return document.getElementById('brush').max - document.getElementById('brush').min")
    assert rows > 0


def test_another_server_in_its_place_is_told_from_it(site: Site, page: Chrome) -> None:
    site.stop()
    mine, site.token = site.token, "x" * 43
    site.start()
    trouble = page.find_element(By.ID, "trouble")
    patience.until(lambda: "does not know this page" in trouble.text)
    site.stop()
    site.token = mine
    site.start()
