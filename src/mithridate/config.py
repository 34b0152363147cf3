"""YAML to experiment: every name looked up, every value checked, every problem listed with its place."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from pydantic import ConfigDict, TypeAdapter, ValidationError

from mithridate.errors import ConfigError, MithridateError, ProblemsError, nearest
from mithridate.learner import Learner
from mithridate.learners.recipes import RECIPES, recipe
from mithridate.registry import KINDS, kind
from mithridate.settings import plain

T = TypeVar("T")
_FRACTION = re.compile(r"\s*([+-]?[\d.]+(?:[eE][+-]?\d+)?)\s*(?:/\s*([\d.]+(?:[eE][+-]?\d+)?)|(%))\s*")


def read_yaml(text: str, *, where: str) -> dict[str, Any]:
    """The mapping in a YAML text. Raises :class:`ConfigError` naming the line where it is no YAML, or no mapping."""
    try:
        found: Any = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        raise ConfigError(f"{where}:{line} this is no valid YAML ({_first_words(error)})") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: this is no valid YAML ({error})") from error
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
    changed = _copied(settings)
    for assignment in assignments:
        path, sign, text = assignment.partition("=")
        if not sign or not path.strip():
            raise ConfigError(f"--set {assignment}: write it as  place=value,  for example  threat.budget=0.02")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {assignment}: the value is no valid YAML ({_first_words(error)})") from error
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
    found = tuple(_parsed(hint, each, f"{where}[{k}]", problems) for k, each in enumerate(value))
    return _BROKEN if any(each is _BROKEN for each in found) else found


def _kind(noun: type, value: Any, where: str, problems: list[str]) -> Any:
    """A named kind of a noun: a name alone, or a mapping with ``name`` (learners: or ``recipe``) and settings."""
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping):
        problems.append(f"{where}: a name, or a mapping with a 'name', is needed, but this is {_what(value)}")
        return _BROKEN
    settings = dict(value)
    if noun is Learner:
        settings = _with_recipe(settings, where, problems)
    name = settings.pop("name", None)
    if not isinstance(name, str):
        problems.append(f"{where}: a 'name' is needed (allowed: {', '.join(sorted(KINDS[noun]))})")
        return _BROKEN
    try:
        cls = kind(noun, name)
    except ConfigError as error:
        problems.append(f"{where}.name: {error}")
        return _BROKEN
    return _object(cls, settings, where, problems)


def _with_recipe(settings: dict[str, Any], where: str, problems: list[str]) -> dict[str, Any]:
    """Learner settings with those of their recipe under them; ``sgd`` unless another name is given."""
    name = settings.pop("recipe", None)
    if name is None:
        return {"name": "sgd", **settings}
    if name not in RECIPES:
        problems.append(f"{where}.recipe: there is no recipe '{name}': {nearest(str(name), RECIPES)}")
        return {"name": "sgd", **settings}
    model = _parsed(_architecture(), settings.get("model"), f"{where}.model", [])
    rate = {} if model is _BROKEN else {"lr": recipe(name, model=model).lr}
    return {"name": "sgd", **RECIPES[name], **rate, **settings}


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
    for name, field in known.items():
        if name not in value and field.default is MISSING and field.default_factory is MISSING:
            problems.append(f"{dot}{name}: this setting is needed")
    if len(problems) > before:
        return _BROKEN
    try:
        return cls(**settings)
    except MithridateError as error:
        problems.append(f"{where or 'experiment'}: {error}")
        return _BROKEN


def _leaf(hint: Any, value: Any, where: str, problems: list[str]) -> Any:
    """A plain value, through pydantic; ``8/255`` and ``1 %`` are numbers."""
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True))
        return adapter.validate_python(_numbers(value))
    except ValidationError as error:
        first = error.errors()[0]
        inner = "".join(f"[{each}]" for each in first["loc"] if isinstance(each, int))
        text = first["msg"][0].lower() + first["msg"][1:]
        problems.append(f"{where}{inner}: {text}, but it is {_what(first['input'])}")
        return _BROKEN
    except ConfigError as error:
        problems.append(f"{where}: {error}")
        return _BROKEN


def _numbers(value: Any) -> Any:
    """Fractions and percentages written as text, as numbers; inside lists and mappings too."""
    if isinstance(value, list):
        return [_numbers(each) for each in value]
    if isinstance(value, dict):
        return {key: _numbers(each) for key, each in value.items()}
    matched = _FRACTION.fullmatch(value) if isinstance(value, str) else None
    if matched is None:
        return value
    try:
        return float(matched[1]) / (100.0 if matched[3] else float(matched[2]))
    except (ValueError, ZeroDivisionError) as error:
        raise ConfigError(f"'{value}' is no number") from error


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(each) for key, each in value.items()}
    return [_copied(each) for each in value] if isinstance(value, (list, tuple)) else value


def _assign(settings: Any, path: Sequence[str], value: Any, assignment: str) -> None:
    """Set the value at ``path`` inside nested mappings and lists, making mappings where they lack."""
    *way, last = path
    for step in way:
        if isinstance(settings, dict) and isinstance(settings.get(step), str):
            settings[step] = {"name": settings[step]}  # a kind written as its name alone
        settings = (
            settings[_index(settings, step, assignment)]
            if isinstance(settings, list)
            else settings.setdefault(step, {})
        )
        if not isinstance(settings, (dict, list)):
            raise ConfigError(f"--set {assignment}: '{step}' is a single value, nothing lies below it")
    if isinstance(settings, list):
        settings[_index(settings, last, assignment)] = value
    else:
        settings[last] = value


def _index(settings: list[Any], step: str, assignment: str) -> int:
    if not step.isdecimal() or int(step) >= len(settings):
        raise ConfigError(f"--set {assignment}: '{step}' is no place in a list of {len(settings)}; use a number from 0")
    return int(step)


class _UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a key written twice instead of forgetting the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node, its keys unique."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' is written twice", key.start_mark
                )
            seen.add(str(getattr(key, "value", key)))
        return super().construct_mapping(node, deep=deep)


def _what(value: Any) -> str:
    """A value in a sentence, short."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _first_words(error: Exception) -> str:
    return (getattr(error, "problem", None) or str(error)).partition("\n")[0]


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
