"""The sandbox hands over frames intact, within its bounds, and cleans up after itself."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import av
import numpy as np
import psutil
import pytest

from tests.worker.frames import hostile
from worker.errors import CorruptMedia, DecodeCrash, EmptyMedia, MediaTooLarge, SourceError, UnsupportedMedia
from worker.frames import wire, zygote
from worker.frames.choose import open_media
from worker.frames.limits import Limits
from worker.frames.media import FRAMES_AHEAD
from worker.frames.sandbox import SandboxedFrames
from worker.pixels import shrink
from worker.types import Frame, Layout, SamplingRequest, Strategy

HERE = Path(__file__).parent
ALL = SamplingRequest(strategy=Strategy.UNIFORM, max_frames=1000)

Sandbox = Callable[..., SandboxedFrames]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Sandboxes by the size of their shared memory; starting one takes most of a second."""
    made: dict[int, SandboxedFrames] = {}

    def make(shared_bytes: int = 64 << 20) -> SandboxedFrames:
        for frames in made.values():
            frames._memories.close()  # none of an earlier test's is left
        if shared_bytes not in made:
            made[shared_bytes] = SandboxedFrames(
                Limits(), opener="hostile:open_misbehaving", import_path=[HERE], shared_bytes=shared_bytes
            )
        return made[shared_bytes]

    yield make
    for frames in made.values():
        frames.close()


def patterns_file(folder: Path, width: int, height: int, n_frames: int, **more: object) -> Path:
    path = folder / f"{width}x{height}x{n_frames}.json"
    path.write_text(json.dumps({"width": width, "height": height, "n_frames": n_frames, **more}))
    return path


