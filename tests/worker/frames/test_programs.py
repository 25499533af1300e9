"""MPEG-TS that goes on as something else is refused, and not looked at in part; what changes otherwise is looked at on."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import cycle, zip_longest
from pathlib import Path

import pytest

from tests.worker.frames.conftest import Clips
from tests.worker.frames.test_timeline import N, part
from worker.errors import UnsupportedMedia
from worker.frames.limits import Limits
from worker.frames.programs import check_goes_on
from worker.frames.pyav import PyavDecoder

PACKET = 188
OTHER = {"pid": 0x300, "mpegts_pmt_start_pid": "1280", "mpegts_service_id": "7"}


def frames_of(path: Path, data: bytes, more_videos: int = 0) -> int:
    path.write_bytes(data)
    with path.open("rb") as file, PyavDecoder(Limits()).open(file) as media:
        assert media.info.more_videos == more_videos
        return media.info.n_frames


def packets_of(data: bytes) -> list[bytes]:
    return [data[at : at + PACKET] for at in range(0, len(data), PACKET)]


def pid_of(packet: bytes) -> int:
    return (packet[1] & 0x1F) << 8 | packet[2]


def table(pid: int, section: bytes) -> bytes:
    """A packet of a section that lacks its checksum."""
    crc = 0xFFFFFFFF
    for byte in section:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
    return (b"G" + (0x4000 | pid).to_bytes(2, "big") + b"\x10\0" + section + crc.to_bytes(4, "big")).ljust(PACKET, b"\xff")


def listing(*programs: tuple[int, int], number: int = 0, last: int = 0) -> bytes:
    """Of a PAT of (number, PID of the map) the section of this number."""
    section = bytes((0, 0xB0, 9 + 4 * len(programs), 0, 1, 0xC1, number, last))
    return table(
        0, section + b"".join(program.to_bytes(2, "big") + (0xE000 | pid).to_bytes(2, "big") for program, pid in programs)
    )


def mapping(program: int, pid: int, pictures_pid: int, kind: int = 0x1B) -> bytes:
    """The map (PMT) of a program with pictures alone."""
    stream = (0xE000 | pictures_pid).to_bytes(2, "big") + b"\xf0\0"
    return table(pid, bytes((2, 0xB0, 18)) + program.to_bytes(2, "big") + bytes((0xC1, 0, 0)) + stream + bytes((kind,)) + stream)


def listed(data: bytes, pat: bytes) -> list[bytes]:
    return [packet if pid_of(packet) else pat for packet in packets_of(data)]


@pytest.fixture
def both(clips: Clips) -> tuple[bytes, bytes]:
    """Two recordings of different programs and PIDs."""
    return part(clips, ".ts"), part(clips, ".ts", **OTHER)  # type: ignore[arg-type]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_a_recording_joined_to_one_of_another_program_is_refused(
    clips: Clips, both: tuple[bytes, bytes], tmp_path: Path, order: int, codec: str
) -> None:
    first, second = both
    second = second if codec == "h264" else part(clips, ".ts", clip="hevc", **OTHER)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedMedia):
        frames_of(tmp_path / "joined.ts", b"".join((first, second)[::order]))


@pytest.mark.parametrize("pid", [256, 400])
@pytest.mark.parametrize("order", [1, -1])
def test_a_recording_joined_to_one_of_another_codec_is_refused(clips: Clips, tmp_path: Path, pid: int, order: int) -> None:
    parts = part(clips, ".ts"), part(clips, ".ts", pid=pid, clip="hevc")
    with pytest.raises(UnsupportedMedia):
        frames_of(tmp_path / "joined.ts", b"".join(parts[::order]))


def test_programs_one_after_the_other_are_refused_though_both_are_listed_all_along(
    both: tuple[bytes, bytes], tmp_path: Path
) -> None:
    first, second = (listed(data, listing((1, 0x1000), (7, 0x500))) for data in both)
    with pytest.raises(UnsupportedMedia):
        frames_of(tmp_path / "joined.ts", b"".join((*first[:9], *second[:2], *first[9:], *second[2:])))


def test_several_programs_at_once_are_looked_at_as_one_of_them(both: tuple[bytes, bytes], tmp_path: Path) -> None:
    first, second = (listed(data, listing((1, 0x1000), (7, 0x500))) for data in both)
    mixed = [packet for pair in zip_longest(first, second) for packet in pair if packet]
    assert frames_of(tmp_path / "mixed.ts", b"".join(mixed), more_videos=1) == N


@pytest.mark.parametrize("muxer", [{"pid": 400}, {"mpegts_pmt_start_pid": "1280"}, {"mpegts_service_id": "7"}])
def test_what_has_another_pid_map_or_number_is_looked_at_on(clips: Clips, tmp_path: Path, muxer: dict[str, str]) -> None:
    data = part(clips, ".ts") + part(clips, ".ts", **muxer)  # type: ignore[arg-type]
    assert frames_of(tmp_path / "joined.ts", data) == 2 * N


def test_tables_of_another_program_without_its_pictures_change_nothing(both: tuple[bytes, bytes], tmp_path: Path) -> None:
    first, second = both
    tables = b"".join(packet for packet in packets_of(second) if pid_of(packet) in (0, 0x500))
    assert frames_of(tmp_path / "tables.ts", tables[: 2 * PACKET] + first + tables) == N


@pytest.mark.parametrize(("before", "behind"), [(4, 0), (0, 16)])
def test_packets_of_other_sizes_are_found(both: tuple[bytes, bytes], tmp_path: Path, before: int, behind: int) -> None:
    """Those of Blu-ray have a time before each, those of broadcasts may have a checksum behind."""
    second = b"".join(bytes(before) + packet + bytes(behind) for packet in packets_of(both[1]))
    with pytest.raises(UnsupportedMedia):
        frames_of(tmp_path / "joined.ts", both[0] + second)


def test_what_a_map_costs_does_not_grow_with_the_list_of_programs(tmp_path: Path) -> None:
    lists = [listing((number + 1, 0x500), number=number, last=255) for number in range(256)]
    maps = [mapping(255 + place % 2, 0x500, 0x300) for place in range(200)]
    path = tmp_path / "listed.ts"
    path.write_bytes(b"".join((*lists, *maps)))
    calls = Counter[str]()
    sys.setprofile(lambda _, event, __: calls.update((event,)))
    try:
        with path.open("rb") as file:
            check_goes_on(file.fileno(), 256)
    finally:
        sys.setprofile(None)
    assert calls["call"] < 40 * (len(lists) + len(maps))


def chain(links: int) -> list[bytes]:
    """Maps of one program of which each two lead to one PID more, and nothing before does."""
    pictures = [(256 + n + is_next, n) for n in range(links) for is_next in (False, True)]
    maps = [
        bytes((2, 0xB0, 22, 0, 1, 0xC1, 0, 0, 0xE1, 0, 0xF0, 0, 0x1B))
        + (0xE000 | pid).to_bytes(2, "big")
        + b"\xf0\x04\x52\x02"
        + identifier.to_bytes(2, "big")
        for pid, identifier in pictures
    ]
    return [listing((1, 0x1000)), *(table(0x1000, section) for section in maps)]


def test_maps_that_lead_from_one_pid_to_the_next_are_followed_as_far_as_that_costs_little(tmp_path: Path) -> None:
    """A round for each PID, through all maps: with thousands of both that took hours."""
    path = tmp_path / "chain.ts"
    pictures = [b"G" + (0x4000 | pid).to_bytes(2, "big") + b"\x10" + bytes(184) for pid in (256, 286)]
    path.write_bytes(b"".join((*chain(30), *pictures)))
    with path.open("rb") as file:
        assert check_goes_on(file.fileno(), 256) == {256, 286}
    packets = chain(513)
    path.write_bytes(b"".join(packets))
    calls = Counter[str]()
    sys.setprofile(lambda _, event, __: calls.update((event,)))
    try:
        with path.open("rb") as file, pytest.raises(UnsupportedMedia):
            check_goes_on(file.fileno(), 256)
    finally:
        sys.setprofile(None)
    assert calls["call"] < 40 * len(packets)


def damaged(packet: bytes) -> bytes:
    """A table's packet with the last bit of its section's checksum flipped."""
    at = 5 + 2 + int.from_bytes(packet[6:8], "big") % 0x1000
    return packet[:at] + bytes((packet[at] ^ 1,)) + packet[at + 1 :]


@pytest.mark.parametrize("is_damaged", [False, True])
@pytest.mark.parametrize("wrong_lists", [0, 11])
def test_what_goes_on_under_its_pid_in_another_codec_is_refused(
    clips: Clips, tmp_path: Path, wrong_lists: int, is_damaged: bool
) -> None:
    """Browsers' players check no checksum, and FFmpeg does not read the map of a program that is listed no more."""
    first, second = (
        [packet for packet in packets_of(part(clips, ".ts", clip=clip)) if pid_of(packet) == 256] for clip in ("h264", "hevc")
    )
    other = mapping(1, 0x1000, 256, kind=0x24)
    packets = [listing((1, 0x1000)), *[damaged(listing((9, 0x900)))] * wrong_lists, mapping(1, 0x1000, 256), *first]
    with pytest.raises(UnsupportedMedia):
        frames_of(tmp_path / "joined.ts", b"".join((*packets, damaged(other) if is_damaged else other, *second)))


