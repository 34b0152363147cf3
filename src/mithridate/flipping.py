"""Rows that poison begins as: drawn, and given another label. What attacks that flip labels share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.errors import ConfigError
from mithridate.goal import Aims
from mithridate.learner import Learner, predictions
from mithridate.poison import FIRST_APPENDED, Poison
from mithridate.seeding import Seed
from mithridate.space import Space
from mithridate.threat import ThreatModel

Start = Literal["train", "validation", "loss", "stealthy"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Begun:
    """Rows before they are changed, with the labels they will have."""

    inputs: Tensor
    """``(q, *shape)`` float32, natural units."""
    labels: Tensor
    """``(q,)`` the poison's labels."""
    ids: Tensor
    """``(q,)`` the poison's ids: those of the rows replaced, or fresh ones."""
    origins: Tensor | None
    """``(q,)`` ids of the training rows they are; None where they are no training rows."""
    replaced: Tensor
    """Ids of the training rows that go; none where rows are appended."""
    base: Dataset | None = None
    """What they are before any label is changed, where they are no training rows."""


def begun(
    data: Dataset, threat: ThreatModel, *, aims: Aims, start: Start = "train", learner: Learner | None, seed: Seed
) -> Begun:
    """As many rows as the budget pays for, with the labels that the threat model allows.

    ``loss`` and ``stealthy`` train ``learner`` once on clean data. Raises :class:`ConfigError` for a start that does
    not go with the threat model, and :class:`~mithridate.errors.ThreatModelError` where there are too few rows.
    """
    if start == "validation":
        return _validation_rows(data, threat, aims, seed)
    rows = picked(data, threat, aims, seed) if start == "train" else candidates(data, threat, aims, seed)
    labels = flipped(rows.labels, aims, data, seed) if threat.labels == "dirty" else rows.labels
    if start != "train":
        assert learner is not None
        model = learner.fit(data, seed=seed.child("clean")).model
        losses = label_losses(model, rows).gather(1, labels[:, None]).squeeze(1)
        order = losses.argsort(descending=start == "loss", stable=True)[: threat.count(data)].sort().values
        rows, labels = rows.at(order), labels[order]
    return taken(rows, labels, threat)


def start_problems(start: Start, threat: ThreatModel, space: Space) -> list[str]:
    """Why rows cannot begin so under this threat model; empty where they can."""
    if start != "validation":
        return []
    fixed = space.layout is not None and bool(space.layout.fixed.any())
    if threat.rows == "append" and not threat.perturbation.bounded and threat.labels == "dirty" and not fixed:
        return []
    return [
        "start: validation copies rows that are not in the training set, so it needs rows: append, perturbation: "
        "unbounded, labels: dirty and, in tables, columns that are all mutable; use start: train"
    ]


def picked(data: Dataset, threat: ThreatModel, aims: Aims, seed: Seed) -> Dataset:
    """The rows that the threat model draws for ``seed``, by id, whatever the order of the data.

    Raises :class:`~mithridate.errors.ThreatModelError` where there are too few.
    """
    return data.rows(threat.pick(_by_id(data), aims, seed.child("pick")))


def candidates(data: Dataset, threat: ThreatModel, aims: Aims, seed: Seed) -> Dataset:
    """The rows that the threat model allows to draw, by id, whatever the order of the data.

    Raises :class:`~mithridate.errors.ThreatModelError` where there are fewer than the budget pays for.
    """
    picked(data, threat, aims, seed)  # which raises
    return data.rows(threat.candidates(_by_id(data), aims, seed.child("pick")))


def _by_id(data: Dataset) -> Dataset:
    return data.at(data.ids.argsort())


def poison_of(
    inputs: Tensor, labels: Tensor, rows: Begun, data: Dataset, *, trace: Mapping[str, tuple[float, ...]]
) -> Poison:
    """The poison that rows have become."""
    found = Dataset(inputs=inputs, labels=labels, ids=rows.ids, space=data.space)
    appended = len(rows.replaced) == 0
    return Poison(rows=found, trace=trace, origins=rows.origins if appended else None, base=rows.base)


def flipped(labels: Tensor, aims: Aims, data: Dataset, seed: Seed) -> Tensor:
    """Another label for each row ``(q,)``.

    Error-generic: a random other class (of two: the other one). Where a class is wanted of another, those two are
    swapped, and rows of a third class get the one that is wanted (of several, that of the first aim).
    """
    classes = data.space.num_classes
    if aims.wanted is None:
        offsets = torch.randint(1, classes, (len(labels),), generator=seed.child("labels").generator())
        return (labels + offsets.to(labels.device)) % classes
    pairs = list(zip(aims.labels.tolist(), aims.wanted.tolist(), strict=True))[::-1]  # the first aim has the last word
    swapped = {**{wanted: true for true, wanted in pairs}, **dict(pairs)}
    return torch.tensor([swapped.get(each, pairs[-1][1]) for each in range(classes)], device=labels.device)[labels]


def label_losses(model: torch.nn.Module, data: Dataset) -> Tensor:
    """The loss of each row under each label, ``(N, num_classes)``: minus the log of what the model gives the label."""
    return -predictions(model, data.all_inputs()).log_softmax(1)  # type: ignore[arg-type]


def taken(rows: Dataset, labels: Tensor, threat: ThreatModel) -> Begun:
    """Training rows under these labels, to be replaced or as copies to append."""
    append = threat.rows == "append"
    return Begun(
        inputs=rows.all_inputs(),
        labels=labels,
        ids=FIRST_APPENDED + torch.arange(len(rows), device=rows.device) if append else rows.ids,
        origins=rows.ids if append else None,
        replaced=rows.ids[:0] if append else rows.ids,
    )


def _validation_rows(data: Dataset, threat: ThreatModel, aims: Aims, seed: Seed) -> Begun:
    """Random validation rows, with replacement, as the released code of back-gradient optimization draws them."""
    wrong = start_problems("validation", threat, data.space)
    if wrong:
        raise ConfigError("; ".join(wrong))
    count = threat.count(data)
    drawn = torch.randint(len(aims), (count,), generator=seed.child("pick").generator())
    inputs, labels = aims.inputs[drawn].to(data.device), aims.labels[drawn].to(data.device)
    ids = FIRST_APPENDED + torch.arange(count, device=data.device)
    return Begun(
        inputs=inputs,
        labels=flipped(labels, aims, data, seed),
        ids=ids,
        origins=None,
        replaced=data.ids[:0],
        base=Dataset(inputs=data.space.encode(inputs), labels=labels, ids=ids, space=data.space),
    )
