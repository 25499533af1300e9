"""Half an hour of live HLS through the command, and a face swap spliced into a stream told by the real model. Minutes long: `make
soak` runs it."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import pytest

from tests.soak.splice import encode_unit, join_units
from tests.soak.test_splice import held_out_pairs
from tests.soak.test_worker_memory import pss_mib
from tests.worker.queue.harness import service, until
from tests.worker.source.live.streams import Clock, LiveHls
from tests.worker.source.loopback import Loopback, serve
from tests.worker.watch.stream import OneFace, scanner
from worker.frames.limits import Limits
from worker.frames.sandbox import SandboxedFrames
from worker.pipeline import Scanner
from worker.queue.assemble import SCANNER, STREAMS
from worker.queue.connection import connect
from worker.queue.embedded import EmbeddedRedis
from worker.queue.watch_log import WatchLog
from worker.settings import Settings
from worker.telemetry.port import SILENT, Telemetry

REPOSITORY = Path(__file__).parents[2]
pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]
SECONDS = 4
SPEED = 20
"""So many times faster than real time segments are published."""
HALF_HOUR = 1800


@contextmanager
def build(settings: Settings, telemetry: Telemetry = SILENT) -> Iterator[Scanner]:
    """The sandbox is real, faces and scores are stand-ins."""
    with SandboxedFrames(Limits()) as frames, scanner(frames, OneFace) as opened:
        yield opened


def cut_to_segments(video: Path, folder: Path) -> list[bytes]:
    """MPEG-TS segments of ``SECONDS`` seconds, packets as they are."""
    folder.mkdir()
    options = {"hls_time": str(SECONDS), "hls_list_size": "0", "hls_segment_filename": str(folder / "%d.ts")}
    with av.open(str(video)) as source, av.open(str(folder / "m.m3u8"), "w", format="hls", options=options) as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return [path.read_bytes() for path in sorted(folder.glob("*.ts"), key=lambda path: int(path.stem))]


class Hastening(Clock):
    """Real time, ``SPEED`` times as fast, from the first time that somebody asks."""

    def __init__(self) -> None:
        self._begun_at: float | None = None

    @property
    def now_s(self) -> float:  # type: ignore[override]
        self._begun_at = self._begun_at or time.monotonic()
        return SPEED * (time.monotonic() - self._begun_at)


def watching(server: Loopback, *arguments: str, code: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(REPOSITORY),
        "VERIFRAME_SOURCE__ALLOW_PRIVATE_HOSTS": f'["{server.at}"]',
        "VERIFRAME_WATCH__MAX_BEHIND_S": "100000",
    }
    command = [sys.executable, "-c", code, "watch", server.url("/live.m3u8"), "--format", "jsonl", "--windows", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def lines_of(process: subprocess.Popen[str]) -> Iterator[dict[str, Any]]:
    assert process.stdout is not None
    for line in process.stdout:
        yield json.loads(line)


def test_half_an_hour_of_live_hls_keeps_memory_within_five_percent(tmp_path: Path, shared_data: Path) -> None:
    (real, _), *_ = held_out_pairs(shared_data)
    encode_unit(real, tmp_path / "unit.mp4", seconds=60)
    cut = cut_to_segments(tmp_path / "unit.mp4", tmp_path / "cut")
    held = {f"seg{number}.ts": cut[number % len(cut)] for number in range(HALF_HOUR // SECONDS)}
    curve: dict[int, float] = {}
    code = "from tests.soak.test_watch import build; from worker.cli import main; main(build)"
    with (
        serve(LiveHls(held, Hastening(), seconds=SECONDS, listed=1000, ready=3)) as server,
        watching(server, code=code) as process,
    ):
        for line in lines_of(process):
            if line["kind"] == "window" and line["end_ms"] % 60_000 == 0:
                curve[line["end_ms"] // 60_000] = pss_mib(process.pid)
    print("\nminute: MiB (PSS)", {minute: round(mib, 1) for minute, mib in curve.items() if minute in (1, 2, 5, 10, 20, 30)})
    assert process.returncode == 0
    assert max(curve) >= HALF_HOUR // 60
    assert max(curve.values()) <= 1.05 * curve[1]


def test_a_swap_spliced_into_a_stream_is_told_within_one_window_by_the_real_model(tmp_path: Path, shared_data: Path) -> None:
    """The pairs that a scan of the units by themselves tells apart; how many of them a watch tells in time is printed."""
    window_s, spliced_s = 10, 40
    told: list[float | None] = []
    for place, (real, fake) in enumerate(held_out_pairs(shared_data)[:3]):
        folder = tmp_path / str(place)
        folder.mkdir()
        for name, clip in (("real", real), ("fake", fake)):
            encode_unit(clip, folder / f"{name}.mp4", seconds=20)
        units = [folder / f"{name}.mp4" for name in ("real", "real", "fake", "fake")]
        join_units(units, folder / "video.mp4")
        cut = cut_to_segments(folder / "video.mp4", folder / "cut")
        held = {f"seg{number}.ts": data for number, data in enumerate(cut)}
        code = "from worker.cli import main; main()"
        with (
            serve(LiveHls(held, Hastening(), seconds=SECONDS, listed=1000, ready=3)) as server,
            watching(server, code=code) as process,
        ):
            lines = list(lines_of(process))
        windows = [line for line in lines if line["kind"] == "window"]
        print(fake.stem, [(line["end_ms"] // 1000, line["verdict"], round(line["score"] or math.nan, 2)) for line in windows])
        fakes = [line["t_ms"] / 1000 for line in lines if line["kind"] == "verdict_changed" and line["verdict"] == "fake"]
        told.append(min(fakes, default=None))
    print("told fake at", told, "spliced at", spliced_s)
    in_time = [at is not None and spliced_s < at <= spliced_s + window_s for at in told]
    assert sum(in_time) >= 2


def test_a_worker_killed_in_mid_stream_costs_no_window_with_the_real_model(tmp_path: Path, shared_data: Path) -> None:
    """Each watched as a job: once undisturbed; once with the scanning process killed, then the whole worker."""
    seconds, clock = 40, Clock()
    (real, _), *_ = held_out_pairs(shared_data)
    encode_unit(real, tmp_path / "unit.mp4", seconds=seconds)
    held = {f"seg{number}.ts": data for number, data in enumerate(cut_to_segments(tmp_path / "unit.mp4", tmp_path / "cut"))}
    live = LiveHls(held, clock, seconds=SECONDS, listed=1000, ready=3)
    with (
        EmbeddedRedis(tmp_path / "redis") as server,
        connect(url=server.url, timeout_s=10, patience_s=60) as redis,
        service(server.url, redis, tmp_path, others={"watch": {"max_behind_s": 1000}}) as queue,
        serve(live) as media,
    ):
        log = WatchLog(redis, "vf")

        def begin() -> tuple[str, Any]:
            clock.now_s = 0.0
            asked = len(media.requests)
            scan_id, worker = queue.watch(media.url("/live.m3u8")), queue.start(SCANNER, ("watch",), streams=STREAMS)
            until(lambda: "/seg0.ts" in [path for path, _ in media.requests[asked:]], what="the stream is joined")
            return scan_id, worker

        def windows_told(scan_id: str) -> int:
            return int(redis.hget(f"vf:scan:{scan_id}", "windows") or 0)  # type: ignore[arg-type]

        undisturbed, worker = begin()
        clock.sleep(seconds)
        assert queue.ended(undisturbed).state == "completed"
        worker.terminate()
        assert worker.wait(60) == 0
        disturbed, worker = begin()
        clock.sleep(seconds / 2)
        until(lambda: windows_told(disturbed) >= 2, what="two windows")
        os.kill(queue.child_of(worker), signal.SIGKILL)
        clock.sleep(seconds / 4)
        until(lambda: windows_told(disturbed) >= 3, what="a third window")
        worker.kill()
        queue.start(SCANNER, ("watch",), streams=STREAMS)
        clock.sleep(seconds)
        assert queue.ended(disturbed).state == "completed"
        told = [[event.model_dump() for event in log.page(scan_id).events] for scan_id in (undisturbed, disturbed)]
        reports = [queue.desk.report(scan_id, "acme") for scan_id in (undisturbed, disturbed)]
    assert told[0] == told[1]
    assert [event["kind"] for event in told[1]].count("stream_ended") == 1
    left = {"id", "created_at", "started_at", "finished_at", "timings_ms", "attempt", "tracks"}
    assert len({report.model_dump_json(exclude=left) for report in reports}) == 1
    print("windows", [report.watch.windows for report in reports if report.watch], "verdicts", [one.verdict for one in reports])
