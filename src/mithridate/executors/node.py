"""What happens on a node of a Ray cluster: one job done in a folder of its own, from bytes to bytes.

Nodes never see the run folder: what a job begins with is written into a scratch folder, what it made is read from
there, and the folder is removed.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import torch

from mithridate import loading, runtime
from mithridate.errors import MithridateError
from mithridate.executor import Ended, Work, attempt
from mithridate.experiment import Job
from mithridate.loading import Loaded
from mithridate.portable import CACHE, Portable
from mithridate.watch import Step, Watch
from mithridate.work import MEMORY

Files = Mapping[str, bytes]
"""Files by their names: paths relative to the run folder, or under ``cache/``."""
_EVERY = 0.5  # seconds between two steps told to the driver
_PASSING = (".part", ".partial")  # endings of files that are not whole yet


@dataclass(frozen=True, kw_only=True)
class Parcel:
    """What all jobs of a run share. It comes to a node once, and each process there unpacks it once."""

    work: Work
    data: Sequence[Loaded]
    versions: Mapping[str, str]

    def check(self) -> None:
        """Raise :class:`MithridateError` where this node computes with other versions than the driver."""
        here = versions()
        if other := [
            f"{name} {here[name]} instead of {self.versions[name]}"
            for name in here
            if here[name] != self.versions[name]
        ]:
            raise MithridateError(
                f"a node of the cluster has {', '.join(other)}; install the same versions on every node"
            )


@dataclass(frozen=True, kw_only=True)
class Done:
    """What comes back of a job."""

    ended: Ended
    files: Files
    """What it made, for the run folder."""
    left: bool
    """Whether it left trainings for the jobs that need it; they stay in the object store."""


def parcel(work: Work) -> Parcel:
    """What nodes need of some work: not where the run folder lies."""
    if not isinstance(work, Portable):
        return Parcel(work=work, data=(), versions=versions())
    return Parcel(work=work.moved(Path("nowhere")), data=work.data(), versions=versions())


def versions() -> dict[str, str]:
    """What results depend on, as installed here."""
    return {"mithridate": importlib.metadata.version("mithridate"), "torch": torch.__version__}


def on_node(parcel: Sequence[Any], job: Job, given: Sequence[Any], mailbox: Any) -> tuple[Done, Files]:
    """Do one job, as a task of Ray.

    ``parcel`` is a list of one reference, ``given`` are references to the files that the job begins with: lists, since
    Ray would fetch references that stand by themselves anew for each job. What the job made, and the trainings that it
    left for jobs that need it.
    """
    runtime.use_threads(1)  # as everywhere, so that the place changes no result
    ray: Any = import_module("ray")
    where = f"node {ray.util.get_node_ip_address()} ({ray.get_runtime_context().get_node_id()[:8]})"
    work = _unpacked(ray, parcel[0]).work
    mailbox.put.remote(job.key, where)
    with _scratch() as folder, _cache_in(folder / CACHE):
        there = {name for each in given for name in _write(ray.get(each), folder)}
        ended = attempt(work.moved(folder) if isinstance(work, Portable) else work, job, _watch(job, mailbox))
        made = _made(folder, there)
    ended = replace(ended, error=ended.error.replace(f"{folder}/", ""), where=where)
    left = {name: content for name, content in made.items() if name.startswith(f"{MEMORY}/")}
    files = {name: content for name, content in made.items() if name not in left}
    return Done(ended=ended, files=files, left=bool(left)), left


def _unpacked(ray: Any, reference: Any) -> Parcel:
    """The parcel, fetched once by each process; its data are those that this process loads."""
    if _PARCELS.get("reference") != reference:
        parcel: Parcel = ray.get(reference)
        parcel.check()
        _PARCELS.update(reference=reference, parcel=parcel)
    found: Parcel = _PARCELS["parcel"]
    for each in found.data:
        loading.hold(each)
    return found


_PARCELS: dict[str, Any] = {}


def _watch(job: Job, mailbox: Any) -> Watch:
    """Tell the driver now and then where the job is, and all that a person should read."""
    last = [-_EVERY]

    def watch(step: Step) -> None:
        now = time.monotonic()
        if step.note or now - last[0] >= _EVERY:
            last[0] = now
            mailbox.put.remote(job.key, step)

    return watch


def _write(files: Files, folder: Path) -> Files:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return files


def _made(folder: Path, there: set[str]) -> dict[str, bytes]:
    """The whole files in a folder that were not there before."""
    names = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {
        name: path.read_bytes()
        for name, path in sorted(names.items())
        if name not in there and not name.startswith("notes/") and not name.endswith(_PASSING)
    }


@contextmanager
def _scratch() -> Iterator[Path]:
    """An empty folder for one job. Those of processes that were killed are removed too."""
    room = Path(gettempdir()) / f"mithridate-{os.getuid()}"
    room.mkdir(mode=0o700, exist_ok=True)
    for each in room.iterdir():
        if not Path(f"/proc/{each.name.partition('-')[0]}").exists():
            shutil.rmtree(each, ignore_errors=True)
    with TemporaryDirectory(prefix=f"{os.getpid()}-", dir=room) as folder:
        yield Path(folder)


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    """Have pretrained networks kept in ``folder``, from which they come back, and found where they were put."""
    before = os.environ.get("MITHRIDATE_CACHE")
    os.environ["MITHRIDATE_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MITHRIDATE_CACHE"]
        else:
            os.environ["MITHRIDATE_CACHE"] = before
