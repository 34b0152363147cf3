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

    if name in config.presets():
        typer.echo(json.dumps(config.presets()[name], indent=2) if as_json else config.load_preset(name).rstrip())
        return
    recipe, short = _recipe(name), _short(name)
    found = recipe or short
    if not found:
        _show_kind(name, as_json=as_json)
    elif as_json:
        typer.echo(json.dumps({**found, "estimator": short["estimator"]} if short else found, indent=2))
    else:
        typer.echo("\n\n".join(_in_words(each) for each in (recipe, short) if each))


def _recipe(name: str) -> dict[str, Any]:
    """The facts about a recipe; empty where none is called so."""
    from mithridate.learners.recipes import CLASSICAL, RECIPES
    from mithridate.settings import plain

    if name not in RECIPES and name not in CLASSICAL:
        return {}
    learner = "gradient-descent" if name in CLASSICAL else "sgd"
    settings = plain(dict(CLASSICAL[name] if name in CLASSICAL else RECIPES[name]))
    return {"name": name, "kind": "recipe", "learner": learner, "settings": settings}


def _short(name: str) -> dict[str, Any]:
    """The facts about a short name of a scikit-learn classifier; empty where none is called so."""
    from mithridate.learners.estimator import SHORT

    if name not in SHORT:
        return {}
    place, parameters = SHORT[name]
    settings = {"name": "sklearn", "estimator": name}
    estimator = {"class": place, "parameters": dict(parameters)}
    return {"name": name, "kind": "estimator", "learner": "sklearn", "settings": settings, "estimator": estimator}


def _in_words(facts: dict[str, Any]) -> str:
    """What a recipe or a short name stands for, and how it is written."""
    name, learner = facts["name"], facts["learner"]
    if facts["kind"] == "recipe":
        head = f"{name}: a recipe for the learner '{learner}'. Write  recipe: {name}  in place of these settings:"
        told = facts["settings"]
    else:
        head = (
            f"{name}: a short name of the learner '{learner}' for {facts['estimator']['class']}. Write  "
            f"{{name: {learner}, estimator: {name}}}  for a victim or surrogate; parameters: {{...}} go over these:"
        )
        told = facts["estimator"]["parameters"]
    lines = [f"  {key}: {json.dumps(value)}" for key, value in told.items()] or ["  the defaults of scikit-learn"]
    return "\n".join([head, "", *lines])


def _show_kind(name: str, *, as_json: bool) -> None:
    import inspect

    from mithridate import registry
    from mithridate.errors import ConfigError, nearest

    try:
        plural, cls = registry.find(name)
    except ConfigError:
        from mithridate.learners.estimator import SHORT

        raise ConfigError(f"nothing is called '{name}': {nearest(name, [*_complete(), *SHORT])}") from None
    settings, source = registry.settings(cls), registry.source(cls)
    about = inspect.getdoc(cls) or ""
    presets = {each: dict(changed) for each, changed in getattr(cls, "presets", {}).items()}
    assumed = _assumed(cls)
    if as_json:
        facts = {
            "name": name,
            "kind": plural,
            "about": about,
            "settings": settings,
            "presets": presets,
            **({"assumes": assumed} if assumed is not None else {}),
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
    if assumed is not None:
        typer.echo("\nKnows and assumes, as it is set by default")
        typer.echo("\n".join(_fact(each) for each in assumed) or "  nothing beyond what the threat model says")
    typer.echo(f"\nSource\n{_indented(source)}")


def _assumed(cls: type) -> list[dict[str, Any]] | None:
    """What an attack or a defense knows and takes for granted; None for anything else."""
    from mithridate import registry
    from mithridate.attack import Attack
    from mithridate.defense import Defense
    from mithridate.settings import plain

    if not issubclass(cls, (Attack, Defense)):
        return None
    free = all(each["default"] != "required" for each in registry.settings(cls))
    return [plain(fact) for fact in (cls().facts() if free else cls.assumes)]


def _fact(fact: dict[str, Any]) -> str:
    stamp, where = " (oracle)" if fact["oracle"] else "", f" [{fact['where']}]" if fact["where"] else ""
    return f"  {fact['what']}: {fact['value']}{stamp}{where}"


def _shown(value: Any) -> str:
    return value if value == "required" else json.dumps(value)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
