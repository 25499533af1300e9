"""MPEG-TS and FLV cut at key frames: every cut decodes by itself, and together they are the stream; the stream's clock."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import av
import pytest

from tests.worker.frames.test_programs import damaged, laid, mapping, packets_of, pid_of, table
from tests.worker.source.live.streams import FPS, made
from worker.errors import CorruptMedia
from worker.source.live.cuts import Cut, Cutter, StreamClock
from worker.source.live.flv import FlvCutter
from worker.source.live.mpegts import TsCutter, is_mpegts
from worker.source.live.pieces import MAX_PIECE_BYTES

GREYS = [100, 120, 140, 160, 180, 200, 220]
NEW: dict[str, Callable[[float], Cutter]] = {"mpegts": TsCutter, "flv": FlvCutter}


def cuts_of(cutter: Cutter, data: bytes, portion: int = 1000) -> list[Cut]:
    found = [cut for at in range(0, len(data), portion) for cut in cutter.feed(data[at : at + portion])]
    last = cutter.rest()
    return [*found, last] if last else found


def greys_in(data: bytes) -> list[int]:
    with av.open(io.BytesIO(data)) as media:
        return [round(float(frame.to_ndarray(format="rgb24").mean())) for frame in media.decode(video=0)]


@pytest.fixture(scope="module", params=["mpegts", "flv"])
def muxer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def stream(muxer: str, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return made(tmp_path_factory.mktemp("stream"), muxer, GREYS)["made"]


def test_every_cut_decodes_by_itself_and_together_they_are_the_stream(stream: bytes, muxer: str) -> None:
    cuts = cuts_of(NEW[muxer](2), stream)
    shown = [greys_in(cut.data) for cut in cuts]
    assert [len(one) for one in shown] == [20, 20, 20, 10]
    assert [abs(shown[place // 20][place % 20] - GREYS[place // FPS]) < 4 for place in range(70)] == [True] * 70
    clock = StreamClock(NEW[muxer](2).wrap_s)
    placed = [clock.place(cut) for cut in cuts]
    assert [round(one.start_s, 3) for one in placed] == [0, 2, 4, 6]
    assert [round(one.duration_s, 2) for one in placed] == [2, 2, 2, 1]
    assert cuts[-1].end_at == len(stream)


@pytest.mark.parametrize("portion", [1, 187, 188, 4096, 1 << 20])
def test_portions_do_not_matter(stream: bytes, muxer: str, portion: int) -> None:
    assert cuts_of(NEW[muxer](2), stream, portion) == cuts_of(NEW[muxer](2), stream)


def test_from_the_end_of_every_cut_the_rest_is_the_same(stream: bytes, muxer: str) -> None:
    whole = cuts_of(NEW[muxer](1), stream)
    for place, cut in enumerate(whole):
        cutter = NEW[muxer](1)
        list(cutter.feed(stream[:5000]))
        cutter.skip_to(cut.end_at)
        assert cuts_of(cutter, stream[cut.end_at :]) == whole[place + 1 :]


def test_a_clock_that_wraps_runs_on(muxer: str, tmp_path: Path) -> None:
    wrap_s = NEW[muxer](1).wrap_s
    clock = StreamClock(wrap_s)
    times = [wrap_s - 3, wrap_s - 1, 1, 3]
    cuts = [Cut(data=b"", begin_s=a, end_s=b, span_s=2, end_at=0) for a, b in pairwise(times)]
    assert [round(clock.place(cut).start_s, 3) for cut in cuts] == [0, 2, 4]


def test_mpegts_whose_clock_wraps_is_cut_at_the_same_places(stream: bytes, muxer: str, tmp_path: Path) -> None:
    if muxer == "flv":
        pytest.skip("FLV wraps after 49 days, which FFmpeg does not write")
    wrapping = made(tmp_path, muxer, GREYS, start_s=95440)["made"]
    clock = StreamClock(TsCutter(2).wrap_s)
    placed = [clock.place(cut) for cut in cuts_of(TsCutter(2), wrapping)]
    assert [(round(one.gap_s), round(one.start_s), round(one.duration_s)) for one in placed] == [
        (0, 0, 2), (0, 2, 2), (0, 4, 2), (0, 6, 1)
    ]  # fmt: skip


def test_jumps_are_gaps_where_they_are_plausible() -> None:
    def cut(begin_s: float) -> Cut:
        return Cut(data=b"", begin_s=begin_s, end_s=begin_s + 2, span_s=2, end_at=0)

    clock = StreamClock(1000)
    gaps = []
    for begin_s, away_s in [(10, 0), (12, 0), (20, 0), (52, 30), (500, 0), (5, 0), (900, 7), (902.1, 0)]:
        gaps.append(round(clock.place(cut(begin_s), away_s).gap_s, 3))
    assert gaps == [0, 0, 6, 30, 0, 0, 7, 0]


def test_a_cut_whose_frames_all_have_one_time_moves_the_clock() -> None:
    clock = StreamClock(1000)
    placed = [clock.place(Cut(data=b"", begin_s=10, end_s=10, span_s=0, end_at=0)) for _ in range(3)]
    assert [round(one.start_s, 3) for one in placed] == [0, 0.04, 0.08]


def test_a_clock_goes_on_from_its_state() -> None:
    first = StreamClock(1000)
    first.place(Cut(data=b"", begin_s=10, end_s=12, span_s=2, end_at=0))
    placed = StreamClock(1000, first.state()).place(Cut(data=b"", begin_s=15, end_s=17, span_s=2, end_at=0))
    assert (placed.gap_s, placed.start_s) == (3, 5)


def test_damaged_packets_are_passed_over_and_what_is_none_is_refused(stream: bytes, muxer: str) -> None:
    if muxer == "mpegts":
        assert is_mpegts(stream)
        damaged = stream[: 188 * 30] + b"noise" * 40 + stream[188 * 30 :]
        assert len(cuts_of(NEW[muxer](2), b"xx" + damaged)) == 4
    with pytest.raises(CorruptMedia):
        cuts_of(NEW[muxer](2), b"\x00" * (3 << 20), 1 << 16)


@pytest.fixture(scope="module")
def packets(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Of MPEG-TS with one program, 1, whose map comes under 0x1000."""
    return packets_of(made(tmp_path_factory.mktemp("stream"), "mpegts", GREYS[:3])["made"])


