"""Through a real worker: the line is cut in the middle of a download, and mended."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from redis import Redis

from tests.worker.queue.harness import Service, service, until
from tests.worker.source.line import line_to
from tests.worker.source.loopback import Loopback, ranged, serve
from worker.queue.embedded import EmbeddedRedis
from worker.queue.requests import RequestSource, ScanRequest

BODY = os.urandom(200_000).hex().encode()
"""One word, which says nothing to the scanner of these tests."""


@pytest.fixture
def queue(redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path) -> Iterator[Service]:
    with service(redis_server.url, redis, tmp_path) as made:
        made.start()
        yield made


class HalfAtFirst:
    """A file server whose first answer waits in its middle until it may go on."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self._rest = ranged(BODY)

    def __call__(self, request: BaseHTTPRequestHandler, served: Loopback) -> None:
        if len(served.requests) > 1:
            self._rest(request, served)
            return
        request.send_response(200)
        request.send_header("Content-Length", str(len(BODY)))
        request.send_header("ETag", '"one"')
        request.end_headers()
        request.wfile.write(BODY[: len(BODY) // 2])
        self.may_go_on.wait(60)
        request.wfile.write(BODY[len(BODY) // 2 :])


def cut_in_the_middle(queue: Service, outage_s: float) -> None:
    """It goes on where it was, with the same bytes, in the same attempt, and there is one report."""
    answer = HalfAtFirst()
    with serve(answer) as server, line_to(server.port) as line:
        source = RequestSource(url=line.url("/clip.mp4?token=SECRET"))
        scan_id = queue.desk.submit_one(ScanRequest(source=source, callback_url="https://receiver.example/"), "acme").id
        until(lambda: line.brought > len(BODY) // 2, what="the first half")
        line.cut()
        before = line.refused
        answer.may_go_on.set()
        time.sleep(outage_s)
        until(lambda: line.refused > before, what="somebody who tries")
        assert not queue.record(scan_id).is_final
        line.mend()
        record = queue.ended(scan_id)
    assert (record.state, record.attempt) == ("completed", 1)
    assert record.sha256 == hashlib.sha256(BODY).hexdigest()
    (_, first), (_, second) = server.requests
    assert "range" not in first
    assert second["range"].startswith("bytes=")
    assert 0 < int(second["range"][6:-1]) <= len(BODY) // 2
    assert second["if-range"] == '"one"'
    assert queue.desk.report(scan_id, "acme").id == scan_id
    assert queue.redis.keys(f"*evt_{scan_id}*") == [f"vf:callback:evt_{scan_id}".encode()], "told once"
    left = [path.name for folder in queue.media.parent.joinpath("scratch").iterdir() for path in folder.glob("scan-*")]
    assert left == [], "what was fetched is deleted"


def test_a_download_whose_line_is_cut_goes_on_where_it_was(queue: Service) -> None:
    cut_in_the_middle(queue, outage_s=0.2)


@pytest.mark.soak
def test_a_download_whose_line_is_cut_for_20_seconds_goes_on_where_it_was(queue: Service) -> None:
    cut_in_the_middle(queue, outage_s=20)
