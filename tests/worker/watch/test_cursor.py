"""Cursors of any shape: a watch goes on from one, or refuses it with a code; nothing else comes of it."""

from __future__ import annotations

import contextlib
import copy
import itertools
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from tests.worker.watch.stream import EMPTY, FAKE, REAL, ToldReader, scanner
from tests.worker.watch.test_session import Heard, go_on
from worker.errors import ConfigError, DamagedRecord, UnreadableRecord, VeriframeError
from worker.pipeline import Scanner
from worker.report import Report, Source
from worker.source.live.open import LATER, POSITIONS
from worker.types import Json
from worker.watch import cursor as layout
from worker.watch.recent import Rhythm
from worker.watch.session import Watcher
from worker.watch.state import WatchState

RHYTHM = Rhythm(window_s=4, hop_s=2, fps=1)
PARTS = [(4.0, REAL), (2.0, "behind"), (4.0, FAKE), (4.0, "broken"), (2.0, EMPTY), (3.0, FAKE)]


@pytest.fixture(scope="module")
def looking() -> Iterator[Scanner]:
    with scanner() as made:
        yield made


def watcher(looking: Scanner, folder: Path, cursor: Json | None) -> Watcher:
    return Watcher(
        open_reader=lambda position: ToldReader(PARTS, position, faces=2),
        scanner=looking,
        folder=folder,
        source=Source(kind="url", url="http://stream.test/"),
        rhythm=RHYTHM,
        max_duration_s=100,
        max_behind_s=30,
        evidence_per_track=2,
        cursor=cursor,
    )


class Cursors(list[Json]):
    """Of a whole run."""

    def __repr__(self) -> str:
        return f"{len(self)} cursors"