@pytest.mark.parametrize("way", ["second section", "tail before the next", "many packets", "another counter between", "damaged"])
def test_maps_of_mpegts_are_read_however_they_are_laid(packets: list[bytes], way: str) -> None:
    map_packet = mapping(1, 0x1000, 256)
    packets_of_map = [damaged(map_packet)] if way == "damaged" else laid(map_packet, way)
    stream = b"".join(b"".join(packets_of_map) if pid_of(packet) == 0x1000 else packet for packet in packets)
    assert [len(greys_in(cut.data)) for cut in cuts_of(TsCutter(1), stream)] == [FPS] * 3


NOT_CURRENT = table(0x1000, mapping(1, 0x1000, 0x300)[5:10] + b"\xc0" + mapping(1, 0x1000, 0x300)[11:22])


@pytest.mark.parametrize("other", [damaged(mapping(1, 0x1000, 0x300)), NOT_CURRENT, mapping(7, 0x1000, 0x300)])
def test_a_map_of_mpegts_that_does_not_hold_is_not_followed(packets: list[bytes], other: bytes) -> None:
    whole = cuts_of(TsCutter(1), b"".join(packets))
    disturbed = cuts_of(TsCutter(1), b"".join(packet + other if pid_of(packet) == 0x1000 else packet for packet in packets))
    assert [cut.data for cut in disturbed] == [cut.data for cut in whole]


