"""``mithridate check``: list every problem of an experiment, train nothing."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def check(
    what: Annotated[str, typer.Argument(metavar="FILE|PRESET", help="A YAML file or a preset.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a setting; may be repeated.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Number of trials, instead of the file's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List every problem of an experiment and the number of its jobs. Exit code 1 where there are problems."""
    from collections import Counter

    from mithridate.cli.settings import experiment as read_experiment
    from mithridate.errors import ConfigError, ProblemsError
    from mithridate.preflight import problems

    jobs: Counter[str] = Counter()
    name = what
    try:
        experiment = read_experiment(what, changes=changes or [], trials=trials)
        name, found = experiment.name, problems(experiment)
        jobs = Counter(job.kind for job in experiment.jobs()) if not found else jobs
    except ProblemsError as error:
        found = list(error.problems)
    except ConfigError as error:
        found = [str(error)]
    if as_json:
        typer.echo(json.dumps({"name": name, "problems": found, "jobs": dict(jobs), "total": jobs.total()}, indent=2))
    elif found:
        typer.echo(f"{name}: {len(found)} problem{'s' * (len(found) != 1)}")
        for each in found:
            typer.echo(f"  {each}")
    else:
        parts = ", ".join(f"{count} {kind}" for kind, count in jobs.items())
        typer.echo(f"{name}: no problems; {jobs.total()} jobs ({parts})")
    raise typer.Exit(1 if found else 0)
