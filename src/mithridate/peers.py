"""Readers of other people's poison: the poisoning benchmark's three pickles and its set-ups, which forest shares.

Schwarzschild et al., "Just How Toxic is Data Poisoning?", ICML 2021, https://arxiv.org/abs/2006.12557; format in
``how_to.md`` of https://github.com/aks2203/poisoning-benchmark. forest (Witches' Brew) exports the same three files.
Pickles are read by :mod:`mithridate.pickles`, which runs nothing in them; :mod:`mithridate.peerfiles` writes them.

Differences from the benchmark's own evaluation:

1. A base named twice (transfer set-ups 78 and 84) is trained on there as two poisons. An id can be written over once
   here: the last poison counts, and the base is listed in the manifest under ``repeated_base_indices``.
2. A trigger patch is put on the target image at once and rounded to 8 bits there (they cut off), since only that one
   patched image is judged; ``aims.trigger`` stays None.
3. The benchmark knows no test ids: a target is known again by its image, to within one of 256 levels, since its files
   are cut off to 8 bits after a normalisation was undone (in float32, 61 of the 256 values of CIFAR-10's first channel
   come out one lower).
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mithridate.dataset import Dataset, Space
from mithridate.errors import DataError, FormatError
from mithridate.goal import Aims
from mithridate.pickles import Pixels, read_pickle
from mithridate.poison import Poison
from mithridate.poisonset import PoisonSet


@dataclass(frozen=True, kw_only=True)
class Setup:
    """One trial of the benchmark: which test image is to be called what, and which training images may be changed."""

    target_class: int
    """Class of the target."""
    target_index: int
    """Row of the target in the test set."""
    base_class: int
    """Class of the bases, which is what the target is to be called."""
    base_indices: tuple[int, ...]
    """Rows of the bases in the training set, in the order of the file, which may name one twice."""


def read_benchmark(folder: Path | str, *, train: Dataset) -> PoisonSet:
    """The poison in ``poisons.pickle``, ``base_indices.pickle`` and ``target.pickle``, written for ``train``.

    ``train`` is the whole clean training set, whose ids are the benchmark's indices. Images may be PIL images, uint8
    arrays or floats in [0, 1]. What the target is to be called is the label of the first poison, as in the benchmark.

    Raises :class:`FormatError` for a file that is missing, damaged or unsafe, and for poison that does not fit
    ``train``: other shapes, unknown ids, or labels other than those of the bases.
    """
    folder, space = Path(folder), train.space
    _check_images(folder, space)
    inputs, labels = _poisons(folder / "poisons.pickle", train)
    ids = _base_ids(folder / "base_indices.pickle", len(labels))
    last = sorted({index: place for place, index in enumerate(ids.tolist())}.values())
    try:
        base = train.rows(ids[last]).to("cpu")
        rows = Dataset(inputs=space.encode(inputs[last]), labels=labels[last], ids=ids[last], space=space)
        rows.checked()
    except DataError as error:
        raise FormatError(f"the poison in '{folder}' does not fit this training set: {error}") from error
    if not torch.equal(base.labels, rows.labels):
        row = int((base.labels != rows.labels).nonzero()[0])
        raise FormatError(
            f"the poison of base {int(rows.ids[row])} in '{folder}' is labelled {int(rows.labels[row])}, but that "
            f"training row is of class {int(base.labels[row])}; name the training set that was poisoned, in its "
            "original order"
        )
    aims, patch = _target(folder / "target.pickle", space, wanted=int(labels[0]))
    repeated = sorted(index for index, times in Counter(ids.tolist()).items() if times > 1)
    details = {"source": "poisoning-benchmark pickles", "repeated_base_indices": repeated, "patch": patch}
    return PoisonSet(poison=Poison(rows=rows), base=base, aims=aims, manifest={"details": details})


def is_for(folder: Path | str, aims: Aims, *, train: Dataset) -> bool:
    """Whether the poison in the three pickles is for these aims: one target, to within one of 256 levels, and its wish.

    Of a poison for another target only ``target.pickle`` is read. Raises :class:`FormatError` for a file that is
    missing, damaged or unsafe, or holds no image of this shape.
    """
    folder = Path(folder)
    _check_images(folder, train.space)
    image, _, _ = _target_image(folder / "target.pickle", train.space)
    if len(aims) != 1 or aims.wanted is None or float((image - aims.inputs[0].cpu()).abs().max()) > 1.5 / 255:
        return False
    path = folder / "poisons.pickle"
    return _label(_pairs(path, train)[0], 0, path) == int(aims.wanted[0])


def read_setups(path: Path | str) -> tuple[Setup, ...]:
    """The benchmark's set-ups in a ``.json`` file or, as published, in a ``.pickle``. Raises :class:`FormatError`."""
    path = Path(path)
    if path.suffix != ".json":
        return _setups(read_pickle(path), path.name)
    try:
        return _setups(json.loads(path.read_bytes()), path.name)
    except OSError as error:
        raise FormatError(f"cannot read '{path}': {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(f"'{path}' is no JSON ({error})") from error


def benchmark_setups(which: Literal["scratch", "transfer"]) -> tuple[Setup, ...]:
    """The 100 published CIFAR-10 set-ups for training from scratch (500 bases) or transfer learning (25 bases)."""
    name = f"benchmark-{which}.json"
    return _setups(json.loads(resources.files("mithridate.presets").joinpath(name).read_bytes()), name)


def _poisons(path: Path, train: Dataset) -> tuple[Tensor, Tensor]:
    """Inputs ``(N, *shape)`` in natural units and labels ``(N,)``: the file is a list of pairs."""
    pairs = _pairs(path, train)
    shape = train.space.shape
    images = [_image(pair[0], shape, f"the image of poison {row} in '{path}'") for row, pair in enumerate(pairs)]
    return torch.stack(images), torch.tensor([_label(pair, row, path) for row, pair in enumerate(pairs)])


def _pairs(path: Path, train: Dataset) -> list[tuple[Any, Any]]:
    """The pairs of image and label in a file, at least one and at most as many as there are training rows."""
    pairs = read_pickle(path)
    if not isinstance(pairs, list) or not 0 < len(pairs) <= len(train):
        raise FormatError(f"'{path}' holds no list of 1 to {len(train)} poisons (the size of the training set)")
    for row, pair in enumerate(pairs):
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise FormatError(f"poison {row} in '{path}' is no pair of image and label")
    return pairs


def _label(pair: tuple[Any, Any], row: int, path: Path) -> int:
    return _integer(pair[1], f"the label of poison {row} in '{path}'")


def _base_ids(path: Path, count: int) -> Tensor:
    ids = _integers(read_pickle(path), f"'{path}'")
    if len(ids) != count:
        raise FormatError(f"'{path}' names {len(ids)} bases, but there are {count} poisons")
    return torch.tensor(ids)


def _check_images(folder: Path, space: Space) -> None:
    if len(space.shape) != 3 or space.bounds != (0.0, 1.0):
        raise FormatError(
            f"'{folder}' holds images in [0, 1], but the training set has {space.shape} in {space.bounds}"
        )


def _target(path: Path, space: Space, *, wanted: int) -> tuple[Aims, dict[str, Any] | None]:
    """What is judged, and the patch that the target carries, if any."""
    image, label, patch = _target_image(path, space)
    if max(label, wanted) >= space.num_classes or label == wanted:
        raise FormatError(
            f"the target in '{path}' is of class {label} and the first poison of class {wanted}, but they must be two "
            f"classes of 0..{space.num_classes - 1}"
        )
    aims = Aims(inputs=image.unsqueeze(0), labels=torch.tensor([label]), wanted=torch.tensor([wanted]))
    return aims, patch


def _target_image(path: Path, space: Space) -> tuple[Tensor, int, dict[str, Any] | None]:
    """The target as it can be stored, patched if the file says so, its label, and the place of the patch.

    The file holds ``(image, label)`` or ``(image, label, patch, [x, y])``.
    """
    parts = read_pickle(path)
    if not isinstance(parts, tuple) or len(parts) not in (2, 4):
        raise FormatError(f"'{path}' is no (image, label) and no (image, label, patch, [x, y])")
    image, label = (
        _image(parts[0], space.shape, f"the target in '{path}'"),
        _integer(parts[1], f"the label in '{path}'"),
    )
    patch = None
    if len(parts) == 4:
        image, patch = _patched(image, parts[2], parts[3], f"the patch in '{path}'")
    return space.quantise(image), label, patch


def _patched(image: Tensor, patch: Any, corner: Any, what: str) -> tuple[Tensor, dict[str, Any]]:
    """``image`` ``(C, H, W)`` with a ``(C, p, p)`` patch whose top left pixel is at column x, row y."""
    x, y, *more = [*_integers(corner, f"the place of {what}"), -1, -1]
    values = patch.values if isinstance(patch, Pixels) else np.zeros(0)
    shape = (image.shape[0], *values.shape[1:])
    if (
        len(more) != 2
        or values.ndim != 3
        or not values.size
        or x + shape[2] > image.shape[2]
        or y + shape[1] > image.shape[1]
    ):
        raise FormatError(f"{what} must have {len(image)} channels and lie inside the image of {tuple(image.shape)}")
    patched = image.clone()
    patched[:, y : y + shape[1], x : x + shape[2]] = _image(patch, shape, what)
    return patched, {"size": list(shape[1:]), "corner": [x, y]}


def _image(found: Any, shape: tuple[int, ...], what: str) -> Tensor:
    """``(C, H, W)`` float32 in [0, 1]: PIL images have their channels last, arrays first or last."""
    if not isinstance(found, Pixels):
        raise FormatError(f"{what} is no image, array or tensor")
    values = found.values
    if values.ndim == 2:
        values = values[..., None] if found.image else values[None]
    if found.image or values.shape != shape:
        values = np.moveaxis(values, -1, 0) if values.ndim == 3 else values
    if values.shape != shape:
        raise FormatError(f"{what} has shape {found.values.shape}, but it must have {shape}")
    if values.dtype == np.uint8:
        return torch.from_numpy(values.astype(np.float32)) / 255
    if values.dtype.kind != "f" or not bool(((values >= 0) & (values <= 1)).all()):
        raise FormatError(
            f"{what} holds {values.dtype.name} from {float(values.min()):g} to {float(values.max()):g}, but must be "
            "uint8 or floats in [0, 1]; undo the normalisation first"
        )
    return torch.from_numpy(values.astype(np.float32))


def _integer(found: Any, what: str) -> int:
    values = found.values.ravel().tolist() if isinstance(found, Pixels) and found.values.size == 1 else [found]
    return _integers(values, what)[0]


def _integers(found: Any, what: str) -> list[int]:
    """A list, tuple or flat array of integers that are valid as row or class numbers."""
    if isinstance(found, Pixels) and found.values.ndim == 1:
        found = found.values.tolist()
    if not isinstance(found, (list, tuple)) or not all(type(each) is int and 0 <= each < 2**63 for each in found):
        raise FormatError(f"{what} must hold whole numbers from 0")
    return list(found)


def _setups(found: Any, name: str) -> tuple[Setup, ...]:
    if not isinstance(found, list) or not found:
        raise FormatError(f"'{name}' holds no list of set-ups")
    return tuple(_setup(each, f"set-up {place} in '{name}'") for place, each in enumerate(found))


def _setup(found: Any, what: str) -> Setup:
    keys = ("target class", "target index", "base class", "base indices")
    missing = [key for key in keys if not isinstance(found, dict) or key not in found]
    if missing:
        raise FormatError(f"{what} lacks '{missing[0]}'")
    target, index, base = (_integer(found[key], f"'{key}' of {what}") for key in keys[:3])
    bases = _integers(found[keys[3]], f"'{keys[3]}' of {what}")
    if target == base or not bases:
        raise FormatError(f"{what} needs a base class other than the target's and at least one base index")
    return Setup(target_class=target, target_index=index, base_class=base, base_indices=tuple(bases))
