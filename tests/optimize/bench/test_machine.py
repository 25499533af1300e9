from __future__ import annotations

import subprocess
from pathlib import Path

from optimize.bench.machine import commit


def test_a_commit_is_of_the_folders_own_repository_alone(tmp_path: Path) -> None:
    inside = tmp_path / "venv" / "site-packages"
    inside.mkdir(parents=True)
    told = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "theirs"]):
        subprocess.run(["git", "-C", str(tmp_path), *told, *words], check=True, capture_output=True)
    assert len(commit(tmp_path) or "") == 10
    assert commit(inside) is None
