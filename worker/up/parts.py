"""The parts of the service as processes that outlive the one that starts them: their settings, their commands, their start."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from worker.errors import ConfigError, QueueError
from worker.output.text import escaped
from worker.queue.assemble import read_settings, told_settings
from worker.queue.embedded import EmbeddedRedis, free_port
from worker.settings import Settings, read_yaml
from worker.up import API, REDIS
from worker.up.folder import RunFolder, writing
from worker.up.identity import MARK, Identity, identity_of

KEEP_S = 7 * 86400
"""What is kept by default in the service (nothing) would show no evidence in the console; the folder goes whole at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """``name`` is that of its pid and log files."""

    name: str
    command: tuple[str, ...]


def plan(folder: RunFolder, base: Settings, *, port: int | None) -> Settings:
    """The settings of a service in ``folder``, over the user's own, stored there. ``port``: of the API, 0 for any free one."""
    api = base.api.port if port is None else port
    server = {"url": f"redis://127.0.0.1:{free_port()}/0", "password": secrets.token_urlsafe(24)}
    told = _laid_over(folder, base, server, api or free_port())
    folder.write(folder.settings, yaml.safe_dump(told))
    return read_settings(told)


def is_planned_from(base: Settings, folder: RunFolder, settings: Settings) -> bool:
    """Whether these, planned before, are the user's own as they are now."""
    return read_settings(_laid_over(folder, base, told_settings(settings)["redis"], settings.api.port)) == settings


def _laid_over(folder: RunFolder, base: Settings, server: dict[str, Any], port: int) -> dict[str, Any]:
    told = told_settings(base)
    told["redis"] = server
    told["source"]["temp_dir"] = str(folder.temp)
    told["artifacts"] |= {"url": str(folder.artifacts), "keep_s": KEEP_S, "media_keep_s": KEEP_S, "upload_keep_s": KEEP_S}
    told["telemetry"] |= {"port": 0, "log_format": "text"}  # two workers share no port, and people read these logs
    told["api"] |= {"port": port, "console": True, "console_secure": False}
    return told


def stored(folder: RunFolder) -> Settings | None:
    """What ``plan`` stored, whatever the environment says now; None where nothing was brought up. Raises ConfigError."""
    try:
        return read_settings(read_yaml(folder.settings.read_text("utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, ConfigError) as exc:
        raise ConfigError(f"{folder.settings} is damaged: `veriframe down`, then up again") from exc


def parts(folder: RunFolder, settings: Settings, *, workers: int) -> list[Part]:
    """In the order in which they start: the one that all others need comes first."""
    veriframe = (sys.executable, "-m", "worker.cli")
    config = ("--config", str(folder.settings))
    server = _redis_server(folder, settings)
    return [
        Part(name=REDIS, command=(str(server.binary), str(folder.redis / "redis.conf"))),
        Part(name=API, command=(*veriframe, "serve", *config)),
        *(
            Part(name=f"worker-{number}", command=(*veriframe, "worker", *config, *(() if number == 1 else ("--no-courier",))))
            for number in range(1, workers + 1)
        ),
    ]


def configure_redis(folder: RunFolder, settings: Settings) -> None:
    """Its configuration in a file for the owner's eyes: the password is no argument."""
    folder.write(folder.redis / "redis.conf", _redis_server(folder, settings).configuration())


def start(folder: RunFolder, part: Part) -> Identity:
    """In a session of its own: neither Ctrl-C nor the end of the terminal is for it. Raises QueueError."""
    with writing(folder.log(part.name)), folder.log(part.name).open("ab") as log:
        os.fchmod(log.fileno(), 0o600)
        try:
            process = subprocess.Popen(
                part.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(folder),
                start_new_session=True,
            )
        except OSError as exc:
            raise QueueError(f"{part.name} cannot be started: {exc}") from exc
    identity = identity_of(process.pid)
    if identity is None:
        raise QueueError(f"{part.name} ended at once: {escaped(folder.last_words(part.name)) or 'it says nothing'}")
    folder.record(part.name, identity)
    process.returncode = 0  # it outlives us: nothing is to wait for it, nor to complain that it runs
    return identity


def _environment(folder: RunFolder) -> Mapping[str, str]:
    """Settings come from the file alone; temporary files go into the folder; the mark finds what was left behind."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("VERIFRAME_")}
    return {**kept, "TMPDIR": str(folder.temp), MARK: folder.mark()}


def _redis_server(folder: RunFolder, settings: Settings) -> EmbeddedRedis:
    password = settings.redis.password
    return EmbeddedRedis(
        folder.redis,
        port=int(settings.redis.url.rpartition(":")[2].partition("/")[0]),
        appendonly=True,
        password=None if password is None else password.get_secret_value(),
        options={"logfile": '""'},
    )
