"""How the cost of scans grows with the number of videos, frames, faces, and the length of a video, each from 1 to 64."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from optimize.bench.clips import lasts_s
from optimize.bench.document import Chart, Figure
from optimize.bench.ratio import Runs, slope, sum_of_medians
from optimize.bench.side import Answered, Asking
from optimize.bench.soak import loop_clip
from worker.demo import FOLDER
from worker.types import Json, UInt8

SIZES = (1, 2, 4, 8, 16, 32, 64)
FEW_FRAMES = 4
MANY_FRAMES = 32
TILE_PX = 134
"""Of one face in the picture of many: after shrinking it is still larger than the least face looked for."""
TILES = 8
FACE_SHARE = (0.16, 0.08, 0.84, 0.92)
"""Where the demo portrait's head is, in shares of the frame: left, top, right, bottom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """Answers by size. ``note``: what one unit is."""

    name: str
    note: str
    runs: Mapping[int, Sequence[Answered]]

    def walls(self) -> list[tuple[float, float]]:
        return [(float(size), sum_of_medians(_one(runs, "wall_s"))) for size, runs in self.runs.items()]

    def cpus(self) -> list[tuple[float, float]]:
        return [(float(size), sum_of_medians(_one(runs, "cpu_s"))) for size, runs in self.runs.items()]


def _one(runs: Sequence[Answered], key: str) -> Runs:
    return [[getattr(run, key) for run in runs]]


def requests_of(name: str, sizes: Sequence[int], folder: Path) -> dict[int, list[Json]]:
    """What is scanned for each size of a growth; clips are made in ``folder``."""
    if name == "videos":
        return {size: [_request(FOLDER / "untouched.mp4", FEW_FRAMES)] * size for size in sizes}
    if name == "frames":
        path = folder / "frames.mp4"
        loop_clip(FOLDER / "untouched.mp4", path, 10.0)
        return {size: [_request(path, size)] for size in sizes}
    if name == "faces":
        for size in sizes:
            make_crowd(folder / f"faces-{size}.mp4", size)
        return {size: [_request(folder / f"faces-{size}.mp4", FEW_FRAMES)] for size in sizes}
    once_s = lasts_s(FOLDER / "untouched.mp4")
    for size in sizes:
        loop_clip(FOLDER / "untouched.mp4", folder / f"length-{size}.mp4", once_s * size)
    return {size: [_request(folder / f"length-{size}.mp4", MANY_FRAMES)] for size in sizes}


NOTES = {
    "videos": f"demo clips of {FEW_FRAMES} frames",
    "frames": "frames of one video",
    "faces": f"faces in each of {FEW_FRAMES} frames",
    "length": f"times 2.4 s of media, {MANY_FRAMES} frames at most",
}


def _request(path: Path, frames: int) -> Json:
    return {"path": str(path), "max_frames": frames}


def measure(
    name: str,
    ours: Asking,
    requests: Mapping[int, Sequence[Json]],
    *,
    rounds: int,
    on_size: Callable[[int], None] = lambda size: None,
) -> Growth:
    """The largest size goes first and is not timed; then every size, ``rounds`` times."""
    ours.ask(requests[max(requests)][0])
    runs: dict[int, list[Answered]] = {size: [] for size in requests}
    for _ in range(rounds):
        for size, asked in requests.items():
            answers = [ours.ask(request) for request in asked]
            runs[size].append(
                Answered(
                    wall_s=sum(one.wall_s for one in answers), cpu_s=sum(one.cpu_s for one in answers), reply=answers[-1].reply
                )
            )
            on_size(size)
    return Growth(name=name, note=NOTES[name], runs=runs)


def make_crowd(path: Path, faces: int, frames: int = 2 * FEW_FRAMES) -> None:
    """A clip of one demo portrait's head, ``faces`` times in a grid of ``TILES`` x ``TILES``, the rest grey."""
    with av.open(str(FOLDER / "untouched.mp4")) as container:
        source = [frame.to_ndarray(format="rgb24") for _, frame in zip(range(frames), container.decode(video=0), strict=False)]
    side = TILES * TILE_PX
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(2), options={"crf": "18", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = side, side, "yuv420p"
        for portrait in source:
            canvas = np.full((side, side, 3), 128, np.uint8)
            tile = _head(np.asarray(portrait, np.uint8))
            for number in range(faces):
                top, left = (TILE_PX * place for place in divmod(number, TILES))
                canvas[top : top + TILE_PX, left : left + TILE_PX] = tile
            container.mux(stream.encode(av.VideoFrame.from_ndarray(canvas, format="rgb24")))
        container.mux(stream.encode(None))


def _head(portrait_HWC: UInt8) -> UInt8:
    height, width = portrait_HWC.shape[:2]
    left, top, right, bottom = FACE_SHARE
    cut = portrait_HWC[round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
    return np.asarray(cv2.resize(cut, (TILE_PX, TILE_PX), interpolation=cv2.INTER_AREA), np.uint8)


def growth_figures(found: Sequence[Growth]) -> list[Figure]:
    figures: list[Figure] = []
    for one in found:
        walls, cpus = one.walls(), one.cpus()
        sizes = [size for size, _ in cpus]
        first, last = int(sizes[0]), int(sizes[-1])
        if one.name == "faces":
            counts = ", ".join(
                f"{size}: {runs[0].reply['faces'] / max(runs[0].reply['frames'], 1):.3g}" for size, runs in one.runs.items()
            )
            found_last = one.runs[last][0].reply
            figures.append(
                Figure(name="faces found in a frame", value=found_last["faces"] / found_last["frames"], unit="", note=counts)
            )
        figures += [
            Figure(name=f"{one.name}: CPU time at {first}", value=cpus[0][1], unit="s", note=one.note),
            Figure(name=f"{one.name}: CPU time at {last}", value=cpus[-1][1], unit="s", note=one.note),
            Figure(name=f"{one.name}: time at {last} over {first}", value=walls[-1][1] / walls[0][1], unit="x"),
            Figure(name=f"{one.name}: CPU time at {last} over {first}", value=cpus[-1][1] / cpus[0][1], unit="x"),
        ]
        if len(sizes) > 1:
            power = slope(sizes, [cost for _, cost in cpus])
            figures.append(Figure(name=f"{one.name}: CPU time grows with the power", value=power, unit=""))
    return figures


def growth_charts(found: Sequence[Growth]) -> list[Chart]:
    return [
        Chart(
            title=f"{one.name}: {one.note}",
            kind="lines",
            x=one.name,
            y="seconds",
            series={"time": one.walls(), "CPU time": one.cpus()},
            logarithmic=True,
        )
        for one in found
    ]
