"""Every verdict, state, reason and code has its words."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from worker import errors, report
from worker.pages import words
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
