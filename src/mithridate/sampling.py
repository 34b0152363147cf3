"""The rows of a trial: what its victims train on, what its attacker holds out, and what its attacker has of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.errors import ConfigError
from mithridate.seeding import Seed


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """Parts of a source's training rows that share no row, each in the order of the source."""

    train: Dataset
    """What victims train on."""
    validation: Dataset | None = None
    """What the attacker holds out."""
    own: Dataset | None = None
    """What an attacker crafts on who does not know ``train``."""


def parts(
    data: Dataset,
    *,
    size: int = 0,
    validation: int = 0,
    own: int = 0,
    at_random: bool = False,
    base_ids: Sequence[int] = (),
    seed: Seed,
) -> Parts:
    """``size`` training rows (0: all that are left), ``validation`` rows and ``own`` rows, drawn from ``data``.

    Training rows are drawn uniformly where they are ``at_random`` (then no base rows are fixed), and else chosen by
    :func:`training_part` from all but the validation rows, which hold no base row. Validation and own rows are drawn
    uniformly. Where a draw of training rows lacks a class, one row of it takes the place of a row whose class has more
    than one; the other two parts do so too as far as the rows left allow. Neither training nor validation rows depend
    on whether there are own rows.

    Raises :class:`ConfigError` where there are too few rows.
    """
    if not (validation or own or (at_random and size)):
        return Parts(train=training_part(data, size=size, base_ids=base_ids))
    fixed = torch.isin(data.ids.cpu(), torch.tensor(base_ids, dtype=torch.int64))
    _check_sizes(data, size=size, validation=validation, own=own, fixed=int(fixed.sum()))
    labels, order = data.labels.cpu(), torch.randperm(len(data), generator=seed.generator())
    if at_random and size:
        assert not base_ids, "training rows drawn at random hold no base rows of anybody's choice"
        train, rest = _drawn(labels, order, size)
        held, rest = _drawn(labels, rest.flip(0), validation)
    else:
        order = order[~fixed[order]]
        left, held = _drawn(labels, order, len(order) - validation)
        whole = _at(data, torch.cat([left, fixed.nonzero().flatten()]))
        train = data.positions(training_part(whole, size=size, base_ids=base_ids).ids).cpu()
        rest = left[~torch.isin(left, train)]
    own_rows, _ = _drawn(labels, rest, own)
    return Parts(
        train=_at(data, train),
        validation=_at(data, held) if validation else None,
        own=_at(data, own_rows) if own else None,
    )


def _at(data: Dataset, places: Tensor) -> Dataset:
    """The rows at these positions, in the order of the data."""
    return data.at(places.sort().values.to(data.device))


def _drawn(labels: Tensor, order: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first ``count`` positions of ``order``, and the rest, so exchanged that the first hold every class.

    Of each class that is missing, in order, the first row of the rest changes places with the last row drawn whose
    class has another one; where there is none, the class stays missing.
    """
    drawn, rest = order[:count].clone(), order[count:].clone()
    counts = torch.bincount(labels[drawn], minlength=int(labels.max()) + 1)
    for label in sorted(set(labels[rest].tolist()) - set(labels[drawn].tolist())):
        spare = (counts[labels[drawn]] > 1).nonzero().flatten()
        if not len(spare):
            break
        leaving, coming = int(spare[-1]), int((labels[rest] == label).nonzero()[0])
        counts[labels[drawn[leaving]]] -= 1
        counts[label] += 1
        drawn[leaving], rest[coming] = rest[coming].clone(), drawn[leaving].clone()
    return drawn, rest


def _check_sizes(data: Dataset, *, size: int, validation: int, own: int, fixed: int) -> None:
    """Refuse to draw more rows than there are, and fewer to train on than there are classes."""
    asked = {f"training_rows of {size}": size} if size else {f"{fixed} base rows": fixed}
    asked |= {f"{validation} validation rows": validation, f"{own} rows of the attacker's own": own}
    total, classes = sum(asked.values()), len(torch.unique(data.labels))
    if total > len(data):
        *first, last = (name for name, count in asked.items() if count)
        listed = f"{', '.join(first)} and {last}" if first else last
        raise ConfigError(f"{listed} ask for {total} rows, but there are {len(data)}")
    left = size or len(data) - validation - own
    if left < classes:
        source = f"training_rows of {size}" if size else f"the {left} rows that validation rows leave to train on"
        raise ConfigError(f"{source} cannot hold a row of each of the {classes} classes")


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
