"""What a run folder holds, read once into plain records that the rest of the report draws from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mithridate import halting
from mithridate.report.degrading import Degradation, degradation
from mithridate.report.grid import Grid, grid
from mithridate.report.ledger import Ledger, ledger
from mithridate.report.origins import Pretraining, Published, pretraining, published
from mithridate.report.planes import Polytope, polytopes
from mithridate.report.reading import MOST, Partial, read_crafts, read_victims
from mithridate.report.remembering import Remembering, once
from mithridate.report.savings import savings
from mithridate.report.values import mapping, number, series, whole
from mithridate.report.victims import Control as Control
from mithridate.report.victims import Series as Series
from mithridate.report.victims import Target as Target
from mithridate.report.victims import Victim as Victim
from mithridate.report.victims import required
from mithridate.store import Failure, Store


@dataclass(frozen=True, kw_only=True)
class Craft:
    """One crafted poison set."""

    key: str
    attack: str
    scenario: str
    trial: int
    rows: int
    """Poisoned rows."""
    budget: float | None
    """Share of the training set that may be poisoned, in [0, 1]."""
    training_rows: int | None
    """Clean training rows of the victims."""
    total_share: float | None
    """Poisoned rows as a share of all that victims train on, in [0, 1]."""
    radius: str
    """The allowed change in words ("linf 32/255"); empty where it is not known."""
    radius_value: float | None
    seconds: float
    peak_memory: int | None
    """Bytes."""
    trace: Series
    """One value for each recorded step: the matching loss and whatever else the attack followed."""
    folder: str
    """Where the poison set lies, relative to the run folder."""
    polytopes: tuple[Polytope, ...]
    """Where the poison lies, by surrogate; empty for attacks outside feature space."""
    surrogates: tuple[int, ...] = ()
    """Numbers of the surrogates it was crafted with; empty where it needs none, or the row does not say."""
    micro_batch: int | None = None
    """Rows at once with which it fitted into memory, where that had to be lowered; None elsewhere."""

    @property
    def share(self) -> float | None:
        """Poisoned rows over clean training rows: of few rows more than the budget, which is rounded up to whole ones.

        The budget where they were not counted.
        """
        return self.rows / self.training_rows if self.training_rows else self.budget


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """One network that the poisoner trained for itself."""

    learner: str
    seconds: float
    curve: Series
    number: int | None = None
    """Its number among the surrogates of the experiment."""


@dataclass(frozen=True, kw_only=True)
class Run(Remembering):
    """Everything the report knows about a run."""

    folder: Path
    experiment: Mapping[str, Any]
    environment: Mapping[str, Any]
    command: str
    classes: tuple[str, ...]
    grid: Grid
    """The names of attacks, scenarios, victims and defenses in the order of the experiment; empty in older runs."""
    degradation: Degradation | None
    """What an attack that degrades was after; None for other goals."""
    planned: int | None
    """Jobs planned; None where the run did not say."""
    notes: tuple[str, ...]
    crafts: tuple[Craft, ...]
    victims: tuple[Victim, ...]
    surrogates: tuple[Surrogate, ...]
    pretrainings: tuple[Pretraining, ...]
    published: tuple[Published, ...]
    failures: tuple[Failure, ...]
    """Of jobs that were tried; those that were not run because one they need failed are no failures."""
    sequential: object = None
    """What the run noted of trials that were added until a rate was known well enough (``reached``: it is, and nothing
    of those trials is left); None for an ordinary run."""
    ledger: Ledger = field(default_factory=Ledger)
    """Who knew what in each cell; empty in older runs."""
    partial: Partial | None = None
    """How much of a very large run was read whole; None: all of it."""

    @property
    def done(self) -> int:
        """Jobs finished: networks pretrained, surrogates trained, poisons crafted, victims trained."""
        before = len(self.pretrainings) + len(self.surrogates)
        return before + len(self.crafts) + len(once(self.victims))

    @property
    def seconds(self) -> float:
        """Computing time of all finished jobs; every training is counted once, what was found done not again."""
        before = sum(max(0.0, each.seconds - each.reused) for each in self.pretrainings)
        crafting = sum(each.seconds for each in self.surrogates) + sum(each.seconds for each in self.crafts)
        return before + crafting + self.remember("seconds", self._training_seconds)

    @property
    def seconds_saved(self) -> float:
        """Computing time that was not spent, because what jobs have in common was computed once."""
        return savings(self).seconds

    def _training_seconds(self) -> float:
        spent = [(each.seconds, each.treatment.reused) for each in once(self.victims)]
        return sum([seconds - reused if reused < seconds else 0.0 for seconds, reused in spent])

    @property
    def title(self) -> str:
        """What the experiment calls itself."""
        return str(self.experiment.get("title") or self.experiment.get("name") or "An unnamed run")

    def class_name(self, label: int | None) -> str:
        """The name of a class, or its number where it has none."""
        if label is None:
            return "?"
        return self.classes[label] if 0 <= label < len(self.classes) else str(label)


def read(folder: Path, *, most: int = MOST) -> Run:
    """Read the run in ``folder``; of more than ``most`` networks, only the first trials whole.

    Raises :class:`StoreError` where it is absent or damaged.
    """
    with Store(folder) as store:
        note, enough = halting.noted(store), halting.enough(store)
        meta, unrun = store.meta(), {each.key for each in store.queue.entries(("lost",))}
        failures = [each for each in store.failures() if each.key not in unrun]
        surrogates, pretrainings = (store.rows(kind, planned=True) for kind in ("surrogate", "pretraining"))
        order, experiment = grid(meta.get("names")), mapping(meta.get("experiment"))
        classes = tuple(str(name) for name in meta.get("classes") or ())
        goal = degradation(experiment, classes)
        appended = mapping(experiment.get("threat")).get("rows") == "append"
        victims, partial = read_victims(store, order, graded=goal is not None, appended=appended, most=most)
        crafts = read_crafts(store)
    planned = meta.get("jobs")
    notes = [str(note) for note in meta.get("notes") or ()]
    return Run(
        folder=Path(folder),
        experiment=experiment,
        environment=mapping(meta.get("environment")),
        command=str(meta.get("command") or ""),
        classes=classes,
        grid=order,
        degradation=goal,
        planned=planned if isinstance(planned, int) else None,
        notes=tuple([*notes, partial.words] if partial else notes),
        crafts=tuple(_craft(row) for row in order.sorted(crafts)),
        victims=victims,
        surrogates=tuple(_surrogate(row) for row in surrogates),
        pretrainings=tuple(pretraining(row) for row in pretrainings),
        published=published(meta.get("published")),
        failures=tuple(failures),
        sequential={**note, "reached": enough} if note else None,
        ledger=ledger(meta.get("ledger")),
        partial=partial,
    )


def _surrogate(row: Mapping[str, Any]) -> Surrogate:
    return Surrogate(
        learner=str(row.get("learner") or "surrogate"),
        seconds=number(row.get("seconds")) or 0.0,
        curve=series(row.get("curve")),
        number=whole(row.get("surrogate")),
    )


def _craft(row: Mapping[str, Any]) -> Craft:
    return Craft(
        key=row["key"],
        attack=str(required(row, "attack")),
        scenario=str(required(row, "scenario")),
        trial=int(required(row, "trial")),
        rows=int(row.get("rows") or 0),
        budget=number(row.get("budget")),
        training_rows=whole(row.get("training_rows")),
        total_share=number(row.get("total_share")),
        radius=str(row.get("radius") or ""),
        radius_value=number(row.get("radius_value")),
        seconds=number(row.get("seconds")) or 0.0,
        peak_memory=whole(row.get("peak_memory")),
        trace=series(row.get("trace")),
        folder=str(row.get("folder") or f"poisons/{row['key']}"),
        polytopes=polytopes(row.get("polytope")),
        micro_batch=whole(row.get("micro_batch")),
        surrogates=tuple(member for each in row.get("surrogates") or () if (member := whole(each)) is not None),
    )
