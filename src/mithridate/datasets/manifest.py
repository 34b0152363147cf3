"""The file that tells which folder of images is which class, beside class folders that this package wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from mithridate.errors import DataError

MANIFEST = "mithridate.json"
FORMAT = "mithridate image folder 1"


def folder_names(classes: Sequence[str]) -> tuple[str, ...]:
    """A folder name for each class, different and safe on every file system whatever the classes are called.

    The number in front keeps the order of the classes for readers that sort folders by name (torchvision's
    ``ImageFolder``), and makes two names different that differ only in what is replaced.
    """
    width = len(str(len(classes) - 1))
    return tuple(
        f"{number:0{width}d}_{re.sub(r'[^A-Za-z0-9]+', '-', name).strip('-')[:40]}".rstrip("_")
        for number, name in enumerate(classes)
    )


def manifest_text(classes: Sequence[str]) -> str:
    """The manifest of the folders that :func:`folder_names` names."""
    folders = dict(zip(folder_names(classes), classes, strict=True))
    return json.dumps({"format": FORMAT, "classes": folders}, indent=1, ensure_ascii=False)


def read_manifest(folder: Path) -> dict[str, str] | None:
    """Class names by folder name, in the order of the labels; None where there is no manifest.

    Raises :class:`DataError` for one that is damaged or whose folders would lead elsewhere.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged: {str(error)[:200]}") from error
    classes = found.get("classes") if isinstance(found, dict) and found.get("format") == FORMAT else None
    if not isinstance(classes, dict) or not all(isinstance(name, str) for name in classes.values()):
        raise DataError(f"{path} is not a manifest of the form '{FORMAT}'; delete it to have folders taken as classes")
    stray = next((name for name in classes if not re.fullmatch(r"[A-Za-z0-9_-]+", name)), None)
    if stray is not None:
        raise DataError(f"{path} names the folder '{stray}', which is no plain folder name")
    return classes
