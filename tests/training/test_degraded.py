"""Degraded copies: one for each file, at its path, poorer than it was; those of the file as it is now stay."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.degraded import changes, make_copies
from training.splits import Item
from worker.errors import ConfigError
from worker.faces.quality import face_quality
from worker.frame_source import build_frames
from worker.settings import load_settings
from worker.types import MediaKind


def test_videos_and_pictures_lose_by_their_own_means() -> None:
    assert [(family.name, level) for family, level in changes(MediaKind.VIDEO)][:2] == [("h264", 35), ("h264", 40)]
    assert [(family.name, level) for family, level in changes(MediaKind.PICTURE)][:2] == [("jpeg", 40), ("jpeg", 20)]


def test_copies_lie_at_their_originals_paths_and_are_made_once(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "copies"
    noise_HWC = np.random.default_rng(0).integers(0, 255, (96, 96, 3)).astype(np.uint8)
    items = [
        Item(path=f"faces/a/real/{n}.png", label="real", source="a", manipulation="", group=f"{n}", split="heldout")
        for n in range(4)
    ]
    (data / "faces/a/real").mkdir(parents=True)
    for item in items[:3]:
        Image.fromarray(noise_HWC).save(data / item.path)
    with build_frames(load_settings()) as frames:
        assert make_copies(items, data, out, frames) == 1
        first = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
        assert sorted(path.relative_to(out).as_posix() for path in first) == [item.path for item in items[:3]]
        assert make_copies(items, data, out, frames) == 1
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == first
        Image.fromarray(noise_HWC[::-1]).save(data / items[0].path)
        os.utime(data / items[0].path, ns=(0, 0))  # replaced by an older one
        assert make_copies(items, data, out, frames) == 1
        (out / ".copy-killed").mkdir()
        (out / ".copy-killed" / "degraded.png").touch()
        assert make_copies(items, data, out, frames) == 1
        again = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
        assert again == first | {out / items[0].path: 0}
        (data / items[1].path).unlink()
        assert make_copies(items, data, out, frames) == 1
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*.png")} == again
        with pytest.raises(ConfigError, match="holds the originals"):
            make_copies(items, data, data, frames)
    blurred_HWC = np.asarray(Image.open(out / items[2].path).convert("RGB"))
    assert face_quality(blurred_HWC[None])[0] < face_quality(noise_HWC[None])[0] - 0.05
    assert not list(out.glob(".copy-*"))
