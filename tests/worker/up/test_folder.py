"""The folder of what was brought up: for its owner's eyes, one command at a time, gone whole and nothing else with it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from worker.errors import ConfigError, StorageFull
from worker.up.folder import RunFolder, writing
from worker.up.identity import Identity, identity_of


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(path=tmp_path / "run", lock_s=0)
    made.make()
    return made


def own() -> Identity:
    found = identity_of(os.getpid())
    assert found is not None
    return found


def test_it_is_for_its_owner_alone(folder: RunFolder) -> None:
    folder.path.chmod(0o755)
    folder.make()
    folder.write(folder.key, "secret\n")
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert folder.key.stat().st_mode & 0o777 == 0o600
    assert folder.key.read_text() == "secret\n"


def test_a_part_runs_while_it_is_the_process_that_was_recorded(folder: RunFolder) -> None:
    folder.record("api", own())
    assert folder.running("api") == own()
    assert folder.names() == ["api"]
    folder.record("api", Identity(pid=os.getpid(), started="in another life"))
    assert folder.recorded("api") is not None
    assert folder.running("api") is None
    assert folder.running("never-started") is None


@pytest.mark.parametrize("content", ["", "1", "x\ny\n", "-1\nz\n", "0\nz\n", "1\n2\n3\n", "\0"])
def test_a_file_without_sense_names_no_process(folder: RunFolder, content: str) -> None:
    (folder.path / "api.pid").write_text(content)
    assert folder.recorded("api") is None


def test_one_command_at_a_time(folder: RunFolder) -> None:
    with folder.locked(), pytest.raises(ConfigError, match="is at work"), folder.locked():
        pass
    with folder.locked():
        pass


def test_whoever_waited_for_a_folder_that_is_gone_is_told(folder: RunFolder, tmp_path: Path) -> None:
    with folder.locked():
        folder.clear()
    with pytest.raises(ConfigError, match="cannot be opened"), folder.locked():
        pass


def test_it_goes_whole_and_what_is_not_ours_stays(folder: RunFolder, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    folder.record("api", own())
    folder.log("api").write_text("said\n")
    folder.mark()
    (folder.redis / "dump").touch()
    folder.temp.rmdir()
    folder.temp.symlink_to(elsewhere)
    (folder.path / "notes.txt").touch()
    assert folder.clear() == ["notes.txt"]
    assert [path.name for path in folder.path.iterdir()] == ["notes.txt"]
    assert (elsewhere / "kept").exists()
    (folder.path / "notes.txt").unlink()
    assert folder.clear() == []
    assert not folder.path.exists()


def test_the_mark_is_made_once(folder: RunFolder) -> None:
    assert folder.known_mark() is None
    assert folder.mark() == folder.mark() == folder.known_mark()
    (folder.path / "mark").write_text("")
    assert folder.known_mark() is None, "an empty mark would be everybody's"


def test_a_disk_without_room_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(StorageFull, match="no room"):
        RunFolder(path=tmp_path / "run", least_free_bytes=1 << 60).make()
    with pytest.raises(StorageFull, match="no room"), writing(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_place_that_is_no_folder_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written"):
        RunFolder(path=tmp_path / "file").make()


@pytest.mark.parametrize("name", ["worker.yaml", "notes.txt", "artifacts/clip.mp4", "mark"])
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigError, match="was not made by"):
        RunFolder(path=tmp_path).make()
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert (tmp_path / name).read_text() == "mine"


def test_one_that_was_only_begun_is_ours(folder: RunFolder) -> None:
    folder.make()
    folder.refuse_others()
    assert folder.clear() == []


def test_last_words(folder: RunFolder) -> None:
    assert folder.last_words("api") == ""
    folder.log("api").write_text("first\nlast\n\n")
    assert folder.last_words("api") == "last"
    folder.log("api").write_text("first\n[error    ] no model\n[warning  ] started again\n")
    assert folder.last_words("api") == "[error    ] no model"
