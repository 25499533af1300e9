"""The contact sheet: a band for every kind that the cache has something for, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tests.training.conftest import crop, picture
from training.commands.data import app
from training.data import CropStore, Pair, PairMaker
from training.prepare import write_shard
from training.settings import KINDS, Mixture
from training.sheet import COLUMNS, HEADER_PX, TILE_PX, _as_trained, contact_sheet, difference


def test_a_band_for_every_kind_and_the_kinds_that_are_missing(cache: Path, tmp_path: Path) -> None:
    sheet = contact_sheet(cache, Mixture(), tmp_path / "new" / "sheet.png", seed=1, rows=2)
    assert sheet.missing == ("reconstruction",)
    assert set(sheet.crops_per_cpu_s) == set(KINDS) - {"reconstruction"}
    assert all(speed > 0 for speed in sheet.crops_per_cpu_s.values())
    with Image.open(tmp_path / "new" / "sheet.png") as drawn:
        kinds = len(KINDS) - 1
        assert drawn.size == (TILE_PX * len(COLUMNS), HEADER_PX * (kinds + 1) + TILE_PX * 2 * kinds)


def test_the_same_seed_shows_the_same_pairs(cache: Path, tmp_path: Path) -> None:
    tiles = []
    for number in range(2):
        contact_sheet(cache, Mixture(), tmp_path / f"{number}.png", seed=1, rows=1)
        with Image.open(tmp_path / f"{number}.png") as drawn:
            tiles.append(np.array(drawn)[2 * HEADER_PX : 2 * HEADER_PX + TILE_PX])
    assert np.array_equal(tiles[0], tiles[1])


def test_a_pair_is_shown_as_the_mixture_has_it_trained(cache: Path) -> None:
    """Both of its crops change with each of these shares, the pair itself does not."""
    maker = PairMaker(CropStore(cache), Mixture())
    plain, (real, fake) = _as_trained(maker, Mixture(), "blend", seed=1, number=0, size=224)
    for share in ("varied", "lit", "covered", "smoothed", "widely_smoothed"):
        pair, changed = _as_trained(maker, Mixture.model_validate({share: 1.0}), "blend", seed=1, number=0, size=224)
        assert np.array_equal(pair.fake_HWC, plain.fake_HWC), share
        assert not np.array_equal(changed[0], real), share
        assert not np.array_equal(changed[1], fake), share


@pytest.mark.parametrize(
    ("mask", "same_picture", "expected"),
    [(0.5, True, 127), (None, True, 128 + 4 * 10), (None, False, 0)],
)
def test_the_third_tile(mask: float | None, same_picture: bool, expected: int) -> None:
    real = np.full((8, 8, 3), 100, np.uint8)
    mask_HW = None if mask is None else np.full((8, 8), mask, np.float32)
    pair = Pair(real_HWC=real, fake_HWC=real + np.uint8(10), family="blend", mask_HW=mask_HW, same_picture=same_picture)
    assert (difference(pair) == expected).all()


def test_the_command_writes_the_sheet_and_says_how_fast_pairs_are_made(cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    done = CliRunner().invoke(app, ["sheet", "--cache", str(cache), "--out", str(out), "--rows", "1"])
    assert done.exit_code == 0, done.output
    assert "blend" in done.stdout
    assert "crops/s a core" in done.stdout
    assert "nothing in" in done.stderr
    assert out.exists()


def test_pairs_are_drawn_at_the_size_that_the_recipes_network_is_for(cache: Path, tmp_path: Path) -> None:
    drawn = []
    for size in (160, 224, 320):
        recipe, out = tmp_path / f"{size}.yaml", tmp_path / f"{size}.png"
        recipe.write_text(f"stages: [{{until: 1.0, size: {size}, pairs: 4}}]")
        done = CliRunner().invoke(
            app, ["sheet", "--cache", str(cache), "--out", str(out), "--rows", "1", "--config", str(recipe)]
        )
        assert done.exit_code == 0, done.output
        with Image.open(out) as sheet:
            drawn.append(np.array(sheet)[2 * HEADER_PX : 2 * HEADER_PX + TILE_PX])
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[1], drawn[2])


def test_a_cache_with_none_of_the_mixtures_sources_is_no_empty_sheet(tmp_path: Path) -> None:
    write_shard(tmp_path, "mine-real", [(picture(0), crop("mine-real", 0, "real", "mine"))])
    out = tmp_path / "sheet.png"
    done = CliRunner().invoke(app, ["sheet", "--cache", str(tmp_path), "--out", str(out)])
    assert done.exit_code == 2
    assert "own-pairs.yaml" in done.output
    assert not out.exists()


def test_reconstruct_says_what_a_count_looks_like(cache: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["reconstruct", "140k", "--init", str(tmp_path), "--cache", str(cache)])
    assert done.exit_code == 2
    assert "140k=350" in done.stderr
