"""Settings and commands of what is brought up: kept apart from the environment, and no secret among arguments."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.errors import ConfigError
from worker.settings import Settings
from worker.up.folder import RunFolder
from worker.up.parts import configure_redis, is_planned_from, parts, plan, stored


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(path=tmp_path / "a run")
    made.make()
    return made


def test_what_was_planned_is_what_is_stored(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    base = Settings.model_validate({"verdict": {"min_votes": 5}, "artifacts": {"url": "s3://bucket/elsewhere"}})
    planned = plan(folder, base, port=0)
    monkeypatch.setenv("VERIFRAME_REDIS__URL", "redis://elsewhere:6379/0")
    assert stored(folder) == planned
    assert planned.verdict.min_votes == 5
    assert planned.api.port != 0
    assert planned.artifacts.url == str(folder.artifacts)
    assert planned.artifacts.keep_s > 0
    assert planned.redis.password is not None
    assert folder.settings.stat().st_mode & 0o777 == 0o600


def test_settings_are_known_again_among_others(folder: RunFolder) -> None:
    base, other = (Settings.model_validate({"verdict": {"min_votes": votes}}) for votes in (5, 6))
    for port in (0, 8090):
        planned = plan(folder, base, port=port)
        assert is_planned_from(base, folder, planned)
        assert not is_planned_from(other, folder, planned)


def test_nothing_is_stored_where_nothing_was_brought_up(folder: RunFolder) -> None:
    assert stored(folder) is None


@pytest.mark.parametrize("content", ["no: [yaml", "a list", "api: {port: x}", "unknown: {}"])
def test_damaged_settings_are_said_so(folder: RunFolder, content: str) -> None:
    folder.settings.write_text(content)
    with pytest.raises(ConfigError, match="damaged"):
        stored(folder)


def test_redis_comes_first_and_its_password_is_in_files_alone(folder: RunFolder) -> None:
    settings = plan(folder, Settings(), port=8090)
    assert settings.api.port == 8090
    assert settings.redis.password is not None
    secret = settings.redis.password.get_secret_value()
    made = parts(folder, settings, workers=3)
    assert [part.name for part in made] == ["redis", "api", "worker-1", "worker-2", "worker-3"]
    assert not [part for part in made if secret in " ".join(part.command)]
    assert [part.name for part in made if "--no-courier" in part.command] == ["worker-2", "worker-3"]
    configure_redis(folder, settings)
    conf = folder.redis / "redis.conf"
    assert f'requirepass "{secret}"' in conf.read_text().splitlines()
    assert "appendonly yes" in conf.read_text().splitlines()
    assert conf.stat().st_mode & 0o777 == 0o600
