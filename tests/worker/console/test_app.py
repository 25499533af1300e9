"""What every answer of the console has, and what goes wrong as a page."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.worker.api.conftest import Serve, Service, fields_of
from tests.worker.console.conftest import LIMITS, Browser, Page, SignIn, read, with_console
from tests.worker.queue import scans
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis

POLICY = {
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' data:",
    "media-src 'self'",
    "connect-src 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
    "base-uri 'none'",
}


PATHS = {"/": 200, "/scans": 200, "/sign-in": 200, "/scans/" + "0" * 32: 404, "/scans/x": 404, "/nope": 404, "/live": 405}


def test_every_answer_has_the_headers(sign_in: SignIn) -> None:
    browser = sign_in()
    for path, status in PATHS.items():
        answer = browser.get(path) if status != 405 else browser.client.put(f"/console{path}")
        assert answer.status_code == status, path
        assert set(answer.headers["content-security-policy"].split("; ")) == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        page = read(answer.text)
        assert page.by_id("main") is not None
        assert outside(page) == [], "nothing but this service is asked for anything"


def outside(page: Page) -> list[str]:
    named = [attributes[name] or "" for tag, attributes in page.tags for name in ("src", "href", "action") if name in attributes]
    return [value for value in named if not value.startswith(("/console/", "#"))]


def test_the_api_answers_as_before(service: Service) -> None:
    assert fields_of(service.client.get("/v1/scans"))["code"] == "unauthorized"
    assert fields_of(service.client.get("/nope"))["code"] == "not_found"
    assert service.client.get("/console", follow_redirects=False).headers["location"] == "/console/"


def test_a_problem_says_what_to_do_and_its_number(service: Service, sign_in: SignIn) -> None:
    answer = sign_in().get("/scans/" + "0" * 32)
    page = read(answer.text)
    assert "There is no such scan" in page.text
    assert answer.headers["x-request-id"] in page.text
    assert "acme" in page.text, "who is signed in stays so"


def test_a_problem_where_a_part_was_to_be_renewed_becomes_a_page(sign_in: SignIn) -> None:
    answer = sign_in().get("/scans?before=soon&status=queued", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (422, "/console/scans?before=soon&status=queued")
    answer = sign_in().get("/scans/%E4%BD%A0%20%C3%A9", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (404, "/console/scans/%E4%BD%A0%20%C3%A9")


def test_a_fault_of_ours_is_a_page_without_its_inside(
    service: Service, sign_in: SignIn, caplog: pytest.LogCaptureFixture
) -> None:
    browser, scan_id = sign_in(), service.submit()
    scans.complete(service.parts.desk.records, scan_id)
    service.parts.desk.records.redis.set(f"vf:override:acme:{'ab' * 32}", "{broken secret")
    answer = browser.get(f"/scans/{scan_id}")
    assert answer.status_code == 500
    assert "The service failed" in answer.text
    assert "broken secret" not in answer.text
    assert set(answer.headers["content-security-policy"].split("; ")) == POLICY
    assert "Traceback" in caplog.text or "JSONDecodeError" in caplog.text


def test_requests_are_told_apart_in_the_metrics(service: Service, sign_in: SignIn) -> None:
    browser = sign_in()
    browser.get("/scans/" + "0" * 32)
    told = service.client.get("/metrics").text
    assert 'route="/console/scans/{scan_id}",status="404"' in told
    assert 'route="/console/sign-in",status="303"' in told


def test_while_redis_is_away_pages_say_so(serve: Serve, sign_in: SignIn, own_redis: EmbeddedRedis) -> None:
    with connect(url=own_redis.url, timeout_s=0.5, patience_s=0) as client:
        service = with_console(serve(client=client, limits=LIMITS))
        browser = sign_in(service=service)
        own_redis.stop()
        answer = browser.get("/scans")
        assert answer.status_code == 503
        assert "Come again" in answer.text
        assert int(answer.headers["retry-after"]) > 0


def test_requests_of_one_owner_are_limited(serve: Serve, open_browser: Callable[[Service], Browser], sign_in: SignIn) -> None:
    service = with_console(serve(limits=LIMITS, requests_per_minute=1))
    browser = sign_in(service=service)
    assert [browser.get("/scans").status_code for _ in range(2)] == [200, 429]
    for name in ("page", "report.json"):
        assert browser.get(f"/scans/{'0' * 32}/{name}").status_code == 429, "as the API's"
    assert browser.client.get("/console/assets/console.css").status_code == 200
