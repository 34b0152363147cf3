"""Files of W&B: records of any length are put together again, and a torn end is left out."""

from __future__ import annotations

import struct

import pytest

from mithridate.trackers.wandb_files import records

BLOCK = 32768
OWN = b":W&B\xe1\xfb\x00"


def log(*parts: bytes) -> bytes:
    """A log as LevelDB writes it: byte by byte, a new piece in each block."""
    found = OWN
    for data in parts:
        first = True
        while first or data:
            room = BLOCK - len(found) % BLOCK
            if room < 7:
                found += bytes(room)
                continue
            piece, data = data[: room - 7], data[room - 7 :]
            kind = (1 if first else 4) if not data else (2 if first else 3)
            found += struct.pack("<IHB", 0, len(piece), kind) + piece
            first = False
    return found


@pytest.mark.parametrize("length", [0, 1, BLOCK - 22, BLOCK - 21, BLOCK - 20, BLOCK - 14, BLOCK, 3 * BLOCK])
def test_records_are_put_together(length: int) -> None:
    parts = [b"a", bytes(range(256)) * (length // 256) + b"x" * (length % 256), b"", b"z" * 100]
    assert list(records(log(*parts))) == parts


def test_a_torn_end_is_left_out() -> None:
    parts = [b"a" * 10, b"b" * 40000, b"c"]
    whole = log(*parts)
    for cut in range(0, len(whole), 97):
        found = list(records(whole[:cut]))
        assert found == parts[: len(found)]
        assert len(found) < len(parts)
