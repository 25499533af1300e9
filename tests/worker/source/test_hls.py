from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.errors import CorruptMedia, MediaError, UnsupportedMedia
from worker.source.hls import MediaPlaylist, read_hls
from worker.source.http import ByteRange
from worker.source.parts import Key, Part

BASE = "https://media.example/a/list.m3u8?token=1"


def media(*lines: str, ended: bool = True) -> MediaPlaylist:
    text = "\n".join(["#EXTM3U", "#EXT-X-TARGETDURATION:4", *lines, *(["#EXT-X-ENDLIST"] if ended else [])])
    playlist = read_hls(text.encode(), BASE, max_segments=100)
    assert isinstance(playlist, MediaPlaylist)
    return playlist


def test_segments_are_relative_to_their_playlist() -> None:
    playlist = media("#EXT-X-MEDIA-SEQUENCE:7", "#EXTINF:4,", "one.ts", "#EXT-X-DISCONTINUITY", "#EXTINF:2.5,", "/two.ts?x=1")
    assert playlist.parts() == [
        Part(url="https://media.example/a/one.ts", duration_s=4),
        Part(url="https://media.example/two.ts?x=1", duration_s=2.5),
    ]
    assert [(one.sequence, one.is_after_break) for one in playlist.segments] == [(7, False), (8, True)]
    assert (playlist.duration_s, playlist.target_s, playlist.has_ended) == (6.5, 4, True)
    assert not media("#EXTINF:4,", "one.ts", ended=False).has_ended


def test_ranges_go_on_behind_the_one_before() -> None:
    playlist = media(
        '#EXT-X-MAP:URI="a.mp4",BYTERANGE="700@0"',
        *("#EXT-X-BYTERANGE:1000@700", "#EXTINF:4,", "a.mp4", "#EXT-X-BYTERANGE:50", "#EXTINF:4,", "a.mp4"),
    )
    assert [part.range for part in playlist.parts()] == [
        ByteRange(first=0, length=700),
        ByteRange(first=700, length=1000),
        ByteRange(first=1700, length=50),
    ]
    assert [part.is_init for part in playlist.parts()] == [True, False, False]


def test_keys_hold_until_the_next_and_count_segments_where_no_vector_is_given() -> None:
    playlist = media(
        *("#EXT-X-MEDIA-SEQUENCE:258", '#EXT-X-KEY:METHOD=AES-128,URI="k"', "#EXTINF:4,", "a", "#EXTINF:4,", "b"),
        *('#EXT-X-KEY:METHOD=AES-128,URI="http://127.0.0.1/k",IV=0x10', "#EXTINF:4,", "c", "#EXT-X-KEY:METHOD=NONE"),
        *("#EXTINF:4,", "d"),
    )
    assert [part.key for part in playlist.parts()] == [
        Key(url="https://media.example/a/k", iv=bytes(14) + b"\x01\x02"),
        Key(url="https://media.example/a/k", iv=bytes(14) + b"\x01\x03"),
        Key(url="http://127.0.0.1/k", iv=bytes(15) + b"\x10"),
        None,
    ]


@pytest.mark.parametrize(
    ("lines", "is_encrypted"),
    [
        (['#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x1', '#EXT-X-MAP:URI="i"'], True),
        (['#EXT-X-MAP:URI="i"', '#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0x1'], False),
        (['#EXT-X-KEY:METHOD=AES-128,URI="k"', '#EXT-X-MAP:URI="i"'], False),
    ],
)
def test_an_initialisation_has_the_key_above_it(lines: list[str], is_encrypted: bool) -> None:
    init = media(*lines, "#EXTINF:4,", "a", "#EXTINF:4,", "b").parts()[0]
    assert init.is_init
    assert (init.key is not None) is is_encrypted


def test_a_segment_may_be_short_or_of_no_length() -> None:
    assert [part.duration_s for part in media("#EXTINF:0.04,", "a", "#EXTINF:0,", "b").parts()] == [0.04, 0]


def test_gaps_are_left_out() -> None:
    assert [part.url[-1] for part in media("#EXTINF:4,", "a", "#EXT-X-GAP", "#EXTINF:4,", "b", "#EXTINF:4,", "c").parts()] == [
        "a",
        "c",
    ]


