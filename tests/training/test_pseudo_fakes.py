"""The audit of pseudo-fakes: a pair differs where the fake was made and nowhere else, and in nothing that is not a face.

Every kind of pair is drawn from a cache of synthetic faces whose sharpness, noise and light vary as those of real sources do.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.training.conftest import SIZE, crop, picture
from training import augment
from training.blend import through_low_resolution
from training.data import CropStore, Pair, PairMaker, PairSampler
from training.metrics import auc
from training.prepare import Crop, write_shard
from training.settings import KINDS, PROCESSED, Mixture
from training.shortcuts import border_share
from worker.types import UInt8

PARENTS = 24
MIXTURE = Mixture(donor=0.3, mirrored_donor=0.2, remade_donor=0.2, parents={"140k": 0.5, "lfw": 0.5})
MASKED = ("blend",)


def parent(seed: int) -> UInt8:
    """A face's crop of a random sharpness, noise and light; every third has black borders."""
    rng = np.random.default_rng(seed)
    detail = cv2.resize(rng.normal(0, 1, (64, 64, 3)), (SIZE, SIZE), interpolation=cv2.INTER_CUBIC) * rng.uniform(2, 14)
    out = picture(seed) * rng.uniform(0.5, 1.1) + detail + rng.normal(0, rng.uniform(0, 8), (SIZE, SIZE, 3))
    out = np.asarray(cv2.GaussianBlur(out, (0, 0), rng.uniform(0.3, 1.6)), np.float64)
    if seed % 3 == 0:
        out[:, : SIZE // 4] = 0
    return np.asarray(augment.jpeg(out.clip(0, 255).astype(np.uint8), int(rng.integers(50, 98))), np.uint8)


@pytest.fixture(scope="module")
def made_of(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with something for every kind."""
    folder = tmp_path_factory.mktemp("parents")
    shapes: list[tuple[str, str, int, Callable[[int], dict[str, str]]]] = [
        ("140k", "real", PARENTS, lambda n: {}),
        ("140k", "fake", 6, lambda n: {}),
        ("lfw", "real", PARENTS, lambda n: {}),
        ("ciplab", "real", 4, lambda n: {}),
        ("ciplab", "fake", 4, lambda n: {}),
        ("ffpp", "real", 4, lambda n: {}),
        ("ffpp", "fake", 4, lambda n: {}),
        ("taesd", "fake", 20, lambda n: {"manipulation": "taesd", "target": f"faces/140k/real/140k-real-{n}"}),
    ]
    for place, (source, label, count, more) in enumerate(shapes):
        shard = f"{source}-{label}"
        rows = [(parent(100 * place + n), crop(shard, n, label, source, **more(n))) for n in range(count)]
        if source == "taesd":
            rows = [(cv2.GaussianBlur(parent(n), (0, 0), 1.0).astype(np.uint8), row) for n, (_, row) in enumerate(rows)]
        write_shard(folder, shard, rows)
    return folder


@pytest.fixture(scope="module")
def maker(made_of: Path) -> PairMaker:
    return PairMaker(CropStore(made_of), MIXTURE)


def pairs(maker: PairMaker, kind: str, count: int) -> list[Pair]:
    return [maker.pair(kind, np.random.default_rng([KINDS.index(kind), n])) for n in range(count)]


def test_every_kind_can_be_made(maker: PairMaker) -> None:
    assert maker.ready == frozenset(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pair_has_one_size_and_the_fake_is_another_picture(kind: str, maker: PairMaker) -> None:
    for pair in pairs(maker, kind, 6):
        assert pair.real_HWC.shape == pair.fake_HWC.shape == (224, 224, 3)
        assert pair.real_HWC.dtype == pair.fake_HWC.dtype == np.uint8
        assert (pair.real_HWC != pair.fake_HWC).any()


@pytest.mark.parametrize("kind", MASKED)
def test_outside_the_mask_the_two_are_equal_bit_by_bit(kind: str, maker: PairMaker) -> None:
    for pair in pairs(maker, kind, 40):
        assert pair.mask_HW is not None
        outside_HW = pair.mask_HW == 0
        assert outside_HW.mean() > 0.2
        assert np.array_equal(pair.real_HWC[outside_HW], pair.fake_HWC[outside_HW])


def test_a_blend_shows_where_it_was_made(maker: PairMaker) -> None:
    """Most masks change what they cover; a pair that nobody could tell apart teaches nothing."""
    apart = [np.abs(p.fake_HWC.astype(int) - p.real_HWC)[p.mask_HW > 0.2].mean() for p in pairs(maker, "blend", 40)]  # type: ignore[operator]
    assert np.quantile(apart, 0.1) > 0.5


@pytest.mark.parametrize("kind", ["blend", "reconstruction", "traces", PROCESSED])
def test_borders_of_one_picture_stay_borders(kind: str, maker: PairMaker) -> None:
    found = [pair for pair in pairs(maker, kind, 12) if border_share(pair.real_HWC) > 0.05]
    assert found
    for pair in found:
        assert border_share(pair.fake_HWC) == pytest.approx(border_share(pair.real_HWC), abs=0.02)


def test_a_face_of_the_same_clip_is_that_of_another_moment(tmp_path: Path) -> None:
    """As re-enactment: nobody else's face, and never the very frame; a picture has no other moment."""
    clip = [(parent(n), crop("ffpp-real", n, "real", "ffpp", path="videos/ffpp/real/a.mp4", frame=n)) for n in range(3)]
    write_shard(tmp_path, "ffpp-real", clip)
    write_shard(tmp_path, "lfw-real", [(parent(9), crop("lfw-real", 0, "real", "lfw"))])
    drawn: list[tuple[str, int]] = []

    class Watching(CropStore):
        def picture(self, row: Crop) -> UInt8:
            drawn.append((row.path, row.frame))
            return super().picture(row)

    for source, cuts in (("ffpp", 2), ("lfw", 1)):
        maker = PairMaker(Watching(tmp_path), Mixture(donor=0, own_donor=1, parents={source: 1.0}))
        for number in range(12):
            drawn.clear()
            maker.pair("blend", np.random.default_rng(number))
            assert len(set(drawn)) == len(drawn) == cuts
            assert len({path for path, _ in drawn}) == 1


def test_where_a_fake_was_made_is_known(maker: PairMaker) -> None:
    for pair in pairs(maker, "blend", 12):
        assert pair.where_HW is not None
        assert pair.mask_HW is not None
        assert np.array_equal(pair.where_HW > 0, pair.mask_HW > 0.05)
    for kind in ("synthetic", "reconstruction", "traces", PROCESSED):
        for pair in pairs(maker, kind, 3):
            assert pair.where_HW is not None
            assert pair.where_HW.min() == 1
    assert all(pair.where_HW is None for pair in pairs(maker, "composite", 3))


def test_where_two_of_one_moment_differ_the_fake_was_made() -> None:
    real_HWC = np.full((224, 224, 3), 120, np.uint8)
    compressed_HWC = real_HWC + np.random.default_rng(1).integers(0, 4, real_HWC.shape, np.uint8)
    fake_HWC = compressed_HWC.copy()
    fake_HWC[80:160, 60:140] += 40
    where_HW = Pair(real_HWC=real_HWC, fake_HWC=fake_HWC, family="manipulation").where_HW
    assert where_HW is not None
    assert where_HW[90:150, 70:130].min() == 1
    assert where_HW[:60].max() == where_HW[:, 160:].max() == 0
    for nothing in (compressed_HWC, compressed_HWC + np.uint8(40)):  # nothing found; other colours all over
        assert Pair(real_HWC=real_HWC, fake_HWC=nothing, family="manipulation").where_HW is None


def test_a_window_shows_both_of_a_pair_and_their_mask_at_one_place(made_of: Path) -> None:
    shares = {"aligned": 0, "composite": 0, "synthetic": 0, "blend": 1}
    sampler = PairSampler(CropStore(made_of), Mixture(**shares, donor=0, parents={"140k": 1.0}), seed=5)
    inside, outside = [], []
    for step in range(6):
        batch = sampler.batch(step, 4, 224, window=96)
        assert batch.crops_FHWC.shape == (8, 96, 96, 3)
        assert batch.where_FHW is not None
        assert batch.where_FHW.shape == (8, 6, 6)
        assert batch.where_FHW[0::2].max() == 0
        apart_FHW = np.abs(batch.crops_FHWC[0::2].astype(int) - batch.crops_FHWC[1::2]).mean(axis=3)
        cells_FHW = apart_FHW.reshape(4, 6, 16, 6, 16).mean(axis=(2, 4))
        inside.append(cells_FHW[batch.where_FHW[1::2] == 1])
        outside.append(cells_FHW[batch.where_FHW[1::2] == 0])
    assert np.concatenate(inside).mean() > 4 * np.concatenate(outside).mean()


def test_degradation_does_not_see_the_label(maker: PairMaker) -> None:
    for number, pair in enumerate(pairs(maker, "blend", 25)):
        how = augment.draw(np.random.default_rng(number))
        real, fake = augment.apply(how, (pair.real_HWC, pair.fake_HWC), 96)
        swapped = augment.apply(how, (pair.fake_HWC, pair.real_HWC), 96)
        assert np.array_equal(real, swapped[1])
        assert np.array_equal(fake, swapped[0])
        gray = [bool((np.ptp(crop.astype(int), axis=2) <= 2).mean() > 0.98) for crop in (real, fake)]
        assert gray[0] == gray[1]
        if how.gray:
            assert gray[0]


def test_equal_crops_stay_equal_all_the_way_into_a_batch(tmp_path: Path) -> None:
    """Fakes that are copies of their originals: whatever the sampler does to one of a pair it does to the other."""
    for label in ("real", "fake"):
        write_shard(tmp_path, f"ffpp-{label}", [(parent(n), crop(f"ffpp-{label}", n, label, "ffpp")) for n in range(3)])
    only = Mixture(aligned=1, blend=0, composite=0, synthetic=0)
    sampler = PairSampler(CropStore(tmp_path), only, seed=3)
    for step in range(5):
        crops_FHWC = sampler.batch(step, 8, 64).crops_FHWC
        assert np.array_equal(crops_FHWC[0::2], crops_FHWC[1::2])


def blockiness(rgb_HWC: UInt8) -> float:
    """Steps across the 8-pixel grid over steps elsewhere."""
    step_HW = np.abs(np.diff(rgb_HWC.astype(np.float64).mean(axis=2), axis=1))
    on_grid = np.arange(step_HW.shape[1]) % 8 == 7
    return float(step_HW[:, on_grid].mean() / (step_HW[:, ~on_grid].mean() + 1e-6))


STATISTICS: dict[str, Callable[[UInt8], float]] = {
    "mean": lambda rgb_HWC: float(rgb_HWC.mean()),
    "std": lambda rgb_HWC: float(rgb_HWC.std()),
    "laplacian energy": lambda rgb_HWC: float(cv2.Laplacian(rgb_HWC, cv2.CV_64F).std()),
    "blockiness": blockiness,
    "border share": border_share,
    "saturation": lambda rgb_HWC: float(np.ptp(rgb_HWC.astype(int), axis=2).mean()),
}


def told_apart(reals: list[UInt8], fakes: list[UInt8], statistic: Callable[[UInt8], float]) -> float:
    """AUC of one statistic, in whichever direction it says more."""
    score_N = np.array([statistic(rgb_HWC) for rgb_HWC in (*reals, *fakes)])
    found = auc(np.arange(len(score_N)) >= len(reals), score_N)
    return max(found, 1 - found)


@pytest.fixture(scope="module")
def blends(maker: PairMaker) -> dict[str, tuple[list[UInt8], list[UInt8]]]:
    """100 blends, as made and as a batch would hold them."""
    made = pairs(maker, "blend", 100)
    ready = [
        augment.apply(augment.draw(np.random.default_rng(n)), (pair.real_HWC, pair.fake_HWC), 160) for n, pair in enumerate(made)
    ]
    return {
        "made": ([pair.real_HWC for pair in made], [pair.fake_HWC for pair in made]),
        "degraded": ([real for real, _ in ready], [fake for _, fake in ready]),
    }


@pytest.mark.parametrize("stage", ["made", "degraded"])
@pytest.mark.parametrize("name", STATISTICS)
def test_no_trivial_statistic_tells_blends_from_their_partners(
    name: str, stage: str, blends: dict[str, tuple[list[UInt8], list[UInt8]]]
) -> None:
    assert told_apart(*blends[stage], STATISTICS[name]) < 0.65


def test_the_audit_finds_a_leak(blends: dict[str, tuple[list[UInt8], list[UInt8]]]) -> None:
    """Were whole fakes softened, or brightened, a statistic would tell them."""
    reals, _ = blends["made"]
    soft = [through_low_resolution(np.random.default_rng(n), real) for n, real in enumerate(reals)]
    bright = [np.clip(real.astype(int) + 40, 0, 255).astype(np.uint8) for real in reals]
    assert told_apart(reals, soft, STATISTICS["laplacian energy"]) > 0.65
    assert told_apart(reals, bright, STATISTICS["mean"]) > 0.65
