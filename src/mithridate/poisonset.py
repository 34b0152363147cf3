"""The poison-set format: a folder that holds one poison, what it is judged on, and how it was made.

``manifest.json`` is for people and for checks, one top-level key a line; ``poison.safetensors`` holds the rows as a
victim would receive them. Equal content gives equal bytes: keys are sorted and nothing depends on the time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
import safetensors.torch
import torch
from pydantic import BaseModel, ConfigDict, FiniteFloat, TypeAdapter, ValidationError
from torch import Tensor

from mithridate import __version__
from mithridate.dataset import Dataset, Space
from mithridate.errors import DataError, FormatError, MithridateError, StoreError, nearest
from mithridate.goal import Aims
from mithridate.poison import Poison, Trigger
from mithridate.settings import plain

FORMAT = "mithridate-poison-set"
VERSION = 1
MANIFEST, TENSORS = "manifest.json", "poison.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class PoisonSet:
    """One poison with everything needed to judge it."""

    poison: Poison
    """The poisoned rows in stored form (uint8 where the space has levels), and the trace of their crafting."""
    base: Dataset | None
    """The clean rows with the same ids in the same order; None where the poison appends rows."""
    aims: Aims
    """What a victim of this poison is judged on."""
    manifest: Mapping[str, Any]
    """The manifest as written (for an imported poison: what is known of it)."""


def write(
    folder: Path | str,
    *,
    poison: Poison,
    base: Dataset | None,
    aims: Aims,
    details: Mapping[str, Any],
    data_digest: str,
) -> Path:
    """Write a poison set, whole or not at all, and return its folder.

    ``aims`` are the judged ones; ``details`` say how the poison was made (``threat``, ``attack``, ``seed``), and
    ``data_digest`` is :meth:`Dataset.digest` of the clean training set. An older poison set there is replaced.

    Raises :class:`DataError` where ``base`` has other ids than the poison, and :class:`StoreError` where the folder
    holds anything else or cannot be written.
    """
    folder = Path(folder)
    if base is not None and not torch.equal(base.ids.cpu(), poison.rows.ids.cpu()):
        raise DataError("the clean rows of a poison set must have the ids of the poison, in the same order")
    tensors = safetensors.torch.save(_tensors(poison, base, aims))
    manifest = _manifest(poison, aims, details, data_digest) | {"poison_sha256": hashlib.sha256(tensors).hexdigest()}
    files = {MANIFEST: _as_text(manifest).encode(), TENSORS: tensors}
    try:
        _place(folder, files)
    except OSError as error:
        raise StoreError(
            f"cannot write the poison set '{folder}': {error.strerror or error}; free space or choose another folder"
        ) from error
    return folder


def read(folder: Path | str, *, triggers: Mapping[str, type[Trigger]] | None = None) -> PoisonSet:
    """The poison set in ``folder``, with hash, shapes, types, ranges and ids checked.

    ``triggers`` are the known kinds of trigger by name. Raises :class:`FormatError` that names the file at fault.
    """
    folder = Path(folder)
    text, data = _bytes(folder / MANIFEST), _bytes(folder / TENSORS)
    manifest = _parsed(folder / MANIFEST, text)
    if hashlib.sha256(data).hexdigest() != manifest.poison_sha256:
        raise FormatError(
            f"'{folder / TENSORS}' does not have the SHA-256 that {MANIFEST} names: it is cut short, damaged or from "
            "another poison set; copy the whole folder again"
        )
    try:
        trigger = _trigger(manifest.goal.trigger, triggers or {})
        found = _assembled(manifest, _loaded(data), trigger)
    except MithridateError as error:
        raise FormatError(f"the poison set '{folder}' contradicts itself: {error}; export it again") from error
    trace = {name: tuple(map(float, curve)) for name, curve in manifest.trace.items()}
    poison, base, aims = found
    return PoisonSet(poison=Poison(rows=poison, trace=trace), base=base, aims=aims, manifest=json.loads(text))


def summary(poison_set: PoisonSet) -> Mapping[str, Any]:
    """What a person wants to know first: rows by class, largest change (in 255ths of the range), goal, attack, seed."""
    rows, base, manifest = poison_set.poison.rows, poison_set.base, poison_set.manifest
    details = manifest.get("details", {})
    attack = details.get("attack")
    low, high = rows.space.bounds
    change = None
    if base is not None and len(rows):
        change = round(float((rows.all_inputs() - base.all_inputs()).abs().max()) / (high - low) * 255, 3)
    return {
        "rows": len(rows),
        "classes": _by_class(rows.labels, rows.space),
        "relabelled": None if base is None else int((rows.labels != base.labels).sum()),
        "largest_change_255ths": change,
        "goal": _in_words(poison_set.aims, rows.space),
        "attack": attack.get("name") if isinstance(attack, Mapping) else attack,
        "seed": details.get("seed"),
        "poison_sha256": manifest.get("poison_sha256"),
    }


# Writing


def _tensors(poison: Poison, base: Dataset | None, aims: Aims) -> dict[str, Tensor]:
    """Everything with a row for each poison or target, by name. Clean and poisoned inputs in stored form."""
    rows = poison.rows
    kept = {
        "inputs": _stored(rows.inputs, rows.space),
        "labels": rows.labels,
        "ids": rows.ids,
        "base": None if base is None else _stored(base.inputs, base.space),
        "base_labels": None if base is None else base.labels,
        "target_inputs": _exactly_stored(aims.inputs, rows.space),
        "target_labels": aims.labels,
        "target_wanted": aims.wanted,
        "target_ids": aims.ids,
    }
    return {name: tensor.cpu().contiguous() for name, tensor in kept.items() if tensor is not None}


def _stored(inputs: Tensor, space: Space) -> Tensor:
    return inputs if inputs.dtype == torch.uint8 else space.encode(inputs)


def _exactly_stored(inputs: Tensor, space: Space) -> Tensor:
    """Targets in stored form, unless that would change them: a target need not lie on a level."""
    codes = _stored(inputs, space)
    return codes if torch.equal(space.decode(codes), space.decode(inputs)) else inputs.to(torch.float32)


def _manifest(poison: Poison, aims: Aims, details: Mapping[str, Any], data_digest: str) -> dict[str, Any]:
    space = poison.rows.space
    return {
        "format": FORMAT,
        "version": VERSION,
        "created_by": {
            "mithridate": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "space": plain(space),
        "ids": poison.rows.ids.tolist(),
        "labels": poison.rows.labels.tolist(),
        "base_data_sha256": data_digest,
        "goal": {
            "labels": aims.labels.tolist(),
            "wanted": None if aims.wanted is None else aims.wanted.tolist(),
            "ids": None if aims.ids is None else aims.ids.tolist(),
            "trigger": None if aims.trigger is None else plain(aims.trigger),
        },
        "details": _json_safe(plain(dict(details))),
        "trace": {name: _json_safe(list(map(float, curve))) for name, curve in poison.trace.items()},
    }


def _json_safe(value: Any) -> Any:
    """``value`` with NaN and infinities, which JSON has no numbers for, as their names (``"nan"``, ``"-inf"``)."""
    if isinstance(value, dict):
        return {key: _json_safe(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_json_safe(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _as_text(manifest: Mapping[str, Any]) -> str:
    dumps = partial(json.dumps, sort_keys=True, allow_nan=False, ensure_ascii=False)
    return "{\n" + ",\n".join(f"{dumps(key)}: {dumps(manifest[key])}" for key in sorted(manifest)) + "\n}\n"


def _place(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write ``files`` beside ``folder``, then move them there in one step; an interruption leaves the old folder."""
    _check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = folder.parent / f".{folder.name}.{secrets.token_hex(4)}"
    old = fresh.with_name(f"{fresh.name}.old")
    try:
        fresh.mkdir()
        for name, content in files.items():
            with (fresh / name).open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _check_free(folder: Path) -> None:
    """Refuse to write over anything that is not a poison set and nothing else."""
    if folder.exists() and not folder.is_dir():
        raise StoreError(f"'{folder}' is a file, but a poison set is a folder; choose another name")
    foreign = (
        [each.name for each in folder.iterdir() if each.name not in (MANIFEST, TENSORS)] if folder.exists() else []
    )
    if foreign:
        raise StoreError(
            f"'{folder}' holds '{min(foreign)}', which is no part of a poison set and would be lost; choose a new folder"
        )


