from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.errors import CorruptMedia, MediaError, UnsupportedMedia
from worker.source.dash import Presentation, read_dash
from worker.source.http import ByteRange
from worker.source.parts import Part
from worker.source.variants import by_preference

BASE = "https://media.example/a/list.mpd?token=1"
LINE = '<SegmentTemplate media="$Number$"><SegmentTimeline>{}</SegmentTimeline></SegmentTemplate>'
SET = '<AdaptationSet mimeType="video/mp4">'


def manifest(inside: str, *, within: str = "", tail: str = "", attributes: str = 'mediaPresentationDuration="PT10S"') -> bytes:
    period = f"<Period>{within}{inside}</Period>"
    return f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" {attributes}>{tail}{period}</MPD>'.encode()


def read(data: bytes) -> Presentation:
    return read_dash(data, BASE, max_segments=100)


def parts(template: str, **changed: str) -> list[Part]:
    inside = f'{SET}<Representation id="v1" bandwidth="5">{template}</Representation></AdaptationSet>'
    (variant,) = read(manifest(inside, **changed)).variants
    return list(variant.what())


def names(found: list[Part]) -> list[str]:
    return [part.url.removeprefix("https://media.example/a/") for part in found]


def test_numbers() -> None:
    found = parts('<SegmentTemplate media="$RepresentationID$-$Number%03d$-$Bandwidth$$$" initialization="i" duration="4"/>')
    assert names(found) == ["i", "v1-001-5$", "v1-002-5$", "v1-003-5$"]
    assert [part.is_init for part in found] == [True, False, False, False]
    assert sum(part.duration_s for part in found) == 12


def test_what_levels_above_say_is_inherited() -> None:
    above = '<SegmentTemplate timescale="1000" media="$Time$" initialization="i"/>'
    found = parts('<SegmentTemplate duration="5000" startNumber="0" endNumber="0"/>', within=above)
    assert names(found) == ["i", "0"]


def test_a_timeline() -> None:
    line = '<SegmentTimeline><S t="100" d="10" r="1"/><S d="5"/><S t="500" d="100" r="-1"/></SegmentTimeline>'
    found = parts(f'<SegmentTemplate timescale="100" media="$Number$-$Time$">{line}</SegmentTemplate>')
    assert names(found)[:5] == ["1-100", "2-110", "3-120", "4-500", "5-600"]
    assert names(found)[-1] == "8-900"
    assert [part.duration_s for part in found[:4]] == [0.1, 0.1, 0.05, 1.0]


def test_a_timeline_that_does_not_begin_at_nought_ends_with_its_period_too() -> None:
    line = '<SegmentTimeline><S t="1000" d="4" r="-1"/></SegmentTimeline>'
    found = parts(f'<SegmentTemplate presentationTimeOffset="1000" media="$Time$">{line}</SegmentTemplate>')
    assert names(found) == ["1000", "1004", "1008"]


def test_lists_and_single_files() -> None:
    found = parts(
        '<BaseURL>one.mp4</BaseURL><SegmentList duration="2"><Initialization range="0-9"/>'
        '<SegmentURL mediaRange="10-19"/><SegmentURL media="two.mp4"/></SegmentList>'
    )
    assert found == [
        Part(url="https://media.example/a/one.mp4", range=ByteRange(first=0, length=10), is_init=True),
        Part(url="https://media.example/a/one.mp4", range=ByteRange(first=10, length=10), duration_s=2),
        Part(url="https://media.example/a/two.mp4", duration_s=2),
    ]
    whole = parts('<BaseURL>one.mp4</BaseURL><SegmentBase indexRange="0-9"/>', tail="<BaseURL>//other.example/b/</BaseURL>")
    assert whole == [Part(url="https://other.example/b/one.mp4", duration_s=10)]


@pytest.mark.parametrize(
    ("own", "above", "is_read"),
    [
        *(("List", "Template", False), ("Template", "List", False), ("Base", "Template", False), ("Base", "List", False)),
        *(("List", "Base", True), ("Template", "Base", True), ("Template", "Template", True), ("List", "List", True)),
    ],
)
def test_segments_that_are_said_in_two_ways_are_an_error(own: str, above: str, is_read: bool) -> None:
    told = {"List": "<SegmentList><SegmentURL/></SegmentList>", "Template": LINE.format('<S d="1"/>'), "Base": "<SegmentBase/>"}
    with contextlib.nullcontext() if is_read else pytest.raises(CorruptMedia, match="several ways"):
        assert len(parts(told[own], within=told[above])) == 1


