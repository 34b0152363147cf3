"""The first images that each defense dropped, from files the run wrote; poison is marked, the class named."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mithridate.report import pictures
from mithridate.report.combinations import Cell
from mithridate.report.load import Run, Victim
from mithridate.report.pictures import Picture

MOST = 24
"""Images of one defense."""
_LARGEST = 64
"""Pixels a side."""
_ROOM = 400_000
"""Bytes for all pictures of dropped rows, shared evenly between the defenses."""
_FILE = 100_000_000
"""Bytes of arrays in a file; what claims more is damaged."""


@dataclass(frozen=True, kw_only=True)
class Dropped:
    """One dropped row."""

    picture: Picture
    label: str
    """Name of its class."""
    poison: bool


@dataclass(frozen=True, kw_only=True)
class Wall:
    """The first rows a defense dropped from one training set."""

    trial: int
    rows: int
    """How many it dropped there in all."""
    images: tuple[Dropped, ...]

    @property
    def poison(self) -> int:
        """Poisoned ones among those shown."""
        return sum(each.poison for each in self.images)


def walls(run: Run, cells: Sequence[Cell]) -> list[Wall | None]:
    """For each defense the first images it dropped in its first trial; None where none were kept."""
    room = _ROOM // max(1, len(cells))
    return [_wall(run, cell, room) for cell in cells]


def _wall(run: Run, cell: Cell, room: int) -> Wall | None:
    for victim in sorted(cell.poisoned, key=lambda each: (each.trial, each.run)):
        images = _images(run, victim, room) if victim.treatment.images else ()
        if images:
            return Wall(trial=victim.trial, rows=victim.treatment.dropped or len(images), images=images)
    return None


def _images(run: Run, victim: Victim, room: int) -> tuple[Dropped, ...]:
    """As many as there is room for."""
    found = arrays(run.folder, victim.treatment.images or "")
    if found is None:
        return ()
    images, labels, poison, ids = found
    kept: list[Dropped] = []
    for k in range(min(len(images), MOST)):
        label = run.class_name(int(labels[k]))
        alt = f"Dropped row {int(ids[k])}, labelled “{label}”" + (", poison" if poison[k] else "")
        picture = pictures.picture(images[k], alt, largest=_LARGEST)
        room -= pictures.weight([picture])
        if picture is None or room < 0:
            break
        kept.append(Dropped(picture=picture, label=label, poison=bool(poison[k])))
    return tuple(kept)


def arrays(folder: Path, name: str) -> tuple[NDArray[np.float64], ...] | None:
    """``images`` ``(n, C, H, W)`` in [0, 1], ``labels``, ``poison``, ``ids`` ``(n,)``; None where they are damaged."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(each.file_size for each in archive.infolist()) > _FILE:
                return None
        with np.load(path, allow_pickle=False) as file:
            images, *rest = (np.asarray(file[each]) for each in ("images", "labels", "poison", "ids"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, MemoryError):
        return None
    if images.ndim != 4 or images.dtype != np.uint8 or any(each.shape != images.shape[:1] for each in rest):
        return None
    if any(each.dtype.kind not in "biu" for each in rest):
        return None
    return images.transpose(0, 3, 1, 2) / 255, *(each.astype(np.float64) for each in rest)
