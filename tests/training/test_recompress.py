"""Copies of a clip encoded again: the right frames, the right size, more loss at a higher rate factor."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from training.clips import even
from training.recompress import VARIANTS, Variant
from worker.errors import CorruptMedia, UnsupportedMedia
from worker.types import UInt8


def shown(number: int) -> UInt8:
    """A textured picture [96, 128, 3] whose mean grey level tells its number."""
    noise = np.random.default_rng(number).integers(0, 12, (96, 128, 1))
    return np.broadcast_to(20 + 10 * number + noise, (96, 128, 3)).astype(np.uint8)


def written(path: Path, places: Sequence[int]) -> Path:
    """Frames that are shown at these multiples of 0.04 s."""
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", rate=25, options={"crf": "10"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for number, place in enumerate(places):
            frame = av.VideoFrame.from_ndarray(shown(number), format="rgb24")
            frame.pts, frame.time_base = place, Fraction(1, 25)
            sink.mux(stream.encode(frame))
        sink.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("clip") / "clip.mp4", range(20))


def test_frames_keep_their_numbers(clip: Path) -> None:
    frames = Variant(crf=20, phase=0.5).frames(clip, {3, 11, 19})
    assert sorted(frames) == [3, 11, 19]
    for number, rgb_HWC in frames.items():
        assert rgb_HWC.shape == (96, 128, 3)
        assert abs(float(rgb_HWC.mean()) - float(shown(number).mean())) < 4


def test_a_clip_of_uneven_frames_has_no_copy_where_it_shows_another_moment(tmp_path: Path) -> None:
    uneven = written(tmp_path / "uneven.mp4", [*range(15), *range(20, 70, 10)])
    with pytest.raises(UnsupportedMedia, match="shown unevenly, number 14"):
        Variant(crf=20, phase=0.5).frames(uneven, {0, 14})
    late = written(tmp_path / "late.mp4", [*range(18), 20, 22])
    assert sorted(Variant(crf=20, phase=0.5).frames(late, {3, 19})) == [3, 19]


def test_a_copy_is_scaled_where_asked(clip: Path) -> None:
    (frame,) = Variant(crf=20, phase=0.5, rows=48).frames(clip, {0}).values()
    assert frame.shape == (48, 64, 3)


def test_a_higher_rate_factor_loses_more(clip: Path) -> None:
    def loss(crf: int) -> float:
        (frame,) = Variant(crf=crf, phase=0.5).frames(clip, {4}).values()
        return float(np.abs(frame.astype(int) - shown(4)).mean())

    assert loss(40) > loss(15) + 0.3


def test_nothing_is_encoded_for_no_frames(tmp_path: Path) -> None:
    assert Variant(crf=20, phase=0.5).frames(tmp_path / "none.mp4", set()) == {}


def test_variants_look_at_other_frames() -> None:
    chosen = [set(even(100, 10, variant.phase)) for variant in VARIANTS.values()]
    assert sum(map(len, chosen)) == len(set().union(*chosen))


def test_what_does_not_decode_has_a_code(clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(clip.read_bytes()[:200])
    with pytest.raises(CorruptMedia, match="cannot be encoded again"):
        Variant(crf=20, phase=0.5).frames(broken, {0})
