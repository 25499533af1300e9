"""Signing in and out, what ends a session, and what a key's scopes open."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from redis import Redis

from tests.worker.api.conftest import Serve, Service
from tests.worker.console.conftest import LIMITS, Browser, SignIn, read, with_console

OpenBrowser = Callable[[Service], Browser]


def test_a_key_opens_a_session_that_no_script_and_no_other_site_sees(service: Service, open_browser: OpenBrowser) -> None:
    browser = open_browser(service)
    answer = browser.client.post("/console/sign-in", data={"key": f" {service.token()}\n"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/")
    flags = {part.strip().lower() for part in answer.headers["set-cookie"].split(";")[1:]}
    assert flags == {"httponly", "samesite=strict", "path=/", "max-age=3600"}
    assert "acme" in read(browser.page()).text


def test_where_tls_ends_before_the_service_the_cookie_goes_over_https_only(serve: Serve, open_browser: OpenBrowser) -> None:
    service = with_console(serve(limits=LIMITS), secure=True)
    cookie = open_browser(service).client.post("/console/sign-in", data={"key": service.token()}).headers["set-cookie"]
    assert cookie.startswith("__Host-veriframe=")
    assert "; Secure" in cookie


def test_redis_holds_neither_the_cookie_nor_the_forms_token(service: Service, sign_in: SignIn, redis: Redis) -> None:
    browser = sign_in()
    cookie, token = browser.client.cookies["veriframe"], browser.token
    (session,) = redis.keys("vf:session:*")
    assert 0 < redis.ttl(session) <= 3600
    everything = b" ".join([*redis.keys("*"), redis.get(session) or b""]).decode()
    assert cookie not in everything
    assert token not in everything


def test_another_key_is_refused_on_the_page(service: Service, open_browser: OpenBrowser) -> None:
    browser = open_browser(service)
    for key in ("", "vf_0000000000000000_" + "A" * 43, "nonsense", "<script>"):
        answer = browser.client.post("/console/sign-in", data={"key": key})
        assert answer.status_code == 401, key
        assert "No such API key" in answer.text
        assert "<script>" not in answer.text
        assert not browser.client.cookies
        assert "www-authenticate" not in answer.headers


def test_attempts_are_limited(service: Service, open_browser: OpenBrowser, redis: Redis) -> None:
    browser = open_browser(service)
    assert browser.client.post("/console/sign-in", data={"key": "x"}).status_code == 401
    tried, other = service.token("acme"), service.token("globex")
    seconds, micros = redis.time()
    redis.set(f"vf:rate:@testclient/{tried.split('_')[1]}", (seconds + 60) * 1_000_000 + micros)  # as after many attempts
    answer = browser.client.post("/console/sign-in", data={"key": tried})
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert not browser.client.cookies
    answer = browser.client.post("/console/sign-in", data={"key": other})
    assert answer.status_code == 303, "behind a proxy, who guesses at one key keeps no other out"


def test_a_session_ends_with_its_key_or_its_time(service: Service, sign_in: SignIn, redis: Redis) -> None:
    revoked, outlived = sign_in("acme", "read"), sign_in("acme", "read", "scan")
    for key in service.parts.keys.list():
        if "scan" not in key.scopes:
            service.parts.keys.revoke(key.id)
    assert revoked.get().headers["location"] == "/console/sign-in"
    assert outlived.get().status_code == 200
    for session in redis.keys("vf:session:*"):
        redis.delete(session)
    assert outlived.get().status_code == 303


def test_signing_in_again_ends_the_session_before(service: Service, sign_in: SignIn, redis: Redis) -> None:
    browser = sign_in()
    before = browser.client.cookies["veriframe"]
    browser.client.post("/console/sign-in", data={"key": service.token()})
    assert browser.client.cookies["veriframe"] != before
    assert len(redis.keys("vf:session:*")) == 1


def test_who_signs_out_is_out_with_a_kept_cookie_too(sign_in: SignIn) -> None:
    browser = sign_in()
    cookie = browser.client.cookies["veriframe"]
    assert browser.post("/sign-out", token="0" * 64).status_code == 403
    answer = browser.post("/sign-out")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/sign-in")
    browser.client.cookies.set("veriframe", cookie)
    assert browser.get().status_code == 303


def test_a_cookie_of_nobodys_opens_nothing(service: Service, open_browser: OpenBrowser) -> None:
    browser = open_browser(service)
    for cookie in ("", "x", "A" * 43, "../" * 14 + "A", "é" * 43):
        answer = browser.client.get("/console/", headers={"Cookie": f"veriframe={cookie}".encode()})
        assert answer.status_code == 303, cookie


def test_a_page_sends_to_the_sign_in_and_comes_back(service: Service, open_browser: OpenBrowser) -> None:
    browser = open_browser(service)
    scan_id = service.submit()
    asked = browser.get(f"/scans/{scan_id}?t=3")
    assert (asked.status_code, asked.headers["location"]) == (303, f"/console/sign-in?next=scans/{scan_id}")
    page = read(browser.client.get(asked.headers["location"]).text)
    go_on = page.by_id("go-on")
    assert go_on is not None
    assert go_on["href"] == f"/console/scans/{scan_id}"
    (hidden,) = [field for field in page.all("input") if field.get("name") == "next"]
    answer = browser.client.post("/console/sign-in", data={"key": service.token(), "next": hidden["value"]})
    assert answer.headers["location"] == f"/console/scans/{scan_id}"


def test_after_signing_in_nobody_is_sent_elsewhere(service: Service, open_browser: OpenBrowser) -> None:
    browser = open_browser(service)
    elsewhere = ["//evil.example", "https://evil.example/", "/etc", "\\evil", "..%2f", "scans\r\nSet-Cookie: a=b", "a" * 200]
    for below in elsewhere:
        answer = browser.client.post("/console/sign-in", data={"key": service.token(), "next": below})
        assert (answer.status_code, answer.headers["location"]) == (303, "/console/"), below
        assert "go-on" not in browser.client.get("/console/sign-in", params={"next": below}).text


def test_forms_scripts_and_streams_learn_that_the_session_is_over(service: Service, open_browser: OpenBrowser) -> None:
    browser = open_browser(service)
    form = browser.client.post("/console/dead/scans", data={"which": "all"})
    assert form.status_code == 401
    assert "Your session has ended" in form.text
    enhanced = browser.get("/scans", headers={"HX-Request": "true"})
    assert (enhanced.status_code, enhanced.headers["hx-redirect"]) == (401, "/console/sign-in?next=scans")
    assert browser.get("/live", headers={"Accept": "text/event-stream"}).status_code == 401


PAGES = {"/": (), "/scans": ("read",), "/dead": ("read",), "/submit": ("scan",), "/scans/{id}/report.json": ("read",)}
FORMS = {
    "/scans/{id}/decision": ("feedback",),
    "/scans/{id}/cancel": ("scan",),
    "/scans/{id}/retry": ("scan",),
    "/dead/scans": ("scan",),
    "/dead/callbacks": ("scan",),
}


@pytest.mark.parametrize("scope", ["read", "scan", "feedback"])
def test_a_key_opens_what_its_scope_says(service: Service, sign_in: SignIn, scope: str) -> None:
    browser, scan_id = sign_in("acme", scope), service.submit()
    token = browser.token
    for path, wanted in PAGES.items():
        answer = browser.get(path.format(id=scan_id))
        assert answer.status_code == (200 if not wanted or scope in wanted else 403), path
    for path, wanted in FORMS.items():
        answer = browser.post(path.format(id=scan_id), token=token)
        assert (answer.status_code != 403) == (scope in wanted), path
    links = {link["href"] for link in read(browser.page()).all("a")}
    assert ("/console/scans" in links) == (scope == "read")
    assert ("/console/submit" in links) == (scope == "scan")


def test_what_a_reader_may_not_do_is_not_offered(service: Service, sign_in: SignIn) -> None:
    scan_id = service.submit()
    page = read(sign_in("acme", "read").page(f"/scans/{scan_id}"))
    assert [form["action"] for form in page.all("form")] == ["/console/sign-out"]
    assert re.search(r"Waiting", page.text)
