from __future__ import annotations

from pathlib import Path

import pytest

from worker.backends.kept import find_kept, keep_bytes, user_cache


def test_kept_bytes_are_found_and_damaged_ones_removed(tmp_path: Path) -> None:
    assert find_kept(tmp_path, "k-", ".blob") is None
    kept = keep_bytes(tmp_path, "k-", ".blob", b"graph")
    assert find_kept(tmp_path, "k-", ".blob") == kept
    assert find_kept(tmp_path, "other-", ".blob") is None
    kept.write_bytes(b"Graph")
    assert find_kept(tmp_path, "k-", ".blob") is None
    assert list(tmp_path.iterdir()) == []


def test_the_cache_folder_follows_the_xdg_standard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "veriframe"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert user_cache() == Path.home() / ".cache" / "veriframe"
