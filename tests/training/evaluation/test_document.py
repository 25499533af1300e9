"""Markdown and HTML of one document: whole tables, nothing that a file name could break."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from training.evaluation.document import Document, Picture, Section, Table, html, markdown, write

HOSTILE = "a|b <script>alert(1)</script>"
DOCUMENT = Document(
    title="Title",
    lead=("Lead.",),
    sections=(
        Section(title="Empty"),
        Section(
            title="Full",
            text=("Text.",),
            tables=(Table(caption="Caption", header=("x", "y"), rows=((HOSTILE, "1"), ("all", "2")), strong=frozenset({1})),),
            pictures=(Picture(name="p.png", alt="A plot", png=b"\x89PNG"),),
        ),
    ),
)


def test_markdown_has_whole_tables_between_empty_lines() -> None:
    lines = markdown(DOCUMENT).splitlines()
    start = lines.index("| x | y |")
    assert lines[start - 1] == ""
    assert lines[start + 1 : start + 4] == ["|---|---|", f"| {HOSTILE.replace('|', chr(92) + '|')} | 1 |", "| all | 2 |"]
    assert lines[start + 4] == ""
    assert "![A plot](figures/p.png)" in lines
    assert "## Empty" in lines


def test_html_stands_alone_and_escapes() -> None:
    text = html(DOCUMENT)
    assert "<script>" not in text
    assert "&lt;script&gt;" in text
    assert 'src="data:image/png;base64,iVBORw=="' in text
    assert not re.search(r"https?://", text)
    assert '<tr class="strong"><td>all</td>' in text


def test_both_are_written_with_the_plots(tmp_path: Path) -> None:
    write(DOCUMENT, tmp_path)
    assert (tmp_path / "figures" / "p.png").read_bytes() == b"\x89PNG"
    assert (tmp_path / "report.md").is_file()
    assert (tmp_path / "report.html").is_file()


def test_torn_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        Table(header=("a", "b"), rows=(("1",),))
