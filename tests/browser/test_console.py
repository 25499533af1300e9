"""The console in a real browser, on the real API, Redis and workers: from an address to the verdict that everyone sees.

Every page may ask nobody but the service for anything, and must not breach its content security policy (``Visits``).
"""

from __future__ import annotations

import csv
import io
import secrets
import threading
from fractions import Fraction
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import av
import pytest
from playwright.sync_api import Page, Route, expect

from tests.browser.chromium import PATIENCE_MS, Visits
from tests.browser.site import Site, up
from tests.chaos.media import clip_bytes
from tests.worker.source.loopback import Loopback, in_turn, reply, serve
from worker.demo import FOLDER
from worker.report import Report

ASSETS = Path(__file__).resolve().parents[2] / "worker/console/assets"
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def name() -> str:
    """An external id that no other scan has."""
    return f"case-{secrets.token_hex(4)}"


def new_clip(clip: str) -> bytes:
    """A clip of the demo in bytes that nobody has scanned."""
    return clip_bytes(clip, secrets.randbits(63))


def begun_late(clip: str, late_s: int) -> bytes:
    """A clip of the demo as a WebM whose own times begin at ``late_s``, as in a piece of a recording."""
    made = io.BytesIO()
    with av.open(str(FOLDER / clip)) as old, av.open(made, "w", format="webm") as new:
        source = old.streams.video[0]
        stream = new.add_stream("libvpx", rate=source.average_rate)
        stream.width, stream.height = source.width, source.height
        for frame in old.decode(source):
            frame.pts, frame.time_base = round(1000 * (late_s + (frame.time or 0.0))), Fraction(1, 1000)
            new.mux(stream.encode(frame))
        new.mux(stream.encode(None))
    return made.getvalue()


def feedback_rows(site: Site, report: Report) -> list[dict[str, str]]:
    rows = csv.DictReader(io.StringIO(site.call("GET", "/v1/feedback").text))
    assert report.media is not None
    return [row for row in rows if report.media.sha256 in row.values()]


def decide(page: Page, label: str, category: str, note: str) -> None:
    page.get_by_role("radio", name=label).check()
    page.get_by_label("Kind").fill(category)
    page.get_by_label("Reason").fill(note)
    page.get_by_role("button", name="Record the verdict").click()


def test_a_second_up_says_that_it_is_up_already(site: Site) -> None:
    again, said = up(site.folder, site.config)
    assert "it is up already" in said
    assert "untouched.mp4: real" in said
    assert again == site


def test_from_an_address_to_the_verdict_that_everyone_sees(site: Site, visits: Visits, name: str) -> None:
    asked, may_answer = threading.Event(), threading.Event()
    clip = new_clip("swapped.mp4")

    def answer(request: BaseHTTPRequestHandler, served: Loopback) -> None:
        asked.set()
        may_answer.wait(PATIENCE_MS / 1000)
        reply(clip)(request, served)

    page = visits.page()
    page.goto(site.console)
    expect(page).to_have_url(f"{site.console}/sign-in")
    page.get_by_label("API key").fill(site.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.locator("#live-state")).to_have_text("Live")

    with serve(answer) as media:
        page.get_by_role("link", name="Submit", exact=True).click()
        page.get_by_label("Address", exact=True).fill(media.url("/clip.mp4"))
        page.get_by_text("Options", exact=True).click()
        page.get_by_label("Your id for it").fill(name)
        page.get_by_role("button", name="Scan", exact=True).click()
        expect(page.get_by_role("heading", name="Under way")).to_be_visible()
        assert asked.wait(PATIENCE_MS / 1000)
        expect(page.locator("#going")).to_have_text("Fetching")  # by the server's word, without a new page
        may_answer.set()
        expect(page.locator("#result[data-status=completed]")).to_be_visible()
    scan_id = site.scan(name)
    assert page.url.partition("?")[0] == f"{site.console}/scans/{scan_id}"
    verdict = site.report(scan_id).verdict
    expect(page.locator("#result")).to_have_attribute("data-verdict", verdict.value if verdict else "")
    expect(page.locator("#result")).to_have_attribute("data-decided-by", "model")

    decide(page, "Fake", "blend", "seams <b>at</b> the jaw")
    expect(page.locator("#result[data-verdict=fake][data-decided-by=human]")).to_be_visible()
    expect(page.locator("#audit .note")).to_have_text("seams <b>at</b> the jaw")

    page.get_by_role("link", name="Scans", exact=True).first.click()
    page.get_by_label("Your id").fill(name)
    page.get_by_role("button", name="Filter", exact=True).click()
    row = page.locator(f"tr[data-scan='{scan_id}']")
    expect(page.locator("tr[data-scan]")).to_have_count(1)
    expect(row).to_contain_text("Fake")
    expect(row).to_contain_text("by a person")

    report = site.report(scan_id)
    assert (report.verdict, report.decided_by) == ("fake", "human")
    assert ["fake" in row.values() and "blend" in row.values() for row in feedback_rows(site, report)] == [True]
    if (ASSETS / "htmx.min.js").is_file():
        assert page.evaluate("[typeof htmx, typeof uPlot]") == ["object", "function"]


