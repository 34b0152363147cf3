"""The poison-set format: a folder that holds one poison, what it is judged on, and how it was made.

``manifest.json`` is for people and for checks; ``poison.safetensors`` holds the rows as a victim would receive them:

==================  =======================================================================================
``inputs``          ``(N, *shape)`` poisoned inputs: uint8 codes where the space has levels, else float32
``labels, ids``     ``(N,)`` int64
``base``            ``(N, *shape)`` the clean inputs that it began as; absent where rows of unknown origin are appended
``base_labels``     ``(N,)`` their labels
``base_ids``        ``(N,)`` int64 ids of the origins of appended rows; absent where they are those of the poison
``target_inputs``   ``(T, *shape)`` judged inputs without trigger: uint8 codes where that loses nothing
``target_labels``   ``(T,)`` int64; likewise ``target_wanted`` and ``target_ids``, where there are any
==================  =======================================================================================

Poison with origins, and poison of a table with named columns, is written as version 2 of the format; any other still as
version 1. Equal content gives equal bytes: keys are sorted and nothing depends on the time.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from mithridate import __version__
from mithridate.dataset import Dataset, Space
from mithridate.errors import DataError, FormatError, MithridateError, StoreError, nearest
from mithridate.goal import Aims
from mithridate.manifest import FORMAT, VERSION, Manifest, as_text, first_fault, json_safe, parsed
from mithridate.placing import place
from mithridate.poison import Poison, Trigger
from mithridate.settings import plain

MANIFEST, TENSORS = "manifest.json", "poison.safetensors"


@dataclass(frozen=True, kw_only=True, eq=False)
class PoisonSet:
    """One poison with everything needed to judge it."""

    poison: Poison
    """The poisoned rows in stored form (uint8 where the space has levels), and the trace of their crafting."""
    base: Dataset | None
    """The clean rows that the poison began as, row by row: those with its ids, or the origins of appended rows. None
    where appended rows name none."""
    aims: Aims
    """What a victim of this poison is judged on."""
    manifest: Mapping[str, Any]
    """The manifest as written; of an imported poison only ``details``, that is, where it came from."""


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

    ``base`` are the clean rows of the poison (:meth:`Poison.clean`). Raises :class:`DataError` where it has other ids
    than the poison or its origins, and :class:`StoreError` where the folder holds anything else or cannot be written.
    """
    _check_base(poison, base)
    tensors = safetensors.torch.save(_tensors(poison, base, aims))
    manifest = _manifest(poison, aims, details) | {
        "base_data_sha256": data_digest,
        "poison_sha256": hashlib.sha256(tensors).hexdigest(),
    }
    try:
        _check_free(Path(folder).resolve())
        place(Path(folder).resolve(), {MANIFEST: as_text(manifest), TENSORS: tensors})
    except OSError as error:
        raise StoreError(
            f"cannot write the poison set '{folder}': {error.strerror or error}; free space or choose another folder"
        ) from error
    return Path(folder)


def read(folder: Path | str, *, triggers: Mapping[str, type[Trigger]] | None = None) -> PoisonSet:
    """The poison set in ``folder``, with hash, shapes, types, ranges and ids checked.

    ``triggers`` are the known kinds of trigger by name. Raises :class:`FormatError` that names what is at fault.
    """
    folder = Path(folder)
    text, data = _content(folder / MANIFEST), _content(folder / TENSORS)
    manifest = parsed(folder / MANIFEST, text)
    if hashlib.sha256(data).hexdigest() != manifest.poison_sha256:
        raise FormatError(
            f"'{folder / TENSORS}' does not have the SHA-256 that {MANIFEST} names: it is cut short, damaged or from "
            "another poison set; copy the whole folder again"
        )
    try:
        trigger = _trigger(manifest.goal.trigger, triggers or {})
        poison, base, aims = _assembled(manifest, _loaded(data), trigger)
    except MithridateError as error:
        raise FormatError(f"the poison set '{folder}' cannot be used: {error}; export it again") from error
    return PoisonSet(poison=poison, base=base, aims=aims, manifest=manifest.model_dump(exclude_unset=True))


def _check_base(poison: Poison, base: Dataset | None) -> None:
    """Refuse clean rows other than those that the poison began as."""
    if poison.origins is not None and base is None:
        raise DataError(
            "a poison set of rows with origins needs their clean rows as base; give those of poison.clean()"
        )
    began = poison.rows.ids if poison.origins is None else poison.origins
    if base is not None and not torch.equal(base.ids.cpu(), began.cpu()):
        what = "the ids of the poison" if poison.origins is None else "the ids of its origins"
        raise DataError(f"the clean rows of a poison set must have {what}, in the same order")


def _tensors(poison: Poison, base: Dataset | None, aims: Aims) -> dict[str, Tensor]:
    """Everything with a row for each poison or target, by name."""
    rows = poison.rows
    kept = {
        "inputs": _stored(rows.inputs, rows.space),
        "labels": rows.labels,
        "ids": rows.ids,
        "base": None if base is None else _stored(base.inputs, base.space),
        "base_labels": None if base is None else base.labels,
        "base_ids": poison.origins,
        "target_inputs": _exactly_stored(aims.inputs, rows.space),
        "target_labels": aims.labels,
        "target_wanted": aims.wanted,
        "target_ids": aims.ids,
    }
    return {name: tensor.cpu().contiguous().clone() for name, tensor in kept.items() if tensor is not None}


def _stored(inputs: Tensor, space: Space) -> Tensor:
    return inputs if inputs.dtype == torch.uint8 else space.encode(inputs)


def _exactly_stored(inputs: Tensor, space: Space) -> Tensor:
    """Targets in stored form, unless that would change them: a target need not lie on a level."""
    codes = _stored(inputs, space)
    return codes if torch.equal(space.decode(codes), space.decode(inputs)) else inputs.to(torch.float32)