def test_ranges_go_on_behind_a_gap() -> None:
    told = ("#EXT-X-BYTERANGE:100@0", "#EXTINF:4,", "a", "#EXT-X-GAP", "#EXT-X-BYTERANGE:50", "#EXTINF:4,", "a")
    parts = media(*told, "#EXT-X-BYTERANGE:7", "#EXTINF:4,", "a").parts()
    assert [part.range for part in parts] == [ByteRange(first=0, length=100), ByteRange(first=150, length=7)]


def test_renditions_with_video() -> None:
    text = """#EXTM3U
#EXT-X-STREAM-INF:BANDWIDTH=900000,AVERAGE-BANDWIDTH=800000,RESOLUTION=640x360,CODECS="avc1.4d401e,mp4a.40.2"
low/list.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS="mp4a.40.2"
sound.m3u8
#EXT-X-STREAM-INF:BANDWIDTH=3000000,RESOLUTION=1280x720
//other.example/high.m3u8
#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=1,URI="frames.m3u8"
"""
    found = read_hls(text.encode(), BASE, max_segments=1)
    assert isinstance(found, list)
    assert [(one.what, one.side_px, one.bandwidth_bps) for one in found] == [
        ("https://media.example/a/low/list.m3u8", 360, 800000),
        ("https://other.example/high.m3u8", 720, 3000000),
    ]


@pytest.mark.parametrize(
    ("told", "names"),
    [
        ('CODECS="xxxx.1"', "b"),
        ('CODECS="xxxx.1,mp4a.40.2"', "b"),
        ('CODECS="avc1.4d401e",REQ-VIDEO-LAYOUT="CH-STEREO"', "b"),
        ('CODECS="avc1.4d401e",ALLOWED-CPC="com.example.drm1:HW"', "b"),
        ('CODECS="avc1.4d401e",REQ-VIDEO-LAYOUT="CH-MONO"', "ab"),
        ('CODECS="mp4a.40.2, HVC1.1.6.L93.B0"', "ab"),
        ('CODECS="vp09.00.10.08"', "ab"),
        ('CODECS=""', "ab"),
        ("FRAME-RATE=30", "ab"),
    ],
)
def test_a_rendition_that_few_players_show_is_left_where_there_is_another(told: str, names: str) -> None:
    lines = [f"#EXT-X-STREAM-INF:BANDWIDTH=9,RESOLUTION=1280x720,{told}", "a"]
    other = ['#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=64x36,CODECS="avc1.4d401e"', "b"]
    for expected, text in ((names, [*lines, *other]), ("a", lines)):
        found = read_hls("\n".join(["#EXTM3U", *text]).encode(), BASE, max_segments=1)
        assert isinstance(found, list)
        assert "".join(one.what[-1] for one in found) == expected


IN_GROUP = '#EXT-X-STREAM-INF:BANDWIDTH=1,VIDEO="g"'


