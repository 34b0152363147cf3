"""EPIC in a training loop of one's own: before each epoch a guard says which rows to train on.

::

    guard = Guard(EPIC(), labels=labels, epochs=40)
    for epoch in range(40):
        keep = guard.update(epoch, model, rows)        # rows: (x, y) without random augmentation
        loader = DataLoader(Subset(train, keep.tolist()), batch_size=128, shuffle=True)
        ...                                             # train one epoch

Its state goes into a checkpoint beside those of model and optimiser: ``guard.state_dict()``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mithridate.defenses.epic import EPIC, workers
from mithridate.errors import ConfigError, DataError, FormatError, ModelError
from mithridate.learner import Removal
from mithridate.model import Classifier
from mithridate.models.wrapped import wrap
from mithridate.ops.confidence import confidences, evaluating, softmax

_TWICE = 8
"""Rows read twice, to see whether reading is random: a flip shows in all but one of 256 cases."""


class Reading(NamedTuple):
    """Rows of the user's data and what the network says of them."""

    probabilities: Tensor
    """``(n, C)`` float32."""
    labels: Tensor
    """``(n,)`` int64."""


Reader = Callable[[Any], Reading]
"""From a batch as the user's loader makes it."""


class Guard:
    """Chooses the rows of one training, by EPIC. Its lists only ever shrink; make a new one for each training."""

    def __init__(
        self,
        defense: EPIC,
        labels: Tensor | Sequence[int],
        *,
        epochs: int,
        last_drop: int | None = None,
        ids: Tensor | Sequence[int] | None = None,
        head: str | None = None,
    ) -> None:
        """Guard rows with ``labels`` ``(N,)``, classes from 0, in a training of ``epochs``.

        ``last_drop`` is the number of epochs done when your learning rate falls for the last time; leave it out where
        it falls smoothly or never. ``ids`` ``(N,)`` name the rows in :attr:`removals` and decide ties; positions, where
        none are given. ``head`` is the dotted name of the last layer, needed for ``use_bias=False`` alone.

        Raises :class:`DataError` for labels or ids that name no rows.
        """
        self.defense = defense
        self.labels = torch.as_tensor(labels).to("cpu", copy=True)
        self.ids = torch.arange(len(self.labels)) if ids is None else torch.as_tensor(ids).to("cpu", copy=True)
        _check(self.labels, self.ids)
        self.head = head
        self.rounds = defense.rounds(epochs, last_drop)
        self.epoch = -1
        """The epoch of the last :meth:`update`; -1 before the first."""
        self.removals: list[Removal] = []
        """What was dropped so far, a round each, with the epoch, the ids (most isolated first) and the seconds."""
        self.active = torch.ones(len(self.labels), dtype=torch.bool)
        """``(N,)`` bool: which rows are still trained on."""
        self.weights = torch.ones(len(self.labels))
        """``(N,)`` float32: what to multiply each row's loss by, for a defense that is ``weighted``; else 1."""

    @property
    def keep(self) -> Tensor:
        """Positions of the rows to train on, ``(n,)`` int64, ascending."""
        return self.active.nonzero()[:, 0]

    def update(self, epoch: int, model: nn.Module, data: Dataset[Any] | DataLoader[Any]) -> Tensor:
        """Positions of the rows to train on in ``epoch``, ``(n,)`` int64, ascending; to be called before it.

        ``epoch`` is the number of epochs done, 0 for the first. Where a round is due, all rows are passed through
        ``model`` (``model(x)`` gives logits) in evaluation mode; modes are restored, randomness is left alone. ``data``
        holds them in the order of ``labels`` and gives ``(x, y)``: a map-style data set, or a loader around one, whose
        order and sampler are ignored. It must read without random augmentation.

        Raises :class:`ConfigError` for an epoch before the last one, :class:`DataError` where data and labels do not
        belong together or reading is random, :class:`ModelError` for a network whose output is no finite logits.
        """
        return self.advance(epoch, model, data, self._reader(model))

    def advance(self, epoch: int, model: nn.Module, data: Dataset[Any] | DataLoader[Any], read: Reader) -> Tensor:
        """As :meth:`update`, with batches of another form: ``read`` takes one, and is called in evaluation mode."""
        if epoch < self.epoch:
            raise ConfigError(
                f"epoch {epoch} comes after epoch {self.epoch}: a guard belongs to one training; make a new one, or go "
                "back with load_state_dict"
            )
        if epoch > self.epoch and epoch in self.rounds:
            self._round(epoch, model, data, read)
        self.epoch = epoch
        return self.keep

    def state_dict(self) -> dict[str, Tensor]:
        """Everything needed to go on, as tensors on the CPU."""
        return {
            "epoch": torch.tensor(self.epoch),
            "ids": self.ids.clone(),
            "weights": self.weights.clone(),
            "dropped": torch.cat([torch.zeros(0, dtype=torch.int64), *(each.ids for each in self.removals)]),
            "rounds": torch.tensor([(each.epoch, len(each.ids)) for each in self.removals], dtype=torch.int64),
            "seconds": torch.tensor([each.seconds for each in self.removals], dtype=torch.float64),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from a state. Raises :class:`FormatError` where it is not one of a guard of these rows."""
        lacking = self.state_dict().keys() - state.keys()
        if lacking:
            raise FormatError(f"this is no state of a guard: it lacks {', '.join(sorted(lacking))}")
        state = {name: value.cpu() for name, value in state.items()}
        if not torch.equal(state["ids"], self.ids):
            raise FormatError(f"this state belongs to other rows: {len(state['ids'])} ids, which are not those guarded")
        rounds = state["rounds"].reshape(-1, 2)  # epoch and number of rows of each
        parts = torch.split(state["dropped"], rounds[:, 1].tolist())
        self.removals = [
            Removal(by=self.defense.name, epoch=int(epoch), ids=ids.clone(), seconds=float(seconds))
            for epoch, ids, seconds in zip(rounds[:, 0], parts, state["seconds"], strict=True)
        ]
        self.epoch = int(state["epoch"])
        self.weights = state["weights"].clone()
        self.active = ~torch.isin(self.ids, state["dropped"])

    def _round(self, epoch: int, model: nn.Module, data: Dataset[Any] | DataLoader[Any], read: Reader) -> None:
        started = time.perf_counter()
        rows = self.defense.ground(self.ids, self.active)
        found = self._probabilities(model, data, rows, read)
        to = found.device
        choice = self.defense.chosen(
            found,
            rows=rows.to(to),
            labels=self.labels.to(to),
            ids=self.ids.to(to),
            active=self.active.to(to),
            workers=workers(to),
        )
        ids = choice.ids.cpu()
        seconds = time.perf_counter() - started
        self.removals.append(Removal(by=self.defense.name, epoch=epoch, ids=ids, seconds=seconds))
        self.active = self.active & ~torch.isin(self.ids, ids)
        if self.defense.weighted:
            self.weights = choice.weights.cpu()

    def _probabilities(
        self, model: nn.Module, data: Dataset[Any] | DataLoader[Any], rows: Tensor, read: Reader
    ) -> Tensor:
        """Softmax outputs ``(M, C)`` of the rows at positions ``rows`` ``(M,)``, in that order."""
        with evaluating(model):
            readings = [read(batch) for batch in self._loader(data, rows)]
        seen = torch.cat([each.labels.cpu() for each in readings])
        if seen.shape != rows.shape:
            raise DataError(f"{len(rows)} rows must give as many labels, but theirs have shape {tuple(seen.shape)}")
        wrong = (seen != self.labels[rows]).nonzero()[:, 0]
        if len(wrong):
            row = int(rows[wrong[0]])
            raise DataError(
                f"the data do not belong to the labels: row {row} has label {int(seen[wrong[0]])} in the data, but "
                f"{int(self.labels[row])} in the guard; hand over all rows, in the order of the labels"
            )
        return torch.cat([each.probabilities for each in readings])

    def _loader(self, data: Dataset[Any] | DataLoader[Any], rows: Tensor) -> DataLoader[Any]:
        """A loader that reads ``rows`` in that order, by way of the user's, where there is one."""
        collate: Callable[[list[Any]], Any] | None = None
        processes = 0
        if isinstance(data, DataLoader):
            collate, processes, data = data.collate_fn, data.num_workers, data.dataset
        _check_rows(data, len(self.labels))
        if not _alike(*(_read(data, rows[:_TWICE], collate) for _ in range(2))):
            raise DataError(
                "rows read twice are not the same; hand over the same data without random augmentation, as the network "
                "sees them when it is tested"
            )
        return _ordered(data, rows, self.defense.batch_size, collate, processes)

    def _reader(self, model: nn.Module) -> Reader:
        classifier = self._classifier(model)
        device = next((each.device for each in model.parameters()), torch.device("cpu"))

        def read(batch: Any) -> Reading:
            inputs, labels = _pair(batch)
            inputs = inputs.to(device)
            if classifier is not None:
                return Reading(confidences(classifier, inputs, use_bias=self.defense.use_bias), labels)
            return Reading(softmax(as_logits(model(inputs))), labels)

        return read

    def _classifier(self, model: nn.Module) -> Classifier | None:
        """``model`` in two parts, or None where they are not needed."""
        if self.defense.use_bias:
            return None
        if isinstance(model, Classifier):
            return model
        if self.head is None:
            raise ConfigError("use_bias=False needs to know the last layer: name it, Guard(..., head='fc')")
        return wrap(model, self.head)


def as_logits(found: Any) -> Tensor:
    """What a network returned, where that is logits ``(n, C)``. Raises :class:`ModelError` where it is not."""
    if not isinstance(found, Tensor) or found.ndim != 2:
        what = f"a tensor of shape {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {_kind(found)}"
        raise ModelError(f"the network must return logits of shape (n, C), but returns {what}")
    return found


def _ordered(
    data: Dataset[Any], rows: Tensor, size: int, collate: Callable[[list[Any]], Any] | None, processes: int = 0
) -> DataLoader[Any]:
    """Batches of ``rows`` in order; with a generator of its own, since a loader draws a number from the global one."""
    return DataLoader(
        data,
        batch_size=size,
        sampler=rows.tolist(),
        collate_fn=collate,
        num_workers=processes,
        generator=torch.Generator(),
    )


def _read(data: Dataset[Any], rows: Tensor, collate: Callable[[list[Any]], Any] | None) -> Any:
    """One batch of ``rows``."""
    return next(iter(_ordered(data, rows, len(rows), collate)))


def _alike(one: Any, other: Any) -> bool:
    """Whether two batches hold the same tensors."""
    if isinstance(one, Tensor):
        return one.shape == other.shape and bool(((one == other) | (one != one)).all())
    if isinstance(one, Mapping):
        return all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)):
        return all(_alike(mine, yours) for mine, yours in zip(one, other, strict=True))
    return True


