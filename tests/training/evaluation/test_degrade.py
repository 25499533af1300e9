"""Degradations: each does what it says, at the level it says, on pictures and on encoded video."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from training.evaluation.degrade import FAMILIES, blur, degrade, encode, flip, gray, jpeg, noise, resize, rows
from worker.errors import VeriframeError
from worker.frame_source import build_frames
from worker.frames.sandbox import SandboxedFrames
from worker.settings import load_settings
from worker.types import UInt8

FAMILY = {family.name: family for family in FAMILIES}


@pytest.fixture(scope="module")
def rgb_HWC() -> UInt8:
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.uniform(20, 235, (6, 8, 3)).astype(np.float32), (64, 48), interpolation=cv2.INTER_CUBIC)
    return (smooth + rng.normal(0, 5, smooth.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def frames() -> Iterator[SandboxedFrames]:
    with build_frames(load_settings()) as opened:
        yield opened


def difference(first: UInt8, second: UInt8) -> float:
    return float(np.abs(first.astype(float) - second).mean())


@pytest.mark.parametrize(("change", "levels"), [(jpeg, (90, 40)), (blur, (0.7, 3.0)), (noise, (3, 16)), (gray, (0.5, 1.0))])
def test_a_worse_level_changes_more(
    change: Callable[[UInt8, float, int], UInt8], levels: tuple[float, float], rgb_HWC: UInt8
) -> None:
    mild, strong = (difference(rgb_HWC, change(rgb_HWC, level, 0)) for level in levels)
    assert 0 < mild < strong


def test_levels_of_every_family_go_from_mild_to_strong_and_keep_the_type(rgb_HWC: UInt8) -> None:
    for family in FAMILIES:
        for level in family.levels:
            changed = family.change(rgb_HWC, level, 0)
            assert changed.dtype == np.uint8
            assert changed.ndim == 3
    assert 3 <= len(FAMILY["h264"].levels) <= 5


def test_noise_has_the_stated_deviation_and_is_drawn_from_the_seed() -> None:
    flat = np.full((64, 64, 3), 128, np.uint8)
    assert noise(flat, 8, 0).std() == pytest.approx(8, rel=0.05)
    assert noise(flat, 8, 0).mean() == pytest.approx(128, abs=0.3)
    assert np.array_equal(noise(flat, 8, 0), noise(flat, 8, 0))
    assert not np.array_equal(noise(flat, 8, 0), noise(flat, 8, 1))


def test_shapes_and_colours(rgb_HWC: UInt8) -> None:
    assert resize(rgb_HWC, 0.5, 0).shape == (24, 32, 3)
    assert resize(rgb_HWC, 0.01, 0).shape == (16, 16, 3)
    assert [rows(rgb_HWC, most, 0).shape for most in (24, 360)] == [(24, 32, 3), (48, 64, 3)]
    assert np.array_equal(flip(flip(rgb_HWC, 1, 0), 1, 0), rgb_HWC)
    assert np.array_equal(flip(rgb_HWC, 1, 0)[:, 0], rgb_HWC[:, -1])
    grey = gray(rgb_HWC, 1.0, 0).astype(int)
    assert np.ptp(grey, axis=2).max() == 0


def test_a_picture_is_changed_upright_and_kept_losslessly(frames: SandboxedFrames, rgb_HWC: UInt8, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    Image.fromarray(rgb_HWC).save(path, exif=exif)
    out = degrade(frames, path, FAMILY["flip"], 1, tmp_path)
    assert np.array_equal(np.asarray(Image.open(out)), np.rot90(rgb_HWC, -1)[:, ::-1])


def test_video_is_encoded_anew_worse_at_a_higher_crf(frames: SandboxedFrames, rgb_HWC: UInt8, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    moving = [np.roll(rgb_HWC, number, axis=1) for number in range(12)]
    assert encode(path, iter(moving), fps=12, crf=0) == 12

    def error(name: str, level: float, seconds: float = 6) -> tuple[int, float]:
        out = degrade(frames, path, FAMILY[name], level, tmp_path, seconds=seconds)
        with av.open(str(out)) as container:
            shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return len(shown), float(np.mean([difference(one, other) for one, other in zip(shown, moving, strict=False)]))

    count, clean = error("reencode", 12)
    assert count == 12
    assert clean < error("h264", 28)[1] < error("h264", 40)[1]
    assert error("reencode", 12, seconds=0.5)[0] == 6
    with av.open(str(degrade(frames, path, FAMILY["rows"], 24, tmp_path))) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (32, 24)


def test_odd_sides_lose_a_row_or_column(frames: SandboxedFrames, rgb_HWC: UInt8, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    encode(path, iter([rgb_HWC] * 3), fps=5, crf=12)
    out = degrade(frames, path, FAMILY["resize"], 0.35, tmp_path)
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (22, 16)


def test_what_cannot_be_read_is_an_error_of_ours(frames: SandboxedFrames, tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"no picture")
    with pytest.raises(VeriframeError):
        degrade(frames, path, FAMILY["blur"], 1, tmp_path)


def test_a_link_is_followed(frames: SandboxedFrames, rgb_HWC: UInt8, tmp_path: Path) -> None:
    path, link = tmp_path / "a.png", tmp_path / "link.png"
    Image.fromarray(rgb_HWC).save(path)
    link.symlink_to(path)
    assert degrade(frames, link, FAMILY["flip"], 1, tmp_path).name == "degraded.png"
