"""What trackers are told of a campaign: its rows as curves, each point once however often the run is stopped.

Every point follows from the rows of the store in their order, so that a run that goes on tells only what is missing.
``success`` and ``clean accuracy`` are those of the n-th victim of a cell, ``rate`` is the mean success so far. Curves
of ``training`` (by epoch) and of ``crafting`` (by step) are those of a cell's first trial and victim.
"""

from __future__ import annotations

import itertools
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from mithridate.errors import ConfigError, MissingExtraError, nearest
from mithridate.executor import Ended
from mithridate.experiment import Experiment
from mithridate.job import Job
from mithridate.settings import plain
from mithridate.store import Store
from mithridate.tracker import Point, Tracker
from mithridate.watch import Step

KINDS: Mapping[str, tuple[str, str]] = {
    "tensorboard": ("tensorboard_files", "TensorBoard"),
    "mlflow": ("mlflow_store", "MLflow"),
    "wandb": ("wandb_offline", "WandB"),
}
_PARTS = ("attack", "scenario", "victim", "defense")
_EVERY = 5.0  # seconds between points of jobs under way
_TOLD = 1000  # rows of an earlier run that are told at once


class Tracking:
    """Tells trackers how a campaign goes. One that fails is left out from then on, which is said once."""

    def __init__(self, trackers: Sequence[Tracker], *, experiment: Experiment, say: Callable[[str], None]) -> None:
        self._trackers = list(trackers)
        self._experiment, self._say = experiment, say
        self._curves = Curves(experiment)
        self._last: dict[str, dict[str, int]] = {}  # by tracker and tag
        self._known: set[str] = set()  # keys of rows told
        self._waiting: list[Point] = []
        self._told = time.monotonic()

    def begin(self, store: Store) -> None:
        """Open the records, their names kept in the store, and tell what it holds already."""
        names = dict(store.meta().get("trackers", {})) if self._trackers else {}
        title, settings = self._experiment.name, flat(plain(self._experiment))

        def opened(tracker: Tracker) -> None:
            names[tracker.name] = tracker.begin(title, settings, identity=names.get(tracker.name, ""))
            self._last[tracker.name] = tracker.last()

        self._each(opened)
        if self._trackers:
            store.describe(trackers=names)
            self._tell([(row["key"], row["kind"], row) for row in store.rows()])

    def step(self, job: Job, step: Step) -> None:
        """A job got further."""
        if self._trackers:
            self._waiting += self._curves.step(job, step)
            if time.monotonic() - self._told > _EVERY:
                self._flush()

    def ended(self, ended: Ended) -> None:
        """A job ended; its rows are in the store."""
        if self._trackers:
            self._tell([(each.key, each.kind, each.row) for each in ended.results])

    def finish(self, files: Sequence[Path], *, complete: bool) -> None:
        """Hand over the files that are there and close the records."""
        self._flush()
        there = [path for path in files if path.is_file()]
        self._each(lambda tracker: tracker.finish(there, complete=complete))
        self._trackers.clear()

    def _tell(self, rows: Sequence[tuple[str, str, Mapping[str, Any]]]) -> None:
        for key, kind, row in rows:
            if key not in self._known:
                self._known.add(key)
                self._waiting += self._curves.row(kind, row)
                if len(self._waiting) > _TOLD:
                    self._flush()
        self._flush()

    def _flush(self) -> None:
        """Tell each tracker the points that it does not have."""
        points, self._waiting, self._told = self._waiting, [], time.monotonic()

        def told(tracker: Tracker) -> None:
            last, new = self._last[tracker.name], list[Point]()
            for point in points:
                if point.step > last.get(point.tag, -1):
                    last[point.tag] = point.step
                    new.append(point)
            if new:
                tracker.log(new)

        if points:
            self._each(told)

    def _each(self, what: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                what(tracker)
            except Exception as error:  # of a foreign library: whatever it is, the campaign matters more
                self._trackers.remove(tracker)
                text = " ".join(str(error).split())[:200]
                self._say(f"no longer tracked by {tracker.name} ({type(error).__name__}: {text}); the run goes on")


class Curves:
    """The points that rows and steps are, counted as they come."""

    def __init__(self, experiment: Experiment) -> None:
        names = (experiment.attack_names(), experiment.scenario_names(), experiment.victim_names())
        self._names = dict(zip(_PARTS, (*names, experiment.defense_names()), strict=True))
        self._first, self._attacker = experiment.first_trial, experiment.attack_name
        self._spelled: dict[str, str] = {}
        for cell in itertools.product(*self._names.values()):
            self._cell(dict(zip(_PARTS, cell, strict=True)))
        self._sums: dict[str, tuple[int, float]] = {}

    def row(self, kind: str, row: Mapping[str, Any]) -> Iterator[Point]:
        """What a row says: how a victim did, and its curve; or how crafting went."""
        cell = self._cell(row)
        if kind == "victim":
            what = "" if row["control"] == "attack" else f"{row['control']} - "
            yield from self._judged(f"{what}{cell}", row)
            if self._is_first(row["trial"], row["run"]):
                yield from _curve(f"training/{what}{cell}", row.get("curve") or {})
        elif kind == "craft":
            yield from self._counted(f"crafting seconds/{cell}", row["seconds"])
            if self._is_first(row["trial"], row.get("seed", 0)):
                yield from _curve(f"crafting/{cell}", row.get("trace") or {})
        else:
            name = spelled(f"{kind} {row.get('surrogate', 0) + 1} {row.get('learner', '')}")
            yield from _curve(f"training/{name}", row.get("curve") or {})

    def step(self, job: Job, step: Step) -> Iterator[Point]:
        """A point of each curve of a job under way."""
        if job.kind not in ("clean", "attack", "noise", "craft") or not self._is_first(job.trial, job.run or job.seed):
            return
        parts = ("victim", "defense") if job.kind == "clean" else _PARTS[:2] if job.kind == "craft" else _PARTS
        cell = self._cell({part: self._name(part, job) for part in parts})
        what = {"attack": "", "craft": ""}.get(job.kind, f"{job.kind} - ")
        whole = step.stage in ("victim", "clean victim")  # whose curve is in the row
        place = f"training/{what}{cell}" if whole else f"under way/{what}{cell}/{spelled(step.stage)}"
        for name, value in step.values.items():
            yield from _point(f"{place}/{spelled(name)}", step.done, value)

    def _name(self, part: str, job: Job) -> str:
        return self._attacker(job) if part == "attack" else self._names[part][getattr(job, part)]

    def _is_first(self, trial: int, run: int) -> bool:
        return run == 0 and trial in (0, self._first)

    def _judged(self, cell: str, row: Mapping[str, Any]) -> Iterator[Point]:
        yield from self._counted(f"success/{cell}", row["success"])
        yield from self._counted(f"clean accuracy/{cell}", row["clean_accuracy"])
        yield from self._counted(f"seconds/{cell}", row["seconds"])
        count, total = self._sums.get(f"success/{cell}", (0, 0.0))
        if count:
            yield Point(tag=f"rate/{cell}", step=count, value=total / count)

    def _counted(self, tag: str, value: float | None) -> Iterator[Point]:
        """The next point of a curve whose steps are counted."""
        if value is not None and math.isfinite(value):
            count, total = self._sums.get(tag, (0, 0.0))
            self._sums[tag] = count + 1, total + value
            yield Point(tag=tag, step=count + 1, value=float(value))

    def _cell(self, row: Mapping[str, Any]) -> str:
        """A cell by the parts that are several; each under a spelling of its own."""
        parts = [str(row[part]) for part in _PARTS if row.get(part) and len(self._names[part]) > 1]
        name = " - ".join(parts) or str(row.get("attack") or "all")
        if name not in self._spelled:
            wanted, taken = spelled(name), set(self._spelled.values())
            more = (f"{wanted} {k}" for k in itertools.count(2))
            self._spelled[name] = wanted if wanted not in taken else next(each for each in more if each not in taken)
        return self._spelled[name]


def following(names: Sequence[str], *, experiment: Experiment, folder: Path, say: Callable[[str], None]) -> Tracking:
    """Trackers by name. Raises :class:`ConfigError` for unknown names, :class:`MissingExtraError` for libraries.

    A library that is there and fails is said and left out.
    """
    found: list[Tracker] = []
    for name in dict.fromkeys(names):
        if name not in KINDS:
            raise ConfigError(f"--track {name}: no such tracker; {nearest(name, KINDS)}")
        module, kind = KINDS[name]
        try:
            found.append(getattr(import_module(f"mithridate.trackers.{module}"), kind)(folder))
        except MissingExtraError:
            raise
        except Exception as error:  # a foreign library that does not fit others, say
            say(f"not tracked by {name} ({type(error).__name__}: {error}); the run goes on")
    return Tracking(found, experiment=experiment, say=say)


def flat(value: Any, place: str = "") -> dict[str, Any]:
    """Settings by dotted place, lists by number (``attacks.0.name``)."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inner is None or not value:
        return {place: value}
    found: dict[str, Any] = {}
    for name, each in inner:
        found |= flat(each, f"{place}.{spelled(str(name))}" if place else spelled(str(name)))
    return found


def spelled(name: str) -> str:
    """A name in the letters that every tracker allows."""
    return " ".join(re.sub(r"[^\w\-. ]", " ", name, flags=re.ASCII).split()) or "_"


def _curve(place: str, curve: Mapping[str, Sequence[float]]) -> Iterator[Point]:
    for name, values in curve.items():
        for k, value in enumerate(values):
            yield from _point(f"{place}/{spelled(name)}", k + 1, value)


def _point(tag: str, step: int, value: float | None) -> Iterator[Point]:
    if value is not None and math.isfinite(value):
        yield Point(tag=tag, step=step, value=float(value))
