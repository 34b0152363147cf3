"""``mithridate export``: a poison set out of a run folder, and with it the whole poisoned training set."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mithridate.dataset import Dataset
    from mithridate.poisonset import PoisonSet


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder.")],
    to: Annotated[Path, typer.Option(help="Where to write the poison set; must not exist.")],
    trial: Annotated[int | None, typer.Option(help="Which trial; default: the first.")] = None,
    attack: Annotated[str | None, typer.Option(help="Which attack, where there are several.")] = None,
    scenario: Annotated[str | None, typer.Option(help="Which scenario, where there are several.")] = None,
    full: Annotated[str | None, typer.Option(help="Also the whole poisoned set: parquet or folder.")] = None,
) -> None:
    """Write a poison set: manifest with ground truth, poison rows, and on request the whole poisoned training set."""
    from mithridate import poisonset, registry
    from mithridate.errors import ConfigError, StoreError
    from mithridate.store import Store

    if full not in (None, "parquet", "folder"):
        raise ConfigError(f"--full can be parquet or folder, but it is '{full}'")
    if to.exists():
        raise StoreError(f"'{to}' exists already; choose a new folder with --to")
    with Store(folder) as store:
        row = _chosen(store.rows("craft"), {"trial": trial, "attack": attack, "scenario": scenario}, folder)
        settings = store.meta().get("experiment", {})
    kept = folder / row["folder"]
    found = poisonset.read(kept, triggers=registry.triggers())  # refuses damage before anything is written
    poisoned = _poisoned(settings, found) if full else None
    to.mkdir(parents=True)
    try:
        for file in kept.iterdir():
            shutil.copyfile(file, to / file.name)
        whole = _write_full(poisoned, to, full) if poisoned is not None and full else None
    except BaseException:
        shutil.rmtree(to, ignore_errors=True)  # whole or not at all
        raise
    typer.echo(f"Poison set of trial {row['trial']} ({row['attack']}; {row['scenario']}): {to}")
    if whole:
        typer.echo(f"Whole poisoned training set: {whole}")


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
    """The training set of a run with the poison in it."""
    from mithridate.config import parse
    from mithridate.errors import DataError
    from mithridate.source import Source

    train = parse(Source, settings["data"], where="data").load().train  # type: ignore[type-abstract]
    if train.digest() != found.manifest["base_data_sha256"]:
        raise DataError(
            "the training data have changed since this poison was crafted; restore them to export the whole set"
        )
    return found.poison.apply(train)


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
