"""``mithridate check``: list every problem of an experiment, train nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mithridate.axes import Axis
    from mithridate.job import JobKind

SHOWN = 12
"""Names on an axis that are printed; all are with ``--json``."""


def check(
    what: Annotated[str, typer.Argument(metavar="FILE|PRESET", help="A YAML file or a preset.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="A.B=C", help="Change a setting; may be repeated.")
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Number of trials, instead of the file's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List every problem of an experiment; the axes of its grid and its jobs. Exit code 1 where there are problems."""
    from mithridate.axes import axes, sharing
    from mithridate.cli.settings import experiment as read_experiment
    from mithridate.errors import ConfigError, ProblemsError
    from mithridate.listing import sizes
    from mithridate.preflight import problems

    jobs: Mapping[JobKind, int] = {}
    name = what
    try:
        experiment = read_experiment(what, changes=changes or [], trials=trials)
        name, found = experiment.name, problems(experiment)
        jobs = sizes(experiment) if not found else jobs
    except ProblemsError as error:
        found = list(error.problems)
    except ConfigError as error:
        found = [str(error)]
    total = sum(jobs.values())
    if as_json:
        grid = {} if found else {"axes": {each.name: _told(each) for each in axes(experiment)}}
        typer.echo(json.dumps({"name": name, "problems": found, **grid, "jobs": jobs, "total": total}, indent=2))
    elif found:
        typer.echo(f"{name}: {len(found)} problem{'s' * (len(found) != 1)}")
        for each in found:
            typer.echo(f"  {each}")
    else:
        parts = ", ".join(f"{count} {kind}" for kind, count in jobs.items())
        typer.echo(f"{name}: no problems; {total} jobs ({parts})\n")
        lines = [(each.name, each.size, _along(each)) for each in axes(experiment)]
        lines += [(f"{kind} jobs", jobs[kind], about) for kind, about in sharing(experiment).items()]
        wide = max(len(str(size)) for _, size, _ in lines)
        for what, size, about in lines:
            typer.echo(f"  {what:16} {size:{wide}}  {about}".rstrip())
    raise typer.Exit(1 if found else 0)


def _told(axis: Axis) -> dict[str, Any]:
    return {"size": axis.size, "values": list(axis.values), "about": axis.about}


def _along(axis: Axis) -> str:
    """What lies along an axis in one line, the first few where there are many."""
    listed = "; ".join(axis.values[:SHOWN]) + ("; ..." if len(axis.values) > SHOWN else "")
    return ": ".join(each for each in (axis.about, listed) if each)
