"""What the files of offline W&B runs hold; their library writes them, but has no reader.

A ``.wandb`` file is a log of records as LevelDB writes it (https://github.com/google/leveldb, doc/log_format.md), after
seven bytes of W&B's own in its first block. A record that a kill tore is at the end, and is left out.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_BLOCK, _HEADER, _OWN = 32768, 7, 7
_FULL, _FIRST, _LAST = 1, 2, 4


def logged(folder: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each call to ``log`` in the runs of a folder: its number and its values by name."""
    from wandb.proto.wandb_internal_pb2 import Record

    for path in sorted(folder.glob("offline-run-*/*.wandb")):
        for found in records(path.read_bytes()):
            items = Record.FromString(found).history.item
            values = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in items}
            if values:
                yield int(values.get("_step", 0)), {name: each for name, each in values.items() if name[0] != "_"}


def records(data: bytes) -> Iterator[bytes]:
    """The whole records of a file."""
    place, parts = _OWN, b""
    while place + _HEADER <= len(data):
        left = _BLOCK - place % _BLOCK
        if left < _HEADER:  # too short for a header: filled with zeros
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)  # after the checksum
        begin, place = place + _HEADER, place + _HEADER + length
        if not kind or place > len(data):
            return
        parts = (b"" if kind in (_FULL, _FIRST) else parts) + data[begin:place]
        if kind in (_FULL, _LAST):
            yield parts
