"""What every classifier backend owes the pipeline, over one tiny checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from worker.backends.onnx import OnnxClassifier
from worker.backends.torch import TorchClassifier
from worker.ports import Classifier
from worker.types import Float32, UInt8

MAX_BATCH = 4
MakeCrops = Callable[[int], UInt8]


def p(logits_F: Float32) -> Float32:
    return np.asarray(1 / (1 + np.exp(-logits_F)), np.float32)


@pytest.fixture(scope="module")
def reference(tiny_checkpoint: Path) -> Classifier:
    return TorchClassifier(tiny_checkpoint, threads=1, max_batch=MAX_BATCH)


@pytest.fixture(scope="module", params=["torch", "onnxruntime"])
def classifier(request: pytest.FixtureRequest) -> Classifier:
    if request.param == "torch":
        return TorchClassifier(request.getfixturevalue("tiny_checkpoint"), threads=1, max_batch=MAX_BATCH)
    return OnnxClassifier(request.getfixturevalue("tiny_onnx"), threads=1, max_batch=MAX_BATCH)


def test_name(classifier: Classifier) -> None:
    assert classifier.name in ("torch", "onnxruntime")


def test_crops_score_differently_so_that_the_tests_below_mean_something(reference: Classifier, make_crops: MakeCrops) -> None:
    probability = p(reference.logits(make_crops(11)))
    assert probability.std() > 0.1
    assert 0.2 < np.median(probability) < 0.8


@pytest.mark.parametrize("n", [0, 1, 2, MAX_BATCH, MAX_BATCH + 1, 3 * MAX_BATCH, 3 * MAX_BATCH + 1])
def test_any_batch_size_agrees_with_the_reference(
    n: int, classifier: Classifier, reference: Classifier, make_crops: MakeCrops
) -> None:
    crops = make_crops(13)[:n]
    logits = classifier.logits(crops)
    assert logits.shape == (n,)
    assert logits.dtype == np.float32
    assert np.abs(p(logits) - p(reference.logits(crops))).max(initial=0) <= 1e-3


def test_permuting_splitting_and_padding_change_nothing(classifier: Classifier, make_crops: MakeCrops) -> None:
    crops = make_crops(11)
    whole = p(classifier.logits(crops))
    order = np.random.default_rng(1).permutation(len(crops))
    singly = np.concatenate([classifier.logits(crops[i : i + 1]) for i in range(len(crops))])
    padded = classifier.logits(np.concatenate([crops, np.zeros_like(crops[:6])]))[: len(crops)]
    np.testing.assert_allclose(p(classifier.logits(crops[order])), whole[order], atol=1e-3)
    np.testing.assert_allclose(p(singly), whole, atol=1e-3)
    np.testing.assert_allclose(p(padded), whole, atol=1e-3)


def test_twice_the_same(classifier: Classifier, make_crops: MakeCrops) -> None:
    crops = make_crops(5)
    np.testing.assert_array_equal(classifier.logits(crops), classifier.logits(crops))


def test_strided_crops(classifier: Classifier, make_crops: MakeCrops) -> None:
    crops = make_crops(6)
    np.testing.assert_allclose(classifier.logits(crops[::-2]), classifier.logits(crops[::-2].copy()), atol=1e-5)


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
        classifier.logits(wrong)


@pytest.mark.parametrize("given", [{"threads": 0}, {"threads": 1, "max_batch": 0}])
def test_senseless_options_are_refused(tiny_checkpoint: Path, tiny_onnx: Path, given: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        TorchClassifier(tiny_checkpoint, **given)
    with pytest.raises(ValueError, match="must be positive"):
        OnnxClassifier(tiny_onnx, **given)
