"""Nothing of it stays and nobody else is touched, with stand-ins for the parts: plain processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worker.queue.receivers import soon
from worker.errors import ConfigError, QueueError
from worker.up.folder import RunFolder
from worker.up.identity import Identity, identity_of, is_running, send
from worker.up.parts import Part, start
from worker.up.take_down import Down, take_down

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")
WITH_CHILD = (
    sys.executable,
    "-c",
    "import subprocess, sys; p = subprocess.Popen(sys.argv[1:], start_new_session=True); print(p.pid, flush=True); p.wait()",
    *SLEEP,
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(path=tmp_path / "run")
    made.make()
    made.mark()
    return made


def test_all_parts_end_and_the_folder_goes(folder: RunFolder) -> None:
    begun = [start(folder, Part(name=name, command=SLEEP)) for name in ("redis", "api", "worker-1")]
    assert all(map(is_running, begun))
    assert take_down(folder) == Down(ended=3, stray=0, left=())
    assert not any(map(is_running, begun))
    assert not folder.path.exists()
    assert take_down(folder) is None


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux shows what is in a process's environment")
def test_what_a_killed_part_left_ends_too(folder: RunFolder) -> None:
    part = start(folder, Part(name="worker-1", command=WITH_CHILD))
    assert soon(lambda: folder.last_words("worker-1").isdigit())
    child = identity_of(int(folder.last_words("worker-1")))
    assert child is not None
    send(part, signal.SIGKILL)
    assert soon(lambda: not is_running(part))
    assert take_down(folder) == Down(ended=0, stray=1, left=())
    assert not is_running(child)


def test_a_stale_file_whose_number_is_anothers_now_does_it_no_harm(folder: RunFolder) -> None:
    with subprocess.Popen(SLEEP) as bystander:
        try:
            folder.record("api", Identity(pid=bystander.pid, started="before the last boot"))
            (folder.path / "worker-1.pid").write_text(f"{os.getpid()}\n")
            assert take_down(folder) == Down(ended=0, stray=0, left=())
            assert identity_of(bystander.pid) is not None
        finally:
            bystander.kill()


def test_a_part_that_cannot_be_started_is_said_so(folder: RunFolder) -> None:
    with pytest.raises(QueueError, match="cannot be started"):
        start(folder, Part(name="api", command=("/no/such/program",)))
    assert folder.names() == []


def test_a_folder_that_up_did_not_make_stays_as_it_is(tmp_path: Path) -> None:
    for name in ("tmp/notes", "worker.yaml", "build.log", "key"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    with pytest.raises(ConfigError, match="was not made by"):
        take_down(RunFolder(path=tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build.log", "key", "tmp", "worker.yaml"]
    assert (tmp_path / "tmp" / "notes").read_text() == "mine"
