"""Forms of other sites, of other sessions, and what is no form."""

from __future__ import annotations

from tests.worker.api.conftest import Service
from tests.worker.console.conftest import SignIn

OURS: tuple[dict[str, str], ...] = (
    {},
    {"Origin": "http://testserver"},
    {"Sec-Fetch-Site": "same-origin", "Origin": "https://console.example"},
    {"Sec-Fetch-Site": "none"},
)
STRANGERS: tuple[dict[str, str], ...] = (
    {"Origin": "http://evil.example"},
    {"Origin": "http://testserver.evil.example"},
    {"Origin": "null"},
    {"Origin": "http://["},
    {"Origin": ""},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://testserver"},
)


def test_only_our_own_pages_send_forms(service: Service, sign_in: SignIn) -> None:
    browser = sign_in()
    for headers in OURS + STRANGERS:
        scan_id, is_ours = service.submit(), headers in OURS
        answer = browser.post(f"/scans/{scan_id}/cancel", headers=headers)
        assert answer.status_code == (303 if is_ours else 403), headers
        assert service.parts.desk.record(scan_id, None).state == ("cancelled" if is_ours else "queued")
        assert ("another site" in answer.text) == (not is_ours)


def test_a_sign_in_form_of_another_site_is_refused(service: Service, sign_in: SignIn) -> None:
    """Nobody is to be signed in as somebody else."""
    browser = sign_in()
    answer = browser.client.post(
        "/console/sign-in", data={"key": service.token("umbrella")}, headers={"Origin": "http://evil.example"}
    )
    assert answer.status_code == 403
    assert "umbrella" not in browser.page()


def test_the_token_of_another_session_is_refused(service: Service, sign_in: SignIn) -> None:
    scan_id, mine, again = service.submit(), sign_in(), sign_in()
    assert mine.token != again.token
    for token in (again.token, "", "é", "0" * 64, mine.token[:-1]):
        assert mine.post(f"/scans/{scan_id}/cancel", token=token).status_code == 403
    assert service.parts.desk.record(scan_id, None).state == "queued"


def test_what_is_no_form_is_refused(sign_in: SignIn) -> None:
    browser = sign_in()
    for kind, body, status in (
        ("application/json", b"{}", 415),
        ("text/plain", b"token=x", 415),
        ("application/x-www-form-urlencoded", b"\xff=\xfe", 422),
        ("application/x-www-form-urlencoded", b"a=%ff", 422),
        ("application/x-www-form-urlencoded", b"a=1&" * 400, 422),
    ):
        answer = browser.client.post("/console/dead/scans", content=body, headers={"Content-Type": kind})
        assert answer.status_code == status, body
        assert answer.headers["content-type"].startswith("text/html")
