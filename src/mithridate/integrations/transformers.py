"""EPIC as a callback of the Hugging Face Trainer; needs the ``transformers`` extra.

::

    epic = EPICTrainerCallback(EPIC(), labels=labels)
    Trainer(model, args, train_dataset=train, callbacks=[epic]).train()

It reads the trainer's own data set and collator, so that these must not augment at random (or hand over ``data``), and
puts its own sampler into the trainer's loader. All epochs keep their number of steps (see
:class:`~mithridate.integrations.sampler.GuardedSampler`). The state is in the trainer's checkpoints, in
``trainer_state.json``; a training resumed from one equals one that never stopped.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset

from mithridate.defenses.epic import EPIC
from mithridate.errors import ConfigError, DataError, FormatError, MissingExtraError
from mithridate.integrations.loop import Guard, Reading, as_logits
from mithridate.integrations.sampler import GuardedSampler, unweighted
from mithridate.ops.confidence import softmax
from mithridate.settings import fingerprint

try:
    from transformers import (  # type: ignore[import-not-found, unused-ignore]
        TrainerCallback,
        TrainerControl,
        TrainerState,
        TrainingArguments,
    )
except ImportError as error:
    raise MissingExtraError("EPICTrainerCallback", "transformers") from error

STATE = "mithridate-epic"
"""Where the state is kept among the trainer's."""


class EPICTrainerCallback(TrainerCallback):  # type: ignore[misc, unused-ignore]
    """Keeps rows out of a training of the Hugging Face Trainer that EPIC finds isolated."""

    def __init__(
        self,
        defense: EPIC,
        *,
        labels: Tensor | Sequence[int],
        data: Dataset[Any] | None = None,
        last_drop: int | None = None,
        ids: Tensor | Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        """Guard the rows of the trainer's data set, ``labels`` ``(N,)``, by the logits that the model returns.

        ``data`` are the same rows without augmentation, read through the trainer's collator; None: those of the
        trainer. ``last_drop`` and ``ids`` are as in :class:`~mithridate.integrations.loop.Guard`; ``seed`` decides the
        order of the rows. Raises :class:`ConfigError` for ``use_bias=False`` and ``weighted``, which it cannot
        follow.
        """
        self.defense = unweighted(defense, type(self).__name__)
        if not defense.use_bias:
            raise ConfigError("EPICTrainerCallback takes the probabilities that the model gives: set use_bias=True")
        self.labels, self.data, self.last_drop, self.ids, self.seed = labels, data, last_drop, ids, seed
        self.guard: Guard | None = None
        """Who chooses, and what was dropped so far; made anew for each training."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Take the place of the loader's sampler; go on from a state, where there is one.

        Raises :class:`ConfigError` for several processes or a loader without a batch sampler.
        """
        if args.world_size > 1:
            raise ConfigError(f"EPICTrainerCallback works in one process, but there are {args.world_size}")
        epochs = math.ceil(state.num_train_epochs)
        self.guard = Guard(self.defense, self.labels, epochs=epochs, last_drop=self.last_drop, ids=self.ids)
        if STATE in state.stateful_callbacks:
            _restore(self.guard, state.stateful_callbacks[STATE])
        batches = given["train_dataloader"].batch_sampler
        if not isinstance(batches, BatchSampler):
            raise ConfigError(f"the trainer's loader has no batch sampler to draw rows from, but {batches!r}")
        batches.sampler = GuardedSampler(self.guard, seed=self.seed)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **given: Any
    ) -> None:
        """Hold a round, where one is due."""
        assert self.guard is not None  # on_train_begin made it
        model, loader = given["model"], given["train_dataloader"]
        rows: DataLoader[Any] = DataLoader(
            loader.dataset if self.data is None else self.data, collate_fn=loader.collate_fn
        )
        epoch = math.floor((state.epoch or 0) + 1e-6)  # a sum of fractions
        self.guard.advance(epoch, model, rows, lambda batch: _reading(model, batch))
        state.stateful_callbacks[STATE] = _plain(self.guard)


def _plain(guard: Guard) -> dict[str, Any]:
    """The state of a guard as JSON knows it; the ids as a hash, and no weights, which are all 1."""
    kept = {name: each.tolist() for name, each in guard.state_dict().items() if name not in ("ids", "weights")}
    return {**kept, "ids": fingerprint(guard.ids)}


def _restore(guard: Guard, kept: Mapping[str, Any]) -> None:
    """Go on from such a state."""
    if kept["ids"] != fingerprint(guard.ids):
        raise FormatError("the trainer's checkpoint belongs to other rows: their ids are not those guarded")
    fresh = guard.state_dict()
    stored = {name: torch.tensor(value, dtype=fresh[name].dtype) for name, value in kept.items() if name != "ids"}
    guard.load_state_dict({**fresh, **stored})


def _reading(model: nn.Module, batch: Any) -> Reading:
    """What a model says of a batch ``{"labels": ..., ...}``."""
    if not isinstance(batch, Mapping) or "labels" not in batch:
        raise DataError("the trainer's collator must give a mapping with 'labels', but gives none")
    device = next((each.device for each in model.parameters()), torch.device("cpu"))
    inputs = {key: each.to(device) for key, each in batch.items() if isinstance(each, Tensor) and key != "labels"}
    found = model(**inputs)
    logits = found["logits"] if isinstance(found, Mapping) else found
    return Reading(softmax(as_logits(logits)), batch["labels"])
