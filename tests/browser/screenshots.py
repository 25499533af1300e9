"""The pictures in docs/screenshots, made anew: ``make screenshots``. Look at them before you commit them."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

import yaml
from PIL import Image
from playwright.sync_api import Page

from tests.browser.chromium import Visits, launched
from tests.browser.site import SETTINGS, Site, up, veriframe
from tests.worker.source.loopback import reply, serve
from worker.demo import demo_files

PICTURES = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
SIZE = {"width": 1100, "height": 800}
COLOURS = 96
MOST_HEIGHT = 2000


def main() -> int:
    PICTURES.mkdir(exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="veriframe-screenshots-"))
    config = scratch / "config.yaml"
    config.write_text(yaml.safe_dump(SETTINGS))
    try:
        site, _ = up(scratch / "run", config)
        with launched() as browser:
            visits = Visits(browser=browser, home=site.api)
            take_console(site, visits)
            take_pages(visits.page(viewport=SIZE), scratch)
            visits.close()
    finally:
        print(veriframe("down", "--dir", str(scratch / "run")).stderr, file=sys.stderr)
        shutil.rmtree(scratch)
    for path in sorted(PICTURES.glob("*.png")):
        print(f"{path.stat().st_size:7d} {path.name}")
    return 0


def take_console(site: Site, visits: Visits) -> None:
    with serve(reply(b"", 503)) as media:
        assert site.ended(site.submit(media.url("/post-17.mp4"), "post-17")).dead
    swapped, people = (f"{site.console}/scans/{site.scan(name)}" for name in ("swapped.mp4", "two_people.mp4"))
    site.call("POST", f"/v1/scans/{site.scan('two_people.mp4')}/feedback", json={"label": "fake", "category": "blend"})
    page, dark = (visits.page(key=site.key, color_scheme=scheme, viewport=SIZE) for scheme in ("light", "dark"))
    for name, address in (
        ("console-overview", f"{site.console}/"),
        ("console-scans", f"{site.console}/scans"),
        ("console-scan", swapped),
        ("console-dead-letters", f"{site.console}/dead"),
        ("console-submit", f"{site.console}/submit"),
    ):
        take(page, address, name)
    take(dark, people, "console-scan-dark", full=False)
    telephone = visits.page(key=site.key, viewport={"width": 390, "height": 780})
    take(telephone, swapped, "console-telephone", full=False)
    assert not visits.complaints, visits.complaints


def take_pages(page: Page, folder: Path) -> None:
    """Of copies: the pages name the folder."""
    clips, out = folder / "clips", folder / "reports"
    clips.mkdir()
    for file in demo_files():
        shutil.copy(file.path, clips)
    done = veriframe("scan", str(clips), "--out", str(out), "--explain", "--quiet")
    assert done.returncode == 0, done.stderr
    take(page, (out / "index.html").as_uri(), "report-index")
    take(page, next(out.glob("swapped*/page.html")).as_uri(), "report-page")


def take(page: Page, address: str, name: str, *, full: bool = True) -> None:
    """In so few colours that all of them together are small."""
    page.goto(address)
    page.wait_for_function("[...document.querySelectorAll('video')].every(video => video.readyState >= 2)")  # HAVE_CURRENT_DATA
    with Image.open(io.BytesIO(page.screenshot(full_page=full))) as picture:
        shown = picture.crop((0, 0, picture.width, min(picture.height, MOST_HEIGHT)))
        small = shown.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        small.save(PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    sys.exit(main())
