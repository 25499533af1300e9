"""Decoding on a card, as far as a machine without one can tell: what is made of its frames, and that software takes over."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.codec.hwaccel import HWAccel
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from tests.worker.frames.conftest import Clips
from tests.worker.frames.test_sandbox import write_clip
from worker.errors import UnsupportedMedia
from worker.frames import colour, nvdec
from worker.frames.choose import open_media
from worker.frames.limits import Limits
from worker.frames.sandbox import SandboxedFrames
from worker.types import SamplingRequest

ODD = Path(__file__).parents[4] / "shared" / "data" / "odd_media"
ROOT = Path(nvdec.__file__).parents[2]
OF_A_CARD = {"yuv420p": "nv12", "yuv420p10le": "p010le"}


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


without_card = pytest.mark.skipif(has_driver(), reason="NVIDIA's driver is installed here")


def told(frame: av.VideoFrame) -> tuple[object, ...]:
    """All that is read of a frame besides its planes."""
    colours = (frame.color_range, frame.colorspace, frame.color_trc, frame.color_primaries)
    flags = (frame.key_frame, frame.is_corrupt, frame.interlaced_frame)
    return (frame.pts, frame.time_base, frame.width, frame.height, colour.orientation(frame), *map(int, colours), *flags)


def on_card(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame as a card would give it."""
    tags = frame.color_range, frame.colorspace
    alike = {"src_color_range": ColorRange.MPEG, "dst_color_range": ColorRange.MPEG}
    same = {"src_colorspace": Colorspace.ITU709, "dst_colorspace": Colorspace.ITU709}
    given = frame.reformat(format=OF_A_CARD[frame.format.name], threads=1, **alike, **same)
    given.color_range, given.colorspace = tags
    return given


