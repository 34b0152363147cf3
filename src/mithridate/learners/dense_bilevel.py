"""The bilevel problem of a dense network: hypergradients in natural units, with the clean rows prepared once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from mithridate.bilevel import Bilevel, Method, Steering
from mithridate.dataset import Dataset
from mithridate.goal import Aims
from mithridate.learners.dense import Dense
from mithridate.ops.descent import Descent
from mithridate.ops.fullbatch import Rows, Trained, cheaper, train
from mithridate.ops.scores import Array
from mithridate.ops.unroll import hypergradient


class DenseBilevel(Bilevel):
    """A training of a dense network on clean rows and poison."""

    def __init__(self, *, model: Dense, descent: Descent, clean: Dataset, aims: Aims) -> None:
        """Prepare the clean rows, their inner products and the validation rows."""
        self.model, self.descent, self.classes = model.cpu(), descent, clean.space.num_classes
        self.start = model.beginning()
        self.clean = self._seen(clean.all_inputs(), clean.labels)
        wanted = aims.labels if aims.wanted is None else aims.wanted
        self.validation = self._seen(aims.seen(), wanted)
        self.products = self.clean.inputs @ self.clean.inputs.T if cheaper("auto", self.clean) == "gram" else None

    def value(self, inputs: Tensor, labels: Tensor) -> float:
        """The validation loss after training; not finite where that diverges."""
        with np.errstate(all="ignore"):
            found = train(self._rows(inputs, labels), self.model.above, self.descent, self.start)
        return self._loss(found)

    def steering(
        self,
        inputs: Tensor,
        labels: Tensor,
        *,
        method: Method = "stored",
        last: int | None = None,
        by_labels: bool = False,
    ) -> Steering:
        """One training and one sweep back."""
        rows = self._rows(inputs, labels)
        with np.errstate(all="ignore"):  # a training may diverge, which its value then tells
            found = hypergradient(
                rows,
                self.validation,
                upper=self.model.above,
                descent=self.descent,
                start=self.start,
                chosen=slice(len(self.clean), None),
                method=method,
                last=last,
                labels=by_labels,
            )
        return Steering(
            value=found.value,
            inputs=self._natural(found.inputs, inputs),
            labels=self._by_class(found.targets[len(self.clean) :]).to(inputs.device),
            facts=found.facts,
        )

    def _rows(self, inputs: Tensor, labels: Tensor) -> Rows:
        poison = self._seen(inputs, labels)
        rows = Rows(
            inputs=np.concatenate([self.clean.inputs, poison.inputs]),
            targets=np.concatenate([self.clean.targets, poison.targets]),
        )
        if self.products is None:
            return rows
        border = rows.inputs @ poison.inputs.T  # (n + q, q): all that changes when the poison moves
        upper = np.concatenate([self.products, border[: len(self.clean)]], axis=1)
        return replace(rows, products=np.concatenate([upper, border.T]))

    def _seen(self, inputs: Tensor, labels: Tensor) -> Rows:
        """Rows as the first layer sees them."""
        with torch.no_grad():
            seen = self.model.standardised(inputs.cpu()).numpy()
        return Rows(inputs=seen, targets=self.model.above.loss.targets(labels.cpu(), self.classes).numpy())

    def _natural(self, gradient: Array, like: Tensor) -> Tensor:
        """A gradient by standardised inputs ``(q, d)`` as one by inputs in natural units, ``(q, *shape)``."""
        std = self.model.normalise.std.cpu()
        return (torch.from_numpy(gradient).reshape(like.shape) / std).to(like.device)

    def _by_class(self, gradient: Array) -> Tensor:
        """A gradient by targets as one by class probabilities, ``(q, num_classes)``."""
        loss, found = self.model.above.loss, torch.from_numpy(gradient)
        found = (1.0 - loss.low) * found
        return torch.cat([torch.zeros_like(found), found], dim=1) if found.shape[1] < self.classes else found

    def _loss(self, found: Trained) -> float:
        seen, targets = map(torch.from_numpy, (self.validation.inputs, self.validation.targets))
        scores = self.model.above.scores(
            seen @ torch.from_numpy(found.first), tuple(torch.from_numpy(each) for each in found.upper)
        )
        return float(self.model.above.loss.value(scores, targets).mean())
