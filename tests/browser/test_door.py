# SPDX-License-Identifier: Apache-2.0
"""Who is let in to the pages: by token, Host and Origin, with every call; and who may change what."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

import patience
from browser.browsing import complaints
from browser.site import Site
from hotbank import board
from hotbank.memory import KernelState
from hotbank.model import Model
from hotbank.web.door import LOOPBACK

READS = ("/", "/known", "/events", "/moment?at=1", "/static/live.js")
POSTS = ("look", "plan", "order", "interrupt", "pause", "resume")
CHANGES = ("order", "interrupt", "pause", "resume")


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """For reading."""
    with Site(Model.boot(board.load("arm-2009")), change=False) as site:
        yield site


def test_without_the_token_nothing(site: Site) -> None:
    for token in ("", "x", site.token[:-1], site.token + "x", site.token.swapcase(), "%C3%A9" * 43):
        for path in READS:
            status, text, _ = site.call(path, token=token)
            assert status == 403, (token, path)
            assert "model" not in text
        for what in POSTS:
            assert site.call(f"/{what}", token=token and "x", method="POST", headers=origin(site))[0] == 403


def origin(site: Site) -> dict[str, str]:
    return {"Origin": f"http://{LOOPBACK}:{site.port}", "Content-Type": "application/json"}


@pytest.mark.parametrize(
    "wrong", ["http://evil.example", "null", "https://{host}", "http://127.0.0.1:1", "http://{host}.evil.example"]
)
def test_a_wrong_origin_is_refused_with_the_token_too(site: Site, wrong: str) -> None:
    headers = {"Origin": wrong.format(host=f"{LOOPBACK}:{site.port}")}
    assert {site.call(path, headers=headers)[0] for path in READS} == {403}
    assert {site.post(what, {}, **headers)[0] for what in POSTS} == {403}


def test_who_posts_says_from_where(site: Site) -> None:
    assert {site.post(what, {}, Origin="")[0] for what in POSTS} == {403}


def test_another_name_that_leads_here_is_refused(site: Site) -> None:
    """DNS rebinding: the browser believes that the page of evil.example is asking its own server."""
    for host in ("evil.example", f"evil.example:{site.port}", LOOPBACK, f"{LOOPBACK}:{site.port + 1}", ""):
        assert {site.call(path, headers={"Host": host})[0] for path in READS} == {403}
        headers = {"Host": host, "Origin": f"http://{host}"}
        assert site.post("look", {"name": "high"}, **headers)[0] in (400, 403)


def test_what_another_site_asks_is_refused_by_the_browser_s_own_word(site: Site) -> None:
    for said in ("cross-site", "same-site"):
        assert {site.call(path, headers={"Sec-Fetch-Site": said})[0] for path in READS} == {403}


def test_every_answer_forbids_what_pages_of_others_could_do_with_it(site: Site) -> None:
    for path, token in (("/", None), ("/known", None), ("/static/base.css", None), ("/", ""), ("/nothing", "x")):
        headers = site.call(path, token=token)[2]
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_changes_are_refused_where_they_are_not_allowed(site: Site) -> None:
    status, plan = site.post("plan", {"verb": "remove", "name": "high"})
    assert (status, plan["done"]["code"]) == (200, "OK")
    for what in CHANGES:
        status, told = site.post(what, plan["done"])
        assert (status, told["error"]["code"]) == (403, "NOT_PERMITTED")
        assert "--allow-changes" in told["error"]["remedy"]
    bank = site.session.list().bank("high")
    assert bank is not None
    assert bank.kernel is KernelState.ONLINE


@pytest.mark.parametrize(
    ("what", "asked", "status"),
    [
        ("plan", {"verb": "remove", "name": "nosuch"}, 404), ("plan", {"verb": "melt", "name": "high"}, 400),
        ("plan", {}, 400), ("plan", [], 400), ("look", {"name": 4}, 400),
        ("plan", {"verb": "remove", "name": None}, 400),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_in_words(site: Site, what: str, asked: object, status: int) -> None:
    answered, told = site.post(what, asked)
    assert answered == status
    assert told["error"]["message"]


def test_what_is_posted_is_json_and_not_too_large(site: Site) -> None:
    assert site.post("look", {"name": "high"}, Content_Type="text/plain")[0] == 400
    assert site.post("look", {"name": "x" * (1 << 23)})[0] == 400
    assert site.call("/look", method="POST", headers=origin(site), body=b"{" * 5000)[0] == 400


@pytest.mark.long
@pytest.mark.referee
def test_a_form_of_another_site_is_refused(site: Site, browser: Chrome) -> None:
    """Even one that knows the token: a page from elsewhere that the same browser has open."""
    form = (
        f'<form method=post enctype=text/plain action="{site.url}look"><input name=x value=y><button>go</button></form>'
    )
    browser.get(f"data:text/html,{form}")
    browser.find_element(By.TAG_NAME, "button").click()
    patience.until(lambda: "Origin: calls come from this server's own pages" in browser.page_source)
    browser.get("data:text/html,<p>elsewhere</p>")
    read = "return fetch(arguments[0]).then(() => 'read', () => 'not read')"
    assert browser.execute_script(read, f"{site.url}known") == "not read"
    complaints(browser)
