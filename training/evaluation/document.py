"""A report of text, tables and plots, written as Markdown (plots beside it) and as one HTML file (plots inside)."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

FIGURES = "figures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells are plain text. Every row has as many as the header. ``strong``: numbers of the rows that stand out."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    strong: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"a row of the table {self.caption or self.header} has not {len(self.header)} cells")


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A plot; ``name`` is that of its file, ``alt`` says what it shows."""

    name: str
    alt: str
    png: bytes

    @property
    def inline(self) -> str:
        return f"data:image/png;base64,{base64.b64encode(self.png).decode('ascii')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    title: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...] = field(default=())


def cell(text: str) -> str:
    """As it is written in a table in Markdown."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _environment() -> Environment:
    loader = PackageLoader("training.evaluation")
    found = Environment(
        loader=loader,
        autoescape=lambda name: bool(name and ".html" in name),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["cell"] = cell
    return found


def html(document: Document) -> str:
    return _environment().get_template("report.html.j2").render(document=document)


def markdown(document: Document) -> str:
    return _environment().get_template("report.md.j2").render(document=document, figures=FIGURES)


def write(document: Document, out: Path) -> None:
    """``report.md`` with its ``figures/``, and ``report.html``."""
    (out / FIGURES).mkdir(parents=True, exist_ok=True)
    for section in document.sections:
        for picture in section.pictures:
            (out / FIGURES / picture.name).write_bytes(picture.png)
    (out / "report.md").write_text(markdown(document), "utf-8")
    (out / "report.html").write_text(html(document), "utf-8")
