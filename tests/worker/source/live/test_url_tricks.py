"""Every trick where a watch may meet an address: no packet leaves; and, in the same run, what the allowed host shows of the same
stream is watched and gets its verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.worker.source.live.streams import Clock
from tests.worker.source.loopback import reply
from tests.worker.source.trick_place import Place, placed, redirect, refused
from tests.worker.spy import Spy
from tests.worker.watch.stream import FAKE, piece_data, scanner
from worker.errors import FetchGone, UnsupportedMedia
from worker.report import Report, Source
from worker.source.client import never
from worker.source.live.byte_stream import ByteStreamReader
from worker.source.live.cuts import Cutter
from worker.source.live.flv import FlvCutter
from worker.source.live.mpegts import TsCutter
from worker.source.live.open import LiveOptions, LiveSource
from worker.source.live.patience import Patience
from worker.types import Label
from worker.watch.recent import Rhythm
from worker.watch.session import Watcher

OPTIONS = LiveOptions(max_behind_s=1e6, give_up_s=30, file_ends_s=5, cut_s=1, max_side_px=720, max_segments=10_000)
GOOD = 20
"""Segments, of a second each, of the allowed host."""


@pytest.fixture
def place(spy: Spy) -> Iterator[Place]:
    with placed(spy) as made:
        yield made


def live(place: Place) -> LiveSource:
    clock = Clock()
    return LiveSource(place.http, OPTIONS, now=clock.now, sleep=clock.sleep, wall=clock.now)


def read(place: Place, url: str) -> None:
    for _ in live(place).address(url)(None).items(never):
        pass


def test_watched_outright(place: Place, spy: Spy) -> None:
    for trick in place.tricks:
        refused(lambda trick=trick: read(place, trick), trick, leads_nowhere=(UnsupportedMedia,))  # type: ignore[misc]
    assert spy.connections == []


def test_where_a_streams_redirect_leads(place: Place) -> None:
    for trick in place.tricks:
        url = place.leads_to(trick)
        refused(lambda url=url: read(place, url), trick, leads_nowhere=(FetchGone,))  # type: ignore[misc]


@pytest.mark.parametrize("cutter", [TsCutter, FlvCutter])
def test_where_the_redirect_of_a_byte_stream_leads(cutter: Callable[[float], Cutter], place: Place) -> None:
    def read_bytes(url: str) -> None:
        clock = Clock()
        patience = Patience(30, now=clock.now, sleep=clock.sleep)
        reader = ByteStreamReader(
            place.http, url, kind="ts", new_cutter=lambda: cutter(1), patience=patience, max_behind_s=9, wall=clock.now
        )
        for _ in reader.items(never):
            pass

    for trick in place.tricks:
        url = place.leads_to(trick)
        refused(lambda url=url: read_bytes(url), trick, leads_nowhere=(FetchGone,))  # type: ignore[misc]


def test_as_renditions_of_a_live_playlist(place: Place) -> None:
    for trick in place.fitting:
        url = place.says(f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{trick}\n")
        refused(lambda url=url: read(place, url), trick, leads_nowhere=(FetchGone,))  # type: ignore[misc]


def watched(place: Place, url: str, folder: Path) -> Report:
    with scanner() as looking:
        watcher = Watcher(
            open_reader=live(place).address(url),
            scanner=looking,
            folder=folder,
            source=Source(kind="url", url=url),
            rhythm=Rhythm(window_s=10, hop_s=10, fps=1),
            max_duration_s=1e6,
            max_behind_s=1e6,
        )
        assert watcher.run(never, lambda *told: None) == "ended"
        return watcher.report()


def test_as_segments_keys_and_maps_of_a_stream_whose_other_segments_get_a_verdict(place: Place, tmp_path: Path) -> None:
    used = [trick for trick in place.fitting if not {'"', "\t", "\n"} & set(trick) and not trick.startswith("#")]
    good = place.base + place.site.path(reply(piece_data(1.0, (0.0, FAKE))))
    lines = ["#EXTINF:1,", good] * GOOD
    for trick in used:
        lines += ["#EXTINF:1,", trick, "#EXTINF:1,", place.base + place.site.path(redirect(trick))]
        lines += [f'#EXT-X-KEY:METHOD=AES-128,URI="{trick}",IV=0x1', "#EXTINF:1,", good, "#EXT-X-KEY:METHOD=NONE"]
    for trick in used:
        lines += [f'#EXT-X-MAP:URI="{trick}"', "#EXTINF:1,", good]
    url = place.says("\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:1", *lines, "#EXT-X-ENDLIST"]))
    report = watched(place, url, tmp_path)
    assert report.watch is not None
    assert report.watch.missed_ms == {"not_served": 4000 * len(used)}, "each trick in four places"
    assert report.verdict is Label.FAKE
    assert report.sampling is not None
    assert report.sampling.decoded == GOOD
