"""YAML to experiment: every name looked up, every value checked, every problem listed with its place."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from mithridate.errors import ConfigError, MithridateError, ProblemsError, nearest
from mithridate.learner import Learner
from mithridate.learners.recipes import CLASSICAL, RECIPES, recipe
from mithridate.registry import KINDS, kind, places
from mithridate.settings import plain
from mithridate.yamltext import loaded

T = TypeVar("T")
_FRACTION = re.compile(r"([+-]?[\d.]+(?:[eE][+-]?\d+)?) ?(?:/ ?([\d.]+(?:[eE][+-]?\d+)?)|(%))?")
_MOST_BITS = 63  # of a whole number: what a tensor holds


def read_yaml(text: str, *, where: str) -> dict[str, Any]:
    """The mapping in a YAML text. Raises :class:`ConfigError` naming the line where it is no YAML, or no mapping."""
    found = loaded(text, where=where)
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ConfigError(f"{where}: an experiment is a mapping of settings, but this is {_what(found)}")
    return dict(found)


def write_yaml(settings: Any) -> str:
    """Settings as YAML text that :func:`parse` reads back into an equal object."""
    return yaml.safe_dump(plain(settings), sort_keys=False, allow_unicode=True, width=100)


def override(settings: Mapping[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Settings with ``a.b=c`` assignments applied; list items by number (``attacks.0.steps=50``).

    Raises :class:`ConfigError` for an assignment without ``=`` or a path that leads nowhere.
    """
    changed: dict[str, Any] = _copied(settings)
    for assignment in assignments:
        path, sign, text = assignment.partition("=")
        if not sign or not path.strip():
            raise ConfigError(f"--set {assignment}: write it as  place=value,  for example  threat.budget=0.02")
        value = loaded(text, where=f"--set {assignment}")
        _assign(changed, path.strip().split("."), value, assignment)
    return changed


def parse(cls: type[T], value: Any, *, where: str = "") -> T:
    """An object of ``cls`` from plain values. Raises :class:`ProblemsError` with every problem found, each placed."""
    problems: list[str] = []
    found = _parsed(cls, value, where, problems)
    if problems:
        raise ProblemsError(problems)
    assert isinstance(found, cls)
    return found


def setting(cls: type, name: str, value: Any) -> Any:
    """One setting of ``cls`` from a plain value. Raises :class:`ProblemsError`, each placed."""
    problems: list[str] = []
    found = _parsed(get_type_hints(cls)[name], value, name, problems)
    if problems:
        raise ProblemsError(problems)
    return found


class _Broken:
    """What stands in for a value that could not be read; its problem is already listed."""


_BROKEN = _Broken()


