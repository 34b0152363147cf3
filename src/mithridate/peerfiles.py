"""Writer of the poisoning benchmark's three pickles, so that poison made here can be judged there.

Schwarzschild et al., "Just How Toxic is Data Poisoning?", ICML 2021, https://arxiv.org/abs/2006.12557; format in
``how_to.md`` of https://github.com/aks2203/poisoning-benchmark. The only pickles that are ever written here; they hold
PIL images and plain numbers, and :func:`~mithridate.peers.read_benchmark` reads them back without running them.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from mithridate.dataset import Dataset, Space
from mithridate.errors import FormatError, StoreError
from mithridate.goal import Aims
from mithridate.placing import place
from mithridate.poisonset import PoisonSet

_PROTOCOL = 4
"""Of the benchmark's own files, for readers as old as Python 3.4."""


def write_benchmark(folder: Path | str, poison_set: PoisonSet) -> Path:
    """Write a poison set as the benchmark's three pickles, whole or not at all, and return its folder.

    =======================  =================================================================================
    ``poisons.pickle``       list of ``(image, label)``, in the order of the rows
    ``base_indices.pickle``  list of their ids, which the benchmark takes for places in the training set
    ``target.pickle``        ``(image, label)``: the target as it is judged, and its true class
    =======================  =================================================================================

    Images are PIL images, 8 bits a channel, unchanged. Raises :class:`FormatError` for what the format cannot hold:
    other data than 8-bit images in one or three channels, appended or relabelled rows, none, a trigger, more than one
    target, or a wanted class other than that of the poison, which is where the benchmark reads it. Raises
    :class:`StoreError` where the folder exists already or cannot be written.
    """
    rows, base, aims = poison_set.poison.rows.to("cpu"), poison_set.base, poison_set.aims
    _check_space(rows.space)
    _check_rows(rows, base, appended=poison_set.poison.origins is not None)
    _check_aims(aims, wanted=int(rows.labels[0]))
    images, targets = _pictures(rows.inputs, rows.space, "poison"), _pictures(aims.inputs, rows.space, "target")
    contents = {
        "poisons": list(zip(images, rows.labels.tolist(), strict=True)),
        "base_indices": rows.ids.tolist(),
        "target": (targets[0], int(aims.labels[0])),
    }
    try:
        if Path(folder).exists():
            raise StoreError(f"'{folder}' exists already; choose a new folder")
        place(Path(folder), {f"{name}.pickle": pickle.dumps(each, _PROTOCOL) for name, each in contents.items()})
    except OSError as error:
        raise StoreError(
            f"cannot write the poison set '{folder}': {error.strerror or error}; free space or choose another folder"
        ) from error
    return Path(folder)


def _check_space(space: Space) -> None:
    """Refuse what is no 8-bit image of a kind that the files know."""
    if len(space.shape) != 3 or space.shape[0] not in (1, 3) or space.bounds != (0.0, 1.0) or space.levels != 256:
        raise FormatError(
            "the benchmark's format holds images of 1 or 3 channels in [0, 1] with 256 levels, but these rows have "
            f"shape {space.shape}, bounds {space.bounds} and {space.levels or 'no'} levels; export a poison set instead"
        )


def _check_rows(rows: Dataset, base: Dataset | None, *, appended: bool) -> None:
    """Refuse poison that is more than other images in the place of training rows."""
    if base is None or appended:
        raise FormatError("this poison appends rows, but in the benchmark's format every poison replaces a base row")
    if not len(rows):
        raise FormatError("this poison has no rows, but the benchmark's format tells the class wanted by the first one")
    changed = rows.labels != base.labels.cpu()
    if bool(changed.any()):
        row = int(changed.nonzero()[0])
        raise FormatError(
            f"the poison of row {int(rows.ids[row])} has another label than its base, but the benchmark's format is "
            "for clean labels"
        )


def _check_aims(aims: Aims, *, wanted: int) -> None:
    """Refuse goals other than one target called what the poison is called."""
    if aims.trigger is not None:
        raise FormatError("this poison is judged with a trigger, but the target is written as it is, without one")
    if len(aims) != 1:
        raise FormatError(f"the benchmark's format holds one target, but this poison is judged on {len(aims)}")
    if aims.wanted is None or int(aims.wanted[0]) != wanted:
        found = "any wrong class" if aims.wanted is None else f"class {int(aims.wanted[0])}"
        raise FormatError(
            f"{found} is wanted of the target, but the benchmark reads the class wanted from the poison: {wanted}"
        )


def _pictures(inputs: Tensor, space: Space, what: str) -> list[Image.Image]:
    """Images from ``(N, C, H, W)``, stored or in natural units, none of them changed by a bit."""
    codes = space.encode(space.decode(inputs)).cpu()
    if not torch.equal(space.decode(codes), space.decode(inputs).cpu()):
        raise FormatError(f"the {what} lies between the 256 levels of an image and would be rounded; quantise it first")
    last = codes.permute(0, 2, 3, 1).squeeze(3) if space.shape[0] == 1 else codes.permute(0, 2, 3, 1)
    return [Image.fromarray(each.contiguous().numpy()) for each in last]