@pytest.fixture(scope="module")
def cursors(looking: Scanner, tmp_path_factory: pytest.TempPathFactory) -> Cursors:
    heard = Heard()
    watcher(looking, tmp_path_factory.mktemp("whole"), None).run(go_on, heard)
    return Cursors(heard.cursors)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to everything in a value of JSON."""
    yield at
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inside:
        yield from places(one, (*at, name))


def changed(value: Any, at: tuple[Any, ...], into: Any) -> Any:
    if not at:
        return into
    made = copy.deepcopy(value)
    holder = made
    for name in at[:-1]:
        holder = holder[name]
    holder[at[-1]] = into
    return made


NUMBERS = st.sampled_from([-1, 0, 1, 2**31, 2**53, 2**63, 10**30, -0.5, 0.5, 1e9, 1e300, float("inf"), float("nan")])
TEXTS = st.sampled_from(["", "AAAA", "AAAAAAAAAAA=", "////" * 7, "fake", "not_served", "\ud800", "x" * 999])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.sampled_from(["a", "clock_s", "at"]), inside, max_size=2),
    max_leaves=4,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), into=VALUES)
def test_a_cursor_that_was_changed_anywhere_is_refused_or_gone_on_from(
    place: int, into: object, looking: Scanner, cursors: Cursors, tmp_path: Path
) -> None:
    everywhere = [(cursor, at) for cursor in cursors for at in places(cursor)]
    cursor, at = everywhere[place % len(everywhere)]
    made = changed(cursor, at, into)
    asked = itertools.count()
    with contextlib.suppress(VeriframeError, TypeError if at[:1] == ("position",) else VeriframeError):
        one = watcher(looking, tmp_path, made)
        heard = Heard()
        one.run(lambda: next(asked) > 4000, heard)
        assert len(heard.windows) < 2000
        assert Report.model_validate_json(one.report().model_dump_json())


@pytest.mark.parametrize("cursor", [None, [], "", 1, {}, {"version": 1}])
def test_what_is_no_cursor_is_refused(cursor: Any) -> None:
    with pytest.raises(DamagedRecord if cursor == {"version": 1} else UnreadableRecord):
        WatchState.restored(RHYTHM, cursor, evidence_per_track=1)


@pytest.mark.parametrize(
    ("at", "into"),
    [
        (("counts", "end_s"), 1e300),
        (("counts", "end_s"), 9e8),
        (("counts", "next_window"), -5),
        (("counts", "next_window"), 10**6),
        (("counts", "faces"), "many"),
        (("counts", "last_frame_s"), float("nan")),
        (("position", "clock_s"), 2**60),
        (("position", "clock_s"), "2"),
        (("frames", "step"), 0),
        (("votes", "weights"), [0]),
        (("recent", "times"), "////" * 6),
        (("media", "width"), 0),
        (("media", "fps"), float("inf")),
        (("linker", "n"), 2**31),
    ],
)
def test_numbers_have_bounds_and_kinds(at: tuple[str, ...], into: object, cursors: Cursors) -> None:
    """Of those that are plausible by their kind, some would have windows told for years, others fail when the report is made."""
    with pytest.raises(DamagedRecord):
        WatchState.restored(RHYTHM, changed(cursors[1], at, into), evidence_per_track=1)


def test_a_stream_may_say_whatever_rate_a_decoder_may(cursors: Cursors) -> None:
    made = changed(cursors[1], ("media", "fps"), 1e9)
    assert WatchState.restored(RHYTHM, made, evidence_per_track=1).media is not None


def test_every_cursor_of_a_run_is_one(cursors: Cursors) -> None:
    for cursor in cursors:
        restored = WatchState.restored(RHYTHM, json.loads(json.dumps(cursor)), evidence_per_track=2)
        assert json.loads(json.dumps(restored.cursor())) == cursor


@pytest.mark.parametrize(
    ("at", "into"),
    [
        (("version",), 2),
        (("next",), 1),
        (("counts", "next"), 1),
        (("counts", "ending"), "next"),
        (("stretches", "missed"), [[0, 1, "because"]]),
    ],
)
def test_one_of_a_later_version_is_left_to_that(at: tuple[str, ...], into: object, cursors: Cursors) -> None:
    with pytest.raises(UnreadableRecord, match="layout 2, this worker reads 1" if at == ("version",) else "another version"):
        WatchState.restored(RHYTHM, changed(cursors[1], at, into), evidence_per_track=1)


def test_one_of_another_window_is_the_settings_fault(cursors: Cursors) -> None:
    with pytest.raises(ConfigError, match="another window"):
        WatchState.restored(replace(RHYTHM, window_s=8), cursors[1], evidence_per_track=1)


def test_what_the_version_before_does_not_know_is_left_out_where_it_says_nothing(cursors: Cursors) -> None:
    assert not {"unsaid_s", "crowded"} & set(cursors[1]["counts"])
    assert "crowded" not in cursors[1]["recent"]
    longer = changed(cursors[1], ("counts", "unsaid_s"), 0.5)
    assert WatchState.restored(RHYTHM, longer, evidence_per_track=2).cursor()["counts"]["unsaid_s"] == 0.5


LAYOUTS = {
    1: {
        "Cursor": "version rhythm position counts media linker recent votes tracks frames stretches",
        "_Counts": "next_window next_event end_s seen_until_s pieces unreadable with_face faces last_frame_s max_gap_s "
        "fake_windows detect_s infer_s read_s watched_s unsaid_s crowded label ending ending_code",
        "_Media": "container codec width height fps decoder",
        "_Linker": "n tracks before",
        "_Recent": "times faces gaps crowded",
        "_Votes": "stretch_s votes weights",
        "_Totals": "track span faces votes worst is_told label",
        "_Tracks": "held left_out",
        "_Frames": "count step worst frames faces",
        "_Stretches": "fake missed missed_ms more_missed",
        "Cause": "not_served unreadable behind outage",
        "Ending": "ended lost max_duration stopped",
        "Said": "fake real uncertain not_applicable",
        "position hls": "sequence clock_s",
        "position hls, later": "at",
        "position ts": "at clock_s raw_s",
        "position flv": "at clock_s raw_s",
        "position file": "at clock_s raw_s",
    }
}


def test_another_layout_has_another_version() -> None:
    """Where this fails: count VERSION up, add its layout, and go on reading the one before (see VERSION)."""
    parts = [part for part in vars(layout).values() if isinstance(part, type) and issubclass(part, BaseModel)]
    now = {part.__name__: " ".join(part.model_fields) for part in parts if part.model_fields}
    words = {name: " ".join(get_args(getattr(layout, name))) for name in ("Cause", "Ending", "Said")}
    positions = {f"position {kind}": " ".join(names) for kind, names in POSITIONS.items()}
    later = {f"position {kind}, later": " ".join(names) for kind, names in LATER.items()}
    assert now | words | positions | later == LAYOUTS[layout.VERSION]
