"""Decoded frames to ours: planes as they are where only the matrix is still to be applied, else RGB (``colour``).

Which of the two a video gives is decided by its first frame and holds for all, so that every frame takes the same room. A frame
that is odd one out, as an interlaced one among progressive ones, becomes RGB and then planes again.
"""

from __future__ import annotations

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace

from worker.frames import colour
from worker.pixels import YuvPixels, detection_divisor, rgb_frame, shrink
from worker.types import Frame, Layout, UInt8

_LAYOUTS = {"yuv420p": Layout.YUV420, "yuvj420p": Layout.YUV420, "yuv444p": Layout.YUV444, "yuvj444p": Layout.YUV444}
_FORMATS = {Layout.YUV420: "yuv420p", Layout.YUV444: "yuv444p"}


def layout_of(frame: av.VideoFrame, shown: tuple[int, int]) -> Layout:
    """How frames like this one are given; ``shown`` is their ``colour.shown_size``. Frames in which faces are looked for at full
    size are RGB: that is needed anyway."""
    if detection_divisor(*shown) == 1 or not _is_plain(frame, shown):
        return Layout.RGB
    return _LAYOUTS.get(frame.format.name, Layout.RGB)


def frame_of(
    pts_s: float,
    frame: av.VideoFrame,
    shown: tuple[int, int],
    layout: Layout,
    turn: colour.Turn,
    inner: tuple[int, int] | None = None,
) -> Frame:
    """The frame turned so and with square pixels, in this layout. Planes may be those of ``frame`` itself, not copied. ``inner``:
    the size of its picture, where that does not fill what is shown (``colour.fitted``)."""
    if layout is Layout.RGB:
        return rgb_frame(pts_s, colour.upright(_rgb_of(frame, shown, inner), *turn))
    if not (_is_plain(frame, shown) and _LAYOUTS.get(frame.format.name) is layout):
        frame = _planes_again(_rgb_of(frame, shown, inner), layout)
    y_HW, u_HW, v_HW = (colour.upright(colour.plane_of(frame, number, frame.planes[number].width), *turn) for number in range(3))
    full_range = colour.is_full_range(frame)
    pixels = YuvPixels(y_HW=y_HW, u_HW=u_HW, v_HW=v_HW, matrix=colour.matrix_of(frame), full_range=full_range)
    # libswscale is quicker for 4:2:0 only, and gives the same as ``pixels``
    if pixels.is_subsampled:
        rgb_HWC = colour.upright(colour.to_rgb(frame, frame.width, frame.height), *turn)
    else:
        rgb_HWC = pixels.quick_rgb()
    divisor = detection_divisor(pixels.height, pixels.width)
    return Frame(pts_s=pts_s, pixels=pixels, small_HWC=shrink(rgb_HWC, divisor), divisor=divisor)


def _rgb_of(frame: av.VideoFrame, shown: tuple[int, int], inner: tuple[int, int] | None) -> UInt8:
    return colour.to_rgb(frame, *shown) if inner is None else colour.in_black(colour.to_rgb(frame, *inner), *shown)


def _is_plain(frame: av.VideoFrame, shown: tuple[int, int]) -> bool:
    """Whether only the matrix is to be applied. Even sides: chroma samples stay where they are when the frame is turned."""
    size = frame.width, frame.height
    return not (frame.interlaced_frame or colour.is_wide(frame) or shown != size or any(side % 2 for side in size))


def _planes_again(rgb_HWC: UInt8, layout: Layout) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb_HWC), format="rgb24").reformat(
        format=_FORMATS[layout], dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.JPEG, threads=1
    )
    frame.colorspace, frame.color_range = colour.BT709, colour.FULL_RANGE
    return frame