def write_clip(path: Path, n_frames: int = 40, width: int = 320, height: int = 240) -> Path:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=20)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": "ultrafast"}
        for number in range(n_frames):
            frame = av.VideoFrame.from_ndarray(hostile.pattern(height, width, number), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def decoders() -> Iterator[SandboxedFrames]:
    with SandboxedFrames(Limits()) as frames:
        yield frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4")


@pytest.fixture(scope="module")
def large_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Whose frames come as planes."""
    return write_clip(tmp_path_factory.mktemp("clip") / "large.mp4", width=640, height=480)


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (256, 256), (1280, 720), (1921, 1081)])
def test_frames_arrive_intact(sandbox: Sandbox, tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    with sandbox().open(patterns_file(tmp_path, width, height, 6)) as media:
        assert (media.info.width, media.info.height, media.info.n_frames) == (width, height, 6)
        times_s = []
        for number, frame in enumerate(media.frames(ALL)):
            np.testing.assert_array_equal(frame.rgb_HWC, hostile.pattern(height, width, number))
            times_s.append(frame.pts_s)
    assert times_s == [float(n) for n in range(6)]


def test_frames_that_fill_the_bound_come_one_by_one(sandbox: Sandbox, tmp_path: Path) -> None:
    with sandbox(shared_bytes=1 << 20).open(patterns_file(tmp_path, 800, 600, 3)) as media:
        for number, frame in enumerate(media.frames(ALL)):
            np.testing.assert_array_equal(frame.rgb_HWC, hostile.pattern(600, 800, number))
            assert shared_bytes() <= (600 * 800 + 300 * 400) * 3 + 4096
    assert number == 2


def test_several_passes_also_after_one_left_early(sandbox: Sandbox, tmp_path: Path) -> None:
    with sandbox().open(patterns_file(tmp_path, 16, 16, 50)) as media:
        first = media.frames(ALL)
        assert [next(first).pts_s for _ in range(3)] == [0.0, 1.0, 2.0]
        second = media.frames(ALL)
        assert [frame.pts_s for frame in second] == [float(n) for n in range(50)]
        with pytest.raises(RuntimeError, match="later pass"):
            next(first)
        next(media.frames(ALL))
        assert len(list(media.frames(SamplingRequest(max_frames=4)))) == 4


def test_frames_stay_as_long_as_they_are_kept(sandbox: Sandbox, tmp_path: Path) -> None:
    """Also over a second pass and after closing, whether they lie in shared memory or, once that is full, are copies."""
    with sandbox(shared_bytes=8 << 20).open(patterns_file(tmp_path, 400, 300, 40)) as media:
        kept = [*media.frames(ALL), *media.frames(ALL)]
        assert shared_bytes() <= 8 << 20
    copies = [frame.rgb_HWC.flags.writeable for frame in kept]
    assert 15 < copies.count(False) < 25
    assert not any(copies[:15])
    for number, frame in enumerate(kept):
        np.testing.assert_array_equal(frame.rgb_HWC, hostile.pattern(300, 400, number % 40))


def test_a_part_of_a_frame_keeps_it(sandbox: Sandbox, tmp_path: Path) -> None:
    with sandbox().open(patterns_file(tmp_path, 640, 480, 60)) as media:
        parts = []
        for frame in media.frames(ALL):
            parts = [*parts[-2:], (frame.pts_s, frame.small_HWC[10:20], frame.pixels.region(5, 7, 9, 11))]
            time.sleep(0.002)
            for pts_s, small_HWC, region_HWC in parts:
                whole_HWC = hostile.pattern(480, 640, int(pts_s))
                np.testing.assert_array_equal(small_HWC, shrink(whole_HWC, 2)[10:20])
                np.testing.assert_array_equal(region_HWC, whole_HWC[5:14, 7:18])


def test_frames_dropped_on_other_threads_make_room(sandbox: Sandbox, tmp_path: Path) -> None:
    with sandbox(shared_bytes=4 << 20).open(patterns_file(tmp_path, 256, 256, 200)) as media:
        queue: Queue[Frame | None] = Queue(4)
        shared: list[bool] = []

        def look() -> None:
            while (frame := queue.get(timeout=60.0)) is not None:
                shared.append(not frame.rgb_HWC.flags.writeable)

        thread = threading.Thread(target=look)
        thread.start()
        for frame in media.frames(ALL):
            queue.put(frame, timeout=60.0)
        queue.put(None)
        thread.join(timeout=60.0)
    assert shared == [True] * 200


def test_picture_that_fills_the_memory_is_not_copied(sandbox: Sandbox, tmp_path: Path) -> None:
    with sandbox(shared_bytes=1 << 20).open(patterns_file(tmp_path, 800, 600, 1, kind="picture")) as media:
        (frame,) = media.frames(ALL)
        assert not frame.rgb_HWC.flags.writeable
        with pytest.raises(RuntimeError, match="still held"):
            media.frames(ALL)
        del frame
        assert len(list(media.frames(ALL))) == 1


def test_shared_memory_stays_bounded_over_many_frames(sandbox: Sandbox, tmp_path: Path) -> None:
    with sandbox().open(patterns_file(tmp_path, 256, 256, 100)) as media:
        biggest = max(shared_bytes() for _ in media.frames(ALL))
    assert 256 * 256 * 3 < biggest <= (FRAMES_AHEAD + 2) * (256 * 256 * 3 + 4096)


def shared_bytes() -> int:
    """Memory behind this process's shared frames, whoever touched it."""
    stats: dict[int, int] = {}
    for name in os.listdir("/proc/self/fd"):
        fd = f"/proc/self/fd/{name}"
        if os.path.lexists(fd) and "memfd:veriframe" in os.readlink(fd):
            stats[os.stat(fd).st_ino] = os.stat(fd).st_blocks * 512
    return sum(stats.values())


def test_nothing_leaks_over_many_files(sandbox: Sandbox, tmp_path: Path) -> None:
    frames = sandbox()
    good = patterns_file(tmp_path, 64, 64, 6)
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps({"deed": "kill_itself"}))

    def open_some(count: int) -> None:
        for number in range(count):
            with frames.open(good) as media:
                for _ in media.frames(ALL):
                    if number % 3 == 0:
                        break
            if number % 5 == 0:
                with pytest.raises(DecodeCrash), frames.open(bad) as media:
                    list(media.frames(ALL))

    open_some(5)
    zygote = psutil.Process(frames.zygote_pid)
    ours = psutil.Process()
    before = ours.num_fds(), zygote.num_fds(), len(ours.memory_maps(grouped=False))
    open_some(30)
    assert (ours.num_fds(), zygote.num_fds()) == before[:2]
    assert len(ours.memory_maps(grouped=False)) < before[2] + 10
    assert zygote.children() == []
    assert zygote.num_threads() == 1


