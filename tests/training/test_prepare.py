"""The crop cache: geometry of crops, and a round trip of shards and index."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skimage.data

from tests.training.conftest import BOX, crop, picture
from training.clips import even
from training.data import CropStore
from training.prepare import Finder, cut, jobs, prepare, read_index, same_moments, write_shard
from training.recompress import VARIANTS
from training.splits import Item, read_split
from worker.errors import ConfigError, StorageFull
from worker.faces.detect import MtcnnDetector
from worker.types import UInt8


def dotted() -> tuple[UInt8, np.ndarray]:
    """A grey frame with white squares where the landmarks are."""
    rgb_HWC = np.full((400, 600, 3), 90, np.uint8)
    landmarks = np.array([[270, 160], [330, 160], [300, 190], [275, 220], [325, 220]], np.float32)
    for x, y in landmarks.astype(int):
        rgb_HWC[y - 3 : y + 4, x - 3 : x + 4] = 255
    return rgb_HWC, landmarks


@pytest.mark.parametrize("left", [b"a,b\n1,2\n", None, b"\xff\x00\n\xff"])
def test_a_damaged_index_is_named(tmp_path: Path, left: bytes | None) -> None:
    write_shard(tmp_path, "a", [(picture(1), crop("a", 0, "real", "lfw"))])
    index = tmp_path / "a.csv"
    index.write_bytes(index.read_bytes()[:-40] if left is None else left)
    with pytest.raises(ConfigError, match=r"a\.csv is damaged.*delete a\.npy and a\.csv"):
        read_index(tmp_path)


def test_a_shard_that_finds_no_room_leaves_nothing(
    tmp_path: Path, little_room: Callable[[], AbstractContextManager[None]]
) -> None:
    with little_room(), pytest.raises(StorageFull, match=f"no room in {tmp_path}"):
        write_shard(tmp_path, "a", [(picture(1), crop("a", 0, "real", "lfw"))])
    assert not list(tmp_path.iterdir())


def test_a_source_of_the_name_of_what_is_reconstructed_is_refused(tmp_path: Path) -> None:
    """Its files would be taken for pictures without an original, and drawn in no pair."""
    item = Item(path="real/a.jpg", label="real", source="taesd", manipulation="", group="a", split="train")
    with pytest.raises(ConfigError, match="taesd: the name of what"):
        prepare([item], tmp_path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_faces_that_are_shown_turned_are_no_examples() -> None:
    upright_HWC = np.asarray(skimage.data.astronaut(), np.uint8)
    with MtcnnDetector(threads=1) as detector:
        assert len(detector.detect([np.rot90(upright_HWC)])) == 1
        upright, turned = Finder(detector).find([upright_HWC, np.rot90(upright_HWC)])
    assert upright is not None
    assert turned is None


def test_box_and_landmarks_stay_on_the_picture_through_two_cuts() -> None:
    rgb_HWC, landmarks = dotted()
    box = np.array([240, 110, 360, 260], np.float32)
    wide, wide_box, wide_landmarks = cut(rgb_HWC, box, landmarks, margin=1.8, size=288)
    final, _, final_landmarks = cut(wide, wide_box, wide_landmarks, margin=1.3, size=224)
    for shown, points in ((wide, wide_landmarks), (final, final_landmarks)):
        for x, y in points:
            assert shown[round(y), round(x)].min() > 240
    direct = cut(rgb_HWC, box, landmarks, margin=1.3, size=224)[2]
    assert np.abs(direct - final_landmarks).max() < 2.5


def test_cut_at_the_frames_edge_never_leaves_it() -> None:
    rgb_HWC, landmarks = dotted()
    box = np.array([-20, -10, 160, 190], np.float32)
    shown, its_box, _ = cut(rgb_HWC, box, landmarks, margin=1.8, size=288)
    assert shown.min() >= 90
    assert its_box[0] < 0 < its_box[2]


def test_shards_and_index_come_back_as_written(tmp_path: Path) -> None:
    pictures = [picture(n) for n in range(2)]
    write_shard(tmp_path, "one", [(pictures[n], crop("one", n, "real", "lfw")) for n in range(2)])
    rows = read_index(tmp_path)
    assert [row.row for row in rows] == [0, 1]
    assert rows[1].box == BOX
    store = CropStore(tmp_path)
    assert np.array_equal(store.picture(rows[1]), pictures[1])
    assert store.crop(rows[0]).shape == (224, 224, 3)


def test_frames_are_evenly_spread_and_never_repeat() -> None:
    assert even(100, 4) == [12, 37, 62, 87]
    assert even(3, 20) == [0, 1, 2]


def test_aligned_clips_share_a_job_that_their_original_leads() -> None:
    planned = {job.name: job for job in jobs(read_split())}
    job = planned["ffpp-033"]
    assert job.items[0].label == "real"
    assert {item.label for item in job.items[1:]} == {"fake"}
    assert sum(len(job.items) for job in planned.values() if not job.variant) == len(read_split())


def test_only_training_clips_get_recompressed_copies() -> None:
    recompressed = [job for job in jobs(read_split()) if job.variant]
    assert {job.variant for job in recompressed} == set(VARIANTS)
    assert {item.split for job in recompressed for item in job.items} == {"train"}
    assert {item.source for job in recompressed for item in job.items} == {"ffpp"}


def test_a_swapped_face_leaves_the_moment_and_another_moment_does_not() -> None:
    scene = {number: np.roll(picture(1), 6 * number, axis=1) for number in range(4)}
    swapped = {number: rgb_HWC.copy() for number, rgb_HWC in scene.items()}
    for rgb_HWC in swapped.values():
        rgb_HWC[130:150, 130:150] = 255 - rgb_HWC[130:150, 130:150]
    late = {number: np.roll(picture(1), 6 * number + 40, axis=1) for number in range(4)}
    assert same_moments(scene, swapped)
    assert not same_moments(scene, late)
    assert not same_moments(scene, {})


def clip(path: str, source: str) -> Item:
    return Item(path=path, label="real", source=source, manipulation="", group=path, split="train")


@pytest.mark.parametrize("source", ["../../away", "/away", "org/set", "a\\b", ".hidden", "x" * 300, "a\nb"])
def test_no_source_names_a_file_outside_the_cache(source: str, tmp_path: Path) -> None:
    (job,) = jobs([clip("a.mp4", source)])
    assert (tmp_path / f"{job.name}.npy").resolve().parent == tmp_path.resolve()
    write_shard(tmp_path, job.name, [])
    assert [path.name for path in tmp_path.glob("*.csv")] == [f"{job.name}.csv"]


def test_files_of_like_names_do_not_share_a_shard() -> None:
    items = [clip(path, "s") for path in ("x/a.mp4", "y/a.mp4", "z/a-1.mp4", "z/A.mp4")]
    names = [job.name.casefold() for job in jobs(items)]
    assert len(set(names)) == len(items)
    assert names == [job.name.casefold() for job in jobs(items)]


def test_an_original_and_what_was_made_of_it_share_a_shard() -> None:
    made = [
        Item(
            path=f"{n}-{copy}.png",
            label="fake" if copy else "real",
            source="s",
            manipulation="",
            group=str(n),
            split="train",
            target=f"{n:03d}",
        )
        for n in range(150)
        for copy in range(3)
    ]
    shards = jobs(made)
    assert len(shards) > 1
    assert sum(len(job.items) for job in shards) == len(made)
    homes = [{job.name for job in shards for item in job.items if item.target == f"{n:03d}"} for n in range(150)]
    assert all(len(names) == 1 for names in homes)


@pytest.mark.parametrize("suffix", ["mp4", "png"])
def test_a_fake_is_cut_beside_its_original_of_another_source(suffix: str) -> None:
    real = replace(clip(f"o/1.{suffix}", "youtube"), target="1-abc")
    fake = replace(real, path=f"f/swap.{suffix}", label="fake", source="mine")
    (job,) = jobs([fake, real], recompress=False)
    assert (job.name, job.items) == ("youtube-1-abc" if suffix == "mp4" else "youtube-pairs-00000", (real, fake))