@pytest.mark.parametrize(("cut_s", "frames"), [(1, [10, 10, 10, 10, 10]), (2, [20, 10, 20])])
def test_pictures_before_another_pid_are_not_lost(packets: list[bytes], tmp_path: Path, cut_s: float, frames: list[int]) -> None:
    """Nor those of another PID that comes before the cut is long enough."""
    behind = made(tmp_path, "mpegts", GREYS[3:5], start_s=3, mpegts_start_pid="512")["made"]
    shown = [greys_in(cut.data) for cut in cuts_of(TsCutter(cut_s), b"".join(packets) + behind)]
    assert [len(one) for one in shown] == frames
    together = [grey for one in shown for grey in one]
    assert [abs(grey - GREYS[place // FPS]) < 4 for place, grey in enumerate(together)] == [True] * 50


def test_millions_of_empty_tags_are_not_held() -> None:
    header, key, tag = b"FLV\x01\x01\0\0\0\x09\0\0\0\0", b"\x12\0", b"\x22\0"
    cutter = FlvCutter(1)
    assert list(cutter.feed(header + _tag(key) + _tag(tag) * 1000)) == []
    assert cutter.rest() is not None
    assert list(cutter.feed(header + _tag(key) + _tag(tag) * (MAX_PIECE_BYTES // 160))) == []
    assert cutter.rest() is None


def test_a_tag_that_comes_in_a_million_portions_is_copied_once() -> None:
    """Were it at each portion, this would take minutes."""
    cutter = FlvCutter(1)
    large = b"FLV\x01\x01\0\0\0\x09\0\0\0\0" + _tag(b"\x12\0" + bytes(1 << 20))
    assert [cut for at in range(0, len(large), 8) for cut in cutter.feed(large[at : at + 8])] == []
    cut = cutter.rest()
    assert cut is not None
    assert len(cut.data) == len(large)


def test_a_tag_that_is_earlier_than_its_key_frame_is_not_weeks_later() -> None:
    cutter = FlvCutter(1)
    tags = _tag(b"\x12\0", 500) + _tag(b"\x22\0", 600) + _tag(b"\x22\0", 100) + _tag(b"\x22\0", 200)
    assert list(cutter.feed(b"FLV\x01\x01\0\0\0\x09\0\0\0\0" + tags)) == []
    cut = cutter.rest()
    assert cut is not None
    assert cut.span_s < 1
    assert [cut.data[at + 4 : at + 8] for at in range(13, len(cut.data), len(tags) // 4)] == [
        bytes([0, 0, ms, 0]) for ms in (0, 100, 0, 0)
    ]


def test_pictures_keep_the_configuration_that_they_came_with() -> None:
    """An encoder that is started anew says another, in the middle of a cut; servers say the same one again."""
    one, other, key, tag = b"\x17\0one", b"\x17\0other", b"\x17\1key", b"\x27\1tag"
    told = [_tag(one), _tag(key), _tag(one), _tag(tag, 100), _tag(other, 200), _tag(key, 200), _tag(tag, 300)]
    header = b"FLV\x01\x01\0\0\0\x09\0\0\0\0"
    cuts = cuts_of(FlvCutter(10), header + b"".join(told), portion=7)
    assert [cut.data for cut in cuts] == [
        header + _tag(one) + _tag(key) + _tag(tag, 100),
        header + _tag(other) + _tag(key) + _tag(tag, 100),
    ]
    assert [(cut.begin_s, cut.end_s) for cut in cuts] == [(0.0, 0.2), (0.2, 0.4)]
    assert cuts[0].end_at == len(header + b"".join(told[:4]))


def _tag(body: bytes, time_ms: int = 0) -> bytes:
    head = b"\x09" + len(body).to_bytes(3, "big") + time_ms.to_bytes(3, "big") + bytes(4)
    return head + body + (len(body) + 11).to_bytes(4, "big")


def test_hostile_bytes_raise_nothing_but_our_errors(stream: bytes, muxer: str) -> None:
    draw = random.Random(7)
    for _ in range(60):
        damaged = bytearray(stream)
        for _ in range(draw.choice([1, 20, 400])):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        clock = StreamClock(NEW[muxer](1).wrap_s)
        cutter = NEW[muxer](1)
        try:
            for cut in cuts_of(cutter, bytes(damaged), 4096):
                placed = clock.place(cut)
                assert 0 <= placed.duration_s <= 60
                assert 0 <= placed.gap_s <= 30
        except CorruptMedia:
            continue
