"""The catalogue says what the program can say, and the documentation says what the catalogue does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from worker.backends.candidates import NAMES
from worker.errors import BY_CODE, StorageError, UnreadableRecord
from worker.frames.peer import Lost
from worker.queue.record import FINAL
from worker.queue.requests import QUEUES
from worker.report import ErrorCode, Timings
from worker.telemetry import catalogue
from worker.telemetry.catalogue import OF_A_GPU, OF_A_WORKER, OF_THE_API, Metric
from worker.types import Label, MediaKind

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
EVERYTHING = (*OF_THE_API, *OF_A_WORKER, *OF_A_GPU)


def test_the_closed_sets_are_those_of_the_program() -> None:
    assert catalogue.QUEUES == QUEUES
    assert set(catalogue.VERDICTS) == {*Label, "none"}
    assert set(catalogue.ERRORS) == set(get_args(ErrorCode))
    assert set(catalogue.RETRYABLE) == {code for code in get_args(ErrorCode) if code == "internal" or BY_CODE[code].retryable}, (
        "a bug is tried again, too"
    )
    assert set(catalogue.LEAVING) == {one.code for one in (UnreadableRecord, *StorageError.__subclasses__())}
    assert set(catalogue.BACKENDS) == set(NAMES)
    assert set(catalogue.STAGES) == set(Timings.model_fields)
    assert set(catalogue.KINDS) == set(MediaKind)
    assert set(catalogue.DECODER_ENDS) == set(get_args(Lost))
    assert {status for (status,) in catalogue.ENDED.from_the_start()} == FINAL


def test_names_and_types_follow_the_conventions() -> None:
    names = [metric.name for metric in EVERYTHING]
    assert len(set(names)) == len(names)
    for metric in EVERYTHING:
        assert re.fullmatch(r"veriframe_[a-z0-9_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter"), metric.name
        assert (metric.buckets != ()) == (metric.kind == "histogram"), metric.name
        assert list(metric.buckets) == sorted(set(metric.buckets)), metric.name


def test_all_closed_counters_are_there_from_the_start() -> None:
    for metric in OF_A_WORKER:
        if metric.kind == "counter":
            assert metric.from_the_start(), metric.name
    assert len(catalogue.SCANS.from_the_start()) == len(catalogue.VERDICTS) + len(catalogue.ERRORS)
    assert catalogue.MODEL.from_the_start() == ()
    assert catalogue.BATCH.from_the_start() == ((),)


def test_what_is_not_in_the_set_makes_no_series_of_its_own() -> None:
    assert catalogue.SCANS.closed(("fake", "none")) == ("fake", "none")
    assert catalogue.SCANS.closed(("fake", "<script>")) == ("fake", "other")
    assert catalogue.GPU_MEMORY.closed(("7", "spent")) == ("7", "other")


@pytest.mark.parametrize("metric", EVERYTHING, ids=lambda metric: metric.name)
def test_the_page_has_each_with_its_type_and_labels(metric: Metric) -> None:
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith(f"| `{metric.name}`")]
    assert len(rows) == 1
    _, _, kind, labels, *_ = (cell.strip() for cell in rows[0])
    assert kind == metric.kind
    assert tuple(re.findall(r"`(\w+)`", labels)) == metric.label_names


def test_the_page_has_no_others() -> None:
    named = set(re.findall(r"^\| `(veriframe_\w+)`", PAGE.read_text(), re.MULTILINE))
    assert named == {metric.name for metric in EVERYTHING}
