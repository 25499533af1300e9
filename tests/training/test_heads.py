from __future__ import annotations

import json
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from tests.training.conftest import crop, picture
from training.commands.heads import app
from training.features import FAMILIES, Features, family
from training.heads import Settings, check_rows, compare, cross_calibrated, fit_heads, fit_tau, judge, out_of_source, score
from training.heads_report import markdown, plot
from training.manifest import LABELS
from training.prepare import write_shard
from worker.errors import ConfigError
from worker.model import checkpoint
from worker.model.card import CardHead
from worker.model.network import build
from worker.model.spec import CropSpec, HeadSpec, Licence, ModelSpec, TrainingData, TrainingSource

TINY = Settings(steps=40, batch=32, lr=5e-3, hidden_dim=8, num_steps=2, card_steps=4, draws=5)
SOURCES = {"train": ("lfw", "ciplab", "140k"), "heldout": ("lfw", "ciplab", "140k"), "leftout": ("talking", "ghost", "roeishc")}


@pytest.fixture(scope="module")
def features() -> Features:
    """Three clouds, one for each family, that overlap; forty crops of each in every part."""
    rng = np.random.default_rng(0)
    centres = 1.5 * rng.normal(size=(len(FAMILIES), 6))
    rows = [
        crop(split, n, "real" if source in ("lfw", "talking") else "fake", source, split=split, group=f"{source}/{n // 2}")
        for split, sources in SOURCES.items()
        for source in sources
        for n in range(40)
    ]
    values = np.stack([centres[family(row)] + rng.normal(size=6) for row in rows])
    return Features(features_FD=values.astype(np.float32), rows=tuple(rows))


