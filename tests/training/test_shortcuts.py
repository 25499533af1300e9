"""Features that give a label away, and those that do not."""

from __future__ import annotations

import io
import math
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from tests.training.conftest import picture
from training.shortcuts import border_share, jpeg_quality, of_crop, of_file, of_files, one_feature_auc, shortcuts
from training.splits import Item
from worker.errors import CorruptMedia


@pytest.mark.parametrize("quality", [30, 50, 75, 90, 100])
@pytest.mark.parametrize("writer", ["pillow", "opencv"])
def test_quality_is_read_from_the_tables(tmp_path: Path, quality: int, writer: str) -> None:
    path = tmp_path / "a.jpg"
    if writer == "pillow":
        Image.fromarray(picture(0, 64)).save(path, quality=quality)
    else:
        cv2.imwrite(str(path), picture(0, 64), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert jpeg_quality(path) == quality


def test_a_png_has_no_quality(tmp_path: Path) -> None:
    Image.fromarray(picture(0, 64)).save(tmp_path / "a.png")
    found = of_file(tmp_path / "a.png")
    assert isinstance(found["JPEG quality"], float)
    assert math.isnan(found["JPEG quality"])
    assert (found["width"], found["format"]) == (64.0, "PNG")


def test_head_of_a_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as sink:
        stream = sink.add_stream("libx264", rate=Fraction(25))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(5):
            sink.mux(stream.encode(av.VideoFrame.from_ndarray(picture(n, 64)[:48], format="rgb24")))
        sink.mux(stream.encode(None))
    found = of_file(path)
    assert (found["width"], found["height"], found["frame rate"], found["format"]) == (64.0, 48.0, 25.0, "mov/h264")
    assert found["bytes a pixel"] == pytest.approx(path.stat().st_size / (64 * 48 * 5))


def test_what_is_no_media_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(64))
    with pytest.raises(CorruptMedia):
        of_file(tmp_path / "a.mp4")
    row = Item(path="a.mp4", label="real", source="s", manipulation="", group="g", split="train")
    assert of_files([row], tmp_path) == ([], ["a.mp4"])


def huge_png() -> bytes:
    """The head of one of more pixels than Pillow opens."""
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0)), (b"IDAT", b""))
    told = (struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(told)


def tiff_without_its_second_page() -> bytes:
    """Its directory is there, and empty."""
    file = io.BytesIO()
    Image.fromarray(picture(0, 64)).save(file, "TIFF")
    content = bytearray(file.getvalue())
    (first,) = struct.unpack_from("<I", content, 4)
    (tags,) = struct.unpack_from("<H", content, first)
    struct.pack_into("<I", content, first + 2 + 12 * tags, len(content))
    return bytes(content) + bytes(6)


@pytest.mark.parametrize("content", [huge_png(), tiff_without_its_second_page()], ids=["huge", "damaged"])
def test_a_picture_that_pillow_gives_up_is_one_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    row = Item(path="a.png", label="real", source="s", manipulation="", group="g", split="train")
    assert of_files([row], tmp_path) == ([], ["a.png"])


def test_a_machine_without_memory_says_nothing_of_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> Image.Image:
        raise MemoryError

    (tmp_path / "a.png").touch()
    monkeypatch.setattr(Image, "open", full)
    with pytest.raises(MemoryError):
        of_files([Item(path="a.png", label="real", source="s", manipulation="", group="g", split="train")], tmp_path)


def test_borders_and_gray() -> None:
    framed = picture(0, 100)
    framed[:10] = 0
    framed[:, 95:] = 0
    assert border_share(framed) == pytest.approx(1 - 0.9 * 0.95)
    assert border_share(picture(0, 100)) == 0
    assert border_share(np.zeros((20, 20, 3), np.uint8)) == 1
    gray = np.repeat(picture(0)[..., :1], 3, axis=2)
    assert of_crop(gray, 90.0)["gray share"] == 1
    assert of_crop(picture(0), 90.0)["gray share"] < 0.3


def labels(n: int = 100) -> np.ndarray:
    return np.arange(n) % 2 == 1


def test_a_feature_is_judged_by_what_it_alone_tells() -> None:
    fake = labels()
    rng = np.random.default_rng(0)
    noise = rng.normal(size=len(fake))
    middle = np.where(fake, rng.uniform(-1, 1, len(fake)), rng.choice((-3.0, 3.0), len(fake)))
    assert one_feature_auc(list(np.where(fake, 90.0, 75.0)), fake) == 1
    assert one_feature_auc(list(middle), fake) > 0.95
    assert one_feature_auc(["PNG" if f else "JPEG" for f in fake], fake) == 1
    assert one_feature_auc([float("nan") if f else 80.0 for f in fake], fake) == 1
    assert 0.3 < one_feature_auc(list(noise), fake) < 0.7
    assert math.isnan(one_feature_auc([1.0, 2.0], np.array([True, False])))


def test_shortcuts_are_told_by_source_and_for_all_of_them() -> None:
    def row(n: int, source: str, label: str) -> Item:
        return Item(path=f"{source}{label}{n}", label=label, source=source, manipulation="", group=str(n), split="train")

    measured = [
        (row(n, "even", label), {"width": 256.0 + n % 7, "JPEG quality": 75.0}) for n in range(30) for label in ("real", "fake")
    ]
    measured += [
        (row(n, "odd", label), {"width": 300.0 if label == "real" else 900.0, "JPEG quality": 75.0})
        for n in range(30)
        for label in ("real", "fake")
    ]
    measured += [(row(n, "realonly", "real"), {"width": 100.0, "JPEG quality": 75.0}) for n in range(30)]
    found = {(one.source, one.feature): one for one in shortcuts(measured)}
    assert set(found) == {("even", "width"), ("odd", "width"), ("all", "width")}
    assert found["odd", "width"].is_flagged
    assert (found["odd", "width"].real, found["odd", "width"].fake) == (300.0, 900.0)
    assert not found["even", "width"].is_flagged
