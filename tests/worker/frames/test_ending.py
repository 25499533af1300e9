"""What was cut off is told where the file announces it, and only there."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from tests.worker.frames.conftest import RECIPES, Barcoded, Recipe, cut_short, encode, repeat, shorten_header
from worker.frames.choose import open_media
from worker.frames.limits import Limits
from worker.types import MediaInfo, SamplingRequest

FASTSTART = {"movflags": "faststart"}
LONG_S = 7.0
LONG = replace(RECIPES["h264"], n_frames=210)
KINDS = {
    "index in front": replace(LONG, muxer=FASTSTART),
    "fragments and their list": replace(LONG, muxer={"movflags": "frag_keyframe+global_sidx+default_base_moof"}),
    "Matroska": replace(LONG, suffix=".mkv"),
    "Matroska, cues in front": replace(LONG, suffix=".mkv", muxer={"cues_to_front": "1", "reserve_index_space": "2000"}),
    "AVI": replace(LONG, suffix=".avi", codec="mpeg4", options={"q": "3", "bf": "0"}),
    "FLV": replace(LONG, suffix=".flv"),
    "FLV, list of key frames": replace(LONG, suffix=".flv", muxer={"flvflags": "add_keyframe_index"}),
}
UNTOLD = {
    "fragments alone": replace(LONG, muxer={"movflags": "frag_keyframe+empty_moov"}),
    "live Matroska": replace(LONG, suffix=".mkv", muxer={"live": "1"}),
    "MPEG-TS": replace(LONG, suffix=".ts"),
}


@pytest.fixture(scope="module")
def made(clips: Any) -> Callable[[str], Barcoded]:
    """A clip of one of these kinds, encoded when first asked for."""
    known: dict[str, Barcoded] = {}

    def make(kind: str) -> Barcoded:
        recipe: Recipe = (KINDS | UNTOLD)[kind]
        if kind not in known:
            known[kind] = encode(recipe, clips.path(f"ending{len(known)}{recipe.suffix}"))
        return known[kind]

    return make


def boasting(source: Barcoded, path: Path, duration_s: float) -> Barcoded:
    """Matroska that announces another duration."""
    data = bytearray(source.path.read_bytes())
    at = data.index(b"\x44\x89\x88") + 3
    data[at : at + 8] = struct.pack(">d", 1000 * duration_s)
    path.write_bytes(data)
    return Barcoded(path=path, shown=source.shown, keys=source.keys)


def told(path: Path, limits: Limits | None = None) -> tuple[MediaInfo, float]:
    """What the probe says, and when the last frame is shown that can be read."""
    with path.open("rb") as file, open_media(file, limits or Limits()) as media:
        return media.info, max(frame.pts_s for frame in media.frames(SamplingRequest()))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_was_cut_off_is_as_long_as_it_announces(made: Callable[[str], Barcoded], tmp_path: Path, kind: str) -> None:
    whole, last_s = told(made(kind).path)
    assert (whole.missing_s, whole.duration_s, last_s > 6) == (0.0, pytest.approx(LONG_S, abs=0.05), True)
    info, last_s = told(cut_short(made(kind), tmp_path / "cut", 0.55).path)
    assert info.duration_s == pytest.approx(LONG_S, abs=0.05)
    assert info.n_frames == pytest.approx(210, abs=2)
    assert info.duration_s - info.missing_s == pytest.approx(last_s, abs=0.2), "what is there is looked at as far as it goes"
    assert 2 < info.missing_s < 5


def test_the_index_tells_or_the_boxes(made: Callable[[str], Barcoded], tmp_path: Path) -> None:
    """Of a ``mdat`` that goes on to the end of the file only the index; of a file that ends in a fragment's head the box."""
    data = bytearray(made("index in front").path.read_bytes())
    at = data.index(b"mdat") - 4
    data[at : at + 4] = bytes(4)
    fragments = made("fragments and their list").path.read_bytes()
    third = [found.start() for found in re.finditer(b"moof", fragments)][2]
    for number, there in enumerate((data[: len(data) // 2], fragments[: third + 8])):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(there)
        assert told(path)[0].missing_s > 2


@pytest.mark.parametrize("kind", UNTOLD)
def test_what_announces_nothing_lacks_nothing(made: Callable[[str], Barcoded], tmp_path: Path, kind: str) -> None:
    info, last_s = told(cut_short(made(kind), tmp_path / "cut", 0.55).path)
    assert (info.missing_s, info.duration_s) == (0.0, pytest.approx(last_s, abs=0.2))


def test_a_header_alone_makes_no_file_broken(made: Callable[[str], Barcoded], tmp_path: Path) -> None:
    """One that says too much; nor does one that says too little make one whole."""
    info, _ = told(boasting(made("Matroska"), tmp_path / "boasting.mkv", 600.0).path)
    assert (info.missing_s, info.duration_s) == (0.0, pytest.approx(LONG_S, abs=0.05))
    modest = shorten_header(made("index in front"), tmp_path / "modest.mp4", 0.2)
    info, _ = told(cut_short(modest, tmp_path / "cut.mp4", 0.5).path)
    assert info.duration_s == pytest.approx(LONG_S, abs=0.15)


@pytest.fixture
def overwrite(clips: Any, tmp_path: Path) -> Callable[[float, float], Path]:
    """Half a minute of Matroska, overwritten from a share of the place of its last cluster to another."""
    path = repeat(clips["h264"], tmp_path / "overwritten.mkv", 13).path

    def do(begin_share: float, end_share: float) -> Path:
        data = bytearray(path.read_bytes())
        begin, end = (round(share * data.rindex(b"\x1f\x43\xb6\x75")) for share in (begin_share, end_share))
        data[begin : end + 4] = bytes(end + 4 - begin)
        path.write_bytes(data)
        return path

    return do


def test_last_clusters_of_matroska_that_were_overwritten_are_missing(overwrite: Callable[[float, float], Path]) -> None:
    info, last_s = told(overwrite(0.45, 1.0))
    assert info.duration_s == pytest.approx(31.2, abs=0.1)
    assert info.missing_s == pytest.approx(31.2 - last_s, abs=1)


def test_clusters_of_matroska_that_were_overwritten_in_the_middle_are_lost(overwrite: Callable[[float, float], Path]) -> None:
    """FFmpeg goes on at the next that is there, as if nothing had been between."""
    with overwrite(0.3, 0.6).open("rb") as file, open_media(file, Limits()) as media:
        seen = [frame.pts_s for frame in media.frames(SamplingRequest())]
        gap_s = max(after - before for before, after in pairwise(seen))
        assert (media.info.missing_s, gap_s > 5) == (0.0, True)
        assert media.lost_share == pytest.approx(gap_s / 31.2, abs=0.1)


@pytest.mark.parametrize("place", [-(1 << 40), (1 << 63) - 1])
def test_an_index_of_matroska_may_name_places_that_no_file_has(clips: Any, tmp_path: Path, place: int) -> None:
    """Written in place of the last two points of the index, with a void behind."""
    path = repeat(clips["h264"], tmp_path / "lying.mkv", 13).path
    data = bytearray(path.read_bytes())
    points = re.compile(rb"\xbb.\xb3").finditer(data, data.rindex(b"\x1c\x53\xbb\x6b"))
    *_, at, last = (found.start() for found in points)
    end = last + 2 + (data[last + 1] & 0x7F)
    point = b"\xbb\x92\xb3\x81\x01\xb7\x8d\xf7\x81\x01\xf1\x88" + (place % (1 << 64)).to_bytes(8, "big")
    void = end - at - len(point) - 2
    data[at:end] = point + bytes((0xEC, 0x80 | void)) + bytes(void)
    path.write_bytes(data)
    info, last_s = told(path)
    assert (info.missing_s, last_s) == (0.0, pytest.approx(30.7, abs=0.6))


def test_missing_bytes_alone_make_no_file_broken(made: Callable[[str], Barcoded], tmp_path: Path) -> None:
    for kind in ("index in front", "Matroska", "AVI", "FLV"):
        info, _ = told(cut_short(made(kind), tmp_path / "cut", 0.98).path)
        assert info.missing_s == 0.0


def test_what_is_announced_is_believed_up_to_the_limit(made: Callable[[str], Barcoded], tmp_path: Path) -> None:
    whole = boasting(made("Matroska"), tmp_path / "boasting.mkv", 600.0)
    info, _ = told(cut_short(whole, tmp_path / "cut.mkv", 0.5).path, Limits(max_duration_s=20.0))
    assert info.duration_s == 20.0
    assert info.missing_s > 15


def test_a_clock_that_begins_late_is_no_length(clips: Any, tmp_path: Path) -> None:
    """Matroska's duration counts from 0."""
    path = tmp_path / "late.mkv"
    with av.open(str(clips["h264"].path)) as old, av.open(str(path), "w") as new:
        stream = old.streams.video[0]
        copy = new.add_stream_from_template(stream)
        for packet in old.demux(stream):
            if packet.dts is not None and packet.pts is not None:
                shift = round(1000 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, copy
                new.mux(packet)
    whole = Barcoded(path=path, shown=clips["h264"].shown)
    assert told(path)[0].missing_s == 0.0
    assert told(cut_short(whole, tmp_path / "cut.mkv", 0.7).path)[0].missing_s == 0.0
