"""The bytes that were scanned, over HTTP: whole, in ranges, and only for whom the scan is there."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.worker.api.conftest import Service, fields_of, scan_one
from tests.worker.queue.fake_scanner import FakeScanner, Output
from worker.api.media import range_of
from worker.api.problems import HttpError
from worker.queue.media import media_key
from worker.report import Media
from worker.types import MediaKind

PATH = "/clips/a.mp4.html"
BYTES = PATH.encode()
"""What the shelf of these tests gives for an address: its path."""
SHA256 = hashlib.sha256(BYTES).hexdigest()
TAG = f'"{SHA256}"'


class Probes(FakeScanner):
    """Finds a WebM, whatever the address says."""

    def scan(self, path: Path, **more: Any) -> Output:
        output = super().scan(path, **more)
        facts: dict[str, Any] = {"duration_s": 1, "fps": 25, "width": 8, "height": 8, "decoder": "fake"}
        media = Media(sha256=SHA256, kind=MediaKind.VIDEO, codec="vp9", container="matroska,webm", **facts)
        return replace(output, report=output.report.model_copy(update={"media": media}))


def kept(service: Service) -> str:
    scan_id = service.submit(url=f"https://media.example{PATH}")
    scan_one(service, scan_id, Probes())
    service.parts.artifacts.put(media_key(SHA256), BYTES, expires_at=time.time() + 3600)
    return scan_id


def ask(service: Service, scan_id: str, owner: str = "acme", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return service.client.get(f"/v1/scans/{scan_id}/media", headers=service.as_(owner) | named)


def test_all_of_it_comes_as_what_it_was_found_to_be(service: Service) -> None:
    scan_id = kept(service)
    answer = ask(service, scan_id)
    assert (answer.status_code, answer.content) == (200, BYTES)
    found = {name: answer.headers[name] for name in ("content-type", "content-length", "etag", "accept-ranges")}
    assert found == {"content-type": "video/webm", "content-length": str(len(BYTES)), "etag": TAG, "accept-ranges": "bytes"}
    assert answer.headers["content-disposition"] == f'attachment; filename="{scan_id}.webm"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox;")
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [("bytes=0-3", 0, 4), ("bytes=5-", 5, 17), ("bytes=-4", 13, 17), ("bytes=10-9999", 10, 17), ("bytes=-9999", 0, 17)],
)
def test_a_range_comes_alone(service: Service, wanted: str, start: int, stop: int) -> None:
    answer = ask(service, kept(service), Range=wanted)
    assert (answer.status_code, answer.content) == (206, BYTES[start:stop])
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/17"
    assert answer.headers["content-length"] == str(stop - start)


@pytest.mark.parametrize("wanted", ["bytes=0-1,4-5", "frames=0-1", "bytes=x-1", "bytes=-", "bytes=4-2"])
def test_what_is_no_range_of_ours_gives_all(service: Service, wanted: str) -> None:
    answer = ask(service, kept(service), Range=wanted)
    assert (answer.status_code, answer.content) == (200, BYTES)


def test_a_range_that_is_not_there(service: Service) -> None:
    answer = ask(service, kept(service), Range="bytes=17-")
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */17")
    assert fields_of(answer)["code"] == "range_not_satisfiable"
    for wanted, size in (("bytes=-0", 17), ("bytes=0-", 0), ("bytes=99-100", 17)):
        with pytest.raises(HttpError):
            range_of(wanted, size)


def test_a_range_of_another_version_gives_all_of_this_one(service: Service) -> None:
    scan_id = kept(service)
    assert ask(service, scan_id, Range="bytes=0-3", If_Range=TAG).status_code == 206
    for other in ('"ab"', f"W/{TAG}", "Sat, 28 Nov 2026 00:00:00 GMT"):
        assert ask(service, scan_id, Range="bytes=0-3", If_Range=other).status_code == 200


def test_who_has_it_gets_no_bytes(service: Service) -> None:
    scan_id = kept(service)
    for have in (TAG, f'"ab", {TAG}', f"W/{TAG}", "*"):
        answer = ask(service, scan_id, If_None_Match=have)
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", TAG)
    assert ask(service, scan_id, If_None_Match='"ab"').status_code == 200


def test_another_owners_is_not_there_and_what_is_over_is_not_retained(service: Service) -> None:
    scan_id = kept(service)
    assert fields_of(ask(service, scan_id, "umbrella"))["code"] == "no_such_scan"
    service.parts.artifacts.delete(media_key(SHA256))
    answer = ask(service, scan_id)
    assert (answer.status_code, fields_of(answer)["detail"]) == (404, "not retained")
    waiting = service.submit()
    assert fields_of(ask(service, waiting))["detail"] == "not retained"
    failed = service.submit(url="https://media.example/crash")
    scan_one(service, failed)
    assert fields_of(ask(service, failed))["detail"] == "not retained"
