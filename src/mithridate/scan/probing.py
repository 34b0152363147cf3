"""Probes: networks that learn the data to be scanned, and what they then say of every row.

Each row is seen twice: by a network trained on all rows, whose features and outputs the published filters judge, and
by one of a few networks that were trained without it. The loss of the second kind is the plainest sign of a wrong
label: a network that has learnt the row itself may know the wrong label by heart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mithridate.dataset import Dataset
from mithridate.defense import features_of
from mithridate.errors import ConfigError, ModelError
from mithridate.learner import Learner, predictions, trained
from mithridate.model import Classifier
from mithridate.seeding import Seed
from mithridate.watch import Step, Watch, silent

BATCH = 512
"""Rows that a network looks at at a time."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """What a probe says of every row of one data set. On the CPU."""

    features: Tensor
    """``(N, D)`` float32: penultimate features of a network trained on all rows."""
    logits: Tensor
    """``(N, C)`` float32: outputs of the same network."""
    unseen: Tensor
    """``(N, C)`` float32: outputs of a network that was trained without the row."""
    model: Classifier
    """The network trained on all rows, in evaluation mode."""


class Probe(ABC):
    """A way of learning the data to be scanned."""

    @abstractmethod
    def views(self, data: Dataset, *, seed: Seed, stage: str = "probe", watch: Watch = silent) -> Views:
        """Learn ``data``, and look at each of its rows. Raises :class:`ModelError` where the training diverged."""


@dataclass(frozen=True, kw_only=True)
class Trained(Probe):
    """Networks trained from scratch: one on all rows, and one for each fold on the rows outside it."""

    learner: Learner
    """How they are trained."""
    folds: int = 4
    """Parts the rows are cut into. More see more rows each and take longer: ``folds`` trainings in all, about."""

    def __post_init__(self) -> None:
        """Refuse folds that leave nothing to train on."""
        _check_folds(self.folds)

    def views(self, data: Dataset, *, seed: Seed, stage: str = "probe", watch: Watch = silent) -> Views:
        """Train ``1 + folds`` networks."""
        whole = trained(self.learner, data, seed=seed.child("whole"), stage=stage, watch=watch).model
        fold = folded(data.labels, self.folds, seed.child("folds"))
        unseen = torch.empty(len(data), data.space.num_classes)
        for k in range(self.folds):
            part = trained(
                self.learner,
                data.at(fold != k),
                seed=seed.child("fold", k),
                stage=f"{stage}, fold {k + 1} of {self.folds}",
                watch=watch,
            )
            unseen[(fold == k).cpu()] = _outputs(part.model, data.at(fold == k))
        return _checked(
            Views(features=features_of(whole, data).cpu(), logits=_outputs(whole, data), unseen=unseen, model=whole)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Frozen(Probe):
    """A network of the user's, left as it is, below a linear head that is fitted afresh.

    The network may have been trained on the very rows it is to judge, and then knows wrong labels among them by heart;
    rows planted for calibration are new to it. What is measured is then what it finds among rows it has not seen.
    """

    model: Classifier
    """The network."""
    folds: int = 4
    """Parts the rows are cut into; each is judged by a head fitted to the others."""
    decay: float = 1e-3
    """L2 penalty on the weights of the head, on features of unit variance."""

    def __post_init__(self) -> None:
        """Refuse folds that leave nothing to fit, and a penalty that leaves the head undecided."""
        _check_folds(self.folds)
        if not self.decay > 0:
            raise ConfigError(f"decay must be positive, but it is {self.decay:g}")

    def views(self, data: Dataset, *, seed: Seed, stage: str = "probe", watch: Watch = silent) -> Views:
        """Fit ``1 + folds`` heads."""
        model = self.model.to(data.device).eval()
        features = features_of(model, data).cpu()
        labels, classes = data.labels.cpu(), data.space.num_classes
        points = (features - features.mean(0)) / features.std(0).clamp_min(1e-6)
        fold = folded(labels, self.folds, seed.child("folds"))
        logits, unseen = torch.empty(len(data), classes), torch.empty(len(data), classes)
        for k in range(-1, self.folds):  # -1: the head of all rows
            seen, judged = (fold != k, fold == k) if k >= 0 else (fold >= 0, fold >= 0)
            found = head(points[seen], labels[seen], classes, self.decay)(points[judged])
            (unseen if k >= 0 else logits)[judged] = found
            watch(Step(stage, k + 2, self.folds + 1))
        return _checked(Views(features=features, logits=logits, unseen=unseen, model=model))


def folded(labels: Tensor, count: int, seed: Seed) -> Tensor:
    """The fold of each row, ``(N,)`` int64 in ``0 .. count - 1``: each class is dealt out evenly, in random order."""
    order = torch.randperm(len(labels), generator=seed.generator())
    fold = torch.empty(len(labels), dtype=torch.int64)
    turn = 0
    for label in torch.unique(labels.cpu()):
        rows = order[labels.cpu()[order] == label]
        fold[rows] = (torch.arange(len(rows)) + turn) % count
        turn += len(rows)  # so that the folds are of one size, too
    return fold.to(labels.device)


def head(points: Tensor, labels: Tensor, classes: int, decay: float) -> torch.nn.Linear:
    """The linear head that fits ``points`` ``(n, D)`` best, by cross-entropy with an L2 penalty. Nothing is random."""
    linear = torch.nn.Linear(points.shape[1], classes)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    optimiser = torch.optim.LBFGS(linear.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(linear(points), labels) + decay / 2 * linear.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return linear.requires_grad_(False)


def _outputs(model: Classifier, data: Dataset) -> Tensor:
    parts = torch.split(torch.arange(len(data), device=data.device), BATCH)  # floats of all rows would not fit
    return torch.cat([predictions(model, data.take(part)[0]).float().cpu() for part in parts])


def _checked(views: Views) -> Views:
    for each in (views.features, views.logits, views.unseen):
        broken = ~torch.isfinite(each).all(1)
        if bool(broken.any()):
            raise ModelError(
                f"the probe gives NaN or infinite values for {int(broken.sum())} of {len(each)} rows, so it did not "
                "learn; name another network with --model"
            )
    return views


def _check_folds(folds: int) -> None:
    if folds < 2:
        raise ConfigError(f"folds must be at least 2, so that each row has a network without it, but it is {folds}")
