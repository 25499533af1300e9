"""``veriframe serve``: the HTTP API, until told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.commands.options import ConfigOption
from worker.commands.outcome import exit_codes

if TYPE_CHECKING:
    import contextlib
    import socket

    from fastapi import FastAPI

    from worker.api.metrics import Metrics
    from worker.settings import Settings

EPILOG = """[bold]Examples[/]

\b
veriframe serve                               127.0.0.1:8080, or as the settings say
veriframe serve --host 0.0.0.0 --port 80      behind a proxy that ends TLS
VERIFRAME_ARTIFACTS__URL=/srv/veriframe veriframe serve     takes uploads
veriframe keys create acme                    an API key for it
veriframe keys create acme --scope read --scope feedback    one for reviewers, to sign in at /console

[bold]Exit codes[/]

\b
0    stopped as asked: requests under way were answered first
2    a setting cannot be used, or the port is taken
4    internal error
"""
PATIENCE_S = 5.0
"""A caller waits no longer than this for a Redis that is away; then 503."""
SCRAPE_S = 2.0
"""Prometheus waits no longer than some seconds: that Redis does not answer is an answer, too, and must come in time."""
STOP_S = 30
"""On SIGTERM, requests under way may take so long."""
app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)


@app.command(epilog=EPILOG)
def serve(
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Listen on this address.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Listen on this port; 0: any free one.")] = None,
    config: ConfigOption = None,
) -> None:
    """Serve the HTTP API: scans, uploads, feedback, probes and metrics (docs/api.md describes it, /openapi.json defines it); and
    the review console at /console (docs/console.md).

    It needs Redis; workers scan what it takes in. Any number of servers may run at a time. It speaks plain HTTP and believes no
    proxy's headers: let a proxy end TLS, and pass /readyz and /metrics to your own machines only.
    """
    with exit_codes():
        flags = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
        run_server(config, flags)


def run_server(config: Path | None, flags: dict[str, str | int]) -> None:
    """Until SIGTERM, SIGINT or SIGHUP. Raises ConfigError."""
    import contextlib
    import logging

    import uvicorn

    from worker.interrupts import stop_on_signals
    from worker.settings import default_file, load_settings
    from worker.telemetry.logs import begin_logging

    begin_logging()
    settings = load_settings(config or default_file(), {"api": flags})
    begin_logging(settings.telemetry.log_format, settings.telemetry.log_level)
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(_listening(settings.api.host, settings.api.port))
        server = uvicorn.Server(
            uvicorn.Config(
                build_application(settings, stack),
                http="h11",
                ws="none",
                lifespan="off",
                access_log=False,
                log_config=None,
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=STOP_S,
            )
        )
        # uvicorn hears the first two itself, and raises them again when it is done: the exit code is ours to give.
        stop_on_signals(lambda: setattr(server, "should_exit", True))
        address, port = listening.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        logging.getLogger("worker").info("listening on http://%s:%d", shown, port)
        server.run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    import socket

    from worker.errors import ConfigError

    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except (OSError, UnicodeError) as exc:
        raise ConfigError(f"cannot listen on {host} port {port}: {exc}; give another by --host and --port") from exc


def build_application(settings: Settings, stack: contextlib.ExitStack) -> FastAPI:
    """The application; ``stack`` closes what it uses. Raises ConfigError."""
    import contextlib

    from worker.api.app import build_app
    from worker.api.intake import Intake
    from worker.api.parts import Parts
    from worker.artifacts import open_store
    from worker.guards import build_callback_guard, build_source_guard
    from worker.queue.access import ApiKeys
    from worker.queue.front import build_desk, build_redis
    from worker.queue.quotas import Quotas
    from worker.queue.roster import Roster

    hasty = {"timeout_s": min(settings.redis.timeout_s, PATIENCE_S), "patience_s": min(settings.redis.patience_s, PATIENCE_S)}
    impatient = settings.model_copy(update={"redis": settings.redis.model_copy(update=hasty)})
    redis = stack.enter_context(contextlib.closing(build_redis(impatient)))
    namespace, api = settings.redis.namespace, settings.api
    desk, roster = build_desk(settings, redis), Roster(redis, namespace)
    store = open_store(settings.artifacts.url, clock=desk.records.now_s)
    keep_s = settings.artifacts.upload_keep_s
    intake = Intake(redis, namespace, store, max_bytes=api.max_upload_bytes, keep_s=keep_s) if store.retains else None
    a_day = {"scans_per_day": api.scans_per_day, "decisions_per_day": api.decisions_per_day}
    parts = Parts(
        desk=desk,
        keys=ApiKeys(redis, namespace),
        quotas=Quotas(redis, namespace, requests_per_minute=api.requests_per_minute, **a_day),
        roster=roster,
        metrics=_build_metrics(settings, stack),
        check_source=build_source_guard(settings).check_url,
        check_callback=build_callback_guard(settings).check_url,
        intake=intake,
        artifacts=store,
        takes_paths=bool(settings.queue.media_roots),
    )
    max_upload_bytes = api.max_upload_bytes
    if not api.console:
        return build_app(parts, max_body_bytes=api.max_body_bytes, max_upload_bytes=max_upload_bytes)
    from worker.console.app import LIMITS, mount_console

    app = build_app(parts, max_body_bytes=api.max_body_bytes, max_upload_bytes=max_upload_bytes, limits=LIMITS)
    mount_console(app, parts, secure=api.console_secure, session_s=api.console_session_s, max_upload_bytes=max_upload_bytes)
    return app


def _build_metrics(settings: Settings, stack: contextlib.ExitStack) -> Metrics:
    """They ask Redis by a client of their own, which gives up in time."""
    import contextlib

    from worker.api.metrics import Metrics
    from worker.queue.front import build_desk, build_redis
    from worker.queue.roster import Roster

    hasty = {"timeout_s": min(settings.redis.timeout_s, SCRAPE_S), "patience_s": min(settings.redis.patience_s, SCRAPE_S / 2)}
    brisk = settings.model_copy(update={"redis": settings.redis.model_copy(update=hasty)})
    redis = stack.enter_context(contextlib.closing(build_redis(brisk)))
    return Metrics(build_desk(settings, redis), Roster(redis, settings.redis.namespace))