def test_all_of_it_without_scripts(site: Site, visits: Visits, name: str) -> None:
    page = visits.page(java_script_enabled=False)
    page.goto(f"{site.console}/submit")
    page.get_by_label("API key").fill(site.key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Submit")).to_be_visible()
    file = {"name": f"{name}.mp4", "mimeType": "video/mp4", "buffer": new_clip("no_face.mp4")}
    page.get_by_label("Or a file").set_input_files(files=[file])
    page.get_by_role("button", name="Scan", exact=True).click()
    expect(page.locator("#result[data-status=completed]")).to_be_visible()  # the page comes anew by itself
    scan_id = site.scan(f"{name}.mp4")
    expect(page.locator("#result")).to_have_attribute("data-verdict", "not_applicable")

    decide(page, "Real", "satire", "nobody is shown")
    expect(page.locator("#result[data-verdict=real][data-decided-by=human]")).to_be_visible()
    page.get_by_role("link", name="Scans", exact=True).first.click()
    page.get_by_label("Verdict").select_option("real")
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page.locator(f"tr[data-scan='{scan_id}']")).to_contain_text("by a person")
    assert len(feedback_rows(site, site.report(scan_id))) == 1
    page.get_by_role("button", name="Sign out").click()
    page.goto(site.console)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_dead_letter_is_replayed(site: Site, visits: Visits, name: str) -> None:
    with serve(in_turn(reply(b"", 503), reply(new_clip("no_face.mp4")))) as media:
        dead = site.submit(media.url("/later.mp4"), name)
        assert site.ended(dead).dead
        page = visits.page(key=site.key)
        page.goto(f"{site.console}/dead")
        row = page.locator(f"tr[data-scan='{dead}']")
        expect(row).to_contain_text("fetch_timeout")
        row.get_by_role("checkbox").check()
        page.get_by_role("button", name="Replay the selected").click()
        row.get_by_role("link", name="replayed").click()
        expect(page.locator("#result[data-status=completed]")).to_be_visible()
    again = site.scan(name)
    assert again != dead
    assert site.report(again).retry_of == dead
    assert site.report(dead).dead, "what has ended stays as it is"


@pytest.mark.parametrize("starts_s", [0.0, 0.5])
def test_video_and_timeline_go_together(site: Site, visits: Visits, starts_s: float) -> None:
    """The player's time begins with the sound, which may come first."""
    page, address = visits.page(key=site.key), f"{site.console}/scans/{site.scan('swapped.mp4')}"

    def as_of_another(route: Route) -> None:
        answer = route.fetch()
        assert 'data-starts-s="0.0"' in answer.text()
        route.fulfill(response=answer, body=answer.text().replace('data-starts-s="0.0"', f'data-starts-s="{starts_s}"'))

    page.route(address, as_of_another)
    page.goto(address)
    video = page.locator("#video")
    slider = page.get_by_role("slider", name="Moment of the video")
    link = page.locator("#over-time a.t").last
    moment_s = int(link.get_attribute("data-t-ms") or 0) / 1000
    assert moment_s > 0
    media = site.report(site.scan("swapped.mp4")).media
    duration_s = media.duration_s if media else 0.0
    link.click()
    there_s = min(moment_s + starts_s, duration_s)
    expect(slider).to_have_attribute("aria-valuetext", f"{there_s - starts_s:.1f} seconds")
    assert video.evaluate("video => video.currentTime") == pytest.approx(there_s, abs=0.05)
    slider.focus()
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", "0.0 seconds")
    assert starts_s <= video.evaluate("video => video.currentTime") < moment_s + starts_s


