"""The page of a report: whole, escaped, self-contained, and usable without seeing or colours."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import get_args

import pytest

from tests.worker.pages.html import Page
from tests.worker.pages.reports import MEDIA, PART, failed, frames, report, track, watched
from worker.pages import words
from worker.pages.page import MOST_VALUES, name_of, report_page, values_of
from worker.pages.rows import row_of
from worker.pages.timeline import MOST_ROWS
from worker.report import ErrorCode, ErrorItem, FrameItem, Model, Report, Segment, Source, Thresholds, Uncertainty
from worker.types import Label, MediaKind, Reason

JPEG = b"\xff\xd8 a picture"
PICTURE = report(media=MEDIA.model_copy(update={"kind": MediaKind.PICTURE, "duration_s": 0.0, "fps": 0.0}), segments=())
HOSTILE = '"><script>alert(1)</script>{{ 7 * 7 }}\u202egpj.exe\x1b[2J'


def nothing(name: str) -> bytes | None:
    return None


def everything(name: str) -> bytes | None:
    return JPEG + name.encode()


STATES = {
    "fake": report(),
    "real": report(verdict=Label.REAL, score=0.1, segments=()),
    "uncertain": report(verdict=Label.UNCERTAIN, score=0.5, reasons=({"code": Reason.NEAR_THRESHOLD},)),
    "no face": report(verdict=Label.NOT_APPLICABLE, score=None, odds=None, thresholds=None, tracks=(), segments=(), frames=(),
                      reasons=({"code": Reason.NO_FACE},)),
    "failed": failed(),
    "queued": failed().model_copy(update={"status": "queued", "error": None}),
    "human": report(verdict=Label.REAL, decided_by="human"),
    "uncalibrated": report(calibrated=False),
    "picture": PICTURE,
    "watch": watched(),
}  # fmt: skip


@pytest.fixture(params=STATES, scope="module")
def page(request: pytest.FixtureRequest) -> Page:
    return Page(report_page(STATES[request.param], everything))


def test_a_page_asks_for_nothing_and_runs_nothing(page: Page) -> None:
    assert not {tag.name for tag in page.tags} & {"script", "link", "iframe", "object", "embed", "form", "base", "video"}
    for tag in page.tags:
        assert not [name for name in tag.attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "srcset", "xlink:href"):
            assert tag.attributes.get(name, "#").startswith(("#", "data:image/jpeg;base64,"))
    assert "url(" not in page.html.replace("url(#timeline-hatch)", "")
    assert "@import" not in page.html


def test_a_page_has_landmarks_and_headings_in_order(page: Page) -> None:
    assert [len(page.of(name)) for name in ("header", "main", "footer", "h1", "title")][:4] == [1, 1, 1, 1]
    assert page.of("html")[0].attributes["lang"] == "en"
    levels = [int(tag.name[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag.name)]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    ids = [tag.attributes["id"] for tag in page.tags if "id" in tag.attributes]
    assert len(ids) == len(set(ids))
    named = [name for tag in page.tags for name in tag.attributes.get("aria-labelledby", "").split()]
    assert set(named) <= set(ids)


def test_tables_and_pictures_have_names_and_what_scrolls_is_reached_by_keyboard(page: Page) -> None:
    assert len(page.of("caption")) == len(page.of("table"))
    assert all(tag.attributes.get("scope") for tag in page.of("th"))
    assert all(tag.attributes.get("alt") for tag in page.of("img"))
    for tag in page.of("svg"):
        if tag.attributes.get("role") == "img":
            assert tag.attributes.get("aria-label") or tag.attributes.get("aria-labelledby")
    for tag in page.tags:
        if tag.attributes.get("class") == "scroll":
            assert (tag.attributes["tabindex"], tag.attributes["role"]) == ("0", "region")
            assert tag.attributes["aria-label"]


def test_every_page_tells_the_limits(page: Page) -> None:
    assert all(said in page.text for said in words.LIMITS)


def test_the_verdict_is_a_word_and_its_meaning() -> None:
    for label, said in words.VERDICTS.items():
        reasons = ({"code": Reason.NO_FACE},) if label in (Label.UNCERTAIN, Label.NOT_APPLICABLE) else ()
        text = Page(report_page(report(verdict=label, reasons=reasons, segments=()), nothing)).text
        assert f"{said.mark} {said.name}" in text
        assert said.means in text
        assert said.next_step in text


def test_a_real_with_suspicious_stretches_is_not_said_to_show_no_sign() -> None:
    text = Page(report_page(report(verdict=Label.REAL, score=0.1), nothing)).text
    assert "No sign of" not in text
    assert "Some stretches look suspicious (marked below)" in text
    assert "does not prove that the media are genuine" in text


def test_more_frames_are_advised_only_where_there_are_more() -> None:
    sampled = report(verdict=Label.UNCERTAIN, score=0.5)
    assert sampled.sampling is not None
    whole = sampled.model_copy(update={"sampling": sampled.sampling.model_copy(update={"max_gap_s": 0.0})})
    picture = PICTURE.model_copy(update={"verdict": Label.UNCERTAIN})
    advised = ["more frames" in Page(report_page(one, nothing)).text for one in (sampled, whole, picture)]
    assert advised == [True, False, False]


@pytest.mark.parametrize("reason", Reason)
def test_reasons_are_sentences(reason: Reason) -> None:
    text = Page(report_page(report(verdict=Label.UNCERTAIN, reasons=({"code": reason},)), nothing)).text
    assert words.REASONS[reason] in text
    assert reason.value not in text.replace(words.REASONS[reason], "")


@pytest.mark.parametrize("code", get_args(ErrorCode))
def test_errors_are_sentences_with_their_code(code: str) -> None:
    text = Page(report_page(failed(code), nothing)).text
    assert words.ERRORS[code] in text
    assert f"({code}: moov atom not found)" in text


@pytest.mark.parametrize(
    ("code", "said"),
    [
        *((code, "A second try would give the same.") for code in ("corrupt", "empty", "too_large", "too_long")),
        *((code, None) for code in ("decode_timeout", "out_of_memory", "internal", "fetch_gone", "fetch_auth")),
    ],
)
def test_only_what_lies_in_the_bytes_is_said_to_come_again(code: str, said: str | None) -> None:
    text = Page(report_page(failed(code), nothing)).text
    assert re.findall(r"A second try .*", text) == ([said] if said else [])


def test_which_bytes_failed_is_said_where_it_is_known() -> None:
    error = ErrorItem(code="corrupt", message="", retryable=False, sha256="ef" * 32)
    pages = [Page(report_page(one, nothing)).text for one in (failed().model_copy(update={"error": error}), failed())]
    assert ["ef" * 32 in text for text in pages] == [True, False]


def test_what_may_help_and_that_all_tries_are_used_up_is_said() -> None:
    error = ErrorItem(code="fetch_timeout", message="", retryable=True)
    text = Page(report_page(failed().model_copy(update={"error": error, "dead": True}), nothing)).text
    assert "A second try may help.\nAll tries are used up." in text


def test_of_what_is_not_there_nothing_is_said_about_a_second_try() -> None:
    text = Page(report_page(failed("unsupported", "no such file or folder"), nothing)).text
    assert "cannot be read as a video or picture. (unsupported: no such file or folder)" in text
    assert "second try" not in text


@pytest.mark.parametrize(("gap_s", "said"), [(5.0, "5.0 s"), (0.017, "0.017 s")])
def test_a_gap_needs_no_two_frames_and_is_never_nothing(gap_s: float, said: str) -> None:
    sampling = PART.model_copy(update={"start_s": None, "end_s": None, "decoded": 1, "max_gap_s": gap_s})
    text = Page(report_page(report(sampling=sampling), nothing)).text
    assert f"{said} without a frame that was looked at" in text
    assert "1 frame, 8 of them with a face" in text


def test_the_models_calibration_is_not_said_to_hold_where_it_does_not() -> None:
    texts = [Page(report_page(report(calibrated=calibrated), nothing)).text for calibrated in (True, False)]
    assert ["tiny 2 (does not hold for this kind of scan)" in text for text in texts] == [False, True]


def test_that_only_a_part_was_scanned_stands_under_the_verdict() -> None:
    text = Page(report_page(report(sampling=PART), nothing)).text
    assert "Only 0:03.1 to 0:05.9 of 0:10.0 was scanned." in text
    assert "from 3.1 s to 5.9 s alone" in text
    assert "was scanned." not in Page(report_page(report(), nothing)).text


@pytest.mark.parametrize(("state", "said"), [("human", words.HUMAN), ("uncalibrated", words.UNCALIBRATED)])
def test_what_changes_the_meaning_of_a_score_is_said(state: str, said: str) -> None:
    assert said in Page(report_page(STATES[state], nothing)).text
    assert said not in Page(report_page(STATES["fake"], nothing)).text


@pytest.mark.parametrize("label", Label)
def test_a_persons_verdict_is_not_explained_as_a_finding_of_the_model(label: Label) -> None:
    text = Page(report_page(report(verdict=label, decided_by="human"), nothing)).text
    assert words.VERDICTS[label].means not in text
    assert words.VERDICTS[label].next_step not in text


def test_a_page_says_where_no_track_decides_by_itself_and_shows_first_what_does() -> None:
    tracks = (track(0, 0.1), track(1, None, votes=2))
    page = Page(report_page(report(score=0.7, tracks=tracks), nothing))
    assert words.POOLED in page.text
    assert page.text.index("Track 1, too short to be judged alone") < page.text.index("Track 0, score 0.10")
    assert words.POOLED not in Page(report_page(report(score=0.1, verdict=Label.REAL, tracks=tracks), nothing)).text


def test_a_page_says_of_tracks_without_a_score_why_they_have_none() -> None:
    tracks = (track(0, None, votes=1), track(1, None, votes=0, evidence=()))
    page = Page(report_page(report(verdict=Label.NOT_APPLICABLE, score=None, tracks=tracks), nothing))
    assert re.findall(r"too few faces|faces too small or poor", page.text) == ["too few faces", "faces too small or poor"]
    assert "no face that could be judged" not in page.text, "one was"


def test_facts_of_media_model_and_scan_are_there() -> None:
    text = Page(report_page(report(), nothing)).text
    for fact in ("640 x 360 pixels", "h264 in mp4", "ab" * 32, "tiny 2, run by onnxruntime", "cd" * 32, "Research only", "1.25"):
        assert fact in text
    assert "real below 0.350, fake above 0.650" in text


def test_thresholds_are_as_exact_as_the_score_beside_them() -> None:
    """A fake of 0.997 is not said to need more than 1.00."""
    html = report_page(report(score=0.997, thresholds=Thresholds(real_below=0.423, fake_above=0.996)), nothing)
    page = Page(html)
    assert "real below 0.423, fake above 0.996" in page.text
    assert "Score 0.997 on a scale" in html
    assert "above 0.996 as fake" in html


@pytest.mark.parametrize(
    ("score", "told"), [(0.69996, "0.69996"), (0.7, "0.700"), (0.699999999, "0.699999999"), (0.3001, "0.3001")]
)
def test_a_score_close_to_a_threshold_has_the_digits_that_tell_them_apart(score: float, told: str) -> None:
    limits = Thresholds(real_below=0.3, fake_above=0.7)
    html = report_page(report(verdict=Label.UNCERTAIN, score=score, thresholds=limits), nothing)
    zeros = "0" * (len(told) - 3)
    assert f"Score {told} on a scale" in html
    assert f"<td>{told}, the probability" in html
    assert f"real below 0.3{zeros}, fake above 0.7{zeros}" in html
    assert f"above 0.7{zeros} as fake" in html


def test_what_the_draws_say_is_there_where_there_are_draws() -> None:
    drawn = report(uncertainty=Uncertainty(piw=0.125, ttest_p=0.01, n_samples=50))
    assert "0.125 wide (95 % of the 50 draws" in Page(report_page(drawn, nothing)).text
    assert "Prediction interval" not in Page(report_page(report(), nothing)).text


def test_of_frames_that_the_report_does_not_list_a_page_says_how_many_there_are() -> None:
    sampling = report().sampling
    assert sampling is not None
    html = report_page(report(sampling=sampling.model_copy(update={"decoded": 300})), nothing)
    assert html.count("10 of 300 frames that were looked at") == 3, "in the key, the table and for those who see neither"
    assert "10 of 10" not in report_page(report(), nothing)


def test_a_watch_tells_its_windows_and_gaps() -> None:
    text = Page(report_page(watched(), nothing)).text
    assert "12 of 10 s, one every 5 s" in text
    assert words.ENDINGS["lost"] in text
    assert "2.5 s: " + words.GAP_CAUSES["outage"] in text
    assert "0:05.0" in text
    assert "neither whole frames nor maps" in text
    bare = track(evidence=(track().evidence[0].model_copy(update={"frame": None, "explanation": None}),))
    assert "Frame at" not in Page(report_page(watched(tracks=(bare,)), nothing)).text


def test_pictures_are_inside_with_their_boxes() -> None:
    page = Page(report_page(report(), everything))
    assert len(page.of("img")) == 2
    (image,) = page.of("image")
    assert image.attributes["width"] == "640"
    box = next(tag for tag in page.of("rect") if tag.attributes.get("class") == "box")
    assert [float(box.attributes[name]) for name in ("x", "y", "width", "height")] == [100, 50, 100, 120]


def test_other_faces_of_a_frame_have_broken_boxes() -> None:
    other = {"box": (300, 60, 350, 110), "det_conf": 0.9, "score": 0.1, "track": 5, "quality": 0.9}
    both = FrameItem.model_validate({"index": 2, "t_ms": 2000, "faces": (*frames(0.97)[0].faces, other)})
    page = Page(report_page(report(frames=(both,)), everything))
    classes = [tag.attributes.get("class") for tag in page.of("rect")]
    assert classes.count("box") == classes.count("box other") == 1
    assert any("track 5" in tag.attributes.get("aria-label", "") for tag in page.of("svg"))


def test_neighbouring_frames_have_times_of_their_own() -> None:
    first = track().evidence[0]
    near = track(evidence=(first, first.model_copy(update={"t_ms": first.t_ms + 80})))
    html = report_page(report(tracks=(near,), frames=frames(0.1, 0.2, step_ms=40)), everything)
    assert re.findall(r"Face at (\S+), score", html) == ["0:02.00", "0:02.08"]
    assert re.findall(r"<td>(0:00\.\d\d)</td>", html) == ["0:00.00", "0:00.04"], "in the table of values"
    assert re.findall(r"<title>(0:\S+):", html) == ["0:00.00", "0:00.04"], "of dots"


def test_a_score_that_is_less_than_one_is_nowhere_said_to_be_one() -> None:
    sure = track(score=0.996, evidence=(track().evidence[0].model_copy(update={"score": 0.996}),))
    part = Segment(start_ms=0, end_ms=1000, max_score=0.996, track=0)
    html = report_page(report(score=0.9996, tracks=(sure,), frames=frames(0.996, 0.004), segments=(part,)), everything)
    assert not re.search(r"(?<![:.\d])(1\.00+|0\.00+)(?!\d)", html)
    assert {"over 0.999", "over 0.99", "&gt;0.999", "&gt;0.99", "&lt;0.01"} <= set(re.findall(r"(?:over |&gt;|&lt;)0\.\d+", html))


def test_evidence_of_a_picture_has_no_time() -> None:
    html = report_page(PICTURE, everything)
    assert "<figcaption>Face, score 0.97 by the network alone" in html
    assert "<figcaption>Frame</figcaption>" in html
    assert not re.search(r"(?:Face|Frame)[^<>]* at \d", html)


def test_what_is_not_retained_is_said() -> None:
    page = Page(report_page(report(), nothing))
    assert not page.of("img")
    assert page.text.count(words.NOT_RETAINED) >= 3
    assert "belong to the scan that made this result" in page.text
    assert "Where what was followed as one track was parted at the end, a frame may be missing all the same" in page.text
    bare = track(evidence=(track().evidence[0].model_copy(update={"crop": None, "frame": None, "explanation": None}),))
    assert (
        page.text.count(words.NOT_RETAINED)
        >= Page(report_page(report(tracks=(bare,)), nothing)).text.count(words.NOT_RETAINED)
        >= 2
    )


def test_a_page_has_a_bound_whatever_the_report_holds() -> None:
    """The largest report that there is: 256 frames, each with a crowd."""
    faces = [{"box": (i, i, i + 9, i + 9), "det_conf": 0.9, "score": 0.5, "track": i, "quality": 0.9} for i in range(24)]
    crowd = tuple(FrameItem.model_validate({"index": i, "t_ms": 40 * i, "faces": tuple(faces)}) for i in range(256))
    many = report(frames=crowd, tracks=tuple(track(i, i / 500) for i in range(500)))
    large = b"\xff\xd8" + bytes(1 << 20)
    html = report_page(many, lambda name: large, most_bytes=4 << 20)
    assert html.count("data:image/jpeg") <= 4 + 24  # one frame may be in the page once for each track
    assert len(values_of(many)) == MOST_VALUES
    assert f"{MOST_VALUES} values from frames that were looked at; {24 * 256 - MOST_VALUES} later ones are left out" in html
    assert f"{24 - MOST_ROWS} more tracks of lower scores have no timeline here." in html
    assert f"in none of the frames listed here have no timeline either: {500 - 24}." in html
    assert "left out: the page would become too large" in html


@pytest.mark.parametrize("kind", ["path", "url", "external_id", "message", "model", "codec"])
def test_nothing_from_outside_can_write_into_the_page(kind: str) -> None:
    given = {
        "path": lambda: report(source=Source(kind="path", path=f"/clips/{HOSTILE}/{HOSTILE}.mp4")),
        "url": lambda: report(source=Source(kind="url", url=f"https://x.example/{HOSTILE}/{HOSTILE}")),
        "external_id": lambda: report(external_id=HOSTILE),
        "message": lambda: failed(message=HOSTILE),
        "model": lambda: report(model=Model(name=HOSTILE, version=HOSTILE, sha256="0", licence=HOSTILE, backend=HOSTILE)),
        "codec": lambda: report(media=MEDIA.model_copy(update={"codec": HOSTILE, "container": HOSTILE, "decoder": HOSTILE})),
    }
    html = report_page(given[kind](), everything)
    assert "&lt;script&gt;" in html
    assert "{{ 7 * 7 }}" in html
    assert not re.search("<script|\u202e|\x1b", html)
    assert Page(html).of("main")


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (Source(kind="path", path="/a/b.mp4"), "b.mp4"),
        (Source(kind="path", path="/"), "/"),
        (Source(kind="url", url="https://x.example/v/17.mp4?token=t#f"), "17.mp4"),
        (Source(kind="url", url="https://x.example/watch/"), "watch"),
        (Source(kind="url", url="https://x.example"), "x.example"),
        (Source(kind="url", url="https://[x?token=t"), "an address that cannot be read"),
        (Source(kind="url", url="https://:8?token=t"), "https://:8?…"),
        (Source(kind="upload"), "upload of scan 8f14e45f"),
    ],
)
def test_media_are_called_by_the_last_part_of_their_place(source: Source, name: str) -> None:
    assert name_of(report(source=source)) == name


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:hush@x.example:8443/v/17.mp4?sig=hush#hush", "https://x.example:8443/v/17.mp4?…"),
        ("https://[x/17.mp4?sig=hush", "an address that cannot be read"),
        ("https://x.example/\u202egpj.mp4", "https://x.example/\\u202egpj.mp4"),
    ],
)
def test_an_address_is_shown_without_what_it_may_keep_secret(url: str, shown: str) -> None:
    made = report(source=Source(kind="url", url=url))
    html = report_page(made, nothing)
    assert shown in Page(html).text
    row = row_of("place", "stamp", made)
    assert row.source == shown
    assert "hush" not in html + repr(row)


def test_a_link_back_is_there_where_there_is_an_index() -> None:
    assert not Page(report_page(report(), nothing)).of("nav")
    (link,) = [
        tag for tag in Page(report_page(report(), nothing, up="../index.html")).of("a") if tag.attributes["href"] != "#main"
    ]
    assert link.attributes["href"] == "../index.html"


def test_one_page_is_as_long_as_another_of_the_same_report() -> None:
    """Nothing of the moment at which it is made: pages can be compared."""
    same: Report = report()
    assert report_page(same, everything) == report_page(same, everything)
