"""What a scan's options make of the worker's own settings, and which results are one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from worker.content import Content
from worker.errors import UnsupportedMedia
from worker.queue.perform import cache_key, sampling_request
from worker.queue.requests import RequestOptions
from worker.types import SamplingRequest, Strategy

CONTENT = Content(sha256="ab" * 32, size_bytes=7)
DEFAULT = SamplingRequest(strategy=Strategy.AUTO, max_frames=None, fps=None, start_s=0.0, end_s=None)


def test_options_are_laid_over_the_workers_own() -> None:
    assert sampling_request(DEFAULT, RequestOptions()) == DEFAULT
    asked = sampling_request(DEFAULT, RequestOptions(strategy="fps", fps=2, start_s=1, end_s=9, max_frames=5))
    assert asked == SamplingRequest(strategy=Strategy.FPS, fps=2, start_s=1, end_s=9, max_frames=5)
    by_fps = SamplingRequest(strategy=Strategy.FPS, max_frames=None, fps=3, start_s=0.0, end_s=None)
    assert sampling_request(by_fps, RequestOptions(strategy="uniform")).fps is None
    every = sampling_request(DEFAULT, RequestOptions(exhaustive=True))
    assert every.exhaustive
    assert not sampling_request(every, RequestOptions(exhaustive=False)).exhaustive
    assert sampling_request(every, RequestOptions()).exhaustive
    assert sampling_request(DEFAULT, RequestOptions(explain=True)) == DEFAULT


@pytest.mark.parametrize("options", [{"end_s": 2.0}, {"end_s": 3.0}])
def test_a_part_that_the_workers_own_leaves_nothing_of_is_refused_in_words(options: dict[str, float]) -> None:
    later = replace(DEFAULT, start_s=3.0)
    with pytest.raises(UnsupportedMedia, match="no part from 3 s to"):
        sampling_request(later, RequestOptions(**options))
    with pytest.raises(UnsupportedMedia, match="no part from 5 s to 4 s"):
        sampling_request(replace(DEFAULT, end_s=4.0), RequestOptions(start_s=5))
    assert sampling_request(later, RequestOptions(start_s=0, **options)).end_s == options["end_s"]


def test_a_result_is_one_for_bytes_model_settings_and_options() -> None:
    keys = {
        cache_key(CONTENT, "a", RequestOptions()),
        cache_key(CONTENT, "b", RequestOptions()),
        cache_key(Content(sha256="cd" * 32, size_bytes=7), "a", RequestOptions()),
        cache_key(CONTENT, "a", RequestOptions(max_frames=8)),
        cache_key(CONTENT, "a", RequestOptions(start_s=1.0)),
        cache_key(CONTENT, "a", RequestOptions(exhaustive=True)),
        cache_key(CONTENT, "a", RequestOptions(exhaustive=False)),
        cache_key(CONTENT, "a", RequestOptions(explain=True)),
    }
    assert len(keys) == 8
    assert cache_key(CONTENT, "a", RequestOptions()) in keys
