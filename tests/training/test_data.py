"""Batches of pairs: composition, alignment, and that only training rows enter."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest
from pydantic import ValidationError

import training.data
from tests.training.conftest import crop, picture
from training.data import CropStore, PairMaker, PairSampler, held_out
from training.loop import loading
from training.prepare import RECONSTRUCTED, cut, write_shard
from training.release import training_sources
from training.settings import FAMILIES, Fit, Mixture, Stage
from worker.errors import ConfigError
from worker.types import Float32, UInt8

ONLY_ALIGNED = Mixture(aligned=1, blend=0, composite=0, synthetic=0)


@pytest.mark.parametrize("left", [0, 100, 200_000, None])
def test_a_damaged_shard_is_named(cache: Path, tmp_path: Path, left: int | None) -> None:
    shutil.copytree(cache, tmp_path / "cache")
    shard = tmp_path / "cache" / "140k-real.npy"
    whole = shard.read_bytes()
    shard.unlink() if left is None else shard.write_bytes(whole[:left])
    store = CropStore(tmp_path / "cache")
    row = next(row for row in store.rows if row.shard == "140k-real")
    with pytest.raises(ConfigError, match=r"140k-real\.npy is damaged.*delete 140k-real\.npy and 140k-real\.csv"):
        store.picture(row)


def test_a_shard_of_fewer_pictures_than_its_index_is_named(cache: Path) -> None:
    store = CropStore(cache)
    with pytest.raises(ConfigError, match=r"\.npy is damaged"):
        store.picture(replace(store.rows[0], row=99))


def test_a_batch_alternates_real_and_fake_in_the_shares_of_the_mixture(cache: Path) -> None:
    mixture = Mixture(aligned=0.25, blend=0.5, composite=0.125, synthetic=0.125)
    batch = PairSampler(CropStore(cache), mixture, seed=1).batch(0, pairs=8, size=64)
    assert batch.crops_FHWC.shape == (16, 64, 64, 3)
    assert (batch.family_F[0::2] == 0).all()
    counts = {name: int((batch.family_F == number).sum()) for number, name in enumerate(FAMILIES)}
    assert counts == {"real": 8, "blend": 4, "manipulation": 3, "synthetic": 1}


@pytest.mark.parametrize(("size", "made_at"), [(32, 224), (224, 224), (320, 320)])
def test_pairs_are_made_at_the_size_that_the_network_is_for(
    size: int, made_at: int, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: set[int] = set()

    def seen(
        picture: UInt8, box_4: Float32, landmarks_K2: Float32, *, margin: float, size: int
    ) -> tuple[UInt8, Float32, Float32]:
        sizes.add(size)
        return cut(picture, box_4, landmarks_K2, margin=margin, size=size)

    monkeypatch.setattr(training.data, "cut", seen)
    assert PairSampler(CropStore(cache), Mixture(), seed=1, size=size).batch(0, 8, size).crops_FHWC.shape == (16, size, size, 3)
    assert sizes == {made_at}


def test_loaders_make_pairs_at_the_size_that_the_run_is_for(cache: Path) -> None:
    fit = Fit(stages=(Stage(until=1, size=256, pairs=4),), steps=1)
    with loading(fit, cache) as feed:
        made = feed.batch(0, fit.stages[0]).crops_FHWC
    at_256, at_224 = (
        PairSampler(CropStore(cache), fit.mixture, fit.seed, size).batch(0, 4, 256).crops_FHWC for size in (256, 224)
    )
    assert np.array_equal(made, at_256)
    assert not np.array_equal(made, at_224)


def test_a_batch_follows_from_seed_and_step(cache: Path) -> None:
    one, two = (PairSampler(CropStore(cache), Mixture(), seed=1) for _ in range(2))
    two.batch(3, 4, 64)
    assert np.array_equal(one.batch(7, 4, 64).crops_FHWC, two.batch(7, 4, 64).crops_FHWC)
    assert not np.array_equal(one.batch(7, 4, 64).crops_FHWC, one.batch(8, 4, 64).crops_FHWC)


def test_what_covers_a_pair_covers_both_of_its_crops(cache: Path) -> None:
    """So that it says nothing of the label: beyond both, and nowhere else, the batch is as it was."""
    store = CropStore(cache)
    plain = PairSampler(store, ONLY_ALIGNED, seed=1).batch(0, 6, 224)
    covered = PairSampler(store, ONLY_ALIGNED.model_copy(update={"covered": 1.0}), seed=1).batch(0, 6, 224)
    assert np.array_equal(plain.family_F, covered.family_F)
    changed_F = [float(np.mean((a.astype(int) - b).any(-1))) for a, b in zip(plain.crops_FHWC, covered.crops_FHWC, strict=True)]
    assert min(changed_F) > 0
    assert np.allclose(changed_F[0::2], changed_F[1::2], atol=0.25)


@pytest.mark.parametrize("share", ["varied", "lit"])
def test_what_varies_a_pair_varies_both_of_its_crops(cache: Path, share: str) -> None:
    store = CropStore(cache)
    sampler = PairSampler(store, ONLY_ALIGNED.model_copy(update={share: 1.0}), seed=1)
    plain, varied = PairSampler(store, ONLY_ALIGNED, seed=1).batch(0, 6, 224), sampler.batch(0, 6, 224)
    assert np.array_equal(plain.family_F, varied.family_F)
    means_F3 = varied.crops_FHWC.mean((1, 2)) - plain.crops_FHWC.mean((1, 2))
    assert np.abs(means_F3).max(1).min() > 0.5
    assert np.corrcoef(means_F3[0::2].ravel(), means_F3[1::2].ravel())[0, 1] > 0.9


def test_where_a_fake_was_made_moves_with_its_pair(cache: Path) -> None:
    blends = Mixture(aligned=0, blend=1, composite=0, synthetic=0)
    store = CropStore(cache)
    plain = PairSampler(store, blends, seed=1).batch(0, 3, 224)
    varied = PairSampler(store, blends.model_copy(update={"varied": 1.0}), seed=1).batch(0, 3, 224)
    assert plain.where_FHW is not None
    assert varied.where_FHW is not None
    assert all((one != two).any() for one, two in zip(plain.where_FHW[1::2], varied.where_FHW[1::2], strict=True))


def test_a_fake_in_part_is_its_original_elsewhere_and_fake_where_the_two_differ(tmp_path: Path) -> None:
    real = picture(0)
    fake = real.copy()
    middle = slice(len(real) * 2 // 5, len(real) * 3 // 5)
    fake[middle, middle] = 255 - fake[middle, middle]
    for label, shown in (("real", real), ("fake", fake)):
        write_shard(tmp_path, f"ffpp-{label}", [(shown, crop(f"ffpp-{label}", 0, label, "ffpp"))])
    store = CropStore(tmp_path)
    makers = [PairMaker(store, ONLY_ALIGNED.model_copy(update={"partial": share})) for share in (0.0, 1.0)]
    in_part = 0
    for seed in range(12):
        whole, part = (maker.pair("aligned", np.random.default_rng(seed)) for maker in makers)
        assert np.array_equal(whole.real_HWC, part.real_HWC)
        same_HW = (part.fake_HWC == part.real_HWC).all(axis=2)
        assert same_HW[(whole.fake_HWC == whole.real_HWC).all(axis=2)].all()
        in_part += not np.array_equal(part.fake_HWC, whole.fake_HWC)
        assert part.where_HW is not None
        assert part.where_HW[~same_HW].mean() > 0.9
        assert not part.where_HW[cv2.erode(same_HW.astype(np.uint8), np.ones((41, 41))) > 0].any()
    assert in_part > 2


def test_held_out_rows_never_enter_a_batch(cache: Path) -> None:
    store = CropStore(cache)
    seen: set[str] = set()
    picture = store.picture

    class Watching(CropStore):
        def picture(self, row):  # type: ignore[no-untyped-def]
            seen.add(row.split)
            return picture(row)

    sampler = PairSampler(Watching(cache), Mixture(), seed=1)
    for step in range(10):
        sampler.batch(step, 4, 64)
    assert seen == {"train"}


def test_groups_that_a_run_holds_out_never_enter_a_batch(cache: Path) -> None:
    seen: set[str] = set()
    whole = CropStore(cache)

    class Watching(CropStore):
        def picture(self, row):  # type: ignore[no-untyped-def]
            seen.add(row.group)
            return super().picture(row)

    for hold_out in ((), ("ffpp/0",)):
        seen.clear()
        sampler = PairSampler(Watching(cache, hold_out=hold_out), Mixture(), seed=1)
        for step in range(10):
            sampler.batch(step, 4, 64)
        assert ("ffpp/0" in seen) == (not hold_out)
        assert "ffpp/1" in seen
    with pytest.raises(ConfigError, match="no group ffpp/7"):
        CropStore(cache, whole.rows, hold_out=["ffpp/7"])


def test_of_held_out_groups_the_files_themselves_are_kept_and_no_copies() -> None:
    rows = [
        crop("ffpp-1", 1, "real", "ffpp"),
        crop("ffpp-1", 1, "real", "ffpp", variant="crf23"),
        crop("ffpp-1", 1, "fake", RECONSTRUCTED, group="ffpp/1"),
        crop("ffpp-2", 2, "real", "ffpp"),
    ]
    assert [(row.group, row.split, row.variant) for row in held_out(rows, ["ffpp/1"])] == [
        ("ffpp/1", "heldout", ""),
        ("ffpp/2", "train", ""),
    ]


def test_aligned_pairs_share_target_and_frame(cache: Path) -> None:
    store = CropStore(cache)
    drawn: list[tuple[str, str, int]] = []

    class Watching(CropStore):
        def picture(self, row):  # type: ignore[no-untyped-def]
            drawn.append((row.label, row.target, row.frame))
            return store.picture(row)

    PairSampler(Watching(cache), ONLY_ALIGNED, seed=1).batch(0, 6, 64)
    for real, fake in zip(drawn[0::2], drawn[1::2], strict=True):
        assert (real[0], fake[0]) == ("real", "fake")
        assert real[1:] == fake[1:]


def test_a_mixture_without_its_data_is_refused(cache: Path) -> None:
    store = CropStore(cache)
    store.rows = [row for row in store.rows if row.source != "140k"]
    with pytest.raises(ConfigError, match="synthetic"):
        PairSampler(store, Mixture(), seed=1)


def test_a_kind_without_data_can_be_left_out_and_the_others_share_its_part(cache: Path) -> None:
    store = CropStore(cache)
    store.rows = [row for row in store.rows if row.source != "140k"]
    mixture = Mixture(aligned=0.25, blend=0.25, composite=0, synthetic=0.5, absent="leave out")
    sampler = PairSampler(store, mixture, seed=1)
    assert sampler.left_out == ["synthetic"]
    family = sampler.batch(0, 8, 64).family_F.tolist()
    assert family == [0, FAMILIES.index("manipulation")] * 4 + [0, FAMILIES.index("blend")] * 4
    store.rows = [row for row in store.rows if row.label == "fake"]
    with pytest.raises(ConfigError, match="nothing for the pairs aligned, blend, synthetic"):
        PairSampler(store, mixture, seed=1)


def test_more_shards_than_may_be_open_can_be_read(tmp_path: Path) -> None:
    for n in range(4):
        write_shard(tmp_path, f"s{n}", [(picture(n), crop(f"s{n}", n, "real", "lfw"))])
    store = CropStore(tmp_path, open_shards=2)
    for n in (0, 1, 2, 3, 0):
        assert np.array_equal(store.picture(store.rows[n]), picture(n))


def test_sources_of_any_name_serve_by_their_family(tmp_path: Path) -> None:
    for label, family in (("real", ""), ("fake", "synthetic")):
        write_shard(tmp_path, label, [(picture(n), crop(label, n, label, "mine", family=family)) for n in range(2)])
    shares = {"aligned": 0, "blend": 0.5, "composite": 0.25, "synthetic": 0.25}
    mixture = Mixture(**shares, parents={}, composites=(), synthetics=(), absent="leave out")
    sampler = PairSampler(CropStore(tmp_path), mixture, seed=1)
    assert sampler.left_out == ["composite"]
    assert {FAMILIES[number] for number in sampler.batch(0, 8, 64).family_F} == {"real", "blend", "synthetic"}


def test_a_parent_of_no_share_is_none(tmp_path: Path) -> None:
    write_shard(tmp_path, "real", [(picture(1), crop("real", 1, "real", "mine"))])
    mixture = Mixture(aligned=0, blend=1, composite=0, synthetic=0, parents={"mine": 0, "elsewhere": 1})
    with pytest.raises(ConfigError, match="nothing for the pairs blend"):
        PairSampler(CropStore(tmp_path), mixture, seed=1)
    assert training_sources(CropStore(tmp_path).rows, mixture) == ()
    with pytest.raises(ValidationError, match="greater than or equal to 0"):
        Mixture(parents={"mine": -1})


@pytest.mark.parametrize(("named", "drawn"), [(("one",), {"one"}), ((), {"one", "two"})])
@pytest.mark.parametrize("kind", ["composite", "synthetic"])
def test_strangers_are_of_the_sources_named_or_of_all_that_have_both_labels(
    tmp_path: Path, kind: str, named: tuple[str, ...], drawn: set[str]
) -> None:
    family = {"composite": "manipulation", "synthetic": "synthetic"}[kind]
    for source, labels in (("one", ("real", "fake")), ("two", ("real", "fake")), ("no reals", ("fake",))):
        for label in labels:
            row = crop(f"{source}-{label}", 0, label, source, family=family if label == "fake" else "")
            write_shard(tmp_path, f"{source}-{label}", [(picture(1), row)])
    seen: set[str] = set()

    class Watching(CropStore):
        def picture(self, row):  # type: ignore[no-untyped-def]
            seen.add(row.source)
            return super().picture(row)

    shares = dict.fromkeys(("aligned", "blend", "composite", "synthetic"), 0.0) | {kind: 1.0}
    mixture = Mixture(**shares, parents={}, composites=named, synthetics=named)
    sampler = PairSampler(Watching(tmp_path), mixture, seed=1)
    sampler.batch(0, 8, 64)
    assert seen == drawn
    assert [note.partition(" without")[0] for note in sampler.notes] == ([] if named else ["fakes of no reals"])


ORPHAN = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from training.data import start_loader
from training.settings import Mixture

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, get_context("spawn"), start_loader, (Path(sys.argv[1]), Mixture(), 1))
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""


def test_a_loading_process_ends_with_a_killed_training(cache: Path, tmp_path: Path) -> None:
    script = tmp_path / "orphan.py"
    script.write_text(ORPHAN)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, str(script), str(cache)], stdout=subprocess.PIPE, env=environment) as training:
        assert training.stdout is not None
        loader = psutil.Process(int(training.stdout.readline()))
        training.kill()
    loader.wait(10)