def test_files_in_parallel_threads(sandbox: Sandbox, tmp_path: Path) -> None:
    frames = sandbox()
    wrong: list[int] = []

    def scan(width: int) -> None:
        for _ in range(4):
            with frames.open(patterns_file(tmp_path, width, 32, 8)) as media:
                for number, frame in enumerate(media.frames(ALL)):
                    if not np.array_equal(frame.rgb_HWC, hostile.pattern(32, width, number)):
                        wrong.append(width)

    threads = [threading.Thread(target=scan, args=(width,)) for width in (30, 60, 90)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60.0)
    assert not wrong
    assert not any(thread.is_alive() for thread in threads)


def test_killed_zygote_is_replaced(sandbox: Sandbox, tmp_path: Path) -> None:
    frames = sandbox()
    path = patterns_file(tmp_path, 8, 8, 2)
    with frames.open(path):
        first = frames.zygote_pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    with frames.open(path) as media:
        assert len(list(media.frames(ALL))) == 2
    assert frames.zygote_pid != first


def assert_dies(process: psutil.Process) -> None:
    """Soon; an orphan may then still wait for the system to reap it."""
    deadline_s = time.monotonic() + 60.0
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline_s
            time.sleep(0.005)


def test_zygote_killed_in_mid_file_takes_its_child_along(tmp_path: Path) -> None:
    lost: list[str] = []
    with SandboxedFrames(Limits(), opener="hostile:open_misbehaving", import_path=[HERE], on_lost=lost.append) as frames:
        with frames.open(patterns_file(tmp_path, 8, 8, 500)) as media:
            (child,) = (zygote := psutil.Process(frames.zygote_pid)).children()
            given = media.frames(ALL)
            next(given)
            zygote.kill()
            with pytest.raises(DecodeCrash):
                list(given)
        assert_dies(child)
        with frames.open(patterns_file(tmp_path, 8, 8, 2)) as media:
            assert len(list(media.frames(ALL))) == 2
    assert lost == ["fork_server"]


@pytest.mark.parametrize(("name", "layout"), [("clip", Layout.RGB), ("large_clip", Layout.YUV420)])
def test_real_clip_gives_the_same_frames_as_without_sandbox(
    decoders: SandboxedFrames, request: pytest.FixtureRequest, name: str, layout: Layout
) -> None:
    clip: Path = request.getfixturevalue(name)
    asked = SamplingRequest(strategy=Strategy.UNIFORM, max_frames=8)
    with clip.open("rb") as file, open_media(file, Limits()) as media:
        expected = [(frame.pts_s, frame.rgb_HWC.copy(), frame.small_HWC.copy()) for frame in media.frames(asked)]
        info = media.info
    assert info.layout is layout
    with decoders.open(clip) as boxed:
        assert boxed.info == info
        given = [(frame.pts_s, frame.rgb_HWC.copy(), frame.small_HWC.copy()) for frame in boxed.frames(asked)]
    assert [pts_s for pts_s, *_ in given] == [pts_s for pts_s, *_ in expected]
    for (_, *ours), (_, *theirs) in zip(given, expected, strict=True):
        for ours_HWC, theirs_HWC in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(ours_HWC, theirs_HWC)


def test_decoder_killed_in_mid_file_fails_that_file_only(decoders: SandboxedFrames, clip: Path) -> None:
    with decoders.open(clip) as media:
        child = psutil.Process(decoders.zygote_pid).children()[0]
        given = media.frames(SamplingRequest(strategy=Strategy.UNIFORM, max_frames=40))
        good = next(given).rgb_HWC.copy()
        child.send_signal(signal.SIGKILL)
        with pytest.raises(DecodeCrash, match="SIGKILL"):
            list(given)
        with pytest.raises(DecodeCrash):
            list(media.frames(ALL))
    assert good.shape == (240, 320, 3)
    with decoders.open(clip) as media:
        assert len(list(media.frames(SamplingRequest(strategy=Strategy.UNIFORM, max_frames=8)))) == 8