# Reading


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _SpaceModel(_Strict):
    shape: tuple[int, ...]
    num_classes: int
    bounds: tuple[FiniteFloat, FiniteFloat]
    levels: int | None
    classes: tuple[str, ...]
    mean: tuple[FiniteFloat, ...]
    std: tuple[FiniteFloat, ...]


class _GoalModel(_Strict):
    labels: list[int]
    wanted: list[int] | None
    ids: list[int] | None
    trigger: dict[str, Any] | None


class _ManifestModel(_Strict):
    """The shape of ``manifest.json``, version 1."""

    format: Literal["mithridate-poison-set"]
    version: Literal[1]
    created_by: dict[str, str]
    space: _SpaceModel
    ids: list[int]
    labels: list[int]
    base_data_sha256: str
    goal: _GoalModel
    details: dict[str, Any]
    trace: dict[str, list[float | Literal["nan", "inf", "-inf"]]]
    poison_sha256: str


class _Head(BaseModel):
    """The part of a manifest that every version has."""

    model_config = ConfigDict(strict=True)
    format: Literal["mithridate-poison-set"]
    version: int


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FormatError(
            f"cannot read '{path}': {error.strerror or error}; a poison set is a folder with {MANIFEST} and {TENSORS}"
        ) from error


def _parsed(path: Path, text: bytes) -> _ManifestModel:
    """The manifest, every type checked."""
    try:
        head = _Head.model_validate_json(text)
        if head.version > VERSION:
            raise FormatError(
                f"'{path}' is of version {head.version}, but this release reads up to version {VERSION}; "
                "upgrade mithridate"
            )
        return _ManifestModel.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise FormatError(
            f"'{path}' is damaged or no manifest of a poison set ({place}: {first['msg']}); copy the folder again"
        ) from error


