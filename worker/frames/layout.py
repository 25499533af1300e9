"""How one frame lies in shared memory: the small picture, then the pixels at full resolution, all without gaps.

The small picture of RGB frames that are not shrunk for detection is left out: it is the frame.
"""

from __future__ import annotations

from math import prod

from worker.pixels import RgbPixels, YuvPixels, detection_divisor
from worker.types import Frame, Layout, UInt8

Shape = tuple[int, ...]


def fits_layout(height: int, width: int, layout: Layout) -> bool:
    """Whether a frame of this size can have this layout: something is left of it when it is shrunk, and subsampled planes have
    even sides."""
    is_too_long = min(height, width) < detection_divisor(height, width)
    return not is_too_long and (layout is not Layout.YUV420 or not (height % 2 or width % 2))


def bytes_of(height: int, width: int, layout: Layout) -> int:
    """Bytes that a frame takes."""
    return sum(map(prod, _shapes(height, width, layout)))


def write(memory: UInt8, frame: Frame, layout: Layout) -> None:
    """Raises ValueError where the frame does not have the layout."""
    pixels = frame.pixels
    parts: tuple[UInt8, ...]
    if isinstance(pixels, YuvPixels):
        parts = (frame.small_HWC, pixels.y_HW, pixels.u_HW, pixels.v_HW)
    else:
        parts = (frame.rgb_HWC,) if frame.divisor == 1 else (frame.small_HWC, frame.rgb_HWC)
    shapes = _shapes(frame.height, frame.width, layout)
    if [part.shape for part in parts] != shapes:
        raise ValueError(f"a frame that is not {layout}")
    for part, place in zip(parts, _arrays(memory, shapes), strict=True):
        place[...] = part


def read(memory: UInt8, pts_s: float, size: tuple[int, int], layout: Layout, matrix: int, full_range: bool) -> Frame:
    """A frame whose arrays lie in ``memory``; ``size`` is height and width."""
    divisor = detection_divisor(*size)
    small_HWC, *full = _arrays(memory, _shapes(*size, layout))
    if layout is Layout.RGB:
        return Frame(pts_s=pts_s, pixels=RgbPixels(rgb_HWC=full[0] if full else small_HWC), small_HWC=small_HWC, divisor=divisor)
    y_HW, u_HW, v_HW = full
    pixels = YuvPixels(y_HW=y_HW, u_HW=u_HW, v_HW=v_HW, matrix=matrix, full_range=full_range)
    return Frame(pts_s=pts_s, pixels=pixels, small_HWC=small_HWC, divisor=divisor)


def _arrays(memory: UInt8, shapes: list[Shape]) -> list[UInt8]:
    """Views: each refers to ``memory`` itself, so that it lives as long as any of them."""
    arrays = []
    for shape in shapes:
        arrays.append(memory[: prod(shape)].reshape(shape))
        memory = memory[prod(shape) :]
    return arrays


def _shapes(height: int, width: int, layout: Layout) -> list[Shape]:
    divisor = detection_divisor(height, width)
    small = [(height // divisor, width // divisor, 3)]
    if layout is Layout.RGB:
        return [*(small if divisor > 1 else []), (height, width, 3)]
    step = 2 if layout is Layout.YUV420 else 1
    return [*small, (height, width), *[(height // step, width // step)] * 2]