def test_renditions_with_video_and_their_sizes() -> None:
    trick = '<EssentialProperty schemeIdUri="http://dashif.org/guidelines/trickmode"/>'
    inside = (
        f'{SET}<Representation width="640" height="360" bandwidth="9"/><Representation height="720"/></AdaptationSet>'
        '<AdaptationSet contentType="audio"><Representation id="c"/></AdaptationSet>'
        '<AdaptationSet><Representation id="d" mimeType="video/webm" height="240"/></AdaptationSet>'
        f'{SET}{trick}<Representation height="90"/></AdaptationSet>'
    )
    found = read(manifest(inside))
    assert [variant.side_px for variant in found.variants] == [360, 720, 240]
    assert found.duration_s == 10


MAIN, ALTERNATE = (f'<Role schemeIdUri="urn:mpeg:dash:role:2011" value="{value}"/>' for value in ("main", "alternate"))
UNKNOWN, TRICK, COLOUR = (
    f'<EssentialProperty id="1" schemeIdUri="{scheme}" value="9"/>'
    for scheme in ("urn:example", "http://dashif.org/guidelines/trickmode", "urn:mpeg:mpegB:cicp:TransferCharacteristics")
)


@pytest.mark.parametrize(
    ("first", "second", "sides"),
    [
        ((MAIN, ""), (ALTERNATE, ""), [1]),
        (("", ""), (MAIN, ""), [2]),
        (("", ""), (ALTERNATE, ""), [1]),
        ((ALTERNATE, ""), (MAIN + ALTERNATE, ""), [2]),
        ((MAIN, ""), (MAIN, ""), [1, 2]),
        (("", ""), ("<Role schemeIdUri='urn:example' value='alternate'/>", ""), [1, 2]),
        (("", 'selectionPriority="2"'), ("", ""), [1]),
        (("", 'selectionPriority="0"'), ("", ""), [2]),
        ((MAIN, ""), ("", 'selectionPriority="2"'), [1]),
        ((MAIN + UNKNOWN, ""), (ALTERNATE, ""), [2]),
        (("", ""), (UNKNOWN, ""), [1]),
        (("", ""), (TRICK, ""), [1]),
        (("", ""), (COLOUR, ""), [1, 2]),
        (("", ""), (COLOUR + UNKNOWN, ""), [1, 2]),
        (("", ""), (COLOUR + UNKNOWN.replace('id="1"', ""), ""), [1]),
        (("", ""), (UNKNOWN.replace("Essential", "Supplemental"), ""), [1, 2]),
    ],
)
def test_the_sets_that_players_prefer(first: tuple[str, str], second: tuple[str, str], sides: list[int]) -> None:
    sets = [
        f'<AdaptationSet mimeType="video/mp4" {told}>{inside}<Representation height="{side}"/></AdaptationSet>'
        for side, (inside, told) in enumerate((first, second), 1)
    ]
    assert [variant.side_px for variant in read(manifest("".join(sets))).variants] == sides


def test_renditions_that_ask_for_more_are_left_out() -> None:
    one, two = (f'<Representation height="{side}">{{}}</Representation>' for side in (1, 2))
    found = read(manifest(f"{SET}{one.format('')}{two.format(TRICK)}</AdaptationSet>"))
    assert [variant.side_px for variant in found.variants] == [1]
    with pytest.raises(UnsupportedMedia, match="for any player"):
        read(manifest(f"{SET}{one.format(UNKNOWN)}</AdaptationSet>"))


