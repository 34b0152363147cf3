"""``mithridate export``: a poison set out of a run folder, or its table of results."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mithridate.dataset import Dataset
    from mithridate.experiment import Experiment
    from mithridate.poisonset import PoisonSet


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    to: Annotated[
        Path | None, typer.Option(help="Where to write; must not exist. CSV, LaTeX and Markdown can do without.")
    ] = None,
    trial: Annotated[int | None, typer.Option(help="Which trial; default: the first.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every trial, each in a subfolder of its number.")] = False,
    attack: Annotated[str | None, typer.Option(help="Which attack, where there are several.")] = None,
    scenario: Annotated[str | None, typer.Option(help="Which scenario, where there are several.")] = None,
    full: Annotated[str | None, typer.Option(help="Also the whole poisoned set: parquet or folder.")] = None,
    form: Annotated[
        str | None,
        typer.Option("--format", "--as", help="poisonset, or benchmark: the poisoning benchmark's three pickles."),
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="No poison, but the table of results: parquet, csv, latex or markdown.")
    ] = None,
    rows: Annotated[bool, typer.Option("--rows", help="With --table parquet or csv: every single row.")] = False,
) -> None:
    """Write a poison set (manifest with ground truth, poison rows, the whole poisoned training set) or the results."""
    from mithridate.cli.tabulating import export_table
    from mithridate.errors import ConfigError

    poison = {"--trial": trial, "--all": every or None, "--attack": attack, "--scenario": scenario}
    given = [name for name, value in {**poison, "--full": full, "--format": form}.items() if value is not None]
    if table is not None:
        if given:
            raise ConfigError(f"{given[0]} chooses a poison set, and --table writes results; leave one of them out")
        export_table(folder, to, table, every_row=rows)
        return
    if rows:
        raise ConfigError("--rows says which results to write; add --table csv or --table parquet")
    if to is None:
        raise ConfigError("say where to write the poison set with --to DIR; for results say --table csv, for example")
    _export_poison(folder, to, trial, every, attack, scenario, full, form or "poisonset")


def _export_poison(
    folder: Path,
    to: Path,
    trial: int | None,
    every: bool,
    attack: str | None,
    scenario: str | None,
    full: str | None,
    form: str,
) -> None:
    """Write a poison set, or one for each trial."""
    from mithridate.errors import ConfigError, StoreError
    from mithridate.store import Store

    if full not in (None, "parquet", "folder"):
        raise ConfigError(f"--full can be parquet or folder, but it is '{full}'")
    if form not in ("poisonset", "benchmark"):
        raise ConfigError(f"--format can be poisonset or benchmark, but it is '{form}'")
    if every and trial is not None:
        raise ConfigError("--all writes every trial, so --trial can have no say; leave one of them out")
    if to.exists():
        raise StoreError(f"'{to}' exists already; choose a new folder with --to")
    with Store(folder) as store:
        rows = store.rows("craft")
        settings = store.meta().get("experiment", {})
    row = _chosen(rows, {"trial": trial, "attack": attack, "scenario": scenario}, folder)
    chosen = _alike(rows, row) if every else [row]
    try:
        wholes = [
            _written(folder / each["folder"], to / str(each["trial"]) if every else to, form, full, settings)
            for each in chosen
        ]
    except BaseException:
        shutil.rmtree(to, ignore_errors=True)  # whole or not at all
        raise
    many = f"Poison sets of {len(chosen)} trials" if every else f"Poison set of trial {row['trial']}"
    typer.echo(f"{many} ({row['attack']}; {row['scenario']}): {to}")
    for whole in filter(None, wholes):
        typer.echo(f"Whole poisoned training set: {whole}")


def _written(kept: Path, to: Path, form: str, full: str | None, settings: dict[str, Any]) -> Path | None:
    """Write one poison set, and the whole poisoned set if asked for; where that lies."""
    from mithridate import poisonset, registry
    from mithridate.peerfiles import write_benchmark

    found = poisonset.read(kept, triggers=registry.triggers())  # refuses damage before anything is written
    poisoned = _poisoned(settings, found) if full else None
    if form == "benchmark":
        write_benchmark(to, found)
    else:
        to.mkdir(parents=True)
        for file in kept.iterdir():
            shutil.copyfile(file, to / file.name)
    return _write_full(poisoned, to, full) if poisoned is not None and full else None


def _alike(rows: list[dict[str, Any]], row: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of all trials with the attack, the scenario and the known defense of ``row``."""
    names = ("attack", "scenario", "defense")
    found = [each for each in rows if all(each.get(name) == row.get(name) for name in names)]
    return sorted(found, key=lambda each: int(each["trial"]))


def _chosen(rows: list[dict[str, Any]], wanted: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The first craft row that fits what was asked for."""
    from mithridate.errors import ConfigError

    if not rows:
        raise ConfigError(f"'{folder}' holds no poison yet; run it first")
    for name, value in wanted.items():
        there = list(dict.fromkeys(row[name] for row in rows))
        if value is not None and value not in there:
            raise ConfigError(f"there is no {name} '{value}' in this run; there are: {', '.join(map(str, there))}")
    fitting = [row for row in rows if all(value is None or row[name] == value for name, value in wanted.items())]
    if not fitting:
        raise ConfigError("no poison in this run fits all of --trial, --attack and --scenario together")
    return fitting[0]


def _poisoned(settings: dict[str, Any], found: PoisonSet) -> Dataset:
    """The training set that victims of a run saw, with the poison in it."""
    from mithridate.config import parse
    from mithridate.errors import DataError
    from mithridate.experiment import Experiment, Job
    from mithridate.work import data_of

    experiment = parse(Experiment, settings)
    job = Job(kind="craft", trial=int(found.manifest["details"]["trial"]), scenario=_scenario(experiment, found))
    train = data_of(experiment, job).train
    if train.digest() != found.manifest["base_data_sha256"]:
        raise DataError(
            "the training data have changed since this poison was crafted; restore them to export the whole set"
        )
    return found.poison.apply(train)


def _scenario(experiment: Experiment, found: PoisonSet) -> int:
    """Which scenario a poison set belongs to; the base where none is quite its own (fixed trials have base rows)."""
    from mithridate.settings import plain

    own = found.manifest["details"]["threat"]
    return next((k for k, threat in enumerate(experiment.scenarios()) if plain(threat) == own), 0)


def _write_full(poisoned: Dataset, to: Path, full: str) -> Path:
    """A training set as Parquet or as a folder of images."""
    from mithridate.datasets import export as writers

    if full == "parquet":
        path = to / "train.parquet"
        writers.write_parquet(poisoned, path)
    else:
        path = to / "train"
        writers.write_folder(poisoned, path)
    return path
