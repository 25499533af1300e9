"""What is printed of a calibration: scores of files that it never saw."""

from __future__ import annotations

import numpy as np
import pytest

from training.calibration import Clips, OutOfFold, fit_single
from training.scores import calibration_line, out_of_source, sources_table
from training.splits import Item
from worker.types import MediaKind, Strategy
from worker.verdict.calibrate import Calibration


def fit(clips: Clips) -> Calibration:
    return fit_single(clips, kind=MediaKind.PICTURE, rule="mean_logit", strategies=frozenset(Strategy), frames=(1, 1))


def made(n: int, shift: float, seed: int) -> Clips:
    rng = np.random.default_rng(seed)
    labels_n = np.arange(n) % 2
    return Clips(
        logits_n=rng.normal(2.0 * labels_n - 1.0, 1.0) + shift,
        labels_n=labels_n.astype(np.int64),
        groups_n=np.array([f"{seed}-{i}" for i in range(n)]),
    )


def both(first: Clips, second: Clips) -> Clips:
    return Clips(
        logits_n=np.concatenate([first.logits_n, second.logits_n]),
        labels_n=np.concatenate([first.labels_n, second.labels_n]),
        groups_n=np.concatenate([first.groups_n, second.groups_n]),
    )


def test_out_of_source_no_source_helps_itself() -> None:
    """Two sources that lie 6 logits apart: each is badly calibrated by the other."""
    clips = both(made(200, 0.0, 0), made(200, 6.0, 1))
    found = out_of_source(clips, ["a"] * 200 + ["b"] * 200, fit)
    assert found is not None
    known, scores = found
    assert len(known.labels_n) == 400
    assert np.median(scores.p_n[:200]) < 0.05
    assert np.median(scores.p_n[200:]) > 0.95
    alike = out_of_source(both(made(200, 0.0, 0), made(200, 0.0, 1)), ["a"] * 200 + ["b"] * 200, fit)
    assert alike is not None
    assert abs(np.median(alike[1].p_n) - 0.5) < 0.1


def test_out_of_source_is_unknown_with_one_source() -> None:
    assert out_of_source(made(40, 0.0, 0), ["a"] * 40, fit) is None


def test_the_error_is_told_beside_what_chance_would_show() -> None:
    rng = np.random.default_rng(0)
    p_n = rng.uniform(0, 1, 4000)
    clips = Clips(logits_n=p_n, labels_n=(rng.random(4000) < p_n).astype(np.int64), groups_n=np.arange(4000).astype(str))

    def error(p_n: np.ndarray) -> tuple[float, float]:
        line = calibration_line("out of fold", clips, OutOfFold(p_n=p_n, t_real_n=p_n * 0, t_fake_n=p_n * 0))
        assert "out of fold" in line
        return float(line.split(": ")[1].split()[0]), float(line.split("would show ")[1].split()[0])

    good, floor = error(p_n)
    assert good < 0.03
    assert good == pytest.approx(floor, abs=0.015)
    assert error(np.clip(p_n + 0.2, 0, 1))[0] > 0.1


def test_the_table_has_a_row_for_each_source_and_manipulation() -> None:
    clips = made(8, 0.0, 2)
    items = [
        Item(
            path=f"videos/{i}",
            label="fake" if i % 2 else "real",
            source="ffpp" if i < 6 else "talking",
            manipulation="deepfakes" if i % 2 else "",
            group=f"g{i}",
            split="heldout" if i < 6 else "leftout",
        )
        for i in range(8)
    ]
    p_n = np.where(clips.labels_n == 1, 0.9, 0.1)
    rows = sources_table(items, clips, OutOfFold(p_n=p_n, t_real_n=np.full(8, 0.3), t_fake_n=np.full(8, 0.7)), draws=20)
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| all", "| ffpp (heldout)", "| talking (leftout)", "| ffpp: deepfakes"]
    assert rows[2].startswith("| all | 4 | 4 | 1.000 | 1.00 | 1.000 | 0.00 | 0.00 |")


def test_the_table_gives_no_accuracy_where_a_class_has_none_decided() -> None:
    clips = made(4, 0.0, 2)
    items = [
        Item(path=str(n), label="fake" if n % 2 else "real", source="mine", manipulation="", group=f"g{n}", split="heldout")
        for n in range(4)
    ]
    p_n = np.where(clips.labels_n == 1, 0.5, 0.1)
    rows = sources_table(items, clips, OutOfFold(p_n=p_n, t_real_n=np.full(4, 0.3), t_fake_n=np.full(4, 0.7)), draws=2)
    assert rows[-1] == "| mine (heldout) | 2 | 2 | 1.000 | 0.50 | - | 0.00 | 0.00 |"


@pytest.mark.parametrize(("people", "told"), [(1, "0.500 |"), (4, "0.500 |"), (5, "0.500 (0."), (20, "0.500 (0.")])
def test_the_table_gives_no_interval_from_the_fakes_of_a_few_people(people: int, told: str) -> None:
    """However many files: each draw holds the same few again."""
    score_n = np.tile([0.2, 0.1, 0.2, 0.3], 10)  # the fakes around the real files
    items = [
        Item(
            path=str(n),
            label="fake" if n % 2 else "real",
            source="mine",
            manipulation="",
            group=f"fake {n // 2 % people}" if n % 2 else f"real {n}",
            split="heldout",
        )
        for n in range(40)
    ]
    clips = Clips(
        logits_n=score_n,
        labels_n=np.array([int(item.label == "fake") for item in items], np.int64),
        groups_n=np.array([item.group for item in items]),
    )
    found = OutOfFold(p_n=score_n, t_real_n=np.full(40, 0.3), t_fake_n=np.full(40, 0.7))
    assert sources_table(items, clips, found, draws=20)[-1].startswith(f"| mine (heldout) | 20 | 20 | {told}")