def _loaded(data: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, RuntimeError, ValueError, TypeError, KeyError, AssertionError) as error:
        raise FormatError(f"{TENSORS} cannot be read ({error})") from error


def _assembled(
    manifest: _ManifestModel, tensors: Mapping[str, Tensor], trigger: Trigger | None
) -> tuple[Dataset, Dataset | None, Aims]:
    """Poison, clean rows and aims, seen to agree with the manifest."""
    space, goal = Space(**manifest.space.model_dump()), manifest.goal
    if not space.bounds[0] < space.bounds[1]:
        raise FormatError(f"the bounds {space.bounds} hold no values")
    ids, labels = _whole(tensors, "ids", manifest.ids), _whole(tensors, "labels", manifest.labels)
    assert ids is not None
    assert labels is not None
    poison = _rows(tensors, "inputs", labels=labels, ids=ids, space=space)
    base = None
    if "base" in tensors:
        base = _rows(tensors, "base", labels=_required(tensors, "base_labels"), ids=ids, space=space)
    target_labels = _whole(tensors, "target_labels", goal.labels)
    assert target_labels is not None
    places = torch.arange(len(target_labels))
    targets = _rows(tensors, "target_inputs", labels=target_labels, ids=places, space=space)
    wanted = _whole(tensors, "target_wanted", goal.wanted)
    if wanted is not None:
        _rows(tensors, "target_inputs", labels=wanted, ids=places, space=space)
    target_ids = _whole(tensors, "target_ids", goal.ids)
    if target_ids is not None and len(target_ids) != len(places):
        raise FormatError(f"there are {len(places)} targets, but {len(target_ids)} target_ids")
    aims = Aims(inputs=targets.all_inputs(), labels=target_labels, wanted=wanted, trigger=trigger, ids=target_ids)
    return poison, base, aims