def test_a_file_whose_clock_begins_late_is_shown_where_the_page_says(site: Site, visits: Visits, name: str) -> None:
    """Chromium counts from where the file's own times do, others from its beginning."""
    with serve(reply(begun_late("swapped.mp4", 5))) as media:
        scan_id = site.submit(media.url(f"/{name}.webm"), name)
        assert site.ended(scan_id).media.starts_s == 0  # type: ignore[union-attr]
    page = visits.page(key=site.key)
    page.goto(f"{site.console}/scans/{scan_id}?t=1.00")
    video, slider = page.locator("#video"), page.get_by_role("slider", name="Moment of the video")
    expect(slider).to_have_attribute("aria-valuetext", "1.0 seconds")
    assert video.evaluate("video => video.currentTime") == pytest.approx(6, abs=0.05)
    link = page.locator("#over-time a.t").last
    moment_s = int(link.get_attribute("data-t-ms") or 0) / 1000
    link.click()
    expect(slider).to_have_attribute("aria-valuetext", f"{moment_s:.1f} seconds")
    assert video.evaluate("video => video.currentTime") == pytest.approx(5 + moment_s, abs=0.05)
    slider.focus()
    page.keyboard.press("Home")
    expect(slider).to_have_attribute("aria-valuetext", "0.0 seconds")


def test_who_moves_the_player_before_its_first_picture_does_not_move_its_clock(site: Site, visits: Visits) -> None:
    page = visits.page(key=site.key)
    page.add_init_script("addEventListener('loadedmetadata', event => (event.target.currentTime = 0.5), true)")
    page.goto(f"{site.console}/scans/{site.scan('swapped.mp4')}?t=1.00")
    video, slider = page.locator("#video"), page.get_by_role("slider", name="Moment of the video")
    expect(slider).to_have_attribute("aria-valuetext", "1.0 seconds", timeout=5000)
    assert video.evaluate("video => video.currentTime") == pytest.approx(1, abs=0.05)


def test_by_keyboard_alone(site: Site, visits: Visits) -> None:
    """In and to a verdict without a pointer; whatever has the focus shows it."""
    page = visits.page()
    page.goto(f"{site.console}/sign-in")
    expect(page.locator("#key")).to_be_focused()  # by itself, a moment after the page is there
    page.keyboard.type(site.key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    page.goto(f"{site.console}/scans/{site.scan('two_people.mp4')}")
    page.keyboard.press("Tab")
    expect(page.locator(":focus")).to_have_text("Skip to the content")
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{site.console}/scans/{site.scan('two_people.mp4')}#main")
    tab_to(page, "#decision [name=label]")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(page.get_by_role("radio", name="Fake")).to_be_checked()
    tab_to(page, "#note")
    page.keyboard.type("two of two")
    tab_to(page, "#decision button")
    page.keyboard.press("Enter")
    expect(page.locator("#result[data-verdict=fake][data-decided-by=human]")).to_be_visible()
    expect(page.locator("#audit .note").first).to_have_text("two of two")


def tab_to(page: Page, selector: str) -> None:
    for _ in range(100):
        page.keyboard.press("Tab")
        element = page.locator(":focus")
        if element.count() == 0:
            continue
        style = element.evaluate("e => getComputedStyle(e).outlineStyle")
        assert style != "none" or element.evaluate("e => getComputedStyle(e).boxShadow") != "none", element.inner_html()
        if element.evaluate("(e, selector) => e.matches(selector)", selector):
            return
    raise AssertionError(f"no way to {selector} by Tab")
