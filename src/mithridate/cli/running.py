"""``mithridate run``: run an experiment, or go on with it."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer


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
    trials: Annotated[int | None, typer.Option(help="Number of trials, instead of the file's.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    out: Annotated[Path | None, typer.Option(help="Run folder; default: runs/NAME.")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes; default: one a core on a CPU.")] = None,
) -> None:
    """Run an experiment. Run it again to go on where it stopped: what is in the run folder is not done twice."""
    from mithridate import campaign, runtime
    from mithridate.cli.settings import experiment as read_experiment
    from mithridate.cli.terminal import console, display
    from mithridate.executor import Executor
    from mithridate.executors.local import Local
    from mithridate.executors.processes import Processes

    where = runtime.device(device)
    experiment = read_experiment(what, changes=changes or [], trials=trials)
    campaign.check(experiment)
    folder = out or Path("runs") / experiment.name
    screen = console()
    count = workers if workers is not None else (runtime.cores() if where.type == "cpu" else 1)
    executor: Executor = Processes(count) if where.type == "cpu" and count > 1 else Local()
    command = shlex.join(["mithridate", *sys.argv[1:]])
    signal.signal(signal.SIGTERM, _interrupt)
    store = campaign.begin(experiment, folder, command=command, environment=runtime.describe(where))
    with store:
        plan = campaign.plan(experiment, store)
        done = len(plan.jobs) - len(plan.left)
        screen.print(
            f"{experiment.name}: {len(plan.jobs)} jobs on {where} with {count} worker{'s' * (count != 1)}, "
            f"in {folder}" + (f"; {done} are done already" if done else ""),
            highlight=False,
        )
        failed, interrupted = 0, False
        try:
            with display(len(plan.jobs), done) as shown:
                for ended in campaign.run(experiment, store, executor=executor, device=where, report=shown.step):
                    shown.ended(ended)
                    failed += bool(ended.error)
        except KeyboardInterrupt:
            interrupted = True
        left = len(campaign.plan(experiment, store).left)
    _show(folder, experiment.name)
    if interrupted:
        screen.print(
            f"Stopped: {len(plan.jobs) - left} of {len(plan.jobs)} jobs are done and kept. Go on with:  {command}",
            markup=False,
            highlight=False,
        )
        raise typer.Exit(130)
    if failed:
        screen.print(f"{failed} jobs failed; the report lists them. Try them again with:  {command}", markup=False)
        raise typer.Exit(1)


def _show(folder: Path, name: str) -> None:
    """Draw the report; print the table and where the page lies."""
    import json

    from mithridate import campaign
    from mithridate.cli.terminal import console, results_table

    page = campaign.finish(folder)
    rows = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["rows"]
    screen = console()
    if rows:
        screen.print(results_table(rows, title=f"{name}: success of the poisoner, and its controls"))
    screen.print(f"Report: {page}", markup=False, highlight=False)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
