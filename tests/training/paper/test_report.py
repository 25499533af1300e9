"""The report: the paper's tables as printed, with their slips named, ours beside them; figures that are pictures."""

from __future__ import annotations

import csv
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.paper.evaluate import SourceResult
from training.paper.figures import draw_sources
from training.paper.report import HTML, MARKDOWN, write_report
from training.paper.settings import Pipeline
from training.paper.stages import MODEL, read_sets
from training.paper.tables import FINETUNE, HEAD, UNFREEZE, Epoch, extremes, side_by_side
from worker.model import checkpoint
from worker.model.spec import TrainingData, TrainingSource


def table(text: str, title: str) -> list[list[str]]:
    """The cells of the first Markdown table under a heading."""
    lines = text.split(f"## {title}", 1)[1].split("\n## ", 1)[0].splitlines()
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("| ")]


def test_tables_1_to_3_stand_beside_the_papers(gone_through: Path) -> None:
    text = (gone_through / MARKDOWN).read_text()
    for published in (FINETUNE, HEAD, UNFREEZE):
        rows = table(text, f"Table {published.table}")[1:]
        assert [tuple(row[:4]) for row in rows if row[1] != "-"] == list(published.printed)
        with (gone_through / published.stage / "epochs.csv").open() as file:
            ours = list(csv.DictReader(file))
        assert [row[4:6] for row in rows if row[4] != "-"] == [
            [f"{float(line['train_loss']):.4f}", f"{float(line['validation_loss']):.4f}"] for line in ours
        ]


def test_the_slips_are_reprinted_with_a_footnote(gone_through: Path) -> None:
    for name in (MARKDOWN, HTML):
        text = (gone_through / name).read_text()
        assert text.count("Footnote:") == 2
        assert "0.307 and 0.264" in text
        assert "repeats its Table 2" in text
    assert ("5", "0.307", "0.0059", "1020") in FINETUNE.printed


def test_table_4_has_the_papers_range_and_ours_by_source(gone_through: Path, tiny: Pipeline) -> None:
    text = (gone_through / MARKDOWN).read_text()
    rows = table(text, "Table 4")
    assert rows[1] == ["paper", "0.65", "0.77", "541"]
    assert {row[0] for row in rows} >= {"ours, all sources", "ours, sources with both labels", "ffpp", "lfw"}
    assert tiny.sha256 in text
    assert "lies on 11 of the 22 crops" in text


def test_table_4_says_which_of_its_sources_were_trained_on(gone_through: Path, crops: Path, tiny: Pipeline) -> None:
    others, own = "none of them was trained on", "Other groups of 140k were trained on"
    chosen = read_sets(crops, tiny.sets)
    held_out = replace(chosen, test=tuple(replace(row, group=f"{row.group}, held out") for row in chosen.first.rows[:4]))
    for sets, told, untold in ((held_out, own, others), (chosen, others, own)):
        write_report(tiny, sets, gone_through)
        for name in (MARKDOWN, HTML):
            text = (gone_through / name).read_text()
            assert told in text
            assert untold not in text


def test_table_4_says_which_of_its_sources_the_start_was_trained_on(
    gone_through: Path, crops: Path, tiny: Pipeline, tmp_path: Path
) -> None:
    spec, arrays = checkpoint.load(gone_through / MODEL)
    learnt = TrainingData(sources=(TrainingSource(name="lfw", real=2), TrainingSource(name="celebdf", fake=1)))
    checkpoint.save(tmp_path / "start.safetensors", arrays, spec.model_copy(update={"training": learnt}))
    network = tiny.network.model_copy(update={"init": tmp_path / "start.safetensors"})
    write_report(tiny.model_copy(update={"network": network}), read_sets(crops, tiny.sets), gone_through)
    for name in (MARKDOWN, HTML):
        text = (gone_through / name).read_text()
        assert "start.safetensors, from which the network began, was trained on lfw" in text
        assert "none of them was trained on" not in text
    write_report(tiny, read_sets(crops, tiny.sets), gone_through)


class Pictures(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "img":
            self.found.append(dict(attrs)["src"] or "")


def test_the_figures_are_there_and_drawn_on(gone_through: Path) -> None:
    parser = Pictures()
    parser.feed((gone_through / HTML).read_text())
    assert parser.found == [f"figures/{name}.png" for name in ("figure-3", "figure-4", "figure-5", "table-4")]
    for name in parser.found:
        assert f"]({name})" in (gone_through / MARKDOWN).read_text()
        with Image.open(gone_through / name) as picture:
            colours = np.array(picture.convert("RGB")).reshape(-1, 3)
        assert (colours == (0x1F, 0x5F, 0xA8)).all(axis=1).sum() > 100


def test_a_side_that_ended_shows_dashes() -> None:
    ours = [
        Epoch(epoch=n, train_loss=0.5, validation_loss=0.4, seconds=1, train_accuracy=1, validation_accuracy=0.75)
        for n in (1, 2, 3)
    ]
    assert side_by_side(HEAD, ours)[2] == ("3", "-", "-", "-", "0.5000", "0.4000", "1.0", "0.750")
    assert side_by_side(FINETUNE, ours)[3][4:] == ("-",) * 4


def test_sources_with_one_label_do_not_hide_the_others() -> None:
    def result(source: str, real: int, fake: int, accuracy: float) -> SourceResult:
        return SourceResult(source=source, real=real, fake=fake, accuracy=accuracy, auc=None, log_loss=1, seconds=2)

    every, both = extremes([result("a", 9, 0, 1.0), result("b", 5, 5, 0.6), result("c", 5, 5, 0.7), result("d", 0, 9, 0.1)])
    assert (every.least.source, every.greatest.source) == ("d", "a")
    assert (both.least.source, both.greatest.source) == ("b", "c")
    assert both.seconds == pytest.approx(2)
    assert len(extremes([result("a", 9, 0, 1.0)])) == 1


def test_a_source_in_a_figure_may_be_named_with_dollars(tmp_path: Path) -> None:
    found = SourceResult(source=r"$\frac$", real=1, fake=1, accuracy=1.0, auc=1.0, log_loss=0.1, seconds=1.0)
    draw_sources([found], tmp_path / "table-4.png")
    assert (tmp_path / "table-4.png").read_bytes().startswith(b"\x89PNG")
