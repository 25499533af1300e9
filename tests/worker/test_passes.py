"""Which frames are handed out when, what is kept aside, and that what is kept is a copy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from worker.errors import CorruptMedia, DecodeCrash, VeriframeError
from worker.passes import Passes
from worker.pixels import rgb_frame
from worker.types import Frame, MediaInfo, MediaKind, SamplingRequest, Strategy

SIDE = 32
FRAME_BYTES = 3 * SIDE * SIDE


class Media:
    """Frames of one memory, each grey by its place; asked-for moments are given at their rounded milliseconds."""

    def __init__(
        self,
        count: int = 32,
        *,
        kind: MediaKind = MediaKind.VIDEO,
        error: VeriframeError | None = None,
        announced: int = 250,
        sizes: Sequence[int] = (SIDE,),
    ) -> None:
        self.info = MediaInfo(
            kind=kind, container="mp4", codec="h264", width=SIDE, height=SIDE, duration_s=10.0, fps=25, n_frames=announced
        )
        self.lost_share = 0.0
        self._count = count
        self._error = error
        self._sizes = sizes

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        times = request.times_s or [(i + 0.5) * 10.0 / 32 for i in range(self._count)]
        for place, time_s in enumerate(times):
            side = self._sizes[min(place, len(self._sizes) - 1)]
            yield rgb_frame(time_s, np.full((side, side, 3), place, np.uint8))
        if self._error:
            raise self._error


def passes(
    media: Media, request: SamplingRequest | None = None, *, batch: int = 4, batch_frames: int = 99, hold: int = 99
) -> Passes:
    return Passes(
        media,
        request or SamplingRequest(),
        batch_frames=batch,
        batch_bytes=batch_frames * FRAME_BYTES,
        hold_bytes=hold * FRAME_BYTES,
    )


def places(batches: Iterator[list[Frame]]) -> list[list[int]]:
    return [[int(frame.rgb_HWC[0, 0, 0]) for frame in batch] for batch in batches]


def test_one_frame_in_six_comes_first_and_then_those_between() -> None:
    parts = [places(batches) for batches in passes(Media()).first()]
    assert parts == [
        [[0, 9, 12], [21, 27, 30]],
        [[3, 6], [15, 18, 24]],
        [[1, 10, 13], [22, 28, 31]],
        [[4, 7], [16, 19, 25]],
        [[2, 11], [14, 23, 29]],
        [[5, 8], [17, 20, 26]],
    ]


def test_whole_batches_of_later_turns_are_offered_meanwhile_and_handed_out_all_the_same() -> None:
    taken: list[list[Frame]] = []
    offers: list[list[int]] = []

    def begin(batch: list[Frame]) -> bool:
        offers.append(places(iter([batch]))[0])
        if len(offers) % 2:
            return False  # every other time no thread is idle
        taken.append(batch)
        return True

    handed_out = [batch for batches in passes(Media()).first(begin) for batch in batches]
    assert offers[0] == [3, 6], "the first that is whole: of the next turn"
    assert len(taken) > 4
    assert all(any(batch is other for other in handed_out) for batch in taken)
    assert places(iter(handed_out)) == [batch for batches in passes(Media()).first() for batch in places(batches)]


def test_the_earliest_turn_is_offered_first() -> None:
    offers: list[list[int]] = []

    def never(batch: list[Frame]) -> bool:
        offers.extend(places(iter([batch])))
        return False

    parts = passes(Media()).first(never)
    list(next(parts))
    assert set(map(tuple, offers)) == {(3, 6)}
    list(next(parts))
    assert offers[-1] == [1, 10, 13], "that turn is over"


def test_offers_go_on_when_all_is_decoded_and_the_first_looks_are_not_done() -> None:
    wanted = passes(Media())
    states: list[bool] = []

    def begin(batch: list[Frame]) -> bool:
        states.append(wanted.is_decoded)
        return False

    list(next(wanted.first(begin)))
    assert states[-1]
    assert not any(states[:-1])


@pytest.mark.parametrize(
    "wanted",
    [
        passes(Media(), SamplingRequest(exhaustive=True)),
        passes(Media(), hold=25),
        passes(Media(kind=MediaKind.PICTURE)),
        passes(Media(), SamplingRequest(strategy=Strategy.KEYFRAMES)),
    ],
    ids=["exhaustive", "too much to keep aside", "a picture", "as many frames as there are key frames"],
)
def test_otherwise_all_come_in_rising_time(wanted: Passes) -> None:
    (part,) = (places(batches) for batches in wanted.first())
    assert [place for batch in part for place in batch] == list(range(32))
    assert not wanted.is_spread


def test_a_file_that_announces_few_frames_and_has_many_is_not_kept_in_memory() -> None:
    wanted = passes(Media(announced=6), hold=6)
    parts = [places(batches) for batches in wanted.first()]
    assert [place for batch in parts[0] for place in batch] == [0, *range(7, 32)]
    assert sorted(place for part in parts[1:] for batch in part for place in batch) == [1, 2, 3, 4, 5, 6]
    assert not wanted.is_spread, "nothing is settled early then"


def test_frames_larger_than_announced_are_not_kept_in_memory_either() -> None:
    wanted = passes(Media(sizes=(SIDE, 4 * SIDE)), hold=32)
    parts = [places(batches) for batches in wanted.first()]
    assert sorted(place for part in parts[1:] for batch in part for place in batch) == [1, 2], "two of 16 times the size, no more"
    assert sorted(place for part in parts for batch in part for place in batch) == list(range(32))
    assert not wanted.is_spread


def test_a_batch_holds_frames_of_one_size() -> None:
    turned = Media(sizes=(*[SIDE] * 7, SIDE // 2))
    parts = [places(batches) for batches in passes(turned).first()]
    assert parts[0] == [[0], [9, 12], [21, 27, 30]]
    assert parts[1] == [[3, 6], [15, 18, 24]]
    (part,) = (places(batches) for batches in passes(turned, SamplingRequest(exhaustive=True)).first())
    assert part[:3] == [[0, 1, 2, 3], [4, 5, 6], [7]]


def test_a_batch_is_bounded_by_bytes() -> None:
    (part,) = (places(batches) for batches in passes(Media(), SamplingRequest(exhaustive=True), batch_frames=3).first())
    assert {len(batch) for batch in part[:-1]} == {3}


def test_what_was_asked_for_is_known_before_all_was_looked_at() -> None:
    wanted = passes(Media())
    first = next(wanted.first())
    assert wanted.requested == 32
    assert sum(map(len, places(first))) == 6
    assert len(wanted.times_s) == 32, "all were decoded"
    assert wanted.times_s == sorted(wanted.times_s)


def test_a_short_window_asks_for_the_frames_that_it_holds() -> None:
    wanted = passes(Media(count=5), SamplingRequest(start_s=1.0, end_s=1.2))
    assert (wanted.requested, wanted.wanted) == (5, 5)


def test_frames_that_crowd_in_a_window_are_all_handed_out_and_were_all_asked_for() -> None:
    """Of a variable rate: at the mean one the window holds five."""
    wanted = passes(Media(count=32), SamplingRequest(start_s=1.0, end_s=1.2))
    parts = [places(batches) for batches in wanted.first()]
    assert sorted(place for part in parts for batch in part for place in batch) == list(range(32))
    assert wanted.requested == 32


def test_of_key_frames_as_many_as_came_were_asked_for() -> None:
    wanted = passes(Media(count=7), SamplingRequest(strategy=Strategy.KEYFRAMES))
    assert wanted.wanted is None
    for batches in wanted.first():
        places(batches)
    assert wanted.requested == 7


def test_media_that_break_off_keep_what_came_before() -> None:
    wanted = passes(Media(count=8, error=CorruptMedia("broken off")))
    assert sorted(place for batches in wanted.first() for batch in places(batches) for place in batch) == list(range(8))
    assert isinstance(wanted.failure, CorruptMedia)
    assert wanted.requested == 32


def test_a_dead_decoder_ends_the_scan() -> None:
    wanted = passes(Media(count=8, error=DecodeCrash("SIGSEGV")))
    with pytest.raises(DecodeCrash):
        places(next(wanted.first()))


def test_a_second_pass_leaves_out_what_was_decoded() -> None:
    wanted = passes(Media())
    for batches in wanted.first():
        places(batches)
    again = wanted.times_s[3] + 0.00001
    (batch,) = places(wanted.second((again, 5.001, 5.002)))
    assert batch == [1, 2]
    assert wanted.wanted == 35
    assert wanted.requested == 32


class Noise(Media):
    """Frames that look like no other."""

    def frames(self, request: SamplingRequest) -> Iterator[Frame]:
        for frame in Media.frames(self, request):
            draw = np.random.default_rng(round(1e4 * frame.pts_s))
            yield rgb_frame(frame.pts_s, draw.integers(0, 256, (SIDE, SIDE, 3)).astype(np.uint8))


def test_what_a_file_looks_like_goes_by_all_frames_of_the_first_pass_however_many_are_looked_at() -> None:
    settled, exhaustive = passes(Noise()), passes(Noise(), SamplingRequest(exhaustive=True))
    for _ in next(settled.first()):
        pass
    for batches in exhaustive.first():
        for _ in batches:
            pass
    seen = settled.hashes.phash(0, 10)
    assert seen is not None
    assert seen == exhaustive.hashes.phash(0, 10)
    assert len(set(seen.removeprefix("v1:").split("."))) == 8
    for _ in exhaustive.second(tuple(np.linspace(0.6, 9.4, 64))):
        pass
    assert exhaustive.hashes.phash(0, 10) == seen, "a second pass is about the verdict"
