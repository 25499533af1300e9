"""Decoding on a card, as far as a machine without one can tell: what is made of its frames, and that software takes over."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from tests.worker.frames.test_sandbox import write_clip
from worker.frames import colour, nvdec
from worker.frames.choose import open_media
from worker.frames.limits import Limits
from worker.frames.sandbox import SandboxedFrames
from worker.types import SamplingRequest

ODD = Path(__file__).parents[4] / "shared" / "data" / "odd_media"
ROOT = Path(nvdec.__file__).parents[2]


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


@pytest.mark.parametrize(("layout", "of_the_card"), [("yuv420p", "nv12"), ("yuv420p10le", "p010le")])
@pytest.mark.parametrize("color_range", [ColorRange.UNSPECIFIED, ColorRange.MPEG, ColorRange.JPEG])
def test_no_value_changes_when_chroma_is_parted(layout: str, of_the_card: str, color_range: ColorRange) -> None:
    rng = np.random.default_rng(3)
    frame = av.VideoFrame(642, 362, layout)
    for plane in frame.planes:
        values = rng.integers(0, 256 if layout == "yuv420p" else 1024, plane.buffer_size // (1 if layout == "yuv420p" else 2))
        plane.update(values.astype(np.uint8 if layout == "yuv420p" else np.uint16).tobytes())
    frame.pts, frame.colorspace = 7, Colorspace.ITU709
    same = ColorRange.JPEG if color_range is ColorRange.JPEG else ColorRange.MPEG
    frame.color_range = color_range
    from_card = frame.reformat(format=of_the_card, src_color_range=same, dst_color_range=same)
    from_card.color_range = color_range
    parted = nvdec.planar(from_card)
    assert parted.format.name == layout
    assert np.array_equal(parted.to_ndarray(), frame.to_ndarray())
    assert told(parted) == told(frame)
    assert nvdec.planar(parted) is parted


@pytest.mark.skipif(not ODD.is_dir(), reason=f"{ODD} is not here")
def test_odd_files_keep_turns_colours_and_times() -> None:
    compared = 0
    for path in sorted(ODD.rglob("*.m*")):
        try:
            with av.open(str(path)) as container:
                frame = next(container.decode(video=0))
        except (av.error.FFmpegError, StopIteration, IndexError, ValueError):
            continue
        if frame.format.name != "yuv420p":
            continue
        parted = nvdec.planar(frame.reformat(format="nv12", threads=1))
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
    return sys.argv[2] == "card"
lock_down(memory_bytes=1 << 28, cpu_s=20.0, parent_pid=os.getppid(), take_card=take_card)
try:
    fcntl.ioctl(device, 0x4601, bytes(8))
except OSError as exc:
    answers["ioctl"] = exc.errno
go.set()
other.join()
print(answers["ioctl"] == errno.ENOTTY, answers["thread"] == errno.EACCES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 32)
sys.stdout.flush()
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"), reason="Linux layers")
@pytest.mark.parametrize(("held", "expected"), [("card", "True True True"), ("none", "False True False")])
def test_with_a_card_drivers_may_be_asked_and_nothing_opened_also_by_threads_of_before(held: str, expected: str) -> None:
    command = [sys.executable, "-I", "-c", LOCKED, str(ROOT), held]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=True)
    assert done.stdout.split("\n")[0] == expected
