"""What a request asks for, laid over a worker's own settings of watching."""

from __future__ import annotations

import pytest

from tests.worker.queue.fake_streams import NAME, address
from worker.errors import UnsupportedMedia
from worker.queue.requests import RequestOptions
from worker.queue.streams import laid_over, opener
from worker.settings import Settings, WatchSettings

DEFAULT = WatchSettings(window_s=10, hop_s=5, fps=2, max_duration_s=3600)


@pytest.mark.parametrize(
    ("asked", "window_s", "hop_s"),
    [({}, 10, 5), ({"window_s": 20}, 20, 5), ({"window_s": 3}, 3, 3), ({"hop_s": 2}, 10, 2), ({"hop_s": 12}, 12, 12)],
)
def test_a_window_or_hop_takes_the_other_along(asked: dict[str, float], window_s: float, hop_s: float) -> None:
    made = laid_over(DEFAULT, RequestOptions(**asked))  # type: ignore[arg-type]
    assert (made.window_s, made.hop_s, made.fps) == (window_s, hop_s, 2)


def test_no_watch_is_longer_than_the_workers_own_limit() -> None:
    assert laid_over(DEFAULT, RequestOptions(max_duration_s=60)).max_duration_s == 60
    assert laid_over(DEFAULT, RequestOptions(max_duration_s=1e6)).max_duration_s == 3600


def test_windows_that_are_too_long_for_the_rate_are_refused_with_a_code() -> None:
    with pytest.raises(UnsupportedMedia):
        laid_over(DEFAULT, RequestOptions(window_s=120, hop_s=120))


def test_the_watcher_is_found_by_name() -> None:
    with opener(Settings(), None, NAME)(address(0), RequestOptions(window_s=4, hop_s=4), None) as watcher:
        watcher.finish("stopped", lambda window, events, cursor: None)
        watch = watcher.report().watch
    assert watch is not None
    assert (watch.window_s, watch.ending) == (4, "stopped")
