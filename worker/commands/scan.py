"""``veriframe scan``: flags to settings, one run of a batch, an exit code."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from worker.commands import outcome
from worker.commands.options import (
    BackendOption,
    EngineConfigOption,
    ExcludeOption,
    FailOn,
    FailOnOption,
    IncludeOption,
    ModelOption,
    WorkersOption,
    seconds,
)

app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)

Format = Literal["table", "json", "jsonl", "csv"]


HELP = (
    "Scan video and pictures for deepfaked faces: a verdict with evidence for each.\n\n"
    "Addresses are fetched within the limits of the settings' section source, and deleted after the scan. "
    "Folders are scanned whole, links in them not followed; content decides what a file is, not its name. One bad item never "
    "stops the rest. Settings come from a file, then the environment (VERIFRAME_SECTION__KEY), then these flags."
)
EPILOG = """[bold]Examples[/]

\b
veriframe scan clip.mp4
veriframe scan ~/Videos --out reports             keep reports and crops
veriframe scan ~/Videos --out reports --resume    go on after a stop
veriframe scan 'in/**/*.mov' --workers 4          four items at a time
veriframe scan https://example.org/clip.mp4       fetched, scanned, deleted
veriframe scan in --exclude '.*' --format csv     no hidden files
veriframe scan upload.mp4 --fail-on fake --fail-on uncertain
find . -size +1M -print0 | veriframe scan - --format jsonl

[bold]Exit codes[/]

\b
0    every item was scanned
1    an item has a --fail-on verdict
2    usage: a flag, a setting, no such model, nothing to scan
3    some items failed (wins over 1); their reports say why
4    internal error
130  stopped by Ctrl-C (SIGTERM: 143, SIGHUP: 129); what was
     finished is printed and written; a second Ctrl-C kills
141  nobody reads standard output any more
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanArguments:
    """What ``run_scan`` needs beyond the settings."""

    paths: list[str]
    format: Format
    out: Path | None
    workers: int
    resume: bool
    fail_on: list[FailOn]
    include: list[str]
    exclude: list[str]
    threads_given: bool
    quiet: bool


@app.command(help=HELP, epilog=EPILOG)
def scan(
    ctx: typer.Context,
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH|URL", help="Files, folders (all below), addresses, quoted globs, or - for a list on standard input."
        ),
    ],
    format: Annotated[
        Format, typer.Option(metavar="NAME", help="table, or whole reports as json or jsonl (each at once), or csv.")
    ] = "table",
    out: Annotated[Path | None, typer.Option(help="Folder for pages, reports (JSON) and evidence.", metavar="DIR")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Skip what --out holds: same bytes, model and options.")] = False,
    workers: WorkersOption = 1,
    fail_on: FailOnOption = None,
    include: IncludeOption = None,
    exclude: ExcludeOption = None,
    explain: Annotated[
        bool | None,
        typer.Option("--explain/--no-explain", help="With --out: maps of what in a face the score hangs on; takes longer."),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary.")] = False,
    strategy: Annotated[
        Literal["auto", "uniform", "fps", "keyframes"] | None,
        typer.Option(
            metavar="NAME",
            help="auto (default), uniform, fps or keyframes: which frames are looked at.",
            rich_help_panel="Sampling",
        ),
    ] = None,
    max_frames: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Most frames looked at in an item.", rich_help_panel="Sampling")
    ] = None,
    fps: Annotated[
        float | None, typer.Option(metavar="N", help="Frames a second; implies --strategy fps.", rich_help_panel="Sampling")
    ] = None,
    start: Annotated[
        float | None,
        typer.Option(parser=seconds, metavar="TIME", help="Begin here: seconds or mm:ss.", rich_help_panel="Sampling"),
    ] = None,
    end: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help="End here: seconds or mm:ss.", rich_help_panel="Sampling")
    ] = None,
    exhaustive: Annotated[
        bool,
        typer.Option("--exhaustive", help="Score every frame, even where fewer settle the verdict.", rich_help_panel="Sampling"),
    ] = False,
    model: ModelOption = None,
    backend: BackendOption = None,
    decoder: Annotated[
        Literal["auto", "pyav", "decord", "nvdec"] | None,
        typer.Option(metavar="NAME", help="auto, pyav, decord or nvdec.", rich_help_panel="Engine"),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=64,
            metavar="N",
            help="Threads of each worker; default: its share of the cores, at most 4.",
            rich_help_panel="Engine",
        ),
    ] = None,
    config: EngineConfigOption = None,
) -> None:
    """Flags to settings; see HELP."""
    with outcome.exit_codes():
        flags: dict[str, dict[str, Any]] = {
            "sampling": {
                "strategy": strategy or ("fps" if fps is not None else None),
                "max_frames": max_frames,
                "fps": fps,
                "start_s": start,
                "end_s": end,
                "exhaustive": exhaustive or None,
            },
            "model": {"checkpoint": model, "backend": backend, "threads": threads},
            "decode": {"decoder": decoder, "threads": threads},
            "output": {"explain": explain},
        }
        arguments = ScanArguments(
            paths=paths,
            format=format,
            out=out,
            workers=workers,
            resume=resume,
            fail_on=fail_on or [],
            include=include or [],
            exclude=exclude or [],
            threads_given=threads is not None,
            quiet=quiet,
        )
        code = run_scan(arguments, config, flags, build=ctx.obj)
    raise typer.Exit(code)


def run_scan(arguments: ScanArguments, config: Path | None, flags: dict[str, dict[str, Any]], *, build: Any = None) -> int:
    """Scan and print; returns the exit code. ``build`` opens a scanner (``worker.jobs.BuildScanner``); by default the real one.

    Raises ConfigError, ModelError, StorageError.
    """
    with ExitStack() as stack:
        build = build or _own_build(arguments.workers, stack)
        return _scan(arguments, config, flags, build)


