"""Leave-one-source-out: what is judged is in no training, folds go on where they were cut, and the numbers are right."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

from tests.training.conftest import crop, picture
from training.commands.train import app
from training.configuration import read_configuration
from training.data import CropStore, PairSampler
from training.identity import rows_sha256
from training.leave_out import FOLD, Score, choose_files, claim, read_scores, run_study
from training.leave_out_report import gather, images_seen, measure, thresholds
from training.loop import Run, fit_network
from training.prepare import Crop, read_index, write_shard
from training.release import training_sources
from training.settings import Fit, Mixture, Network, Stage, Study
from training.validate import logits_of
from worker.errors import ConfigError
from worker.model import checkpoint
from worker.model.restore import load_network

CONFIGS = Path(__file__).parents[2] / "configs" / "train"
MIXTURE = Mixture(aligned=0.5, blend=0.25, composite=0.125, synthetic=0.125, absent="leave out")
STYLEGAN = ("140k", "roeishc", "generatedphotos")
RECIPE = Fit(
    network=Network(backbone="test_efficientnet", hidden_dim=8, num_steps=1),
    mixture=MIXTURE,
    stages=(Stage(until=1, size=32, pairs=4),),
    steps=2,
    threads=1,
    device="cpu",
)
BLENDS = Mixture(aligned=0, blend=1, composite=0, synthetic=0)
BLIND = RECIPE.model_copy(update={"mixture": BLENDS, "stages": (Stage(until=1, size=32, pairs=2),)})


def clip(number: int, manipulation: str, frame: int, split: str) -> Crop:
    label = "fake" if manipulation else "real"
    path = f"videos/ffpp/{label}/{manipulation or 'original'}_{number}.mp4"
    other = {"path": path, "manipulation": manipulation, "frame": frame, "split": split}
    return crop(f"ffpp-{number}", number, label, "ffpp", **other)


def face(number: int, label: str, source: str, split: str) -> Crop:
    path = f"faces/{source}/{label}/{number}.jpg"
    group = f"{source}/{label}-{number}"
    manipulation = "fake" if label == "fake" else ""
    return crop(f"{source}-{label}", number, label, source, path=path, group=group, split=split, manipulation=manipulation)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FF++ with two manipulations, 140k and ciplab, each with held-out groups, and GAN pictures that nobody trains on."""
    folder = tmp_path_factory.mktemp("leave-out")
    shards: dict[str, list[Crop]] = {}
    for number in range(8):
        split = "train" if number < 2 else "heldout"
        kinds = ("", "deepfakes", "faceswap")
        shards[f"ffpp-{number}"] = [clip(number, kind, frame, split) for kind in kinds for frame in range(2)]
    for source in ("140k", "ciplab", "generatedphotos"):
        for label in ("real", "fake") if source != "generatedphotos" else ("fake",):
            splits = ["leftout"] * 3 if source == "generatedphotos" else ["train"] * 2 + ["heldout"] * 6
            shards[f"{source}-{label}"] = [face(number, label, source, split) for number, split in enumerate(splits)]
    for name, rows in shards.items():
        write_shard(folder, name, [(picture(sum(map(ord, row.path)) + row.frame), row) for row in rows])
    return folder


def test_a_fold_is_judged_on_what_it_left_out_and_fitted_on_what_it_knew(cache: Path) -> None:
    rows = CropStore(cache).rows
    swaps = choose_files(rows, ("faceswap",))
    assert swaps.test == {
        path for n in range(2, 8) for path in (f"videos/ffpp/real/original_{n}.mp4", f"videos/ffpp/fake/faceswap_{n}.mp4")
    }
    assert swaps.validation == {
        path for n in range(2, 8) for path in (f"videos/ffpp/real/original_{n}.mp4", f"videos/ffpp/fake/deepfakes_{n}.mp4")
    }
    assert {len(members) for members in swaps.rows.values()} == {2}
    gans = choose_files(rows, STYLEGAN)
    assert {path.split("/")[1] for path in gans.test} == {"140k", "generatedphotos"}
    assert {path.split("/")[1] for path in gans.validation} == {"ciplab"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"group": "ffpp/5"}, "1 groups judged and learnt from, the first ffpp/5"),
        ({"target": "005"}, "1 originals judged and learnt from"),
        ({"target": "005", "source": "mine"}, "1 originals judged and learnt from"),
        ({"source": "taesd", "target": "videos/ffpp/real/original_5.mp4"}, "1 files judged and learnt from"),
    ],
)
def test_what_is_judged_must_not_be_learnt_from(cache: Path, change: dict[str, str], said: str) -> None:
    rows = CropStore(cache).rows
    learnt = next(row for row in rows if row.split == "train" and row.manipulation == "deepfakes")
    choose_files([*rows, learnt], ("faceswap",))
    with pytest.raises(ConfigError, match=said):
        choose_files([*rows, replace(learnt, **change)], ("faceswap",))  # type: ignore[arg-type]


