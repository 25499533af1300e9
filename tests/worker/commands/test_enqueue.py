"""``veriframe enqueue`` and ``veriframe status`` against a real Redis; workers are played by the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Literal

import pytest

from tests.worker.commands.conftest import Veriframe
from tests.worker.queue.scans import claim, complete, fail, report, submit, watched
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.embedded import EmbeddedRedis
from worker.queue.watch_log import WatchLog
from worker.report import Watch
from worker.types import Label
from worker.watch.events import WatchEvent, WindowResult

URLS = [f"https://example.org/{number}.mp4" for number in range(3)]


def sources(desk: Desk) -> list[str]:
    return sorted(report.source.url or report.source.path or "" for report in desk.each(None))


def lines(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()]


def play_worker(desk: Desk, count: int, verdict: str = "fake") -> threading.Thread:
    """Completes the next ``count`` scans that wait; an error, reported by pytest, where they do not come."""
    bells = Doorbells(desk.records.redis, "vf")

    def next_waiting() -> str:
        for _ in range(30):
            scan_id = bells.hear(("live", "batch", "low"), 1)
            if scan_id is not None and desk.record(scan_id, None).state == "queued":
                return scan_id
        raise AssertionError("no scan came")

    def work() -> None:
        for number in range(count):
            complete(desk.records, next_waiting(), sha256=f"{number:064x}", verdict=verdict)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_addresses_paths_and_folders(veriframe: Veriframe, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "in/b.mp4", "in/c.mp4"):
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    sampling = ("--max-frames", "8", "--fps", "2", "--exhaustive")
    result = veriframe("enqueue", URLS[0], "a.mp4", "in", "/elsewhere/d.mp4", "--priority", "live", *sampling)
    assert result.exit_code == 0, result.output
    assert sources(desk) == sorted([URLS[0], "/elsewhere/d.mp4", *(str(tmp_path / n) for n in ("a.mp4", "in/b.mp4", "in/c.mp4"))])
    records = desk.records.get_many(lines(result.stdout))
    assert len(records) == 5
    assert {record.request.priority for record in records} == {"live"}
    asked = {"max_frames": 8, "fps": 2.0, "strategy": "fps", "exhaustive": True}
    assert [record.request.options.model_dump(exclude_none=True) for record in records] == [asked] * 5
    assert len(Doorbells(desk.records.redis, "vf").queues["live"]) == 5


@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_a_list_on_standard_input(veriframe: Veriframe, desk: Desk, end: str) -> None:
    result = veriframe("enqueue", "-", input=end.join(URLS) + end)
    assert result.exit_code == 0
    assert sources(desk) == URLS
    assert [line.split()[1] for line in result.stdout.splitlines()] == URLS


def test_a_list_in_a_file_may_hold_whole_requests(veriframe: Veriframe, desk: Desk, tmp_path: Path) -> None:
    request = {"source": {"url": URLS[1]}, "external_id": "7", "idempotency_key": "k", "priority": "low"}
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join([URLS[0], json.dumps(request), "", '{"source": 1}', '{"nonsense']))
    result = veriframe("enqueue", "--from", str(listed))
    assert result.exit_code == 3
    assert sources(desk) == URLS[:2]
    (record,) = (r for r in desk.records.get_many(lines(result.stdout)) if r.request.external_id)
    assert (record.request.external_id, record.request.priority) == ("7", "low")
    assert result.stderr.count("veriframe: {") == 2
    again = veriframe("enqueue", "--from", str(listed), "--format", "jsonl")
    rows = [json.loads(line) for line in again.stdout.splitlines()]
    assert {row["created"] for row in rows if row["source"] == URLS[1]} == {False}
    assert [row["error"]["code"] for row in rows if row["error"]] == ["bad_request", "bad_request"]


def test_one_refusal_stops_none_of_the_others(veriframe: Veriframe, desk: Desk) -> None:
    result = veriframe("enqueue", "ftp://example.org/a.mp4", "no such file.mp4", URLS[0], "--format", "json")
    assert result.exit_code == 3
    assert sources(desk) == URLS[:1]
    rows = json.loads(result.stdout)
    assert [row["error"] is None for row in sorted(rows, key=lambda row: str(row["source"]))] == [False, True, False]
    assert "no such file or folder" in result.stderr


def test_what_may_be_secret_in_a_refused_address_is_told_in_the_rows_alone(veriframe: Veriframe, desk: Desk) -> None:
    assert veriframe("enqueue", URLS[0], "--idempotency-key", "k").exit_code == 0
    url = f"{URLS[1]}?token=s3cr3t"
    requests = [json.dumps({"source": {"url": url}, "idempotency_key": "k"} | more) for more in ({}, {"no": 1})]
    listed = ["ftp://me:s3cr3t@example.org/a.mp4?token=s3cr3t#s3cr3t", *requests, "no such?file.mp4"]
    result = veriframe("enqueue", "-", "--format", "jsonl", input="\n".join(listed))
    assert result.exit_code == 3
    assert "s3cr3t" not in result.stderr
    for told in ("ftp://example.org/a.mp4: ", f"{URLS[1]}: the idempotency key", "no such?file.mp4: "):
        assert f"veriframe: {told}" in result.stderr
    refused = [row["source"] for row in map(json.loads, result.stdout.splitlines()) if row["error"]]
    assert sorted(refused) == sorted([listed[0], url, listed[2][:80], listed[3]]), "each is whole"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["-"],
        ["--from", "/no/such/list"],
        [*URLS, "--external-id", "7"],
        [URLS[0], "--owner", "No Such"],
        [URLS[0], "--priority", "urgent"],
    ],
)
def test_usage(veriframe: Veriframe, desk: Desk, arguments: list[str]) -> None:
    assert veriframe("enqueue", *arguments, input="").exit_code == 2
    assert desk.count(None) == 0


def test_the_same_key_is_the_same_scan(veriframe: Veriframe, desk: Desk) -> None:
    command = ("enqueue", URLS[0], "--idempotency-key", "k", "--external-id", "7")
    first, second = veriframe(*command), veriframe(*command)
    assert lines(first.stdout) == lines(second.stdout)
    assert "known already" in second.stdout
    conflict = veriframe("enqueue", URLS[1], "--idempotency-key", "k")
    assert (conflict.exit_code, conflict.stdout) == (3, "")
    assert desk.count(None) == 1


def test_waiting_for_the_results(veriframe: Veriframe, desk: Desk) -> None:
    worker = play_worker(desk, 3)
    result = veriframe("enqueue", "--wait", "--timeout", "20", "--fail-on", "fake", "--format", "jsonl", *URLS)
    worker.join()
    assert result.exit_code == 1, result.output
    assert [json.loads(line)["verdict"] for line in result.stdout.splitlines()] == ["fake"] * 3


@pytest.mark.parametrize("flag", [("--fail-on", "fake"), ("--timeout", "0")])
def test_what_says_how_to_wait_is_refused_without_a_wait(veriframe: Veriframe, desk: Desk, flag: tuple[str, str]) -> None:
    result = veriframe("enqueue", *flag, URLS[0])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "--wait" in result.stderr
    assert desk.count(None) == 0


def test_a_wait_may_be_too_short(veriframe: Veriframe, desk: Desk) -> None:
    result = veriframe("enqueue", "--wait", "--timeout", "0", URLS[0], "--format", "json")
    assert result.exit_code == 3
    assert [report["status"] for report in json.loads(result.stdout)] == ["queued"]
    assert desk.count(None) == 1


def test_a_report_of_another_version_ends_no_list(veriframe: Veriframe, desk: Desk) -> None:
    odd, good = submit(desk), submit(desk)
    for scan_id in (odd, good):
        complete(desk.records, scan_id)
    desk.records.redis.hset(f"vf:scan:{odd}", "report", b"of a later one")
    shown = veriframe("status", odd, good, "--format", "jsonl")
    assert shown.exit_code == 3
    assert [json.loads(line)["id"] for line in shown.stdout.splitlines()] == [good]
    assert odd in shown.stderr
    assert veriframe("jobs", "show", odd).exit_code == 3


def test_status(veriframe: Veriframe, desk: Desk) -> None:
    done, dead, waiting = (submit(desk) for _ in range(3))
    complete(desk.records, done)
    fail(desk.records, dead, dead=True)
    shown = veriframe("status", done, dead, waiting)
    assert shown.exit_code == 0
    assert [line.split()[:2] for line in shown.stdout.splitlines() if line.strip()[:32] in (done, dead, waiting)] == [
        [done, "completed"],
        [dead, "dead"],
        [waiting, "queued"],
    ]
    assert veriframe("status", "-", "--fail-on", "fake", input=f"{done}  {URLS[0]}\n\n").exit_code == 1
    assert veriframe("status", done, "--owner", "zenith").exit_code == 3
    assert veriframe("status", "0" * 32).exit_code == 3
    assert veriframe("status", "x").exit_code == 2
    assert veriframe("status", "--watch", done, dead).exit_code == 3
    worker = play_worker(desk, 1, "real")
    watched = veriframe("status", "--watch", "--timeout", "20", "--format", "jsonl", waiting)
    worker.join()
    assert watched.exit_code == 0
    assert json.loads(watched.stdout)["verdict"] == "real"


def test_streams_are_watched(veriframe: Veriframe, desk: Desk) -> None:
    live = "https://example.org/live.m3u8"
    result = veriframe("enqueue", "--watch", live, "--window", "20", "--hop", "4s", "--max-duration", "1h")
    assert result.exit_code == 0, result.output
    (record,) = desk.records.get_many(lines(result.stdout))
    options = {"window_s": 20.0, "hop_s": 4.0, "max_duration_s": 3600.0}
    assert (record.request.kind, record.request.options.model_dump(exclude_none=True)) == ("watch", options)
    assert len(Doorbells(desk.records.redis, "vf").queues["watch"]) == 1
    assert veriframe("enqueue", "--watch", live, "--max-frames", "3").exit_code == 3
    assert veriframe("enqueue", live, "--hop", "3").exit_code == 3


def test_events_of_watches(veriframe: Veriframe, desk: Desk) -> None:
    scan_id, scan = watched(desk, 3), submit(desk)
    rows = [json.loads(line) for line in veriframe("status", "--events", scan_id).stdout.splitlines()]
    assert [(row["scan"], row["number"], row["kind"]) for row in rows] == [(scan_id, n, "track_seen") for n in range(3)]
    assert len(veriframe("status", "--events", "--after", "1", scan_id).stdout.splitlines()) == 1
    other = veriframe("status", "--events", scan, scan_id)
    assert (other.exit_code, len(other.stdout.splitlines())) == (3, 3)
    assert "no watch" in other.stderr
    assert veriframe("status", "--events", "--watch", "--timeout", "0", scan_id).exit_code == 3
    complete(desk.records, scan_id)
    followed = veriframe("status", "--events", "--watch", scan_id)
    assert (followed.exit_code, len(followed.stdout.splitlines())) == (0, 3)


@pytest.mark.parametrize(("ending", "code"), [("lost", 3), ("ended", 0), ("max_duration", 0), ("stopped", 0)])
def test_a_stream_that_is_lost_is_told_as_veriframe_watch_does(
    veriframe: Veriframe, desk: Desk, ending: Literal["lost", "ended", "max_duration", "stopped"], code: int
) -> None:
    asked = ("enqueue", "--watch", "https://example.org/live.m3u8", "--idempotency-key", "k")
    (scan_id,) = lines(veriframe(*asked).stdout)
    claimed = claim(desk.records, scan_id)
    end = WatchEvent(kind="stream_ended", number=0, window=0, t_ms=0, detail={"ending": ending})
    window = WindowResult(number=0, start_ms=0, end_ms=1, verdict=Label.FAKE, frames=1, with_face=1, is_last=True)
    WatchLog(desk.records.redis, "vf").store(claimed, desk.record(scan_id, None), window, [end], {}, 1.0)
    seen = Watch(window_s=10, hop_s=5, windows=1, fake_windows=0, ending=ending, missed_ms={})
    desk.records.finish(claimed, report(scan_id).model_copy(update={"kind": "watch", "watch": seen}))
    waited = veriframe(*asked, "--wait", "--fail-on", "real")
    assert (waited.exit_code, "1 lost its stream" in waited.stderr) == (code, ending == "lost")
    assert veriframe("status", "--watch", scan_id).exit_code == code
    for after in ("-1", "0", "7"):
        assert veriframe("status", "--events", "--watch", "--after", after, scan_id).exit_code == code
    assert veriframe("status", scan_id).exit_code == 0


def test_a_redis_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch, veriframe: Veriframe) -> None:
    monkeypatch.setenv("VERIFRAME_REDIS__PATIENCE_S", "0.1")
    for command in (["enqueue", URLS[0]], ["status", "0" * 32], ["jobs", "list"]):
        result = veriframe(*command, url="redis://127.0.0.1:1/0")
        assert result.exit_code == 4
        assert "Redis is away" in result.stderr


def test_a_wait_that_is_stopped_leaves_the_scans(desk: Desk, redis_server: EmbeddedRedis) -> None:
    command = [sys.executable, "-m", "worker.cli", "enqueue", "--wait", *URLS]
    env = {**os.environ, "VERIFRAME_REDIS__URL": redis_server.url}
    process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + 60
        while desk.count(None) < 3:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (130, "")
    assert "stopped" in err
    assert {report.status for report in desk.each(None)} == {"queued"}
