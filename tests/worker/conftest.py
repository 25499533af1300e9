"""A tiny untrained checkpoint and its export (the bundled one's code paths in a fraction of the time); a spy on connections;
the TensorRT library that builds without a card."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.worker.spy import Spy
from worker.backends.alone import alone
from worker.backends.choose import EXPORT_TIMEOUT_S, cached_export
from worker.extras import how_to_install, missing
from worker.model import checkpoint
from worker.model.spec import CropSpec, HeadSpec, Licence, ModelSpec, TrainingData
from worker.types import UInt8

TINY_SPEC = ModelSpec(
    name="tiny",
    version="0",
    backbone="test_efficientnet",
    head=HeadSpec(hidden_dim=16, num_steps=2),
    crop=CropSpec(size=64),
    training=TrainingData(sources=()),
    git_revision="0000000",
    licence=Licence(name="test", file="none", notice="For tests."),
    created=date(2026, 1, 1),
)


@pytest.fixture
def spy(tmp_path: Path) -> Iterator[Spy]:
    """Fails the test if it connects, or looks up a name, where ``spy.allow`` does not say that it may."""
    with Spy(tmp_path / "connections.jsonl") as spy:
        yield spy
    spy.check()


@pytest.fixture(scope="session")
def tiny_spec() -> ModelSpec:
    return TINY_SPEC


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights; the last layer is enlarged and centred, so that different crops get clearly different scores."""
    import torch

    from worker.model.network import build

    torch.manual_seed(0)
    head = TINY_SPEC.head
    network = build(backbone=TINY_SPEC.backbone, hidden_dim=head.hidden_dim, num_steps=head.num_steps)
    state = network.state_dict()
    for name, value in state.items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith("running_mean"):
            value.normal_(0, 0.1)
    state["head.classifier.weight"] *= 300
    state["head.classifier.bias"][0] += 10.5
    path = tmp_path_factory.mktemp("tiny") / "tiny.safetensors"
    checkpoint.save(path, state, TINY_SPEC)
    return path


@pytest.fixture(scope="session")
def foreign_torch(shared_tmp: Path) -> Path:
    """A folder with a ``torch.py`` of its own, which leaves the file ``ran`` beside it if anything imports it."""
    folder = shared_tmp / "foreign_torch"
    folder.mkdir(exist_ok=True)
    (folder / "torch.py").write_text(f"from pathlib import Path; Path({str(folder / 'ran')!r}).touch()")
    return folder


@pytest.fixture(scope="session")
def tiny_onnx(tiny_checkpoint: Path, shared_tmp: Path, foreign_torch: Path) -> Path:
    """The export of the tiny checkpoint, made in a process of its own, as a scan does, by a user in a folder with a ``torch.py``.

    Processes that run tests side by side share it: one exports, the others wait, by the lock that scans have.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(foreign_torch)
        return cached_export(tiny_checkpoint, checkpoint.sha256(tiny_checkpoint), shared_tmp)


@pytest.fixture(scope="session")
def tiny_card(shared_tmp: Path) -> tuple[Path, Path]:
    """A checkpoint with a CARD head at its real number of steps, and its export; shared as ``tiny_onnx`` is."""
    import torch

    from worker.model.export import export_checkpoint
    from worker.model.network import build

    head = HeadSpec(kind="card", hidden_dim=16, num_steps=10, draws=5)
    saved, exported = shared_tmp / "card.safetensors", shared_tmp / "card.onnx"
    with alone(shared_tmp / "card.lock", timeout_s=EXPORT_TIMEOUT_S, doing="exporting the CARD head"):
        if not exported.exists():
            torch.manual_seed(1)
            network = build(backbone=TINY_SPEC.backbone, **(head.model_dump(exclude={"kind"}) | {"head": head.kind}))
            state = network.state_dict()
            for name, value in state.items():
                if name.endswith("running_var"):
                    value.uniform_(0.5, 1.5)
            state["head.prior.weight"] *= 30
            state["head.tau"].fill_(0.5)
            checkpoint.save(saved, state, TINY_SPEC.model_copy(update={"head": head}))
            export_checkpoint(saved, exported)
    return saved, exported


@pytest.fixture(scope="session")
def make_crops() -> Callable[[int], UInt8]:
    """Different crops of the tiny network's size: random colours and contrasts, so that no two score alike."""

    def make(n: int) -> UInt8:
        random = np.random.default_rng(7)
        colour_F113 = random.uniform(0, 255, (n, 1, 1, 3))
        contrast_F111 = random.uniform(0, 120, (n, 1, 1, 1))
        noise_FHWC = random.standard_normal((n, TINY_SPEC.crop.size, TINY_SPEC.crop.size, 3))
        return np.clip(colour_F113 + contrast_F111 * noise_FHWC, 0, 255).astype(np.uint8)

    return make


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"some bytes")
    return path


@pytest.fixture(scope="session")
def rtx() -> Any:
    """tensorrt_rtx. In CI on Linux, x86-64, its absence is a failure: engines must be built there."""
    if missing(("tensorrt_rtx",)):
        if os.environ.get("CI") and sys.platform == "linux" and platform.machine() == "x86_64":
            pytest.fail(f"tensorrt_rtx must be installed in CI: {how_to_install('rtx')}")
        pytest.skip(f"needs tensorrt_rtx: {how_to_install('rtx')}")
    return importlib.import_module("tensorrt_rtx")