def test_a_fold_without_files_to_judge_is_refused(cache: Path) -> None:
    with pytest.raises(ConfigError, match="generatedphotos: held-out files of both labels"):
        choose_files(CropStore(cache).rows, ("generatedphotos",))


@pytest.mark.parametrize("names", [("faceswap",), ("140k",), ("ciplab", "deepfakes")])
def test_fakes_that_are_left_out_are_in_no_pair(cache: Path, names: tuple[str, ...]) -> None:
    seen: set[str] = set()
    store = CropStore(cache)

    class Watching(CropStore):
        def picture(self, row):  # type: ignore[no-untyped-def]
            seen.update({row.source, row.manipulation} if row.label == "fake" else ())
            return store.picture(row)

    sampler = PairSampler(Watching(cache), MIXTURE.model_copy(update={"leave_out": names}), seed=1)
    for step in range(4):
        sampler.batch(step, 8, 32)
    known = {"faceswap", "deepfakes", "140k", "ciplab"}
    assert seen & known == known - set(names)


def test_a_name_of_no_fake_is_refused_and_a_checkpoint_names_what_was_drawn(cache: Path) -> None:
    store = CropStore(cache)
    with pytest.raises(ConfigError, match="no fakes of a source or manipulation facesawp"):
        PairSampler(store, MIXTURE.model_copy(update={"leave_out": ("facesawp",)}), seed=1)
    named = training_sources(store.rows, MIXTURE.model_copy(update={"leave_out": ("faceswap", "140k")}))
    assert {source.name: (source.real, source.fake) for source in named} == {"140k": (2, 0), "ciplab": (2, 2), "ffpp": (2, 2)}


def test_a_study_trains_scores_and_reports_every_fold_and_goes_on_where_it_was_cut(cache: Path, tmp_path: Path) -> None:
    recipe, quiet = RECIPE.model_copy(update={"hold_out": ("ffpp/1",)}), Console(quiet=True)
    study = Study(recipe=recipe, folds={"faceswap": ("faceswap",), "stylegan": ("140k", "generatedphotos")})
    report = run_study(study, cache, tmp_path, console=quiet)
    text = report.read_text()
    assert "| faceswap | faceswap | all | 7 | 7 | " in text
    assert "| stylegan | 140k, generatedphotos | generatedphotos, all real files | 6 | 3 | " in text
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["images_seen"] == 16
    assert found["mean_auc"]["low"] <= found["mean_auc"]["value"] <= found["mean_auc"]["high"]
    before = (tmp_path / "faceswap" / "scores.csv").stat().st_mtime_ns
    scores = read_scores(tmp_path / "stylegan" / "scores.csv")
    assert (scores[0].crops, len(scores)) == (1, 6 + 6 + 3 + 12)
    (tmp_path / "stylegan" / "scores.csv").unlink()
    run_study(study.model_copy(update={"threshold": 99.0}), cache, tmp_path, console=quiet)
    assert read_scores(tmp_path / "stylegan" / "scores.csv") == scores
    assert (tmp_path / "faceswap" / "scores.csv").stat().st_mtime_ns == before
    assert json.loads((tmp_path / "report.json").read_text())["pooled_balanced_accuracy"]["value"] == 0.5
    longer = study.model_copy(update={"recipe": recipe.model_copy(update={"steps": 3})})
    with pytest.raises(ConfigError, match="another recipe, budget, stem or split"):
        run_study(longer, cache, tmp_path, console=quiet)


