"""A watch over stand-ins at our ports: windows, events, cursors."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.worker.watch.stream import EMPTY, FAKE, REAL, ToldReader, scanner
from worker.errors import ConfigError, CorruptMedia, DamagedRecord, EmptyMedia, FetchGone
from worker.pipeline import Scanner
from worker.report import Report, Source
from worker.source.live.pieces import LiveReader
from worker.types import Json, Label
from worker.watch.events import WatchEvent, WindowResult
from worker.watch.recent import Rhythm
from worker.watch.session import Watcher

RHYTHM = Rhythm(window_s=10, hop_s=5, fps=2)
SLOW = Rhythm(window_s=10, hop_s=5, fps=1)
CURSOR_BYTES = 64 << 10
Parts = Sequence[tuple[float, object]]


@dataclass
class Heard:
    windows: list[WindowResult] = field(default_factory=list)
    events: list[WatchEvent] = field(default_factory=list)
    cursors: list[Json] = field(default_factory=list)

    def __call__(self, window: WindowResult, events: Sequence[WatchEvent], cursor: Json) -> None:
        self.windows.append(window)
        self.events += events
        self.cursors.append(json.loads(json.dumps(cursor)))

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


@pytest.fixture
def grey_scanner() -> Iterator[Scanner]:
    with scanner() as made:
        yield made


Watch = Callable[..., Watcher]


@pytest.fixture
def watch(grey_scanner: Scanner, tmp_path: Path) -> Watch:
    def make(
        parts: Parts | Callable[[Json | None], LiveReader],
        *,
        cursor: Json | None = None,
        faces: int = 1,
        max_duration_s: float = 1e6,
        now: Callable[[], float] = lambda: 0.0,
        rhythm: Rhythm = RHYTHM,
    ) -> Watcher:
        open_reader = parts if callable(parts) else lambda position: ToldReader(parts, position, faces)
        return Watcher(
            open_reader=open_reader,
            scanner=grey_scanner,
            folder=tmp_path,
            source=Source(kind="url", url="http://stream.test/"),
            rhythm=rhythm,
            max_duration_s=max_duration_s,
            max_behind_s=30,
            evidence_per_track=2,
            cursor=cursor,
            now=now,
        )

    return make


def go_on() -> bool:
    return False


def test_windows_follow_each_other_and_the_last_one_reaches_to_the_end(watch: Watch) -> None:
    heard = Heard()
    assert watch([(4, REAL)] * 7).run(go_on, heard) == "ended"
    assert [(one.start_ms, one.end_ms) for one in heard.windows] == [
        (0, 10_000),
        (5_000, 15_000),
        (10_000, 20_000),
        (15_000, 25_000),
        (18_000, 28_000),
    ]
    assert [one.number for one in heard.windows] == [0, 1, 2, 3, 4]
    assert [one.is_last for one in heard.windows] == [False] * 4 + [True]
    assert {one.frames for one in heard.windows} == {20}
    assert {one.verdict for one in heard.windows} == {Label.REAL}
    assert [event.number for event in heard.events] == list(range(len(heard.events)))
    assert heard.kinds() == ["track_seen", "verdict_changed", "verdict_changed", "stream_ended"]
    assert heard.events[-1].detail["ending"] == "ended"


def test_a_splice_at_a_known_time_is_told_within_one_window_and_is_in_the_report(watch: Watch) -> None:
    heard = Heard()
    spliced_s = 21.0
    parts = [(4, REAL)] * 5 + [(4, [(0.0, REAL), (1.0, FAKE)])] + [(4, FAKE)] * 15
    watcher = watch(parts)
    watcher.run(go_on, heard)
    told = [event for event in heard.events if event.kind == "verdict_changed" and event.verdict is Label.FAKE]
    assert {event.track for event in told} == {0, None}
    for event in told:
        assert spliced_s * 1000 < event.t_ms <= (spliced_s + RHYTHM.window_s) * 1000
        assert event.detail["before"] in (Label.REAL, Label.UNCERTAIN)
    report = watcher.report()
    assert Report.model_validate_json(report.model_dump_json()) == report
    assert report.kind == "watch"
    assert report.verdict is Label.FAKE
    (segment,) = report.segments
    assert segment.track == 0
    assert abs(segment.start_ms - spliced_s * 1000) <= RHYTHM.window_s * 1000
    assert set(watcher.crops(report)) == {one.crop for track in report.tracks for one in track.evidence}


def test_of_a_crowd_that_is_not_judged_whole_nothing_is_called_real(watch: Watch) -> None:
    """Nor by a watch that goes on from a cursor, once such frames are a window ago, of the whole."""
    few, crowd, after = Heard(), Heard(), Heard()
    watch([(4, REAL)] * 5, faces=6).run(go_on, few)
    (watcher := watch([(4, REAL)] * 5, faces=9)).run(go_on, crowd)
    assert {(one.verdict, one.crowded) for one in few.windows} == {(Label.REAL, False)}
    assert {(one.verdict, one.reasons, one.crowded) for one in crowd.windows} == {(Label.UNCERTAIN, ("sparse_coverage",), True)}
    assert watcher.report().verdict is Label.UNCERTAIN
    (later := watch([(4, REAL)] * 15, faces=6, cursor=crowd.cursors[1])).run(go_on, after)
    ends = after.windows[:: len(after.windows) - 1]
    assert [(one.verdict, one.crowded) for one in ends] == [(Label.UNCERTAIN, True), (Label.REAL, False)]
    assert ((whole := later.report()).verdict, whole.sampling and whole.sampling.crowded) == (Label.UNCERTAIN, True)


def test_a_short_splice_in_a_long_stream_is_never_called_real(watch: Watch) -> None:
    heard = Heard()
    watcher = watch([(12, REAL)] * 20 + [(16, FAKE)] + [(12, REAL)] * 20, rhythm=SLOW)
    watcher.run(go_on, heard)
    report = watcher.report()
    assert report.watch is not None
    assert report.watch.fake_windows > 0
    assert report.verdict is not Label.REAL
    assert len(report.segments) == 1


def timeless(cursor: Json) -> Json:
    """Without the seconds that it took."""
    kept = {name: value for name, value in cursor["counts"].items() if name not in ("detect_s", "infer_s", "read_s")}
    return {**cursor, "counts": kept}


def _changes(parts: Parts, watch: Watch, faces: int) -> tuple[Heard, list[tuple[Heard, Watcher]]]:
    whole = Heard()
    watch(parts, faces=faces, rhythm=SLOW).run(go_on, whole)
    resumed = []
    for cursor in whole.cursors:
        heard = Heard()
        watcher = watch(parts, cursor=cursor, faces=faces, rhythm=SLOW)
        watcher.run(go_on, heard)
        resumed.append((heard, watcher))
    return whole, resumed


@pytest.mark.parametrize("faces", [1, 3])
def test_from_every_cursor_on_windows_and_events_are_those_of_the_whole_run(watch: Watch, faces: int) -> None:
    parts: Parts = [
        (4, REAL), (12, REAL), (0.3, REAL), (2.2, FAKE), (6, FAKE), (5, "not_served"), (4, "broken"),
        (33, FAKE), (3, EMPTY), (2, "behind"), (7, REAL), (1, REAL), (6.006, REAL), (6.006, REAL),
    ]  # fmt: skip
    whole, resumed = _changes(parts, watch, faces)
    assert len(whole.windows) > 15
    reports = set()
    for place, (heard, watcher) in enumerate(resumed, 1):
        assert heard.windows == whole.windows[place:]
        assert heard.events == [event for event in whole.events if event.window >= place]
        assert [timeless(cursor) for cursor in heard.cursors] == [timeless(cursor) for cursor in whole.cursors[place:]]
        report = watcher.report()
        same = report.model_dump_json(exclude={"id", "created_at", "started_at", "finished_at", "timings_ms", "tracks"})
        reports.add(same)
    assert len(reports) == 1


def test_a_watch_is_stopped_between_two_pieces_and_goes_on_from_its_last_cursor(watch: Watch) -> None:
    heard = Heard()
    parts = [(4, REAL)] * 12
    assert watch(parts).run(lambda: len(heard.windows) >= 2, heard) == "stopped"
    assert len(heard.windows) == 2
    assert watch(parts, cursor=heard.cursors[-1]).run(go_on, heard) == "ended"
    assert [one.number for one in heard.windows] == list(range(len(heard.windows)))
    assert [event.number for event in heard.events] == list(range(len(heard.events)))


def test_a_window_that_is_over_is_told_though_the_order_to_stop_comes_while_its_last_piece_is_looked_at(watch: Watch) -> None:
    class Counted(ToldReader):
        def items(self, stop: Callable[[], bool]) -> Iterator[object]:  # type: ignore[override]
            for item in super().items(stop):
                taken.append(item)
                yield item

    parts, taken = [(5, REAL)] * 6, list[object]()
    whole, heard = Heard(), Heard()
    watch(parts).run(go_on, whole)
    stopped = watch(lambda position: Counted(parts, position)).run(lambda: len(taken) - taken.count(None) >= 4, heard)
    assert (stopped, [one.end_ms for one in heard.windows]) == ("stopped", [10_000, 15_000, 20_000])
    watch(parts, cursor=heard.cursors[-1]).run(go_on, heard)
    assert (heard.windows, heard.events) == (whole.windows, whole.events)


def test_slices_end_after_a_window_and_together_are_the_whole_run(watch: Watch) -> None:
    parts = [(4, REAL), (17, REAL), (4, FAKE), (4, FAKE), (4, FAKE)]
    whole, sliced = Heard(), Heard()
    watch(parts).run(go_on, whole)
    cursor, outcomes = None, []
    while "ended" not in outcomes:
        before = len(sliced.windows)
        outcomes.append(watch(parts, cursor=cursor).run(lambda: len(sliced.windows) > before, sliced))  # noqa: B023 (called at once)
        cursor = sliced.cursors[-1]
    assert outcomes == ["stopped"] * (len(whole.windows) - 1) + ["ended"]
    assert (sliced.windows, sliced.events) == (whole.windows, whole.events)
    again = Heard()
    assert watch(parts, cursor=cursor).run(go_on, again) == "ended"
    assert again.windows == []


def test_a_reader_that_was_told_to_stop_has_not_ended(watch: Watch) -> None:
    class Waiting(ToldReader):
        def items(self, stop: Callable[[], bool]) -> Iterator[object]:  # type: ignore[override]
            yield from itertools.islice(super().items(stop), 8)
            while not stop():
                pass

    asked = itertools.count()
    heard = Heard()
    parts = [(4, REAL)] * 9
    waiting = watch(lambda position: Waiting(parts, position))
    assert waiting.run(lambda: next(asked) == 50, heard) == "stopped", "said once, it holds"
    assert [window.is_last for window in heard.windows] == [False, False]


def test_it_ends_at_its_longest_duration(watch: Watch) -> None:
    heard = Heard()
    assert watch([(4, REAL)] * 1000, max_duration_s=21).run(go_on, heard) == "ended"
    assert heard.windows[-1].end_ms == 24_000
    assert heard.events[-1].detail["ending"] == "max_duration"


@pytest.mark.parametrize("seconds", [2.5, 4, 20])
def test_a_window_that_ends_with_the_longest_duration_is_told_once(watch: Watch, seconds: float) -> None:
    heard = Heard()
    watcher = watch([(seconds, REAL)] * 1000, max_duration_s=20)
    assert watcher.run(go_on, heard) == "ended"
    assert [(one.end_ms, one.is_last) for one in heard.windows] == [(10_000, False), (15_000, False), (20_000, True)]
    report = watcher.report()
    assert report.watch is not None
    assert report.watch.windows == 3


@pytest.mark.parametrize("parts", [[(2.5, REAL)] * 8, [(20, REAL)], [(5, REAL)] * 3 + [(5, "broken")]])
def test_a_window_that_ends_with_the_stream_is_told_once(watch: Watch, parts: Parts) -> None:
    whole, resumed = _changes(parts, watch, 1)
    assert [(one.end_ms, one.is_last) for one in whole.windows] == [(10_000, False), (15_000, False), (20_000, True)]
    for place, (heard, _) in enumerate(resumed, 1):
        assert heard.windows == whole.windows[place:]


def test_while_a_stream_is_waited_for_its_windows_do_not_wait(watch: Watch) -> None:
    class Silent(ToldReader):
        def items(self, stop: Callable[[], bool]) -> Iterator[object]:  # type: ignore[override]
            yield from super().items(stop)
            yield None
            told.append([window.end_ms for window in heard.windows])

    heard, told = Heard(), list[list[int]]()
    watch(lambda position: Silent([(5, REAL)] * 3, position)).run(go_on, heard)
    assert told == [[10_000, 15_000]]


def test_a_stream_whose_clock_stands_still_is_not_watched_for_ever(watch: Watch) -> None:
    times = itertools.count()
    heard = Heard()
    watcher = watch([(4, REAL), *[(0, REAL)] * 2000], max_duration_s=100, now=lambda: float(next(times)))
    assert watcher.run(go_on, heard) == "ended"
    assert 800 <= next(times) < 1000
    assert heard.events[-1].detail["ending"] == "max_duration"
    assert watcher.report().verdict is Label.REAL


def test_gaps_and_pieces_that_do_not_decode_are_counted_and_named(watch: Watch) -> None:
    heard = Heard()
    watcher = watch([(4, REAL), (4, "broken"), (20, "not_served"), (4, "not_served"), (8, REAL)])
    watcher.run(go_on, heard)
    assert [(one.start_ms, one.dropped_ms, one.frames) for one in heard.windows][:4] == [
        (0, 6_000, 8),
        (5_000, 10_000, 0),
        (10_000, 10_000, 0),
        (15_000, 10_000, 0),
    ]
    report = watcher.report()
    assert report.watch is not None
    assert [(gap.start_ms, gap.end_ms, gap.cause) for gap in report.watch.gaps] == [
        (4_000, 8_000, "unreadable"),
        (8_000, 32_000, "not_served"),
    ]
    assert report.watch.missed_ms == {"unreadable": 4_000, "not_served": 24_000}
    assert report.sampling is not None
    assert (report.sampling.undecodable_s, report.sampling.crowded) == (None, False), "within pieces nobody measures the one"
    assert report.verdict is Label.UNCERTAIN
    assert [reason.code for reason in report.reasons] == ["sparse_coverage"]


def test_what_never_decodes_is_no_stream(watch: Watch) -> None:
    watcher = watch([(4, "broken")] * 9)
    with pytest.raises(CorruptMedia):
        watcher.run(go_on, Heard())
    with pytest.raises(EmptyMedia):
        watcher.report()


def test_a_stream_that_is_lost_ends_the_watch_unless_nothing_ever_came(watch: Watch) -> None:
    class Lost(ToldReader):
        def items(self, stop: Callable[[], bool]) -> Iterator[object]:  # type: ignore[override]
            yield from super().items(stop)
            raise FetchGone("not there any more")

    heard = Heard()
    assert watch(lambda position: Lost([(4, REAL)] * 3, position)).run(go_on, heard) == "ended"
    assert heard.events[-1].detail["ending"] == "lost"
    assert heard.events[-1].detail["code"] == "fetch_gone"
    with pytest.raises(FetchGone):
        watch(lambda position: Lost([], position)).run(go_on, Heard())


def test_a_cursor_stays_small_in_a_crowd_and_is_only_good_for_the_same_windows(watch: Watch) -> None:
    heard = Heard()
    crowds = [(10, grey) for grey in (REAL, 20, 250, 90, 200, 40)] * 4 + [(60, FAKE), (60, 250), (300, FAKE)]
    parts = [part for crowd in crowds for part in (crowd, (1, "behind"), (0.5, "not_served"))] + [
        (0.5, "broken"),
        (0.4, "behind"),
    ] * 60
    watch(parts, faces=9, rhythm=Rhythm(window_s=10, hop_s=5, fps=2)).run(go_on, heard)
    assert heard.windows[-1].number > 100
    assert max(len(json.dumps(cursor)) for cursor in heard.cursors) < CURSOR_BYTES
    with pytest.raises(ConfigError):
        watch(parts, cursor=heard.cursors[0], rhythm=SLOW)
    with pytest.raises(DamagedRecord):
        watch(parts, cursor={**heard.cursors[0], "linker": {}})
    with pytest.raises(DamagedRecord):
        watch(parts, cursor={**heard.cursors[0], "frames": {**heard.cursors[0]["frames"], "faces": ""}})


def test_behind_the_stream_every_other_moment_is_left_out(watch: Watch) -> None:
    class Behind(ToldReader):
        def items(self, stop: Callable[[], bool]) -> Iterator[object]:  # type: ignore[override]
            for item in super().items(stop):
                yield item and replace(item, behind_s=16.0)

    heard = Heard()
    watch(lambda position: Behind([(4, REAL)] * 5, position)).run(go_on, heard)
    assert {one.frames for one in heard.windows} == {10}
    assert heard.windows[0].behind_ms == 16_000


def test_a_piece_is_as_long_as_its_media_whatever_was_said_of_it(watch: Watch) -> None:
    parts: Parts = [(4, REAL), (0.001, (4.0, FAKE)), (4, REAL), (0.0, (4.0, FAKE)), (4, (4.2, REAL))]
    whole, resumed = _changes(parts, watch, 1)
    assert whole.windows[-1].end_ms == 20_000
    assert {one.frames for one in whole.windows} == {10}
    assert [one.verdict for one in whole.windows] != [Label.REAL] * len(whole.windows)
    for place, (heard, watcher) in enumerate(resumed, 1):
        assert (heard.windows, heard.events) == (whole.windows[place:], whole.events[len(whole.events) - len(heard.events) :])
        report = watcher.report()
        assert report.watch is not None
        assert (report.verdict, report.watch.gaps) == (Label.UNCERTAIN, ())


def test_what_was_seen_of_a_piece_that_breaks_behind_its_said_end_lies_on_the_clock(watch: Watch) -> None:
    parts: Parts = [(4, REAL), (4, (30.0, REAL, 25.0)), *[(4, FAKE)] * 4]
    heard = Heard()
    watcher = watch(parts)
    watcher.run(go_on, heard)
    report = watcher.report()
    assert report.watch is not None
    assert [(gap.start_ms, gap.end_ms, gap.cause) for gap in report.watch.gaps] == [(4_000, 34_000, "unreadable")]
    assert heard.windows[-1].end_ms == 50_000
    assert (heard.windows[-1].frames, heard.windows[-1].verdict) == (20, Label.FAKE)
    for cursor in heard.cursors[:-1]:
        assert watch(parts, cursor=cursor).run(go_on, Heard()) == "ended"


def test_a_piece_longer_than_the_clock_may_go_on_at_once_is_a_gap(watch: Watch) -> None:
    watcher = watch([(4, REAL), (4, (9000.0, REAL)), (4, REAL)], rhythm=Rhythm(window_s=60, hop_s=60, fps=0.5))
    watcher.run(go_on, Heard())
    report = watcher.report()
    assert report.watch is not None
    assert [(gap.start_ms, gap.end_ms, gap.cause) for gap in report.watch.gaps] == [(4_000, 3_604_000, "unreadable")]
    assert report.verdict is Label.UNCERTAIN
