"""Whether the files that rows depend on are still there, and still what they were."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Literal

from mithridate.errors import StoreError
from mithridate.store import Artefact

QUICK = 256 << 20
"""Bytes that are read in less than a second: files that hold no more together are all read at the start of a run."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A file that is not what was recorded."""

    artefact: Artefact
    what: Literal["missing", "changed"]


def described(folder: Path, path: str, *, job: str) -> Artefact:
    """A file of a run folder as it is now. Raises :class:`StoreError` where it cannot be read."""
    try:
        content = (folder / path).read_bytes()
    except OSError as error:
        raise StoreError(
            f"cannot read '{folder / path}', which results of this run depend on: {error.strerror or error}; see that "
            "you may read it, and that its disk is well"
        ) from error
    return Artefact(path=path, job=job, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))


def lost(folder: Path, artefacts: Iterable[Artefact]) -> list[Fault]:
    """Those that are missing or of another size: one listing of each folder, and no file is read."""
    by_place = groupby(sorted(artefacts, key=lambda each: each.path), key=lambda each: each.path.rpartition("/")[0])
    found: list[Fault] = []
    for place, those in by_place:
        sizes = _sizes(folder / place)
        for each in those:
            size = sizes.get(PurePosixPath(each.path).name)
            if size is None:
                found.append(Fault(artefact=each, what="missing"))
            elif size != each.bytes:
                found.append(Fault(artefact=each, what="changed"))
    return found


def at_start(folder: Path, artefacts: Iterable[Artefact]) -> list[Fault]:
    """Those that are missing, and, as far as that is quickly known, of other content: large ones by their size."""
    those = list(artefacts)
    return (changed if sum(each.bytes for each in those) <= QUICK else lost)(folder, those)


def changed(folder: Path, artefacts: Iterable[Artefact]) -> list[Fault]:
    """Those that are missing or of other content; every file is read."""
    those = list(artefacts)
    found = lost(folder, those)
    known = {fault.artefact.path for fault in found}
    return found + [
        Fault(artefact=each, what="changed")
        for each in those
        if each.path not in known and described(folder, each.path, job=each.job).sha256 != each.sha256
    ]


def refuse(folder: Path, faults: list[Fault]) -> None:
    """Raise :class:`StoreError` that names the first of the faults and how to mend them, where there are any."""
    if not faults:
        return
    first = faults[0]
    what = "is missing" if first.what == "missing" else "is not what it was when they were computed"
    more = f" ({len(faults) - 1} more like it)" if len(faults) > 1 else ""
    raise StoreError(
        f"'{folder / first.artefact.path}', which results of this run depend on, {what}{more}; nothing was changed: "
        f"put it back, or mend the run folder with  mithridate repair {folder}"
    )


def _sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file in a folder; of none where there is no folder."""
    try:
        with os.scandir(folder) as found:
            return {each.name: each.stat().st_size for each in found if each.is_file()}
    except OSError:
        return {}
