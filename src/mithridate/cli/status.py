"""``mithridate status``: where a campaign stands, at once or live."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from mithridate.overview import Overview

_EVERY = 2.0
"""Seconds between two looks."""
_MOST = 16
"""Jobs under way, and lines of first numbers, that are shown."""
_ROWS = 50_000
"""Rows of results from which on the first numbers are left to the report: counting them would take seconds."""


def status(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Look again every two seconds until all is done.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Show where a campaign stands: jobs done, under way, waiting and failed, time left, and the first numbers."""
    from mithridate.errors import ConfigError

    if watch and as_json:
        raise ConfigError("--json is one look, so --watch can have no say; leave one of them out")
    if watch:
        _watch(folder)
    elif as_json:
        _print_json(folder)
    else:
        from mithridate.cli.terminal import console

        console().print(_shown(folder)[1])


def _watch(folder: Path) -> None:
    """Show it anew every two seconds until nobody works on it any more; Ctrl-C ends it before, and stops no run."""
    from rich.live import Live

    from mithridate.cli.terminal import console

    found, shown = _shown(folder)
    screen = console()
    live = Live(shown, console=screen, auto_refresh=False, transient=True)
    with suppress(KeyboardInterrupt), live:  # a person who has seen enough
        while found.standing == "running":
            time.sleep(_EVERY)
            found, shown = _shown(folder)
            live.update(shown, refresh=True)
    screen.print(shown)


def _print_json(folder: Path) -> None:
    import json
    from dataclasses import asdict

    from mithridate.overview import overview

    found = overview(folder)
    states = ("waiting", "running", "done", "failed", "lost")
    totals = {state: found.total(state) for state in states} | {"all": found.total()}
    numbers = [asdict(each) for each in _numbers(folder, found)]
    typer.echo(json.dumps(asdict(found) | {"jobs": totals, "numbers": numbers}, indent=2, ensure_ascii=False))


def _numbers(folder: Path, found: Overview) -> list[Any]:
    """Success by attack and defense so far; none in very large runs, whose report is drawn for it."""
    if found.rows > _ROWS:
        return []
    from mithridate.firstnumbers import first_numbers

    return first_numbers(folder)


def _shown(folder: Path) -> tuple[Overview, Group]:
    """Where the campaign stands, and that as the terminal shows it."""
    from rich.console import Group
    from rich.text import Text

    from mithridate.overview import overview

    found = overview(folder)
    parts: list[Any] = [Text(_headline(found), style="bold"), _jobs(found)]
    if found.running:
        parts.append(_under_way(found))
    parts += [Text(line) for line in _failures(found)]
    parts += _first(folder, found)
    if found.command:
        what = "Go on with" if found.standing == "stopped" else "Try failed jobs again with"
        parts.append(Text(f"{what}:  {found.command}"))
    return found, Group(*parts)


def _headline(found: Overview) -> str:
    """As in: campaign: running, 40 of 100 jobs done, about 3 min left."""
    done = f"{found.total('done')} of {found.total()} jobs done"
    if found.standing == "done":
        return f"{found.name}: done, all {found.total()} jobs"
    if found.standing == "enough":
        return f"{found.name}: the undefended success is known well enough (--until-width), {done}"
    if found.standing == "failed":
        return f"{found.name}: ended with {found.total('failed', 'lost')} jobs failed or not run, {done}"
    if found.standing == "stopped":
        left = f"; about {_time(found.work_left)} of work left" if found.work_left is not None else ""
        return f"{found.name}: stopped, {done}{left}"
    left = f"about {_time(found.time_left)} left" if found.time_left is not None else "time left not known yet"
    return f"{found.name}: running ({found.driver}), {done}, {left}"


def _jobs(found: Overview) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    states = ("done", "running", "waiting", "failed", "lost")
    shown = [state for state in states if state != "lost" or found.total("lost")]
    table.add_column("jobs")
    for state in (*shown, "all"):
        table.add_column("not run" if state == "lost" else state, justify="right")
    order = ("pretraining", "surrogate", "clean", "craft", "attack", "noise")
    for kind in sorted(found.counts, key=lambda kind: order.index(kind) if kind in order else len(order)):
        by = found.counts[kind]
        table.add_row(kind, *(str(by.get(state, 0) or "-") for state in shown), str(sum(by.values())))
    if len(found.counts) != 1:
        table.add_row("all", *(str(found.total(state) or "-") for state in shown), str(found.total()), style="bold")
    return table


def _under_way(found: Overview) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("under way", "stage", "steps", "for", "where", "last sign"):
        table.add_column(name, justify="right" if name in ("steps", "for", "last sign") else "left", overflow="fold")
    for each in found.running[:_MOST]:
        steps = f"{each.done}/{each.total}" if each.total else "-"
        cells = (each.what, each.stage or "-", steps, _time(each.seconds), each.where, f"{_time(each.beat)} ago")
        table.add_row(*map(Text, cells))
    if len(found.running) > _MOST:
        table.add_row(Text(f"and {len(found.running) - _MOST} more"))
    return table


def _failures(found: Overview) -> list[str]:
    lines = [f"  {each.jobs} x {each.kind}: {each.sentence}" for each in found.failures]
    if found.further_failures:
        lines.append(f"  and {found.further_failures} more failed jobs, with other sentences")
    return ["Failed:", *lines] if lines else []


def _first(folder: Path, found: Overview) -> list[Any]:
    """The first numbers as a table."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    if found.rows > _ROWS:
        return [Text(f"Numbers so far: see  mithridate report {folder}")]
    numbers = _numbers(folder, found)
    if not numbers:
        return []
    first = [each for each in numbers if each.place == numbers[0].place][:_MOST]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    names = ("attack", "defense", "success so far (95 %)", "trials")
    for name in names:
        table.add_column(name, justify="right" if name in names[2:] else "left", overflow="fold")
    for each in first:
        table.add_row(*map(Text, [each.attack, each.defense, each.words, str(each.trials)]))
    said = "; intervals that hold however often one looks" if first[0].interval else ""
    shown: list[Any] = [Text(f"Numbers so far: {numbers[0].place}{said}"), table]
    left = len(numbers) - len(first)
    if left:
        shown.append(Text(f"  {left} further combination{'s' * (left != 1)}: see  mithridate report {folder}"))
    return shown


def _time(seconds: float | None) -> str:
    """A time in one or two units: 3 min, 2 h 5 min."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{max(0.0, seconds):.0f} s"
    minutes, hours = seconds / 60, seconds / 3600
    if minutes < 60:
        return f"{minutes:.0f} min"
    if hours < 24:
        return f"{int(hours)} h {int(minutes % 60)} min"
    return f"{int(hours // 24)} d {int(hours % 24)} h"