def test_an_encrypted_main_video_is_not_replaced_by_another() -> None:
    main = f'{SET}{MAIN}<ContentProtection/><Representation height="1"/></AdaptationSet>'
    with pytest.raises(UnsupportedMedia, match="DRM"):
        read(manifest(f'{main}{SET}{ALTERNATE}<Representation height="2"/></AdaptationSet>'))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        *(("PT1H2M3.5S", 3723.5), ("P1DT1S", 86401), ("P0Y0M0DT0H3M30.000S", 210), ("P0Y0M1D", 86400)),
        *(("P", None), ("10", None), ("PT", None), ("-PT1S", None), ("P1Y", None), ("P0Y", None), ("P1MT1S", None)),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    inside = f'{SET}<Representation height="9"/></AdaptationSet>'
    assert read(manifest(inside, attributes=f'mediaPresentationDuration="{text}"')).duration_s == seconds


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ('<SegmentTemplate media="$Number$" duration="1" timescale="100"/>', UnsupportedMedia),
        (LINE.format('<S d="1" r="999999999999"/>'), UnsupportedMedia),
        (LINE.format('<S d="1" r="-1"/><S t="999999999999" d="1"/>'), UnsupportedMedia),
        (LINE.format('<S d="0"/>'), CorruptMedia),
        ('<SegmentTemplate media="$Number$"/>', CorruptMedia),
        ('<SegmentTemplate media="$Number$" duration="1" timescale="0"/>', CorruptMedia),
        (LINE.replace("media=", 'timescale="-1" media=').format('<S d="1"/>'), CorruptMedia),
        ('<SegmentTemplate media="$Number$" duration="x"/>', CorruptMedia),
        ('<SegmentTemplate duration="1"/>', CorruptMedia),
        (f'<SegmentTemplate media="{"k" * 8193}$Number$" duration="10"/>', CorruptMedia),
        (f'<SegmentTemplate media="{"$Bandwidth%020d$" * 500}" duration="10"/>', CorruptMedia),
        ("<SegmentList>" + "<SegmentURL/>" * 101 + "</SegmentList>", UnsupportedMedia),
        ('<SegmentList><SegmentURL mediaRange="9-1"/></SegmentList>', CorruptMedia),
        ('<SegmentList duration="-1"><SegmentURL/></SegmentList>', CorruptMedia),
        ('<SegmentList duration="1" timescale="-1"><SegmentURL/></SegmentList>', CorruptMedia),
        ('<SegmentList duration="1" timescale="0"><SegmentURL/></SegmentList>', CorruptMedia),
        ("<ContentProtection/>", UnsupportedMedia),
    ],
)
def test_renditions_that_are_not_read(template: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        parts(template)


CLOSED = '<ContentProtection schemeIdUri="urn:mpeg:dash:mp4protection:2011"/>'


@pytest.mark.parametrize("where", ["period", "set", "representation"])
def test_what_is_encrypted_is_left_aside_wherever_that_is_said(where: str) -> None:
    of_period, of_set, of_one = (CLOSED if where == name else "" for name in ("period", "set", "representation"))
    closed = f'{SET}{of_set}<Representation height="720">{of_one}</Representation></AdaptationSet>'
    with pytest.raises(UnsupportedMedia, match="DRM"):
        read(manifest(closed, within=of_period))
    if where != "period":
        free = f'{SET}<Representation height="360"/></AdaptationSet>'
        assert [one.side_px for one in read(manifest(closed + free)).variants] == [360]


REPEATED = (
    '<SegmentTemplate media="$Number$" initialization="i"><SegmentTimeline><S d="1" r="-1"/></SegmentTimeline></SegmentTemplate>'
)


def of_periods(*attributes: str, template: str = REPEATED, whole: str = "") -> Presentation:
    """Periods alike but for their attributes."""
    inside = f"{SET}<Representation>{template}</Representation></AdaptationSet>"
    periods = "".join(f"<Period {one}>{inside}</Period>" for one in attributes)
    told = f'mediaPresentationDuration="{whole}"' if whole else ""
    return read(f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" {told}>{periods}</MPD>'.encode())


@pytest.mark.parametrize(
    ("periods", "whole", "lengths"),
    [
        (['duration="PT4S"', ""], "PT14S", [4, 10]),
        (['duration="PT4S"', 'duration="PT3S"', ""], "PT14S", [4, 3, 7]),
        (['start="PT0S"', 'start="PT4S" duration="PT2S"', 'duration="PT1S"'], "", [4, 2, 1]),
        (['duration="PT9S"', 'start="PT4S"'], "PT5S", [4, 1]),
        (['duration="PT4S"', 'start="PT4.04S" duration="PT3.9S"'], "PT8S", [4, 4]),
        (['duration="PT4S"'], "PT5.5S", [6]),
        (['duration="PT5.9S"'], "PT5S", [6]),
        (['duration="PT4S"', 'duration="PT3.9S"'], "PT7S", [4, 4]),
    ],
)
def test_a_period_lasts_to_where_the_next_one_begins(periods: list[str], whole: str, lengths: list[int]) -> None:
    (variant,) = of_periods(*periods, whole=whole).variants
    found = names(list(variant.what()))
    assert found == [name for length in lengths for name in ("i", *map(str, range(1, length + 1)))]


@pytest.mark.parametrize(
    ("steps", "whole"), [('<S d="1" r="-1"/>', ""), ('<S d="1" r="-1"/>', "P1Y"), ('<S d="1" r="-1"/><S d="1"/>', "PT10S")]
)
def test_a_segment_that_is_repeated_to_no_known_end_is_an_error(steps: str, whole: str) -> None:
    (variant,) = of_periods("", template=LINE.format(steps), whole=whole).variants
    with pytest.raises(CorruptMedia, match="repeated"):
        variant.what()


def test_a_period_of_no_time_is_left_out() -> None:
    (variant,) = of_periods('start="PT0S" duration="PT9S"', 'start="PT0S" duration="PT3S"').variants
    assert names(list(variant.what())) == ["i", "1", "2", "3"]
    with pytest.raises(UnsupportedMedia, match="lasts any time"):
        of_periods('duration="PT0S"')


def test_a_manifest_that_ends_within_its_last_period_is_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="mediaPresentationDuration"):
        of_periods('duration="PT4S"', 'duration="PT4S"', whole="PT5S")


@pytest.mark.parametrize(
    ("steps", "offset", "found"),
    [
        ('<S t="0" d="4000" r="9"/>', 8000, "345"),  # of a period of 10 s
        ('<S t="0" d="4000" r="9"/>', 7960, "345"),
        ('<S t="0" d="4000" r="9"/>', 8040, "345"),
        ('<S t="0" d="4000" r="9"/>', 7900, "2345"),
        ('<S t="0" d="4000" r="9"/>', 10030, "345"),
        ('<S t="0" d="4000" r="9"/>', 10100, "3456"),
        ('<S t="100000" d="4000" r="-1"/>', 98000, "12"),
        ('<S t="0" d="2000" r="4"/><S d="40" r="4"/>', 40, "123456"),
        ('<S t="0" d="200000"/>', 100_000, None),
        ('<S t="0" d="4000" r="9"/>', 100_000, None),
        ('<S t="100000" d="4000" r="9"/>', 0, None),
    ],
)
@pytest.mark.parametrize("is_list", [False, True])
def test_what_lies_outside_of_its_period_is_left_out(steps: str, offset: int, found: str | None, is_list: bool) -> None:
    told = f'timescale="1000" presentationTimeOffset="{offset}"'
    line = f"<SegmentTimeline>{steps}</SegmentTimeline>"
    urls = "".join(f'<SegmentURL media="{i}"/>' for i in range(1, 12))
    listed = f"<SegmentList {told}>{line}{urls}</SegmentList>"
    template = f'<SegmentTemplate {told} media="$Number$">{line}</SegmentTemplate>'
    if found is None:
        with pytest.raises(UnsupportedMedia, match="outside"):
            parts(listed if is_list else template)
    else:
        assert "".join(names(parts(listed if is_list else template))) == found


@pytest.mark.parametrize(("whole", "count"), [("PT8S", 2), ("PT8.04S", 2), ("PT8.1S", 3), ("PT7.96S", 2), ("PT0.04S", 1)])
def test_a_rounded_duration_makes_no_segment(whole: str, count: int) -> None:
    for template in ('<SegmentTemplate media="$Number$" duration="4"/>', LINE.format('<S d="4" r="-1"/>')):
        assert len(parts(template, attributes=f'mediaPresentationDuration="{whole}"')) == count


def test_one_file_knows_from_when_on_it_is_shown() -> None:
    base = '<BaseURL>one.mp4</BaseURL><SegmentBase timescale="1000" presentationTimeOffset="{}"/>'
    assert [part.begins_s for offset in (0, 1400) for part in parts(base.format(offset))] == [0.0, 1.4]


def test_a_list_that_is_longer_than_its_period_is_refused() -> None:
    listed = "<SegmentList {}>" + "<SegmentURL/>" * 11 + "</SegmentList>"
    assert len(parts(listed.format('duration="1"'))) == len(parts(listed.format(""))) == 11
    assert len(parts(listed.format('duration="9" timescale="10"'))) == 11
    with pytest.raises(UnsupportedMedia, match="behind the period"):
        parts(listed.format('duration="2"'))


@pytest.mark.parametrize("where", ["Period", "AdaptationSet", "Representation", "SegmentTemplate", "SegmentTimeline"])
def test_what_lies_elsewhere_is_refused(where: str) -> None:
    line = LINE.format('<S d="1"/>')
    whole = manifest(f"{SET}<Representation>{line}</Representation></AdaptationSet>").decode()
    plain = whole.replace("<MPD", '<MPD xmlns:xlink="http://www.w3.org/1999/xlink"')
    linked = plain.replace(f"<{where}", f'<{where} xlink:href="other.xml"', 1)
    assert names(list(read(plain.encode()).variants[0].what())) == ["1"]
    with pytest.raises(UnsupportedMedia, match="lies elsewhere"):
        read(linked.encode()).variants[0].what()


def test_what_is_linked_to_nothing_is_not_there() -> None:
    link = 'xmlns:x="http://www.w3.org/1999/xlink" x:href="urn:mpeg:dash:resolve-to-zero:2013"'
    events = '<EventStream xmlns:x="http://www.w3.org/1999/xlink" x:href="events.xml"/>'
    inside = [f'<AdaptationSet mimeType="video/mp4" {one}><Representation height="9"/></AdaptationSet>' for one in ("", link)]
    assert len(read(manifest("".join(inside), within=events)).variants) == 1


@pytest.mark.parametrize(
    "second",
    ['<SegmentTemplate media="b" duration="4"/>', '<SegmentTemplate media="b" duration="4" endNumber="0"/>', "<SegmentList/>"],
)
def test_periods_without_an_initialisation_are_not_joined(second: str) -> None:
    first = '<SegmentTemplate media="a" initialization="i" duration="4"/>'
    periods = [
        f'<Period duration="PT8S">{SET}<Representation>{template}</Representation></AdaptationSet></Period>'
        for template in (first, second)
    ]
    (variant,) = read(f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011">{"".join(periods)}</MPD>'.encode()).variants
    with pytest.raises(UnsupportedMedia, match="without initialisations"):
        variant.what()


def test_what_lies_beyond_a_sensible_number_is_not_looked_at() -> None:
    found = read(
        manifest(f"{SET}{'<Representation/>' * 5000}</AdaptationSet>" + f"{SET}<Representation/></AdaptationSet>" * 5000)
    )
    assert len(found.variants) == 64 + 63


@pytest.mark.parametrize("sign", ["", "-"])
def test_a_rate_of_four_hundred_digits_is_one_of_many(sign: str) -> None:
    found = read(manifest(f'{SET}<Representation bandwidth="{sign}{"9" * 400}"/></AdaptationSet>'))
    assert by_preference(found.variants, max_side_px=720, max_bytes=1, duration_s=1.0) == found.variants


def test_a_width_of_numbers_is_no_bomb() -> None:
    found = parts('<SegmentTemplate media="$Number%099d$" duration="10"/>')
    assert len(names(found)[0]) == 20


@pytest.mark.parametrize(
    "data",
    [
        b"<MPD",
        b"<MPD/>",
        b"<other/>",
        b'<MPD type="dynamic"><Period/></MPD>',
        b"<MPD><Period/><Period/></MPD>",
        b"<MPD><Period/></MPD>",
        b'<!DOCTYPE MPD [<!ENTITY a "b">]><MPD/>',
        b'<!DOCTYPE MPD SYSTEM "file:///etc/passwd"><MPD/>',
        manifest('<AdaptationSet mimeType="audio/mp4"><Representation/></AdaptationSet>'),
        manifest(f'{SET}<Representation height="tall"/></AdaptationSet>'),
        manifest(f"{SET}<BaseURL>{'b' * 8193}</BaseURL><Representation/></AdaptationSet>"),
    ],
)
def test_manifests_that_are_not_read(data: bytes) -> None:
    with pytest.raises((CorruptMedia, UnsupportedMedia)):
        read(data)


@settings(max_examples=60)
@given(st.text(max_size=20), st.text(max_size=8), st.text(max_size=8))
def test_any_values_are_read_or_refused(media: str, duration: str, timescale: str) -> None:
    from xml.sax.saxutils import quoteattr

    values = f"media={quoteattr(media)} duration={quoteattr(duration)} timescale={quoteattr(timescale)}"
    try:
        parts(f"<SegmentTemplate {values}/>")
    except MediaError:
        return
