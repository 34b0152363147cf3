"""``mithridate show``: everything about one thing."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer


def _complete() -> list[str]:
    from mithridate import config, registry
    from mithridate.learners.recipes import CLASSICAL, RECIPES

    kinds = [name for noun in registry.PLURALS.values() for name in registry.places(noun)]
    return [*kinds, *RECIPES, *CLASSICAL, *config.presets()]


def show(
    name: Annotated[str, typer.Argument(help="An attack, defense, model, ... or preset.", autocompletion=_complete)],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what something is: its description, its settings with units and the paper's values, and its source."""
    from mithridate import config
    from mithridate.learners.recipes import CLASSICAL, RECIPES

    if name in config.presets():
        typer.echo(json.dumps(config.presets()[name], indent=2) if as_json else config.load_preset(name).rstrip())
        return
    if name in RECIPES or name in CLASSICAL:
        _show_recipe(name, as_json=as_json)
        return
    _show_kind(name, as_json=as_json)


def _show_recipe(name: str, *, as_json: bool) -> None:
    from mithridate.learners.recipes import CLASSICAL, RECIPES
    from mithridate.settings import plain

    learner = "gradient-descent" if name in CLASSICAL else "sgd"
    settings = plain(dict(CLASSICAL[name] if name in CLASSICAL else RECIPES[name]))
    if as_json:
        typer.echo(json.dumps({"name": name, "kind": "recipe", "settings": settings}, indent=2))
        return
    typer.echo(f"{name}: a recipe for the learner '{learner}'. Write  recipe: {name}  in place of these settings:\n")
    for key, value in settings.items():
        typer.echo(f"  {key}: {json.dumps(value)}")


def _show_kind(name: str, *, as_json: bool) -> None:
    import inspect

    from mithridate import registry
    from mithridate.errors import ConfigError, nearest

    try:
        plural, cls = registry.find(name)
    except ConfigError:
        raise ConfigError(f"nothing is called '{name}': {nearest(name, _complete())}") from None
    settings, source = registry.settings(cls), registry.source(cls)
    about = inspect.getdoc(cls) or ""
    presets = {each: dict(changed) for each, changed in getattr(cls, "presets", {}).items()}
    if as_json:
        facts = {
            "name": name,
            "kind": plural,
            "about": about,
            "settings": settings,
            "presets": presets,
            "source": source,
        }
        typer.echo(json.dumps(facts, indent=2))
        return
    typer.echo(f"{name} ({plural})\n\n{about}\n\nSettings")
    for each in settings:
        typer.echo(f"  {each['name']}: {each['type']} = {_shown(each['default'])}\n      {each['about']}")
    if not settings:
        typer.echo("  none")
    if presets:
        typer.echo(f"\nPresets, written  {{name: {name}, preset: ...}}")
    for each, changed in presets.items():
        typer.echo(f"  {each}: " + (", ".join(f"{k}={_shown(v)}" for k, v in changed.items()) or "the settings above"))
    typer.echo(f"\nSource\n{_indented(source)}")


def _shown(value: Any) -> str:
    return value if value == "required" else json.dumps(value)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
