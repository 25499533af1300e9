"""A scan's page over HTTP: who may see it, what it embeds, and that a browser is told to trust nothing of it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.worker.api.conftest import Service, Shelf, scan_one
from tests.worker.pages.reports import report
from tests.worker.queue.fake_scanner import FakeScanner
from tests.worker.queue.fake_streams import slices
from worker.api.pages import MOST_PICTURE_BYTES, kept_picture
from worker.artifacts import open_store
from worker.pages import words
from worker.queue.fetching import Artifacts
from worker.queue.perform import Performer
from worker.queue.record import Claim
from worker.report import FrameItem, Report

JPEG = b"\xff\xd8 a picture"


@dataclass(frozen=True)
class Seen:
    """What a scanner found: a fake with a crop, a map and a frame."""

    report: Report = field(default_factory=report)
    frames: tuple[FrameItem, ...] = ()

    @property
    def crops(self) -> dict[str, bytes]:
        one = self.report.tracks[0].evidence[0]
        return {str(name): JPEG + str(name).encode() for name in (one.crop, one.explanation, one.frame)}


class Finder(FakeScanner):
    def scan(self, path: Path, **_: Any) -> Any:
        return Seen()


def scan_retained(service: Service, scan_id: str) -> None:
    """By a worker that keeps pictures for an hour."""
    records = service.parts.desk.records
    claim = records.claim(scan_id, "w1")
    assert isinstance(claim, Claim)
    keeper = Artifacts(store=service.parts.artifacts, keep_s=3600)
    with tempfile.TemporaryDirectory() as folder:
        Performer(
            records=records,
            brisk=records,
            scanner=Finder(),
            sources=Shelf(),
            keeper=keeper,
            watches=slices(records, keeper),
            folder=Path(folder),
        ).perform(claim)


def page(service: Service, scan_id: str, *, owner: str = "acme") -> Any:
    return service.client.get(f"/v1/scans/{scan_id}/page", headers=service.as_(owner))


def pictures(html: str) -> list[bytes]:
    return [base64.b64decode(data) for data in re.findall(r'"data:image/jpeg;base64,([^"]+)"', html)]


def test_a_waiting_scan_has_a_page_that_says_so(service: Service) -> None:
    answer = page(service, service.submit())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "Waiting" in answer.text
    assert "The scan has not begun yet." in answer.text


def test_only_its_owner_with_the_scope_may_see_it(service: Service) -> None:
    scan_id = service.submit()
    assert page(service, scan_id, owner="other").status_code == 404
    path = f"/v1/scans/{scan_id}/page"
    assert service.client.get(path).status_code == 401
    assert service.client.get(path, headers=service.as_("acme", "scan")).status_code == 403
    assert service.client.get(path, headers=service.as_("acme", "read")).status_code == 200
    assert page(service, "0" * 32).status_code == 404


def test_retained_pictures_are_in_the_page_and_gone_ones_are_named_so(service: Service) -> None:
    scan_id = service.submit()
    scan_retained(service, scan_id)
    one = report().tracks[0].evidence[0]
    expected = {name: JPEG + str(name).encode() for name in (one.frame, one.crop, one.explanation)}
    html = page(service, scan_id).text
    assert sorted(pictures(html)) == sorted(expected.values())
    assert "not retained" not in html
    for name in expected:
        service.parts.artifacts.delete(f"scans/{scan_id}/{name}")
    html = page(service, scan_id).text
    assert pictures(html) == []
    assert html.count("not retained</div>") == 3


def test_without_retention_the_page_has_the_numbers_alone(service: Service) -> None:
    scan_id = service.submit()
    scan_one(service, scan_id, Finder())
    html = page(service, scan_id).text
    assert "0.900" in html
    assert pictures(html) == []
    assert "not retained" in html


def test_a_persons_decision_is_shown_as_one(service: Service) -> None:
    scan_id = service.submit()
    scan_one(service, scan_id, Finder())
    service.client.post(f"/v1/scans/{scan_id}/feedback", json={"label": "real"}, headers=service.as_())
    html = page(service, scan_id).text
    assert f"<strong>{words.HUMAN}</strong> The model said: ▲ Fake.</p>" in html
    assert '<h1><span aria-hidden="true">●</span> Real</h1>' in html


def test_a_page_reads_its_scan_once(service: Service) -> None:
    scan_id = service.submit()
    scan_one(service, scan_id, Finder())
    service.client.post(f"/v1/scans/{scan_id}/feedback", json={"label": "real"}, headers=service.as_())
    redis = service.parts.desk.records.redis
    with redis.monitor() as monitor:
        page(service, scan_id)
        redis.echo("over")
        asked = list(itertools.takewhile(lambda one: one != "ECHO over", (one["command"] for one in monitor.listen())))
    assert asked.count(f"HGETALL vf:scan:{scan_id}") == 1


def test_an_address_cannot_write_into_the_page(service: Service) -> None:
    scan_id = service.submit(
        source={"url": 'https://media.example/"><script>alert(1)</script>\u202e.mp4'}, external_id="<img src=x>"
    )
    html = page(service, scan_id).text
    assert "<script" not in html
    assert "<img" not in html
    assert "\u202e" not in html


def test_the_browser_is_told_to_run_and_to_fetch_nothing(service: Service) -> None:
    answer = page(service, service.submit())
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("name", ["../other/crop.jpg", "frames.jsonl/x.jpg", "", "A.jpg", "crop.svg"])
def test_names_that_are_none_of_ours_are_not_looked_for(name: str) -> None:
    assert kept_picture(open_store(None), "0" * 32, name) is None


def test_pictures_that_are_too_large_are_left_out(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put(f"scans/{'0' * 32}/crop.jpg", JPEG, expires_at=4e9)
    assert kept_picture(store, "0" * 32, "crop.jpg") == JPEG
    store.put(f"scans/{'0' * 32}/crop.jpg", bytes(MOST_PICTURE_BYTES + 1), expires_at=4e9)
    assert kept_picture(store, "0" * 32, "crop.jpg") is None