def with_stem(**change: object) -> Study:
    return Study(**({"recipe": RECIPE, "folds": {"faceswap": ("faceswap",)}, "stem": BLIND, "share": 0.25} | change))  # type: ignore[arg-type]


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / "state.pt", weights_only=True)["ema"]
    return found


@pytest.fixture(scope="module")
def studied(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study with a stem; to be left as it is."""
    folder = tmp_path_factory.mktemp("studied")
    run_study(with_stem(), cache, folder, console=Console(quiet=True))
    return folder


def test_folds_start_from_a_stem_that_is_trained_once_and_a_cut_study_ends_the_same(
    cache: Path, studied: Path, tmp_path: Path
) -> None:
    quiet = Console(quiet=True)
    fit_network(BLIND.model_copy(update={"steps": 1}), cache, tmp_path / "stem", console=quiet)
    text = run_study(with_stem(), cache, tmp_path, console=quiet).read_text()
    assert (studied / "report.json").read_text() == (tmp_path / "report.json").read_text()
    for name in ("stem", "faceswap"):
        whole, cut = weights_of(studied / name), weights_of(tmp_path / name)
        assert all(torch.equal(value, cut[key]) for key, value in whole.items())
    assert "8 images seen, on real training faces" in text
    assert [line.split(" | ")[0] for line in text.split("## Other weights")[1].splitlines() if line.startswith("| ")] == [
        "| weights",
        "| judged",
        "| the folds' ends, not averaged",
        "| the stem, before any fake was seen",
    ]
    trained = [(tmp_path / name / "state.pt").stat().st_mtime_ns for name in ("stem", "faceswap")]
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    run_study(with_stem(threshold=99.0), cache, moved, console=quiet)
    assert [(moved / name / "state.pt").stat().st_mtime_ns for name in ("stem", "faceswap")] == trained


def test_the_weights_that_are_judged_are_the_average_of_a_folds_end_and_the_stem(cache: Path, studied: Path) -> None:
    found = {file: read_scores(studied / "faceswap" / file) for file in ("scores.csv", "scores-end.csv", "scores-stem.csv")}
    rows = choose_files(CropStore(cache).rows, ("faceswap",)).rows
    assert all([score.path for score in scores] == list(rows) for scores in found.values())
    stem, end = checkpoint.load(studied / "stem" / "model.safetensors")[1], weights_of(studied / "faceswap")
    network = load_network(studied / "stem" / "model.safetensors")[1]
    by_hand = {
        "scores.csv": {name: 0.25 * value + 0.75 * torch.tensor(stem[name]) for name, value in end.items()},
        "scores-end.csv": end,
        "scores-stem.csv": {name: torch.tensor(value) for name, value in stem.items()},
    }
    for file, weights in by_hand.items():
        network.load_state_dict(weights)
        logits = logits_of(network, CropStore(cache), [row for members in rows.values() for row in members], size=32)
        assert [score.logit for score in found[file]] == pytest.approx(list(logits.values()), abs=1e-4)
    assert len({tuple(score.logit for score in scores) for scores in found.values()}) == 3


def test_a_stem_of_another_configuration_or_length_is_refused(cache: Path, studied: Path, tmp_path: Path) -> None:
    quiet, slower = Console(quiet=True), BLIND.model_copy(update={"lr": 1e-5})
    with pytest.raises(ConfigError, match="another recipe, budget, stem or split"):
        run_study(with_stem(stem=slower), cache, studied, console=quiet)
    Run.start(slower, tmp_path / "other" / "stem", rows_sha256="others").save()
    with pytest.raises(ConfigError, match="another configuration"):
        run_study(with_stem(), cache, tmp_path / "other", console=quiet)
    longer = Run.start(BLIND, tmp_path / "longer" / "stem", rows_sha256=rows_sha256(read_index(cache)))
    longer.step = 2
    longer.save()
    with pytest.raises(ConfigError, match="a run of 2 steps, the stem has 1"):
        run_study(with_stem(stem=BLIND.model_copy(update={"stop": 1})), cache, tmp_path / "longer", console=quiet)


def test_the_stem_that_ships_sees_real_training_faces_and_what_is_made_of_them(cache: Path, tmp_path: Path) -> None:
    (original,) = (row for row in CropStore(cache).rows if row.path == "faces/140k/real/0.jpg")
    made = face(99, "fake", "taesd", "train")
    remade = replace(made, target=original.path, group=original.group, manipulation="taesd")
    folder = tmp_path / "cache"
    shutil.copytree(cache, folder)
    write_shard(folder, "taesd-fake", [(picture(5), remade)])
    store, seen = CropStore(folder), set()

    class Watching(CropStore):
        def picture(self, row):  # type: ignore[no-untyped-def]
            seen.add((row.label, row.source, row.split))
            return store.picture(row)

    study = read_configuration([CONFIGS / "leave-out.yaml"])
    assert isinstance(study, Study)
    assert study.stem is not None
    sampler = PairSampler(Watching(folder), study.stem.mixture, seed=1)
    for step in range(8):
        sampler.batch(step, 12, 32)
    assert {(label, source) for label, source, _ in seen} == {("real", s) for s in ("ffpp", "140k", "ciplab")} | {
        ("fake", "taesd")
    }
    assert {split for *_, split in seen} == {"train"}


def score(
    path: str, label: str, logit: float, *, source: str = "a", group: str = "", test: bool = True, valid: bool = False
) -> Score:
    return Score(
        path=path,
        label=label,
        source=source,
        manipulation="",
        group=group or path,
        kind="image",
        crops=1,
        logit=logit,
        test=test,
        validation=valid,
    )


def pair_of_labels(name: str, reals: list[float], fakes: list[float], source: str) -> list[Score]:
    return [
        score(f"{name}-{label}-{n}", label, logit, source=source)
        for label, logits in (("real", reals), ("fake", fakes))
        for n, logit in enumerate(logits)
    ]


def test_means_and_pooled_accuracy_are_those_of_the_folds() -> None:
    folds = {
        "one": pair_of_labels("one", [-2, -1], [1, 2], "a"),  # AUC 1
        "two": pair_of_labels("two", [-1, 1], [-1, 1], "a"),  # 0.5
        "three": pair_of_labels("three", [1, 3], [2, 0, 0, 0], "b"),  # 1 of 8
    }
    found = measure(folds, threshold=0.5, draws=50)
    assert [part.auc.value for part in found.parts] == [1, 0.5, 0.125]
    assert found.mean_auc.value == pytest.approx((1 + 0.5 + 0.125) / 3)
    assert found.mean_auc_by_source.value == pytest.approx((0.75 + 0.125) / 2)
    assert found.pooled_balanced_accuracy.value == pytest.approx((4 / 8 + 3 / 6) / 2)
    assert found.mean_balanced_accuracy.value == pytest.approx((1 + 0.5 + 0.125) / 3)
    assert (found.decisions[2].false_alarms, found.decisions[2].found) == (1, 0.25)


def test_no_file_has_a_part_in_the_threshold_that_its_group_meets() -> None:
    def files(of_group_3: float) -> list[Score]:
        rng = np.random.default_rng(0)
        made = []
        for n in range(10):
            known, new, real = rng.normal(3), rng.normal(3), rng.normal(-1)
            made.append(score(f"real-{n}", "real", of_group_3 if n == 3 else real, group=f"g{n}", valid=True))
            made.append(score(f"known-{n}", "fake", known, group=f"g{n}", test=False, valid=True))
            made.append(score(f"new-{n}", "fake", new, group=f"g{n}"))
        return made

    low, high = np.array(thresholds(files(-1.0))), np.array(thresholds(files(4.0)))
    assert (low[6:8] == high[6:8]).all()
    assert (low != high).sum() >= 12
    assert -1 < low.min() < low.max() < 3


def test_a_threshold_without_validation_files_is_refused_unless_given() -> None:
    folds = {"one": pair_of_labels("one", [-2, -1, 0], [1, 2, 3], "a")}
    with pytest.raises(ConfigError, match="fold one: no threshold"):
        gather(folds, None)
    assert set(gather(folds, 0.25).threshold_N) == {0.25}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": None}, "give steps"),
        ({"mixture": MIXTURE.model_copy(update={"leave_out": ("ciplab",)})}, "what the folds say"),
        ({"network": Network(start=Path("trained.safetensors"))}, "has seen"),
    ],
)
def test_an_unfair_study_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Study(recipe=RECIPE.model_copy(update=change), folds={"ciplab": ("ciplab",)})


OTHER = Network(backbone="test_efficientnet", hidden_dim=16, num_steps=1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stem": None}, "give a stem"),
        ({"stem": BLIND.model_copy(update={"mixture": Mixture(aligned=1, blend=0, composite=0, synthetic=0)})}, "must be 0"),
        ({"stem": BLIND.model_copy(update={"mixture": Mixture(aligned=0, blend=0.9, composite=0.1, synthetic=0)})}, "must be 0"),
        ({"stem": BLIND.model_copy(update={"mixture": Mixture(aligned=0, blend=0.9, composite=0, synthetic=0.1)})}, "must be 0"),
        ({"stem": BLIND.model_copy(update={"steps": None})}, "stem: give steps"),
        ({"stem": BLIND.model_copy(update={"network": Network(start=Path("trained.safetensors"))})}, "nobody knows"),
        ({"recipe": RECIPE.model_copy(update={"network": Network(init=Path("backbone.safetensors"))})}, "belongs there"),
        ({"stem": BLIND.model_copy(update={"network": OTHER})}, "must be the recipe's"),
        ({"stem": BLIND.model_copy(update={"mixture": BLENDS.model_copy(update={"blend": 0.9, "processing": 0.1})})}, "families"),
        ({"stem": BLIND.model_copy(update={"hold_out": ("ffpp/1",)})}, "hold_out must be the recipe's"),
        ({"folds": {"stem": ("faceswap",)}}, "name stem is taken"),
        ({"share": 1}, "less than 1"),
    ],
)
def test_a_stem_that_could_know_what_is_left_out_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        with_stem(**change)


def test_the_study_that_ships_has_the_shipped_mixture_and_leaves_stylegan_out_together() -> None:
    study, shipped = (read_configuration([CONFIGS / name]) for name in ("leave-out.yaml", "second.yaml"))
    assert isinstance(study, Study)
    assert isinstance(shipped, Fit)
    assert study.recipe.mixture == shipped.mixture.model_copy(update={"absent": "leave out"})
    assert study.folds["stylegan"] == STYLEGAN
    assert study.fit("faceswap").mixture.leave_out == ("faceswap",)
    assert images_seen(study.recipe) == 24 * 100
    assert study.stem == read_configuration([CONFIGS / "stem.yaml"])
    assert study.share == 0.5


def test_a_threshold_is_for_a_study_only() -> None:
    done = CliRunner().invoke(app, [str(CONFIGS / "first.yaml"), "--threshold", "0"])
    assert done.exit_code != 0
    assert "configuration with folds" in done.output


def test_a_fold_begun_before_a_setting_was_there_goes_on(cache: Path, tmp_path: Path) -> None:
    fit = RECIPE
    claim(fit, cache, tmp_path / "fold")
    path = tmp_path / "fold" / FOLD
    told = json.loads(path.read_text())
    del told["fit"]["mask_weight"], told["fit"]["mixture"]["own_donor"]
    path.write_text(json.dumps(told))
    claim(fit, cache, tmp_path / "fold")
    with pytest.raises(ConfigError, match="another recipe"):
        claim(fit.model_copy(update={"mask_weight": 0.5}), cache, tmp_path / "fold")
    del told["rows_sha256"]
    path.write_text(json.dumps(told))
    with pytest.raises(ConfigError, match="or other crops"):
        claim(fit, cache, tmp_path / "fold")
    path.write_text(json.dumps({"fit": {"no": "recipe"}}))
    with pytest.raises(ConfigError, match="another recipe"):
        claim(fit, cache, tmp_path / "fold")
