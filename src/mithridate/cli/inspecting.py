"""``mithridate inspect``: read a poison set, ours or the poisoning benchmark's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mithridate.poisonset import PoisonSet

SHOWN = 20
"""Items of a list that are printed; ``--json`` prints all."""


def inspect(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A poison set, or the benchmark's three pickles.")],
    data: Annotated[str, typer.Option(help="For pickles: the name of the data set that they poison.")] = "cifar10",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a poison set holds, after checking that it is whole. Pickles are read without running them."""
    from mithridate import inspection

    facts = inspection.summary(_read(folder, data))
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    width = max(len(str(name)) for name in facts)
    if facts.get("changed_columns") == {}:
        facts |= {
            "changed_columns": "none (labels only)" if facts.get("relabelled") else "none",
            "largest_change": "none",
        }
    for name, value in facts.items():
        typer.echo(f"{str(name).replace('_', ' '):<{width}}  {_in_words(value)}")


def _in_words(value: object) -> str:
    """A value on one line: of many items only the first."""
    if isinstance(value, dict):
        value = [f"{key} {each}" for key, each in value.items()]
    if not isinstance(value, list):
        return str(value)
    rest = f" and {len(value) - SHOWN} more" if len(value) > SHOWN else ""
    return ", ".join(map(str, value[:SHOWN])) + rest


def _read(folder: Path, data: str) -> PoisonSet:
    """The poison set in a folder, whichever of the two formats it is in."""
    from mithridate import config, peers, poisonset, registry
    from mithridate.source import Source

    if not (folder / "poisons.pickle").is_file():
        return poisonset.read(folder, triggers=registry.triggers())
    source = config.parse(Source, data, where="--data")  # type: ignore[type-abstract]
    return peers.read_benchmark(folder, train=source.load().train)
