"""What a request asks for, laid over a worker's own settings of watching; and the real engine, slice by slice."""

from __future__ import annotations

import itertools
import json
import threading
from pathlib import Path

import pytest
from redis import Redis

from tests.worker.queue import told_streams
from tests.worker.queue.fake_streams import NAME, KeepsNothing, address, slices
from tests.worker.queue.scans import claim, submit
from tests.worker.source.live.streams import Clock, LiveHls, made, segments
from tests.worker.source.live.test_byte_stream import chunked
from tests.worker.source.loopback import in_turn, serve
from tests.worker.spy import Spy
from tests.worker.watch.stream import FAKE, REAL, OneFace, scanner
from worker.artifacts import open_store
from worker.errors import UnsupportedMedia
from worker.frames.limits import Limits
from worker.frames.sandbox import SandboxedFrames
from worker.queue.assemble import STREAMS
from worker.queue.desk import Desk
from worker.queue.doorbell import Doorbells
from worker.queue.fetching import Artifacts, artifact_key
from worker.queue.records import Records
from worker.queue.requests import RequestOptions
from worker.queue.streams import laid_over, opener
from worker.settings import Settings, WatchSettings
from worker.watch.recent import Rhythm
from worker.watch.state import WatchState

DEFAULT = WatchSettings(window_s=10, hop_s=5, fps=2, max_duration_s=3600)


@pytest.mark.parametrize(
    ("asked", "window_s", "hop_s"),
    [({}, 10, 5), ({"window_s": 20}, 20, 5), ({"window_s": 3}, 3, 3), ({"hop_s": 2}, 10, 2), ({"hop_s": 12}, 12, 12)],
)
def test_a_window_or_hop_takes_the_other_along(asked: dict[str, float], window_s: float, hop_s: float) -> None:
    made = laid_over(DEFAULT, RequestOptions(**asked))  # type: ignore[arg-type]
    assert (made.window_s, made.hop_s, made.fps) == (window_s, hop_s, 2)


def test_no_watch_is_longer_than_the_workers_own_limit() -> None:
    assert laid_over(DEFAULT, RequestOptions(max_duration_s=60)).max_duration_s == 60
    assert laid_over(DEFAULT, RequestOptions(max_duration_s=1e6)).max_duration_s == 3600


def test_windows_that_are_too_long_for_the_rate_are_refused_with_a_code() -> None:
    with pytest.raises(UnsupportedMedia):
        laid_over(DEFAULT, RequestOptions(window_s=120, hop_s=120))


def test_one_that_is_under_way_keeps_its_window_hop_and_rate() -> None:
    cursor = WatchState.new(Rhythm(window_s=20, hop_s=10, fps=1), evidence_per_track=1).cursor()
    others = WatchSettings(window_s=4, hop_s=2, fps=10, max_duration_s=60)
    for options in (RequestOptions(), RequestOptions(window_s=20, hop_s=10)):
        made = laid_over(others, options, json.loads(json.dumps(cursor)))
        assert (made.window_s, made.hop_s, made.fps, made.max_duration_s) == (20, 10, 1, 60)
    assert laid_over(others, RequestOptions(), {"rhythm": [20, 10, 1]}) == others, "no cursor: its watcher refuses it"


def test_workers_of_other_settings_take_turns_at_it(redis: Redis, spy: Spy) -> None:
    """As if it had been watched in one go by the first."""
    choices = [
        {"window_s": 4, "hop_s": 2, "fps": 2},
        {"window_s": 10, "hop_s": 10, "fps": 1},
        {"window_s": 3, "hop_s": 3, "fps": 3},
    ]
    held = told_streams.told(*[REAL] * 6 + [FAKE] * 6)
    desk = Desk(Records(redis, "vf"), Doorbells(redis))
    seen = []
    with serve(LiveHls(held, Clock(), listed=100, ready=12)) as server, scanner() as looking:
        spy.allow(server.at)
        for slice_s in (600.0, 0.0):
            scan_id, turns = submit(desk, server.url("/live.m3u8"), kind="watch"), itertools.cycle(choices)
            while not desk.record(scan_id, None).is_final:
                settings = Settings.model_validate({"source": {"allow_private_hosts": [server.at]}, "watch": next(turns)})
                made = slices(desk.records, KeepsNothing(), slice_s=slice_s, settings=settings, scanner=looking, name=STREAMS)
                made.watch(claim(desk.records, scan_id), desk.record(scan_id, None))
            report = desk.report(scan_id, None)
            seen.append((made.log.page(scan_id).events, report.watch, report.sampling, report.tracks, report.score))
            assert report.attempt == (1 if slice_s else 5), "one for each window"
    assert seen[0] == seen[1]