def test_pictures_under_two_pids_are_looked_at_though_wrong_lists_name_other_programs(clips: Clips, tmp_path: Path) -> None:
    first, second = (
        [packet for packet in packets_of(part(clips, ".ts", pid=pid)) if pid_of(packet) == pid] for pid in (256, 400)
    )
    lists = [listing((1, 0x1000)), *[damaged(listing((9, 0x900)))] * 11]
    packets = [*lists, mapping(1, 0x1000, 256), *first, mapping(1, 0x1000, 400), *second]
    assert frames_of(tmp_path / "joined.ts", b"".join(packets)) == 2 * N


@pytest.mark.parametrize("is_listed", [True, False])
def test_a_map_with_a_wrong_checksum_passes_no_other_pictures_off_as_the_same(
    both: tuple[bytes, bytes], tmp_path: Path, is_listed: bool
) -> None:
    """FFmpeg does not follow it: the second recording would go unseen."""
    first, second = both
    pictures = second if is_listed else b"".join(packet for packet in packets_of(second) if pid_of(packet) == 0x300)
    with pytest.raises(UnsupportedMedia):
        frames_of(tmp_path / "joined.ts", first + damaged(mapping(1, 0x1000, 0x300)) + pictures)


@pytest.mark.parametrize("other", [False, True])
def test_tables_of_which_no_checksum_is_right_are_believed(both: tuple[bytes, bytes], tmp_path: Path, other: bool) -> None:
    first, second = (
        b"".join(damaged(packet) if pid_of(packet) in (0x500, 0x1000) else packet for packet in packets_of(data)) for data in both
    )
    if other:
        with pytest.raises(UnsupportedMedia):
            frames_of(tmp_path / "damaged.ts", first + second)
    else:
        assert frames_of(tmp_path / "damaged.ts", first + first) == 2 * N


