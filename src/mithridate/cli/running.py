"""``mithridate run``: run an experiment, or go on with it."""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mithridate.cli import options

if TYPE_CHECKING:
    import torch

    from mithridate.executor import Ended, Executor
    from mithridate.experiment import Experiment
    from mithridate.job import Job
    from mithridate.jobqueue import State
    from mithridate.store import Store
    from mithridate.tracking import Tracking
    from mithridate.watch import Step


def _complete_preset() -> list[str]:
    from mithridate.cli.settings import preset_names

    return preset_names()


def run(
    what: Annotated[
        str, typer.Argument(metavar="FILE|PRESET", help="A YAML file or a preset.", autocompletion=_complete_preset)
    ],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a setting; may be repeated.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Number of trials, instead of the file's.")] = None,
    device: options.Device = "auto",
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/NAME.")] = None,
    workers: options.Workers = None,
    executor: options.Executor = "auto",
    address: options.Address = None,
    per_gpu: options.PerGpu = 1,
    until_width: Annotated[
        float | None,
        typer.Option(metavar="W", help="Add trials only until the undefended success is known this well: 0.1."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with what is in the folder, or insist that it is empty.")
    ] = True,
    changed: options.Changed = None,
    track: options.Track = None,
) -> None:
    """Run an experiment. Run it again to go on where it stopped: what is in the run folder is not done twice."""
    from mithridate.cli.executing import device as device_for
    from mithridate.cli.settings import experiment as read_experiment
    from mithridate.errors import ConfigError

    options.check_changed(changed)
    if until_width is not None and not 0 < until_width < 1:
        raise ConfigError(f"--until-width must lie between 0 and 1 (0.1: ten points), but it is {until_width:g}")
    where = device_for(device, executor)
    experiment = read_experiment(what, changes=changes or [], trials=trials)
    carry_out(
        experiment,
        out=out,
        where=where,
        workers=workers,
        executor=executor,
        address=address,
        per_gpu=per_gpu,
        track=track or (),
        resume=resume,
        changed=changed,
        until_width=until_width,
    )


def carry_out(
    experiment: Experiment,
    *,
    out: Path | None,
    where: torch.device,
    workers: int | None,
    executor: str = "auto",
    address: str | None = None,
    per_gpu: int = 1,
    track: Sequence[str] = (),
    resume: bool = True,
    changed: str | None = None,
    command: str | None = None,
    states: Sequence[State] | None = None,
    until_width: float | None = None,
) -> None:
    """Do what is left of an experiment, draw its report and print its table; raises Exit unless all went well."""
    from mithridate import campaign, runtime
    from mithridate.cli.executing import chosen
    from mithridate.cli.terminal import console
    from mithridate.learners.precision import resolved
    from mithridate.tracking import following

    signal.signal(signal.SIGTERM, _interrupt)
    environment = {**runtime.describe(where), "auto precision": resolved("auto", where)}
    campaign.check(experiment)
    folder = out or Path("runs") / experiment.name
    runner = chosen(executor, where=where, workers=workers, address=address, per_gpu=per_gpu)
    command = command or shlex.join(["mithridate", *sys.argv[1:]])
    tracking = following(track, experiment=experiment, folder=folder, say=_say)
    opened = partial(campaign.begin, experiment, folder, command=command, environment=environment, resume=resume)
    with _asking(opened, changed) as store:
        tracking.begin(store)
        failed, stopped = _work(experiment, store, runner, where, tracking, states or campaign.UNDONE, until_width)
        plan, enough = campaign.plan(store), campaign.enough(store)
    done = f"{plan.jobs - plan.left} of {plan.jobs} jobs are done and kept"
    screen = console()
    if stopped:  # said before the report is drawn, which takes seconds
        screen.print(f"Stopped: {done}. Go on with:  {command}", markup=False, highlight=False)
    if enough and plan.left and not stopped:
        said = "the undefended success of every attack is known well enough (--until-width)"
        screen.print(f"Enough: {said}; {done}", markup=False, highlight=False)
    _show(folder, experiment.name)
    tracking.finish([folder / "report.html", folder / "summary.json"], complete=enough or not plan.left)
    if failed and not stopped:
        reasons = [each.error for each in failed if not each.lost]
        text = f"{len(failed)} job{'s' * (len(failed) != 1)} failed or were not run, {done}; the report lists them"
        screen.print(f"{text}. Try them again with:  {command}", markup=False, highlight=False)
        screen.print(f"{len(reasons)} failed; the first: {reasons[0]}", markup=False, highlight=False)
    if failed or stopped:
        raise typer.Exit(130 if stopped else 1)


def _asking(opened: Callable[..., Store], changed: str | None) -> Store:
    """The run folder; where methods have changed, a person at a terminal is asked what to do."""
    from mithridate.cli.terminal import errors_console
    from mithridate.errors import ChangedMethodsError

    try:
        return opened(changed=changed or "ask")
    except ChangedMethodsError as error:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        errors_console().print(
            f"The code of {', '.join(error.names)} has changed since this run was begun.", markup=False
        )
    answer = typer.prompt("keep the old rows beside new ones, redo them, or stop?", default="stop", err=True)
    if answer not in ("keep", "redo"):
        raise typer.Exit(1)
    return opened(changed=answer)


def _work(
    experiment: Experiment,
    store: Store,
    executor: Executor,
    where: torch.device,
    tracking: Tracking,
    states: Sequence[State],
    until_width: float | None,
) -> tuple[list[Ended], bool]:
    """Do what is left, showing it; the jobs that failed or were lost, and whether the person stopped it."""
    from mithridate import campaign
    from mithridate.cli.terminal import console, display

    plan = campaign.plan(store)
    done = plan.jobs - plan.left
    text = f"{experiment.name}: {plan.jobs} jobs on {where}, {executor}, in {store.folder}"
    console().print(text + (f"; {done} are done already" if done else ""), markup=False, highlight=False)
    failed: list[Ended] = []
    stopped = False
    try:
        with display(plan.jobs, done) as shown:

            def report(job: Job, step: Step) -> None:
                shown.step(job, step)
                tracking.step(job, step)

            run = partial(campaign.run, experiment, store, executor=executor, device=where)
            for ended in run(report=report, states=states, until_width=until_width):
                shown.ended(ended)
                tracking.ended(ended)
                failed += [ended] if ended.error else []
    except KeyboardInterrupt:
        stopped = True
    lost = sum(each.lost for each in failed)
    if lost:
        said = "1 job was not run, because one that it needs failed"
        said = said if lost == 1 else f"{lost} jobs were not run, because others that they need failed"
        console().print(said, markup=False, highlight=False)
    return failed, stopped


def _show(folder: Path, name: str) -> None:
    """Draw the report; print the table and where the page lies."""
    import json

    from mithridate import campaign
    from mithridate.cli.results import results_table, subject
    from mithridate.cli.terminal import console

    page = campaign.finish(folder)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    rows, verdict = summary["rows"], summary.get("verdict")
    screen = console()
    if rows:
        screen.print(results_table(rows, title=f"{name}: {subject(rows)}"))
    if verdict:
        screen.print(f"{verdict['sentence']}\n{verdict['words']}", markup=False, highlight=False)
    screen.print(f"Report: {page}", markup=False, highlight=False)


def _say(text: str) -> None:
    from mithridate.cli.terminal import console

    console().print(text, markup=False, highlight=False)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
