"""A decoder taken over by its file is stopped, the parent lives on, and the next file is decoded."""

from __future__ import annotations

import itertools
import json
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from worker.errors import CorruptMedia, DecodeCrash, DecodeTimeout, MediaTooLong, OutOfMemory, VeriframeError
from worker.frames import wire
from worker.frames.layout import bytes_of
from worker.frames.limits import Limits
from worker.frames.sandbox import SandboxedFrames
from worker.patience import Patience
from worker.types import Layout, MediaInfo, MediaKind, SamplingRequest, Strategy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="system-call filter and Landlock are Linux")
HERE = Path(__file__).parent
ALL = SamplingRequest()
TIMEOUT_S = 0.5
LOST: list[str] = []
"""Why children were lost, as it was told."""


@pytest.fixture(scope="module")
def frames() -> Iterator[SandboxedFrames]:
    with SandboxedFrames(
        Limits(), opener="hostile:open_misbehaving", import_path=[HERE], timeout_s=30.0, on_lost=LOST.append
    ) as sandboxed:
        yield sandboxed


@pytest.fixture(scope="module")
def impatient() -> Iterator[SandboxedFrames]:
    with SandboxedFrames(
        Limits(), opener="hostile:open_misbehaving", import_path=[HERE], timeout_s=TIMEOUT_S, on_lost=LOST.append
    ) as sandboxed:
        yield sandboxed


@pytest.fixture(scope="module")
def frugal() -> Iterator[SandboxedFrames]:
    opener = "hostile:open_misbehaving"
    with SandboxedFrames(
        Limits(), opener=opener, import_path=[HERE], timeout_s=60.0, cpu_s=1.0, on_lost=LOST.append
    ) as sandboxed:
        yield sandboxed


def commit(frames: SandboxedFrames, folder: Path, deed: str, **arguments: object) -> VeriframeError:
    """The error of a file whose decoder does ``deed`` after one good frame; a good file must scan afterwards."""
    path = folder / "deed.json"
    path.write_text(json.dumps({"deed": deed, **arguments}))
    zygote_pid = frames.zygote_pid
    LOST.clear()
    given: list[float] = []
    with pytest.raises(VeriframeError) as caught, frames.open(path) as media:
        given.extend(frame.pts_s for frame in media.frames(ALL))
    assert given[0] == 0.0
    told = list(LOST)
    assert_scans_good_file(frames, folder)
    assert frames.zygote_pid == zygote_pid or zygote_pid is None
    assert psutil.Process(frames.zygote_pid).children() == []
    assert told == LOST, "the good file's child is not lost"
    return caught.value


def assert_scans_good_file(frames: SandboxedFrames, folder: Path) -> None:
    good = folder / "good.json"
    good.write_text(json.dumps({"width": 16, "height": 8, "n_frames": 3}))
    with frames.open(good) as media:
        assert len(list(media.frames(ALL))) == 3