@pytest.mark.parametrize("behind", [b"\0", b"\0" * 4, b"\0" * 187])
def test_packets_are_found_with_anything_behind_them(both: tuple[bytes, bytes], tmp_path: Path, behind: bytes) -> None:
    first, second = both
    packets = [packet + behind if pid_of(packet) == 0x300 else packet for packet in packets_of(second)]
    with pytest.raises(UnsupportedMedia):
        frames_of(tmp_path / "joined.ts", first + b"".join(packets))


def test_times_before_packets_are_not_taken_for_these(both: tuple[bytes, bytes], tmp_path: Path) -> None:
    times = cycle((b"\0\0\0\0", b"\0\0\0G", b"\0\0G\0", b"G\0\0\0"))
    first, second = ([time + packet for time, packet in zip(times, packets_of(data), strict=False)] for data in both)
    assert frames_of(tmp_path / "timed.m2ts", b"".join(first)) == N
    with pytest.raises(UnsupportedMedia):
        frames_of(tmp_path / "joined.m2ts", b"".join((*first, *second)))
    with pytest.raises(UnsupportedMedia):
        frames_of(tmp_path / "joined.m2ts", b"".join(first) + both[1])


def stuffed(pid: int, data: bytes, counter: int, *, begins: bool) -> bytes:
    """A packet of this payload, filled up by its adaptation field."""
    left = 183 - len(data)
    field = bytes((left,)) + (b"\0" + b"\xff" * (left - 1) if left else b"")
    return b"G" + (begins << 14 | pid).to_bytes(2, "big") + bytes((0x30 | counter,)) + field + data


def laid(packet: bytes, way: str) -> list[bytes]:
    """A map laid in packets in another way that FFmpeg reads."""
    section = packet[5:26]
    if way == "second section":
        return [table(0x1000, b"\x42\xb0\x0d" + bytes(9))[:21] + section + b"\xff" * (PACKET - 21 - len(section))]
    if way == "tail before the next":
        parts = [b"\0" + section[:-6], b"\6" + section[-6:] + b"\xff"]
        return [stuffed(0x1000, data, counter, begins=True) for counter, data in enumerate(parts)]
    if way == "many packets":
        parts = [b"\0" + section[:1], *(section[at : at + 2] for at in range(1, len(section), 2))]
        return [stuffed(0x1000, data, counter % 16, begins=not counter) for counter, data in enumerate(parts)]
    between = [(b"\0" + section[:8], 0), (b"other", 7), (section[8:], 8)]
    return [stuffed(0x1000, data, counter, begins=not counter) for data, counter in between]


@pytest.mark.parametrize("way", ["second section", "tail before the next", "many packets", "another counter between"])
def test_maps_are_put_together_as_ffmpeg_does(clips: Clips, tmp_path: Path, way: str) -> None:
    packets = packets_of(part(clips, ".ts"))
    packets[80:80] = laid(mapping(1, 0x1000, 256, kind=0x24), way)
    with pytest.raises(UnsupportedMedia):
        frames_of(tmp_path / "joined.ts", b"".join(packets))
