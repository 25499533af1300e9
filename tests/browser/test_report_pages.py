"""The pages that ``veriframe scan --out`` writes, opened from the disk: they ask for nothing, keep nobody out, and print."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.access import faults
from tests.browser.chromium import Visits
from tests.browser.site import veriframe
from worker.demo import FOLDER

TRICKY = "<img src=x onerror=document.title='run'>&amp;.mp4"


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a clip with a face, of one without, whose name is markup, and of what is no clip."""
    folder = tmp_path_factory.mktemp("pages")
    media, out = folder / "media", folder / "out"
    media.mkdir()
    shutil.copy(FOLDER / "swapped.mp4", media)
    shutil.copy(FOLDER / "no_face.mp4", media / TRICKY)
    (media / "notes.txt").write_text("no clip\n")
    done = veriframe("scan", str(media), "--out", str(out), "--quiet")
    assert done.returncode == 3, done.stderr
    return out


@pytest.fixture
def visits(chromium: Browser, reports: Path) -> Iterator[Visits]:
    """Fails the test if a page asked for anything beside the reports, or complained."""
    made = Visits(browser=chromium, home=reports.as_uri())
    try:
        yield made
    finally:
        made.close()
    assert made.complaints == []


def pages_of(reports: Path) -> list[Path]:
    return [reports / "index.html", *sorted(reports.glob("*/page.html"))]


def test_they_keep_nobody_out_and_ask_for_nothing(reports: Path, visits: Visits) -> None:
    asked: list[str] = []
    page = visits.page()
    page.on("request", lambda request: asked.append(request.url))
    found = {}
    for path in pages_of(reports):
        page.goto(path.as_uri())
        assert page.evaluate("document.scripts.length") == 0
        assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
        found[path.parent.name] = faults(page)
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
    loaded = [url for url in asked if not url.startswith("data:")]
    assert loaded == [path.as_uri() for path in pages_of(reports)], "a page is one file"
    assert len(loaded) == 4


def test_the_index_leads_to_each_page_and_sorts(reports: Path, visits: Visits) -> None:
    page = visits.page(java_script_enabled=False)
    page.goto((reports / "index.html").as_uri())
    assert sorted(names(page)) == sorted([TRICKY, "notes.txt", "swapped.mp4"])
    page.get_by_role("link", name="name", exact=True).click()
    assert names(page) == sorted([TRICKY, "notes.txt", "swapped.mp4"])
    page.get_by_role("link", name=TRICKY, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Not applicable")
    assert "run" not in page.title().split()
    page.go_back()
    page.get_by_role("link", name="swapped.mp4", exact=True).click()
    verdict = json.loads(next(reports.glob("swapped*/report.json")).read_text())["verdict"]
    expect(page.get_by_role("heading", level=1)).to_contain_text(verdict.capitalize())
    page.locator("a[href$='index.html']").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Results")


def names(page: Page) -> list[str]:
    return page.locator("td.name a").all_inner_texts()


def test_a_report_prints(reports: Path, visits: Visits) -> None:
    page = visits.page()
    page.goto(next(reports.glob("swapped*/page.html")).as_uri())
    printed = page.pdf(format="A4", print_background=True)
    sheets = len(re.findall(rb"/Type /Page\b", printed))
    assert 1 <= sheets <= 6
    assert printed.count(b"/Subtype /Image") >= 3, "the faces are on it"
