"""Parts of several kinds, of none, and files in the place of parts: refused, since a decoder would see the first alone."""

from __future__ import annotations

import io
import itertools
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from tests.worker.source.loopback import files
from tests.worker.source.recordings import FPS, SECONDS, frames_in, hls, record
from tests.worker.source.test_playlist import fails, playlist, source
from tests.worker.spy import Spy
from worker.errors import CorruptMedia, UnsupportedMedia
from worker.source.part_kinds import kind_of


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One recording in every form; ``0.ts``, ``0.m4s`` and so on are parts, with ``init``; ``wide``: of another size."""
    folder = tmp_path_factory.mktemp("made")
    ts, fmp4, wide = hls(folder / "ts"), hls(folder / "fmp4", kind="fmp4"), hls(folder / "wide", kind="fmp4", width_px=96)
    found = {f"{i}.ts": ts[f"media{i}.ts"] for i in range(SECONDS)}
    found |= {f"{i}.m4s": fmp4[f"media{i}.m4s"] for i in range(SECONDS)}
    found |= {f"{i}.own": fmp4["init.mp4"] + fmp4[f"media{i}.m4s"] for i in range(SECONDS)}
    found |= {"init": fmp4["init.mp4"], "wide": wide["init.mp4"] + wide["media1.m4s"], "text": b'{"error":"gone"}'}
    found |= {"mp4": record(folder / "mp4", "a.mp4", "mp4")["a.mp4"], "webm": record(folder / "w", "a.mkv", "matroska")["a.mkv"]}
    hybrid = record(folder / "hybrid", "a.mp4", "mp4", movflags="frag_keyframe")["a.mp4"]
    sound = b"ID3\4\0\0\0\0\0\0" + b"\xff\xf1" * 99
    picture = io.BytesIO()
    Image.new("RGB", (64, 48)).save(picture, "PNG")
    return found | {
        "hybrid": hybrid,
        "hidden": picture.getvalue() + ts["media0.ts"],
        "twice": fmp4["init.mp4"] * 2,
        "sound": sound,
    }


def of(names: str) -> bytes:
    """A playlist of these parts; one in brackets is their initialisation."""
    return playlist(
        *(
            line
            for name in names.split()
            for line in ([f'#EXT-X-MAP:URI="{name[1:-1]}"'] if name[0] == "[" else ["#EXTINF:1,", name])
        )
    )


@pytest.mark.parametrize(
    ("names", "error", "told"),
    [
        ("hidden 1.ts", CorruptMedia, "neither"),
        ("hidden", CorruptMedia, "neither"),
        ("0.ts text", CorruptMedia, "neither"),
        ("0.ts hidden", CorruptMedia, "neither"),
        ("0.ts 1.own", UnsupportedMedia, "from MPEG-TS to MP4"),
        ("0.ts webm", UnsupportedMedia, "from MPEG-TS to WebM"),
        ("0.own 1.ts", UnsupportedMedia, "from MP4 to MPEG-TS"),
        ("[init] 0.ts", UnsupportedMedia, "from MP4 to MPEG-TS"),
        ("mp4 mp4", UnsupportedMedia, "file of its own"),
        ("0.own mp4", UnsupportedMedia, "file of its own"),
        ("hybrid 1.m4s", UnsupportedMedia, "file of its own"),
        ("[init] mp4", UnsupportedMedia, "file of its own"),
        ("webm webm", UnsupportedMedia, "file of its own"),
        ("0.own wide", UnsupportedMedia, "otherwise"),
        ("[init] wide", UnsupportedMedia, "otherwise"),
        ("[mp4] 0.m4s", CorruptMedia, "recording by itself"),
        ("[hybrid] 0.m4s", CorruptMedia, "recording by itself"),
        ("[0.own] 0.m4s", CorruptMedia, "recording by itself"),
        ("[twice] 0.m4s", CorruptMedia, "recording by itself"),
        ("sound sound", UnsupportedMedia, "sound alone"),
    ],
)
def test_what_would_be_seen_in_part_is_refused(
    names: str, error: type[Exception], told: str, held: Mapping[str, bytes], spy: Spy, tmp_path: Path
) -> None:
    raised = fails({**held, "media.m3u8": of(names)}, spy, tmp_path)
    assert type(raised) is error
    assert told in str(raised)


@pytest.mark.parametrize(
    "names", ["0.ts 1.ts 2.ts", "[init] 0.m4s 1.m4s 2.m4s", "0.own 1.own 2.own", "0.own 1.m4s 2.m4s", "mp4", "webm"]
)
def test_parts_of_one_kind_are_one_recording(names: str, held: Mapping[str, bytes], spy: Spy, tmp_path: Path) -> None:
    with source(files({**held, "media.m3u8": of(names)}), spy) as (server, urls):
        assert frames_in(urls.fetch(server.url("/media.m3u8"), tmp_path).path) == FPS * SECONDS


def test_a_file_of_packets_may_be_cut_between_them(held: Mapping[str, bytes], spy: Spy, tmp_path: Path) -> None:
    whole = b"".join(held[f"{i}.ts"] for i in range(SECONDS))
    cut = [0, 1000, 4567, len(whole)]
    lines = [f"#EXT-X-BYTERANGE:{end - at}@{at}\n#EXTINF:1,\nall" for at, end in itertools.pairwise(cut)]
    with source(files({"all": whole, "media.m3u8": playlist(*lines)}), spy) as (server, urls):
        assert urls.fetch(server.url("/media.m3u8"), tmp_path).path.read_bytes() == whole


def test_a_picture_whose_first_byte_is_that_of_a_packet_is_none() -> None:
    assert kind_of(b"GIF89a".ljust(188, b"\0") + b"G" * 188 + b"\0" * 188) is None
    assert kind_of(b"") is None
