"""What an adaptation changed, for people: ``report.md`` beside ``report.json``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from training.adaptation.gate import LEAST_GROUPS
from training.adaptation.results import Adapted, Change, Flip
from training.evaluation.document import cell

MARKDOWN, JSON = "report.md", "report.json"
SHOWN = 40
"""Flipped files named in the Markdown; all are in the JSON."""
HEAD = ("source", "real", "fake", "groups", "measure", "before", "after", "change", "95 % interval", "")


def write_report(found: Adapted, folder: Path) -> None:
    (folder / JSON).write_text(found.model_dump_json(indent=1) + "\n", "utf-8")
    (folder / MARKDOWN).write_text("\n".join(markdown(found)) + "\n", "utf-8")


def markdown(found: Adapted) -> list[str]:
    """Lines: the decision and why, sources, feedback, flipped files, training data."""
    gate = found.gate
    decision = "accepted" if gate.is_accepted else "refused, no checkpoint was written"
    right = " to ".join(map(str, gate.feedback_right))
    lines = [f"# {found.name} {found.version}: {decision}", ""]
    for one in found.tried:
        of = "the end of training" if one.share == 1 else f"{one.share:g} of the end of training, the rest the parent's weights"
        lines += [f"- {of}: {'refused' if one.refusals else 'accepted'}", *(f"  - {reason}" for reason in one.refusals)]
    lines += [
        f"- adapted from version {found.parent_version} (sha256 {found.parent_sha256})",
        f"- {found.feedback_files} feedback files, {right} of them on the right side of 0.5, log loss "
        f"{gate.feedback.before:.3f} to {gate.feedback.after:.3f} (they were trained on: this is no estimate for new cases)",
        f"- regression set: {found.regression_files} files, {found.regression_crops} crops that no training saw "
        f"(sha256 {found.regression_sha256[:16]})",
        "- thresholds and calibrations are the parent's: fit them anew with `veriframe release calibrate`",
        "",
        "## Old files by source",
        "",
        *([] if len(found.tried) == 1 else [f"By what was tried last, {found.tried[-1].share:g} of the end of training.", ""]),
        "Change is positive where the new checkpoint is better; the interval is paired and draws whole groups again.",
        f"A loss is refused where its whole interval lies beyond {found.settings.regression.tolerance:g}; below {LEAST_GROUPS}"
        " groups there is none.",
        "",
        *_table(HEAD, [_change(change) for change in gate.sources]),
    ]
    if found.is_other_split:
        lines.insert(2, "- the parent was trained by another split: it may know old files, and look better on them")
    lines += _flips("Feedback files that flipped", gate.feedback_flips)
    lines += _flips("Old files that flipped", gate.regression_flips)
    if found.feedback_skipped:
        lines += ["", "## Feedback that nothing could be learnt from", ""]
        lines += [f"- {path}: {code}" for path, code in found.feedback_skipped.items()]
    trained = [(source.name, str(source.real), str(source.fake)) for source in found.training.sources]
    return [*lines, "", "## Training data", "", *_table(("source", "real files", "fake files"), trained)]


def _change(change: Change) -> tuple[str, ...]:
    told = "lost" if change.is_lost else "" if change.is_judged else "not judged"
    return (
        change.source,
        str(change.real),
        str(change.fake),
        str(change.groups),
        change.measure,
        f"{change.before:.3f}",
        f"{change.after:.3f}",
        f"{change.change:+.4f}",
        "-" if math.isnan(change.low) else f"{change.low:+.4f} to {change.high:+.4f}",
        told,
    )


def _flips(title: str, flips: Sequence[Flip]) -> list[str]:
    if not flips:
        return ["", f"## {title}", "", "None."]
    better = sum(flip.is_now_right for flip in flips)
    rows = [
        (flip.path, flip.source, flip.label, f"{flip.before:.2f}", f"{flip.after:.2f}", "right" if flip.is_now_right else "wrong")
        for flip in flips[:SHOWN]
    ]
    more = [f"and {len(flips) - SHOWN} more in {JSON}"] if len(flips) > SHOWN else []
    table = _table(("file", "source", "label", "p before", "p after", "now"), rows)
    return ["", f"## {title}", "", f"{better} are now right, {len(flips) - better} now wrong.", "", *table, *more]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(map(cell, row))} |" for row in (head, ["---"] * len(head), *rows)]