def _manifest(poison: Poison, aims: Aims, details: Mapping[str, Any]) -> dict[str, Any]:
    space, origins = poison.rows.space, poison.origins
    return {
        "format": FORMAT,
        "version": VERSION if space.columns or origins is not None else 1,
        "created_by": {
            "mithridate": __version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "space": plain(space),
        "ids": poison.rows.ids.tolist(),
        "labels": poison.rows.labels.tolist(),
        "goal": {
            "labels": aims.labels.tolist(),
            "wanted": None if aims.wanted is None else aims.wanted.tolist(),
            "ids": None if aims.ids is None else aims.ids.tolist(),
            "trigger": None if aims.trigger is None else plain(aims.trigger),
        },
        "details": json_safe(plain(dict(details))),
        "trace": {name: [float(value) for value in curve] for name, curve in poison.trace.items()},
    } | ({} if origins is None else {"origins": origins.tolist()})


def _check_free(folder: Path) -> None:
    """Refuse to write over anything but an empty folder or a poison set and nothing else."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise StoreError(f"'{folder}' is a file, but a poison set is a folder; choose another name")
    names = {each.name for each in folder.iterdir()}
    if names and names not in ({MANIFEST, TENSORS}, {TENSORS}):
        foreign = min(names - {MANIFEST, TENSORS}, default=MANIFEST)
        raise StoreError(f"'{folder}' is no poison set: it holds '{foreign}', which would be lost; choose a new folder")


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FormatError(
            f"cannot read '{path}': {error.strerror or error}; a poison set is a folder with {MANIFEST} and {TENSORS}"
        ) from error


def _loaded(data: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, RuntimeError, ValueError, TypeError, KeyError, AssertionError) as error:
        raise FormatError(f"{TENSORS} is damaged ({error})") from error


def _assembled(
    manifest: Manifest, tensors: Mapping[str, Tensor], trigger: Trigger | None
) -> tuple[Poison, Dataset | None, Aims]:
    """Poison, clean rows and aims, seen to agree with the manifest."""
    space = manifest.space.space()
    ids, labels = _integers(tensors, "ids", manifest.ids), _integers(tensors, "labels", manifest.labels)
    rows = _rows(tensors, "inputs", labels=labels, ids=ids, space=space)
    origins = None
    if "base_ids" in tensors or manifest.origins is not None:
        origins = _integers(tensors, "base_ids", manifest.origins or [])
    trace = {name: tuple(map(float, curve)) for name, curve in manifest.trace.items()}
    poison, base = Poison(rows=rows, trace=trace, origins=origins), None
    if "base" in tensors or origins is not None:
        base = _rows(tensors, "base", labels=_named(tensors, "base_labels"), ids=ids, space=space)
        base = base if origins is None else replace(base, ids=origins)  # of which one may come several times
    return poison, base, _aims(manifest, tensors, trigger, space)


def _aims(manifest: Manifest, tensors: Mapping[str, Tensor], trigger: Trigger | None, space: Space) -> Aims:
    goal = manifest.goal
    aims = Aims(
        inputs=space.decode(_named(tensors, "target_inputs")),
        labels=_integers(tensors, "target_labels", goal.labels),
        wanted=None if goal.wanted is None else _integers(tensors, "target_wanted", goal.wanted),
        trigger=trigger,
        ids=None if goal.ids is None else _integers(tensors, "target_ids", goal.ids),
    )
    for each in (aims.labels, aims.wanted, aims.ids):
        if each is not None and len(each) != len(aims):
            raise FormatError(f"{len(aims)} targets need as many wanted classes and ids, but there are {len(each)}")
    for each in (aims.labels, aims.wanted):
        if each is not None:  # labels and wanted classes must both be classes of the space
            _rows(tensors, "target_inputs", labels=each, ids=torch.arange(len(each)), space=space)
    return aims


def _named(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise FormatError(f"{TENSORS} lacks '{name}'")
    return tensors[name]


def _integers(tensors: Mapping[str, Tensor], name: str, listed: list[int]) -> Tensor:
    """The integers called ``name``, seen to be those that the manifest lists."""
    found = _named(tensors, name)
    if found.dtype != torch.int64 or found.ndim != 1 or found.tolist() != listed:
        raise FormatError(f"'{name}' differs between {MANIFEST} and {TENSORS}")
    return found


def _rows(tensors: Mapping[str, Tensor], name: str, *, labels: Tensor, ids: Tensor, space: Space) -> Dataset:
    """The rows with inputs called ``name``, every value checked."""
    inputs = _named(tensors, name)
    if inputs.dtype not in (torch.uint8, torch.float32) or inputs.ndim != 1 + len(space.shape):
        raise FormatError(f"'{name}' is {inputs.dtype} of shape {tuple(inputs.shape)}, but inputs are uint8 or float32")
    if space.levels and inputs.dtype != torch.uint8 and name != "target_inputs":
        raise FormatError(f"'{name}' is {inputs.dtype}, but rows with {space.levels} levels are stored as uint8")
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
        raise FormatError(f"its trigger '{name}' is not known here: {nearest(str(name), triggers)}")
    kind, given = triggers[name], {key: value for key, value in settings.items() if key != "name"}
    unknown = given.keys() - ({field.name for field in fields(kind)} if is_dataclass(kind) else set())
    if unknown:
        raise FormatError(f"its trigger '{name}' has no setting '{min(unknown)}'")
    try:
        return TypeAdapter(kind).validate_json(json.dumps(given), strict=True)
    except ValidationError as error:
        raise FormatError(f"its trigger '{name}' has a wrong setting ({first_fault(error)})") from error
