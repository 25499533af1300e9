"""Pictures of MPEG-TS that go on under another PID are looked at where they refer to none before: else players differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.worker.frames.conftest import GOP, Clips, Recipe, encode
from tests.worker.frames.test_programs import frames_of, mapping, packets_of, pid_of
from tests.worker.frames.test_timeline import ALL, N, part, seen
from worker.errors import UnsupportedMedia
from worker.frames.limits import Limits
from worker.frames.pyav import PyavDecoder
from worker.frames.splices import check_apart

KINDS = {"h264": 0x1B, "h264_ip": 0x1B, "h264_often": 0x1B, "open_gop": 0x1B, "hevc": 0x24, "hevc_open_gop": 0x24}


def pictures(clips: Clips, clip: str, pid: int) -> list[list[bytes]]:
    """The packets of each, as they are decoded."""
    found: list[list[bytes]] = []
    for packet in packets_of(part(clips, ".ts", clip=clip, pid=pid)):
        if pid_of(packet) == pid:
            if packet[1] & 0x40:
                found.append([])
            found[-1].append(packet)
    return found


def spliced(clips: Clips, clip: str, *places: int, of: slice = slice(1)) -> list[bytes]:
    """Pictures of another PID in front of these of a clip."""
    head = [packet for packet in packets_of(part(clips, ".ts", clip=clip)) if pid_of(packet) == 0][:1]
    there, back = (mapping(1, 0x1000, pid, KINDS[clip]) for pid in (0x300, 256))
    packets = [*head, back]
    other = [packet for picture in pictures(clips, clip, 0x300)[of] for packet in picture]
    for place, picture in enumerate(pictures(clips, clip, 256)):
        packets += [there, *other, back, *picture] if place in places else picture
    return packets


@pytest.mark.parametrize("clip", ["h264", "h264_ip", "hevc"])
@pytest.mark.parametrize("place", [GOP, GOP + 2])
def test_a_key_frame_under_another_pid_is_looked_at_in_front_of_key_frames_alone(
    clips: Clips, tmp_path: Path, clip: str, place: int
) -> None:
    """Elsewhere the pictures behind it would refer to it, and what players show that keep to the first PID would go unseen."""
    data = b"".join(spliced(clips, clip, place))
    if place == GOP:
        assert frames_of(tmp_path / "spliced.ts", data) == N + 1
    else:
        with pytest.raises(UnsupportedMedia):
            frames_of(tmp_path / "spliced.ts", data)


@pytest.mark.parametrize(
    ("clip", "of"), [("h264_ip", slice(1, 9)), ("open_gop", slice(1)), ("hevc_open_gop", slice(1))], ids=["P", "I", "CRA"]
)
def test_pictures_that_begin_with_others_than_these_are_refused(clips: Clips, tmp_path: Path, clip: str, of: slice) -> None:
    """What says that it can be begun with may be followed by pictures that refer to others before it."""
    with pytest.raises(UnsupportedMedia):
        frames_of(tmp_path / "spliced.ts", b"".join(spliced(clips, clip, GOP, of=of)))


def test_recordings_around_one_of_another_pid_are_looked_at(clips: Clips, read_barcode: Any) -> None:
    """As HLS with an advertisement."""
    path = clips.path("around.ts")
    path.write_bytes(b"".join(part(clips, ".ts", pid=pid, start_s=start_s) for pid, start_s in ((256, 0), (400, 90), (256, 3))))
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert media.info.n_frames == 3 * N
        numbers = [number for _, number in seen(media, ALL, read_barcode)]
        assert np.bincount(numbers, minlength=N).min() >= 2
        assert len(numbers) >= 3 * N - 2


def test_what_goes_on_without_a_beginning_is_refused(clips: Clips, tmp_path: Path) -> None:
    """Its bytes may be a part of another PID's picture."""
    packets = spliced(clips, "h264_ip", GOP)
    at = next(at for at, packet in enumerate(packets) if pid_of(packet) == 0x300)
    packets[at - 2 : at - 2] = [packets.pop(at + 2)]
    with pytest.raises(UnsupportedMedia):
        frames_of(tmp_path / "spliced.ts", b"".join(packets))


@pytest.mark.parametrize("count", [1, 3])
def test_many_pictures_in_the_last_packet_before_others_are_refused(clips: Clips, count: int) -> None:
    """FFmpeg gives them behind the others."""
    first, *more = (packet for picture in pictures(clips, "h264_ip", 256)[:count] for packet in picture)
    packets = [first, *(bytes((packet[0], packet[1] & ~0x40, *packet[2:])) for packet in more)]
    packets += pictures(clips, "h264_ip", 0x300)[0]
    if count == 1:
        assert check_apart(packets, "h264") == 1
    else:
        with pytest.raises(UnsupportedMedia):
            check_apart(packets, "h264")


@pytest.mark.parametrize("times", [4, 5])
def test_pictures_that_go_on_elsewhere_too_often_are_refused(clips: Clips, tmp_path: Path, times: int) -> None:
    """They could be those of all moments looked at, and no player show them."""
    data = b"".join(spliced(clips, "h264_often", *range(8, 8 * times + 1, 8)))
    if times == 4:
        assert frames_of(tmp_path / "spliced.ts", data) == N + times
    else:
        with pytest.raises(UnsupportedMedia):
            frames_of(tmp_path / "spliced.ts", data)


@pytest.mark.parametrize("pids", [(256, 400), (256, 400, 256)])
def test_other_codecs_are_looked_at_under_one_pid_after_the_other(tmp_path: Path, pids: tuple[int, ...]) -> None:
    path = tmp_path / "joined.ts"
    data = b""
    for pid in pids:
        encode(Recipe(codec="mpeg2video", options={}, muxer={"mpegts_start_pid": str(pid)}, n_frames=9), path)
        data += path.read_bytes()
    if len(pids) == 2:
        assert frames_of(path, data) == 18
    else:
        with pytest.raises(UnsupportedMedia):
            frames_of(path, data)
