from __future__ import annotations

import pytest

from worker.program_tables import PACKET, Assembled, packets_of, pid_of


@pytest.mark.parametrize("length", [12, 183, 184, 367, 368, 4096])
def test_a_section_laid_in_packets_is_put_together_again_each_time(length: int) -> None:
    section = bytes((2, 0xB0 | length - 3 >> 8, length - 3 & 0xFF)) + bytes(range(1, 251)) * 17
    packets = packets_of(0x1234, section[:length]) * 2
    parts = [packets[at : at + PACKET] for at in range(0, len(packets), PACKET)]
    assert {(len(part), part[0], pid_of(part)) for part in parts} == {(PACKET, 0x47, 0x1234)}
    tables = Assembled()
    assert [found for part in parts for found in tables.take(part)] == [section[:length]] * 2
