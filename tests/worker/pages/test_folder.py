"""Pages of a folder of reports and its index: in every order, in tables, for items of earlier runs too."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import sqlite3
from pathlib import Path

import pytest

from tests.worker.pages.html import Page
from tests.worker.pages.reports import PART, failed, report
from worker.output.folder import ReportFolder
from worker.pages import words
from worker.pages.folder import FolderPages
from worker.pages.index import write_index
from worker.pages.rows import DATABASE, ORDERS, PAGE, Rows
from worker.report import Report, Source
from worker.types import Label

JPEG = b"\xff\xd8 a picture"


def named(name: str, made: Report) -> Report:
    return made.model_copy(update={"source": Source(kind="path", path=f"/clips/{name}")})


def scored(name: str, verdict: Label, score: float | None) -> Report:
    return named(name, report(verdict=verdict, score=score))


ITEMS = [
    scored("b.mp4", Label.REAL, 0.1),
    scored("c.mp4", Label.FAKE, 0.8),
    named("d.mp4", failed()),
    scored("A.mp4", Label.FAKE, 0.9),
    scored("e.mp4", Label.UNCERTAIN, 0.5),
    scored("f.mp4", Label.NOT_APPLICABLE, None),
]


def save(root: Path, items: list[Report], *, close: bool = True) -> ReportFolder:
    folder = ReportFolder(root, FolderPages(root))
    for item in items:
        evidence = [one for track in item.tracks for one in track.evidence]
        crops = {str(name): JPEG + str(name).encode() for one in evidence for name in (one.crop, one.frame, one.explanation)}
        folder.save(Path(item.source.path or ""), item, crops, None, "")
    if close:
        folder.close()
    return folder


def listed(table: Path) -> list[str]:
    """Names in the order of the rows, by the links that lead to pages that are there."""
    page = Page(table.read_text("utf-8"))
    links = [tag.attributes["href"] for tag in page.of("a") if tag.attributes["href"].endswith(PAGE)]
    assert all((table.parent / link).is_file() for link in links)
    return [Path(link).parent.name.rpartition("-")[0] for link in links]


def test_every_item_has_its_page_with_its_pictures(tmp_path: Path) -> None:
    folder = save(tmp_path, ITEMS[:1], close=False)
    page = (folder.place(Path("/clips/b.mp4")) / PAGE).read_text("utf-8")
    assert page.count("data:image/jpeg;base64," + base64.b64encode(JPEG[:6]).decode()) == 3
    assert 'href="../index.html"' in page


@pytest.mark.parametrize(
    ("table", "names"),
    [
        ("index.html", ["A.mp4", "c.mp4", "e.mp4", "d.mp4", "f.mp4", "b.mp4"]),
        ("index/score-1.html", ["A.mp4", "c.mp4", "e.mp4", "b.mp4", "d.mp4", "f.mp4"]),
        ("index/name-1.html", ["A.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4", "f.mp4"]),
    ],
)
def test_the_index_is_there_in_every_order(tmp_path: Path, table: str, names: list[str]) -> None:
    save(tmp_path, ITEMS)
    assert listed(tmp_path / table) == names


def test_the_index_says_why_an_item_failed(tmp_path: Path) -> None:
    missing = failed("unsupported", "no such file or folder")
    save(tmp_path, [missing])
    assert f"{words.ERRORS['unsupported']} (no such file or folder)" in Page((tmp_path / "index.html").read_text("utf-8")).text


def test_orders_are_linked_and_the_present_one_is_marked(tmp_path: Path) -> None:
    save(tmp_path, ITEMS)
    for order, table in (("verdict", "index.html"), ("score", "index/score-1.html"), ("name", "index/name-1.html")):
        page = Page((tmp_path / table).read_text("utf-8"))
        links = {tag.attributes["href"].partition("#")[0] for tag in page.of("a")} - {""}
        assert all((tmp_path / table).parent.joinpath(link).is_file() for link in links)
        sorted_by = [tag for tag in page.of("th") if "aria-sort" in tag.attributes]
        assert len(sorted_by) == 1
        (present,) = [tag for tag in page.tags if tag.attributes.get("aria-current")]
        assert present.name == "strong"
        assert f"sorted by {order}" in page.text


def test_many_items_fill_several_tables_and_verdicts_lead_to_their_first_row(tmp_path: Path) -> None:
    save(tmp_path, ITEMS)
    with Rows(tmp_path) as rows:
        write_index(tmp_path, rows, per_table=2)
    assert [listed(tmp_path / name) for name in ("index.html", "index/verdict-2.html", "index/verdict-3.html")] == [
        ["A.mp4", "c.mp4"],
        ["e.mp4", "d.mp4"],
        ["f.mp4", "b.mp4"],
    ]
    page = Page((tmp_path / "index.html").read_text("utf-8"))
    groups = {
        tag.attributes["class"]: tag.attributes["href"] for tag in page.of("a") if "verdict " in tag.attributes.get("class", "")
    }
    assert groups["verdict failed"] == "index/verdict-2.html#failed"
    assert groups["verdict real"] == "index/verdict-3.html#real"
    for href in groups.values():
        table, _, anchor = href.partition("#")
        assert f'id="{anchor}"' in (tmp_path / table).read_text("utf-8")
    assert "Table 1 of 3" in page.text
    with Rows(tmp_path) as rows:
        write_index(tmp_path, rows)
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == ["name-1.html", "score-1.html"]


def test_items_of_earlier_runs_stay_changed_ones_are_renewed_and_deleted_ones_go(tmp_path: Path) -> None:
    save(tmp_path, ITEMS[:3])
    folder = save(tmp_path, [scored("b.mp4", Label.FAKE, 0.95), ITEMS[3]])
    assert listed(tmp_path / "index.html") == ["b.mp4", "A.mp4", "c.mp4", "d.mp4"]
    (folder.place(Path("/clips/c.mp4")) / "report.json").unlink()
    folder.close()
    assert listed(tmp_path / "index.html") == ["b.mp4", "A.mp4", "d.mp4"]


def test_nobody_else_writes_rows_from_before_a_run_looks_at_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[object] = []
    scandir = os.scandir

    def beside_another(path: Path) -> object:
        other = sqlite3.connect(tmp_path / DATABASE, timeout=0)
        with contextlib.closing(other), pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        looked_at.append(path)
        return scandir(path)

    with Rows(tmp_path) as rows:
        monkeypatch.setattr(os, "scandir", beside_another)
        rows.renew()
    assert looked_at == [tmp_path]


@pytest.mark.parametrize("lock", ["IMMEDIATE", "EXCLUSIVE"])
def test_a_run_that_ends_while_another_holds_the_rows_for_long_writes_the_index_all_the_same(lock: str, tmp_path: Path) -> None:
    save(tmp_path, ITEMS[:1])
    save(tmp_path, ITEMS[1:2], close=False)
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as other:
        other.execute(f"BEGIN {lock}")
        FolderPages(tmp_path, patience_s=0).close()
        assert other.execute("SELECT COUNT(*) FROM rows").fetchone() == (1,)
    assert listed(tmp_path / "index.html") == ["c.mp4", "b.mp4"]
    with Rows(tmp_path) as rows:
        assert [row.name for row in rows.in_order("name")] == ["b.mp4"], "the other's is left alone"


def test_only_reports_that_changed_are_read_again(tmp_path: Path) -> None:
    save(tmp_path, ITEMS)
    read: list[str] = []
    with Rows(tmp_path) as rows:
        rows.renew(lambda place, made: read.append(place.name))
    assert read == []
    save(tmp_path, ITEMS[1:2], close=False)
    with Rows(tmp_path) as rows:
        rows.renew(lambda place, made: read.append(place.name))
    assert [name.partition("-")[0] for name in read] == ["c.mp4"]


def test_a_report_written_in_place_is_read_again_whatever_time_and_size_it_has(tmp_path: Path) -> None:
    path = save(tmp_path, ITEMS[:1]).place(Path("/clips/b.mp4")) / "report.json"
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"b.mp4", b"z.mp4"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with Rows(tmp_path) as rows:
        read: list[Path] = []
        rows.renew(lambda place, report: read.append(place))
        assert read == [path.parent]
        assert [row.name for row in rows.in_order("name")] == ["z.mp4"]


def test_a_damaged_database_is_made_anew(tmp_path: Path) -> None:
    save(tmp_path, ITEMS[:2])
    (tmp_path / DATABASE).write_bytes(b"not a database, though as long as one might be" * 100)
    save(tmp_path, ITEMS[2:3])
    assert sorted(listed(tmp_path / "index.html")) == ["b.mp4", "c.mp4", "d.mp4"]


def test_where_no_database_can_be_the_index_is_made_without(tmp_path: Path) -> None:
    (tmp_path / DATABASE).mkdir()
    save(tmp_path, ITEMS)
    assert len(listed(tmp_path / "index.html")) == len(ITEMS)


def test_a_report_without_its_page_gets_one_and_a_damaged_one_is_passed_over(tmp_path: Path) -> None:
    folder = ReportFolder(tmp_path)
    crops = {"track000_000002000ms.jpg": JPEG}
    folder.save(Path("/clips/b.mp4"), ITEMS[0], crops, None, "")
    folder.save(Path("/clips/c.mp4"), ITEMS[1], crops, None, "")
    (folder.place(Path("/clips/c.mp4")) / "report.json").write_text('{"schema_version": 99}')
    FolderPages(tmp_path).close()
    assert listed(tmp_path / "index.html") == ["b.mp4"]
    page = (folder.place(Path("/clips/b.mp4")) / PAGE).read_text("utf-8")
    assert page.count("data:image/jpeg") == 1


def test_a_report_of_a_newer_version_is_in_the_index(tmp_path: Path) -> None:
    path = save(tmp_path, ITEMS[:1], close=False).place(Path("/clips/b.mp4")) / "report.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"next": 1}))
    FolderPages(tmp_path).close()
    assert listed(tmp_path / "index.html") == ["b.mp4"]


def test_what_goes_wrong_with_pages_costs_pages_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = save(tmp_path, ITEMS[:2])
    blocked, stale = (folder.place(Path(item.source.path or "")) for item in ITEMS[:2])
    (blocked / PAGE).unlink()
    (blocked / PAGE).mkdir()
    (tmp_path / "index.html").unlink()
    (tmp_path / "index.html").mkdir()
    save(tmp_path, [ITEMS[0], ITEMS[1].model_copy(update={"created_at": None})])
    assert "no page is written in" in caplog.text
    assert (blocked / "report.json").is_file()
    assert not (stale / PAGE).exists(), "rather none than an earlier one"


def test_hostile_names_cannot_write_into_the_index(tmp_path: Path) -> None:
    save(tmp_path, [named('"><img src=x onerror=alert(1)>\u202e{{ 7 * 7 }}.mp4', report())])
    for table in (tmp_path / "index.html", *(tmp_path / "index").iterdir()):
        html = table.read_text("utf-8")
        assert "&lt;img src=x onerror=alert(1)&gt;" in html
        assert not re.search("<img|\u202e|<script", html)


def test_an_empty_folder_has_an_index_that_says_so(tmp_path: Path) -> None:
    FolderPages(tmp_path).close()
    assert "No items" in Page((tmp_path / "index.html").read_text("utf-8")).text


def test_a_verdict_by_a_person_is_marked(tmp_path: Path) -> None:
    save(tmp_path, [report(verdict=Label.REAL, decided_by="human")])
    assert "by a person" in Page((tmp_path / "index.html").read_text("utf-8")).text


def test_that_only_a_part_was_scanned_is_said(tmp_path: Path) -> None:
    save(tmp_path, [report(sampling=PART)])
    assert "Only 0:03.1 to 0:05.9 of 0:10.0 was scanned." in Page((tmp_path / "index.html").read_text("utf-8")).text


def test_that_a_score_is_not_calibrated_is_said(tmp_path: Path) -> None:
    save(tmp_path, [named("b.mp4", report(calibrated=False)), named("c.mp4", report())])
    assert Page((tmp_path / "index.html").read_text("utf-8")).text.count(words.NOT_CALIBRATED) == 1


def test_orders_are_those_that_the_page_names() -> None:
    assert list(ORDERS) == ["verdict", "score", "name"]


def test_a_score_that_is_less_than_one_is_not_said_to_be_one(tmp_path: Path) -> None:
    save(tmp_path, [scored("a.mp4", Label.FAKE, 0.996)])
    assert ">0.99" in Page((tmp_path / "index.html").read_text("utf-8")).text


def test_that_a_real_one_has_suspicious_stretches_is_said(tmp_path: Path) -> None:
    without = named("b.mp4", report(verdict=Label.REAL, score=0.1, segments=()))
    save(tmp_path, [scored("a.mp4", Label.REAL, 0.2), without, scored("c.mp4", Label.FAKE, 0.9)])
    assert Page((tmp_path / "index.html").read_text("utf-8")).text.count("Some stretches look suspicious.") == 1
