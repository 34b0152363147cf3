"""What has to travel to a bare machine and back: CIFAR-10 in parts, and the work folder in parts."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
from pathlib import Path

from mithridate.errors import MithridateError

FILES = ("train-00000-of-00001.parquet", "test-00000-of-00001.parquet")
PIECE = 15 * 2**20
MOST = 4
"""Parts in which work comes back at most: as much as can be carried there again."""
LEFT_AT_HOME = {"networks", "memory", "notes"}
"""Folders of the work that are large and computed again."""


def split(data: Path, parts: Path, count: int) -> list[Path]:
    """Cut CIFAR-10's two Parquet files into ``count`` parts, each in a folder of its own: ``parts/1``, ..."""
    where = data / "cifar10"
    lacking = [name for name in FILES if not (where / name).is_file()]
    if lacking:
        raise MithridateError(f"CIFAR-10 is not in '{where}': {lacking[0]} is missing; name another folder with --data")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in FILES:
            archive.add(where / name, arcname=f"cifar10/{name}")
    whole = packed.getvalue()
    digest, size, found = hashlib.sha256(whole).hexdigest(), -(-len(whole) // count), []
    for number in range(1, count + 1):
        folder = parts / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"cifar10.{number}.part").write_bytes(whole[(number - 1) * size : number * size])
        (folder / "parts.json").write_text(json.dumps({"count": count, "sha256": digest}), encoding="utf-8")
        found.append(folder)
    return found


def join(part: Path, data: Path) -> str:
    """Put a part (or several) beside those before; once all are there, unpack them. What has come, in words."""
    if (data / "cifar10" / FILES[0]).is_file():
        return f"CIFAR-10 is in '{data}' already"
    about = sorted(part.rglob("parts.json"))
    if not about:
        raise MithridateError(f"there are no parts of CIFAR-10 in '{part}'; make them with --split and carry them")
    said, here = json.loads(about[0].read_text(encoding="utf-8")), data / "parts"
    here.mkdir(parents=True, exist_ok=True)
    for each in part.rglob("cifar10.*.part"):
        shutil.copyfile(each, here / each.name)
    wanted = [here / f"cifar10.{number}.part" for number in range(1, said["count"] + 1)]
    there = [each for each in wanted if each.is_file()]
    if len(there) < len(wanted):
        return f"{len(there)} of {len(wanted)} parts of CIFAR-10 are in '{data}'; carry the others at once"
    whole = b"".join(each.read_bytes() for each in wanted)
    if hashlib.sha256(whole).hexdigest() != said["sha256"]:
        shutil.rmtree(here)
        raise MithridateError("the parts of CIFAR-10 do not fit together; make them again with --split and carry all")
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        archive.extractall(data, filter="data")
    shutil.rmtree(here)
    return f"CIFAR-10 is in '{data}'"


def pack(work: Path, out: Path) -> str:
    """The work folder in parts of 15 MiB, without what is computed again; in words, whether it fitted."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path in sorted(work.rglob("*")):
            parts = path.relative_to(work)
            if path.is_file() and not LEFT_AT_HOME & set(parts.parts):
                archive.add(path, arcname=str(parts))
    whole = packed.getvalue()
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("work.tar.*"):
        old.unlink()
    count = -(-len(whole) // PIECE)
    if count > MOST:
        return f"the work has {len(whole) >> 20} MiB, more than can be carried; only its results come back"
    for number in range(count):
        (out / f"work.tar.{number:02}").write_bytes(whole[number * PIECE : (number + 1) * PIECE])
    return f"the work is in '{out}', {count} parts"


def restore(parts: Path, work: Path) -> str:
    """Unpack what :func:`pack` wrote, unless there is work already."""
    if work.is_dir() and any(work.iterdir()):
        return f"'{work}' holds work already: nothing is unpacked"
    found = sorted(parts.rglob("work.tar.*"))
    if not found:
        raise MithridateError(f"there is no packed work in '{parts}'; name the folder with work.tar.00 in --restore")
    work.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(b"".join(each.read_bytes() for each in found))) as archive:
        archive.extractall(work, filter="data")
    return f"'{work}' is as it was packed"
