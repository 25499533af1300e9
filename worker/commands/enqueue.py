"""``veriframe enqueue``: hand addresses and files to the workers, and wait for them if asked to."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from worker.commands import outcome
from worker.commands.options import ConfigOption, FailOn, seconds
from worker.commands.service import Format, FormatOption, QuietOption, complain, interruptible, load, progress_bar
from worker.commands.watch import duration

if TYPE_CHECKING:
    from worker.errors import VeriframeError
    from worker.queue.client import Item, ScanClient

HELP = (
    "Queue addresses and files for the workers; prints the id of each scan, or with --wait its report.\n\n"
    "The bytes are fetched by the workers: a path must lie below one of their media roots (queue.media_roots), and one that is "
    "absolute need not exist here. Folders are queued whole. A line of a list is an address, a path, or a request as JSON "
    "({...}: what the HTTP API takes). One that is refused stops none of the others."
)
EPILOG = """[bold]Examples[/]

\b
veriframe enqueue https://example.org/clip.mp4 --priority live --wait
veriframe enqueue /media/in --wait --fail-on fake     every file below it
veriframe enqueue --from posts.txt --callback-url https://example.org/hook
find /media -name '*.mp4' -print0 | veriframe enqueue - > ids.txt
veriframe enqueue - --room 3600 < million.txt         wait for room in the queue
veriframe status --watch - < ids.txt
veriframe enqueue --watch https://example.org/live.m3u8 --max-duration 1h

[bold]Exit codes[/]

\b
0    all were queued; with --wait: all were scanned
1    with --wait: a scan has a --fail-on verdict
2    usage: a flag, a setting, nothing to queue
3    some were refused, failed or did not end in time, or a watch
     lost its stream (wins over 1)
