"""Corrected cases: their crops, what leaks into the regression set, and batches that stay balanced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.adaptation.feedback import FeedbackSampler, cut_feedback, leaks_into
from training.adaptation.settings import Adaptation
from training.clips import open_frames, read_clip
from training.data import CropStore, PairSampler
from training.layouts import list_source
from training.provenance import read_skipped
from worker.demo import FOLDER
from worker.errors import ConfigError

SETTINGS = Adaptation(pairs=4, threads=1)
FAMILIES = ("real", "blend", "manipulation", "synthetic")


def test_crops_are_cut_and_what_cannot_be_used_is_noted(tmp_path: Path) -> None:
    with open_frames() as source:
        (rgb_HWC,) = read_clip(source, FOLDER / "untouched.mp4", 1).values()
    Image.fromarray(rgb_HWC[60:420, 100:540]).save(tmp_path / "alarm.png")
    (tmp_path / "f.csv").write_text("path,label,source\nalarm.png,real,mine\nabsent.png,fake,mine\n")
    store = cut_feedback(list_source(tmp_path / "f.csv", "manifest"), tmp_path / "run" / "feedback", SETTINGS, crop_px=320)
    assert store.picture(store.rows[0]).shape == (320, 320, 3)
    assert [(row.path, row.split, row.label) for row in store.rows] == [("alarm.png", "train", "real")]
    assert [one.path for one in read_skipped(tmp_path / "run" / "feedback")] == ["absent.png"]
    (tmp_path / "f.csv").write_text("path,label,source\nother.png,real,mine\n")
    with pytest.raises(ConfigError, match="other cases"):
        cut_feedback(list_source(tmp_path / "f.csv", "manifest"), tmp_path / "run" / "feedback", SETTINGS, crop_px=320)


def test_feedback_apart_from_the_regression_set_does_not_leak(old: Path, wrong: Path, tmp_path: Path) -> None:
    cache, ours = CropStore(old), CropStore(wrong / "crops")
    held = [row for row in cache.rows if row.split != "train"]
    assert leaks_into(list_source(wrong / "feedback.csv"), ours, held, cache, tmp_path) == []


def test_a_group_a_look_and_equal_bytes_are_named(old: Path, wrong: Path, tmp_path: Path) -> None:
    cache, ours = CropStore(old), CropStore(wrong / "crops")
    held = [row for row in cache.rows if row.split != "train"]
    csv = tmp_path / "f.csv"

    def found(text: str, feedback: CropStore) -> list[str]:
        csv.write_text(f"path,label,source,group\n{text}\n")
        return [str(leak) for leak in leaks_into(list_source(csv), feedback, held, cache, tmp_path)]

    one = CropStore(wrong / "crops", [row for row in ours.rows if row.path == "alarm-0.png"])
    (by_group,) = found("alarm-0.png,real,mine,somebody+140k/53", one)
    assert by_group.startswith("group ")
    assert "alarm-0.png" in by_group
    assert "-53" in by_group
    same_look = next(row for row in held if row.path.endswith("held-fake-52"))
    copied = CropStore(old, [replace(same_look, path="renamed.png", group="mine/renamed")])
    (by_look,) = found("renamed.png,fake,mine,", copied)
    assert by_look.startswith("looks the same")
    assert "held-fake-52" in by_look
    (tmp_path / held[0].path).parent.mkdir(parents=True)
    for name in ("alarm-0.png", held[0].path):
        (tmp_path / name).write_bytes(b"a picture")
    (by_bytes,) = found("alarm-0.png,real,mine,", one)
    assert by_bytes.startswith("same bytes")


def test_feedback_takes_its_share_of_its_own_label_and_nothing_else(old: Path, wrong: Path) -> None:
    sampler = FeedbackSampler(CropStore(wrong / "crops"), CropStore(old), SETTINGS, FAMILIES)
    replayed = PairSampler(CropStore(old), SETTINGS.mixture, SETTINGS.seed).batch(3, 4, 32)
    batch = sampler.batch(3, 32)
    changed = (batch.crops_FHWC != replayed.crops_FHWC).reshape(8, -1).any(1)
    assert changed[0::2].sum() == 2, "half of the real crops"
    assert not changed[1::2].any(), "there is no fake feedback"
    assert np.array_equal(batch.family_F, replayed.family_F)
    assert np.array_equal(sampler.batch(3, 32).crops_FHWC, batch.crops_FHWC)
    assert not np.array_equal(sampler.batch(4, 32).crops_FHWC, batch.crops_FHWC)


def test_feedback_is_cut_at_the_size_that_the_network_is_for(old: Path, wrong: Path) -> None:
    small, large = (FeedbackSampler(CropStore(wrong / "crops"), CropStore(old), SETTINGS, FAMILIES, size) for size in (224, 320))
    replayed = PairSampler(CropStore(old), SETTINGS.mixture, SETTINGS.seed, 320).batch(3, 4, 320)
    batch = large.batch(3, 320)
    changed = (batch.crops_FHWC != replayed.crops_FHWC).reshape(8, -1).any(1)
    assert changed[0::2].sum() == 2
    assert not changed[1::2].any()
    blurred = small.batch(3, 320).crops_FHWC[0::2][changed[0::2]]
    assert not np.array_equal(batch.crops_FHWC[0::2][changed[0::2]], blurred)


def test_fake_feedback_has_its_family_and_two_classes_are_enough(old: Path, wrong: Path) -> None:
    rows = [replace(row, label="fake", family="synthetic") for row in CropStore(wrong / "crops").rows]
    feedback = CropStore(wrong / "crops", rows)
    family_F = FeedbackSampler(feedback, CropStore(old), SETTINGS, FAMILIES).batch(0, 32).family_F
    assert (family_F[0::2] == 0).all()
    assert (family_F[1::2] == 3).sum() >= 2
    two = FeedbackSampler(feedback, CropStore(old), SETTINGS, ("real", "fake")).batch(0, 32).family_F
    assert two.tolist() == [0, 1] * 4
    with pytest.raises(ConfigError, match="no family"):
        FeedbackSampler(feedback, CropStore(old), SETTINGS, ("real", "blend", "odd"))
