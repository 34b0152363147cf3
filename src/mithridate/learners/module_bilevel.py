"""The bilevel problem of any network trained by stochastic gradient descent: hypergradients through autograd."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from mithridate.bilevel import Bilevel, Method, Steering
from mithridate.dataset import Dataset
from mithridate.errors import ConfigError
from mithridate.goal import Aims
from mithridate.model import Classifier
from mithridate.ops.descent import Descent
from mithridate.ops.module_training import ModuleTraining, TensorRows
from mithridate.ops.scores import LOSSES
from mithridate.ops.unroll_module import ModuleMethod, module_hypergradient

_METHODS: dict[Method, ModuleMethod] = {"stored": "auto", "checkpointed": "checkpointed"}
"""All exact; where memory allows, one graph through all steps is the fastest."""


class ModuleBilevel(Bilevel):
    """A training of a network on clean rows and poison, as its mini-batches are drawn, in evaluation mode."""

    def __init__(
        self,
        *,
        model: Classifier,
        descent: Callable[[int], Descent],
        plan: Callable[[int], tuple[list[Tensor], list[float]]],
        clean: Dataset,
        aims: Aims,
    ) -> None:
        """``plan`` gives, for a number of rows, the positions of each step's rows and its share of the learning rate.

        Positions count the clean rows and then the poison. ``descent`` makes arithmetic of a number of steps; its
        penalty is for all parameters.
        """
        self.model, self.clean, self.classes = model.to(clean.device).eval(), clean, clean.space.num_classes
        self.descent, self.plan = descent, plan
        wanted = aims.labels if aims.wanted is None else aims.wanted
        self.validation = self._rows(aims.seen(), wanted)

    def value(self, inputs: Tensor, labels: Tensor) -> float:
        """The validation loss after training."""
        rows = self._with_clean(inputs, labels)
        batches, rates = self._planned(len(rows))
        descent = self.descent(len(batches))
        training = ModuleTraining(
            rows,
            model=self.model,
            losses=LOSSES["softmax"].value,
            descent=descent,
            chosen=slice(len(rows), None),
            labels=False,
            l2_on_all=True,
            rates=rates,
            batches=batches,
        )
        state, fixed = training.begun(), tuple(each.detach() for each in training.leaves())
        for number in range(descent.steps):
            after = training.stepped(number, state, training.seen(number, fixed), graph=False)
            state = tuple(each.detach().requires_grad_() for each in after)
        with torch.no_grad():
            return float(training.loss(state, training.brought(self.validation)))

    def steering(
        self,
        inputs: Tensor,
        labels: Tensor,
        *,
        method: Method = "stored",
        last: int | None = None,
        by_labels: bool = False,
    ) -> Steering:
        """One training and one way back."""
        wrong = method_problems(method, last)
        if wrong:
            raise ConfigError("; ".join(wrong))
        rows = self._with_clean(inputs, labels)
        batches, rates = self._planned(len(rows))
        found = module_hypergradient(
            rows,
            self.validation,
            model=self.model,
            losses=LOSSES["softmax"].value,
            descent=self.descent(len(batches)),
            chosen=slice(len(self.clean), None),
            method=_METHODS[method],
            labels=by_labels,
            l2_on_all=True,
            rates=rates,
            batches=batches,
        )
        return Steering(
            value=found.value,
            inputs=found.inputs.double().to(inputs.device),
            labels=found.targets[len(self.clean) :].double().to(inputs.device),
        )

    def _planned(self, count: int) -> tuple[list[Tensor], list[float]]:
        batches, rates = self.plan(count)
        return [each.to(self.clean.device) for each in batches], rates

    def _with_clean(self, inputs: Tensor, labels: Tensor) -> TensorRows:
        clean, poison = self._rows(self.clean.all_inputs(), self.clean.labels), self._rows(inputs, labels)
        return TensorRows(
            inputs=torch.cat([clean.inputs, poison.inputs.to(clean.inputs)]),
            targets=torch.cat([clean.targets, poison.targets.to(clean.targets)]),
        )

    def _rows(self, inputs: Tensor, labels: Tensor) -> TensorRows:
        return TensorRows(inputs=inputs, targets=functional.one_hot(labels, self.classes).to(torch.float32))


def method_problems(method: Method, last: int | None) -> list[str]:
    """Why networks cannot be differentiated so; empty where they can."""
    asked = {f"method: {method}": method not in _METHODS, "last": last is not None}
    return [
        f"{what} is for gradient-descent learners; networks trained by sgd have the exact methods stored and "
        "checkpointed"
        for what, is_set in asked.items()
        if is_set
    ]
