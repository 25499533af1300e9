"""``veriframe courier``: deliver callbacks, until told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.commands.options import ConfigOption
from worker.commands.outcome import exit_codes

EPILOG = """[bold]Examples[/]

\b
veriframe courier                             until SIGTERM, SIGHUP or Ctrl-C; what is being sent is finished
veriframe courier --once                      what is due now, then end
VERIFRAME_CALLBACKS__PARALLEL=32 veriframe courier

[bold]Exit codes[/]

\b
0    stopped as asked
2    a setting cannot be used
4    with --once: Redis is away; internal error
"""
app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)


@app.command(epilog=EPILOG)
def courier(
    once: Annotated[bool, typer.Option("--once", help="Deliver what is due now, then end.")] = False,
    config: ConfigOption = None,
) -> None:
    """Deliver callbacks: signed, at least once each, tried again for hours. Any number of couriers may run at a time.

    A worker starts one of its own; this command is for a courier apart from the workers, such as behind another firewall.
    """
    with exit_codes():
        run_courier(config, once=once)


def run_courier(config: Path | None, *, once: bool) -> None:
    """Raises ConfigError; RedisDown with ``once``."""
    import contextlib
    import threading
    from concurrent.futures import ThreadPoolExecutor

    from worker.interrupts import stop_on_signals
    from worker.queue.assemble import build_courier
    from worker.queue.board import open_board
    from worker.queue.front import build_redis
    from worker.settings import default_file, load_settings
    from worker.telemetry.logs import begin_logging

    begin_logging()
    settings = load_settings(config or default_file())
    begin_logging(settings.telemetry.log_format, settings.telemetry.log_level)
    shown = settings.telemetry.model_copy(update={"port": None} if once else {})
    with contextlib.ExitStack() as stack:
        board = stack.enter_context(open_board(shown, settings.source.temp_dir))
        redis = stack.enter_context(contextlib.closing(build_redis(settings)))
        made = stack.enter_context(build_courier(settings, redis, board.telemetry))
        if once:
            tries = made.run_once()
            typer.echo(f"{tries} tries; {made.callbacks.pending()} callbacks wait", err=True)
            return
        stop = threading.Event()
        stop_on_signals(stop.set)
        # In a thread of its own: this one stays free for signals, whose handlers run on it.
        pool = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="run"))
        running = pool.submit(made.run, stop)
        stack.callback(stop.set)
        stack.enter_context(board.serve({path: lambda: not running.done() for path in ("/livez", "/readyz")}))
        running.result()
