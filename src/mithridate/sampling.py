"""The part of a training set that a victim trains on, where it is not all of it."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mithridate.dataset import Dataset
from mithridate.errors import ConfigError


def training_part(data: Dataset, *, size: int, base_ids: Sequence[int] = ()) -> Dataset:
    """The first rows of each class, equally many, with the base rows of a trial among them; all rows for ``size`` 0.

    The rule of the poisoning benchmark's transfer track (Schwarzschild et al. 2021, https://arxiv.org/abs/2006.12557,
    whose text calls the rows random, while its code takes the first ones): of each class the first n / C training rows
    by id that are no base rows, less one in the base class for each base row, and then the base rows. Raises
    :class:`ConfigError` where a class has too few rows, or ``size`` is no multiple of the number of classes.
    """
    if not size:
        return data
    each, rest = divmod(size, data.space.num_classes)
    if rest or not each:
        raise ConfigError(f"training_rows must be a multiple of the {data.space.num_classes} classes, but it is {size}")
    ids = data.ids.sort()
    labels, bases = data.labels[ids.indices], torch.tensor(sorted(set(base_ids)), dtype=torch.int64, device=data.device)
    is_base = torch.isin(ids.values, bases)
    kept = is_base.clone()
    for label in range(data.space.num_classes):
        members = labels == label
        wanted = each - int((members & is_base).sum())
        free = (members & ~is_base).nonzero().flatten()
        if wanted < 0 or len(free) < wanted:
            raise ConfigError(
                f"training_rows of {size} asks for {each} rows of class '{data.space.name(label)}', which has "
                f"{int(members.sum())} rows, {int((members & is_base).sum())} of them base rows"
            )
        kept[free[:wanted]] = True
    return data.at(ids.indices[kept])
