"""Self-blended images (Shiohara and Yamasaki, CVPR 2022): a fake made of one or two real faces, and its honest partner.

The partner is the *transformed target*, bit-identical to the blend outside the mask: recolouring or softening a whole picture
must not come to mean "fake". Axes: H rows, W columns, K = 5 landmarks (left eye, right eye, nose, mouth corners, as seen).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from worker.types import Float32, UInt8

RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)
POISSON_SHARE = 0.15
PART_LEAST = 0.2
"""Of what was changed in a fake, summed over its pixels, a part of it must hold so much to be called fake."""
PARTS_FROM = 0.88
"""The outlines beyond this share are of eyes or a mouth alone."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Blend:
    """``partner_HWC`` (real) and ``fake_HWC`` uint8; ``mask_HW`` float32 from 0 to 1, 0 where the two are equal."""

    partner_HWC: UInt8
    fake_HWC: UInt8
    mask_HW: Float32


def self_blend(
    rng: np.random.Generator, face_HWC: UInt8, landmarks_K2: Float32, donor_HWC: UInt8 | None = None, *, part: bool = False
) -> Blend:
    """A blend into ``face_HWC`` of a changed copy of itself, or of ``donor_HWC`` (already aligned to it, see ``align_donor``).

    ``part``: of the eyes or the mouth alone.
    """
    target_HWC, source_HWC = face_HWC, face_HWC if donor_HWC is None else donor_HWC
    if rng.random() < 0.5:
        source_HWC = transform(rng, source_HWC)
    else:
        target_HWC = transform(rng, target_HWC)
    if rng.random() < 0.35:
        source_HWC = through_low_resolution(rng, source_HWC)
    if donor_HWC is None and rng.random() < 0.35:
        source_HWC = express(rng, source_HWC, landmarks_K2)
    height, width = face_HWC.shape[:2]
    mask_HW = np.zeros((height, width), np.float32)
    cv2.fillConvexPoly(mask_HW, hull(rng, landmarks_K2, part=part), 1.0)
    move = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-1.5, 1.5), rng.uniform(0.95, 1 / 0.95))
    move[:, 2] += rng.uniform(-0.03, 0.03, 2) * width
    moved = cv2.warpAffine(source_HWC, move, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    source_HWC = np.asarray(moved, np.uint8)
    mask_HW = np.asarray(cv2.warpAffine(mask_HW, move, (width, height)), np.float32)
    if rng.random() < POISSON_SHARE and (made := poisson_blend(source_HWC, target_HWC, deform(rng, mask_HW))) is not None:
        return made
    mask_HW = soften(rng, deform(rng, mask_HW)) * np.float32(rng.choice(RATIOS))
    return Blend(partner_HWC=target_HWC, fake_HWC=blend(source_HWC, target_HWC, mask_HW), mask_HW=mask_HW)


def lay_part(rng: np.random.Generator, fake_HWC: UInt8, original_HWC: UInt8, landmarks_K2: Float32) -> Blend | None:
    """A part of a fake's face, or all but its outline, laid into its original of the same moment and box.

    None where the part holds less than ``PART_LEAST`` of what was changed.
    """
    height, width = original_HWC.shape[:2]
    mask_HW = np.zeros((height, width), np.float32)
    cv2.fillConvexPoly(mask_HW, hull(rng, landmarks_K2, part=bool(rng.random() < 0.3)), 1.0)
    if rng.random() < 0.4:
        mask_HW *= _side(rng, landmarks_K2.mean(0), height, width)
    mask_HW = soften(rng, deform(rng, mask_HW))
    changed_HW = np.abs(fake_HWC.astype(np.float32) - original_HWC).mean(axis=2)
    if not changed_HW.any() or (changed_HW * mask_HW).sum() < PART_LEAST * changed_HW.sum():
        return None
    return Blend(partner_HWC=original_HWC, fake_HWC=blend(fake_HWC, original_HWC, mask_HW), mask_HW=mask_HW)


def _side(rng: np.random.Generator, middle_2: Float32, height: int, width: int) -> Float32:
    """1 on one side of a line near the face's middle, in any direction; float32 [H, W]."""
    turn = rng.uniform(0, 2 * np.pi)
    y_HW, x_HW = np.mgrid[:height, :width].astype(np.float32)
    along_HW = (x_HW - middle_2[0]) * np.cos(turn) + (y_HW - middle_2[1]) * np.sin(turn)
    return np.asarray(along_HW > rng.uniform(-0.08, 0.08) * width, np.float32)


def poisson_blend(source_HWC: UInt8, target_HWC: UInt8, mask_HW: Float32) -> Blend | None:
    """Gradients of the source inside the mask, colours of the target at its edge (Perez et al. 2003).

    None where too little of the mask is inside the picture.
    """
    inner_HW = np.zeros(mask_HW.shape, np.uint8)
    inner_HW[2:-2, 2:-2] = mask_HW[2:-2, 2:-2] > 0.5
    x, y, width, height = cv2.boundingRect(inner_HW)
    if width < 8 or height < 8:
        return None
    middle = (x + width // 2, y + height // 2)
    cloned_HWC = cv2.seamlessClone(source_HWC, target_HWC, inner_HW * np.uint8(255), middle, cv2.NORMAL_CLONE)
    fake_HWC = np.where(inner_HW[..., None] > 0, cloned_HWC, target_HWC).astype(np.uint8)
    return Blend(partner_HWC=target_HWC, fake_HWC=fake_HWC, mask_HW=inner_HW.astype(np.float32))


def express(rng: np.random.Generator, rgb_HWC: UInt8, landmarks_K2: Float32) -> UInt8:
    """Another expression: the surroundings of one to three landmarks are pushed by a few per cent of the eyes' distance."""
    height, width = rgb_HWC.shape[:2]
    reach = float(np.hypot(*(landmarks_K2[1] - landmarks_K2[0]))) + 1
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    field = np.zeros_like(grid)
    for place in rng.choice(5, size=rng.integers(1, 4), replace=False, p=(0.15, 0.15, 0.1, 0.3, 0.3)):
        away = ((grid - landmarks_K2[place]) ** 2).sum(-1)
        near = np.exp(-away / (2 * (reach * rng.uniform(0.2, 0.45)) ** 2)).astype(np.float32)
        field += near[..., None] * rng.normal(0, 0.09 * reach, 2).astype(np.float32)
    grid += field
    return np.asarray(cv2.remap(rgb_HWC, grid[..., 0], grid[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT), np.uint8)


def blend(source_HWC: UInt8, target_HWC: UInt8, mask_HW: Float32) -> UInt8:
    """``source * mask + target * (1 - mask)``, rounded; exactly the target where the mask is 0."""
    mask_HW1 = mask_HW[..., None]
    mixed = source_HWC.astype(np.float32) * mask_HW1 + target_HWC.astype(np.float32) * (1 - mask_HW1)
    return np.rint(mixed).clip(0, 255).astype(np.uint8)


def hull(rng: np.random.Generator, landmarks_K2: Float32, *, part: bool = False) -> npt.NDArray[np.int32]:
    """A convex outline from landmarks: whole face, middle, lower part, or (``part``: only) eyes or mouth; int32 [N, 1, 2]."""
    left, right, nose, mouth_left, mouth_right = landmarks_K2.astype(np.float32)
    eyes, mouth = (left + right) / 2, (mouth_left + mouth_right) / 2
    up, across = eyes - mouth, right - left
    kind = PARTS_FROM + (1 - PARTS_FROM) * rng.random() if part else rng.random()
    if kind < 0.55:
        points = [
            left - 0.55 * across + 0.1 * up,
            left - 0.35 * across + 0.55 * up,
            eyes + 0.75 * up,
            right + 0.35 * across + 0.55 * up,
            right + 0.55 * across + 0.1 * up,
            mouth_right + 0.45 * across - 0.1 * up,
            mouth - 0.65 * up,
            mouth_left - 0.45 * across - 0.1 * up,
        ]
    elif kind < 0.75:
        points = [
            left - 0.5 * across + 0.3 * up,
            right + 0.5 * across + 0.3 * up,
            mouth_right + 0.3 * across - 0.2 * up,
            mouth_left - 0.3 * across - 0.2 * up,
        ]
    elif kind < PARTS_FROM:
        points = [
            nose - 0.6 * across + 0.05 * up,
            nose + 0.6 * across + 0.05 * up,
            mouth_right + 0.4 * across - 0.35 * up,
            mouth - 0.6 * up,
            mouth_left - 0.4 * across - 0.35 * up,
        ]
    elif kind < 0.94:
        reach = [-0.4 * across + 0.35 * up, -0.4 * across - 0.3 * up, 0.4 * across - 0.3 * up, 0.4 * across + 0.35 * up]
        points = [left + reach[0], left + reach[1], right + reach[2], right + reach[3]]
    else:
        reach = [-0.3 * across + 0.3 * up, -0.3 * across - 0.35 * up, 0.3 * across - 0.35 * up, 0.3 * across + 0.3 * up]
        points = [mouth_left + reach[0], mouth_left + reach[1], mouth_right + reach[2], mouth_right + reach[3]]
    jitter = 0.06 * float(np.hypot(*across))
    outline = np.asarray(points, np.float32) + rng.normal(0, jitter, (len(points), 2)).astype(np.float32)
    return np.asarray(cv2.convexHull(np.rint(outline).astype(np.int32)), np.int32)


def transform(rng: np.random.Generator, rgb_HWC: UInt8) -> UInt8:
    """Shift colours, then soften (down and up) or sharpen, each by chance."""
    out = recolour(rng, rgb_HWC) if rng.random() < 0.8 else rgb_HWC
    kind = rng.random()
    if kind < 0.35:
        return through_low_resolution(rng, out)
    if kind < 0.6:
        return sharpen(rng, out)
    return out


def sharpen(rng: np.random.Generator, rgb_HWC: UInt8) -> UInt8:
    """Unsharp mask of 60 %."""
    blurred = cv2.GaussianBlur(rgb_HWC, (0, 0), rng.uniform(0.7, 1.5))
    return np.asarray(cv2.addWeighted(rgb_HWC, 1.6, blurred, -0.6, 0), np.uint8)


def recolour(rng: np.random.Generator, rgb_HWC: UInt8) -> UInt8:
    """Channel offsets, hue, saturation, value, contrast: mild, as between two recordings of one face."""
    out = rgb_HWC
    if rng.random() < 0.6:
        hsv = cv2.cvtColor(out, cv2.COLOR_RGB2HSV).astype(np.float32)
        hsv[..., 0] = (hsv[..., 0] + rng.uniform(-6, 6)) % 180
        hsv[..., 1:] *= np.array([rng.uniform(0.75, 1.3), rng.uniform(0.85, 1.15)], np.float32)
        out = np.asarray(cv2.cvtColor(hsv.clip(0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB), np.uint8)
    gain, offset = rng.uniform(0.85, 1.18), rng.uniform(-12, 12) + rng.uniform(-12, 12, 3)
    levels = np.arange(256, dtype=np.float32)[:, None]
    table = ((levels - 128) * gain + 128 + offset).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(np.ascontiguousarray(out), table[None]), np.uint8)


def through_low_resolution(rng: np.random.Generator, rgb_HWC: UInt8) -> UInt8:
    """Shrink to 25-75 % and back, by a random interpolation: the softness of a generated face."""
    height, width = rgb_HWC.shape[:2]
    scale = rng.uniform(0.25, 0.75)
    down = cv2.INTER_AREA if rng.random() < 0.5 else cv2.INTER_LINEAR
    back = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)[rng.integers(3)]
    small = cv2.resize(rgb_HWC, (max(8, int(width * scale)), max(8, int(height * scale))), interpolation=down)
    return np.asarray(cv2.resize(small, (width, height), interpolation=back), np.uint8)


def deform(rng: np.random.Generator, mask_HW: Float32) -> Float32:
    """Elastic: a smooth random field moves the outline by up to about 4 % of the picture."""
    height, width = mask_HW.shape
    coarse = rng.normal(0, 0.015 * width, (9, 9, 2)).astype(np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32) + field
    return np.asarray(cv2.remap(mask_HW, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR), np.float32)


def soften(rng: np.random.Generator, mask_HW: Float32) -> Float32:
    """Blur, cut back to the core, blur again (as SBI): the border's width varies. Far from the face exactly 0."""
    first = 2 * int(rng.choice((3, 5, 9, 13))) + 1
    core = (cv2.GaussianBlur(mask_HW, (first, first), 0) > 0.98).astype(np.float32)
    if not core.any():
        core = (mask_HW > 0.5).astype(np.float32)
    second = 2 * int(rng.choice((2, 4, 7, 11))) + 1
    return np.asarray(cv2.GaussianBlur(core, (second, second), 0), np.float32)


def align_donor(donor_HWC: UInt8, donor_K2: Float32, face_HWC: UInt8, face_K2: Float32) -> UInt8:
    """Another face moved onto ``face`` by the landmarks' similarity transform, its colours matched over the inner face."""
    height, width = face_HWC.shape[:2]
    move = similarity(donor_K2, face_K2)
    moved = cv2.warpAffine(donor_HWC, move, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    x1, y1 = np.maximum(face_K2.min(0).astype(int), 0)
    x2, y2 = np.maximum(face_K2.max(0).astype(int), (x1 + 2, y1 + 2))
    inner = moved[y1:y2, x1:x2].reshape(-1, 3).astype(np.float32), face_HWC[y1:y2, x1:x2].reshape(-1, 3).astype(np.float32)
    (mean, std), (goal, goal_std) = ((part.mean(0), part.std(0) + 4) for part in inner)
    gain = np.clip(goal_std / std, 0.6, 1.6)
    table = ((np.arange(256, dtype=np.float32)[:, None] - mean) * gain + goal).clip(0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(moved, table[None]), np.uint8)


def mirrored(face_HWC: UInt8, landmarks_K2: Float32) -> UInt8:
    """The face's own mirror image, moved onto it: the donor of a flipped part."""
    there_K2 = landmarks_K2[[1, 0, 2, 4, 3]] * np.array([-1, 1], np.float32) + np.array([face_HWC.shape[1] - 1, 0], np.float32)
    return align_donor(np.ascontiguousarray(face_HWC[:, ::-1]), there_K2, face_HWC, landmarks_K2)


def unlikeness(a_K2: Float32, b_K2: Float32) -> float:
    """How far apart two faces' landmarks stay after alignment, in distances between the eyes: pose above all."""
    move = similarity(a_K2, b_K2)
    apart = a_K2 @ move[:, :2].T + move[:, 2] - b_K2
    return float(np.hypot(*apart.T).mean() / (np.hypot(*(b_K2[1] - b_K2[0])) + 1e-6))


def similarity(from_K2: Float32, to_K2: Float32) -> npt.NDArray[np.float64]:
    """Least-squares rotation, scale and shift, float64 [2, 3] (Umeyama 1991)."""
    a, b = from_K2.astype(np.float64), to_K2.astype(np.float64)
    a0, b0 = a.mean(0), b.mean(0)
    da, db = (a - a0) @ np.array([1, 1j]), (b - b0) @ np.array([1, 1j])
    turn = np.vdot(da, db) / max(np.vdot(da, da).real, 1e-9)
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.hstack([linear, (b0 - linear @ a0)[:, None]])