def test_what_the_child_says_of_bad_media_arrives(decoders: SandboxedFrames, tmp_path: Path) -> None:
    empty, text, broken = tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "broken.png"
    empty.touch()
    text.write_text("no video\n" * 100)
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(64))
    for path, error in ((empty, EmptyMedia), (text, UnsupportedMedia), (broken, CorruptMedia)):
        with pytest.raises(error), decoders.open(path) as media:
            list(media.frames(ALL))


def test_frame_larger_than_announced_is_refused(sandbox: Sandbox, tmp_path: Path) -> None:
    frames = sandbox(shared_bytes=1 << 20)
    with frames.open(patterns_file(tmp_path, 100, 100, 2, understates=True)) as media:
        assert len(list(media.frames(ALL))) == 2  # still fits its slot
    with frames.open(patterns_file(tmp_path, 4200, 4000, 1, understates=True)) as media, pytest.raises(MediaTooLarge):
        list(media.frames(ALL))


def test_only_regular_files_are_opened(sandbox: Sandbox, tmp_path: Path) -> None:
    frames = sandbox()
    link, pipe = tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(patterns_file(tmp_path, 8, 8, 1))
    os.mkfifo(pipe)
    for path in (link, pipe, tmp_path, tmp_path / "absent", Path("/dev/zero")):
        with pytest.raises(SourceError), frames.open(path):
            pass


def test_closing_leaves_no_process(sandbox: Sandbox, tmp_path: Path) -> None:
    with sandbox() as frames, frames.open(patterns_file(tmp_path, 8, 8, 2)):
        zygote = psutil.Process(frames.zygote_pid)
        child = zygote.children()[0]
    assert not zygote.is_running()
    assert_dies(child)


def test_fork_that_fails_is_an_error_of_that_file_only(tmp_path: Path) -> None:
    (tmp_path / "no_fork.py").write_text(
        "import errno, os\n"
        "from hostile import open_misbehaving\n"
        "def warm_up():\n"
        "    forks = iter((forbidden,))\n"
        "    fork = os.fork\n"
        "    os.fork = lambda: next(forks, fork)()\n"
        "def forbidden():\n"
        "    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))\n"
    )
    path = patterns_file(tmp_path, 8, 8, 2)
    with SandboxedFrames(Limits(), opener="no_fork:open_misbehaving", import_path=[HERE, tmp_path]) as frames:
        with pytest.raises(DecodeCrash, match="no process can be started"), frames.open(path):
            pass
        zygote_pid = frames.zygote_pid
        with frames.open(path) as media:
            assert len(list(media.frames(ALL))) == 2
        assert frames.zygote_pid == zygote_pid


def test_child_that_will_not_die_is_left_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that waits for a disk: the zygote goes on, and reaps it with a later command."""
    ours, theirs = socket.socketpair()
    slow = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    unreaped: set[int] = set()
    with ours, theirs, slow:
        channel = wire.Channel(ours)
        with monkeypatch.context() as patch:
            patch.setattr(zygote, "_KILL_WAIT_S", 0.05)
            patch.setattr(os, "wait4", lambda pid, options: (0, 0, None))
            channel.send({"end": {"pid": slow.pid, "grace_s": 0.0}}, timeout_s=1.0)
            zygote._obey(theirs, open_media, unreaped)
        assert wire.read_message(ours.recv) == {"exit": -signal.SIGKILL, "cpu_s": 0.0, "killed": True, "gone": False}
        assert unreaped == {slow.pid}
        deadline_s = time.monotonic() + 10.0
        while unreaped and time.monotonic() < deadline_s:
            other = subprocess.Popen(["true"])
            channel.send({"end": {"pid": other.pid, "grace_s": 5.0}}, timeout_s=1.0)
            zygote._obey(theirs, open_media, unreaped)
            assert wire.read_message(ours.recv)["exit"] == 0
            other.wait()
        assert not unreaped


def test_opener_that_cannot_be_loaded_is_an_error_not_a_hang() -> None:
    frames = SandboxedFrames(Limits(), opener="absent_module:open")
    with frames, pytest.raises(DecodeCrash, match="absent_module"), frames.open(Path(__file__)):
        pass
