"""How much of a file could not be decoded is told as a pass ends."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests.worker.frames.conftest import FPS, Barcoded, cut_by_edit_list
from worker.frames.choose import open_media
from worker.frames.limits import Limits
from worker.frames.sampling import share_lost
from worker.frames.sandbox import SandboxedFrames
from worker.types import SamplingRequest, Strategy


def ruined(source: Barcoded, path: Path, start_s: float, end_s: float) -> Path:
    """The packets that are shown in [start, end) overwritten; the file is as long as it was."""
    data = bytearray(source.path.read_bytes())
    with av.open(str(source.path)) as container:
        for packet in container.demux(container.streams.video[0]):
            if packet.pts is not None and packet.pos is not None and start_s <= packet.pts * packet.time_base < end_s:
                data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(data)
    return path


def share_of(path: Path, request: SamplingRequest | None = None) -> float:
    with path.open("rb") as file, open_media(file, Limits()) as media:
        assert sum(1 for _ in media.frames(request or SamplingRequest())) > 1
        return media.lost_share


@pytest.mark.parametrize("strategy", [Strategy.AUTO, Strategy.UNIFORM])
def test_a_stretch_that_cannot_be_decoded_is_told(clips: Any, tmp_path: Path, strategy: Strategy) -> None:
    """By key frames and by even moments: 12 s of 31."""
    request = SamplingRequest(strategy=strategy)
    whole = clips["half_minute"]
    assert share_of(whole.path, request) == 0.0
    assert share_of(ruined(whole, tmp_path / "ruined.mp4", 8.0, 20.0), request) == pytest.approx(12 / 31.2, abs=0.06)


def test_an_end_that_cannot_be_decoded_is_told(clips: Any, tmp_path: Path) -> None:
    assert share_of(ruined(clips["h264_one_key"], tmp_path / "ruined.mp4", 1.0, 9.0)) == pytest.approx(0.5, abs=0.1)


def test_a_beginning_that_cannot_be_decoded_is_told_and_keeps_its_time(clips: Any, tmp_path: Path) -> None:
    path = ruined(clips["half_minute"], tmp_path / "ruined.mp4", 0.0, 16.0)
    with path.open("rb") as file, open_media(file, Limits()) as media:
        first = next(media.frames(SamplingRequest()))
        assert (media.info.duration_s, first.pts_s) == (pytest.approx(31.2, abs=0.1), pytest.approx(16.0, abs=0.3))
    assert share_of(path) == pytest.approx(0.5, abs=0.06)


def test_time_begins_with_what_decodes_where_that_is_soon(clips: Any, tmp_path: Path) -> None:
    path = ruined(clips["half_minute"], tmp_path / "ruined.mp4", 0.0, 0.7)
    with path.open("rb") as file, open_media(file, Limits()) as media:
        assert next(media.frames(SamplingRequest(times_s=(0.0,)))).pts_s == 0.0
    assert share_of(path) == 0.0


def copied(source: Path, path: Path, change: Callable[[av.Packet[Any], Fraction], None]) -> Path:
    """The pictures in another file, each packet changed by what ``change`` does to it; it is told when that is shown."""
    with av.open(str(source)) as old, av.open(str(path), "w") as new:
        copy = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(old.streams.video[0]):
            if packet.pts is not None and packet.time_base is not None:
                change(packet, packet.pts * packet.time_base)
                packet.stream = copy
                new.mux(packet)
    return path


def test_a_recording_that_begins_between_key_frames_lacks_nothing(clips: Any, tmp_path: Path) -> None:
    def without_early_keys(packet: av.Packet[Any], at_s: Fraction) -> None:
        packet.is_keyframe = packet.is_keyframe and at_s >= 8

    path = copied(ruined(clips["half_minute"], tmp_path / "ruined.mp4", 0.0, 8.0), tmp_path / "between.mp4", without_early_keys)
    assert begins_with_what_decodes(path, 23.2)


def test_what_does_not_decode_is_no_beginning_where_it_lies_an_hour_before_the_rest(clips: Any, tmp_path: Path) -> None:
    """Its times may be damaged too: nobody lost an hour of pictures."""

    def an_hour_on(packet: av.Packet[Any], at_s: Fraction) -> None:
        if at_s >= 4 and packet.pts is not None and packet.dts is not None:
            hour = round(3600 / packet.time_base)
            packet.pts, packet.dts = packet.pts + hour, packet.dts + hour

    apart = copied(clips["half_minute"].path, tmp_path / "apart.mp4", an_hour_on)
    assert begins_with_what_decodes(ruined(Barcoded(path=apart, shown=()), tmp_path / "ruined.mp4", 0.0, 4.0), 27.2)


def test_what_an_edit_list_cuts_off_need_not_decode(clips: Any, tmp_path: Path) -> None:
    def only_one_key(packet: av.Packet[Any], at_s: Fraction) -> None:
        packet.is_keyframe = at_s == 0

    whole = copied(clips["all_keys"].path, tmp_path / "whole.mp4", only_one_key)
    cut = cut_by_edit_list(Barcoded(path=whole, shown=()), tmp_path / "cut.mp4", first=100)
    assert begins_with_what_decodes(ruined(cut, tmp_path / "ruined.mp4", -4.0, 0.0), 140 / FPS)


def begins_with_what_decodes(path: Path, duration_s: float) -> bool:
    """Whether time does, and nothing is told of as lost."""
    with path.open("rb") as file, open_media(file, Limits()) as media:
        first = next(media.frames(SamplingRequest(times_s=(0.0,))))
        found = media.info.duration_s, first.pts_s, share_of(path)
    return found == (pytest.approx(duration_s, abs=0.3), 0.0, 0.0)


def test_a_moment_whose_neighbour_decodes_is_not_lost(clips: Any) -> None:
    assert share_of(clips["corrupt_tail"].path) == 0.0


def test_a_window_is_told_of_by_itself_and_the_last_pass_counts(clips: Any, tmp_path: Path) -> None:
    path = ruined(clips["half_minute"], tmp_path / "ruined.mp4", 8.0, 20.0)
    with SandboxedFrames(Limits()) as frames, frames.open(path) as media:
        for window, share in (((9.0, 19.0), 1.0), ((22.0, 30.0), 0.0)):
            list(media.frames(SamplingRequest(strategy=Strategy.UNIFORM, max_frames=8, start_s=window[0], end_s=window[1])))
            assert media.lost_share == pytest.approx(share, abs=0.26)


@pytest.mark.parametrize(
    ("given_s", "spoilt_s", "share"),
    [
        ((0.0, 1.0, 2.0, 3.0), (2.0,), 0.0),
        ((0.0, 1.0), (2.0, 3.0), 0.5),
        ((0.0, 1.0), (), 0.0),
        ((), (0.0, 1.0, 2.0, 3.0), 1.0),
        ((0.0, 1.2, 2.2, 3.0), (1.0, 2.0), 0.0),
    ],
)
def test_a_moment_is_lost_where_what_could_not_be_decoded_is_nearer_and_nothing_is_near(
    given_s: tuple[float, ...], spoilt_s: tuple[float, ...], share: float
) -> None:
    """Pictures that stand still for long are not: nothing of them could not be decoded."""
    assert share_lost((0.0, 1.0, 2.0, 3.0), given_s, spoilt_s, fps=25.0) == share