def test_socket(frames: SandboxedFrames, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        error = commit(frames, tmp_path, "open_socket", port=server.getsockname()[1])
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert type(error) is DecodeCrash
    assert "forbidden" in str(error)


@pytest.mark.parametrize("deed", ["fork", "trace_zygote"])
def test_deadly_calls(frames: SandboxedFrames, tmp_path: Path, deed: str) -> None:
    error = commit(frames, tmp_path, deed)
    assert type(error) is DecodeCrash
    assert "forbidden" in str(error)


@pytest.mark.parametrize("deed", ["run_program", "become_program", "write_file"])
def test_programs_and_files(frames: SandboxedFrames, tmp_path: Path, deed: str) -> None:
    target = tmp_path / "made"
    assert type(commit(frames, tmp_path, deed, path=str(target))) is DecodeCrash
    assert not target.exists()


@pytest.mark.parametrize("deed", ["read_file", "list_folder", "kill_zygote", "signal_by_fcntl", "raise_limits"])
def test_refused_calls(frames: SandboxedFrames, tmp_path: Path, deed: str) -> None:
    error = commit(frames, tmp_path, deed)
    assert type(error) is DecodeCrash
    assert "Permission" in str(error) or "not permitted" in str(error) or "not allowed" in str(error)


def test_child_holds_the_media_the_shared_frames_and_the_channel_only(frames: SandboxedFrames, tmp_path: Path) -> None:
    with socket.socket(), (tmp_path / "other").open("w"):
        error = commit(frames, tmp_path, "show_descriptors")
    assert str(error) == "file file socket"


def test_four_gigabytes(frames: SandboxedFrames, tmp_path: Path) -> None:
    assert type(commit(frames, tmp_path, "allocate")) is OutOfMemory


@pytest.mark.parametrize(("deed", "pause_s"), [("hang", 600), ("trickle", 0.05), ("trickle", 0.0002)])
def test_hang_ends_at_the_limit(impatient: SandboxedFrames, tmp_path: Path, deed: str, pause_s: float) -> None:
    started_s = time.monotonic()
    assert type(commit(impatient, tmp_path, deed, pause_s=pause_s)) is DecodeTimeout
    assert time.monotonic() - started_s >= TIMEOUT_S, "and not before"


def test_hang_while_opening_ends_at_the_limit(impatient: SandboxedFrames, tmp_path: Path) -> None:
    path = tmp_path / "hang.json"
    path.write_text('{"hang": true}')
    with pytest.raises(DecodeTimeout), impatient.open(path):
        pass
    assert_scans_good_file(impatient, tmp_path)


def test_bytes_that_are_ready_do_not_stretch_the_limit() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(wire.encode({"end": True}))
        with pytest.raises(TimeoutError):
            wire.Channel(ours).receive(Patience(0.0))
        assert wire.Channel(ours).receive(Patience(5.0)) == {"end": True}


def test_an_answer_that_came_while_we_were_stopped_is_in_time() -> None:
    ours, theirs = socket.socketpair()
    patience = Patience(3.0, clock=iter([0.0, 1000.0]).__next__)
    with ours, theirs:
        theirs.sendall(wire.encode({"end": True}))
        assert wire.Channel(ours).receive(patience) == {"end": True}
    assert patience.left_s == 1.0


def test_callers_own_time_does_not_count(impatient: SandboxedFrames, tmp_path: Path) -> None:
    path = tmp_path / "slow.json"
    path.write_text(json.dumps({"width": 8, "height": 8, "n_frames": 3}))
    with impatient.open(path) as media:
        given = media.frames(ALL)
        next(given)
        time.sleep(TIMEOUT_S + 0.2)
        assert len(list(given)) == 2


@pytest.mark.parametrize("deed", ["spin", "spin_ignoring_the_limit"])
def test_cpu_time(frugal: SandboxedFrames, tmp_path: Path, deed: str) -> None:
    error = commit(frugal, tmp_path, deed)
    assert type(error) is DecodeTimeout
    assert "CPU" in str(error)
    assert LOST == ["timeout"]


@pytest.mark.parametrize(("deed", "words"), [("kill_itself", "SIGKILL"), ("segfault", "SIGSEGV"), ("leave_quietly", "status 0")])
def test_sudden_deaths(frames: SandboxedFrames, tmp_path: Path, deed: str, words: str) -> None:
    error = commit(frames, tmp_path, deed)
    assert type(error) is DecodeCrash
    assert words in str(error)


@pytest.mark.parametrize(
    ("deed", "arguments", "why"),
    [
        ("kill_itself", {}, ["crash"]),
        ("hang_up", {}, ["crash"]),
        ("fail_unforeseen", {}, ["crash"]),
        ("send", {"message": 7}, ["protocol"]),
        ("send", {"message": {"error": {"code": "out_of_memory", "message": "no more"}}}, ["out_of_memory"]),
        ("send", {"message": {"error": "text"}}, ["protocol"]),
        ("fail_as_media", {}, []),
    ],
    ids=str,
)
def test_it_is_told_why_a_child_was_lost(
    frames: SandboxedFrames, tmp_path: Path, deed: str, arguments: dict[str, object], why: list[str]
) -> None:
    commit(frames, tmp_path, deed, **arguments)
    assert why == LOST


def test_one_that_hangs_was_lost_in_time(impatient: SandboxedFrames, tmp_path: Path) -> None:
    commit(impatient, tmp_path, "hang", pause_s=600)
    assert LOST == ["timeout"]


def test_hanging_up(frames: SandboxedFrames, tmp_path: Path) -> None:
    error = commit(frames, tmp_path, "hang_up")
    assert type(error) is DecodeCrash
    assert "hung up" in str(error)


def test_errors_of_the_child(frames: SandboxedFrames, tmp_path: Path) -> None:
    assert type(commit(frames, tmp_path, "fail_as_media")) is CorruptMedia
    unforeseen = commit(frames, tmp_path, "fail_unforeseen")
    assert type(unforeseen) is DecodeCrash
    assert str(unforeseen).isprintable()
    assert len(str(unforeseen)) <= 300
    path = tmp_path / "long.json"
    path.write_text('{"too_long": true}')
    with pytest.raises(MediaTooLong, match="two days"), frames.open(path):
        pass


FRAME = {"slot": 1, "width": 8, "height": 4, "pts_s": 1.0, "matrix": 1, "full_range": True}


@pytest.mark.parametrize(
    "message",
    [
        {"frame": FRAME | {"slot": 100}},
        {"frame": FRAME | {"slot": -1}},
        {"frame": FRAME | {"slot": True}},
        {"frame": FRAME | {"width": 100_000, "height": 100_000}},
        {"frame": FRAME | {"width": 6000, "height": 6000}},  # within the pixels allowed, beyond its slot
        {"frame": FRAME | {"width": 0}},
        {"frame": FRAME | {"height": -4}},
        {"frame": FRAME | {"height": "4"}},
        {"frame": FRAME | {"height": 4.0}},
        {"frame": FRAME | {"pts_s": float("nan")}},
        {"frame": FRAME | {"pts_s": float("inf")}},
        {"frame": FRAME | {"pts_s": 1e300}},
        {"frame": FRAME | {"pts_s": 64.0}},  # the video is 3 s long
        {"frame": FRAME | {"pts_s": 0.0}},  # that of the frame given first
        {"frame": FRAME | {"pts_s": None}},
        {"frame": FRAME | {"pts_s": -1.0}},  # before the frame given first
        {"frame": FRAME | {"matrix": 3}},
        {"frame": FRAME | {"matrix": 10**30}},
        {"frame": FRAME | {"full_range": 1}},
        {"frame": []},
        {"frame": {}},
        {"info": {}},
        {"error": "text"},
        [1, 2],
        7,
    ],
    ids=str,
)
def test_lies(frames: SandboxedFrames, tmp_path: Path, message: object) -> None:
    error = commit(frames, tmp_path, "send", message=message)
    assert type(error) is DecodeCrash
    assert "protocol" in str(error)


@pytest.mark.parametrize("code", ["config", "internal", ["corrupt"], None])
def test_error_that_is_not_the_childs_to_raise(frames: SandboxedFrames, tmp_path: Path, code: object) -> None:
    error = commit(frames, tmp_path, "send", message={"error": {"code": code, "message": "words"}})
    assert type(error) is DecodeCrash
    assert str(error) == "words"


@pytest.mark.parametrize(
    "raw",
    [b"\xff\xff\xff\xff", b"\0\0\0\2{]", b"\0\0\0\2\xff\xfe", b"\0\1\x86\xa0" + b"[" * 100_000],
    ids=["4 GiB", "not JSON", "not UTF-8", "deep"],
)
def test_garbage(frames: SandboxedFrames, tmp_path: Path, raw: bytes) -> None:
    error = commit(frames, tmp_path, "send_raw", raw=raw.hex())
    assert type(error) is DecodeCrash
    assert "protocol" in str(error)


@pytest.mark.parametrize(
    ("kind", "request_", "most"),
    [
        ("video", ALL, 32),
        ("video", SamplingRequest(max_frames=10), 10),
        ("video", SamplingRequest(strategy=Strategy.KEYFRAMES), 512),
        ("video", SamplingRequest(strategy=Strategy.FPS, fps=5.0), 15),
        ("video", SamplingRequest(times_s=(0.1, 0.2, 0.3)), 3),
        ("picture", ALL, 1),
    ],
)
def test_flood(frames: SandboxedFrames, tmp_path: Path, kind: str, request_: SamplingRequest, most: int) -> None:
    path = tmp_path / "flood.json"
    path.write_text(json.dumps({"deed": "flood", "kind": kind}))
    with frames.open(path) as media:
        given = media.frames(request_)
        assert len(list(itertools.islice(given, most))) == most
        with pytest.raises(DecodeCrash, match="protocol"):
            next(given)
    assert_scans_good_file(frames, tmp_path)


LIMITS = Limits(max_pixels=100, max_picture_pixels=200, max_duration_s=60.0, max_packets=4000)
INFO = wire.info_to(
    MediaInfo(kind=MediaKind.VIDEO, container="test", codec="none", width=8, height=4, duration_s=60.0, fps=1.0, n_frames=4000)
)


def test_info_at_the_limits_is_believed() -> None:
    assert wire.info_from(INFO, LIMITS).n_frames == 4000
    assert wire.info_from(INFO | {"kind": "picture", "width": 20, "height": 10}, LIMITS).width == 20


@pytest.mark.parametrize(
    "claim",
    [
        *(
            {"duration_s": 60.1},
            {"duration_s": -1},
            {"missing_s": 60.1},
            {"missing_s": -1},
            {"more_videos": -1},
            {"starts_s": 60.1},
            {"n_frames": 4001},
        ),
        *({"width": 20, "height": 10}, {"fps": 1e10}, {"kind": "audio"}),
    ],
    ids=str,
)
def test_info_beyond_the_limits_is_a_lie(claim: dict[str, object]) -> None:
    with pytest.raises(wire.ProtocolError):
        wire.info_from(INFO | claim, LIMITS)


@pytest.mark.parametrize("share", [None, -0.1, 1.1, "0", True])
def test_a_share_that_is_none_is_a_lie(share: object) -> None:
    with pytest.raises(wire.ProtocolError):
        wire.share_from({"end": True, "lost_share": share})


@pytest.mark.parametrize("claim", [{"layout": "yuv422"}, {"layout": None}, {"layout": ["rgb"]}], ids=str)
def test_unknown_layout_is_a_lie(claim: dict[str, object]) -> None:
    with pytest.raises(wire.ProtocolError):
        wire.info_from(INFO | claim, LIMITS)


PLANES = {"slot": 0, "width": 40, "height": 20, "pts_s": 1.0, "matrix": 1, "full_range": False}


@pytest.mark.parametrize(
    ("layout", "claim", "spare"),
    [
        (Layout.YUV420, {}, -1),  # larger than its slot
        (Layout.YUV444, {}, -1),
        (Layout.YUV420, {"width": 39}, 0),
        (Layout.YUV420, {"height": 19}, 0),
        (Layout.YUV420, {"matrix": 2}, 0),
        (Layout.YUV444, {"matrix": -1}, 0),
        (Layout.YUV420, {"full_range": None}, 0),
    ],
    ids=str,
)
def test_planes_that_do_not_fit_are_a_lie(layout: Layout, claim: dict[str, object], spare: int) -> None:
    size = bytes_of(20, 40, layout)

    def header(message: dict[str, object], slot_bytes: int) -> wire.FrameHeader:
        limits = {"max_pixels": 1000, "duration_s": 3.0, "slots": {0}}
        return wire.frame_from(message, layout=layout, slot_bytes=slot_bytes, **limits)

    assert header(PLANES, size).matrix == 1
    with pytest.raises(wire.ProtocolError):
        header(PLANES | claim, size + spare)


def test_child_refuses_what_its_parent_would(frames: SandboxedFrames, tmp_path: Path) -> None:
    path = tmp_path / "claims.json"
    path.write_text(json.dumps({"claims": {"duration_s": 1e9}}))
    with pytest.raises(MediaTooLong), frames.open(path):
        pass
    path.write_text(json.dumps({"claims": {"n_frames": 1 << 40}}))
    with frames.open(path) as media:
        assert media.info.n_frames == Limits().max_packets


def test_frames_of_a_jumping_clock_are_passed_over(frames: SandboxedFrames, tmp_path: Path) -> None:
    path = tmp_path / "jumps.json"
    path.write_text(json.dumps({"jumps": True}))
    with frames.open(path) as media:
        assert [frame.pts_s for frame in media.frames(ALL)] == [0.0]


def test_threads_are_allowed(frames: SandboxedFrames, tmp_path: Path) -> None:
    path = tmp_path / "threads.json"
    path.write_text(json.dumps({"threads": 4}))
    with frames.open(path) as media:
        assert len(list(media.frames(ALL))) == 4
