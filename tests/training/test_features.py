from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import crop
from training.data import CropStore
from training.features import FIRST_SOURCES, Features, choose_rows, even_shares, extract, family
from training.manifest import LABELS
from worker.errors import ConfigError
from worker.model.network import DeepfakeNet, build
from worker.model.spec import CropSpec

CROP = CropSpec(margin=1.5, size=64)


@pytest.fixture
def network() -> DeepfakeNet:
    torch.manual_seed(0)
    return build(backbone="test_efficientnet", head="linear", families=3).eval()


def test_shares_are_even_until_a_pool_is_empty() -> None:
    assert even_shares([10, 10, 10], 9) == [3, 3, 3]
    assert even_shares([1, 100, 5], 30) == [1, 24, 5]
    assert even_shares([2, 0, 3], 30) == [2, 0, 3]


def test_families_come_from_labels_and_sources() -> None:
    assert [
        family(crop("x", 0, label, source)) for label, source in (("real", "140k"), ("fake", "ciplab"), ("fake", "140k"))
    ] == [0, 1, 2]


def test_a_cache_that_says_a_fakes_family_is_believed() -> None:
    told = [family(crop("x", 0, "fake", "mine", family=name)) for name in ("", "manipulation", "synthetic", "blend")]
    assert told == [1, 1, 2, 1]


def test_rows_are_balanced_and_held_out_clips_spaced() -> None:
    rows = [crop("a", n, label, source) for source in ("140k", "ciplab", "lfw") for label in ("real", "fake") for n in range(9)]
    clip = crop("b", 0, "fake", "ffpp", split="heldout")
    rows += [replace(clip, frame=frame) for frame in range(12)]
    rows += [crop("c", 0, "fake", "roeishc", split="leftout"), crop("c", 1, "real", "taesd", split="heldout")]
    rows += [crop("d", n, "fake", "generatedphotos", split="leftout") for n in range(5)]
    rows += [replace(row, variant="crf35") for row in rows]
    chosen = choose_rows(rows, per_label=12)
    fewer = choose_rows(rows, per_label=6, pictures=3)
    assert {(row.path, row.frame) for row in fewer} <= {(row.path, row.frame) for row in chosen}
    assert sum(row.source == "generatedphotos" for row in fewer) == 3
    train = Counter((row.source, row.label) for row in chosen if row.split == "train")
    assert set(train.values()) == {4}
    assert [row.frame for row in chosen if row.source == "ffpp"] == [0, 4, 7, 11]
    assert sum(row.source == "roeishc" for row in chosen) == 1
    assert not any(row.variant or row.source == "taesd" for row in chosen)
    assert chosen == choose_rows(rows, per_label=12)


def test_rows_of_a_cache_of_ones_own_come_from_all_its_sources() -> None:
    rows = [
        crop("a", n, label, source, path=f"{source}/{label}/{n}.jpg") for source in "xy" for label in LABELS for n in range(9)
    ]
    held = crop("b", 0, "real", "x", split="heldout", path="x/real/clip.mov")
    rows += [replace(held, frame=frame) for frame in range(12)]
    rows += [crop("c", n, "fake", "x", split="heldout", path=f"x/fake/{n}.jpg") for n in range(5)]
    chosen = choose_rows(rows, per_label=12, pictures=3)
    train = Counter((row.source, row.label) for row in chosen if row.split == "train")
    assert train == {(source, label): 6 for source in "xy" for label in LABELS}
    assert [row.frame for row in chosen if row.path == held.path] == [0, 4, 7, 11]
    assert sum(row.split == "heldout" and row.label == "fake" for row in chosen) == 3


