"""What was taken out of a training set or relabelled in it before training, and the training on what is left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset
from mithridate.errors import FormatError
from mithridate.learner import Hook, Learner, Progress, Removal, removals_of, removals_state
from mithridate.seeding import Seed


@dataclass(frozen=True, kw_only=True, eq=False)
class Relabelling:
    """Rows that are trained on under other labels than they were given."""

    ids: Tensor
    """``(n,)`` int64."""
    labels: Tensor
    """``(n,)`` int64: the new ones."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sifting:
    """What a defense made of a training set, before training; kept in the training's state, so that it is done once."""

    removal: Removal | None
    """The rows taken out; None for a defense that takes out none."""
    relabelling: Relabelling | None = None
    """The rows relabelled; None for a defense that relabels none."""
    reused: float = 0.0
    """Seconds of work for it that were found done."""

    @staticmethod
    def resumed(state: Checkpoint) -> Sifting:
        """That of the training which wrote ``state``. Raises :class:`FormatError` where it holds none."""
        try:
            removals, changed = removals_of(state.under("filter")), state.under("relabelled").tensors
            (removal,) = removals or (None,)
            relabelling = Relabelling(ids=changed["ids"], labels=changed["labels"]) if changed else None
            return Sifting(removal=removal, relabelling=relabelling, reused=float(state.facts["reused"]))
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError(
                "the state to resume from is not that of a training with a filter; train from the start, or with the "
                "defenses it was written with"
            ) from error

    def rest(self, data: Dataset) -> Dataset:
        """The rows to train on, in the order of ``data``."""
        if self.relabelling is not None:
            labels = data.labels.clone()
            labels[data.positions(self.relabelling.ids)] = self.relabelling.labels.to(labels.device)
            data = replace(data, labels=labels)
        return data.without(self.removal.ids) if self.removal else data

    def train(
        self, learner: Learner, data: Dataset, *, seed: Seed, hooks: Sequence[Hook], resume: Checkpoint | None
    ) -> Iterator[Progress]:
        """Train on the rest of ``data``, from the state of such a training or from the start."""
        inner = resume.under("inner") if resume else None
        for progress in learner.train(self.rest(data), seed=seed, hooks=hooks, resume=inner):
            yield self._told(progress)

    def _told(self, progress: Progress) -> Progress:
        """Progress of the training inside, with what was taken out or relabelled, and how to go on."""
        inner = progress.state

        def state() -> Checkpoint:
            assert inner is not None
            return Checkpoint(facts={"reused": self.reused}).joined(**self._parts(), inner=inner())

        return replace(
            progress,
            removals=((self.removal,) if self.removal else ()) + progress.removals,
            facts=self._facts(progress.facts),
            reused=progress.reused + self.reused,
            state=state if inner is not None else None,
        )

    def _parts(self) -> dict[str, Checkpoint]:
        parts = {"filter": removals_state([self.removal] if self.removal else [])}
        if self.relabelling is not None:
            tensors = {"ids": self.relabelling.ids, "labels": self.relabelling.labels}
            parts["relabelled"] = Checkpoint(tensors=tensors)
        return parts

    def _facts(self, inside: Mapping[str, float]) -> Mapping[str, float]:
        """What the training inside reports, and how many rows were relabelled, by defenses inside too."""
        if self.relabelling is None:
            return inside
        return {**inside, "relabelled": float(len(self.relabelling.ids)) + inside.get("relabelled", 0.0)}