4    Redis is away, internal error
130  stopped by Ctrl-C; what was queued stays queued
"""
PANEL, WATCHES = "Sampling", "Watches"

app = typer.Typer(rich_markup_mode="rich", pretty_exceptions_enable=False, add_completion=False)


@dataclass(slots=True, kw_only=True)
class Run:
    """What came of the sources so far; each is told as soon as it is known, unless ``silent``."""

    format: Format
    silent: bool
    ids: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _begun: bool = False

    def queued(self, source: str, scan_id: str, created: bool) -> None:
        self.ids.append(scan_id)
        self.counts["queued" if created else "known already"] += 1
        if self.format == "table":
            from worker.output.text import escaped

            self._print(f"{scan_id}  {escaped(source)}{'' if created else '  (known already)'}\n")
        else:
            self._print_json({"id": scan_id, "source": source, "created": created, "error": None})

    def refused(self, source: str, error: VeriframeError) -> None:
        from worker.source.files import told_address

        self.counts["refused"] += 1
        complain(told_address(source) if "://" in source else source, error)
        if self.format != "table":
            told = {"code": error.code, "message": str(error), "retryable": error.retryable}
            self._print_json({"id": None, "source": source, "created": False, "error": told})

    def close(self) -> None:
        if self.format == "json":
            self._print("\n]\n" if self._begun else "[]\n")
        if not self.silent:
            sys.stdout.flush()

    def _print_json(self, row: dict[str, Any]) -> None:
        line = json.dumps(row, ensure_ascii=True, separators=(",", ":"))
        self._print(f"{line}\n" if self.format == "jsonl" else f"{',' if self._begun else '['}\n{line}")
        self._begun = True

    def _print(self, text: str) -> None:
        if not self.silent:
            sys.stdout.write(text)


@app.command(help=HELP, epilog=EPILOG)
def enqueue(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="URL|PATH", help="Addresses, files, folders, quoted globs, or - for a list on standard input."),
    ] = None,
    lists: Annotated[
        list[Path] | None, typer.Option("--from", metavar="FILE", help="A list, one a line or ended by NUL; may be repeated.")
    ] = None,
    priority: Annotated[Literal["live", "batch", "low"], typer.Option(metavar="NAME", help="live, batch or low.")] = "batch",
    callback_url: Annotated[str | None, typer.Option(metavar="URL", help="Called back with each scan's end.")] = None,
    external_id: Annotated[str | None, typer.Option(metavar="ID", help="Your own id, for one source.")] = None,
    idempotency_key: Annotated[
        str | None, typer.Option(metavar="KEY", help="For one source: asked again with the same key, it is the same scan.")
    ] = None,
    owner: Annotated[str, typer.Option(metavar="NAME", help="Whose scans they are.")] = "default",
    room: Annotated[float, typer.Option(min=0, metavar="S", help="How long to wait, all in all, where the queue is full.")] = 0.0,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all have ended, and print their reports.")] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="S", help="With --wait: for so long at most; the scans go on.")
    ] = None,
    fail_on: Annotated[
        list[FailOn] | None,
        typer.Option(metavar="VERDICT", help="With --wait: exit with 1 on fake, real, uncertain or not_applicable."),
    ] = None,
    format: FormatOption = "table",
    quiet: QuietOption = False,
    strategy: Annotated[
        Literal["auto", "uniform", "fps", "keyframes"] | None,
        typer.Option(metavar="NAME", help="auto, uniform, fps or keyframes.", rich_help_panel=PANEL),
    ] = None,
    max_frames: Annotated[
        int | None, typer.Option(min=1, max=100_000, metavar="N", help="Most frames looked at.", rich_help_panel=PANEL)
    ] = None,
    fps: Annotated[
        float | None, typer.Option(metavar="N", help="Frames a second; implies --strategy fps.", rich_help_panel=PANEL)
    ] = None,
    start: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help="Begin here: seconds or mm:ss.", rich_help_panel=PANEL)
    ] = None,
    end: Annotated[
        float | None, typer.Option(parser=seconds, metavar="TIME", help="End here: seconds or mm:ss.", rich_help_panel=PANEL)
    ] = None,
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Score every frame, even where fewer settle the verdict.", rich_help_panel=PANEL)
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Watch the addresses, which are live streams, as they run.", rich_help_panel=WATCHES)
    ] = False,
    window: Annotated[
        float | None,
        typer.Option(parser=duration, metavar="TIME", help="Length of a window, such as 10s.", rich_help_panel=WATCHES),
    ] = None,
    hop: Annotated[
        float | None, typer.Option(parser=duration, metavar="TIME", help="A verdict every so often.", rich_help_panel=WATCHES)
    ] = None,
    max_duration: Annotated[
        float | None,
        typer.Option(parser=duration, metavar="TIME", help="End after so much of it, such as 1h.", rich_help_panel=WATCHES),
    ] = None,
    config: ConfigOption = None,
) -> None:
    """See HELP."""
    with outcome.exit_codes(), interruptible("what was queued stays queued (veriframe jobs list)"):
        sampling = {"max_frames": max_frames, "fps": fps, "start_s": start, "end_s": end, "exhaustive": exhaustive or None}
        options = {"strategy": strategy or ("fps" if fps is not None else None), **sampling}
        options |= {"window_s": window, "hop_s": hop, "max_duration_s": max_duration}
        asked = {
            "kind": "watch" if watch else "scan",
            "priority": priority,
            "callback_url": callback_url,
            "options": {name: value for name, value in options.items() if value is not None},
        }
        of_one = {"external_id": external_id, "idempotency_key": idempotency_key}
        waiting = _Wait(wanted=wait, timeout_s=timeout, fail_on=frozenset(map(str, fail_on or ())))
        code = run_enqueue(_texts(sources or [], lists or []), asked, of_one, owner, room, waiting, format, quiet, config)
    raise typer.Exit(code)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wait:
    wanted: bool
    timeout_s: float | None
    fail_on: frozenset[str]


def run_enqueue(
    texts: list[tuple[str, bool]],
    asked: dict[str, Any],
    of_one: dict[str, str | None],
    owner: str,
    room_s: float,
    waiting: _Wait,
    format: Format,
    quiet: bool,
    config: Path | None,
) -> int:
    """Returns the exit code. Raises ConfigError, RedisDown."""
    from rich.console import Console

    from worker.errors import BadRequest, ConfigError, SourceError
    from worker.queue.client import ScanClient

    console = Console(stderr=True)
    if not waiting.wanted and (waiting.fail_on or waiting.timeout_s is not None):
        raise ConfigError("--fail-on and --timeout go with --wait")
    if not texts:
        raise ConfigError("nothing to queue: give addresses or paths, or - with a list on standard input")
    given = {name: value for name, value in of_one.items() if value is not None}
    with console.status("listing"):
        items = [pair for text, may_glob in texts for pair in _items(text, may_glob)]
    if given and len(items) != 1:
        raise ConfigError("--external-id and --idempotency-key are for one source; in a list, give requests as JSON")
    run = Run(format=format, silent=waiting.wanted)
    try:
        client = ScanClient.from_settings(load(config), owner)
    except BadRequest as exc:
        raise ConfigError(f"--owner: {exc}") from exc
    with client, contextlib.closing(run):
        sources: deque[str] = deque()

        def usable() -> Iterator[Item]:
            for source, item in items:
                if isinstance(item, SourceError | BadRequest):
                    run.refused(source, item)
                    continue
                sources.append(source)
                yield _request_of(item, asked | given) if given else item

        with progress_bar(console, len(items), "queueing", quiet=quiet, prints_at_once=not waiting.wanted) as bar:
            for made in client.enqueue_many(usable(), **asked, room_s=room_s):
                source = sources.popleft()
                if made.refusal is not None:
                    run.refused(source, made.refusal)
                else:
                    run.queued(source, made.id, made.created)
                bar.reach(run.counts.total())
        if not quiet:
            console.print(_summary(run.counts), highlight=False, markup=False)
        code = outcome.ITEMS_FAILED if run.counts["refused"] else outcome.SCANNED
        return max(code, await_scans(client, run.ids, waiting, format, quiet)) if waiting.wanted else code


def await_scans(client: ScanClient, scan_ids: list[str], waiting: _Wait, format: Format, quiet: bool) -> int:
    """Wait, print the reports; the exit code. Raises RedisDown."""
    from rich.console import Console

    from worker.commands.service import print_reports

    ids = list(dict.fromkeys(scan_ids))
    console = Console(stderr=True)
    with interruptible("the scans go on (veriframe status)"):
        with progress_bar(console, len(ids), "scanning", quiet=quiet) as bar:
            states = client.wait(ids, waiting.timeout_s, lambda seen: bar.reach(seen.progress))
        counts: Counter[str] = Counter()

        def reports() -> Iterator[Any]:
            for scan_id in ids:
                if states[scan_id] is None:
                    counts["gone"] += 1
                    continue
                report = client.report(scan_id)
                counts[report.verdict.value if report.verdict else report.status] += 1
                counts["lost_its_stream"] += outcome.lost_its_stream(report)
                yield report

        print_reports(format, reports())
    if not quiet:
        console.print(_summary(counts), highlight=False, markup=False)
    if any(counts[name] for name in ("gone", "failed", "cancelled", "queued", "running", "lost_its_stream")):
        return outcome.ITEMS_FAILED
    return outcome.FAIL_ON if any(counts[verdict] for verdict in waiting.fail_on) else outcome.SCANNED


def _summary(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count) or "nothing"


def _texts(sources: list[str], lists: list[Path]) -> list[tuple[str, bool]]:
    """What was named, and whether it may be a glob. Raises ConfigError."""
    from worker.errors import ConfigError
    from worker.source.files import read_all, read_list

    found: list[tuple[str, bool]] = []
    for source in sources:
        if source == "-":
            found += ((line, False) for line in read_list(read_all(sys.stdin.buffer)))
        else:
            found.append((source, True))
    for path in lists:
        try:
            found += ((line, False) for line in read_list(path.read_bytes()))
        except OSError as exc:
            raise ConfigError(f"--from {path}: {exc.strerror}") from exc
    return found


def _items(text: str, may_glob: bool) -> Iterable[tuple[str, Any]]:
    """The sources that a word stands for, each with its name: an Item, or why it is none."""
    from worker.errors import BadRequest, SourceError
    from worker.queue.requests import read_request
    from worker.source.files import find_items

    if text.startswith("{") and not may_glob:
        try:
            request = read_request(text)
        except BadRequest as exc:
            yield text[:80], exc
        else:
            yield request.source.url or request.source.path or f"upload {request.source.upload}", request
    elif "://" in text:
        yield text, text
    elif not may_glob and not Path(text).exists():
        yield text, Path(text) if Path(text).is_absolute() else SourceError("no such file or folder")
    else:
        for item in find_items([text]):
            absent = item.refusal == "no such file or folder" and Path(text).is_absolute()
            if item.refusal is None or absent:
                yield str(item.path), item.path
            else:
                yield text, SourceError(item.refusal)


def _request_of(item: Any, asked: dict[str, Any]) -> Any:
    """A plain source as a request with its own ids. Raises ConfigError for one that has them already."""
    from worker.errors import ConfigError
    from worker.queue.client import source_of
    from worker.queue.requests import ScanRequest

    if isinstance(item, ScanRequest):
        raise ConfigError("--external-id and --idempotency-key do not go with a request as JSON: write them into it")
    return {"source": source_of(item), **asked}
