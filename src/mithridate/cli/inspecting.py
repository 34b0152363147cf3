"""``mithridate inspect``: read a poison set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def inspect(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A poison set.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a poison set holds, after checking that it is whole."""
    from mithridate import inspection, poisonset, registry

    facts = inspection.summary(poisonset.read(folder, triggers=registry.triggers()))
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    width = max(len(str(name)) for name in facts)
    for name, value in facts.items():
        text = ", ".join(f"{key} {each}" for key, each in value.items()) if isinstance(value, dict) else value
        typer.echo(f"{str(name).replace('_', ' '):<{width}}  {text}")
