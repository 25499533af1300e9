"""``veriframe watch``: flags to settings, one stream watched until it ends, an exit code."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from worker.commands import outcome
from worker.commands.options import BackendOption, EngineConfigOption, FailOn, FailOnOption, ModelOption

app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)

_PART = re.compile(r"(\d+(?:\.\d+)?)(h|m|s|)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "": 1.0}

HELP = (
    "Watch a live stream, or a file that is still being written: a verdict on each window of time as it passes, events when a "
    "face appears or a verdict changes, and a report at the end.\n\n"
    "Read are HLS, MPEG-TS and FLV over HTTP, and MPEG-TS and FLV files that grow. It keeps up with the stream: what it is too "
    "slow for is left out and counted. Settings come from a file, then the environment (VERIFRAME_WATCH__KEY), then these flags."
)
EPILOG = """[bold]Examples[/]

\b
veriframe watch https://example.org/live.m3u8
veriframe watch https://example.org/live.m3u8 --format jsonl
veriframe watch https://example.org/live.ts --window 20s --hop 10s
veriframe watch recording.ts --max-duration 1h --out reports

[bold]Exit codes[/]

\b
0    the stream was watched until its end or --max-duration
1    the whole of it has a --fail-on verdict
2    usage: a flag, a setting, no such model or file
3    it could not be watched, or not to its end; the report says
     why (wins over 1)
4    internal error
130  stopped by Ctrl-C (SIGTERM: 143, SIGHUP: 129); the report
     so far is printed and written; a second Ctrl-C kills
141  nobody reads standard output any more; the report so far is
     written
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchArguments:
    """What ``run_watch`` needs beyond the settings."""

    target: str
    format: Literal["table", "jsonl"]
    windows: bool
    out: Path | None
    fail_on: Sequence[FailOn]


def duration(text: str) -> float:
    """Seconds of ``90``, ``10s``, ``5m`` or ``1h30m``. Raises BadParameter."""
    parts = _PART.findall(text)
    total = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not total > 0:
        raise typer.BadParameter(f"{text!r} is no duration: give seconds, or such as 10s, 5m, 1h30m")
    return total


@app.command(help=HELP, epilog=EPILOG)
def watch(
    ctx: typer.Context,
    target: Annotated[str, typer.Argument(metavar="URL|FILE", help="An address, or a file that is being written.")],
    window: Annotated[
        float | None, typer.Option(parser=duration, metavar="TIME", help="Length of a window, such as 10s (default).")
    ] = None,
    hop: Annotated[
        float | None, typer.Option(parser=duration, metavar="TIME", help="A verdict every so often; default: half a window.")
    ] = None,
    max_duration: Annotated[
        float | None, typer.Option(parser=duration, metavar="TIME", help="Stop after so much of the stream; default 6h.")
    ] = None,
    fps: Annotated[float | None, typer.Option(metavar="N", help="Frames looked at in a second; default 2.")] = None,
    format: Annotated[
        Literal["table", "jsonl"], typer.Option(metavar="NAME", help="table, or events and the report as jsonl.")
    ] = "table",
    windows: Annotated[bool, typer.Option("--windows", help="With jsonl: every window's result, too.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for page, report (JSON) and evidence crops.", metavar="DIR")] = None,
    fail_on: FailOnOption = None,
    model: ModelOption = None,
    backend: BackendOption = None,
    threads: Annotated[
        int | None,
        typer.Option(min=1, max=64, metavar="N", help="Threads; default: the cores, at most 4.", rich_help_panel="Engine"),
    ] = None,
    config: EngineConfigOption = None,
) -> None:
    """Flags to settings; see HELP."""
    with outcome.exit_codes():
        flags: dict[str, dict[str, Any]] = {
            "watch": {
                "window_s": window,
                "hop_s": hop or (window / 2 if window else None),
                "max_duration_s": max_duration,
                "fps": fps,
            },
            "model": {"checkpoint": model, "backend": backend, "threads": threads},
        }
        arguments = WatchArguments(target=target, format=format, windows=windows, out=out, fail_on=fail_on or [])
        code = run_watch(arguments, config, flags, build=ctx.obj)
    raise typer.Exit(code)


def run_watch(arguments: WatchArguments, config: Path | None, flags: dict[str, dict[str, Any]], *, build: Any = None) -> int:
    """Watch and print; returns the exit code. ``build`` opens a scanner that looks at pieces; by default the real one.

    Raises ConfigError, ModelError, StorageError.
    """
    from worker.errors import ConfigError
    from worker.output.folder import ReportFolder
    from worker.settings import default_file, load_settings
    from worker.source.files import find_items
    from worker.watch.show import JsonLines, Table

    given = {section: {key: value for key, value in keys.items() if value is not None} for section, keys in flags.items()}
    settings = load_settings(config or default_file(), given)
    items = list(find_items([arguments.target], urls=True))
    if len(items) != 1 or items[0].refusal is not None:
        raise ConfigError(f"{arguments.target}: {items[0].refusal if len(items) == 1 else 'give one address or one file'}")
    folder = None
    if arguments.out is not None:
        from worker.pages.folder import FolderPages

        folder = ReportFolder(arguments.out, FolderPages(arguments.out))
    show = JsonLines(sys.stdout, windows=arguments.windows) if arguments.format == "jsonl" else Table(sys.stdout)
    if build is None:
        from worker.compose import build_scanner

        build = build_scanner
    from worker.watch.command import watch_item

    report, crops, stopped = watch_item(settings, build, items[0], show)
    try:
        if folder is not None:
            folder.save(items[0].path, report, crops, None, "")
            folder.close()
    finally:
        show.report(report)
    if stopped:
        return stopped
    if report.status == "failed" or outcome.lost_its_stream(report):
        return outcome.ITEMS_FAILED
    return outcome.FAIL_ON if any(report.verdict == verdict.value for verdict in arguments.fail_on) else outcome.SCANNED
