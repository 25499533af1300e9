"""Handing in addresses and files by the form, as a browser without scripts sends it."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator

import pytest

from tests.worker.api.conftest import MAX_UPLOAD, Serve, Service, call
from tests.worker.console.conftest import LIMITS, Browser, SignIn, read, with_console
from worker.queue.fetching import upload_key
from worker.queue.record import Record


def the_scan(service: Service) -> Record:
    (report,) = service.parts.desk.page(None).reports
    return service.parts.desk.record(report.id, None)


def kept_bytes(service: Service, upload: str) -> bytes:
    with service.parts.artifacts.open(upload_key(upload)) as file:
        return file.read()


def test_an_address_becomes_a_scan(service: Service, sign_in: SignIn) -> None:
    browser = sign_in()
    answer = browser.submit(url=" https://media.example/a.mp4?k=1 ", external_id="post 7", priority="low", exhaustive="true")
    record = the_scan(service)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/console/scans/{record.id}?done=submitted")
    request = record.request
    assert (record.owner, request.source.url, request.external_id) == ("acme", "https://media.example/a.mp4?k=1", "post 7")
    assert (request.priority, request.kind, request.options.exhaustive) == ("low", "scan", True)
    assert "Taken in" in browser.page(f"/scans/{record.id}?done=submitted")


def test_a_live_stream_is_watched(service: Service, sign_in: SignIn) -> None:
    sign_in().submit(url="https://media.example/live.m3u8", watch="true")
    assert the_scan(service).request.kind == "watch"


def test_a_file_goes_into_the_store_and_its_name_is_the_id(service: Service, sign_in: SignIn) -> None:
    data = bytes(range(256)) * 1000
    answer = sign_in().submit(file=("C:\\clips\\holiday \u202e4pm.mp4", data))
    assert answer.status_code == 303, answer.text
    request = the_scan(service).request
    assert request.external_id == "holiday \\u202e4pm.mp4"
    assert request.priority == "live"
    kept = kept_bytes(service, request.source.upload or "")
    assert hashlib.sha256(kept).digest() == hashlib.sha256(data).digest()
    assert service.parts.intake is not None
    assert service.parts.intake.has("acme", request.source.upload or "")


def test_options_may_come_behind_the_file(service: Service, sign_in: SignIn) -> None:
    browser = sign_in()
    fields = [("token", browser.token), ("file", "x"), ("external_id", "behind"), ("priority", "batch")]
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"{"; filename=f.mp4" if name == "file" else ""}\r\n\r\n{value}\r\n'
        for name, value in fields
    ]
    answer = browser.client.post(
        "/console/submit",
        content="".join(parts) + "--b--\r\n",
        headers={"Content-Type": "multipart/form-data; boundary=b"},
    )
    assert answer.status_code == 303, answer.text
    request = the_scan(service).request
    assert (request.external_id, request.priority) == ("behind", "batch")


def test_the_form_sent_twice_is_one_scan(service: Service, sign_in: SignIn) -> None:
    browser = sign_in()
    once = next(field["value"] for field in read(browser.page("/submit")).all("input") if field.get("name") == "once") or ""
    first = browser.submit(url="https://media.example/a.mp4", once=once)
    again = browser.submit(url="https://media.example/a.mp4", once=once)
    assert again.headers["location"] == first.headers["location"].replace("submitted", "known")
    assert service.parts.desk.count(None) == 1


REFUSED: tuple[tuple[dict[str, str], str], ...] = (
    ({}, "give an address or a file"),
    ({"url": "file:///etc/passwd"}, "source.url"),
    ({"url": "http://169.254.169.254/latest"}, "private"),
    ({"url": "https://user:pw@media.example/"}, ""),
    ({"url": "https://media.example/", "priority": "now"}, "priority"),
    ({"url": "https://media.example/", "external_id": "x" * 300}, "external_id"),
)


def test_what_is_refused_is_said_in_the_form_with_what_was_given(service: Service, sign_in: SignIn) -> None:
    browser = sign_in()
    for fields, words in REFUSED:
        answer = browser.submit(**fields)
        page = read(answer.text)
        assert answer.status_code == 422, fields
        assert page.by_id("complaint") is not None
        assert words in page.text
        assert "pw" not in page.text
        assert (page.by_id("url") or {})["value"] == fields.get("url", "")
    assert service.parts.desk.count(None) == 0


def test_an_address_and_a_file_are_one_too_many(service: Service, sign_in: SignIn) -> None:
    answer = sign_in().submit(url="https://media.example/a.mp4", file=("f.mp4", b"x"))
    assert (answer.status_code, "not both" in answer.text) == (422, True)
    assert service.parts.desk.count(None) == 0


def test_an_empty_file_and_a_full_day_are_said_in_the_form(
    serve: Serve, open_browser: Callable[[Service], Browser], sign_in: SignIn
) -> None:
    assert "no bytes" in sign_in().submit(file=("empty.mp4", b"")).text
    service = with_console(serve(limits=LIMITS, scans_per_day=1))
    browser = sign_in(service=service)
    assert browser.submit(url="https://media.example/a.mp4", once="once").status_code == 303
    assert "?done=known" in browser.submit(url="https://media.example/a.mp4", once="once").headers["location"]
    full = browser.submit(url="https://media.example/b.mp4")
    assert (full.status_code, "scans a day" in full.text) == (429, True)
    assert int(full.headers["retry-after"]) > 0


def test_a_file_that_is_too_large_is_refused_and_not_kept(service: Service, sign_in: SignIn, tmp_path: object) -> None:
    browser = sign_in()
    slightly = browser.submit(file=("large.mp4", b"x" * (MAX_UPLOAD + 1)))
    assert slightly.status_code == 413
    assert slightly.headers["connection"] == "close"
    vastly = browser.submit(file=("large.mp4", b"x" * (MAX_UPLOAD + 100_000)))
    assert vastly.status_code == 413
    assert vastly.headers["content-type"].startswith("text/html")
    assert service.parts.desk.count(None) == 0


@pytest.mark.parametrize("token", ["", "0" * 64])
def test_a_file_without_the_sessions_token_is_not_read(service: Service, sign_in: SignIn, token: str) -> None:
    browser = sign_in()
    begun = f'--b\r\nContent-Disposition: form-data; name="token"\r\n\r\n{token}\r\n' if token else ""
    begun += '--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'

    def body() -> Iterator[bytes]:
        yield begun.encode()
        yield from itertools.repeat(b"x" * 4096)

    cookie = browser.client.cookies["veriframe"]
    headers = [(b"content-type", b"multipart/form-data; boundary=b"), (b"cookie", f"veriframe={cookie}".encode())]
    answer = call(service.app, "POST", "/console/submit", headers, body())
    assert answer.status_code == 403
    assert answer.asked <= 2
    assert service.parts.desk.count(None) == 0


def test_another_sites_form_is_refused(service: Service, sign_in: SignIn) -> None:
    browser = sign_in()
    answer = browser.client.post(
        "/console/submit",
        data={"token": browser.token, "url": "https://media.example/a.mp4"},
        files={"file": ("", b"")},
        headers={"Sec-Fetch-Site": "cross-site"},
    )
    assert answer.status_code == 403
    assert service.parts.desk.count(None) == 0


def test_where_nothing_keeps_files_none_are_asked_for(serve: Serve, sign_in: SignIn) -> None:
    service = with_console(serve(limits=LIMITS, uploads=False))
    browser = sign_in(service=service)
    page = read(browser.page("/submit"))
    assert page.by_id("file") is None
    assert page.by_id("no-files") is not None
    assert browser.submit(file=("f.mp4", b"x")).status_code == 501
    assert browser.submit(url="https://media.example/a.mp4").status_code == 303


def test_who_may_not_read_stays_at_the_form(service: Service, sign_in: SignIn) -> None:
    browser = sign_in("acme", "scan")
    answer = browser.submit(url="https://media.example/a.mp4")
    assert answer.headers["location"] == "/console/submit?done=submitted"
    assert "Taken in" in browser.page("/submit?done=submitted")
