"""What every classifier backend owes the pipeline, over one tiny checkpoint, by the gates of its precision."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from worker.backends.artefact import GATES
from worker.backends.candidates import ARTEFACTS, NAMES, Opening, is_of, lacking, open_named, precision_of
from worker.backends.kept import user_cache
from worker.backends.onnx import IN_CACHE, OnnxClassifier
from worker.backends.openvino import OpenVinoClassifier
from worker.backends.torch import TorchClassifier
from worker.errors import ConfigError, ModelError
from worker.explain import occlusion_map
from worker.extras import missing
from worker.model.checkpoint import sha256
from worker.model.graph import CHECKPOINT_KEY, EXPORT_KEY, EXPORT_VERSION, INPUT, LOGIT
from worker.ports import Classifier
from worker.types import Float32, Scores, UInt8

MAX_BATCH = 4
PARALLEL = 2
MakeCrops = Callable[[int], UInt8]


def p(logits_F: Float32) -> Float32:
    return np.asarray(1 / (1 + np.exp(-logits_F)), np.float32)


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> Classifier:
    return TorchClassifier(tiny_checkpoint, threads=1, max_batch=MAX_BATCH)


@pytest.fixture(scope="module", params=NAMES)
def classifier(request: pytest.FixtureRequest, tiny_checkpoint: Path, tiny_onnx: Path) -> Classifier:
    """Every backend; those whose library, card or artefact is missing are skipped with the reason."""
    digest = sha256(tiny_checkpoint)
    cache = user_cache() if request.param in ARTEFACTS else tiny_onnx.parents[1]
    if why := lacking(request.param, cache, digest):
        pytest.skip(f"{request.param}: {why}")
    opening = Opening(
        checkpoint=tiny_checkpoint,
        digest=digest,
        onnx=lambda: tiny_onnx,
        cache_dir=cache,
        threads=1,
        parallel=PARALLEL,
        max_batch=MAX_BATCH,
    )
    try:
        return open_named(request.param, opening)
    except (ConfigError, ModelError) as exc:
        if request.param in ("torch", "onnxruntime") or (isinstance(exc, ModelError) and request.param not in ARTEFACTS):
            raise  # what is installed, and finds what it needs, may not refuse the tiny network
        pytest.skip(f"{request.param}: {exc}")


def gate(classifier: Classifier) -> float:
    return GATES[precision_of(classifier.name)][0]


def test_name(classifier: Classifier, request: pytest.FixtureRequest) -> None:
    assert is_of(classifier.name, request.node.callspec.params["classifier"])


def test_crops_score_differently_so_that_the_tests_below_mean_something(reference: Classifier, make_crops: MakeCrops) -> None:
    probability = p(reference.scores(make_crops(11)).logit_F)
    assert probability.std() > 0.1
    assert 0.2 < np.median(probability) < 0.8


def test_what_a_score_hangs_on_agrees_with_the_reference(
    classifier: Classifier, reference: Classifier, make_crops: MakeCrops
) -> None:
    """Falls of the logit are differences of what the gates bound as probabilities: about four times as much in the middle."""
    crop_HWC = make_crops(1)[0]
    expected_GG, found_GG = (
        occlusion_map(crop_HWC, lambda crops, one=one: one.scores(crops).logit_F) for one in (reference, classifier)
    )
    assert np.abs(expected_GG).max() > 0.1
    np.testing.assert_allclose(found_GG, expected_GG, atol=10 * gate(classifier))


@pytest.mark.parametrize("n", [0, 1, 2, MAX_BATCH, MAX_BATCH + 1, 3 * MAX_BATCH, 3 * MAX_BATCH + 1])
def test_any_batch_size_agrees_with_the_reference(
    n: int, classifier: Classifier, reference: Classifier, make_crops: MakeCrops
) -> None:
    crops = make_crops(13)[:n]
    logits = classifier.scores(crops).logit_F
    assert logits.shape == (n,)
    assert logits.dtype == np.float32
    assert np.abs(p(logits) - p(reference.scores(crops).logit_F)).max(initial=0) <= gate(classifier)


def test_permuting_splitting_and_padding_change_nothing(classifier: Classifier, make_crops: MakeCrops) -> None:
    crops = make_crops(11)
    whole = p(classifier.scores(crops).logit_F)
    order = np.random.default_rng(1).permutation(len(crops))
    singly = np.concatenate([classifier.scores(crops[i : i + 1]).logit_F for i in range(len(crops))])
    padded = classifier.scores(np.concatenate([crops, np.zeros_like(crops[:6])])).logit_F[: len(crops)]
    np.testing.assert_allclose(p(classifier.scores(crops[order]).logit_F), whole[order], atol=1e-3)
    np.testing.assert_allclose(p(singly), whole, atol=1e-3)
    np.testing.assert_allclose(p(padded), whole, atol=1e-3)


def test_twice_the_same(classifier: Classifier, make_crops: MakeCrops) -> None:
    crops = make_crops(5)
    np.testing.assert_array_equal(classifier.scores(crops).logit_F, classifier.scores(crops).logit_F)


def test_several_threads_at_once(classifier: Classifier, make_crops: MakeCrops) -> None:
    """More callers than the backend runs in parallel: each gets the logits of its own crops."""
    crops = make_crops(12)
    parts = [crops[i : i + 4] for i in range(9)]
    alone = [classifier.scores(part).logit_F for part in parts]
    with ThreadPoolExecutor(2 * PARALLEL) as pool:
        together = list(pool.map(lambda part: classifier.scores(part).logit_F, parts * 4))
    for i, logits in enumerate(together):
        np.testing.assert_array_equal(logits, alone[i % len(parts)])


def test_strided_crops(classifier: Classifier, make_crops: MakeCrops) -> None:
    crops = make_crops(6)
    np.testing.assert_allclose(classifier.scores(crops[::-2]).logit_F, classifier.scores(crops[::-2].copy()).logit_F, atol=1e-5)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 64, 64, 3), np.float32),
        np.zeros((2, 3, 64, 64), np.uint8),
        np.zeros((2, 64, 32, 3), np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        np.zeros((0, 224, 224, 3), np.uint8),
    ],
    ids=["float", "channels first", "not square", "no batch", "another size"],
)
def test_wrong_crops_are_refused(classifier: Classifier, wrong: UInt8) -> None:
    with pytest.raises(ValueError, match="crops must be uint8"):
        classifier.scores(wrong)


@pytest.mark.parametrize("given", [{"threads": 0}, {"threads": 1, "max_batch": 0}])
def test_senseless_options_are_refused(tiny_checkpoint: Path, tiny_onnx: Path, given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        TorchClassifier(tiny_checkpoint, **given)
    with pytest.raises(ValueError, match="must be positive"):
        OnnxClassifier(tiny_onnx, **given)


@pytest.mark.parametrize("runs", [OnnxClassifier, OpenVinoClassifier])
def test_missing_damaged_and_foreign_graphs_are_refused(
    runs: type[OnnxClassifier | OpenVinoClassifier], tiny_onnx: Path, tmp_path: Path
) -> None:
    if runs is OpenVinoClassifier and missing(("openvino",)):
        pytest.skip("needs openvino: make setup")
    with pytest.raises(ModelError, match=r"cannot be read|cannot load"):
        runs(tmp_path / "none.onnx", threads=1)
    cut = tmp_path / "cut.onnx"
    cut.write_bytes(tiny_onnx.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot load"):
        runs(cut, threads=1)
    model = onnx.load(tiny_onnx)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ModelError, match="not an export of this version"):
        runs(tmp_path / "foreign.onnx", threads=1)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_what_fails_while_it_scores_raises_an_error_with_a_code(name: str, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """``auto`` then tries the next one. Here: a graph that takes three crops at once, and is given two."""
    if name == "openvino" and missing(("openvino",)):
        pytest.skip("needs openvino: make setup")
    crops = helper.make_tensor_value_info(INPUT, TensorProto.UINT8, [3, 8, 8, 3])
    logit = helper.make_tensor_value_info(LOGIT, TensorProto.FLOAT, [3])
    nodes = [
        helper.make_node("Cast", [INPUT], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], [LOGIT], axes=[1, 2, 3], keepdims=0),
    ]
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(helper.make_graph(nodes, "mean", [crops], [logit]), opset_imports=opset, ir_version=9)
    helper.set_model_props(model, {EXPORT_KEY: str(EXPORT_VERSION), CHECKPOINT_KEY: "0" * 64})
    onnx.save(model, tmp_path / "mean.onnx")
    opening = Opening(
        checkpoint=tiny_checkpoint,
        digest="0" * 64,
        onnx=lambda: tmp_path / "mean.onnx",
        cache_dir=tmp_path / "cache",
        threads=1,
        parallel=1,
        max_batch=3,
    )
    if name == "openvino":  # which scores a crop while it loads
        for _ in range(2):  # nor is it kept then, to open without a trial
            with pytest.raises(ModelError, match="openvino failed while it scored"):
                open_named(name, opening)
        return
    opened = open_named(name, opening)
    assert opened.scores(np.zeros((3, 8, 8, 3), np.uint8)).logit_F.shape == (3,)
    with pytest.raises(ModelError, match=f"{name} failed while it scored"):
        opened.scores(np.zeros((2, 8, 8, 3), np.uint8))


def test_onnxruntime_gives_a_cpu_no_more_crops_at_once_than_its_cache_bears(
    tiny_onnx: Path, make_crops: MakeCrops, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = OnnxClassifier(tiny_onnx, threads=1, max_batch=16)
    score, sizes = classifier._score, []

    def noted(crops_FHWC: UInt8) -> Scores:
        sizes.append(len(crops_FHWC))
        return score(crops_FHWC)

    monkeypatch.setattr(classifier, "_score", noted)
    assert len(classifier.scores(make_crops(2 * IN_CACHE + 1)).logit_F) == 2 * IN_CACHE + 1
    assert sizes == [IN_CACHE, IN_CACHE, 1]
