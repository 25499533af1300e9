"""Configurations: three kinds, stages in files of their own, later files over earlier ones; mistakes are named."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml

from training.configuration import read_configuration
from training.paper.settings import Baselines, Pipeline, TrainStage
from training.settings import Fit, Stage
from worker.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs" / "train"


def stage(pipeline: object, name: str) -> TrainStage:
    assert isinstance(pipeline, Pipeline)
    found = pipeline.stage(name)
    assert isinstance(found, TrainStage)
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("first", Fit),
        ("paper", Pipeline),
        ("paper-small", Pipeline),
        ("own", Pipeline),
        ("baselines", Baselines),
    ],
)
def test_the_configurations_that_ship_are_valid(name: str, kind: type) -> None:
    assert isinstance(read_configuration([CONFIGS / f"{name}.yaml"]), kind)


@pytest.mark.parametrize(("progress", "size"), [(0, 32), (0.49, 32), (0.5, 48), (0.99, 48), (1, 48), (1.01, 48)])
def test_a_stage_holds_until_its_share_of_the_run_is_over(progress: float, size: int) -> None:
    fit = Fit(stages=(Stage(until=0.5, size=32, pairs=1), Stage(until=1, size=48, pairs=1)))
    assert fit.stage(progress).size == size


def test_the_papers_stages_are_the_papers() -> None:
    paper = read_configuration([CONFIGS / "paper.yaml"])
    assert isinstance(paper, Pipeline)
    assert [stage.stage for stage in paper.stages] == ["finetune", "noise", "head", "unfreeze", "evaluate"]
    assert (paper.sets.first.sources, paper.sets.second.sources, paper.sets.test.sources) == (
        ("140k",),
        ("ciplab", "roeishc"),
        "others",
    )
    assert paper.stage("noise").alpha == (0.1, 0.9)  # type: ignore[union-attr]
    assert stage(paper, "head").epochs < stage(paper, "unfreeze").epochs


@pytest.mark.parametrize("name", ["with-cutmix", "with-augmix", "with-v2-m"])
def test_what_the_paper_names_as_future_work_is_a_file_on_top(name: str) -> None:
    below, above = (
        read_configuration([CONFIGS / file for file in files]) for files in (["paper.yaml"], ["paper.yaml", f"{name}.yaml"])
    )
    assert isinstance(below, Pipeline)
    assert isinstance(above, Pipeline)
    assert below.sha256 != above.sha256
    how = stage(above, "finetune").augmentation
    assert (how.cutmix > 0, how.augmix is not None, above.network.backbone) == {
        "with-cutmix": (True, False, "tf_efficientnetv2_b0"),
        "with-augmix": (False, True, "tf_efficientnetv2_b0"),
        "with-v2-m": (False, False, "tf_efficientnetv2_m"),
    }[name]


def test_the_card_head_is_a_file_on_top_of_the_papers_stages_and_refused_by_the_other_recipe() -> None:
    found = read_configuration([CONFIGS / "paper.yaml", CONFIGS / "with-card.yaml"])
    assert isinstance(found, Pipeline)
    assert (found.network.head, found.network.num_steps, found.network.draws, found.network.ddim_stride) == ("card", 10, 50, 0)
    with pytest.raises(ConfigError, match="one label for each crop"):
        read_configuration([CONFIGS / "paper.yaml", CONFIGS / "with-cutmix.yaml", CONFIGS / "with-card.yaml"])
    with pytest.raises(ConfigError, match="the paper's stages train it"):
        read_configuration([CONFIGS / "first.yaml", CONFIGS / "with-card.yaml"])


def test_how_a_card_head_samples_is_a_setting_and_names_another_run(tmp_path: Path) -> None:
    def card(**told: int) -> Pipeline:
        (tmp_path / "above.yaml").write_text(json.dumps({"network": told}))
        found = read_configuration([CONFIGS / "paper.yaml", CONFIGS / "with-card.yaml", tmp_path / "above.yaml"])
        assert isinstance(found, Pipeline)
        return found

    plain, fewer, faster = card(draws=50), card(draws=20), card(ddim_stride=5)
    assert (fewer.network.draws, faster.network.ddim_stride) == (20, 5)
    assert len({one.sha256 for one in (plain, fewer, faster)}) == 3
    with pytest.raises(ConfigError, match="below the 10 steps"):
        card(ddim_stride=10)


def test_a_run_from_before_a_setting_was_there_keeps_its_name() -> None:
    found = read_configuration([CONFIGS / "paper.yaml"])
    assert isinstance(found, Pipeline)
    before = found.model_dump(mode="json", exclude={"hardware": True, "network": {"draws", "ddim_stride"}})
    told = json.dumps(before | {"precision": found.hardware.precision}, sort_keys=True)
    assert found.sha256 == hashlib.sha256(told.encode()).hexdigest()


def test_overrides_reach_the_stages_they_name_and_no_other(tmp_path: Path) -> None:
    above = tmp_path / "above.yaml"
    above.write_text(yaml.safe_dump({"overrides": {"train": {"batch": 8}, "head": {"epochs": 1}}}))
    found = read_configuration([CONFIGS / "paper.yaml", above])
    assert [stage(found, name).batch for name in ("finetune", "head", "unfreeze")] == [8, 8, 8]
    assert stage(found, "head").epochs == 1
    assert stage(found, "unfreeze").epochs == stage(read_configuration([CONFIGS / "paper.yaml"]), "unfreeze").epochs


def test_the_hardware_does_not_change_a_runs_name_but_its_precision_does(tmp_path: Path) -> None:
    names = []
    for number, hardware in enumerate(({"threads": 1}, {"threads": 7, "workers": 3}, {"precision": "bf16-mixed"})):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump({"hardware": hardware}))
        found = read_configuration([CONFIGS / "paper.yaml", path])
        assert isinstance(found, Pipeline)
        names.append(found.sha256)
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"overrides": {"fintune": {"batch": 8}}}, "fintune"),
        ({"overrides": {"head": {"batches": 8}}}, "batches"),
        ({"stages": ["noise.yaml"]}, "noise.yaml"),
        ({"stages": [{"stage": "noise"}]}, "in the order"),
        ({"sets": {"first": {"source": ["140k"]}}}, "source"),
    ],
)
def test_a_mistake_is_told_by_name(told: dict[str, object], said: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(told))
    with pytest.raises(ConfigError, match=said):
        read_configuration([CONFIGS / "paper.yaml", path])


def test_a_whole_networks_weights_are_no_start_of_a_staged_run(tmp_path: Path) -> None:
    above = tmp_path / "above.yaml"
    above.write_text("network: {start: whole.safetensors}\n")
    with pytest.raises(ConfigError, match=r"here name it by network\.init"):
        read_configuration([CONFIGS / "own.yaml", above])


@pytest.mark.parametrize("name", ["second", "baselines", "leave-out"])
def test_overrides_are_refused_where_there_are_no_stages(name: str) -> None:
    with pytest.raises(ConfigError, match="overrides: they are for stages"):
        read_configuration([CONFIGS / f"{name}.yaml", CONFIGS / "with-augmix.yaml"])


@pytest.mark.parametrize("told", ["{head: }", "{evaluate: 5}", "{train: [8]}", "[head]"])
def test_overrides_that_are_no_settings_are_told(told: str, tmp_path: Path) -> None:
    above = tmp_path / "above.yaml"
    above.write_text(f"overrides: {told}\n")
    with pytest.raises(ConfigError, match="overrides: a mapping from evaluate, finetune"):
        read_configuration([CONFIGS / "own.yaml", above])
