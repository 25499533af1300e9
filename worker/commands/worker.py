"""``veriframe worker``: scan what is queued, until told to stop."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.commands.outcome import exit_codes

if TYPE_CHECKING:
    from worker.queue.supervisor import Program
    from worker.settings import Settings

HELP = (
    "Scan what is queued in Redis, until told to stop.\n\n"
    "Each process has a parent, which takes scans and watches over them, and a child, which holds the model. A killed one is "
    "started again. SIGTERM, SIGHUP or Ctrl-C: running scans may end within queue.grace_s, or are handed back. Results are "
    "called back by a courier, started beside the workers."
)
EPILOG = """[bold]Examples[/]

\b
veriframe worker                                   all queues: live, then batch, then low
veriframe worker --queue live --processes 2        two processes for live scans only
veriframe worker --queue watch --processes 4       streams, one at a time each: a deployment of its own
VERIFRAME_TELEMETRY__PORT=0 veriframe worker       metrics on any free port, not 9464: several workers on one machine
veriframe worker --probe 0.0.0.0:8081              /livez and /readyz for an orchestrator
VERIFRAME_REDIS__URL=rediss://redis:6380/0 veriframe worker --config worker.yaml

[bold]Exit codes[/]

\b
0    stopped as asked
2    a setting, no such model
4    internal error
"""


class Queue(StrEnum):
    LIVE = "live"
    BATCH = "batch"
    LOW = "low"
    WATCH = "watch"


app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)


@app.command(help=HELP, epilog=EPILOG)
def worker(
    queue: Annotated[
        list[Queue] | None, typer.Option(metavar="NAME", help="live, batch, low, watch, in this order; default: the first three.")
    ] = None,
    processes: Annotated[int, typer.Option(min=1, max=64, metavar="N", help="Worker processes, each with a model.")] = 1,
    courier: Annotated[bool, typer.Option(help="Deliver callbacks as well.")] = True,
    probe: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Serve /livez and /readyz here.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="Settings; default: configs/worker.yaml.")] = None,
) -> None:
    """See HELP."""
    with exit_codes():
        code = run_worker(list(queue or ("live", "batch", "low")), processes, courier, probe, config)
    raise typer.Exit(code)


def run_worker(queues: list[Any], processes: int, courier: bool, probe: str | None, config: Path | None) -> int:
    """Supervise until a signal; returns the exit code. Raises ConfigError."""
    import contextlib

    from worker.interrupts import stop_on_signals
    from worker.queue.board import open_board
    from worker.queue.probes import probes
    from worker.queue.requests import QUEUES
    from worker.queue.supervisor import Supervisor
    from worker.settings import default_file, load_settings
    from worker.telemetry.logs import begin_logging

    begin_logging()
    settings = load_settings(config or default_file())
    begin_logging(settings.telemetry.log_format, settings.telemetry.log_level)
    _check_redis(settings)
    with contextlib.ExitStack() as stack:
        board = stack.enter_context(open_board(settings.telemetry, settings.source.temp_dir))
        supervisor = Supervisor(
            programs=_programs(settings, sorted(set(queues), key=QUEUES.index), processes, courier, board.folder),
            grace_s=settings.queue.grace_s + 10,
            silent_s=settings.queue.boot_timeout_s + 60 + 2 * (settings.redis.patience_s + settings.redis.timeout_s),
            telemetry=board.telemetry,
        )
        stop_on_signals(supervisor.stop)
        answers = {"/livez": supervisor.is_live, "/readyz": supervisor.is_ready}
        stack.enter_context(board.serve(answers))
        if probe is not None:
            stack.enter_context(probes(*address(probe), answers, setting="--probe"))
        return supervisor.run()


def _programs(settings: Settings, queues: list[str], processes: int, courier: bool, telemetry: str | None) -> list[Program]:
    from worker.queue.assemble import SCANNER, STREAMS, told_settings
    from worker.queue.supervisor import Program

    told = {"settings": told_settings(settings), "telemetry": telemetry}
    order = {**told, "queues": queues, "build": SCANNER, "streams": STREAMS}
    programs = [Program(name=f"worker {n + 1}", module="worker.queue.parent", order=order) for n in range(processes)]
    if courier:
        programs.append(Program(name="courier", module="worker.queue.courier_process", order=told))
    return programs


def _check_redis(settings: Settings) -> None:
    """Say what a queue should not run on. Raises ConfigError."""
    import contextlib
    import logging

    from worker.errors import RedisDown
    from worker.queue.assemble import brisk_redis
    from worker.queue.server import server_problems

    with contextlib.closing(brisk_redis(settings)) as redis:
        try:
            problems = server_problems(redis, settings.redis.namespace)
        except RedisDown as exc:  # workers wait for it
            problems = (str(exc),)
    for problem in problems:
        logging.getLogger("worker").warning("Redis: %s", problem)


def address(text: str) -> tuple[str, int]:
    """``HOST:PORT``. Raises ConfigError."""
    from worker.errors import ConfigError

    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{text!r} is no address: give HOST:PORT, such as 0.0.0.0:8081")
    return host.strip("[]"), int(port)
