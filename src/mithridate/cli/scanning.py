"""``mithridate scan``: look through somebody's own images for poison."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from mithridate.scan.scanning import Findings
    from mithridate.watch import Step, Watch

_EVERY = 10.0  # seconds between plain lines


def scan(
    place: Annotated[
        Path, typer.Argument(metavar="FOLDER|FILE", help="A folder of class folders, Parquet, .npz or .npy.")
    ],
    model: Annotated[
        str | None, typer.Option(help="A network to train (see  list models), or weights in a .safetensors file.")
    ] = None,
    defenses: Annotated[
        str | None,
        typer.Option(metavar="A,B", help="Methods to ask; default: all. The loss is always asked."),
    ] = None,
    rate: Annotated[
        float, typer.Option("--false-alarm-rate", help="Share of harmless rows that each method may flag.")
    ] = 0.01,
    out: Annotated[Path | None, typer.Option(help="Where to write; default: scan-NAME.")] = None,
    size: Annotated[int | None, typer.Option(help="Resize images to so many pixels a side.")] = None,
    seed: Annotated[int, typer.Option(help="Decides all that is random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Rank the rows of a data set by how suspect they are, and measure on planted poison how well that works on it.

    The data are never changed. The ranking means something where the same methods found poison planted in a copy.
    """
    from mithridate import runtime
    from mithridate.scan import methods, network, output, reading, scanning
    from mithridate.seeding import Seed

    where = runtime.device(device)
    asked = methods.chosen([name.strip() for name in defenses.split(",") if name.strip()] if defenses else ())
    scanning.check_rate(rate, sys.maxsize)
    material = reading.read(place, size=size)
    target = output.folder(place, out)
    scanning.check_rate(rate, len(material.data))
    probe = network.probe(material.data, model)
    with _watched(quiet=as_json) as watch:
        found = scanning.scan(
            material, probe=probe, methods=asked, rate=rate, seed=Seed(seed), device=where, watch=watch
        )
    about = {
        "command": shlex.join(["mithridate", *sys.argv[1:]]),
        "seed": seed,
        "model": model or "default",
        "environment": runtime.describe(where),
    }
    told = output.write(target, found, about=about)
    page = _page(target / output.REPORT, told, found)
    if as_json:
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        _show(told, page)


def _page(path: Path, told: dict[str, Any], found: Findings) -> Path:
    from mithridate.report import scanpage

    first = [row["row"] for row in told["first"]]
    images = found.material.data.take(found.material.data.ids[first])[0].cpu().numpy()
    return scanpage.write(path, told, list(images))


def _show(told: dict[str, Any], page: Path) -> None:
    """The verdict, what the methods can do, and where the rest lies."""
    from mithridate.cli.terminal import console

    screen = console()
    for text in (*(f"Note: {each}." for each in told["notes"]), told["verdict"]):
        screen.print(text, markup=False, highlight=False)
    screen.print(_table(told))
    for row in told["first"][:5]:
        name = row["file"] or f"row {row['row']}"
        text = f"  {name}: labelled {row['label']}, the probe says {row['predicted']} ({row['confidence']:.0%})"
        screen.print(text, markup=False, highlight=False)
    screen.print(f"All rows, most suspect first: {page.with_name('ids.csv')}", markup=False, highlight=False)
    screen.print(f"Report: {page}", markup=False, highlight=False)


def _table(told: dict[str, Any]) -> Table:
    from rich.table import Table

    about = "A dash: planted rows were not found clearly more often than others, so the method cannot tell."
    table = Table(title="Planted rows that each method would have found", title_justify="left", caption=about)
    table.add_column("method", no_wrap=True)
    for heading in (*told["kinds"], "false alarms"):
        table.add_column(heading, justify="right", overflow="fold")
    by_method: dict[str, list[dict[str, Any]]] = {}
    for each in told["calibration"]:
        by_method.setdefault(each["method"], []).append(each)
    for method, cells in by_method.items():
        table.add_row(method, *map(_cell, cells), f"{cells[0]['false_alarms']['share']:.1%}")
    return table


def _cell(each: dict[str, Any]) -> str:
    recall = each["recall"]
    text = f"{recall['hits']:.0f} of {recall['of']}"
    return text if each["able"] else f"– ({text})"


@contextmanager
def _watched(*, quiet: bool) -> Iterator[Watch]:
    """A bar on a terminal, a line now and then elsewhere, nothing where JSON is to be printed."""
    from mithridate.cli.terminal import console
    from mithridate.watch import silent

    screen = console()
    if quiet:
        yield silent
    elif screen.is_terminal:
        with _bars(screen) as watch:
            yield watch
    else:
        yield _lines(screen)


@contextmanager
def _bars(screen: Console) -> Iterator[Watch]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(bar_width=24), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=screen, transient=True) as progress:
        task = progress.add_task("", total=None)

        def watch(step: Step) -> None:
            progress.update(task, description=step.stage, completed=step.done, total=step.total)

        yield watch


def _lines(screen: Console) -> Watch:
    last = time.monotonic()

    def watch(step: Step) -> None:
        nonlocal last
        if time.monotonic() - last >= _EVERY:
            last = time.monotonic()
            screen.print(f"  {step.stage} {step.done}/{step.total}", markup=False, highlight=False)

    return watch
