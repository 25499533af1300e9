"""Style sheets and scripts: ours, and those of others only where they are."""

from __future__ import annotations

from tests.worker.api.conftest import Service
from tests.worker.console.conftest import read
from worker.console.assets import ASK_AGAIN, FOREVER, Assets, packaged_assets
from worker.console.render import Pages
from worker.pages.render import style

OURS = {"console.css": b"a{}", "console.js": b"1", "pages.css": b"b{}", "icon.svg": b"<svg/>"}
SIGN_IN = {"next": "", "complaint": None, "notice": None, "here": ""}


def test_ours_are_kept_by_browsers_for_as_long_as_they_are_the_same(service: Service) -> None:
    for name, kind in (("console.css", "text/css"), ("console.js", "text/javascript"), ("icon.svg", "image/svg+xml")):
        url = packaged_assets().url(name)
        assert url is not None
        exact = service.client.get(url)
        assert (exact.status_code, exact.headers["cache-control"]) == (200, FOREVER)
        assert exact.headers["content-type"].startswith(kind)
        other = service.client.get(url[:-1] + "x")
        assert other.headers["cache-control"] == ASK_AGAIN
        for have in (exact.headers["etag"], f"W/{exact.headers['etag']}"):  # the latter as of a proxy that compresses
            same = service.client.get(url, headers={"If-None-Match": have})
            assert (same.status_code, same.content) == (304, b"")


def test_nothing_else_is_given_out(service: Service) -> None:
    for name in ("nope.js", "htmx-LICENSE.txt", "..%2fapp.py", "app.py", "__init__.py"):
        assert service.client.get(f"/console/assets/{name}").status_code == 404, name


def test_the_look_is_that_of_all_pages(service: Service) -> None:
    assert service.client.get("/console/assets/pages.css").text == style()


def test_a_page_names_what_is_here_and_nothing_else() -> None:
    plain = read(Pages(Assets(OURS)).text("sign_in.html", None, SIGN_IN))
    assert [script["src"].partition("?")[0] for script in plain.all("script") if script["src"]] == ["/console/assets/console.js"]
    rich = Assets(OURS | {"htmx.min.js": b"2", "uPlot.iife.min.js": b"3", "uPlot.min.css": b"c{}"})
    page = read(Pages(rich).text("sign_in.html", None, SIGN_IN))
    names = [(script["src"] or "").partition("?")[0].rpartition("/")[2] for script in page.all("script")]
    assert names == ["uPlot.iife.min.js", "htmx.min.js", "console.js"]
    assert not [script for script in page.all("script") if "defer" not in script]
