"""A training seen from outside: what a change of the rows trained on does to a validation loss after it.

The two levels of bilevel poisoning (Muñoz-González et al. 2017, https://arxiv.org/abs/1708.08689): the outer one moves
rows, the inner one trains. Learners that can be differentiated so hand out a :class:`Bilevel`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from mithridate.dataset import Dataset
from mithridate.goal import Aims
from mithridate.learner import Learner
from mithridate.seeding import Seed

Method = Literal["stored", "checkpointed", "approximate-reversal", "implicit"]
"""How a hypergradient is computed; see :mod:`mithridate.ops.unroll`."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Steering:
    """A validation loss after training, and how it changes with the rows trained on."""

    value: float
    """Mean loss of the validation rows: against what is wanted of them, or against their true classes."""
    inputs: Tensor
    """``(q, *shape)`` float64 by the poison's inputs, natural units."""
    labels: Tensor
    """``(q, num_classes)`` by the poison's class probabilities; 0 unless asked for."""
    facts: Mapping[str, float] = field(default_factory=dict)
    """What the method reports (``drift``)."""


class Bilevel(ABC):
    """A training on clean rows and poison, judged on validation rows. Everything but the poison is fixed."""

    @abstractmethod
    def value(self, inputs: Tensor, labels: Tensor) -> float:
        """The validation loss after training with poison ``(q, *shape)`` and its labels ``(q,)``; q may be 0."""

    @abstractmethod
    def steering(
        self,
        inputs: Tensor,
        labels: Tensor,
        *,
        method: Method = "stored",
        last: int | None = None,
        by_labels: bool = False,
    ) -> Steering:
        """That loss with its derivatives by the poison. ``last`` cuts the way back to that many steps.

        Raises :class:`~mithridate.errors.ConfigError` for a method that this training does not have.
        """


class Averaged(Bilevel):
    """Several trainings as one: the mean of their validation losses, and of its derivatives."""

    def __init__(self, parts: Sequence[Bilevel]) -> None:
        """At least one."""
        self.parts = parts

    def value(self, inputs: Tensor, labels: Tensor) -> float:
        """The mean loss."""
        return sum(each.value(inputs, labels) for each in self.parts) / len(self.parts)

    def steering(
        self,
        inputs: Tensor,
        labels: Tensor,
        *,
        method: Method = "stored",
        last: int | None = None,
        by_labels: bool = False,
    ) -> Steering:
        """The means; of facts the greatest."""
        found = [each.steering(inputs, labels, method=method, last=last, by_labels=by_labels) for each in self.parts]
        return Steering(
            value=sum(each.value for each in found) / len(found),
            inputs=torch.stack([each.inputs for each in found]).mean(0),
            labels=torch.stack([each.labels for each in found]).mean(0),
            facts={name: max(each.facts[name] for each in found) for name in found[0].facts},
        )


class Unrollable(Learner):
    """A learner whose training can be differentiated by the rows it is trained on."""

    @abstractmethod
    def bilevel(self, clean: Dataset, aims: Aims, *, seed: Seed) -> Bilevel:
        """The training from ``seed`` on ``clean`` rows and poison, judged on ``aims``.

        Raises :class:`~mithridate.errors.ConfigError` for settings of the training that cannot be differentiated.
        """

    def bilevel_problems(self, method: Method = "stored", last: int | None = None) -> list[str]:
        """Why :meth:`bilevel`, or then :meth:`Bilevel.steering` by this method, would be refused; empty where not."""
        return []