def test_the_watcher_is_found_by_name() -> None:
    with opener(Settings(), None, NAME, lambda: 0.0)(address(0), RequestOptions(window_s=4, hop_s=4), None) as watcher:
        watcher.finish("stopped", lambda window, events, cursor: None)
        watch = watcher.report().watch
    assert watch is not None
    assert (watch.window_s, watch.ending) == (4, "stopped")


def test_the_real_engine_goes_on_from_slice_to_slice(redis: Redis, tmp_path: Path, spy: Spy) -> None:
    """HLS on loopback, decoded in the sandbox, one window a slice: as if it had been watched in one go."""
    held = segments(tmp_path / "made", [REAL] * 8 + [FAKE] * 8)
    told = []
    with (
        serve(LiveHls(held, Clock(), listed=100, ready=16)) as server,
        SandboxedFrames(Limits()) as frames,
        scanner(frames, OneFace) as looking,
    ):
        spy.allow(server.at)
        source = {"temp_dir": str(tmp_path), "allow_private_hosts": [server.at]}
        settings = Settings.model_validate({"source": source, "watch": {"window_s": 4, "hop_s": 2}})
        desk = Desk(Records(redis, "vf"), Doorbells(redis))
        for slice_s in (600.0, 0.0):
            scan_id = submit(desk, server.url("/live.m3u8"), kind="watch")
            keeper = Artifacts(store=open_store(str(tmp_path / "kept")), keep_s=3600)
            watches = slices(desk.records, keeper, slice_s=slice_s, settings=settings, scanner=looking, name=STREAMS)
            hows = []
            while not desk.record(scan_id, None).is_final:
                hows.append(watches.watch(claim(desk.records, scan_id), desk.record(scan_id, None)).how)
                assert len(json.dumps(watches.log.cursor(scan_id))) < 65536
            assert hows == (["finished"] if slice_s else ["queued"] * (len(hows) - 1) + ["finished"])
            page, report = watches.log.page(scan_id), desk.report(scan_id, None)
            assert [event.number for event in page.events] == list(range(page.count))
            assert report.watch is not None
            assert slice_s or len(hows) == report.watch.windows
            evidence = [one for track in report.tracks for one in track.evidence]
            assert evidence
            for one in evidence:
                with keeper.store.open(artifact_key(scan_id, one.crop or "none")) as file:
                    assert file.read(2) == b"\xff\xd8", "a JPEG"
            told.append((page.events, report.watch, report.tracks, report.verdict, report.score))
    assert told[0] == told[1]
    assert [event.kind for event in told[0][0]][-1] == "stream_ended"


class FortySecondsOn(Records):
    """Of a Redis that has waited for so long, though no worker's own clock knows of it."""

    def now_s(self) -> float:
        return super().now_s() + 40


def test_what_passes_between_two_slices_is_told_by_the_clock_of_redis(redis: Redis, tmp_path: Path, spy: Spy) -> None:
    """MPEG-TS, whose position says when it was heard last: 40 s are missed, of which a clock of the worker's shows nothing."""
    first, later = (made(tmp_path / str(at), "mpegts", [REAL] * 12, start_s=at)["made"] for at in (0, 44))
    is_over = threading.Event()
    answers = in_turn(chunked(first), chunked(first, waits=is_over), chunked(later))
    with serve(answers) as server, SandboxedFrames(Limits()) as frames, scanner(frames, OneFace) as looking:
        spy.allow(server.at)
        source = {"temp_dir": str(tmp_path), "allow_private_hosts": [server.at]}
        settings = Settings.model_validate({"source": source, "watch": {"window_s": 4, "hop_s": 4}})
        desk = Desk(Records(redis, "vf"), Doorbells(redis))
        scan_id = submit(desk, server.url("/live.ts"), kind="watch")
        for records, slice_s in ((desk.records, 0.0), (FortySecondsOn(redis, "vf"), 600.0)):
            watches = slices(records, KeepsNothing(), slice_s=slice_s, settings=settings, scanner=looking, name=STREAMS)
            watches.watch(claim(records, scan_id), desk.record(scan_id, None))
            is_over.set()
    watch = desk.report(scan_id, None).watch
    assert watch is not None
    assert [(gap.cause, gap.start_ms, gap.end_ms) for gap in watch.gaps] == [("outage", 4000, 44000)]
