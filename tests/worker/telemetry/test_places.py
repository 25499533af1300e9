"""Places: one to a process, from the lowest number up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from worker.telemetry.places import ROOM_BYTES, left_places, make_room, take_place

TAKE = (
    "import sys; from pathlib import Path; from worker.telemetry.places import take_place; print(take_place(Path(sys.argv[1])))"
)


def test_places_of_processes_that_are_gone_are_taken_again(tmp_path: Path) -> None:
    assert take_place(tmp_path) == "0"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", TAKE, str(tmp_path)], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "1", "0 is ours"
    with left_places(tmp_path) as left:
        assert left == ["1"]
        assert take_place(tmp_path) == "2", "nobody takes one that is just looked at"
    assert take_place(tmp_path) == "1"
    with left_places(tmp_path) as left:
        assert left == []


def test_room_is_made_once_and_what_is_written_stays(tmp_path: Path) -> None:
    make_room(tmp_path, "0", ("counter", "gauge_max"))
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes == {"counter_0.db": ROOM_BYTES, "gauge_max_0.db": ROOM_BYTES}
    (tmp_path / "counter_0.db").write_bytes(b"x")
    make_room(tmp_path, "0", ("counter",))
    assert (tmp_path / "counter_0.db").read_bytes() == b"x"