def _parsed(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    """One value of the type ``hint``; problems are appended, and ``_BROKEN`` returned."""
    if get_origin(hint) in (Union, types.UnionType):
        options = [each for each in get_args(hint) if each is not type(None)]
        if value is None and len(options) < len(get_args(hint)):
            return None
        if len(options) == 1:
            return _parsed(options[0], value, where, problems)
    if hint in KINDS:
        return value if isinstance(value, hint) else _kind(hint, value, where, problems)
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return value if isinstance(value, hint) else _object(hint, value, where, problems)
    if get_origin(hint) is tuple and _is_ours(get_args(hint)[0]):
        return _sequence(get_args(hint)[0], value, where, problems)
    return _leaf(hint, value, where, problems)


def _is_ours(hint: Any) -> bool:
    return hint in KINDS or is_dataclass(hint) or (get_origin(hint) is tuple and _is_ours(get_args(hint)[0]))


def _sequence(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    if not isinstance(value, (list, tuple)):
        problems.append(f"{where}: a list is needed, but this is {_what(value)}")
        return _BROKEN
    if get_origin(hint) is tuple:
        value = [_stack(each) for each in value]
    found = tuple(_parsed(hint, each, f"{where}[{k}]", problems) for k, each in enumerate(value))
    return _BROKEN if any(each is _BROKEN for each in found) else found


def _stack(value: Any) -> Any:
    """A stack of one may be written alone, an empty one as ``none``."""
    if isinstance(value, (list, tuple)):
        return value
    return [] if value in (None, "none") else [value]


def _kind(noun: type, value: Any, where: str, problems: list[str]) -> Any:
    """A named kind of a noun: a name alone, or a mapping with ``name`` (learners: or ``recipe``) and settings."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        problems.append(f"{where}: a name, or a mapping with a 'name', is needed, but this is {_what(value)}")
        return _BROKEN
    settings = dict(value)
    if noun is Learner:
        settings = _with_shared_model(_with_recipe(settings, where, problems))
    name = settings.pop("name", None)
    if not isinstance(name, str):
        problems.append(f"{where}: a 'name' is needed (allowed: {', '.join(sorted(places(noun)))})")
        return _BROKEN
    try:
        cls = kind(noun, name)
    except ConfigError as error:
        problems.append(f"{where}.name: {error}")
        return _BROKEN
    return _object(cls, _with_preset(cls, settings, where, problems), where, problems)


def _with_preset(cls: type, settings: dict[str, Any], where: str, problems: list[str]) -> dict[str, Any]:
    """Settings with those of a preset of the kind under them (``{name: epic, preset: paper}``)."""
    presets: Mapping[str, Mapping[str, Any]] = getattr(cls, "presets", {})
    if "preset" not in settings or not presets:
        return settings
    name = settings.pop("preset")
    if not isinstance(name, str) or name not in presets:
        problems.append(f"{where}.preset: there is no preset '{name}': {nearest(str(name), presets)}")
        return settings
    return {**presets[name], **settings}


def _with_recipe(settings: dict[str, Any], where: str, problems: list[str]) -> dict[str, Any]:
    """Learner settings with those of their recipe under them; ``sgd`` where neither names another learner."""
    name = settings.pop("recipe", None)
    if name is None:
        return {"name": "sgd", **settings}
    if isinstance(name, str) and name in CLASSICAL:
        return {"name": "gradient-descent", **CLASSICAL[name], **settings}
    if name == "fast":
        return {"name": "fast", "model": {"name": "fastnet"}, **settings}
    if not isinstance(name, str) or name not in RECIPES:
        known = [*RECIPES, *CLASSICAL, "fast"]
        problems.append(f"{where}.recipe: there is no recipe '{name}': {nearest(str(name), known)}")
        return {"name": "sgd", **settings}
    model = _parsed(_architecture(), settings.get("model"), f"{where}.model", [])
    rate = {} if model is _BROKEN else {"lr": recipe(name, model=model).lr}
    return {"name": "sgd", **RECIPES[name], **rate, **settings}


def _with_shared_model(settings: dict[str, Any]) -> dict[str, Any]:
    """Learner settings whose pretraining, where it names no network, pretrains the same one."""
    start = settings.get("start")
    weights = start.get("weights") if isinstance(start, Mapping) else None
    learner = weights.get("learner") if isinstance(weights, Mapping) else None
    if not (isinstance(start, Mapping) and isinstance(weights, Mapping) and isinstance(learner, Mapping)):
        return settings
    if "model" in learner or "model" not in settings:
        return settings
    shared = {**weights, "learner": {**learner, "model": settings["model"]}}
    return {**settings, "start": {**start, "weights": shared}}


def _architecture() -> type:
    return next(noun for noun in KINDS if noun.__name__ == "Architecture")


def _object(cls: type, value: Any, where: str, problems: list[str]) -> Any:
    """A dataclass from a mapping of its settings."""
    if not isinstance(value, Mapping):
        problems.append(f"{where or 'experiment'}: a mapping of settings is needed, but this is {_what(value)}")
        return _BROKEN
    hints = get_type_hints(cls)
    known = {field.name: field for field in fields(cls) if field.init}
    before, dot = len(problems), f"{where}." if where else ""
    settings: dict[str, Any] = {}
    for key, each in value.items():
        if key == "name" and "name" not in known and each == getattr(cls, "name", None):
            continue
        if key not in known:
            problems.append(f"{dot}{key}: there is no such setting: {nearest(str(key), known)}")
            continue
        settings[key] = _parsed(hints[key], each, f"{dot}{key}", problems)
    needed = _needed(cls)
    problems += [f"{dot}{name}: this setting is needed" for name in known if name in needed and name not in value]
    problems += [f"{where or 'experiment'}: {each}" for each in _complaints(cls, settings)]
    return _BROKEN if len(problems) > before else cls(**settings)


def _complaints(cls: type, settings: Mapping[str, Any]) -> list[str]:
    """What a class refuses of its settings, each in a sentence of its own.

    A class stops at the first thing it refuses. So the setting at fault is looked for, put back to its default, and
    the class asked again, until it has nothing more to say.
    """
    settings, found = {name: value for name, value in settings.items() if value is not _BROKEN}, []
    needed = _needed(cls)
    while (refusal := _refusal(cls, settings)) is not None:
        found.append(refusal)
        others = [_without(settings, name) for name in settings if name not in needed]
        mended = [other for other in others if _refusal(cls, other) != refusal]
        if not mended or any(_refusal(cls, other) is None for other in mended):
            break
        settings = mended[0]
    return found


def _refusal(cls: type, settings: Mapping[str, Any]) -> str | None:
    """Why a class refuses these settings; None where it does not, or where a setting it needs could not be read."""
    absent = {name: _BROKEN for name in _needed(cls) if name not in settings}
    try:
        cls(**settings, **absent)
    except MithridateError as error:
        return str(error)
    except (TypeError, AttributeError):
        if not absent:  # else the class looked at what could not be read
            raise
    return None


def _needed(cls: type) -> set[str]:
    """Names of the settings without a default."""
    return {field.name for field in fields(cls) if field.init and field.default is field.default_factory is MISSING}


def _without(settings: Mapping[str, Any], left_out: str) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name != left_out}


def _leaf(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    """A plain value, through pydantic; where text will not do, ``8/255`` and ``1 %`` are numbers."""
    if _is_too_large(value):
        problems.append(f"{where}: whole numbers have at most {_MOST_BITS} bits here, but this is {_what(value)}")
        return _BROKEN
    try:
        return _adapter(hint).validate_python(value)
    except ValidationError as error:
        wrong = error
    try:
        return _adapter(hint).validate_python(_numbers(value))
    except ValidationError:
        problems += _sentences(wrong, value, where)
        return _BROKEN


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:
    return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False))


def _sentences(error: ValidationError, value: Any, where: str) -> list[str]:
    """What pydantic found, a sentence for each place."""
    found: dict[str, str] = {}
    for each in error.errors():
        place, inside = where, value
        steps: tuple[Any, ...] = each["loc"]
        for step in steps:  # places in the value, and names of the types tried
            if isinstance(inside, Mapping) and step in inside:
                place, inside = f"{place}.{step}", inside[step]
            elif isinstance(step, int) and isinstance(inside, (list, tuple)):
                place, inside = f"{place}[{step}]", inside[step] if step < len(inside) else None
        text = each["msg"][0].lower() + each["msg"][1:]
        found.setdefault(place, f"{place}: {text}, but it is {_what(each['input'])}")
    return list(found.values())


def _numbers(value: Any) -> Any:
    """Fractions and percentages written as text, as numbers; inside lists and mappings too."""
    if isinstance(value, (list, tuple)):
        return [_numbers(each) for each in value]
    if isinstance(value, Mapping):
        return {key: _numbers(each) for key, each in value.items()}
    matched = _FRACTION.fullmatch(value.strip()) if isinstance(value, str) and len(value) < 60 else None
    if matched is None:
        return value
    try:
        return float(matched[1]) / (100.0 if matched[3] else float(matched[2] or 1))
    except (ValueError, ZeroDivisionError):
        return value


def _is_too_large(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_is_too_large, value))
    if isinstance(value, Mapping):
        return any(map(_is_too_large, value.values()))
    return isinstance(value, int) and value.bit_length() > _MOST_BITS


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, (list, tuple)) else value


def _assign(settings: Any, path: Sequence[str], value: Any, assignment: str) -> None:
    """Set the value at ``path`` inside nested mappings and lists, making mappings where they lack."""
    *way, last = path
    for step in way:
        place: Any = _index(settings, step, assignment) if isinstance(settings, list) else step
        below = settings[place] if isinstance(settings, list) else settings.setdefault(place, {})
        if isinstance(below, str):
            below = settings[place] = {"name": below}  # a kind written as its name alone
        if not isinstance(below, (dict, list)):
            raise ConfigError(f"--set {assignment}: '{step}' is a single value, nothing lies below it")
        settings = below
    if isinstance(settings, list):
        settings[_index(settings, last, assignment)] = value
    else:
        settings[last] = value


def _index(settings: list[Any], step: str, assignment: str) -> int:
    if step not in map(str, range(len(settings))):
        raise ConfigError(f"--set {assignment}: '{step}' is no place in a list of {len(settings)}; use a number from 0")
    return int(step)


def _what(value: Any) -> str:
    """A value in a sentence, short."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def load_preset(name: str) -> str:
    """The YAML text of a bundled preset. Raises :class:`ConfigError` with the nearest right name."""
    folder = Path(__file__).parent / "presets"
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"there is no preset '{name}', and no file of that name: {nearest(name, known)}")
    return (folder / f"{name}.yaml").read_text(encoding="utf-8")


def presets() -> dict[str, dict[str, Any]]:
    """All bundled presets by name, as plain settings."""
    folder = Path(__file__).parent / "presets"
    found = sorted(folder.glob("*.yaml"))
    return {path.stem: read_yaml(path.read_text(encoding="utf-8"), where=path.name) for path in found}
