"""What jobs on other machines begin with, as bytes in an object store; and what they made, in the run folder."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mithridate.executor import Work
from mithridate.experiment import Job
from mithridate.placing import place, place_file
from mithridate.portable import Portable


class Stock:
    """References to files for jobs. Those of a poison, and trainings that jobs left, go once no job needs them."""

    def __init__(self, ray: Any, work: Work, jobs: Sequence[Job]) -> None:
        self._ray, self._work = ray, work if isinstance(work, Portable) else None
        self._users = Counter(need for job in jobs for need in set(job.needs))
        self._bundles: dict[tuple[str, ...], Any] = {}
        self._poisons: dict[str, tuple[str, ...]] = {}  # names in a bundle, by the key of the craft job
        self._networks: dict[tuple[str, int, int], tuple[str, ...]] = {}  # names, by what decides them
        self._pretrained: tuple[str, ...] | None = None
        self._left: dict[str, list[Any]] = {}  # what a job left, and what those before it did, by its key

    def given(self, job: Job) -> list[Any]:
        """References to all files that a job begins with, as far as there are any."""
        if self._work is None:
            return []
        if self._pretrained is None:
            self._pretrained = self._work.pretrained()
        kind = job.kind, job.defense, job.crew
        if kind not in self._networks:
            self._networks[kind] = self._work.networks(job)
        poison = self._work.poisons(job)
        if poison:
            self._poisons[job.needs[0]] = poison
        bundles = [self._bundle(names) for names in (self._pretrained, self._networks[kind], poison)]
        return [each for each in bundles if each is not None] + self._before(job)

    def take(self, job: Job, files: Mapping[str, bytes], left: Any | None) -> None:
        """Write what a job made, whole or not at all; remember what it left for those that need it."""
        before = self._before(job)
        if left is not None or before:
            self._left[job.key] = [*before, *([] if left is None else [left])]
        if self._work is not None:
            _write(self._work, files)

    def over(self, jobs: Iterable[Job]) -> None:
        """Let go of what no job needs any more, now that these have ended."""
        for job in jobs:
            for need in set(job.needs):
                self._users[need] -= 1
                if not self._users[need]:
                    self._left.pop(need, None)
                    self._bundles.pop(self._poisons.pop(need, ()), None)
            if not self._users[job.key]:
                self._left.pop(job.key, None)

    def _before(self, job: Job) -> list[Any]:
        """What the jobs that a job needs have left."""
        return list(dict.fromkeys(each for need in job.needs for each in self._left.get(need, ())))

    def _bundle(self, names: Sequence[str]) -> Any | None:
        """A reference to the files of these names that are there; None where none is."""
        assert self._work is not None, "only work in a folder has files"
        there = tuple(name for name in names if self._work.place(name).is_file())
        if there and there not in self._bundles:
            self._bundles[there] = self._ray.put({name: self._work.place(name).read_bytes() for name in there})
        return self._bundles.get(there)


def _write(work: Portable, files: Mapping[str, bytes]) -> None:
    """Write files; those of a poison set together."""
    sets: dict[Path, dict[str, bytes]] = defaultdict(dict)
    for name, content in files.items():
        path = work.place(name)
        if name.startswith("poisons/"):
            sets[path.parent][path.name] = content
        else:
            place_file(path, content)
    for folder, contents in sets.items():
        place(folder, contents)