def _own_build(workers: int, stack: ExitStack) -> Any:
    """What opens our scanner."""
    if workers > 1:
        from worker.compose import build_scanner

        return build_scanner
    return OwnScanner(stack)


class OwnScanner:
    """Opens our scanner in this process. Its decoders load from here on, while this process does everything else."""

    def __init__(self, stack: ExitStack) -> None:
        from worker.start import decoders

        self._stack = stack
        self._decoders = decoders()
        self._frames: Any = None
        stack.callback(self._decoders.kill)

    def begin(self, settings: Any, path: Path) -> None:
        """Decode the file that will be the first to be scanned, before what scans is imported."""
        from worker.frame_source import build_frames, request_of
        from worker.frames.ahead import FramesAhead

        self._frames = FramesAhead(build_frames(settings, decoders=self._decoders), path, request_of(settings))
        self._stack.callback(self._frames.close)
        self._frames.begin()

    def __call__(self, settings: Any) -> Any:
        from worker.compose import begin_scanner
        from worker.frame_source import build_frames

        return begin_scanner(settings, self._frames or build_frames(settings, decoders=self._decoders))


def _scan(arguments: ScanArguments, config: Path | None, flags: dict[str, dict[str, Any]], build: Any) -> int:
    from worker.errors import ConfigError
    from worker.interrupts import cursor_given_back
    from worker.source.files import find_items

    if arguments.resume and arguments.out is None:
        raise ConfigError("--resume needs --out DIR: that is where earlier reports are")
    if arguments.out is None:
        if flags["output"]["explain"]:
            raise ConfigError("--explain needs --out DIR: that is where maps are kept")
        flags = flags | {"output": {"explain": False}}
    settings = _settings(config, flags, arguments)
    from rich.console import Console

    console = Console(stderr=True)
    with cursor_given_back(), console.status("listing"):
        items = list(
            find_items(
                arguments.paths,
                include=arguments.include,
                exclude=arguments.exclude,
                stdin=sys.stdin.buffer,
                skip=[arguments.out] if arguments.out else [],
                urls=True,
            )
        )
    if not items:
        there = "there outside --out, where reports are written" if arguments.out else "there"
        links = "links inside a folder are passed over: name them outright, as FOLDER/*"
        raise ConfigError(f"nothing to scan: no files {there} ({links}), or --include and --exclude leave none")
    if any(item.url for item in items):
        from worker.fetched import fetching

        build = fetching(build, items)
    with logs_on(console):
        first = next((item for item in items if item.refusal is None), None)
        if isinstance(build, OwnScanner) and first is not None and not arguments.resume:
            build.begin(settings, first.path)
        return _scan_items(items, arguments, settings, build, console)


def _scan_items(items: list[Any], arguments: ScanArguments, settings: Any, build: Any, console: Any) -> int:
    """Imports what is heavy only here: the first file is decoded meanwhile."""
    from worker.batch import Batch
    from worker.output.folder import ReportFolder
    from worker.output.sink import SINKS
    from worker.progress import Bar
    from worker.start import imported

    folder = None
    if arguments.out is not None:
        from worker.pages.folder import FolderPages

        folder = ReportFolder(arguments.out, FolderPages(arguments.out))
    both_on_terminal = arguments.format != "table" and sys.stdout.isatty()
    batch = Batch(
        build=build,
        settings=settings,
        workers=arguments.workers,
        resume=arguments.resume,
        folder=folder,
        sink=SINKS[arguments.format](sys.stdout),
        bar=Bar(console, total=len(items), live=console.is_terminal and not arguments.quiet and not both_on_terminal),
    )
    imported()
    with closing(folder) if folder else nullcontext():
        tally = batch.run(items)
    if not arguments.quiet:
        console.print(str(tally), highlight=False, markup=False, soft_wrap=True)
    if tally.stopped:
        return tally.stopped
    if tally.counts["failed"]:
        return outcome.ITEMS_FAILED
    return outcome.FAIL_ON if any(tally.counts[verdict] for verdict in arguments.fail_on) else outcome.SCANNED


def _settings(config: Path | None, flags: dict[str, dict[str, Any]], arguments: ScanArguments) -> Any:
    """Settings with the flags that were given; the threads of several workers share the cores."""
    from worker.errors import ConfigError
    from worker.settings import default_file, load_settings
    from worker.types import Strategy

    given = {section: {key: value for key, value in keys.items() if value is not None} for section, keys in flags.items()}
    settings = load_settings(config or default_file(), given)
    sampling = settings.sampling
    if given["sampling"].get("fps") is not None and sampling.strategy is not Strategy.FPS:
        raise ConfigError(f"--fps goes with --strategy fps, not {sampling.strategy}")
    return settings if arguments.threads_given else share_cores(settings, arguments.workers)


def share_cores(settings: Any, workers: int) -> Any:
    """Settings with the threads of each of several workers, so that together they do not outnumber the cores."""
    if workers == 1:
        return settings
    from worker.cores import scan_threads

    share = scan_threads(workers)
    decode = settings.decode.model_copy(update={"threads": min(share, settings.decode.threads)})
    model = settings.model.model_copy(update={"threads": min(share, settings.model.threads or share)})
    return settings.model_copy(update={"decode": decode, "model": model})


@contextmanager
def logs_on(console: Any) -> Iterator[None]:
    """Our warnings above the progress bar, while it is shown."""
    import logging

    from rich.logging import RichHandler

    handler = RichHandler(console=console, level=logging.WARNING, show_path=False, show_time=False, markup=False)
    logger = logging.getLogger("worker")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