def test_all_heads_learn_and_are_judged_alike(features: Features, tmp_path: Path) -> None:
    results = compare(features, replace(TINY, steps=200), [1], tmp_path)
    for result in results:
        assert set(result["metrics"]) == {"linear", "diffusion", "card"}
        for head, parts in result["metrics"].items():
            found = parts["leftout"]
            assert found["AUC"] > 0.75, head
            assert all(np.isfinite(value) for part in parts.values() for value in part.values())
            assert 0 <= found["AURC |p - 0.5|"] <= 0.5
            assert 0 <= found["PAvPU |p - 0.5|"] <= 1
        assert result["metrics"]["linear"]["leftout"]["mean change of p by the steps"] == 0
        assert result["metrics"]["card"]["leftout"]["mean change of p by the steps"] > 0.01
        assert "AURC interval" in result["metrics"]["card"]["leftout"]
        assert "PAvPU t-test and interval" in result["metrics"]["card"]["leftout"]
    text = markdown(results, results[0]["metrics"]["diffusion"])
    assert "fitted on the held-out crops" in text, "what flatters CARD there is told"
    assert "| AUC | " in text
    assert "| AURC \\|p - 0.5\\| | " in text
    assert "checkpoint's own" in text
    plot(results, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 5000


def test_a_seed_gives_the_same_again_and_a_kept_one_is_not_repeated(
    features: Features, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (first,) = compare(features, TINY, [3], tmp_path_factory.mktemp("other"))
    (second,) = compare(features, TINY, [3], tmp_path)
    for head in first["metrics"]:
        for part in ("heldout", "leftout"):
            assert first["metrics"][head][part] == second["metrics"][head][part]
    (other_seed,) = compare(features, TINY, [4], tmp_path)
    assert other_seed["metrics"]["diffusion"]["leftout"] != first["metrics"]["diffusion"]["leftout"]
    marked = json.loads((tmp_path / "seed-3.json").read_text()) | {"marked": True}
    (tmp_path / "seed-3.json").write_text(json.dumps(marked))
    assert "marked" in compare(features, TINY, [3], tmp_path)[0]
    changed = replace(features, features_FD=features.features_FD[::-1].copy())
    kept = (tmp_path / "seed-3.json").stat().st_ino
    assert "marked" not in compare(changed, TINY, [3], tmp_path)[0], "as many crops, and others"
    assert (tmp_path / "seed-3.json").stat().st_ino != kept, "another file in its place: none is ever half written"
    other = Settings(steps=5, batch=8, hidden_dim=4, num_steps=2, card_steps=2, draws=2)
    assert "marked" not in compare(features, other, [3], tmp_path)[0]


def test_card_rests_on_the_linear_head_as_its_prior(features: Features) -> None:
    train, held = features.of_split("train"), features.of_split("heldout")
    heads = fit_heads(train, TINY, seed=1)
    card = heads["card"]
    assert isinstance(card, CardHead)
    assert torch.equal(card.prior.weight, heads["linear"].weight)
    np.testing.assert_allclose(score(card, held).without_steps_F, score(heads["linear"], held).logit_F, atol=1e-4)
    before = judge(score(card, held), held)
    fit_tau(card, held)
    after = judge(score(card, held), held)
    assert after["log loss"] < before["log loss"]
    assert after["AUC"] == pytest.approx(before["AUC"])


def test_calibration_never_sees_the_group_it_is_used_on(features: Features) -> None:
    """A group whose logits are all wrong cannot pull its own calibration over."""
    part = features.of_split("heldout")
    logit = np.where(part.fake_F, 3.0, -3.0)
    turned = part.groups_F == part.groups_F[0]
    p = cross_calibrated(np.where(turned, -logit, logit), part)
    assert ((p > 0.5) != part.fake_F)[turned].all()
    assert ((p > 0.5) == part.fake_F)[~turned].all()


def test_gates_come_from_the_held_out_part(features: Features) -> None:
    train, held, left = (features.of_split(split) for split in SOURCES)
    linear = fit_heads(train, TINY, seed=1)["linear"]
    found = out_of_source(score(linear, held), score(linear, left), held, left)
    assert set(found) == {"ECE, calibrated out of source", "PAvPU |p - 0.5|", "certain share |p - 0.5|"}


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["--cache", str(tmp_path), "--run", str(tmp_path / "run")])
    assert done.exit_code != 0
    assert "holds no crops" in done.output + str(done.stderr)


def test_left_out_crops_that_the_checkpoint_was_trained_on_are_not_taken_for_unseen(tmp_path: Path) -> None:
    sides = (("140k", "train"), ("140k", "heldout"), ("roeishc", "leftout"))
    for number, (source, split) in enumerate(sides):
        for label in LABELS:
            shard = f"{source}-{split}-{label}"
            write_shard(tmp_path, shard, [(picture(number), crop(shard, number, label, source, split=split))])
    spec = ModelSpec(
        name="staged",
        version="1",
        backbone="test_efficientnet",
        head=HeadSpec(hidden_dim=8, num_steps=2),
        crop=CropSpec(size=32),
        training=TrainingData(sources=(TrainingSource(name="roeishc", real=1, fake=1),)),
        git_revision="unknown",
        licence=Licence(name="none", file="none", notice="A test's."),
        created=date(2026, 1, 1),
    )
    network = build(backbone="test_efficientnet", hidden_dim=8, num_steps=2)
    checkpoint.save(tmp_path / "staged.safetensors", network.state_dict(), spec)
    arguments = ["--cache", tmp_path, "--checkpoint", tmp_path / "staged.safetensors", "--run", tmp_path / "run"]
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 2, done.output
    assert "real and fake crops of the split 'leftout'; the cache lacks some" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("groups", "told"),
    [
        ({"real": "abc", "fake": "abcd"}, r"'leftout' into 5.*\(real of a, b, c; fake of a, b, c, d\)"),
        ({"real": "abcde", "fake": "f"}, r"'leftout' into 5.*fake of f"),
        ({"real": "abcde", "fake": "fg"}, None),
    ],
)
def test_too_few_groups_are_named_before_anything_is_computed(groups: dict[str, str], told: str | None) -> None:
    rows = [
        crop(split, n, label, "s", split=split, group=group)
        for split, of in (
            ("train", {"real": "x", "fake": "x"}),
            ("heldout", {"real": "vwxyz", "fake": "vwxyz"}),
            ("leftout", groups),
        )
        for label, names in of.items()
        for n, group in enumerate(names)
    ]
    if told is None:
        check_rows(rows)
    else:
        with pytest.raises(ConfigError, match=told):
            check_rows(rows)
