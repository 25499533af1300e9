"""Every verdict, state, reason and code has its words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import get_args

import pytest

from tests.worker.pages import reports
from tests.worker.pages.html import Page
from worker import errors, report
from worker.pages import words
from worker.pages.page import report_page
from worker.types import Label, Reason


def leaves(root: type[errors.VeriframeError]) -> set[str]:
    """Codes of a tree of errors."""
    return {root.code} | {code for child in root.__subclasses__() for code in leaves(child)}


def test_every_verdict_and_state_is_explained() -> None:
    assert set(words.VERDICTS) == set(Label)
    assert set(words.STATUSES) == set(get_args(report.Status))
    for said in (*words.VERDICTS.values(), *words.STATUSES.values()):
        assert said.name
        assert said.mark
        assert said.means.endswith(".")


def test_verdicts_are_told_apart_without_colour() -> None:
    assert len({said.mark for said in words.VERDICTS.values()}) == len(Label)


def test_every_reason_has_a_sentence() -> None:
    assert set(words.REASONS) == set(Reason)


def test_every_code_has_a_sentence() -> None:
    assert set(words.ERRORS) == set(get_args(report.ErrorCode)) | leaves(errors.VeriframeError)


def test_what_a_watch_and_a_shortened_scan_say_is_explained() -> None:
    literals = {name: field.annotation for model in (report.WatchGap, report.Watch, report.Sampling)
                for name, field in model.model_fields.items()}  # fmt: skip
    assert set(words.GAP_CAUSES) == set(get_args(literals["cause"]))
    assert set(words.ENDINGS) == {name for part in get_args(literals["ending"]) for name in get_args(part)}
    assert set(words.STOPPED_BY) == {name for part in get_args(literals["stopped_by"]) for name in get_args(part)}


@pytest.mark.parametrize("said", [*words.REASONS.values(), *words.ERRORS.values(), *words.LIMITS, *words.ENDINGS.values()])
def test_sentences_are_sentences_without_our_own_terms(said: str) -> None:
    assert said[0].isupper()
    assert said.endswith(".")
    assert not re.search(r"logit|piw|lease|stack trace|null|exception", said, re.IGNORECASE)


def test_the_code_of_another_version_is_an_error_of_ours() -> None:
    assert words.error("melted") == words.ERRORS["internal"]


def test_videos_of_the_file_that_were_not_scanned_are_told_under_the_verdict() -> None:
    media = reports.report().media
    assert media is not None
    some = [reports.report(media=media.model_copy(update={"more_videos": more})) for more in (0, 1, 2)]
    texts = [Page(report_page(one, lambda _: None)).text for one in some]
    assert [text.count("only one was scanned") for text in texts] == [0, 1, 1]
    assert "The file holds 2 more video streams" in texts[2]


def test_what_could_not_be_decoded_is_told_under_the_verdict() -> None:
    told = [reports.PART.model_copy(update={"undecodable_s": lost_s}) for lost_s in (0.0, 0.02, 1.25)]
    texts = [Page(report_page(reports.report(sampling=sampling), lambda _: None)).text for sampling in told]
    for text, says in zip(texts, (None, "About 0.1 s", "About 1.2 s"), strict=True):
        assert ("could not be decoded" in text) is (says is not None)
        assert says is None or f"{says} of 2.8 s could not be decoded" in text


@pytest.mark.parametrize(
    ("made", "helps"), [(reports.report, "Cut-outs of the crowd"), (reports.watched, "A recording of the crowd")]
)
def test_faces_of_a_crowd_that_were_left_out_are_told_with_what_helps(made: Callable[..., report.Report], helps: str) -> None:
    """A better copy of it has as many; it is what helps where the faces that were judged are poor, though they look fake."""
    told = {}
    for crowded in (False, True):
        for reason in (Reason.SPARSE_COVERAGE, Reason.LOW_QUALITY):
            sampling = reports.PART.model_copy(update={"crowded": crowded})
            one = made(verdict=Label.UNCERTAIN, score=0.5, reasons=({"code": reason},), sampling=sampling)
            text = Page(report_page(one, lambda _: None)).text
            told[crowded, reason] = ("Only the largest faces of a crowd were" in text, helps in text, "better quality" in text)
    assert told == {
        (False, Reason.SPARSE_COVERAGE): (False, False, True),
        (False, Reason.LOW_QUALITY): (False, False, True),
        (True, Reason.SPARSE_COVERAGE): (True, True, False),
        (True, Reason.LOW_QUALITY): (True, False, True),
    }
