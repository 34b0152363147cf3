"""``mithridate judge``: poison that others made, put through a protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mithridate.cli.running import carry_out

if TYPE_CHECKING:
    from mithridate.experiment import Experiment


def _complete_preset() -> list[str]:
    from mithridate.cli.settings import preset_names

    return preset_names()


def judge(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A poison set, or a subfolder for each: ours or three pickles.")
    ],
    protocol: Annotated[
        str, typer.Option(metavar="FILE|PRESET", help="What they are judged under.", autocompletion=_complete_preset)
    ],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a setting; may be repeated.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Number of trials; default: one a poison set.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/PROTOCOL-FOLDER.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes; default: one a core on a CPU.")] = None,
) -> None:
    """Judge poison that others made: victims are trained on it as the protocol says. Pickles are not run."""
    from mithridate import runtime
    from mithridate.errors import ProblemsError

    where = runtime.device(device)
    experiment = _experiment(folder, protocol, changes or [], trials)
    found = _misfits(experiment)
    if found:
        raise ProblemsError(found)
    carry_out(experiment, out=out, where=where, workers=workers)


def _experiment(folder: Path, protocol: str, changes: list[str], trials: int | None) -> Experiment:
    """The protocol with its attacks replaced by the poison in ``folder``; the changes come last."""
    from mithridate import config
    from mithridate.attacks.given import Given
    from mithridate.cli.settings import read
    from mithridate.errors import ConfigError
    from mithridate.experiment import Experiment

    given = Given(folder=folder)
    wrong = given.problems()
    if wrong:
        raise ConfigError(wrong[0])
    settings = read(protocol)
    own: dict[str, Any] = {
        "name": f"{settings.get('name')}-{folder.resolve().name}",
        "about": f"Poison that was not crafted in this run, judged under {settings.get('name')}.",
        "notes": [],
        "attacks": [{"name": given.name, "folder": str(folder)}],
        "trials": len(given.sets()),
        "vary": {},  # poison is what it is
        "crews": {},
        "seeds": 1,
    }
    if settings.get("targets") != "correct":  # else they decide which targets are drawn
        own |= {"surrogates": [], "ensemble": 0}
    changed = config.override(settings | own, changes)
    return config.parse(Experiment, changed if trials is None else changed | {"trials": trials})


def _misfits(experiment: Experiment) -> list[str]:
    """Trials without a poison set, or with one that breaks the rules, found before anything is trained.

    Where trained networks decide which targets are drawn, nothing can be said yet.
    """
    from mithridate.attacks.given import Given
    from mithridate.errors import MithridateError
    from mithridate.experiment import Job
    from mithridate.preflight import problems
    from mithridate.work import data_of

    found = problems(experiment)
    if found or experiment.targets == "correct":
        return found
    given = [k for k, attack in enumerate(experiment.attacks) if isinstance(attack, Given)]
    for job in (Job(kind="craft", trial=number, attack=k) for number in experiment.numbers() for k in given):
        trial, data = experiment.trial(job), data_of(experiment, job)
        try:
            trial.craft(data, trial.goal(data))
        except MithridateError as error:
            found.append(f"trial {job.trial}: {error}")
    return found
