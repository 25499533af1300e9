from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from worker.demo import EXPECTATIONS, FOLDER, demo_files
from worker.demo.build import CLIPS, FRAMES, HEIGHT, WIDTH, encode, with_noise
from worker.types import Label, UInt8

REPOSITORY = Path(__file__).resolve().parents[3]
LEAST_PSNR_DB = 35.0


def decoded(path: Path) -> list[UInt8]:
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return [frame.to_ndarray(format="rgb24").astype(np.uint8) for frame in container.decode(video=0)]


def psnr_db(a: UInt8, b: UInt8) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(np.float32) - b.astype(np.float32)) ** 2)))


def test_every_kind_of_answer_is_shown() -> None:
    files = demo_files()
    assert {file.expected for file in files} == {Label.REAL, Label.FAKE, Label.NOT_APPLICABLE}
    assert sorted(file.people for file in files) == [0, 1, 1, 2]
    assert {file.path for file in files} == set(FOLDER.glob("*.mp4"))
    assert {file.path.name for file in files} == set(CLIPS)
    assert all(file.path.stat().st_size < 250_000 for file in files)


def test_every_clip_names_pictures_whose_terms_are_known() -> None:
    listed = json.loads(EXPECTATIONS.read_text(encoding="utf-8"))
    for entry in listed["files"]:
        assert entry["made_from"]
        for picture in entry["made_from"]:
            terms = listed["pictures"][picture]["terms"]
            assert terms.startswith(("public domain", "CC0"))


@pytest.mark.parametrize("name", CLIPS)
def test_committed_clip_shows_what_the_builder_makes(name: str) -> None:
    committed = decoded(FOLDER / name)
    made = list(islice(CLIPS[name](), 25))
    assert len(committed) == FRAMES
    assert committed[0].shape == (HEIGHT, WIDTH, 3)
    worst_db = min(psnr_db(a, b) for a, b in zip(committed[:25:4], made[::4], strict=True))
    assert worst_db > LEAST_PSNR_DB - 2, "before noise and encoding"


def test_encoding_again_gives_the_committed_pictures(tmp_path: Path) -> None:
    seed, name, count = list(CLIPS).index("swapped.mp4"), "swapped.mp4", 10
    encode(tmp_path / name, with_noise(islice(CLIPS[name](), count), seed))
    again, committed = decoded(tmp_path / name), decoded(FOLDER / name)[:count]
    assert len(again) == count
    assert min(psnr_db(a, b) for a, b in zip(again, committed, strict=True)) > LEAST_PSNR_DB


def test_the_swap_changes_the_face_and_nothing_else() -> None:
    untouched, swapped = (decoded(FOLDER / name)[20].astype(np.float32) for name in ("untouched.mp4", "swapped.mp4"))
    changed_HW = np.abs(untouched - swapped).mean(axis=2) > 24
    rows, columns = np.nonzero(changed_HW)
    assert changed_HW.sum() > 2000
    assert np.percentile(rows, [1, 99]) == pytest.approx([165, 255], abs=60)
    assert np.percentile(columns, [1, 99]) == pytest.approx([245, 375], abs=40)


def test_demo_media_enter_no_training() -> None:
    names = set(CLIPS)
    text_files = [
        *REPOSITORY.glob("training/**/*.csv"),
        *REPOSITORY.glob("training/**/*.py"),
        *REPOSITORY.glob("configs/**/*.yaml"),
    ]
    assert text_files
    for path in text_files:
        text = path.read_text(encoding="utf-8")
        assert not any(name in text for name in (*names, "worker.demo", "worker/demo")), path


def test_demo_media_are_not_in_the_manifest(shared_data: Path) -> None:
    manifest = (shared_data / "MANIFEST.csv").read_text(encoding="utf-8")
    assert "worker/demo" not in manifest
    assert not any(f"/{name}," in manifest for name in CLIPS)
