"""Pictures and animations: colour modes, orientation, times, limits and damage."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from worker.errors import CorruptMedia, MediaTooLarge, MediaTooLong, UnsupportedMedia
from worker.frames.choose import open_media
from worker.frames.limits import Limits
from worker.frames.picture import PictureMedia
from worker.frames.sandbox import SandboxedFrames
from worker.types import Frame, MediaInfo, MediaKind, SamplingRequest, Strategy

LEFT, RIGHT = (200, 40, 30), (20, 60, 190)


def two_halves(width: int = 64, height: int = 32) -> Image.Image:
    rgb_HWC = np.empty((height, width, 3), np.uint8)
    rgb_HWC[:, : width // 2], rgb_HWC[:, width // 2 :] = LEFT, RIGHT
    return Image.fromarray(rgb_HWC)


def read(path: Path, limits: Limits | None = None, **request: Any) -> tuple[MediaInfo, list[Frame]]:
    with path.open("rb") as file, open_media(file, limits or Limits()) as media:
        return media.info, list(media.frames(SamplingRequest(**request)))


def near(pixel: np.ndarray, colour: tuple[int, int, int], tolerance: int = 12) -> bool:
    return bool(np.abs(pixel.astype(int) - colour).max() <= tolerance)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "tif", "gif", "avif"])
def test_a_still_picture_is_one_frame_judged_by_content(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "picture.mp4"
    formats = {"jpg": "JPEG", "tif": "TIFF"}
    two_halves().save(path, formats.get(suffix, suffix.upper()))
    info, frames = read(path)
    assert info.kind is MediaKind.PICTURE
    assert (info.width, info.height, info.n_frames, info.duration_s, info.decoder) == (64, 32, 1, 0.0, "pillow")
    assert len(frames) == 1
    assert frames[0].rgb_HWC.shape == (32, 64, 3)
    assert near(frames[0].rgb_HWC[16, 8], LEFT)
    assert near(frames[0].rgb_HWC[16, 56], RIGHT)


@pytest.mark.parametrize("mode", ["RGBA", "P", "PA", "CMYK", "YCbCr"])
def test_colour_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "picture.tif"
    image = two_halves().convert("P" if mode == "PA" else mode)
    image = image.convert("PA") if mode == "PA" else image
    path = path.with_suffix(".png") if mode in ("P", "RGBA") else path
    try:
        image.save(path)
    except OSError:
        pytest.skip(f"Pillow writes no {mode} file")
    _, (frame,) = read(path)
    assert near(frame.rgb_HWC[16, 8], LEFT, 40)
    assert near(frame.rgb_HWC[16, 56], RIGHT, 40)


def test_lab_becomes_rgb_where_nothing_more_can_be_imported(tmp_path: Path) -> None:
    path = tmp_path / "picture.tif"
    Image.merge("LAB", [Image.new("L", (64, 32), level) for level in (255, 128, 128)]).save(path)
    with SandboxedFrames(Limits(), timeout_s=20.0) as source, source.open(path) as media:
        (frame,) = media.frames(SamplingRequest())
        assert near(frame.rgb_HWC[16, 8], (255, 255, 255))


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16"])
def test_grey_modes_become_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "picture.png"
    grey_HW = np.zeros((8, 8), np.uint8)
    grey_HW[:, 4:] = 255
    if mode == "I;16":
        Image.fromarray(grey_HW.astype(np.uint16) * 257).save(path)
    else:
        Image.fromarray(grey_HW).convert(mode).save(path)
    _, (frame,) = read(path)
    assert frame.rgb_HWC[:, :4].max() == 0
    assert frame.rgb_HWC[:, 4:].min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((32, 64, 3), np.uint8)
    upright[:16, :32] = 255
    back = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 1, 7: 3, 8: 3}[orientation]
    stored = np.rot90(upright, back)
    if orientation in (2, 4):
        stored = np.rot90(np.fliplr(upright), back)
    if orientation in (5, 7):
        stored = np.rot90(np.fliplr(upright), 3 if orientation == 5 else 1)
        stored = np.transpose(upright, (1, 0, 2)) if orientation == 5 else np.transpose(upright[::-1, ::-1], (1, 0, 2))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "picture.jpg"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, quality=95)
    info, (frame,) = read(path)
    assert (info.width, info.height) == (64, 32)
    bright = frame.rgb_HWC[..., 0] > 128
    assert bright[4:12, 4:28].all()
    assert not bright[20:].any()
    assert not bright[:, 36:].any()


ODD_ENTRIES = {
    "number as text": struct.pack("<HHI4s", 0x11B, 2, 4, b"7/1\0"),
    "rational below 0": struct.pack("<HHII", 0x11A, 10, 1, 38) + struct.pack("<Iii", 0, -5, 1),
    "more than a SHORT holds": struct.pack("<HHII", 0x103, 4, 1, 1 << 20),
    "number below 0": struct.pack("<HHIi", 0x100, 9, 1, -5),
}


@pytest.mark.parametrize("odd", ODD_ENTRIES.values(), ids=ODD_ENTRIES)
def test_a_picture_is_turned_whatever_else_its_exif_says(tmp_path: Path, odd: bytes) -> None:
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 2) + struct.pack("<HHIHH", 0x112, 3, 1, 6, 0) + odd
    path = tmp_path / "picture.jpg"
    two_halves().rotate(90, expand=True).save(path, exif=exif, quality=95)
    info, (frame,) = read(path)
    assert (info.width, info.height) == (64, 32)
    assert near(frame.rgb_HWC[16, 8], LEFT)
    assert near(frame.rgb_HWC[16, 56], RIGHT)


def test_exif_that_cannot_be_read_turns_nothing(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    two_halves().save(path, exif=b"no TIFF within")
    _, (frame,) = read(path)
    assert near(frame.rgb_HWC[16, 8], LEFT)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "avif"])
@pytest.mark.parametrize("with_exif", [False, True], ids=["xmp alone", "beside exif"])
def test_xmp_turns_nothing_as_in_browsers(tmp_path: Path, suffix: str, with_exif: bool) -> None:
    xmp, exif = b'<rdf:Description tiff:Orientation="3"/>', Image.Exif()
    exif[0x010F] = "a maker"
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", xmp.decode())
    path = tmp_path / f"picture.{suffix}"
    said: dict[str, Any] = {"pnginfo": text} if suffix == "png" else {"xmp": xmp}
    two_halves().save(path, quality=95, **said, **({"exif": exif} if with_exif else {}))
    with Image.open(path) as image:
        image.load()
        assert image.getexif()[0x0112] == 3
    _, (frame,) = read(path)
    assert near(frame.rgb_HWC[16, 8], LEFT)


def text_chunk(name: str, orientation: int) -> PngImagePlugin.PngInfo:
    exif, text = Image.Exif(), PngImagePlugin.PngInfo()
    exif[0x0112] = orientation
    said = exif.tobytes() if name == "exif" else f"\nexif\n{len(exif.tobytes())}\n{exif.tobytes().hex()}".encode()
    text.add(b"tEXt", name.encode() + b"\0" + said)
    return text


@pytest.mark.parametrize("name", ["Raw profile type exif", "exif"])
def test_an_old_text_chunk_turns_nothing_as_in_browsers(tmp_path: Path, name: str) -> None:
    path = tmp_path / "picture.png"
    two_halves().save(path, pnginfo=text_chunk(name, 3))
    with Image.open(path) as image:
        assert image.getexif()[0x0112] == 3
    _, (frame,) = read(path)
    assert near(frame.rgb_HWC[16, 8], LEFT)


@pytest.mark.parametrize("count", [1, 2], ids=["picture", "animation"])
@pytest.mark.parametrize("is_last", [False, True], ids=["before exif", "at the end"])
@pytest.mark.parametrize("name", ["Raw profile type exif", "exif"])
def test_exif_turns_whatever_text_chunk_is_beside_it(tmp_path: Path, name: str, is_last: bool, count: int) -> None:
    path, exif = tmp_path / "picture.png", Image.Exif()
    exif[0x0112] = 6
    shown = [two_halves(64, 32).rotate(90, expand=True) for _ in range(count)]
    shown[-1].putpixel((0, 0), (0, 0, 0))
    shown[0].save(path, pnginfo=text_chunk(name, 1), exif=exif, save_all=True, append_images=shown[1:], duration=200)
    if is_last:
        data, end_bytes = path.read_bytes(), 12
        at = data.index(b"tEXt") - 4
        chunk = data[at : at + 12 + int.from_bytes(data[at : at + 4], "big")]
        path.write_bytes(data[:-end_bytes].replace(chunk, b"") + chunk + data[-end_bytes:])
    info, frames = read(path, strategy=Strategy.UNIFORM, max_frames=count)
    assert (info.width, info.height, len(frames)) == (64, 32, count)
    for frame in frames:
        assert near(frame.rgb_HWC[16, 8], LEFT)
        assert near(frame.rgb_HWC[16, 56], RIGHT)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "avif"])
def test_an_animation_is_a_video(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"animation.{suffix}"
    levels = [20, 70, 120, 170, 220]
    frames = [Image.fromarray(np.full((32, 48, 3), level, np.uint8)) for level in levels]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=200, loop=0)
    info, seen = read(path)
    assert info.kind is MediaKind.VIDEO
    assert (info.n_frames, info.width, info.height) == (5, 48, 32)
    assert info.duration_s == pytest.approx(1.0, abs=0.01)
    assert [frame.pts_s for frame in seen] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8], abs=0.01)
    assert [float(frame.rgb_HWC.mean()) for frame in seen] == pytest.approx(levels, abs=4)
    _, later = read(path, times_s=(0.61, 0.2))
    assert [float(frame.rgb_HWC.mean()) for frame in later] == pytest.approx([70, 170], abs=4)
    _, window = read(path, strategy=Strategy.UNIFORM, start_s=0.35, end_s=0.7, max_frames=2)
    assert [frame.pts_s for frame in window] == pytest.approx([0.4, 0.6], abs=0.01)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
@pytest.mark.parametrize(("said_ms", "shown_s"), [(0, 0.1), (10, 0.1), (20, 0.02)])
def test_frames_of_almost_no_time_last_as_long_as_browsers_show_them(
    tmp_path: Path, suffix: str, said_ms: int, shown_s: float
) -> None:
    path = tmp_path / f"animation.{suffix}"
    frames = [Image.fromarray(np.full((32, 48, 3), level, np.uint8)) for level in (20, 70, 120)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=said_ms)
    info, seen = read(path)
    assert info.duration_s == pytest.approx(3 * shown_s)
    assert [frame.pts_s for frame in seen] == pytest.approx([0.0, shown_s, 2 * shown_s])


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_what_is_shown_in_a_window_is_looked_at_though_it_began_before(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"slides.{suffix}"
    slides = [Image.fromarray(np.full((32, 48, 3), level, np.uint8)) for level in (20, 70, 120)]
    slides[0].save(path, save_all=True, append_images=slides[1:], duration=5000)
    for start_s, end_s in ((6.0, 7.0), (8.0, 9.0), (8.0, 10.0)):
        _, frames = read(path, start_s=start_s, end_s=end_s)
        assert [frame.pts_s for frame in frames] == [5.0]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp", "avif"])
def test_a_picture_cut_short_is_corrupt(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture.{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CorruptMedia):
        read(path)


def _png_header(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [8100, 20_000, 60_000])
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_png_header(side, side))
    with pytest.raises(MediaTooLarge):
        read(path)


@pytest.mark.parametrize("size", [(1, 4_000_000), (4_000_000, 1), (20_000_000, 3)])
def test_what_is_too_thin_to_be_shrunk_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    path = tmp_path / "thin.png"
    Image.new("1", size).save(path)
    with pytest.raises(MediaTooLarge, match="too long"):
        read(path)


def test_a_picture_for_programs_that_do_not_animate_is_no_part_of_the_animation(tmp_path: Path) -> None:
    path = tmp_path / "animated.png"
    levels = (10, 60, 110, 160)
    frames = [Image.new("RGB", (64, 32), (level,) * 3) for level in levels]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=200, default_image=True)
    info, found = read(path)
    assert (info.n_frames, info.duration_s) == (3, pytest.approx(0.6))
    assert [(round(frame.pts_s, 3), int(frame.rgb_HWC[0, 0, 0])) for frame in found] == [(0.0, 60), (0.2, 110), (0.4, 160)]
    frames[0].save(path, save_all=True, append_images=frames[1:2], duration=200, default_image=True)
    info, found = read(path)
    assert (info.kind, [int(frame.rgb_HWC[0, 0, 0]) for frame in found]) == (MediaKind.PICTURE, [60])


def test_limits_of_animations(tmp_path: Path) -> None:
    path = tmp_path / "animation.gif"
    frames = [Image.fromarray(np.full((32, 48, 3), level, np.uint8)) for level in (10, 100, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=200)
    with pytest.raises(MediaTooLarge):
        read(path, Limits(max_packets=2))
    with pytest.raises(MediaTooLarge):
        read(path, Limits(max_pixels=32 * 48 - 1))


def test_an_animation_of_too_many_pixels_or_seconds_is_stopped(tmp_path: Path) -> None:
    path = tmp_path / "animation.png"
    frames = [Image.fromarray(np.full((32, 48, 3), level, np.uint8)) for level in (10, 100, 200)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=200)
    assert len(read(path, Limits(max_animation_pixels=3 * 32 * 48))[1]) == 3
    with pytest.raises(MediaTooLarge, match="3 frames"):
        read(path, Limits(max_animation_pixels=3 * 32 * 48 - 1))
    with pytest.raises(MediaTooLong):
        read(path, Limits(max_duration_s=0.5))


@pytest.mark.parametrize("suffix", ["webp", "png"])
def test_animations_are_turned_upright(tmp_path: Path, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / f"animation.{suffix}"
    frames = [two_halves().rotate(90, expand=True), two_halves().rotate(90, expand=True).point(lambda level: level // 2)]
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=200, exif=exif, quality=95)
    info, seen = read(path)
    assert (info.width, info.height) == (64, 32)
    for frame, share in zip(seen, (1.0, 0.5), strict=True):
        assert frame.rgb_HWC.shape == (32, 64, 3)
        assert near(frame.rgb_HWC[16, 8], tuple(int(level * share) for level in LEFT))
        assert near(frame.rgb_HWC[16, 56], tuple(int(level * share) for level in RIGHT))


def test_a_tiff_of_several_pages_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "pages.tif"
    two_halves().save(path, save_all=True, append_images=[two_halves(), two_halves()])
    with pytest.raises(UnsupportedMedia, match="3 pages"):
        read(path)


def test_avif_is_known_by_its_compatible_brands(tmp_path: Path) -> None:
    path = tmp_path / "picture.avif"
    two_halves().save(path)
    data = path.read_bytes()
    assert data[8:12] == b"avif"
    assert b"avif" in data[16 : data[3]]
    path.write_bytes(data[:8] + b"mif1" + data[12:])
    assert read(path)[0].container == "avif"


@pytest.mark.parametrize("error", [struct.error("short"), AttributeError("tile"), RuntimeError("decoder")])
def test_what_readers_raise_on_damage_is_corrupt(error: Exception) -> None:
    class Broken(Image.Image):
        format = "PNG"
        size = (4, 4)

        def load(self) -> Any:
            raise error

    with pytest.raises(CorruptMedia, match=str(error)):
        PictureMedia(Broken(), io.BytesIO(), Limits())


def test_other_picture_formats_are_unsupported(tmp_path: Path) -> None:
    for name in ("picture.ico", "picture.ppm", "picture.eps"):
        path = tmp_path / name
        buffer = io.BytesIO()
        two_halves().save(buffer, {"ico": "ICO", "ppm": "PPM", "eps": "EPS"}[name[-3:]])
        path.write_bytes(buffer.getvalue())
        with pytest.raises(UnsupportedMedia):
            read(path)
