"""Folders for downloads where there can be none."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from worker.errors import ConfigError, StorageFull
from worker.scratch import claim_folder, sweep


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
