"""Whether an MPEG-TS file goes on with other pictures than those that are looked at, of which FFmpeg would say nothing.

It takes pictures under another PID for the same stream where the program's map (PMT) puts them in the same place, and all those
under one PID. Of two recordings that ``cat`` or a playlist has joined, with another program and another PID, it gives one alone;
where pictures become of another codec, the decoder that was chosen makes nothing of the rest.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from worker.errors import UnsupportedMedia
from worker.program_tables import PACKET, SYNC, Assembled, is_sound, pid_of, programs_of, streams_of

_PIECE_BYTES: Final = 8 << 20
_PACKETS: Final = re.compile(rb"(?s:G.{187})++")
"""In a row. Behind what is none FFmpeg too takes the next such byte for a packet's first, whatever follows."""
_TIMED_PACKETS: Final = re.compile(rb"(?s:(?P<timed>.{4}G.{187})++|(?:G.{187})++)")
"""Those of Blu-ray have a time of 4 bytes before each, which may hold such a byte."""
_TIMED: Final = 4 + PACKET
_CODECS: Final = {
    0x01: "mpeg", 0x02: "mpeg", 0x10: "mpeg4", 0x1B: "h264", 0x20: "h264", 0x21: "jpeg2000", 0x24: "hevc", 0x33: "vvc",
    0x42: "cavs", 0xD1: "dirac", 0xD2: "avs2", 0xD4: "avs3", 0xEA: "vc1",
}  # fmt: skip
_REGISTERED: Final = {b"HEVC": "hevc", b"AV01": "av1", b"VC-1": "vc1", b"drac": "dirac"}
"""Of private streams."""
_PIDS: Final = 1 << 13
_REGISTRATION, _IDENTIFIER = 0x05, 0x52
_MOST_PICTURES: Final = 1024
"""In all different maps, which are gone through once more for each PID that they lead to: two seconds at most. Thirty programs
whose maps change thirty times have fewer."""


class Pictures(NamedTuple):
    """A stream of pictures as a program's map has it: its place among all that the program has, and its identifier, if any."""

    pid: int
    codec: str
    place: int
    identifier: bytes


Map = tuple[Pictures, ...]
Program = tuple[int, int]
"""Number, and PID of its map."""


Stretch = dict[Program, dict[Map, None]]
"""From one list of programs (PAT) to the next other one: the maps that each had."""


class Extents:
    """Where in the file the packets of each PID begin and end, in packets; -1: there are none."""

    def __init__(self) -> None:
        self.first, self.last = np.full(_PIDS, -1, np.int64), np.full(_PIDS, -1, np.int64)
        self._count = 0

    def add(self, pids_N: npt.NDArray[np.intp]) -> None:
        places_N = np.arange(self._count, self._count + len(pids_N))
        new_N = self.first[pids_N] < 0
        self.first[pids_N[new_N][::-1]] = places_N[new_N][::-1]
        self.last[pids_N] = places_N
        self._count += len(pids_N)


def check_goes_on(fd: int, pid: int) -> set[int]:
    """The PIDs whose packets FFmpeg should take for one stream with ``pid``.

    Raises UnsupportedMedia where there are others before or behind these pictures: of a program that takes their place, or of
    another codec.

    Sections whose checksum is wrong FFmpeg passes over, up to ten in a row, and some players (in browsers) check none. So neither
    those that are right nor all together may lead to other pictures, and none may name another codec. Which PIDs are one stream
    the right ones say, or all where none is right.
    """
    extents, tables = Extents(), Tables()
    for packet in _table_packets(fd, extents):
        tables.take(packet)
    sound, every = tables.sound.ended(), tables.every.ended()
    followed = _followed(sound if any(sound) else every, pid)
    for stretches in (sound, every):
        _check_pictures(stretches, followed, extents)
    codecs = {codec for pid, codec in tables.codecs if pid in followed}
    if len(codecs) > 1:
        raise UnsupportedMedia("the stream changes in the middle to what is decoded otherwise")
    return {one for one in followed if extents.last[one] >= 0}


def _check_pictures(stretches: list[Stretch], followed: set[int], extents: Extents) -> None:
    there = [one for one in followed if extents.last[one] >= 0]
    begin, end = min(extents.first[there], default=0), max(extents.last[there], default=0)
    for stretch in stretches:
        maps = [[{one.pid for one in each if extents.last[one.pid] >= 0} for each in maps] for maps in stretch.values()]
        shown = set[int]().union(*(each for of_program in maps for each in of_program))
        is_replaced = any(extents.first[one] > end or extents.last[one] < begin for one in shown - followed)
        if is_replaced or (shown and shown.isdisjoint(followed)):
            raise UnsupportedMedia("the stream changes in the middle to another program")
        for of_program in maps:
            has = [not followed.isdisjoint(each) for each in of_program if each]
            if any(has) and not all(has):
                raise UnsupportedMedia("the stream changes in the middle to other pictures of its program")


