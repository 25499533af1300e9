"""What lines a playlist has: those of players, or none where these would not agree."""

from __future__ import annotations

import pytest

from tests.worker.source.test_hls import BASE, media
from worker.errors import CorruptMedia, UnsupportedMedia
from worker.source.hls import read_hls

ONE, TWO = ("#EXTINF:4,", "a"), ("#EXTINF:4,", "b")


def names(*lines: str) -> str:
    return "".join(part.url[-1] for part in media(*lines).parts())


@pytest.mark.parametrize("end", list("\v\f\x1c\x1d\x1e\x85\u2028\u2029"), ids=ascii)
@pytest.mark.parametrize("lines", [("#EXTINF:4,title{}a", "b"), ("# comment{}#EXT-X-GAP", *ONE)], ids=["address", "tag"])
def test_what_ends_a_line_for_some_alone_is_refused(lines: tuple[str, ...], end: str) -> None:
    with pytest.raises(CorruptMedia, match="line feeds"):
        media(*(line.format(end) for line in lines))


def test_lines_end_as_they_do_for_players() -> None:
    text = "\ufeff\r\n#EXTM3U\r\n\r\n#EXTINF:4,\r\na\r#EXTINF:4,title\r b \n  \n#EXT-X-ENDLIST \n"
    playlist = read_hls(text.encode(), BASE, max_segments=9)
    assert not isinstance(playlist, list)
    assert ([one.part.url[-1] for one in playlist.segments], playlist.has_ended) == (["a", "b"], True)


@pytest.mark.parametrize(
    "line",
    [" #EXT-X-GAP", "\t#EXT-X-ENDLIST", "\u00a0#EXT-X-GAP", "\u3000b", "b\u00a0", "\u00a0"],
)
def test_space_that_makes_an_address_of_a_tag_is_refused(line: str) -> None:
    with pytest.raises(CorruptMedia, match="space around"):
        media(*ONE, "#EXTINF:4,", line)


@pytest.mark.parametrize(
    "tag",
    [
        *("#EXT-X-GAPLESS-HINT", "#EXT-X-KEYS:METHOD=SAMPLE-AES", "#EXT-X-I-FRAMES-ONLY-NOT", "#EXT-X-STREAM-INFO:BANDWIDTH=1"),
        *("#EXT-X-BYTERANGES:1@1", "#EXTINFO:99", '#EXT-X-MAPS:URI="c"', "#EXT-X-CUE-OUT:30", "#EXT-X-CUE-IN", "#comment", "##"),
        *(
            "#EXT-X-PROGRAM-DATE-TIME:not a date",
            "#EXT-X-DISCONTINUITY-SEQUENCE:5",
            "#EXT-X-BITRATE:1",
            "#EXT-X-START:TIME-OFFSET=1",
        ),
        *(
            "#EXT-OATCLS-SCTE35:/DAl",
            '#EXT-X-DATERANGE:ID="a",DURATION=x',
            "#EXT-X-SITE-OWN-TAG",
            '#EXT-X-DEFINE:NAME="x",VALUE="b"',
        ),
    ],
)
def test_tags_that_say_nothing_of_pictures_are_passed_over(tag: str) -> None:
    assert names(tag, *ONE, tag, *TWO, tag) == "ab"
    assert names(ONE[0], tag, ONE[1], *TWO) == "ab"


def test_a_tag_that_begins_like_the_last_ends_no_playlist() -> None:
    assert not media(*ONE, "#EXT-X-ENDLISTEN", ended=False).has_ended


@pytest.mark.parametrize(
    "lines",
    [(*ONE, "b"), ("b", *ONE), ("b",), ("#EXT-X-BYTERANGE:5@0", "b"), ("#EXT-X-STREAM-INF:BANDWIDTH=1", "b", "c")],
    ids=["last", "first", "alone", "with a range alone", "rendition"],
)
def test_an_address_with_nothing_above_it_is_refused_and_not_left_out(lines: tuple[str, ...]) -> None:
    with pytest.raises(CorruptMedia, match="stands above"):
        media(*lines)


def test_renditions_and_segments_in_one_playlist_are_refused() -> None:
    with pytest.raises(CorruptMedia, match="both"):
        media("#EXT-X-STREAM-INF:BANDWIDTH=1", "v", *ONE)


def test_variables_that_are_used_are_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="EXT-X-DEFINE"):
        media('#EXT-X-DEFINE:NAME="x",VALUE="b"', "#EXTINF:4,", "{$x}.ts")


def test_what_a_stream_of_low_latency_lists_before_it_is_whole_is_passed_over() -> None:
    part = '#EXT-X-PART:DURATION=1,URI="p"'
    told = (
        "#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=12",
        "#EXT-X-PART-INF:PART-TARGET=1",
        part,
        *ONE,
        "#EXT-X-GAP",
        part,
        *TWO,
        part,
    )
    playlist = media(*told, '#EXT-X-PRELOAD-HINT:TYPE=PART,URI="q"', '#EXT-X-RENDITION-REPORT:URI="r"', ended=False)
    assert [one.part.url[-1] for one in playlist.segments] == ["a"]
    assert (playlist.segments[0].sequence, playlist.has_ended) == (0, False)
