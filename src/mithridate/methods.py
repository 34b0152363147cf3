"""The version of a method: a hash of its code, so that rows of two versions are never mixed unknowingly."""

from __future__ import annotations

import ast
import hashlib
import inspect
from abc import ABC
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, Protocol

from mithridate.source import Source

UNKNOWN = "unknown"
"""The version of a class whose source is not to be found (typed at a prompt, say)."""

_ROOTS = (object, ABC, Protocol, Generic)


@lru_cache(maxsize=1024)
def version(cls: type) -> str:
    """A hash (12 hex digits) of the files that a class and the classes it builds on are written in.

    Of the code alone: docstrings, comments and layout do not count, nor does the abstract class of its kind
    (``Attack``), nor what it imports: a change there that makes results incomparable raises ``settings.METHOD``.
    """
    files = [_file(each) for each in cls.__mro__ if each is cls or not _is_root(each)]
    if None in files:
        return UNKNOWN
    return _joined(code(path) for path in dict.fromkeys(path for path in files if path is not None))


def code_of(*modules: ModuleType) -> str:
    """A hash of the code of several modules, as :func:`version` takes it."""
    return _joined(code(Path(str(each.__file__))) for each in modules)


@lru_cache(maxsize=1024)
def code(path: Path) -> str:
    """A hash of the code in a Python file, without docstrings, comments and layout; the same for every Python."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return UNKNOWN
    return hashlib.sha256(repr(_form(tree)).encode()).hexdigest()


def used(*values: Any) -> dict[str, type]:
    """The methods in settings, by name: attacks, defenses, learners, goals, networks and what these are set with.

    Data sets are no methods: their rows have a digest of their own.
    """
    found: dict[str, type] = {}
    for value in values:
        if isinstance(value, Mapping):
            found |= used(*value.values())
        elif isinstance(value, (tuple, list, set, frozenset)):
            found |= used(*value)
        elif is_dataclass(value) and not isinstance(value, (type, Source)):
            name = getattr(type(value), "name", None)
            found |= {name: type(value)} if isinstance(name, str) else {}
            found |= used(*(getattr(value, each.name) for each in fields(value) if each.init and each.compare))
    return found


def versions(*values: Any) -> dict[str, str]:
    """The version of every method in settings, by name."""
    return {name: version(cls) for name, cls in sorted(used(*values).items())}


def outside(*values: Any) -> dict[str, str]:
    """The versions of the methods in settings that are not this package's: part of the key of what they decide."""
    ours = __name__.partition(".")[0]
    strangers = {name: cls for name, cls in used(*values).items() if cls.__module__.partition(".")[0] != ours}
    return {name: version(cls) for name, cls in sorted(strangers.items())}


def _is_root(cls: type) -> bool:
    """Whether a class is the abstract one of its kind, or no class of anybody's."""
    return cls in _ROOTS or set(cls.__bases__) <= set(_ROOTS)


def _file(cls: type) -> Path | None:
    try:
        found = inspect.getsourcefile(cls)
    except (TypeError, OSError):
        return None
    return Path(found) if found else None


def _joined(codes: Iterable[str]) -> str:
    found = list(codes)
    return UNKNOWN if UNKNOWN in found else hashlib.sha256("".join(found).encode()).hexdigest()[:12]


def _form(node: Any) -> Any:
    """A syntax tree as nested tuples, without strings that stand alone and without fields that are empty.

    ``ast.dump`` writes empty fields in some versions of Python and not in others.
    """
    if isinstance(node, list):
        return tuple(_form(each) for each in node if not _is_doc(each))
    if isinstance(node, ast.AST):
        return (type(node).__name__, *_parts(node))
    return (type(node).__name__, repr(node)) if node is not None else None


def _parts(node: ast.AST) -> Iterator[tuple[str, Any]]:
    for name, value in ast.iter_fields(node):
        if name not in ("kind", "type_comment", "type_ignores") and value not in (None, []):
            yield name, _form(value)


def _is_doc(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