def _followed(stretches: list[Stretch], pid: int) -> set[int]:
    """The PIDs that FFmpeg takes for one stream with ``pid``. Raises UnsupportedMedia where maps are too many to tell."""
    of_program: defaultdict[Program, dict[Map, None]] = defaultdict(dict)
    for stretch in stretches:
        for program, maps in stretch.items():
            of_program[program].update(maps)
    if sum(len(each) for maps in of_program.values() for each in maps) > _MOST_PICTURES:
        raise UnsupportedMedia("the stream changes too often to pictures under another PID")
    followed, before = {pid}, 0
    while before < len(followed):
        before = len(followed)
        for maps in of_program.values():
            places = {one[1:] for each in maps for one in each if one.pid in followed}
            for each in maps:
                if followed.isdisjoint(one.pid for one in each):
                    followed.update(one.pid for one in each if one[1:] in places)
    return followed


class Told:
    """What lists and maps say, section by section."""

    def __init__(self) -> None:
        self._stretches: list[Stretch] = []
        self._sections: dict[int, tuple[Program, ...]] = {}
        self._times_listed: Counter[Program] = Counter()
        self._maps: defaultdict[Program, dict[Map, None]] = defaultdict(dict)

    def take_map(self, program: Program, pictures: Map) -> None:
        if pictures and program in self._times_listed:
            self._maps[program][pictures] = None

    def take_list(self, data: bytes) -> None:
        number, last = data[6:8]
        listed = {one: programs for one, programs in self._sections.items() if one <= last} | {number: programs_of(data)}
        if listed == self._sections:
            return
        if len(listed) <= len(self._sections):
            self.ended()
        self._times_listed.update(listed[number])
        for one, programs in self._sections.items():
            if one == number or one not in listed:
                self._take_away(programs)
        self._sections = listed

    def ended(self) -> list[Stretch]:
        """All stretches, the one that lasts until now the last."""
        self._stretches.append(dict(self._maps))
        self._maps.clear()
        return self._stretches

    def _take_away(self, programs: tuple[Program, ...]) -> None:
        self._times_listed.subtract(programs)
        for program in programs:
            if not self._times_listed[program]:
                del self._times_listed[program]


class Tables:
    """``sound``: what sections with a right checksum say; ``every``: what all do. ``codecs``: of each PID all that any map says,
    whatever is listed."""

    def __init__(self) -> None:
        self.sound, self.every = Told(), Told()
        self.codecs: set[tuple[int, str]] = set()
        self._assembled: defaultdict[int, Assembled] = defaultdict(Assembled)
        self._last: dict[int, bytes] = {}

    def take(self, packet: bytes) -> None:
        pid = pid_of(packet)
        for section in self._assembled[pid].take(packet):
            if self._last.get(pid) != section and section[0] == (2 if pid else 0) and section[5] & 1:
                if not pid:
                    self._last.clear()
                self._last[pid] = section
                self._take(pid, section[:-4], (self.every, self.sound) if is_sound(section) else (self.every,))

    def _take(self, pid: int, data: bytes, readings: tuple[Told, ...]) -> None:
        pictures = _pictures_of(data) if pid else ()
        self.codecs.update((one.pid, one.codec) for one in pictures)
        for told in readings:
            if pid:
                told.take_map((data[3] << 8 | data[4], pid), pictures)
            else:
                told.take_list(data)


def _pictures_of(pmt: bytes) -> Map:
    found = []
    for place, (pid, kind, descriptors) in enumerate(streams_of(pmt)):
        told = dict(_described(descriptors))
        codec = _REGISTERED.get(told.get(_REGISTRATION, b"")[:4]) if kind == 0x06 else _CODECS.get(kind)
        if codec is not None:
            found.append(Pictures(pid, codec, place, told.get(_IDENTIFIER, b"")))
    return tuple(found)


def _described(descriptors: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 2 <= len(descriptors):
        behind = at + 2 + descriptors[at + 1]
        yield descriptors[at], descriptors[at + 2 : behind]
        at = behind


def _table_packets(fd: int, extents: Extents) -> Iterator[bytes]:
    """The packets of lists and of the maps that these name, in order. Fills ``extents``."""
    is_table = np.zeros(_PIDS, np.bool_)
    is_table[0] = True
    lists = Assembled()
    for packets_NB in _packets(fd):
        pids_N = (packets_NB[:, 1] & 0x1F).astype(np.intp) << 8 | packets_NB[:, 2]
        extents.add(pids_N)
        for place in np.flatnonzero(pids_N == 0).tolist():
            for section in lists.take(packets_NB[place].tobytes()):
                is_table[[pid for _, pid in programs_of(section[:-4])]] = True
        for place in np.flatnonzero(is_table[pids_N]).tolist():
            yield packets_NB[place].tobytes()


def _packets(fd: int) -> Iterator[npt.NDArray[np.uint8]]:
    """Whole packets [N, bytes], many at once, wherever they begin in the file."""
    is_timed = os.pread(fd, 2 * PACKET + 1, 0)[::PACKET] != bytes((SYNC, SYNC, SYNC))
    pattern = _TIMED_PACKETS if is_timed else _PACKETS
    at, rest = 0, b""
    while piece := os.pread(fd, _PIECE_BYTES, at):
        at += len(piece)
        data = rest + piece
        found = list(pattern.finditer(data))
        yield np.frombuffer(b"".join(map(_untimed, found) if is_timed else (run[0] for run in found)), np.uint8).reshape(
            -1, PACKET
        )
        rest = data[max(found[-1].end() if found else 0, len(data) - _TIMED + 1) :]


def _untimed(run: re.Match[bytes]) -> bytes:
    return np.frombuffer(run[0], np.uint8).reshape(-1, _TIMED)[:, 4:].tobytes() if run["timed"] else run[0]
