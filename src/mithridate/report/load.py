"""What a run folder holds, read once into plain records that the rest of the report draws from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from mithridate.errors import StoreError
from mithridate.report.boundaries import Boundary, boundary
from mithridate.report.degrading import Degradation, degradation
from mithridate.report.grid import Grid, grid
from mithridate.report.origins import Pretraining, Published, pretraining, published
from mithridate.report.planes import FeatureMap, Polytope, feature_map, polytopes
from mithridate.report.treatment import Treatment, treatment
from mithridate.report.values import mapping, matrix, number, series, text, whole
from mithridate.store import Failure, Store

Control = Literal["attack", "noise", "clean"]
Series = Mapping[str, tuple[float, ...]]


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

    @property
    def share(self) -> float | None:
        """Poisoned rows over clean training rows: of few rows more than the budget, which is rounded up to whole ones.

        The budget where they were not counted.
        """
        return self.rows / self.training_rows if self.training_rows else self.budget


@dataclass(frozen=True, kw_only=True)
class Target:
    """What one trained network made of one target."""

    id: int | None
    true: int | None
    wanted: int | None
    """The class the poisoner wants; None where any wrong one will do."""
    predicted: int | None
    probabilities: tuple[float, ...]
    hit: bool
    radius: int | None
    """Rows a poisoner would have to change to change the answer, where the defense certifies that."""


@dataclass(frozen=True, kw_only=True)
class Victim:
    """One trained network, judged on the targets of one trial."""

    key: str
    training: str
    """Rows that share it were one training, judged on several trials."""
    control: Control
    attack: str | None
    scenario: str | None
    """None for clean networks: they hold for every scenario."""
    defense: str
    victim: str
    trial: int
    run: int
    success: float
    """Share of the targets hit, in [0, 1]."""
    clean_accuracy: float | None
    """Accuracy on the untouched test set, in [0, 1]."""
    targets: tuple[Target, ...]
    """The targets, or a few of very many."""
    judged: int
    """How many targets it was judged on."""
    seconds: float
    peak_memory: int | None
    curve: Series
    map: FeatureMap | None
    box: str | None
    """What the attacker knows of it (``white-box``, ``grey-box``, ``black-box``); None for clean networks."""
    treatment: Treatment
    graded: bool
    """Whether success is a share of test rows, of which the mean counts (attacks that degrade), and no hit."""
    error: float | None
    """Share of the whole test set called wrong, in [0, 1]; known of attacks that degrade alone."""
    confusion: tuple[tuple[int, ...], ...]
    """Test rows by true class, then by what they were called; empty where it was not kept."""
    boundary: Boundary | None


@dataclass(frozen=True, kw_only=True)
class Surrogate:
    """One network that the poisoner trained for itself."""

    learner: str
    seconds: float
    curve: Series


@dataclass(frozen=True, kw_only=True)
class Run:
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

    @property
    def done(self) -> int:
        """Jobs finished: networks pretrained, surrogates trained, poisons crafted, victims trained."""
        before = len(self.pretrainings) + len(self.surrogates)
        return before + len(self.crafts) + len({victim.training for victim in self.victims})

    @property
    def seconds(self) -> float:
        """Computing time of all finished jobs; every training is counted once, what was found done not again."""
        firsts = {victim.training: victim for victim in reversed(self.victims)}
        trainings = {name: max(0.0, first.seconds - first.treatment.reused) for name, first in firsts.items()}
        before = sum(max(0.0, each.seconds - each.reused) for each in self.pretrainings)
        crafting = sum(each.seconds for each in self.surrogates) + sum(each.seconds for each in self.crafts)
        return before + crafting + sum(trainings.values())

    @property
    def title(self) -> str:
        """What the experiment calls itself."""
        return str(self.experiment.get("title") or self.experiment.get("name") or "An unnamed run")

    def class_name(self, label: int | None) -> str:
        """The name of a class, or its number where it has none."""
        if label is None:
            return "?"
        return self.classes[label] if 0 <= label < len(self.classes) else str(label)


def read(folder: Path) -> Run:
    """Read the run in ``folder``. Raises :class:`StoreError` where it is absent or damaged."""
    with Store(folder) as store:
        meta, failures = store.meta(), store.failures()
        kept = set(meta["keys"]) if isinstance(meta.get("keys"), list) else None  # a run made smaller keeps its rows
        crafts, victims, surrogates, pretrainings = (
            [row for row in store.rows(kind) if kept is None or row["key"] in kept]
            for kind in ("craft", "victim", "surrogate", "pretraining")
        )
    order = grid(meta.get("names"))
    planned, experiment = meta.get("jobs"), mapping(meta.get("experiment"))
    classes = tuple(str(name) for name in meta.get("classes") or ())
    goal = degradation(experiment, classes)
    return Run(
        folder=Path(folder),
        experiment=experiment,
        environment=mapping(meta.get("environment")),
        command=str(meta.get("command") or ""),
        classes=classes,
        grid=order,
        degradation=goal,
        planned=planned if isinstance(planned, int) else None,
        notes=tuple(str(note) for note in meta.get("notes") or ()),
        crafts=tuple(_craft(row) for row in order.sorted(crafts)),
        victims=tuple(_victim(row, graded=goal is not None) for row in order.sorted(victims)),
        surrogates=tuple(_surrogate(row) for row in surrogates),
        pretrainings=tuple(pretraining(row) for row in pretrainings),
        published=published(meta.get("published")),
        failures=tuple(failures),
    )


def _surrogate(row: Mapping[str, Any]) -> Surrogate:
    return Surrogate(
        learner=str(row.get("learner") or "surrogate"),
        seconds=number(row.get("seconds")) or 0.0,
        curve=series(row.get("curve")),
    )


def _craft(row: Mapping[str, Any]) -> Craft:
    return Craft(
        key=row["key"],
        attack=str(_required(row, "attack")),
        scenario=str(_required(row, "scenario")),
        trial=int(_required(row, "trial")),
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
    )


def _victim(row: Mapping[str, Any], *, graded: bool) -> Victim:
    control = _required(row, "control")
    success = number(_required(row, "success"))
    if control not in ("attack", "noise", "clean") or success is None or not 0 <= success <= 1:
        raise StoreError(
            f"the result '{row['key']}' has control {control!r} and success {row['success']!r}; run it again"
        )
    error = number(row.get("error")) if graded else None
    return Victim(
        key=row["key"],
        training=str(row.get("training") or row["key"]),
        control=cast("Control", control),
        attack=text(row.get("attack")),
        scenario=text(row.get("scenario")),
        defense=str(row.get("defense") or "none"),
        victim=str(_required(row, "victim")),
        trial=int(_required(row, "trial")),
        run=int(row.get("run") or 0),
        success=success,
        clean_accuracy=number(row.get("clean_accuracy")) if error is None else 1 - error,
        targets=tuple(_target(each) for each in row.get("targets") or ()),
        judged=int(number(row.get("judged")) or len(row.get("targets") or ())),
        seconds=number(row.get("seconds")) or 0.0,
        peak_memory=whole(row.get("peak_memory")),
        curve=series(row.get("curve")),
        map=feature_map(row.get("map")),
        box=text(row.get("box")),
        treatment=treatment(row),
        graded=graded,
        error=error,
        confusion=matrix(row.get("confusion")),
        boundary=boundary(row.get("boundary")),
    )


def _target(row: Mapping[str, Any]) -> Target:
    return Target(
        id=whole(row.get("id")),
        true=whole(row.get("true")),
        wanted=whole(row.get("wanted")),
        predicted=whole(row.get("predicted")),
        probabilities=tuple(number(value) or 0.0 for value in row.get("probabilities") or ()),
        hit=bool(row.get("hit")),
        radius=whole(row.get("radius")),
    )


def _required(row: Mapping[str, Any], name: str) -> Any:
    if row.get(name) is None:
        raise StoreError(f"the result '{row['key']}' lacks '{name}'; it was written by another release, or is damaged")
    return row[name]