def test_the_rows_that_a_seed_draws_stay_the_same() -> None:
    """Of the project's own sources, whose comparison is published; a further source only takes its share."""
    rows = [crop("a", n, label, source) for source in FIRST_SOURCES for label in LABELS for n in range(9)]
    chosen = [(row.source, row.label, int(row.path.rsplit("-", 1)[1])) for row in choose_rows(rows, per_label=10)]
    assert [number for source, label, number in chosen if label == "real"] == [4, 5, 2, 8, 0, 8, 2, 7, 6, 7]
    assert [source for source, label, _ in chosen if label == "real"] == [name for name in FIRST_SOURCES for _ in range(2)]


def test_features_are_the_backbones_and_are_kept(cache: Path, network: DeepfakeNet, tmp_path: Path) -> None:
    store, path = CropStore(cache), tmp_path / "features.npz"
    rows = store.rows[:3]
    seen: list[torch.Size] = []
    network.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    first = extract(network, store, rows, path, crop=CROP, checkpoint_sha256="a")
    assert seen == [(3, 3, 64, 64)], "cut as the checkpoint's scans would"
    with torch.no_grad():
        crops = torch.from_numpy(np.stack([store.crop(row, margin=1.5, size=64) for row in rows]))
        by_hand = network.backbone(network.normalise(crops)).numpy()
    np.testing.assert_allclose(first.features_FD, by_hand, atol=1e-4)
    network.backbone = torch.nn.Identity()  # what is kept needs no backbone
    again = extract(network, store, rows[::-1], path, crop=CROP, checkpoint_sha256="a")
    np.testing.assert_array_equal(again.features_FD, first.features_FD[::-1])
    for other, digest in ((CROP, "b"), (CropSpec(margin=1.5, size=96), "a"), (CropSpec(margin=1.3, size=64), "a")):
        with pytest.raises(ConfigError, match="another checkpoint or of crops cut otherwise"):
            extract(network, store, rows, path, crop=other, checkpoint_sha256=digest)


def test_features_that_do_not_say_of_which_crops_are_not_taken(cache: Path, network: DeepfakeNet, tmp_path: Path) -> None:
    """As versions wrote them that cut the crops of all checkpoints alike."""
    store, path = CropStore(cache), tmp_path / "features.npz"
    extract(network, store, store.rows[:1], path, crop=CROP, checkpoint_sha256="a")
    with np.load(path) as kept:
        older = {name: kept[name] for name in ("names", "features_FD")}
    np.savez(path, **older, checkpoint_sha256=np.array("a"))
    with pytest.raises(ConfigError, match="crops cut otherwise"):
        extract(network, store, store.rows[:1], path, crop=CROP, checkpoint_sha256="a")


def test_a_part_needs_both_classes() -> None:
    rows = (crop("a", 0, "real", "lfw"), crop("a", 1, "fake", "140k"), crop("a", 2, "real", "lfw", split="heldout"))
    features = Features(features_FD=np.zeros((3, 2), np.float32), rows=rows)
    assert features.of_split("train").family_F.tolist() == [0, 2]
    with pytest.raises(ConfigError, match="'heldout'"):
        features.of_split("heldout")
    with pytest.raises(ValueError, match="of 2 crops"):
        Features(features_FD=np.zeros((3, 2), np.float32), rows=rows[:2])


def test_crops_that_were_cut_anew_are_not_taken_for_those_before(cache: Path, network: DeepfakeNet, tmp_path: Path) -> None:
    store, path = CropStore(cache), tmp_path / "features.npz"
    old, other = store.rows[:2]
    extract(network, store, [old], path, crop=CROP, checkpoint_sha256="a")
    anew = replace(old, row=other.row, box=(70.0, 60.0, 218.0, 240.0))  # of the same file and frame, another face
    found = extract(network, store, [old, anew], path, crop=CROP, checkpoint_sha256="a").features_FD
    by_hand = extract(network, store, [anew], tmp_path / "other.npz", crop=CROP, checkpoint_sha256="a").features_FD
    np.testing.assert_allclose(found[1], by_hand[0], atol=1e-6)
    assert not np.allclose(found[0], found[1], atol=1e-5)
