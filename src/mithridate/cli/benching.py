"""``mithridate bench``: how fast the fast ways are beside the plain ones, on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from mithridate.bench.case import Case, Growth
    from mithridate.bench.machine import Machine
    from mithridate.bench.record import Heading
    from mithridate.bench.result import Ceilings, Found
    from mithridate.bench.runner import Plan

QUICK_SECONDS = 50.0
"""How long ``--quick`` takes at most."""
ROUNDS = 5
_QUICK_BUDGET = 4.0  # seconds of rounds a case


def _complete_case() -> list[str]:
    from mithridate.bench.case import cases

    return list(cases())


def bench(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="CASE...", help="Cases, or beginnings of their names.", autocompletion=_complete_case),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write JSON; what is in it is not done twice.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="The small cases, on one thread, in under a minute.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="End with 1 where accuracy, or a ratio to the plain form, is too low.")
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the cases, measure nothing.")] = False,
    growth: Annotated[bool, typer.Option("--growth", help="Only how cost grows with sizes.")] = False,
    rounds: Annotated[int, typer.Option(min=3, help="Rounds in which all forms take their turn.")] = ROUNDS,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of torch; default: as many as it would take, or 1 with --quick.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure also what FILE knows already.")] = False,
) -> None:
    """Time every fast way beside the plain one it replaces, in turn, with its accuracy, memory and share of the limit.

    A full run also fits how cost grows with sizes. Times are this machine's; ratios travel. Keep the machine idle.
    """
    started = time.monotonic()
    asked = _asked(names or [], quick=quick, growth=growth)
    if listed:
        _list(asked)
        return
    from mithridate.cli.terminal import console

    screen = console()
    command = _command(names or [], quick=quick, growth=growth, rounds=rounds, threads=threads)
    plan, machine = _plan(started, quick=quick, check=check, rounds=rounds, threads=threads)
    found = _carried_out(screen, asked, plan, machine=machine, file=file, again=again, command=command)
    _print(screen, _ending(found))
    if check:
        _judge(screen, found)


def _plan(started: float, *, quick: bool, check: bool, rounds: int, threads: int | None) -> tuple[Plan, Machine]:
    from mithridate.bench.machine import machine
    from mithridate.bench.measure import Effort
    from mithridate.bench.runner import Plan

    where = machine(threads or (1 if quick else None))
    effort = Effort(rounds=rounds, budget=_QUICK_BUDGET, whole=False) if quick else Effort(rounds=rounds)
    until = started + QUICK_SECONDS if quick else None
    return Plan(effort=effort, threads=int(where["threads"]), check=check, until=until), where


def _carried_out(
    screen: Console,
    asked: Sequence[Case | Growth],
    plan: Plan,
    *,
    machine: Machine,
    file: Path | None,
    again: bool,
    command: str,
) -> list[Found]:
    """All cases measured, or known from the file; the file is written after each."""
    from mithridate.bench import record
    from mithridate.bench.case import cases

    started, quick = time.monotonic(), not plan.effort.whole
    if file:
        record.checked(file)
    told = record.read(file) if file else {}
    rounds = plan.effort.rounds
    before = record.kept(told, machine, cases().values(), quick=quick, rounds=rounds) if told else {}
    if told.get("measured") and not before:
        _print(screen, f"{file} is of another machine, other versions or other code: everything in it is replaced")
    heading = _heading(screen, plan, machine, command=command, known=told if before else {})
    wanted = {each.name for each in asked}
    found = {name: each for name, each in before.items() if name not in wanted}
    spent = told.get("core_seconds", 0) if before else 0
    kept = {} if again else before
    new = []
    for each in _measured(screen, asked, plan, kept=kept, ceilings=heading.ceilings, coded=file is not None):
        new.append(each)
        found[each.name] = each
        if file:
            record.write(file, found.values(), heading, seconds=spent + time.monotonic() - started)
    return new


def _asked(names: Sequence[str], *, quick: bool, growth: bool) -> list[Case | Growth]:
    """The cases that the options choose. Raises :class:`ConfigError` where there are none."""
    from mithridate.bench.case import Case, Growth, cases, chosen
    from mithridate.errors import ConfigError

    found = chosen(names, cases())
    if quick:
        found = [each for each in found if isinstance(each, Case) and each.quick]
    if growth:
        found = [each for each in found if isinstance(each, Growth)]
    if not found:
        left = " and ".join(["--quick"] * quick + ["--growth"] * growth)
        raise ConfigError(f"{left} leaves no case{' of those named' if names else ''}; see  mithridate bench --list")
    return found


def _list(asked: Sequence[Case | Growth]) -> None:
    width = max(len(each.name) for each in asked)
    for each in asked:
        typer.echo(f"{each.name:<{width}}  {'quick  ' if getattr(each, 'quick', False) else '       '}{each.about}")


def _heading(screen: Console, plan: Plan, machine: Machine, *, command: str, known: Mapping[str, Any]) -> Heading:
    """The machine and its limits, the best of those measured now and those known; printed."""
    from mithridate.bench import lines
    from mithridate.bench.apart import BrokenError, apart
    from mithridate.bench.ceilings import ceilings
    from mithridate.bench.record import Heading

    quick = not plan.effort.whole
    with _status(screen, 1) as say:
        say("limits of this machine")
        try:
            now, foreign = apart(ceilings, plan.threads, 0.8 if quick else 8.0)
        except BrokenError as error:  # cases can be compared without
            now, foreign = {}, None
            _print(screen, f"the limits of this machine could not be measured: {error}")
    best: Ceilings = {name: max(value, known.get("ceilings", {}).get(name, 0.0)) for name, value in now.items()}
    limits = ", ".join(f"{name} {lines.speed(value, name)}" for name, value in best.items())
    rough = f" (others used {foreign:.0%} of the processor)" if foreign is not None and foreign > lines.BUSY else ""
    _print(
        screen,
        f"{machine['processor']} ({machine['instructions']}), {machine['cores']} cores, threads: {machine['threads']}, "
        f"torch {machine['torch']}, GPU: {machine['gpu']}\nlimits: {limits}{rough}",
    )
    return Heading(command=command, environment=machine, ceilings=best, foreign=foreign, quick=quick)


def _measured(
    screen: Console,
    asked: Sequence[Case | Growth],
    plan: Plan,
    *,
    kept: Mapping[str, Found],
    ceilings: Ceilings,
    coded: bool,
) -> Iterator[Found]:
    """Each case as it is found, with the version of its code; shown, as lines or in a table, however it ends."""
    from mithridate.bench import lines, record
    from mithridate.bench.result import Unmeasured
    from mithridate.bench.runner import measured

    codes = {each.name: record.coded(each) for each in asked} if coded else {}  # before the code can change
    shown: list[Found] = []
    try:
        with _status(screen, len(asked)) as say:
            for each, known in measured(asked, plan, kept=kept, begin=say):
                found = each if isinstance(each, Unmeasured) else replace(each, code=codes.get(each.name, ""))
                shown.append(found)
                if not screen.is_terminal:
                    _print(screen, lines.line(found, ceilings, known=known))
                yield found
    finally:
        if screen.is_terminal and shown:
            _table(screen, shown, ceilings, kept)


def _table(screen: Console, found: Sequence[Found], ceilings: Ceilings, kept: Mapping[str, Found]) -> None:
    from rich.table import Table
    from rich.text import Text

    from mithridate.bench import lines

    table = Table(box=None, header_style="bold")
    for column in lines.COLUMNS:
        table.add_column(column, overflow="fold")
    for each in found:
        for row in lines.rows(each, ceilings, known=each.name in kept):
            table.add_row(*map(Text, row))
    screen.print(table)


@contextmanager
def _status(screen: Console, total: int) -> Iterator[Callable[[str], None]]:
    """Something to call with the name of what begins; a bar on a terminal, drawn seldom so that it disturbs nothing."""
    if not screen.is_terminal:
        yield lambda name: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=screen, transient=True, refresh_per_second=1) as bar:
        task, begun = bar.add_task("", total=total), iter(range(total))
        yield lambda name: bar.update(task, description=name, completed=next(begun))


def _ending(found: Sequence[Found]) -> str:
    from mithridate.bench.lines import BUSY
    from mithridate.bench.result import Unmeasured

    missing = [each for each in found if isinstance(each, Unmeasured)]
    failed = sum(each.failed for each in missing)
    busy = sum((each.foreign or 0) > BUSY for each in found if not isinstance(each, Unmeasured))
    told = [f"{len(found) - len(missing)} measured"]
    told += [f"{len(missing) - failed} skipped"] if len(missing) > failed else []
    told += [f"{failed} failed"] if failed else []
    told += [f"others used more than 5 % of the processor during {busy}: times are rough"] if busy else []
    return ", ".join(told)


def _judge(screen: Console, found: Sequence[Found]) -> None:
    """Say whether all is as it must be. Raises :class:`ProblemsError` where it is not."""
    from mithridate.bench.check import problems
    from mithridate.bench.result import Unmeasured
    from mithridate.bench.runner import PLAN_LATE
    from mithridate.errors import ProblemsError

    wrong = [sentence for each in found for sentence in problems(each)]
    if wrong:
        raise ProblemsError(wrong)
    late = any(isinstance(each, Unmeasured) and each.why.startswith(PLAN_LATE) for each in found)
    if all(isinstance(each, Unmeasured) for each in found) and not late:  # a slow machine is no reason to fail
        raise ProblemsError(["nothing could be measured, so nothing was checked"])
    missing = sum(isinstance(each, Unmeasured) for each in found)
    but = f" ({missing} could not be checked)" if missing else ""
    _print(screen, f"check passed{but}: every accuracy holds, and no ratio is under 70 % of what it must be")


def _command(names: Sequence[str], *, quick: bool, growth: bool, rounds: int, threads: int | None) -> str:
    words = [*names, *["--quick"] * quick, *["--growth"] * growth]
    words += ["--rounds", str(rounds)] if rounds != ROUNDS else []
    return " ".join(["mithridate bench", *words, *([] if threads is None else ["--threads", str(threads)])])


def _print(screen: Console, text: str) -> None:
    screen.print(text, markup=False, highlight=False)
