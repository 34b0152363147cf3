"""The manifest of a poison set: its shape as JSON, every type checked."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from mithridate.columns import Column, Kind
from mithridate.errors import FormatError
from mithridate.space import Space

FORMAT = "mithridate-poison-set"
VERSION = 2
"""The newest version: it has ``columns`` in the space, and ``origins``. What needs neither is still written as 1."""


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class ColumnEntry(_Strict):
    """A :class:`~mithridate.columns.Column`."""

    name: str
    kind: Kind
    low: FiniteFloat
    high: FiniteFloat
    group: str
    category: str
    mutable: bool


class SpaceEntry(_Strict):
    """A :class:`~mithridate.dataset.Space`."""

    shape: tuple[int, ...]
    num_classes: Annotated[int, Field(le=2**31)]
    bounds: tuple[FiniteFloat, FiniteFloat]
    levels: int | None
    classes: tuple[str, ...]
    mean: tuple[FiniteFloat, ...]
    std: tuple[FiniteFloat, ...]
    columns: tuple[ColumnEntry, ...] = ()

    def space(self) -> Space:
        """The space itself. Raises :class:`~mithridate.errors.DataError` where no data could live in it."""
        columns = tuple(Column(**each.model_dump()) for each in self.columns)
        return Space(**self.model_dump(exclude={"columns"}), columns=columns)


class GoalEntry(_Strict):
    """What the poison is judged on; the inputs are in the tensors."""

    labels: list[int]
    wanted: list[int] | None
    ids: list[int] | None
    trigger: dict[str, Any] | None
    """The trigger's settings, with its ``name``."""


class Manifest(_Strict):
    """``manifest.json``, versions 1 and 2."""

    format: Literal["mithridate-poison-set"]
    version: Literal[1, 2]
    created_by: dict[str, str]
    """Versions of the software that wrote the set."""
    space: SpaceEntry
    ids: list[int]
    labels: list[int]
    origins: list[int] | None = None
    """Of appended rows, the ids of the training rows that they began as."""
    base_data_sha256: str
    """:meth:`Dataset.digest` of the clean training set."""
    goal: GoalEntry
    details: dict[str, Any]
    """How the poison was made: ``threat``, ``attack``, ``seed``."""
    trace: dict[str, list[float | Literal["nan", "inf", "-inf"]]]
    poison_sha256: str
    """SHA-256 (hex) of ``poison.safetensors``."""
    manifest_sha256: str
    """SHA-256 (hex) of this manifest as it is written without this line."""


class _Head(BaseModel):
    """The part of a manifest that every version has."""

    model_config = ConfigDict(strict=True)
    format: Literal["mithridate-poison-set"]
    version: int


def as_text(manifest: Mapping[str, Any]) -> bytes:
    """The manifest as UTF-8 JSON with its own hash: keys sorted, one top-level key a line."""
    return _text({**manifest, "manifest_sha256": hashlib.sha256(_text(manifest)).hexdigest()})


def _text(manifest: Mapping[str, Any]) -> bytes:
    dumps = partial(json.dumps, sort_keys=True, allow_nan=False, ensure_ascii=False)
    lines = (f"{dumps(key)}: {dumps(json_safe(manifest[key]))}" for key in sorted(manifest))
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("utf-8", "replace")


def json_safe(value: Any) -> Any:
    """``value`` with NaN and infinities, which JSON has no numbers for, as their names (``"nan"``, ``"-inf"``)."""
    if isinstance(value, dict):
        return {key: json_safe(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def parsed(path: Path, text: bytes) -> Manifest:
    """The manifest in ``text``. Raises :class:`FormatError` naming ``path`` and the first place that is wrong."""
    try:
        head = _Head.model_validate_json(text)
        if head.version > VERSION:
            raise FormatError(
                f"'{path}' is of version {head.version}, but this release reads up to version {VERSION}; "
                "upgrade mithridate"
            )
        found = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise FormatError(
            f"'{path}' is damaged or no manifest of a poison set ({first_fault(error)}); copy the whole folder again"
        ) from error
    content = json.loads(text)
    said = content.pop("manifest_sha256")
    if hashlib.sha256(_text(content)).hexdigest() != said:
        raise FormatError(f"'{path}' is damaged: its content is not what was written; copy the whole folder again")
    return found


def first_fault(error: ValidationError) -> str:
    """The first thing that pydantic complained of: its place, and what is wrong."""
    fault = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return ": ".join([*filter(None, [".".join(map(str, fault["loc"]))]), fault["msg"]])
