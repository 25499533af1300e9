"""The list and the page of a scan: what is shown, to whom, and that nothing in it is markup."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.worker.api.conftest import Service
from tests.worker.console.conftest import SignIn, read
from tests.worker.console.reports import completed, with_faces
from tests.worker.queue import scans
from worker.errors import NoSuchScan
from worker.queue.fetching import artifact_key
from worker.queue.media import media_key
from worker.types import MediaKind

HOSTILE = '"><script>alert(1)</script>\u202e</td>'


def listed(html: str) -> list[str]:
    return [row["data-scan"] or "" for row in read(html).all("tr") if "data-scan" in row]


def newest_first(service: Service, ids: list[str]) -> list[str]:
    """Scans of the same millisecond come by their ids."""
    records = service.parts.desk.records.get_many(ids)
    return [record.id for record in sorted(records, key=lambda record: (record.created_ms, record.id), reverse=True)]


def test_the_list_is_the_owners_newest_first(service: Service, sign_in: SignIn) -> None:
    mine = [service.submit("acme", external_id=f"post {n}") for n in range(3)]
    theirs = service.submit("umbrella")
    assert listed(sign_in().page("/scans")) == newest_first(service, mine)
    assert listed(sign_in("ops", "admin").page("/scans")) == newest_first(service, [*mine, theirs])
    assert "umbrella" in sign_in("ops", "admin").page("/scans")


def test_filters_and_what_their_form_says(service: Service, sign_in: SignIn) -> None:
    desk = service.parts.desk
    fake, real, waiting, dead = (service.submit(external_id=name) for name in ("a", "b", "c d", "e"))
    scans.complete(desk.records, fake, "aa" * 32, "fake")
    scans.complete(desk.records, real, "bb" * 32, "real")
    for _ in range(desk.records.terms.max_attempts):
        service.parts.desk.records.redis.zadd("vf:waiting", {dead: 0})
        service.parts.desk.records.redis.hset(f"vf:scan:{dead}", "not_before_ms", 0)
        scans.fail(desk.records, dead, dead=True)
    browser = sign_in()
    found = {
        "verdict=fake": [fake],
        "verdict=&status=queued&external_id=": [waiting],
        "external_id=c+d": [waiting],
        "dead=true": [dead],
        "status=completed": [real, fake],
        "status=completed&verdict=uncertain": [],
        "before=2099-12-31": [dead, waiting, real, fake],
        "before=2020-02-29": [],
        "before=2026-02-31": [dead, waiting, real, fake],
    }
    for query, wanted in found.items():
        assert set(listed(browser.page(f"/scans?{query}"))) == set(wanted), query
    page = read(browser.page("/scans?external_id=c+d&dead=true&status=queued"))
    field, box = page.by_id("external_id"), page.by_id("dead")
    assert field is not None
    assert box is not None
    assert (field["value"], "checked" in box) == ("c d", True)
    assert [option["value"] for option in page.all("option") if "selected" in option] == ["queued"]
    for query in ("status=done", "verdict=maybe", "before=yesterday", "cursor=1", "dead=yes", "external_id=" + "x" * 300):
        assert browser.get(f"/scans?{query}").status_code == 422, query


def test_pages_go_on_where_they_ended(service: Service, sign_in: SignIn) -> None:
    made = [scans.submit(service.parts.desk, f"https://media.example/{n}.mp4") for n in range(53)]
    browser = sign_in()
    first = browser.page("/scans?status=queued")
    older = read(first).by_id("older")
    assert older is not None
    query = parse_qs(urlsplit(older["href"] or "").query)
    assert query["status"] == ["queued"]
    second = browser.page((older["href"] or "").removeprefix("/console"))
    assert listed(first) + listed(second) == newest_first(service, made)
    assert read(second).by_id("older") is None
    newest = read(second).by_id("newest")
    assert newest is not None
    assert newest["href"] == "/console/scans?status=queued"


def test_the_page_of_a_scan_says_what_is_known(service: Service, sign_in: SignIn) -> None:
    scan_id = service.submit(external_id="post 7", url="https://media.example/a.mp4?token=hush#part")
    completed(service.parts.desk.records, scan_id, with_faces(scan_id))
    page = read(sign_in().page(f"/scans/{scan_id}"))
    assert page.verdict() == ("fake", "model")
    for words in (
        "Fake",
        "post 7",
        "https://media.example/a.mp4?…",
        "Track 1: score 0.90",
        "0:01.50",
        "8.0 s",
        "the longest gap is 0.5 s",
    ):
        assert words in page.text, words
    assert "hush" not in page.text
    assert page.by_id("not-retained") is not None
    assert page.by_id("video") is None
    assert not [link for link in page.all("a") if "media.example" in (link["href"] or "")]
    assert any(tag == "svg" and attributes.get("data-end-ms") == "8000" for tag, attributes in page.tags)


def test_a_score_close_to_a_threshold_has_the_digits_that_tell_them_apart(service: Service, sign_in: SignIn) -> None:
    scan_id = service.submit()
    completed(service.parts.desk.records, scan_id, with_faces(scan_id, score=0.69996))
    assert "0.69996 (real below 0.40000, fake above 0.70000)" in read(sign_in().page(f"/scans/{scan_id}")).text


def test_a_score_that_is_less_than_one_is_not_said_to_be_one(service: Service, sign_in: SignIn) -> None:
    scan_id = service.submit()
    completed(service.parts.desk.records, scan_id, with_faces(scan_id, score=0.9996))
    browser = sign_in()
    assert ">0.99" in browser.page("/scans").replace("&gt;", ">")
    text = read(browser.page(f"/scans/{scan_id}")).text
    assert all(said in text for said in ("Track 1: score over 0.99", ">0.999 (real below 0.400"))


def test_of_frames_that_the_report_does_not_list_the_page_says_how_many_there_are(service: Service, sign_in: SignIn) -> None:
    scan_id = service.submit()
    found = with_faces(scan_id)
    assert found.sampling is not None
    many = found.model_copy(update={"sampling": found.sampling.model_copy(update={"decoded": 300})})
    completed(service.parts.desk.records, scan_id, many)
    assert "16 of 300 frames that were looked at" in read(sign_in().page(f"/scans/{scan_id}")).text


def test_that_only_a_part_was_scanned_is_said_in_the_list_and_on_the_page(service: Service, sign_in: SignIn) -> None:
    scan_id, whole = service.submit(), service.submit()
    report = with_faces(scan_id)
    assert report.sampling is not None
    assert report.media is not None
    part = report.sampling.model_copy(update={"start_s": 3.1, "end_s": 5.9, "undecodable_s": 0.7, "crowded": True})
    media = report.media.model_copy(update={"more_videos": 1})
    completed(service.parts.desk.records, scan_id, report.model_copy(update={"sampling": part, "media": media}))
    completed(service.parts.desk.records, whole, with_faces(whole))
    browser = sign_in()
    badges = ("part only", "one video stream of several", "partly undecodable", "largest faces only")
    assert [read(browser.page("/scans")).text.count(said) for said in badges] == [1, 1, 1, 1]
    page = read(browser.page(f"/scans/{scan_id}")).text
    assert "Only 0:03.1 to 0:05.9 of 0:08.0 was scanned. The file holds 1 more video stream; only one was scanned." in page
    assert "About 0.7 s of 2.8 s could not be decoded" in page
    assert "Only the largest faces of a crowd were looked at" in page
    assert "was scanned." not in read(browser.page(f"/scans/{whole}")).text


def test_that_a_score_is_not_calibrated_is_said_in_the_list(service: Service, sign_in: SignIn) -> None:
    calibrated, other = service.submit(), service.submit()
    completed(service.parts.desk.records, calibrated, with_faces(calibrated))
    assert "not calibrated" not in read(sign_in().page("/scans")).text
    completed(service.parts.desk.records, other, with_faces(other).model_copy(update={"calibrated": False}))
    assert read(sign_in().page("/scans")).text.count("not calibrated") == 1


def test_evidence_of_a_picture_has_no_time(service: Service, sign_in: SignIn) -> None:
    scan_id = service.submit()
    found = with_faces(scan_id, crop="t1-0.jpg")
    assert found.media is not None
    shown = found.model_copy(update={"media": found.media.model_copy(update={"kind": MediaKind.PICTURE})})
    completed(service.parts.desk.records, scan_id, shown)
    page = sign_in().page(f"/scans/{scan_id}")
    assert "Face of track 1" in page
    assert not re.search(r"Face of track 1 at|<figcaption>0:", page)


def test_kept_media_are_shown_and_seek_without_scripts(service: Service, sign_in: SignIn) -> None:
    scan_id = service.submit()
    completed(service.parts.desk.records, scan_id, with_faces(scan_id, crop="t1-0.jpg"))
    until = datetime.now(UTC).timestamp() + 1000
    service.parts.artifacts.put(artifact_key(scan_id, "t1-0.jpg"), b"a crop", expires_at=until)
    service.parts.artifacts.put(media_key("ab" * 32), b"0123456789", expires_at=until)
    browser = sign_in("acme", "read")
    page = read(browser.page(f"/scans/{scan_id}"))
    video = page.by_id("video")
    assert video is not None
    assert video["src"] == f"/console/scans/{scan_id}/media"
    times = [link for link in page.all("a") if link.get("class") == "t"]
    assert (times[0]["href"], times[0]["data-t-ms"]) == ("?t=1.00#footage", "1000")
    moved = read(browser.page(f"/scans/{scan_id}?t=1.00")).by_id("video")
    assert moved is not None
    assert (moved["src"] or "").endswith("/media#t=1.0")
    found = with_faces(scan_id, crop="t1-0.jpg")
    assert found.media is not None
    late = found.model_copy(update={"media": found.media.model_copy(update={"starts_s": 4.021})})
    other = service.submit()
    completed(service.parts.desk.records, other, late.model_copy(update={"id": other}))
    moved = read(browser.page(f"/scans/{other}?t=1.00")).by_id("video")
    assert moved is not None
    assert (moved["src"] or "").endswith("/media#t=5.021"), "a player's time begins with the sound"
    assert moved["data-starts-s"] == "4.021"
    assert 'src="javascript' not in browser.page(f"/scans/{scan_id}?t=javascript:alert(1)")
    printed = browser.get(f"/scans/{scan_id}/page")
    assert "data:image/jpeg" not in printed.text, "a crop that is no picture is not shown"
    assert "sha256-" in printed.headers["content-security-policy"]
    part = browser.get(f"/scans/{scan_id}/media", headers={"Range": "bytes=2-4"})
    assert (part.status_code, part.content, part.headers["content-type"]) == (206, b"234", "video/mp4")
    (crop,) = page.all("img")
    assert crop["src"] == f"/console/scans/{scan_id}/crops/t1-0.jpg"
    image = browser.client.get(crop["src"] or "")
    assert (image.content, image.headers["content-type"]) == (b"a crop", "image/jpeg")
    assert browser.get(f"/scans/{scan_id}/crops/other.jpg").status_code == 404
    assert browser.get(f"/scans/{scan_id}/crops/..%2f..%2fx.jpg").status_code == 404


def test_pictures_that_are_not_retained_any_more_are_said_to_be_gone(service: Service, sign_in: SignIn, tmp_path: Path) -> None:
    scan_id = service.submit()
    completed(service.parts.desk.records, scan_id, with_faces(scan_id, crop="t1-0.jpg"))
    page = read(sign_in().page(f"/scans/{scan_id}"))
    assert (page.all("img"), "Face of track 1 at 0:01.50: not retained" in page.text) == ([], True)
    (tmp_path / "artifacts").rmdir()  # the store is away: nobody knows
    assert len(read(sign_in().page(f"/scans/{scan_id}")).all("img")) == 1


def test_nothing_that_others_wrote_is_markup(service: Service, sign_in: SignIn) -> None:
    url = "https://media.example/<script>alert(1)</script>/'\"onerror=alert(2)?<b>#x"
    scan_id = service.submit(url=url, external_id=HOSTILE.replace("\u202e", "") + "\u202e")
    completed(service.parts.desk.records, scan_id, with_faces(scan_id))
    browser = sign_in()
    note = HOSTILE + "\n<img src=x onerror=alert(3)>"
    assert browser.post(f"/scans/{scan_id}/decision", label="real", category="satire", note=note).status_code == 303
    plain = read(browser.page("/submit"))
    for path in ("/", "/scans", f"/scans?external_id={HOSTILE}", f"/scans/{scan_id}", f"/scans/{scan_id}?done={HOSTILE}"):
        html = browser.page(path)
        page = read(html)
        assert len(page.all("script")) == len(plain.all("script")), path
        assert not [one for one in page.all("img") if "onerror" in one], path
        assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")], path
        assert not [True for _, attributes in page.tags if "style" in attributes], path
        assert ("\u202e" in html) == (path == f"/scans?external_id={HOSTILE}"), "but for what one searches for oneself"
    text = read(browser.page(f"/scans/{scan_id}")).text
    assert "<img src=x onerror=alert(3)>" in text
    assert "\\u202e" in text


def test_another_owners_scan_does_not_exist(service: Service, sign_in: SignIn) -> None:
    scan_id = service.submit("umbrella")
    completed(service.parts.desk.records, scan_id, with_faces(scan_id))
    browser = sign_in()
    for path in ("", "/media", "/page", "/report.json", "/crops/t1-0.jpg", "/live"):
        answer = browser.get(f"/scans/{scan_id}{path}")
        assert (answer.status_code, "umbrella" in answer.text) == (404, False), path
    for action in ("decision", "cancel", "retry"):
        assert browser.post(f"/scans/{scan_id}/{action}", label="real").status_code == 404, action
    assert service.parts.desk.report(scan_id, None).decided_by == "model"
    with pytest.raises(NoSuchScan):
        service.parts.desk.report(scan_id, "acme")


def test_a_scan_under_way_and_one_that_failed(service: Service, sign_in: SignIn) -> None:
    going, failed = service.submit(), service.submit()
    claim = scans.claim(service.parts.desk.records, going)
    service.parts.desk.records.enter(claim, "infer", 0.4)
    scans.fail(service.parts.desk.records, failed)
    browser = sign_in()
    page = read(browser.page(f"/scans/{going}"))
    live = page.by_id("live")
    assert live is not None
    assert live["data-live"] == f"/console/scans/{going}/live"
    assert "Judging faces" in page.text
    assert "40 %" in page.text
    assert page.by_id("cancel") is not None
    assert page.by_id("decision") is None
    page = read(browser.page(f"/scans/{failed}"))
    assert "The file is damaged" in page.text
    assert (page.by_id("live"), page.by_id("cancel")) == (None, None)
    assert page.by_id("retry") is not None


def test_events_of_a_watch(service: Service, sign_in: SignIn) -> None:
    scan_id = scans.watched(service.parts.desk, 30)
    page = read(sign_in().page(f"/scans/{scan_id}"))
    assert page.text.count("A new face") == 20
    assert "Stop watching" in page.text


def test_what_another_version_has_stored_is_said_so(service: Service, sign_in: SignIn) -> None:
    scan_id = service.submit()
    scans.complete(service.parts.desk.records, scan_id)
    service.parts.desk.records.redis.hset(f"vf:scan:{scan_id}", "report", b"of a later one")
    answer = sign_in().get(f"/scans/{scan_id}")
    assert (answer.status_code, "another version" in answer.text) == (409, True)
