"""The crop cache: every labelled file decoded once, its face found by the worker's detector, cut by the one crop function.

A cached crop is wider than the network sees (``WIDE_MARGIN``), and carries its face box and landmarks in its own pixels; training
cuts the final crop from it, by ``worker.faces.crop`` again, with a jittered margin. Of an FF++ fake the same frames are kept
as of its original, with the original's box: aligned pairs. The cache holds private media: it lives outside git.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import av
import cv2
import numpy as np
from PIL import Image, ImageOps, ImageSequence
from rich.progress import Progress

from training.recompress import VARIANTS, to_rgb
from training.splits import Item, ids_of
from worker.errors import CorruptMedia
from worker.faces.crop import crop_faces, crop_squares
from worker.faces.detect import MtcnnDetector
from worker.types import Float32, UInt8

WIDE_MARGIN = 1.8
SIZE = 288
PICTURES_IN_SHARD = 200
RECONSTRUCTED = "taesd"
"""Source of pictures of other sources that went through an autoencoder; ``Crop.target`` is the original's path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """One row of the index. ``box``, ``landmarks``: in cached-crop pixels; ``side_px``: the box's longer side in the file."""

    shard: str
    row: int
    path: str
    label: str
    source: str
    manipulation: str
    group: str
    split: str
    frame: int
    target: str
    """FF++: the original's id, the same for a fake and its original; else empty."""
    side_px: float
    prob: float
    box: tuple[float, ...]
    landmarks: tuple[float, ...]
    variant: str = ""
    """The recompressed copy that it was cut from (``VARIANTS``); empty: the file itself."""

    @property
    def landmarks_K2(self) -> Float32:
        return np.array(self.landmarks, np.float32).reshape(5, 2)

    @property
    def box_4(self) -> Float32:
        return np.array(self.box, np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A face in one frame: box and landmarks in the frame's pixels."""

    box_4: Float32
    landmarks_K2: Float32
    prob: float


def read_video(path: Path, count: int, last: int | None = None, phase: float = 0.5) -> dict[int, UInt8]:
    """``count`` evenly spaced frames by number, of the first ``last`` frames. Raises CorruptMedia where none decodes."""
    if path.suffix == ".webp":
        with Image.open(path) as picture:
            total = min(getattr(picture, "n_frames", 1), last or 1 << 30)
            wanted = set(even(total, count, phase))
            pages = enumerate(ImageSequence.Iterator(picture))
            return {number: np.array(page.convert("RGB")) for number, page in pages if number in wanted}
    total = min(count_frames(path), last or 1 << 30)
    wanted = set(even(total, count, phase))
    frames: dict[int, UInt8] = {}
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                frames[number] = to_rgb(frame)
            if number >= max(wanted, default=0):
                break
    if not frames:
        raise CorruptMedia(f"{path}: no frame decodes")
    return frames


def count_frames(path: Path) -> int:
    """Frames by the container's index, or 1 for an animated picture without one."""
    if path.suffix == ".webp":
        with Image.open(path) as picture:
            return getattr(picture, "n_frames", 1)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        if stream.frames:
            return stream.frames
        return sum(1 for packet in container.demux(stream) if packet.size)


def even(total: int, count: int, phase: float = 0.5) -> list[int]:
    """``count`` frame numbers (fewer in a short clip): one in each equal part of ``total`` frames, ``phase`` (0 to 1) into it."""
    count = min(total, count)
    return [int((part + phase) * total / count) for part in range(count)]


def read_picture(path: Path) -> UInt8:
    """Upright RGB."""
    with Image.open(path) as picture:
        return np.array(ImageOps.exif_transpose(picture).convert("RGB"))


class Finder:
    """The main face of every frame: the largest by area, weighted towards the middle of the frame."""

    def __init__(self, detector: MtcnnDetector) -> None:
        self._detector = detector

    def faces(self, frames: Mapping[int, UInt8]) -> dict[int, _Found]:
        """By frame number; frames without a sure face are left out."""
        found = self.find(list(frames.values()))
        return {number: face for number, face in zip(frames, found, strict=True) if face is not None}

    def find(self, frames_BHWC: Sequence[UInt8]) -> list[_Found | None]:
        height, width = frames_BHWC[0].shape[:2]
        faces = self._detector.detect(frames_BHWC)
        best: list[_Found | None] = [None] * len(frames_BHWC)
        weight = [0.0] * len(frames_BHWC)
        for box, landmarks, prob, frame in zip(faces.boxes_N4, faces.landmarks_NK2, faces.prob_N, faces.frame_N, strict=True):
            away = np.hypot((box[0] + box[2]) / 2 / width - 0.5, (box[1] + box[3]) / 2 / height - 0.5)
            score = float(prob * (box[2] - box[0]) * (box[3] - box[1]) * (1 - away))
            if prob >= 0.9 and score > weight[frame]:
                best[frame] = _Found(box_4=box, landmarks_K2=landmarks, prob=float(prob))
                weight[frame] = score
        return best


def cut(rgb_HWC: UInt8, box_4: Float32, landmarks_K2: Float32, *, margin: float, size: int) -> tuple[UInt8, Float32, Float32]:
    """The crop [size, size, 3] of a face, and the face's box [4] and landmarks [5, 2] in the crop's pixels."""
    height, width = rgb_HWC.shape[:2]
    crop = crop_faces(rgb_HWC, box_4[None], margin=margin, size=size)[0]
    square = crop_squares(box_4[None], height=height, width=width, margin=margin)[0]
    corner, zoom = np.round(square[:2]), np.float32(size / max(1, round(float(square[2] - square[0]))))
    return crop, (box_4 - np.tile(corner, 2)) * zoom, (landmarks_K2 - corner) * zoom


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Files that go to one shard; ``items[0]`` leads: its boxes serve all where they are aligned clips."""

    name: str
    items: tuple[Item, ...]
    target: str = ""
    variant: str = ""


def jobs(items: Sequence[Item]) -> list[Job]:
    """FF++ by the original's id, other clips one by one, pictures in handfuls of one source."""
    targets: dict[str, list[Item]] = defaultdict(list)
    pictures: dict[str, list[Item]] = defaultdict(list)
    planned: list[Job] = []
    for item in items:
        if item.source == "ffpp":
            targets[ids_of(item.path)[0]].append(item)
        elif item.is_video:
            planned.append(Job(name=f"{item.source}-{Path(item.path).stem}", items=(item,)))
        else:
            pictures[f"{item.source}-{item.label}"].append(item)
    for target, members in targets.items():
        aligned = tuple(sorted(members, key=lambda i: i.label != "real"))
        planned.append(Job(name=f"ffpp-{target}", items=aligned, target=target))
        if aligned[0].split == "train":
            planned += [Job(name=f"ffpp-{target}-{name}", items=aligned, target=target, variant=name) for name in VARIANTS]
    for name, members in pictures.items():
        for start in range(0, len(members), PICTURES_IN_SHARD):
            chunk = tuple(members[start : start + PICTURES_IN_SHARD])
            planned.append(Job(name=f"{name}-{start:05d}", items=chunk))
    return sorted(planned, key=lambda job: (not job.name.startswith("ffpp"), job.name))


def video_crops(job: Job, data: Path, finder: Finder, frames_per_clip: int) -> Iterator[tuple[UInt8, Crop]]:
    """Crops of aligned clips: the frames and boxes of the first one serve all others that show the same moments.

    Some Face2Face clips of FF++ leave frames out, so that their frame t is another moment than their original's: those
    keep faces of their own.
    """
    last = min(count_frames(data / item.path) for item in job.items)
    phase = VARIANTS[job.variant].phase if job.variant else 0.5
    leading: dict[int, UInt8] = {}
    found: dict[int, _Found] = {}
    for item in job.items:
        upright = read_video(data / item.path, frames_per_clip, last, phase)
        if not leading:
            leading, found = upright, finder.faces(upright)
        own = found if same_moments(leading, upright) else finder.faces(upright)
        frames = VARIANTS[job.variant].frames(data / item.path, set(own)) if job.variant else upright
        for number in sorted(own.keys() & frames.keys()):
            zoom = np.float32(frames[number].shape[0] / upright[number].shape[0])
            face = replace(own[number], box_4=own[number].box_4 * zoom, landmarks_K2=own[number].landmarks_K2 * zoom)
            yield _row(job, item, frames[number], face, number)


def same_moments(ours: Mapping[int, UInt8], theirs: Mapping[int, UInt8]) -> bool:
    """Whether two clips' frames of one number differ little outside a face: below 2.5 grey levels on average at 64 x 36 pixels.

    Measured over the 96 FF++ fakes at hand that have their original: 2.43 or less where only the face is another, 4.1 to
    15.5 in the seven (all Face2Face) where frames are missing.
    """
    away = [_small(ours[number]) - _small(theirs[number]) for number in ours.keys() & theirs.keys()]
    return bool(away) and float(np.mean(np.abs(away))) < 2.5


def _small(rgb_HWC: UInt8) -> Float32:
    gray = cv2.cvtColor(rgb_HWC, cv2.COLOR_RGB2GRAY)
    return np.asarray(cv2.resize(gray, (64, 36), interpolation=cv2.INTER_AREA), np.float32)


def picture_crops(job: Job, data: Path, finder: Finder) -> Iterator[tuple[UInt8, Crop]]:
    """The main face of every picture; pictures of one size go to the detector together."""
    pictures = {item: read_picture(data / item.path) for item in job.items}
    by_size: dict[tuple[int, ...], list[Item]] = defaultdict(list)
    for item, rgb_HWC in pictures.items():
        by_size[rgb_HWC.shape].append(item)
    for members in by_size.values():
        for start in range(0, len(members), 16):
            some = members[start : start + 16]
            for item, face in zip(some, finder.find([pictures[item] for item in some]), strict=True):
                if face is not None:
                    yield _row(job, item, pictures[item], face, 0)


def _row(job: Job, item: Item, rgb_HWC: UInt8, face: _Found, frame: int) -> tuple[UInt8, Crop]:
    crop, box, landmarks = cut(rgb_HWC, face.box_4, face.landmarks_K2, margin=WIDE_MARGIN, size=SIZE)
    side_px = float(np.max(face.box_4[2:] - face.box_4[:2]))
    return crop, Crop(
        shard=job.name,
        row=-1,
        path=item.path,
        label=item.label,
        source=item.source,
        manipulation=item.manipulation,
        group=item.group,
        split=item.split,
        frame=frame,
        target=job.target,
        variant=job.variant,
        side_px=round(side_px, 2),
        prob=round(face.prob, 4),
        box=tuple(round(float(v), 2) for v in box),
        landmarks=tuple(round(float(v), 2) for v in landmarks.ravel()),
    )


def prepare(
    items: Sequence[Item],
    data: Path,
    cache: Path,
    *,
    train_frames: int = 20,
    test_frames: int = 12,
    variant_frames: int = 10,
    threads: int = 2,
) -> int:
    """Fill the cache; shards that exist are kept. Returns the number of files without a face that was sure enough."""
    cache.mkdir(parents=True, exist_ok=True)
    planned, missing = jobs(items), 0
    with MtcnnDetector(threads=threads) as detector, Progress() as progress:
        finder = Finder(detector)
        for job in progress.track(planned, description="crops"):
            if (cache / f"{job.name}.csv").exists():
                continue
            count = variant_frames if job.variant else train_frames if job.items[0].split == "train" else test_frames
            video = job.items[0].is_video
            pairs = list(video_crops(job, data, finder, count) if video else picture_crops(job, data, finder))
            missing += len({item.path for item in job.items} - {crop.path for _, crop in pairs})
            write_shard(cache, job.name, pairs)
    return missing


def write_shard(cache: Path, name: str, pairs: Sequence[tuple[UInt8, Crop]]) -> None:
    """The pictures as one array, then the index that makes the shard count."""
    pictures = np.stack([picture for picture, _ in pairs]) if pairs else np.empty((0, SIZE, SIZE, 3), np.uint8)
    np.save(cache / f"{name}.npy", pictures)
    unfinished = cache / f"{name}.csv.part"
    with unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Crop)])
        writer.writeheader()
        for row, (_, crop) in enumerate(pairs):
            values = asdict(replace(crop, row=row))
            writer.writerow(values | {key: " ".join(map(str, values[key])) for key in ("box", "landmarks")})
    unfinished.rename(cache / f"{name}.csv")


def read_index(cache: Path) -> list[Crop]:
    """All rows of all finished shards, in a fixed order."""
    rows: list[Crop] = []
    for path in sorted(cache.glob("*.csv")):
        with path.open(newline="") as file:
            rows.extend(_parsed(row) for row in csv.DictReader(file))
    return rows


def _parsed(row: dict[str, str]) -> Crop:
    return Crop(
        shard=row["shard"],
        row=int(row["row"]),
        path=row["path"],
        label=row["label"],
        source=row["source"],
        manipulation=row["manipulation"],
        group=row["group"],
        split=row["split"],
        frame=int(row["frame"]),
        target=row["target"],
        side_px=float(row["side_px"]),
        prob=float(row["prob"]),
        box=tuple(map(float, row["box"].split())),
        landmarks=tuple(map(float, row["landmarks"].split())),
        variant=row.get("variant") or "",
    )