@pytest.mark.parametrize(
    "told",
    [
        *('TYPE=VIDEO,GROUP-ID="g",NAME="m",DEFAULT=YES', 'TYPE=VIDEO,GROUP-ID="other",NAME="m",DEFAULT=YES,URI="w"'),
        *('TYPE=VIDEO,GROUP-ID="g",NAME="m",DEFAULT=YES,URI="v"', 'TYPE=VIDEO,GROUP-ID="g",NAME="m",URI="w"'),
        'TYPE=AUDIO,GROUP-ID="g",NAME="m",DEFAULT=YES,URI="w"',
    ],
)
def test_renditions_beside_which_nothing_else_is_shown(told: str) -> None:
    found = read_hls(f"#EXTM3U\n#EXT-X-MEDIA:{told}\n{IN_GROUP}\nv\n".encode(), BASE, max_segments=1)
    assert isinstance(found, list)
    assert [one.what[-1] for one in found] == ["v"]


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (['#EXT-X-MEDIA:TYPE=VIDEO,GROUP-ID="g",NAME="m",DEFAULT=YES,URI="w"', IN_GROUP, "v"], UnsupportedMedia),
        (['#EXT-X-KEY:METHOD=SAMPLE-AES,URI="k"', "#EXTINF:4,", "a"], UnsupportedMedia),
        (['#EXT-X-KEY:METHOD=AES-128,URI="k",KEYFORMAT="com.widevine"', "#EXTINF:4,", "a"], UnsupportedMedia),
        (["#EXT-X-KEY:METHOD=AES-128", "#EXTINF:4,", "a"], CorruptMedia),
        (['#EXT-X-KEY:METHOD=AES-128,URI="k",IV=0xg', "#EXTINF:4,", "a"], CorruptMedia),
        (["#EXT-X-BYTERANGE:5", "#EXTINF:4,", "a"], CorruptMedia),
        (["#EXT-X-BYTERANGE:x@1", "#EXTINF:4,", "a"], CorruptMedia),
        (["#EXT-X-BYTERANGE:0@1", "#EXTINF:4,", "a"], CorruptMedia),
        (["#EXTINF:-4,", "a"], CorruptMedia),
        (["#EXTINF:nan,", "a"], CorruptMedia),
        (["#EXTINF:inf,", "a"], CorruptMedia),
        (["#EXTINF:soon,", "a"], CorruptMedia),
        (["#EXT-X-I-FRAMES-ONLY", "#EXTINF:4,", "a"], UnsupportedMedia),
        (["#EXTINF:1,\na"] * 101, UnsupportedMedia),
        (["#EXT-X-STREAM-INF:BANDWIDTH=1", "a"] * 1001, UnsupportedMedia),
        (['#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID="a",NAME="b"'] * 1001, UnsupportedMedia),
        (["#EXT-X-TARGETDURATION:-5", "#EXTINF:4,", "a"], CorruptMedia),
        (["#EXT-X-MEDIA-SEQUENCE:" + "9" * 400, "#EXTINF:4,", "a"], CorruptMedia),
        (['#EXT-X-KEY:METHOD=AES-128,URI="k"'] * 1001 + ['#EXT-X-MAP:URI="i"'] * 1000, UnsupportedMedia),
        ([f'#EXT-X-KEY:METHOD=AES-128,URI="{"k" * 8193}"', "#EXTINF:4,", "a"], CorruptMedia),
        (['#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS="mp4a.40.2"', "sound"], UnsupportedMedia),
    ],
)
def test_playlists_that_are_not_read(lines: list[str], error: type[Exception]) -> None:
    with pytest.raises(error):
        media(*lines)


def test_codecs_of_a_million_spaces_are_not_looked_at() -> None:
    """Without a bound this takes hours."""
    text = f'#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1,CODECS="{" " * 1_000_000}x"\na\n'
    assert read_hls(text.encode(), BASE, max_segments=10)


def test_an_initialisation_stands_where_a_run_begins() -> None:
    lines = ['#EXT-X-MAP:URI="i"', "#EXTINF:4,", "a", "#EXTINF:4,", "b", "#EXT-X-DISCONTINUITY", "#EXTINF:4,", "c"]
    lines += ['#EXT-X-MAP:URI="j"', "#EXTINF:4,", "d", '#EXT-X-MAP:URI="i"', "#EXTINF:4,", "e"]
    assert "".join(part.url[-1] for part in media(*lines).parts()) == "iabicjdie"


def test_an_initialisation_that_comes_in_the_middle_is_refused() -> None:
    with pytest.raises(UnsupportedMedia, match="middle"):
        media("#EXTINF:4,", "a", '#EXT-X-MAP:URI="j"', "#EXTINF:4,", "b").parts()


_TAGS = ["#EXTINF:", "#EXT-X-KEY:", "#EXT-X-MAP:", "#EXT-X-BYTERANGE:", "#EXT-X-STREAM-INF:", "#EXT-X-PROGRAM-DATE-TIME:", ""]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(_TAGS), st.text(max_size=12)), max_size=8))
def test_any_text_is_a_playlist_or_refused(lines: list[tuple[str, str]]) -> None:
    text = "\n".join(["#EXTM3U", *(tag + rest for tag, rest in lines)])
    try:
        read_hls(text.encode("utf-8", "replace"), BASE, max_segments=10)
    except MediaError:
        return
