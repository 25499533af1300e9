"""Makes the demonstration clips: ``python -m worker.demo.build [FOLDER]``. Needs the ``dev`` extra (scikit-image, matplotlib).

A moving camera looks at a still picture; each frame gets sensor noise of its own, then H.264 at an everyday quality. Seeded: a
second build gives the same pictures (bytes may differ between versions of the encoder).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import numpy.typing as npt
from av.video.reformatter import Colorspace
from PIL import Image

from worker.demo import FOLDER
from worker.types import Float32, UInt8

WIDTH, HEIGHT, FPS, FRAMES = 640, 480, 25, 60
NOISE_STD = 2.2
"""Of the sensor noise, in grey levels."""
CRF = 24
BT709 = 1
DONOR_FACE_PX = 80
"""Size at which a swapped-in face is made, as generators do; then enlarged to the size of the face it replaces."""

Affine = npt.NDArray[np.float64]
"""[2, 3], from picture to frame coordinates."""

# Left eye, right eye, nose, mouth corners, in the pictures' pixels; found by MTCNN.
ASTRONAUT_POINTS_K2 = np.array([[205.4, 101.5], [246.9, 103.1], [225.0, 129.3], [201.2, 139.5], [245.2, 141.1]], np.float32)
HOPPER_POINTS_K2 = np.array([[220.4, 190.0], [308.5, 187.1], [269.2, 239.0], [230.5, 282.6], [306.9, 279.7]], np.float32)


def _picture(path: Path) -> UInt8:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), np.uint8)


def _from_scikit_image(name: str) -> UInt8:
    import skimage

    return _picture(Path(skimage.__file__).parent / "data" / name)


def astronaut() -> UInt8:
    return _from_scikit_image("astronaut.png")


def coffee() -> UInt8:
    return _from_scikit_image("coffee.png")


def grace_hopper() -> UInt8:
    import matplotlib

    return _picture(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg")


def camera(t: float, *, centre: tuple[float, float], zoom: float, width: int = WIDTH, phase: float = 0.0) -> Affine:
    """Where a hand-held camera looks at ``t`` in [0, 1]: ``centre`` of the picture in mid-frame, swaying, slowly closing in."""
    turn = 2 * np.pi * (t + phase)
    scale = zoom * (1 + 0.06 * t)
    angle = np.deg2rad(1.2 * np.sin(turn))
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    x = centre[0] + 9 * np.sin(turn) + 1.5 * np.sin(5 * turn)
    y = centre[1] + 5 * np.cos(2 * turn)
    return np.array([[cos, -sin, width / 2 - cos * x + sin * y], [sin, cos, HEIGHT / 2 - sin * x - cos * y]])


def view(picture_HWC: UInt8, transform: Affine, width: int = WIDTH) -> UInt8:
    """The picture as the camera sees it, uint8 [HEIGHT, width, 3]."""
    frame = cv2.warpAffine(picture_HWC, transform, (width, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(frame, np.uint8)


def face_mask(points_K2: Float32, height: int, width: int) -> Float32:
    """1 inside the face (brows to chin, by its five points), 0 outside, with a soft edge: float32 [H, W]."""
    left_eye, right_eye, _, left_mouth, right_mouth = points_K2
    eyes, mouth = (left_eye + right_eye) / 2, (left_mouth + right_mouth) / 2
    across, down = right_eye - left_eye, mouth - eyes
    outline = [
        left_eye - 0.5 * across - 0.1 * down,
        eyes - 0.62 * down - 0.35 * across,
        eyes - 0.62 * down + 0.35 * across,
        right_eye + 0.5 * across - 0.1 * down,
        right_mouth + 0.4 * across,
        mouth + 0.6 * down + 0.25 * across,
        mouth + 0.6 * down - 0.25 * across,
        left_mouth - 0.4 * across,
    ]
    mask_HW = np.zeros((height, width), np.float32)
    cv2.fillConvexPoly(mask_HW, cv2.convexHull(np.round(outline).astype(np.int32)), 1.0)
    return np.asarray(cv2.GaussianBlur(mask_HW, (0, 0), 0.06 * float(np.linalg.norm(across))), np.float32)


def recoloured(face_HWC: Float32, like_HWC: Float32, mask_HW: Float32) -> Float32:
    """The face with the mean and spread, by channel, of what it covers (Reinhard et al. 2001, in RGB)."""
    inside = mask_HW > 0.5
    source, target = face_HWC[inside], like_HWC[inside]
    spread = target.std(axis=0) / np.maximum(source.std(axis=0), 1e-3)
    return np.asarray((face_HWC - source.mean(axis=0)) * spread + target.mean(axis=0), np.float32)


def swap(frame_HWC: UInt8, points_K2: Float32, donor_HWC: UInt8, donor_points_K2: Float32) -> UInt8:
    """The frame with the donor's face warped by landmarks, made at a generator's size, recoloured and blended in."""
    height, width = frame_HWC.shape[:2]
    to_frame, *_ = np.linalg.lstsq(np.column_stack([donor_points_K2, np.ones(len(donor_points_K2))]), points_K2)
    face = cv2.warpAffine(donor_HWC, to_frame.T, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT_101)
    # The face spans about 2.2 times the distance between the eyes.
    shrink = DONOR_FACE_PX / (2.2 * float(np.linalg.norm(points_K2[1] - points_K2[0])))
    small = cv2.resize(face, None, fx=shrink, fy=shrink, interpolation=cv2.INTER_AREA)
    face_HWC = np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
    mask_HW = face_mask(points_K2, height, width)
    target_HWC = frame_HWC.astype(np.float32)
    alpha_HW1 = mask_HW[..., None]
    blended = alpha_HW1 * recoloured(face_HWC, target_HWC, mask_HW) + (1 - alpha_HW1) * target_HWC
    return np.asarray(np.clip(np.rint(blended), 0, 255), np.uint8)


def untouched() -> Iterator[UInt8]:
    picture = astronaut()
    for n in range(FRAMES):
        yield view(picture, camera(n / FRAMES, centre=(228, 150), zoom=1.6))


def swapped() -> Iterator[UInt8]:
    picture, donor = astronaut(), grace_hopper()
    jitter = np.random.default_rng(11)
    for n in range(FRAMES):
        transform = camera(n / FRAMES, centre=(228, 150), zoom=1.6)
        exact_K2 = ASTRONAUT_POINTS_K2 @ transform[:, :2].T + transform[:, 2]
        # A tracker never finds the landmarks twice at the same place.
        found_K2 = (exact_K2 + jitter.normal(0, 0.6, exact_K2.shape)).astype(np.float32)
        yield swap(view(picture, transform), found_K2, donor, HOPPER_POINTS_K2)


def no_face() -> Iterator[UInt8]:
    picture = coffee()
    for n in range(FRAMES):
        yield view(picture, camera(n / FRAMES, centre=(300, 200), zoom=1.25))


def two_people() -> Iterator[UInt8]:
    left, right = astronaut(), grace_hopper()
    half = WIDTH // 2
    for n in range(FRAMES):
        t = n / FRAMES
        yield np.hstack(
            [
                view(left, camera(t, centre=(228, 160), zoom=1.5, width=half), half),
                view(right, camera(t, centre=(262, 250), zoom=0.95, width=half, phase=0.4), half),
            ]
        )


CLIPS: dict[str, Callable[[], Iterator[UInt8]]] = {
    "untouched.mp4": untouched,
    "swapped.mp4": swapped,
    "no_face.mp4": no_face,
    "two_people.mp4": two_people,
}


def with_noise(frames: Iterator[UInt8], seed: int) -> Iterator[UInt8]:
    noise = np.random.default_rng(seed)
    for frame_HWC in frames:
        noisy = frame_HWC + NOISE_STD * noise.standard_normal(frame_HWC.shape, np.float32)
        yield np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def encode(path: Path, frames: Iterator[UInt8]) -> None:
    """H.264 in MP4, BT.709 limited range, as a phone's messenger would store it."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": str(CRF), "preset": "medium"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, FPS)
        context = stream.codec_context
        context.thread_count = 1
        context.colorspace = context.color_primaries = context.color_trc = BT709
        for frame_HWC in frames:
            picture = av.VideoFrame.from_ndarray(frame_HWC, format="rgb24")
            container.mux(stream.encode(picture.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)))
        container.mux(stream.encode(None))


def build(folder: Path) -> list[Path]:
    """Write all clips into ``folder``; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed, (name, frames) in enumerate(CLIPS.items()):
        paths.append(folder / name)
        encode(paths[-1], with_noise(frames(), seed))
    return paths


if __name__ == "__main__":
    for written in build(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER):
        print(written, written.stat().st_size)
