"""``veriframe enqueue`` of a hundred addresses, a third of them bad in many ways: each ends with the right code."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from typer.testing import CliRunner

from tests.worker.queue.harness import Service, service
from tests.worker.source.loopback import Answer, Loopback, by_path, raw, reply, serve
from worker.cli import app
from worker.queue.embedded import EmbeddedRedis
from worker.report import Report

HEAD = b"HTTP/1.1 200 OK\r\n"
PLAYLIST = b"#EXTM3U\n#EXTINF:4,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
BAD: dict[str, tuple[Answer, str]] = {
    "gone": (reply(b"", 404), "fetch_gone"),
    "forbidden": (reply(b"", 403), "fetch_auth"),
    "elsewhere": (reply(b"", 451), "fetch_geo"),
    "busy": (reply(b"", 429), "fetch_rate_limited"),
    "ill": (reply(b"", 500), "fetch_timeout"),
    "cut": (raw(HEAD + b"Content-Length: 100\r\n\r\nok"), "fetch_timeout"),
    "silent": (raw(HEAD + b"\r\nok", b"", every_s=60), "fetch_timeout"),
    "endless": (raw(HEAD + b"\r\n", b"o" * 65536, forever=True), "too_large"),
    "bomb": (reply(gzip.compress(b"\0" * (4 << 20)), Content_Encoding="gzip"), "too_large"),
    "nothing": (reply(b""), "empty"),
    "round": (reply(b"", 302, Location="/round"), "fetch_refused"),
    "inside": (reply(b"", 302, Location="http://169.254.169.254/"), "fetch_refused"),
    "page": (reply(b"<!doctype html>", Content_Type="video/mp4"), "unsupported"),
    "playlist": (reply(PLAYLIST), "fetch_refused"),
    "odd": (reply(b"x", Content_Encoding="br"), "fetch_refused"),
}
GOOD, BAD_ONES = 67, 33


@pytest.fixture
def web() -> Iterator[Loopback]:
    def good(request: object, served: Loopback) -> None:
        reply(f"ok {len(served.requests)}".encode())(request, served)  # type: ignore[arg-type]  # no two are the same bytes

    with serve(by_path(good=good, **{name: answer for name, (answer, _) in BAD.items()})) as served:
        yield served


@pytest.fixture
def queue(redis_server: EmbeddedRedis, redis: Redis, tmp_path: Path) -> Iterator[Service]:
    with service(redis_server.url, redis, tmp_path, max_attempts=1) as made:
        quick = {"max_bytes": 1 << 20, "stall_s": 1.0, "retries": 0, "patience_s": 0.0}
        made.settings = made.settings.model_copy(update={"source": made.settings.source.model_copy(update=quick)})
        yield made


def test_a_hundred_addresses_end_with_the_right_codes(
    web: Loopback, queue: Service, redis_server: EmbeddedRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [*(["good"] * GOOD), *(list(BAD)[i % len(BAD)] for i in range(BAD_ONES))]
    urls = {web.url(f"/{name}?number={i}"): name for i, name in enumerate(names)}
    queue.start()
    monkeypatch.setenv("VERIFRAME_REDIS__URL", redis_server.url)
    result = CliRunner().invoke(app, ["enqueue", *urls, "--wait", "--format", "jsonl", "--quiet"])
    assert result.exit_code == 3, result.output
    reports = [Report.model_validate(json.loads(line)) for line in result.stdout.splitlines() if line.startswith("{")]
    assert len({report.id for report in reports}) == len(urls) == GOOD + BAD_ONES
    for report in reports:
        name = urls[report.source.url or ""]
        assert (report.error.code if report.error else "scanned") == (BAD[name][1] if name in BAD else "scanned"), name
    assert Counter(report.status for report in reports) == {"completed": GOOD, "failed": BAD_ONES}
    scratch = queue.settings.source.temp_dir
    assert scratch is not None
    assert [path for folder in scratch.iterdir() for path in folder.iterdir()] == [], "nothing that was fetched is left"