@pytest.mark.parametrize("layout", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize("matrix", range(18))
@pytest.mark.parametrize("color_range", [ColorRange.UNSPECIFIED, ColorRange.MPEG, ColorRange.JPEG])
def test_no_value_changes_when_chroma_is_parted(layout: str, matrix: int, color_range: ColorRange) -> None:
    rng = np.random.default_rng(3)
    frame = av.VideoFrame(642, 362, layout)
    for plane in frame.planes:
        values = rng.integers(0, 256 if layout == "yuv420p" else 1024, plane.buffer_size // (1 if layout == "yuv420p" else 2))
        plane.update(values.astype(np.uint8 if layout == "yuv420p" else np.uint16).tobytes())
    frame.pts, frame.colorspace, frame.color_range = 7, matrix, color_range
    parted = nvdec.planar(on_card(frame))
    assert parted.format.name == layout
    assert np.array_equal(parted.to_ndarray(), frame.to_ndarray())
    assert told(parted) == told(frame)
    assert nvdec.planar(parted) is parted


@pytest.mark.skipif(not ODD.is_dir(), reason=f"{ODD} is not here")
def test_odd_files_keep_turns_colours_and_times() -> None:
    compared = 0
    for path in sorted(path for path in ODD.rglob("*") if path.is_file()):
        try:
            with av.open(str(path)) as container:
                frame = next(container.decode(video=0))
        except (av.error.FFmpegError, StopIteration, IndexError, ValueError):
            continue
        if frame.format.name not in OF_A_CARD:
            continue
        parted = nvdec.planar(on_card(frame))
        assert told(parted) == told(frame), path.name
        assert np.array_equal(parted.to_ndarray(), frame.to_ndarray()), path.name
        compared += 1
    assert compared > 20


def test_the_clip_that_a_card_is_tried_on_decodes() -> None:
    assert nvdec.decode_sample(nvdec.sample(), None) == 4


@without_card
def test_without_a_card_the_reason_is_told() -> None:
    with pytest.raises(nvdec.NoCard, match="driver"):
        nvdec.take_card()
    assert nvdec.taken() is None
    assert "driver" in (nvdec.lacking() or "")


@without_card
def test_without_a_card_software_gives_the_same_frames_and_says_so(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4")
    Image.new("RGB", (64, 64), "grey").save(tmp_path / "picture.png")
    told_times: list[bool] = []
    request = SamplingRequest(max_frames=8)
    with SandboxedFrames(Limits(), decoder="nvdec", on_software=lambda: told_times.append(True)) as frames:
        with frames.open(clip) as media:
            assert media.info.decoder == "pyav"
            ours = [(frame.pts_s, frame.small_HWC.copy()) for frame in media.frames(request)]
        assert told_times == [True]
        with frames.open(tmp_path / "picture.png") as media:
            assert len(list(media.frames(request))) == 1
        assert told_times == [True], "a picture was never to be decoded on a card"
    with clip.open("rb") as file, open_media(file, Limits()) as media:
        plain = [(frame.pts_s, frame.small_HWC) for frame in media.frames(request)]
    assert [at for at, _ in ours] == [at for at, _ in plain]
    assert all(np.array_equal(one, other) for (_, one), (_, other) in zip(ours, plain, strict=True))


@without_card
@pytest.mark.parametrize(("codec", "suffix"), [("libx264", "mp4"), ("prores_ks", "mov"), ("ffv1", "mkv"), ("mpeg4", "mp4")])
def test_what_a_card_does_not_take_is_decoded_in_software(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codec: str, suffix: str
) -> None:
    """A card that fails all: there is none."""
    accel = HWAccel("cuda", allow_software_fallback=False)
    monkeypatch.setattr(nvdec, "_taken", [nvdec.Card(accel=accel, held=accel)])
    path = tmp_path / f"clip.{suffix}"
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25)
        stream.width = stream.height = 96
        stream.pix_fmt = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
        output.mux(stream.encode(av.VideoFrame(96, 96, stream.pix_fmt)))
        output.mux(stream.encode(None))
    with path.open("rb") as file, open_media(file, Limits(), decoder="nvdec") as media:
        assert media.info.decoder == "pyav"
        assert len(list(media.frames(SamplingRequest()))) == 1


def test_av1_is_said_to_be_decoded_in_software_which_it_is(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    accel = HWAccel("cuda", allow_software_fallback=False)
    monkeypatch.setattr(nvdec, "_taken", [nvdec.Card(accel=accel, held=accel)])
    path = clips["av1"].path
    with av.open(str(path)) as container:
        assert not container.streams.video[0].codec_context.codec.hardware_configs, "a decoder for cards: back into EXACT with it"
    with path.open("rb") as file, open_media(file, Limits(), decoder="nvdec") as media:
        assert (media.info.codec, media.info.decoder) == ("av1", "pyav")


@pytest.mark.parametrize(
    ("codec", "is_hwaccel", "is_taken"),
    [("h264", True, True), ("h264", False, False), ("mpeg2video", True, False), ("av1", True, False)],
)
def test_only_codecs_that_leave_no_choice_are_for_the_card(codec: str, is_hwaccel: bool, is_taken: bool) -> None:
    stream: Any = SimpleNamespace(
        codec_context=SimpleNamespace(codec=SimpleNamespace(canonical_name=codec), is_hwaccel=is_hwaccel)
    )
    with nullcontext() if is_taken else pytest.raises(UnsupportedMedia, match=codec):
        nvdec.check_taken(stream)


LOCKED = """
import errno, fcntl, os, resource, sys, threading
sys.path.insert(0, sys.argv[1])
from worker.frames.lockdown import lock_down
device = os.open("/dev/null", os.O_RDONLY)
go, answers = threading.Event(), {}
def open_file():
    go.wait()
    try:
        os.open("/etc/hostname", os.O_RDONLY)
        answers["thread"] = 0
    except OSError as exc:
        answers["thread"] = exc.errno
other = threading.Thread(target=open_file)
def take_card():
    other.start()
    return True
lock_down(memory_bytes=1 << 28, cpu_s=20.0, parent_pid=os.getppid(), take_card=take_card)
def ask(request):
    try:
        fcntl.ioctl(device, request, bytes(8))
    except OSError as exc:
        return exc.errno
assert [ask(request) for request in (0x5452, 0x8901, 0x8902)] == [errno.EPERM] * 3, "signals to others"
driver = ask(0x4601)
go.set()
other.join()
print(driver == errno.ENOTTY, answers["thread"] == errno.EACCES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 32)
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="Linux layers")
def test_with_a_card_drivers_may_be_asked_and_nothing_opened_also_by_threads_of_before() -> None:
    command = [sys.executable, "-I", "-c", LOCKED, str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=True)
    assert done.stdout.split("\n")[0] == "True True True"


ASKED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from av.codec.hwaccel import HWAccel
from worker.frames import nvdec
accel = HWAccel("cuda", allow_software_fallback=False) if sys.argv[2] == "a card" else None
if sys.argv[2] == "elsewhere":
    sys.platform = "darwin"
nvdec.ask(lambda: nvdec._taken.append(nvdec.Card(accel=accel, held=accel)))
try:
    os.open("/etc/hostname", os.O_RDONLY)
except OSError:
    os._exit(0)
sys.exit("not locked down")
"""


@without_card
@pytest.mark.skipif(sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="Linux layers")
@pytest.mark.parametrize(
    ("decoder", "reason"),
    [("a card", "does not decode behind the sandbox"), ("software", ""), ("elsewhere", "no card is taken on this system")],
)
def test_a_card_is_asked_to_decode_behind_the_sandbox(decoder: str, reason: str) -> None:
    """One that is said to be taken, and is not there; one that decodes: software, for want of a card; and where none is taken."""
    command = [sys.executable, "-I", "-c", ASKED, str(ROOT), decoder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False)
    assert reason in done.stderr
    assert done.returncode == (1 if reason else 0), done.stderr