def _required(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise FormatError(f"{TENSORS} lacks '{name}'")
    return tensors[name]


def _whole(tensors: Mapping[str, Tensor], name: str, listed: list[int] | None) -> Tensor | None:
    """The integers called ``name``, once they are seen to be those that the manifest lists; None where it has none."""
    if listed is None:
        if name in tensors:
            raise FormatError(f"{TENSORS} has '{name}', but {MANIFEST} has none")
        return None
    found = _required(tensors, name)
    if found.dtype != torch.int64 or found.ndim != 1 or found.tolist() != listed:
        raise FormatError(f"'{name}' differs between {MANIFEST} and {TENSORS}")
    return found


def _rows(tensors: Mapping[str, Tensor], name: str, *, labels: Tensor, ids: Tensor, space: Space) -> Dataset:
    """The rows with inputs called ``name``, every value checked."""
    inputs = _required(tensors, name)
    if inputs.dtype not in (torch.uint8, torch.float32):
        raise FormatError(f"'{name}' is stored as {inputs.dtype}, but inputs are uint8 or float32")
    if inputs.dtype == torch.uint8 and inputs.numel() and int(inputs.max()) >= (space.levels or 256):
        raise FormatError(f"'{name}' holds the code {int(inputs.max())}, but there are {space.levels} levels")
    rows = Dataset(inputs=inputs, labels=labels, ids=ids, space=space)
    return rows.checked() if len(rows) else rows


def _trigger(settings: Mapping[str, Any] | None, triggers: Mapping[str, type[Trigger]]) -> Trigger | None:
    """The trigger with these settings, its ``name`` among them."""
    if settings is None:
        return None
    name = settings.get("name")
    if not isinstance(name, str) or name not in triggers:
        raise FormatError(f"its trigger is called '{name}', which is not known here: {nearest(str(name), triggers)}")
    kind, given = triggers[name], {key: value for key, value in settings.items() if key != "name"}
    unknown = sorted(given.keys() - {field.name for field in fields(kind)}) if is_dataclass(kind) else sorted(given)
    if unknown:
        raise FormatError(f"its trigger '{name}' has no setting '{unknown[0]}'")
    try:
        return TypeAdapter(kind).validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise FormatError(f"the settings of its trigger '{name}' are wrong ({first['loc']}: {first['msg']})") from error


# Words


def _by_class(labels: Tensor, space: Space) -> dict[str, int]:
    found, counts = torch.unique(labels.cpu(), return_counts=True)
    return {space.name(label): count for label, count in zip(found.tolist(), counts.tolist(), strict=True)}


def _in_words(aims: Aims, space: Space) -> str:
    """``1 input of class 'cat' (id 42) is to be called 'dog'``."""
    if not len(aims):
        return "no inputs are judged"
    one = len(aims) == 1
    classes = torch.unique(aims.labels).tolist()
    what = (
        f"1 input of class '{space.name(classes[0])}'" if one else f"{len(aims)} inputs of {_classes(classes, space)}"
    )
    which = f" (id {int(aims.ids[0])})" if one and aims.ids is not None else ""
    mark = f" with the trigger '{aims.trigger.name}'" if aims.trigger else ""
    verb = "is" if one else "are"
    if aims.wanted is None:
        return f"{what}{which}{mark} {verb} to be called anything but the truth"
    wants = torch.unique(aims.wanted).tolist()
    into = f"'{space.name(wants[0])}'" if len(wants) == 1 else f"a class chosen for each ({len(wants)} in all)"
    return f"{what}{which}{mark} {verb} to be called {into}"


def _classes(classes: list[int], space: Space) -> str:
    return f"class '{space.name(classes[0])}'" if len(classes) == 1 else f"{len(classes)} classes"
