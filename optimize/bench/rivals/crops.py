"""Cuts real face crops for the classifiers to score: found by facenet-pytorch on half-size frames, cut as a scan cuts them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from optimize.bench.clips import lasts_s
from optimize.bench.rivals.by_decord import decode
from optimize.bench.rivals.reference import load_detector
from optimize.bench.side import Answer
from worker.faces.crop import crop_faces
from worker.frames.sampling import even_times
from worker.types import Json

FRAMES_A_CLIP = 8


@contextmanager
def build(options: Json, threads: int) -> Iterator[Answer]:
    """``options``: ``margin`` and ``size`` of crops, as the checkpoint has them. A request: ``paths``, how many crops
    (``count``), and the ``out`` file (.npy, uint8 [F, size, size, 3]). Where the clips show fewer, they are repeated; where they
    show none, RuntimeError."""
    detector = load_detector("b", threads)

    def cut(request: Json) -> Json:
        crops = []
        for path in request["paths"]:
            frames_BHWC = decode(Path(path), even_times(0.0, lasts_s(Path(path)), FRAMES_A_CLIP), threads)
            boxes = detector.boxes(frames_BHWC)
            for frame, found in zip(frames_BHWC, boxes, strict=True):
                crops += list(crop_faces(frame, found, margin=options["margin"], size=options["size"]))
            if len(crops) >= request["count"]:
                break
        if not crops:
            raise RuntimeError("no face in these clips")
        repeated_FHWC = np.stack([crops[n % len(crops)] for n in range(request["count"])])
        np.save(request["out"], repeated_FHWC, allow_pickle=False)
        return {"found": min(len(crops), request["count"])}

    yield cut
