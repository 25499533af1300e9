"""Up-sampling traces: the fake has a pattern of period 2 that its control has not, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tests.training.conftest import picture
from training.upsample import nearest_and_convolution, pixel_shuffle, traces, transposed_convolution
from worker.types import Float32, UInt8

Layer = Callable[[np.random.Generator, Float32], Float32]
LAYERS: list[Layer] = [nearest_and_convolution, transposed_convolution, pixel_shuffle]


def _unevenness(rgb_HWC: UInt8 | Float32) -> float:
    """How far the means over the four places of 2 x 2 cells lie apart, in grey levels."""
    return float(np.std([rgb_HWC[row::2, column::2].mean() for row in (0, 1) for column in (0, 1)]))


@pytest.mark.parametrize("shape", [(224, 224), (63, 50), (41, 97)])
def test_control_and_fake_keep_the_shape(shape: tuple[int, int]) -> None:
    face = picture(1)[: shape[0], : shape[1]]
    control, fake = traces(np.random.default_rng(0), face)
    assert control.shape == fake.shape == face.shape
    assert control.dtype == fake.dtype == np.uint8
    assert not np.array_equal(control, fake)


def test_the_same_draw_gives_the_same_pair() -> None:
    first, second = (traces(np.random.default_rng(5), picture(2, 96)) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_doubles_and_keeps_the_picture(layer: Layer) -> None:
    small = np.full((20, 30, 3), 100, np.float32)
    large = layer(np.random.default_rng(0), small)
    assert large.shape == (40, 60, 3)
    assert large.mean() == pytest.approx(100, abs=6)


@pytest.mark.parametrize("layer", [transposed_convolution, pixel_shuffle])
def test_uneven_layers_leave_a_checkerboard_even_on_a_flat_picture(layer: Layer) -> None:
    flat = np.full((32, 32, 3), 120, np.float32)
    assert np.median([_unevenness(layer(np.random.default_rng(seed), flat)) for seed in range(9)]) > 0.2


def test_the_control_has_no_pattern_and_lost_the_same_detail() -> None:
    flat = np.full((64, 64, 3), 120, np.uint8)
    control, _ = traces(np.random.default_rng(0), flat)
    assert np.array_equal(control, flat)
    sharp = np.indices((64, 64)).sum(0)[..., None].repeat(3, 2) % 2 * np.uint8(255)
    for crop in traces(np.random.default_rng(0), sharp.astype(np.uint8)):
        assert crop.std() < 20


def test_colours_stay() -> None:
    pairs = [traces(np.random.default_rng(seed), picture(seed, 96)) for seed in range(30)]
    drift = [fake.mean((0, 1)) - control.mean((0, 1)) for control, fake in pairs]
    assert np.abs(np.mean(drift, 0)).max() < 1.0
