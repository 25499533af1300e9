"""Any timm backbone trains by configuration; a local checkpoint starts it; a frozen backbone stands still."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from training.paper.networks import Learner, first_layer, load_start, make_network, make_optimiser, with_new_head
from training.paper.settings import TrainStage
from training.settings import Network
from worker.errors import ConfigError
from worker.model import checkpoint
from worker.model.card import CardHead
from worker.model.export import export_network
from worker.model.network import DeepfakeNet

TINY = Network(backbone="test_efficientnet", hidden_dim=16, num_steps=2)
PAPERS = ("tf_efficientnetv2_b0", "tf_efficientnetv2_m", "resnet101", "inception_v3", "legacy_xception", "inception_resnet_v2")
"""The paper's network, the more complex one that it names, and the four it compares with."""
LEAST_PX = {"inception_v3": 75, "legacy_xception": 71, "inception_resnet_v2": 75}


def stage(name: str = "finetune", **other: object) -> TrainStage:
    told = {"stage": name, "size": 32, "batch": 2, "epochs": 1, "optimiser": {"lr": 1e-3}}
    return TrainStage.model_validate(told | other)


def one_update(learner: Learner, how: TrainStage, size: int) -> torch.Tensor:
    optimiser = make_optimiser(learner, how.optimiser)
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    loss, logits = learner.train()(pixels, pixels, torch.tensor([0, 1]))
    assert logits.shape == (2, 2)
    loss.backward()
    optimiser.step()
    assert bool(torch.isfinite(loss))
    return loss.detach()


def smoke(backbone: str) -> DeepfakeNet:
    network = make_network(Network(backbone=backbone, hidden_dim=16, num_steps=2), "diffusion", seed=1)
    first = dict(network.backbone.named_modules())[first_layer(network.backbone)].weight
    before = first.detach().clone()
    one_update(Learner(network, stage(), (1, 1)), stage(), LEAST_PX.get(backbone, 32))
    assert not torch.equal(first, before)
    return network


@pytest.mark.parametrize("backbone", PAPERS)
def test_a_backbone_trains_by_its_name(backbone: str) -> None:
    smoke(backbone)


@pytest.mark.soak
@pytest.mark.parametrize("backbone", PAPERS)
def test_the_papers_networks_train_and_export(backbone: str) -> None:
    model = export_network(smoke(backbone), size=max(96, LEAST_PX.get(backbone, 32)), metadata={})
    assert len(model) > 5_000_000


def test_an_unknown_backbone_is_told() -> None:
    with pytest.raises(ConfigError, match="no_such_net"):
        make_network(Network(backbone="no_such_net"), "linear", seed=1)


def test_a_start_is_timms_file_with_its_classifier_or_one_of_ours(tmp_path: Path, uncalibrated: Path) -> None:
    theirs = timm.create_model("test_efficientnet", num_classes=10)
    save_file(theirs.state_dict(), tmp_path / "timm.safetensors")
    ours = make_network(TINY, "diffusion", seed=7)
    checkpoint.save(tmp_path / "ours.safetensors", ours.state_dict(), checkpoint.load_spec(uncalibrated))
    for name, wanted in (("timm", theirs.conv_stem.weight), ("ours", ours.backbone.conv_stem.weight)):
        made = make_network(TINY, "linear", seed=1)
        load_start(made.backbone, tmp_path / f"{name}.safetensors")
        assert torch.allclose(made.backbone.conv_stem.weight, wanted, atol=1e-3)


def test_another_networks_weights_are_no_start(tmp_path: Path) -> None:
    save_file(timm.create_model("test_vit", num_classes=0).state_dict(), tmp_path / "vit.safetensors")
    made = make_network(TINY, "linear", seed=1)
    with pytest.raises(ConfigError, match="another network"):
        load_start(made.backbone, tmp_path / "vit.safetensors")
    with pytest.raises(ConfigError, match=r"none\.safetensors"):
        load_start(made.backbone, tmp_path / "none.safetensors")


@pytest.mark.parametrize("head", ["diffusion", "card", "linear"])
def test_the_head_stage_moves_the_head_alone(head: str, tmp_path: Path) -> None:
    network = TINY.model_copy(update={"head": head})
    tuned = make_network(network, "linear", seed=1)
    save_file(tuned.state_dict(), tmp_path / "tuned.safetensors")
    made = with_new_head(network, tmp_path / "tuned.safetensors", seed=2)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    one_update(Learner(made, stage("head"), (1, 1)), stage("head"), 32)
    moved = {name for name, value in made.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("head.") for name in moved)
    assert torch.equal(made.backbone.conv_stem.weight, tuned.backbone.conv_stem.weight)
    if head == "card":
        assert torch.equal(made.head.prior.weight, tuned.head.weight)


def test_unfreezing_moves_all_layers() -> None:
    made = make_network(TINY, "diffusion", seed=1)
    before = {name: value.detach().clone() for name, value in made.named_parameters()}
    one_update(Learner(made, stage("unfreeze"), (1, 1)), stage("unfreeze"), 32)
    still = [name for name, value in made.named_parameters() if torch.equal(value, before[name])]
    assert not still


def test_the_denoising_loss_pulls_towards_the_clean_features() -> None:
    made = make_network(TINY, "diffusion", seed=1)
    pixels, target = torch.randn(2, 3, 32, 32), torch.tensor([0, 1])
    losses = [
        float(Learner(made, stage("head", denoise_weight=weight), (1, 1)).train()(pixels, clean, target)[0].detach())
        for weight, clean in ((0.0, pixels), (1.0, pixels), (2.0, pixels), (0.0, pixels * 2))
    ]
    assert losses[0] == losses[3]
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-3)
    assert losses[1] > losses[0]


def test_a_card_head_samples_as_it_is_told() -> None:
    told = TINY.model_copy(update={"head": "card", "num_steps": 4, "draws": 7, "ddim_stride": 2})
    head = make_network(told, "card", seed=1).head
    assert isinstance(head, CardHead)
    assert (len(head.noise_NSK), head.ddim_stride) == (7, 2)


def test_a_card_head_takes_no_mixed_labels() -> None:
    made = make_network(TINY.model_copy(update={"head": "card"}), "card", seed=1)
    with pytest.raises(ConfigError, match="cutmix"):
        Learner(made, stage("unfreeze", augmentation={"cutmix": 1.0}), (1, 1))


def test_stem_and_head_have_rates_of_their_own() -> None:
    how = stage(optimiser={"lr": 1e-3, "stem_lr_share": 0.1, "head_lr_share": 3.0, "weight_decay": 0.02})
    learner = Learner(make_network(TINY, "diffusion", seed=1), how, (1, 1))
    optimiser = make_optimiser(learner, how.optimiser)
    scale = {id(value): group["lr_scale"] for group in optimiser.param_groups for value in group["params"]}
    decay = {id(value): group["weight_decay"] for group in optimiser.param_groups for value in group["params"]}
    assert scale[id(learner.network.backbone.conv_stem.weight)] == 0.1
    assert scale[id(learner.network.head.classifier.weight)] == 3.0
    assert len(scale) == len(list(learner.parameters()))
    assert all(decay[id(value)] == (0.02 if value.ndim > 1 else 0) for value in learner.parameters())
