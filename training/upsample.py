"""Up-sampling traces: a real picture halved and doubled again as generators do it, beside a bicubic control labelled real.

Generators enlarge their maps by nearest neighbour and a convolution, by transposed convolutions or by pixel shuffle; each leaves
a pattern of period 2 (4 after two levels), stronger in some nets than in others (Odena et al. 2016, "Deconvolution and
checkerboard artifacts"; Wang et al. 2020, "CNN-generated images are surprisingly easy to spot"). The control has lost the same
detail, so that softness alone says nothing. OpenCV only. Axes: H rows, W columns, C channels; float32 in grey levels.
"""

from __future__ import annotations

import cv2
import numpy as np

from worker.types import Float32, UInt8

TWO_LEVELS = 0.4
"""Share of pictures that are quartered and doubled twice."""


def traces(rng: np.random.Generator, rgb_HWC: UInt8) -> tuple[UInt8, UInt8]:
    """``(control, fake)``, uint8 [H, W, 3]: the same small picture enlarged by bicubic and by a generator's layer."""
    height, width = rgb_HWC.shape[:2]
    levels = 2 if rng.random() < TWO_LEVELS else 1
    grid = 1 << levels
    padded = cv2.copyMakeBorder(rgb_HWC, 0, -height % grid, 0, -width % grid, cv2.BORDER_REPLICATE)
    full = padded.shape[1], padded.shape[0]
    small = cv2.resize(padded, (full[0] // grid, full[1] // grid), interpolation=cv2.INTER_AREA)
    layer = (nearest_and_convolution, transposed_convolution, pixel_shuffle)[rng.integers(3)]
    fake = np.asarray(small, np.float32)
    for _ in range(levels):
        fake = layer(rng, fake)
    control = np.asarray(cv2.resize(small, full, interpolation=cv2.INTER_CUBIC), np.uint8)
    return control[:height, :width], np.rint(fake).clip(0, 255).astype(np.uint8)[:height, :width]


def nearest_and_convolution(rng: np.random.Generator, small_HWC: Float32) -> Float32:
    """Every pixel four times, then a 3 x 3 convolution between the identity and a binomial one, with noise in its weights."""
    height, width = small_HWC.shape[:2]
    large = np.asarray(cv2.resize(small_HWC, (2 * width, 2 * height), interpolation=cv2.INTER_NEAREST), np.float32)
    side = rng.uniform(0.18, 0.27)
    line = np.array([side, 1 - 2 * side, side], np.float32)
    return _filtered(large, _uneven(rng, line))


def transposed_convolution(rng: np.random.Generator, small_HWC: Float32) -> Float32:
    """Zeros between the pixels, then a kernel whose overlaps do not quite add up: the checkerboard."""
    height, width = small_HWC.shape[:2]
    spread = np.zeros((2 * height, 2 * width, small_HWC.shape[2]), np.float32)
    spread[::2, ::2] = small_HWC
    side = rng.uniform(0.2, 0.3)
    line = np.array([side, 1 - side, 1 - side, side] if rng.random() < 0.5 else [0.5, 1, 0.5], np.float32)
    return _filtered(spread, 4 * _uneven(rng, line))


def pixel_shuffle(rng: np.random.Generator, small_HWC: Float32) -> Float32:
    """A filter for each of the four places in a 2 x 2 cell; their weights, and so their sums, differ a little."""
    height, width = small_HWC.shape[:2]
    large = np.empty((2 * height, 2 * width, small_HWC.shape[2]), np.float32)
    side = rng.uniform(0.2, 0.3)
    before = np.array([side, 1 - side, 0], np.float32)
    strength = _strength(rng)
    for row in (0, 1):
        for column in (0, 1):
            even = np.outer(before[:: 1 - 2 * row], before[:: 1 - 2 * column])
            noisy = even + rng.normal(0, strength / 3, even.shape)
            kernel = np.asarray(noisy * rng.normal(1, strength / 3) / noisy.sum(), np.float32)
            large[row::2, column::2] = _filtered(small_HWC, kernel)
    return large


def _strength(rng: np.random.Generator) -> float:
    """How uneven weights are: 0.5 to 5 per cent, small more often."""
    return float(np.exp(rng.uniform(np.log(0.005), np.log(0.05))))


def _uneven(rng: np.random.Generator, line_K: Float32) -> Float32:
    """The kernel [K, K] of a line, with noise in its weights: their sum is 1, the sums at places of one parity are not equal."""
    even = np.outer(line_K, line_K)
    noisy = even + rng.normal(0, _strength(rng) / 2, even.shape) * even.max()
    return np.asarray(noisy / noisy.sum(), np.float32)


def _filtered(rgb_HWC: Float32, kernel: Float32) -> Float32:
    return np.asarray(cv2.filter2D(rgb_HWC, -1, kernel, borderType=cv2.BORDER_REFLECT_101), np.float32)
