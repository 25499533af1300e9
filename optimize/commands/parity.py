"""``veriframe parity``: every backend against PyTorch in float32, on whole scans."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from optimize.commands.bench.outcome import check_outputs
from optimize.parity import Judged, has_failed, judge, judge_decoder
from worker.backends.candidates import NAMES
from worker.commands.options import ConfigOption
from worker.commands.outcome import exit_codes
from worker.errors import ConfigError
from worker.output.width import wide_console

app = typer.Typer(add_completion=False)
SUFFIXES = {".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"}
REFERENCES = {"backend": "PyTorch in float32", "decoder": "frames decoded by pyav, both scored by onnxruntime"}

HELP = """Compare every backend with PyTorch in float32: scores of all faces, and verdicts of whole clips.

\b
  veriframe parity                                  all backends, the demo clips
  veriframe parity --backend openvino-bf16 --media videos/ --clips 20
  veriframe parity --backend tensorrt               on the card: after veriframe export --to tensorrt
  veriframe parity --decoder nvdec --media videos/  frames from the card against frames decoded in software
Gates: float32 1e-3; float16 and bfloat16 0.03, mean 0.003; no verdict may change. Where one is missed, the first node of the
graph that differs is looked for. A backend that does not run here is listed with the reason.
Exit codes: 0 within the gates, 1 not (or onnxruntime, torch or a named backend refuses), 2 something is missing here.
"""


@app.command(help=HELP)
@exit_codes()
def parity(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="A .safetensors checkpoint; else that of the settings, or the bundled one.")
    ] = None,
    backend: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this one; may be repeated.")] = None,
    decoder: Annotated[
        Literal["decord", "nvdec"] | None,
        typer.Option(metavar="NAME", help="Compare this decoder with pyav instead of backends: decord or nvdec."),
    ] = None,
    media: Annotated[Path | None, typer.Option(metavar="DIR", help="Clips; the demo's when left out.")] = None,
    clips: Annotated[int | None, typer.Option(min=1, help="So many of them, evenly chosen.")] = None,
    frames: Annotated[int, typer.Option(min=1, max=256, help="Frames scored in each clip.")] = 16,
    json_out: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the figures to this file.")] = None,
    config: ConfigOption = None,
) -> None:
    from worker.settings import default_file, load_settings

    if unknown := set(backend or ()) - set(NAMES):
        raise ConfigError(f"unknown backend {', '.join(sorted(unknown))}: one of {', '.join(NAMES)}")
    flags = {"sampling": {"strategy": "uniform", "max_frames": frames}, "model": {"checkpoint": checkpoint} if checkpoint else {}}
    if decoder is not None and backend:
        raise ConfigError("--decoder compares decoders, all on onnxruntime: leave --backend out")
    check_outputs(None, json_out)
    console = Console(stderr=True, highlight=False, markup=False)
    settings, files = load_settings(config or default_file(), flags), find_clips(media, clips)
    if decoder is not None:
        judged = [judge_decoder(settings, files, decoder)]
    else:
        judged = judge(
            settings,
            files,
            backend or NAMES,
            on_backend=lambda one: console.print(f"- {one.backend}: {_result(one)}", soft_wrap=True),
        )
    _print(judged, "decoder" if decoder else "backend")
    if json_out is not None:
        try:
            json_out.write_text(json.dumps([one.as_json() for one in judged], indent=2) + "\n", encoding="utf-8")
        except OSError as exc:
            raise ConfigError(f"the figures cannot be written: {exc}") from exc
    if any(has_failed(one, asked_for=bool(backend or decoder)) for one in judged):
        raise typer.Exit(1)


def find_clips(folder: Path | None, most: int | None) -> list[Path]:
    """The clips of a folder, or of the demo, in the order of their names. Raises ConfigError where there are none."""
    if folder is None:
        from worker.demo import demo_files

        found = [file.path for file in demo_files()]
    else:
        found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise ConfigError(f"no video files below {folder}")
    if most is None or most >= len(found):
        return found
    return [found[i * len(found) // most] for i in range(most)]


def _print(judged: list[Judged], what: str) -> None:
    table = Table(title=f"Against {REFERENCES[what]}")
    for heading in (what, "faces", "max |dp|", "mean |dp|", "allowed", "verdict flips", "result"):
        table.add_column(heading, justify="left" if heading in (what, "result") else "right", no_wrap=True)
    for one in judged:
        figures = ["", "", "", "", ""]
        if one.refusal is None:
            told = ["-" if value is None else f"{value:.2g}" for value in (one.max_dp, one.mean_dp)]
            figures = [str(one.crops), *told, f"{one.gate_max:g}, {one.gate_mean:g}", str(len(one.flips))]
        table.add_row(one.backend, *figures, "refused" if one.refusal is not None else "passes" if one.passes else "FAILS")
    console = wide_console(sys.stdout, in_a_file=120, at_least=120)
    console.print(table)
    for one in judged:
        if not one.passes:
            console.print(f"{one.backend}: {_result(one)}", markup=False, soft_wrap=True)


def _result(one: Judged) -> str:
    if one.refusal is not None:
        return f"refused: {one.refusal}"
    if one.failure is None:
        return "passes"
    flips = "".join(f"; {flip.clip}: {flip.eager} became {flip.verdict}" for flip in one.flips)
    where = f"; {one.suspect}" if one.suspect else ""
    return f"FAILS: {one.failure}{flips}{where}"
