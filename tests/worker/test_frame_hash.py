"""The hash of a clip: at which frames it looks, what it takes copies for, and what says nothing."""

from __future__ import annotations

import io
import math
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from worker.frame_hash import PLACES, FrameHashes
from worker.phash import NEAR, distance, hashes_of
from worker.types import UInt8


def picture(seed: int, height: int = 240, width: int = 320) -> UInt8:
    """Smooth blobs of colour, like no other seed's."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def recompressed(rgb_HWC: UInt8, quality: int) -> UInt8:
    file = io.BytesIO()
    Image.fromarray(rgb_HWC).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def phash_of(frames: list[UInt8], start_s: float = 0.0, end_s: float = math.inf, most: int = 1024) -> str | None:
    hashes = FrameHashes(most=most)
    for second, frame in enumerate(frames):
        hashes.add(float(second), frame)
    return hashes.phash(start_s, end_s)


def away(one: str | None, other: str | None) -> float:
    assert one is not None
    assert other is not None
    return distance(hashes_of(one), hashes_of(other))


def test_a_copy_is_near_and_another_clip_is_not() -> None:
    clip = [picture(second // 4) for second in range(16)]
    copy = [recompressed(picture(second // 4, 120, 160), 20) for second in range(16)]
    assert away(phash_of(clip), phash_of(copy)) <= 2
    assert away(phash_of(clip), phash_of(clip[2:])) <= NEAR, "cut at its beginning"
    assert away(phash_of(clip), phash_of([picture(100 + second // 4) for second in range(16)])) > 2 * NEAR


def test_places_are_those_of_the_window() -> None:
    whole = phash_of([picture(seed) for seed in range(16)], 0, 16)
    assert whole is not None
    assert len(hashes_of(whole)) == PLACES
    frames = {hashes_of(phash_of([picture(seed)]) or "")[0]: seed for seed in range(16)}
    assert [frames[one] for one in hashes_of(whole)] == [1, 3, 5, 7, 9, 11, 13, 15]
    half = phash_of([picture(seed) for seed in range(16)], 0, 8)
    assert [frames[one] for one in hashes_of(half or "")][:3] == [0, 1, 2]
    later = phash_of([picture(seed) for seed in range(16)], 8, 16)
    assert {frames[one] for one in hashes_of(later or "")} == {*range(8, 16)}
    both = phash_of([picture(1), picture(2)])
    assert {frames[one] for one in hashes_of(both or "")} == {1, 2}


def test_a_picture_has_one_hash_and_flat_ones_none() -> None:
    flat = np.full((90, 90, 3), 7, np.uint8)
    assert phash_of([picture(1)]) == "v1:" + f"{hashes_of(phash_of([picture(1)]) or '')[0]:016x}"
    assert phash_of([flat]) is phash_of([flat, flat]) is phash_of([]) is None
    mixed = phash_of([flat, picture(1), flat, picture(2)])
    assert mixed is not None
    assert "-" in mixed
    assert set(hashes_of(mixed)) == {*hashes_of(phash_of([picture(1)]) or ""), *hashes_of(phash_of([picture(2)]) or "")}


@pytest.mark.parametrize(("levels", "is_flat"), [(6, True), (10, False)])
def test_what_hardly_differs_in_brightness_is_flat(levels: int, is_flat: bool) -> None:
    faint = np.full((64, 64, 3), 100, np.uint8)
    faint[:, 32:] += np.uint8(levels)
    assert (phash_of([faint]) is None) is is_flat


def test_a_hash_of_version_1_stays_what_it_was() -> None:
    """Kept ones are compared with those of today's scans. Red and blue, which differ in brightness, tell their order."""
    stripes = np.zeros((96, 96, 3), np.uint8)
    stripes[:, :20, 0] = stripes[:30, 50:, 0] = stripes[70:, 60:, 0] = 255
    stripes[..., 2] = 255 - stripes[..., 0]
    assert away(phash_of([stripes]), "v1:1e994d1202261201") <= 2


def test_of_a_great_many_frames_an_even_part_is_kept() -> None:
    clip = [picture(seed // 16, 64, 64) for seed in range(128)]
    few = phash_of(clip, most=16)
    assert few is not None
    assert away(phash_of(clip), few) == 0, "each of the eight pictures is still among them"


def test_of_frames_that_are_announced_two_for_each_place_are_looked_at() -> None:
    expected, looked_at = FrameHashes(32), FrameHashes()
    for second in range(32):
        expected.add(float(second), picture(second, 64, 64))
        if second % 2 == 0:
            looked_at.add(float(second), picture(second, 64, 64))
    assert expected.phash(0, 32) is not None
    assert expected.phash(0, 32) == looked_at.phash(0, 32)


def test_odd_sizes() -> None:
    for height, width in ((1, 1), (7, 400), (33, 31), (1080, 33)):
        seen = phash_of([picture(3, height, width)])
        assert seen is None or len(hashes_of(seen)) == 1


def clip_of(path: Path, frames: int = 16) -> list[UInt8]:
    """Its first frames, every fourth of them."""
    with av.open(str(path)) as container:
        decoded = islice(container.decode(video=0), 0, frames, 4)
        return [frame.to_ndarray(format="rgb24") for frame in decoded]


def encoded_anew(clip: list[UInt8], path: Path, height: int, crf: int) -> list[UInt8]:
    width = round(clip[0].shape[1] * height / clip[0].shape[0] / 2) * 2
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"crf": str(crf), "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for rgb_HWC in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb_HWC, format="rgb24").reformat(width, height)))
        container.mux(stream.encode())
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def test_a_real_clip_its_copies_its_face_swap_and_another_clip(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "videos" / "ffpp"
    clip = clip_of(folder / "real" / "youtube_183.mp4")
    phash = phash_of(clip)
    assert away(phash, phash_of(encoded_anew(clip, tmp_path / "a.mp4", 360, 35))) <= NEAR / 2
    cropped = [rgb_HWC[14:-14, 20:-20] for rgb_HWC in clip]
    assert away(phash, phash_of(encoded_anew(cropped, tmp_path / "b.mp4", 240, 28))) <= NEAR
    swap = folder / "fake" / "faceswap_183_253.mp4"
    assert away(phash, phash_of(clip_of(swap))) <= NEAR, "near, and yet a fake: it decides nothing"
    assert away(phash, phash_of(clip_of(folder / "real" / "youtube_634.mp4"))) > 2 * NEAR
