"""Whether two measurements are of the same code: a hash of everything of this package that a case can reach."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

from mithridate.methods import code

_PACKAGE = __name__.partition(".")[0]
_ROOT = Path(__file__).resolve().parents[1]


def version(module: str) -> str:
    """A hash (12 hex digits) of a module of this package and of those it imports, inside functions too.

    Of the code alone, as :func:`mithridate.methods.code` takes it. What is looked up by name is not seen.
    """
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if name not in seen and path is not None:
            seen[name] = code(path)
            waiting += _imported(path)
    return hashlib.sha256(repr(sorted(seen.items())).encode()).hexdigest()[:12]


def _file(module: str) -> Path | None:
    """The file of a module of this package; None where there is no such module. Nothing is imported."""
    place = _ROOT.joinpath(*module.split(".")[1:])
    files = (place.with_suffix(".py"), place / "__init__.py")
    return next((each for each in files if each.is_file()), None)


@cache
def _imported(path: Path) -> tuple[str, ...]:
    """Modules of this package that a file imports, by name; of ``from a import b`` both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module} | {f"{node.module}.{each.name}" for each in node.names}
    return tuple(sorted(each for each in found if each.partition(".")[0] == _PACKAGE and "." in each))
