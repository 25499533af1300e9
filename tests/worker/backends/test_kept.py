from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from worker.backends.kept import find_kept, forget_oldest, keep_bytes, map_kept, private_cache, user_cache
from worker.errors import ConfigError


def test_kept_bytes_are_found_and_damaged_ones_removed(tmp_path: Path) -> None:
    assert find_kept(tmp_path, "k-", ".blob") is None
    kept = keep_bytes(tmp_path, "k-", ".blob", b"graph")
    assert find_kept(tmp_path, "k-", ".blob") == kept
    assert find_kept(tmp_path, "other-", ".blob") is None
    kept.write_bytes(b"Graph")
    assert find_kept(tmp_path, "k-", ".blob") is None
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_used_for_longest_is_forgotten(tmp_path: Path) -> None:
    for age in (3, 0, 6, 1, 5, 2, 4):
        path = tmp_path / f"{age}{'.txt' if age == 6 else '.blob'}"
        path.write_bytes(b"graph")
        os.utime(path, (1e9 - age, 1e9 - age))
    forget_oldest(tmp_path, ".blob", most=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.blob", "1.blob", "6.txt"]
    forget_oldest(tmp_path / "missing", ".blob", most=2)


def test_a_folder_in_which_others_could_have_put_files_is_refused(tmp_path: Path) -> None:
    """The names of kept files hold no secret: anybody could make a file of the right name."""
    folder = private_cache(tmp_path / "parent" / "cache")
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o775)
    assert private_cache(folder).stat().st_mode & 0o777 == 0o700, "an empty one is closed"
    (folder / "k-planted.blob").write_bytes(b"graph")
    folder.chmod(0o775)
    with pytest.raises(ConfigError, match="others may write to"):
        private_cache(folder)
    folder.chmod(0o755)
    assert private_cache(folder).stat().st_mode & 0o777 == 0o700, "others could read only"


def test_the_cache_folder_follows_the_xdg_standard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "veriframe"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache() == Path.home() / ".cache" / "veriframe"


def test_a_user_without_a_home_folder_is_told_to_name_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    def getpwuid(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", getpwuid)
    assert not user_cache().exists()
    with pytest.raises(ConfigError, match=r"no-home-folder.*; set model\.cache_dir"):
        private_cache(user_cache())


def test_what_cannot_be_removed_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "k-folder.blob").mkdir()
    assert find_kept(tmp_path, "k-", ".blob") is None
    kept = keep_bytes(tmp_path, "k-", ".blob", b"graph")
    assert find_kept(tmp_path, "k-", ".blob") == kept


def test_kept_bytes_are_mapped_where_they_are_sound_and_count_as_used(tmp_path: Path) -> None:
    (tmp_path / "k-folder.blob").mkdir()
    assert map_kept(tmp_path, "k-", ".blob") is None
    kept = keep_bytes(tmp_path, "k-", ".blob", b"graph")
    os.utime(kept, (1e9, 1e9))
    found = map_kept(tmp_path, "k-", ".blob")
    assert found is not None
    assert (found[0], found[1].tobytes()) == (kept, b"graph")
    assert kept.stat().st_mtime > 1e9
    kept.unlink()
    assert found[1].tobytes() == b"graph", "as long as it is held"
    for damaged in (b"Graph", b""):
        kept.write_bytes(damaged)
        assert map_kept(tmp_path, "k-", ".blob") is None
        assert not kept.exists()
