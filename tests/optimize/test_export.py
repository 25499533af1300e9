from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimize.artefacts.makers import Made, Source
from optimize.artefacts.needs import NEEDS
from optimize.artefacts.pictures import NET_SIDES, PNET_HW, Pictures, demo_pictures
from optimize.engines.build import Profile
from optimize.export import ON_THE_CARD, OPENERS, RTX_TARGETS, Exported, Plan, Request, check_targets, measured, run_export
from worker.backends.artefact import CLASSIFIER, KEPT, PROBE, Gpu, Precision, probabilities, read_artefact
from worker.backends.onnx import OnnxClassifier
from worker.errors import ConfigError, ModelError
from worker.extras import MODULES, missing
from worker.model.checkpoint import load_spec, sha256
from worker.model.graph import FAMILIES, INPUT, LOGIT
from worker.types import Float32


@pytest.fixture(scope="module")
def exported(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """The tiny checkpoint for ONNX with its backbone in half, written to a folder."""
    folder = tmp_path_factory.mktemp("exported")
    told: list[str] = []
    request = Request(
        kind="onnx",
        checkpoint=tiny_checkpoint,
        precision="fp16",
        out=folder / "artefact",
        cache_dir=tiny_onnx.parents[1],
        tell=told.append,
    )
    done = run_export(request)
    assert "making classifier" in told
    return done


def test_an_export_to_onnx(exported: Exported, tiny_checkpoint: Path) -> None:
    artefact = read_artefact(exported.folder)
    manifest = artefact.manifest
    assert exported.fresh
    assert manifest == exported.manifest
    assert (manifest.kind, manifest.precision, manifest.checkpoint_sha256) == ("onnx", "fp16", sha256(tiny_checkpoint))
    assert set(manifest.files) == {"classifier.onnx", "pnet.onnx", "rnet.onnx", "onet.onnx", PROBE}
    assert {name: net.precision for name, net in manifest.networks.items()} == {
        CLASSIFIER: "fp16",
        "pnet": "fp32",
        "rnet": "fp32",
        "onet": "fp32",
    }
    net = manifest.networks[CLASSIFIER]
    assert [(tensor.name, tensor.dtype, tensor.shape) for tensor in (*net.inputs, *net.outputs)] == [
        (INPUT, "uint8", (-1, 64, 64, 3)),
        (LOGIT, "float32", (-1,)),
        (FAMILIES, "float32", (-1, 4)),
    ]
    assert manifest.toolchain.keys() >= {"python", "torch", "onnx", "onnxruntime"}


def test_figures_are_those_of_the_files(exported: Exported, tiny_checkpoint: Path) -> None:
    """Scored again from the folder: the same distance from the reference, and not nothing."""
    artefact = read_artefact(exported.folder)
    probe, told = artefact.probe(), artefact.manifest.parity[CLASSIFIER]
    classifier = OnnxClassifier(artefact.path(), threads=1, checkpoint_sha256=sha256(tiny_checkpoint))
    off = np.abs(probabilities(classifier.scores(probe.crops_FHWC).logit_F).astype(np.float64) - probe.p_F)
    assert told.samples == len(probe.p_F) >= 18
    assert {name: parity.reference for name, parity in artefact.manifest.parity.items()} == {
        CLASSIFIER: "eager fp32",
        "pnet": "onnxruntime fp32",
        "rnet": "onnxruntime fp32",
        "onet": "onnxruntime fp32",
    }
    assert told.max_dp is not None
    assert told.max_dp == pytest.approx(off.max(), abs=1e-5)
    assert 0 < told.max_dp <= 0.03
    assert {name: parity.max_dp for name, parity in artefact.manifest.parity.items() if name != CLASSIFIER} == {
        "pnet": 0.0,
        "rnet": 0.0,
        "onet": 0.0,
    }


def test_a_kept_one_is_made_once_for_each_key(tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    if missing(("openvino",)):
        pytest.skip("needs openvino")
    for kept in (tiny_onnx.parent, *tiny_onnx.parent.iterdir()):
        target = tmp_path / kept.relative_to(tiny_onnx.parents[1])
        target.mkdir() if kept.is_dir() else target.write_bytes(kept.read_bytes())
    request = Request(kind="openvino", checkpoint=tiny_checkpoint, cache_dir=tmp_path)
    first, again = run_export(request), run_export(request)
    assert (first.fresh, again.fresh) == (True, False)
    assert first.folder == again.folder
    assert first.folder.parent == tmp_path / KEPT
    assert first.folder.parent.stat().st_mode & 0o077 == 0
    parity = first.manifest.parity
    assert all(figure.max_dp is not None and figure.max_dp < 1e-3 for figure in parity.values())
    weights = first.folder / "classifier.bin"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    mended = run_export(request)
    assert mended.fresh
    assert read_artefact(mended.folder).folder == first.folder
    asked: list[tuple[Path, str]] = []

    class Remade(Exception):
        pass

    def remade(first_step: str) -> None:
        raise Remade

    def refuse(folder: Path, digest: str) -> None:  # as a card's driver would
        asked.append((folder, digest))
        raise ModelError("the engine was refused")

    assert not run_export(request, openers={"openvino": lambda folder, digest: None}).fresh
    with pytest.raises(Remade):
        run_export(replace(request, rebuild=True, tell=remade))
    with pytest.raises(Remade):
        run_export(replace(request, tell=remade), openers={"openvino": refuse})
    assert not run_export(replace(request, tell=remade)).fresh, "what was begun and not ended left it as it was"
    assert asked == [(first.folder, sha256(tiny_checkpoint))]
    assert set(OPENERS) == set(ON_THE_CARD)


def test_whatever_makes_another_artefact_makes_another_key(tiny_checkpoint: Path) -> None:
    request = Request(kind="tensorrt")
    plan = Plan(
        request=request,
        checkpoint=tiny_checkpoint,
        spec=load_spec(tiny_checkpoint),
        digest="a" * 64,
        toolchain={"torch": "2.0"},
        gpu=None,
        targets=(),
    )
    others = [
        replace(plan, digest="b" * 64),
        replace(plan, toolchain={"torch": "2.1"}),
        replace(plan, gpu=Gpu(name="a card", compute_capability="8.9")),
        replace(plan, gpu=Gpu(name="a card", compute_capability="9.0")),
        replace(plan, targets=("SM80",)),
        replace(plan, request=replace(request, precision="fp16")),
        replace(plan, request=replace(request, batch=(1, 8, 32))),
    ]
    assert len({one.key for one in (plan, *others)}) == 8
    again = replace(request, rebuild=True, cache_dir=tiny_checkpoint.parent, tell=print)
    assert replace(plan, request=again).key == plan.key


def test_engines_are_exported_without_a_card(rtx: Any, tiny_checkpoint: Path, tiny_onnx: Path, tmp_path: Path) -> None:
    out = tmp_path / "engines"
    request = Request(
        kind="tensorrt-rtx",
        checkpoint=tiny_checkpoint,
        precision="bf16",
        out=out,
        batch=(1, 4, 8),
        cache_dir=tiny_onnx.parents[1],
    )
    manifest = run_export(request).manifest
    assert manifest.targets == RTX_TARGETS
    assert manifest.networks[CLASSIFIER].profile == ((1, 64, 64, 3), (4, 64, 64, 3), (8, 64, 64, 3))
    assert manifest.toolchain["tensorrt_rtx"] == rtx.__version__
    assert set(manifest.files) == {f"{net}.engine" for net in manifest.networks} | {PROBE}
    for parity in manifest.parity.values():
        assert (parity.max_dp is None) == (parity.reason is not None)


def test_pictures_are_real_faces_and_the_same_each_time() -> None:
    pictures, again = (demo_pictures(margin=1.3, size=64, frames_each=1) for _ in range(2))
    np.testing.assert_array_equal(pictures.crops_FHWC, again.crops_FHWC)
    assert pictures.crops_FHWC.shape[1:] == (64, 64, 3)
    assert len(pictures.crops_FHWC) == 4, "one, two people and one"
    assert pictures.crops_FHWC.std((1, 2, 3)).min() > 20
    assert pictures.nets_NHWC["pnet"].shape[1:] == (*PNET_HW, 3)
    for net, side in NET_SIDES.items():
        assert pictures.nets_NHWC[net].shape == (4, side, side, 3)


@pytest.mark.parametrize(
    "given",
    [
        {"batch": (0, 1, 2)},
        {"batch": (4, 2, 8)},
        {"batch": (1, 9, 8)},
        {"batch": (1, 1, 1), "kind": "torch-tensorrt"},
        {"targets": ("SM80",), "kind": "onnx"},
    ],
)
def test_senseless_requests_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Request(**({"kind": "tensorrt"} | given))


def test_two_crops_at_most_are_enough_for_torch_tensorrt() -> None:
    assert Request(kind="torch-tensorrt", batch=(1, 1, 2)).batch == (1, 1, 2)


def test_targets_are_known_ones_in_order(rtx: Any) -> None:
    def checked(targets: Sequence[str]) -> tuple[str, ...]:
        return check_targets(Request(kind="tensorrt-rtx", targets=tuple(targets)))

    assert checked(["SM120", "SM89", "SM89"]) == ("SM89", "SM120")
    assert checked([]) == RTX_TARGETS
    with pytest.raises(ConfigError, match="does not build for SM90"):
        checked(["SM80", "SM90"])


def made(off: float, last: float | None = None) -> Made:
    """Gives each picture the logit ``off``, the last one another."""

    def run(pictures: np.ndarray[Any, Any]) -> dict[str, np.ndarray[Any, Any]]:
        logits = np.full(len(pictures), off, np.float32)
        logits[-1] = off if last is None else last
        return {LOGIT: logits}

    return Made(file="x", inputs=(), outputs=(), has_profile=False, run=run)


@pytest.mark.parametrize(
    ("precision", "off", "within"),
    [("fp32", 0.003, True), ("fp32", 0.005, False), ("fp16", 0.011, True), ("bf16", 0.013, False), ("bf16", np.nan, False)],
)
def test_nothing_beyond_the_gates_is_exported(precision: Precision, off: float, within: bool) -> None:
    """At a logit of 0 its change counts a quarter in probability."""
    if within:
        assert measured(*undecided(3, precision, made(off))).max_dp == pytest.approx(off / 4, rel=0.01)
    else:
        with pytest.raises(ModelError, match=f"classifier in {precision} differs from eager fp32"):
            measured(*undecided(3, precision, made(off)))


@pytest.mark.parametrize(("last", "within"), [(0.1, True), (0.13, False)])
def test_no_picture_may_be_far_off_however_near_most_are(last: float, within: bool) -> None:
    given = undecided(40, "fp16", made(0.0, last))
    if within:
        assert measured(*given).max_dp == pytest.approx(last / 4, rel=0.01)
    else:
        with pytest.raises(ModelError, match="differs from eager fp32"):
            measured(*given)


def undecided(count: int, precision: Precision, found: Made) -> tuple[Source, Made, Pictures, Float32]:
    """So many pictures to which the reference gives 0.5."""
    shape = (1, 8, 8, 3)
    source = Source(name=CLASSIFIER, graph=b"", profile=Profile(least=shape, usual=shape, greatest=shape), precision=precision)
    pictures = Pictures(crops_FHWC=np.zeros((count, 8, 8, 3), np.uint8), nets_NHWC={})
    return source, found, pictures, np.full(count, 0.5, np.float32)


def test_extras_bring_what_kinds_need() -> None:
    for kind, (extra, modules) in NEEDS.items():
        assert set(modules) <= set(MODULES[extra]), kind
