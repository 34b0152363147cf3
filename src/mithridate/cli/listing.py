"""``mithridate list``: what there is."""

from __future__ import annotations

import json
from typing import Annotated

import typer

_KINDS = ("attacks", "defenses", "models", "datasets", "learners", "goals", "perturbations", "triggers", "presets")


def list_names(
    what: Annotated[str, typer.Argument(help=f"One of: {', '.join(_KINDS)}.", autocompletion=lambda: list(_KINDS))],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the attacks, defenses, models, data sets or presets there are, with a line on each."""
    found = _presets() if what == "presets" else _kinds(what)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    width = max((len(each["name"]) for each in found), default=0)
    for each in found:
        typer.echo(f"{each['name']:<{width}}  {each['about']}")
    if not found:
        typer.echo(f"there are no {what} in this release")


def _kinds(what: str) -> list[dict[str, str]]:
    from mithridate import registry
    from mithridate.errors import ConfigError, nearest
    from mithridate.learners.estimator import SHORT
    from mithridate.learners.recipes import CLASSICAL, RECIPES

    if what not in registry.PLURALS:
        raise ConfigError(f"there is no list of '{what}': {nearest(what, _KINDS)}")
    noun = registry.PLURALS[what]
    found = [{"name": name, "about": registry.summary(registry.kind(noun, name))} for name in registry.places(noun)]
    if what == "learners":
        found += [{"name": name, "about": "A recipe for sgd; see  mithridate show " + name} for name in RECIPES]
        found += [{"name": name, "about": _about(name)} for name in dict.fromkeys([*CLASSICAL, *SHORT])]
    return found


def _about(name: str) -> str:
    """A line on a recipe for gradient-descent, a short name of sklearn, or what is both."""
    from mithridate.learners.estimator import SHORT
    from mithridate.learners.recipes import CLASSICAL

    recipe = ["a recipe for gradient-descent"] if name in CLASSICAL else []
    short = [f"a short name of sklearn for {SHORT[name][0]}"] if name in SHORT else []
    told = ", and ".join(recipe + short)
    return f"{told[0].upper()}{told[1:]}; see  mithridate show {name}"


def _presets() -> list[dict[str, str]]:
    from mithridate import config

    return [{"name": name, "about": str(each.get("about", ""))} for name, each in config.presets().items()]
