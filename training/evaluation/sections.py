"""The report's words, tables and plots, from the numbers of an ``Evaluation``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from training.evaluation import plots
from training.evaluation.degrade import CLEAN_CRF, FAMILIES, SECONDS
from training.evaluation.document import Document, Picture, Section, Table
from training.evaluation.judged import FAILED, Judged
from training.evaluation.results import Evaluation, Level, Ranking, Rate, Row
from worker.types import Label, MediaKind

TITLES = {MediaKind.VIDEO: "Videos", MediaKind.PICTURE: "Pictures"}
NOTHING = "-"


def number(value: float | None, places: int = 3) -> str:
    return NOTHING if value is None or math.isnan(value) else f"{value:.{places}f}"


def percent(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{100 * value:.0f} %"


def of_rate(rate: Rate | None) -> str:
    """``3/64: 5 % (1 to 13)``."""
    if rate is None:
        return NOTHING
    return f"{rate.count}/{rate.total}: {percent(rate.share)} ({100 * rate.low:.0f} to {100 * rate.high:.0f})"


def auc_of(ranking: Ranking | None) -> str:
    return NOTHING if ranking is None else _auc(ranking.auc, ranking.interval)


def _auc(auc: float, interval: tuple[float, float]) -> str:
    if math.isnan(auc):
        return NOTHING
    return f"{auc:.3f}" if math.isnan(interval[0]) else f"{auc:.3f} ({interval[0]:.2f} to {interval[1]:.2f})"


def document(found: Evaluation, judged: Sequence[Judged]) -> Document:
    """The whole report; ``judged`` gives the plots their scores."""
    model = found.model
    lead = [
        f"{model.name} {model.version} ({model.sha256[:12]}, {model.backend}), {found.files} files of {found.manifest}, "
        f"veriframe {found.veriframe}, {found.created:%Y-%m-%d}.",
        "Intervals are 95 %, over groups (files that share a person or a video). Each file was scanned whole; a file without a "
        "score (no usable face, or failed) counts in no AUC, and is counted beside it. Log loss, ECE and AP weigh real and fake "
        "alike, as the scores do.",
    ]
    if found.left_out:
        lead.append("Left out: " + "; ".join(f"{count} {reason}" for reason, count in found.left_out.items()) + ".")
    if found.seen_in_training:
        lead.append(f"WARNING: {found.seen_in_training} of the files are marked as training files: their numbers flatter.")
    sections = [Section(title="Overview", tables=(overview(found),))]
    for kind in (MediaKind.VIDEO, MediaKind.PICTURE):
        rows = [row for row in found.rows if row.kind is kind]
        if rows:
            sections.append(_of_kind(kind, rows, [item for item in judged if item.kind is kind]))
    sections += [section for section in (_pairs(found), _rules(found), _demographics(found), _robustness(found)) if section]
    return Document(title=f"Evaluation of {model.name} {model.version}", lead=tuple(lead), sections=tuple(sections))


def _strong(rows: Sequence[Row]) -> frozenset[int]:
    return frozenset(place for place, row in enumerate(rows) if row.name == "all")


def overview(found: Evaluation) -> Table:
    """The numbers to see first: for each kind all its files."""
    first: dict[MediaKind, Row] = {}
    for row in found.rows:
        first.setdefault(row.kind, row)
    return Table(
        header=("", *(f"{TITLES[kind]} ({row.real} real, {row.fake} fake)" for kind, row in first.items())),
        rows=(
            ("AUC", *(auc_of(row.ranking) for row in first.values())),
            ("real called fake", *(of_rate(row.false_alarms) for row in first.values())),
            ("... one-sided 95 % bound", *(_bound(row.false_alarms) for row in first.values())),
            ("fakes called fake", *(of_rate(row.detected) for row in first.values())),
            ("real uncertain", *(of_rate(row.uncertain_real) for row in first.values())),
            ("fakes uncertain", *(of_rate(row.uncertain_fake) for row in first.values())),
            ("without a score", *(of_rate(row.unscored) for row in first.values())),
            ("balanced accuracy of the decided", *(number(row.balanced_accuracy_decided) for row in first.values())),
            ("balanced accuracy, all at 0.5", *(number(row.balanced_accuracy_half) for row in first.values())),
            ("ECE, cross-fitted", *(number(row.calibration.ece_crossfit if row.calibration else None) for row in first.values())),
        ),
    )


def _bound(rate: Rate | None) -> str:
    if rate is None:
        return NOTHING
    return f"{100 * rate.upper:.1f} % ({rate.groups} groups, worth {rate.effective:.0f} independent files)"


def _of_kind(kind: MediaKind, rows: Sequence[Row], judged: Sequence[Judged]) -> Section:
    tables = (_ranking(kind, rows), _decisions(rows), _accuracy(rows), _calibration(rows), _confusion(rows))
    wanted = [
        ("roc", "ROC curves, by source", plots.roc(judged)),
        ("reliability", "Reliability diagram of all files", plots.reliability_diagram(c) if (c := rows[0].calibration) else None),
        ("risk", "Errors among the surest answers (risk over coverage)", plots.risk_over_coverage(judged)),
        ("scores", "Scores by source", plots.histograms(judged)),
    ]
    pictures = tuple(Picture(name=f"{kind.value}-{name}.png", alt=alt, png=png) for name, alt, png in wanted if png is not None)
    text = (
        "A manipulation of a source is set against all of the source's real files. No interval: under five groups of a class.",
        "ECE: of the scores as reported; where the checkpoint's calibration was fitted on these very files it flatters. "
        "Cross-fitted: the logits calibrated on the other groups of these files, so that no file is judged by a calibration that "
        "saw it; or on the other sources. Floor: what perfectly calibrated scores of as many files would show by chance.",
    )
    return Section(title=TITLES[kind], text=text, tables=tuple(table for table in tables if table.rows), pictures=pictures)


def _ranking(kind: MediaKind, rows: Sequence[Row]) -> Table:
    header: tuple[str, ...] = ("source", "real", "fake", "groups", "AUC", "AP", "EER")
    cells: list[tuple[str, ...]] = [
        (row.name, str(row.real), str(row.fake), str(row.groups), auc_of(row.ranking))
        + ((number(row.ranking.ap), number(row.ranking.eer)) if row.ranking else (NOTHING, NOTHING))
        for row in rows
    ]
    if kind is MediaKind.VIDEO:
        header = (*header, "AUC of single faces")
        cells = [(*line, auc_of(row.faces)) for line, row in zip(cells, rows, strict=True)]
    return Table(caption="Ranking", header=header, rows=tuple(cells), strong=_strong(rows))


def _decisions(rows: Sequence[Row]) -> Table:
    header = ("source", "real called fake", "fakes called fake", "fakes called real", "real uncertain", "fakes uncertain")
    return Table(
        caption="Decisions at the shipped thresholds",
        header=(*header, "without a score"),
        rows=tuple(
            (
                row.name,
                of_rate(row.false_alarms),
                of_rate(row.detected),
                of_rate(row.missed),
                of_rate(row.uncertain_real),
                of_rate(row.uncertain_fake),
                f"{row.unscored.count}/{row.unscored.total}",
            )
            for row in rows
        ),
        strong=_strong(rows),
    )


def _accuracy(rows: Sequence[Row]) -> Table:
    header = ("source", "decided", "accuracy of the decided", "balanced", "accuracy of all, at 0.5", "balanced")
    cells = [
        (
            row.name,
            percent(row.decided),
            number(row.accuracy_decided),
            number(row.balanced_accuracy_decided),
            number(row.accuracy_half),
            number(row.balanced_accuracy_half),
        )
        for row in rows
    ]
    return Table(caption="Accuracy", header=header, rows=tuple(cells), strong=_strong(rows))


def _calibration(rows: Sequence[Row]) -> Table:
    known = [row for row in rows if row.calibration is not None]
    reported = ("log loss", "ECE", "floor")
    header = ("source", *reported, "log loss, cross-fitted", "ECE, cross-fitted", "ECE, other sources", "AURC")
    cells: list[tuple[str, ...]] = []
    for row in known:
        if (found := row.calibration) is not None:
            anew = (found.log_loss_crossfit, found.ece_crossfit, found.ece_other_sources)
            values = (found.log_loss, found.ece, found.ece_floor, *anew, found.aurc)
            cells.append((row.name, *(number(value) for value in values), percent(row.calibrated)))
    return Table(caption="Calibration", header=(*header, "calibration holds for"), rows=tuple(cells), strong=_strong(known))


def _confusion(rows: Sequence[Row]) -> Table:
    answers = [*(label.value for label in Label)]
    if any(FAILED in counts for row in rows for counts in row.confusion.values()):
        answers.append(FAILED)
    cells = [
        (row.name, label, *(str(counts.get(answer, 0)) for answer in answers))
        for row in rows
        for label, counts in row.confusion.items()
        if sum(counts.values()) and not (": " in row.name and label == "real")
    ]
    strong = frozenset(place for place, line in enumerate(cells) if line[0] == "all")
    header = ("source", "is", *(f"called {answer.replace('_', ' ')}" for answer in answers))
    return Table(caption="Confusion", header=header, rows=tuple(cells), strong=strong)


def _pairs(found: Evaluation) -> Section | None:
    if not found.pairs:
        return None
    table = Table(
        header=("fakes", "above their own original", "mean difference of the logits"),
        rows=tuple((pair.name, of_rate(pair.above), number(pair.mean_difference, 2)) for pair in found.pairs),
    )
    text = "Scores move more from scene to scene than from real to fake: each fake is set against the file it was made from."
    return Section(title="Matched pairs", text=(text,), tables=(table,))


def _rules(found: Evaluation) -> Section | None:
    if not found.rules:
        return None
    table = Table(
        header=("videos", "rule", "files", "AUC", "AP", "EER", "log loss, cross-fitted"),
        rows=tuple(
            (
                row.part,
                row.rule,
                str(row.files),
                auc_of(row.ranking),
                number(row.ranking.ap),
                number(row.ranking.eer),
                number(row.log_loss_crossfit),
            )
            for row in found.rules
        ),
        strong=frozenset(place for place, row in enumerate(found.rules) if row.rule == "mean_logit"),
    )
    text = "From the votes of a track to its logit: each rule recomputed from the reports' face scores, before calibration."
    return Section(title="Aggregation rules", text=(text,), tables=(table,))


def _demographics(found: Evaluation) -> Section | None:
    if not found.demographics:
        return None
    table = Table(
        header=("", "group", "real called fake", "real uncertain", "without a score", "mean score"),
        rows=tuple(
            (
                row.axis,
                row.value,
                of_rate(row.false_alarms),
                of_rate(row.uncertain),
                of_rate(row.unscored),
                number(row.mean_score),
            )
            for row in found.demographics
        ),
    )
    text = "Real faces only, by how annotators labelled them (apparent, not asked). Small groups have wide intervals."
    return Section(title="Groups of people", text=(text,), tables=(table,))


def _robustness(found: Evaluation) -> Section | None:
    if not found.robustness:
        return None
    tables: list[Table] = []
    pictures: list[Picture] = []
    for kind in (MediaKind.VIDEO, MediaKind.PICTURE):
        points = [point for point in found.robustness if point.kind is kind]
        png = plots.robustness(points)
        if png is not None:
            tables.append(level_table(kind, points))
            alt = f"{TITLES[kind]}: AUC, false alarms, detection and uncertain share by degradation"
            pictures.append(Picture(name=f"{kind.value}-robustness.png", alt=alt, png=png))
    text = (
        f"A sample, stratified by source, label and manipulation; videos to {SECONDS:g} s. But for h264, videos are encoded anew "
        f"at CRF {CLEAN_CRF}, which reencode measures alone. Shift: mean change of the logit against the untouched file."
    )
    return Section(title="Robustness", text=(text,), tables=tuple(tables), pictures=tuple(pictures))


def level_table(kind: MediaKind, points: Sequence[Level]) -> Table:
    """Every point of the curves; the first are the untouched files."""
    units = {family.name: family.unit for family in FAMILIES}
    header = ("degradation", "level", "AUC", "real called fake", "fakes called fake", "uncertain", "without a score")
    return Table(
        caption=f"{TITLES[kind]} ({points[0].real} real, {points[0].fake} fake)",
        header=(*header, "shift of real", "shift of fakes"),
        rows=tuple(
            (
                point.family if point.family != "none" else "as they are",
                f"{units[point.family]} {point.level:g}" if point.family in units else "",
                _auc(point.auc, point.interval),
                of_rate(point.false_alarms),
                of_rate(point.detected),
                of_rate(point.uncertain),
                of_rate(point.unscored),
                number(point.shift_real, 2),
                number(point.shift_fake, 2),
            )
            for point in points
        ),
        strong=frozenset({0}),
    )