def _pair(batch: Any) -> tuple[Tensor, Tensor]:
    """Inputs and labels of a batch."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2 or not isinstance(batch[0], Tensor):
        raise DataError(f"the data must give rows (x, y) with x a tensor, but a batch of them is a {_kind(batch)}")
    return batch[0], torch.as_tensor(batch[1])


def _kind(found: Any) -> str:
    inside = f" of {', '.join(type(each).__name__ for each in found)}" if isinstance(found, (tuple, list)) else ""
    return type(found).__name__ + inside


def _check_rows(data: Dataset[Any], count: int) -> None:
    if isinstance(data, IterableDataset) or not isinstance(data, Sized):
        raise DataError(f"rows must be found by their number and be counted, which a {_kind(data)} does not allow")
    if len(data) != count:
        raise DataError(f"the guard was given {count} labels, but the data have {len(data)} rows")


def _check(labels: Tensor, ids: Tensor) -> None:
    if labels.ndim != 1 or labels.dtype != torch.int64 or not len(labels) or int(labels.min()) < 0:
        shape = tuple(labels.shape)
        raise DataError(f"labels must be whole numbers from 0 on, (N,), but are {labels.dtype} of shape {shape}")
    if ids.shape != labels.shape or ids.dtype != torch.int64 or len(torch.unique(ids)) != len(ids):
        raise DataError(
            f"ids must be {len(labels)} different whole numbers, one a label, but are {ids.dtype} of shape "
            f"{tuple(ids.shape)} with {len(torch.unique(ids))} different ones"
        )
