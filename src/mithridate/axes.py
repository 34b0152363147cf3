"""The axes of an experiment's grid, and which of its jobs many cells share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mithridate.job import JobKind
from mithridate.listing import sizes

if TYPE_CHECKING:
    from mithridate.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class Axis:
    """One direction of the grid."""

    name: str
    size: int
    values: tuple[str, ...] = ()
    """What lies along it, as tables call it; empty where numbers do."""
    about: str = ""
    """What a reader must know of it, in a few words."""


def axes(experiment: Experiment) -> list[Axis]:
    """The directions of the grid: attacks, scenarios, crews, victims, defenses, and how often each cell is tried."""
    grid, first = experiment, experiment.first_trial
    fewer = len(grid.numbers(1))
    others = f"; {fewer} of each variation" if len(grid.scenarios()) > 1 and fewer < grid.trials else ""
    asked, crews = len(grid.defenses), grid.crews or {"all surrogates": grid.everybody}
    controls = (
        f"{asked} asked for, {len(grid.stacks()) - asked} controls of theirs" if len(grid.stacks()) > asked else ""
    )
    kinds = tuple(dict.fromkeys(grid.attack_kinds()))
    return [
        Axis(name="attacks", size=len(kinds), values=kinds),
        Axis(name="scenarios", size=len(grid.scenarios()), values=tuple(grid.scenario_names())),
        Axis(name="crews", size=len(crews), values=tuple(_crew(name, each) for name, each in crews.items())),
        Axis(name="victims", size=len(grid.victims), values=tuple(grid.victim_names())),
        Axis(name="defenses", size=len(grid.stacks()), values=tuple(grid.defense_names()), about=controls),
        Axis(
            name="trials", size=grid.trials, about=f"draws of targets and rows, {_numbers(first, grid.trials)}{others}"
        ),
        Axis(name="seeds", size=grid.seeds, about="poisons crafted for the targets of each trial"),
        Axis(name="runs", size=grid.runs, about="victims trained on each poison"),
    ]


def sharing(experiment: Experiment) -> dict[JobKind, str]:
    """For each kind of job that there is, which cells share one of them, in a few words."""
    grid = experiment
    victims = grid.runs * len(grid.victims) * len(grid.stacks())
    faced = len(set(map(grid.faced, range(len(grid.stacks())))))
    each = f"{victims // faced}" if victims % faced == 0 else f"{victims / faced:.1f} on average"
    clean = "all attacks, scenarios" + ("" if grid.resample else " and trials")
    told: dict[JobKind, str] = {
        "pretraining": "shared by all that start from it, in any run",
        "surrogate": "shared by all trials and attacks",
        "clean": f"each shared by {clean}" + (" of its trial" if grid.resample else ""),
        "craft": "" if victims == faced else f"each shared by its victims, {each}",
    }
    return {kind: told.get(kind, "") for kind in sizes(grid)}


def _crew(name: str, members: tuple[int, ...]) -> str:
    return f"{name} ({', '.join(map(str, members))})"


def _numbers(first: int, count: int) -> str:
    return f"number {first}" if count == 1 else f"numbers {first} to {first + count - 1}"
