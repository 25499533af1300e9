"""Folders for downloads where there can be none."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from worker.errors import ConfigError, StorageFull
from worker.scratch import PREFIX, claim_folder, sweep


@pytest.mark.parametrize(
    ("number", "error"),
    [
        (errno.EROFS, ConfigError),
        (errno.EACCES, ConfigError),
        (errno.EIO, ConfigError),
        (errno.ENOSPC, StorageFull),
        (errno.EDQUOT, StorageFull),
    ],
)
def test_what_keeps_a_folder_from_being_made_is_told_with_setting_and_place(
    number: int, error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(error) as refused, claim_folder(tmp_path):
        pytest.fail("there is no folder")
    assert str(refused.value) == f"source.temp_dir: no folder can be made in {tmp_path}: {os.strerror(number)}"


def test_a_place_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source\.temp_dir"), claim_folder(tmp_path / "missing"):
        pytest.fail("there is no folder")


def test_a_system_without_a_temporary_folder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "gettempdir", refuse)
    with pytest.raises(ConfigError, match=r"source\.temp_dir: No usable"):
        sweep()
    with pytest.raises(ConfigError, match=r"source\.temp_dir: No usable"), claim_folder():
        pytest.fail("there is no folder")


def test_a_folder_is_its_owners_while_that_lives_and_gone_with_it(tmp_path: Path) -> None:
    dead, other, file = tmp_path / f"{PREFIX}dead", tmp_path / "other", tmp_path / f"{PREFIX}file"
    for folder in (dead, other):
        folder.mkdir()
        (folder / "part").touch()
    file.touch()
    link = tmp_path / f"{PREFIX}link"
    link.symlink_to(other)
    with claim_folder(tmp_path) as mine, claim_folder(tmp_path) as yours:
        (mine / "part").touch()
        assert sweep(tmp_path) == [dead]
        assert (mine / "part").exists()
        assert yours.exists()
    assert sorted(tmp_path.iterdir()) == [other, file, link]
    assert (other / "part").exists()


def test_a_folder_of_which_something_stays_is_not_told_as_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folders = [tmp_path / f"{PREFIX}{number}" for number in range(3)]
    for folder in folders:
        folder.mkdir()
        (folder / f"part of {folder.name[-1]}").touch()
    (folders[1] / "other").touch()
    unlink = os.unlink

    def remove(name: str, **given: Any) -> None:
        if name == "part of 1":
            raise OSError(errno.EIO, os.strerror(errno.EIO), name)
        unlink(name, **given)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", remove)
        assert sorted(sweep(tmp_path)) == [folders[0], folders[2]]
    assert [path.name for path in folders[1].iterdir()] == ["part of 1"]
    assert f"cannot remove all that a process that is gone has left: {folders[1]}" in caplog.text
    assert sweep(tmp_path) == [folders[1]]


def test_a_folder_that_is_swept_before_it_is_locked_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first behind ``mkdtemp``, the second in front of ``flock``."""
    made: list[Path] = []
    mkdtemp, flock = tempfile.mkdtemp, fcntl.flock

    def make(**given: Any) -> str:
        made.append(Path(mkdtemp(**given)))
        if len(made) == 1:
            made[0].rmdir()
        return str(made[-1])

    def lock(handle: int, how: int) -> None:
        if len(made) == 2:
            made[1].rmdir()
        flock(handle, how)

    monkeypatch.setattr(tempfile, "mkdtemp", make)
    monkeypatch.setattr(fcntl, "flock", lock)
    with claim_folder(tmp_path) as folder:
        assert folder == made[2]
        assert folder.is_dir()
        assert sweep(tmp_path) == []
