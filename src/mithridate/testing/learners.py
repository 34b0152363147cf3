"""Promises that every learner keeps, checked on a toy task."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mithridate.dataset import Dataset
from mithridate.learner import Learner, predictions
from mithridate.model import Classifier
from mithridate.seeding import Seed
from mithridate.testing.bench import toy_bench
from mithridate.testing.surroundings import undisturbed


def check_learner(learner: Learner, *, data: Dataset | None = None) -> None:
    """Check every promise of a learner, on ``data`` or the toy task.

    Raises ``AssertionError`` with a sentence for the first promise that is broken.
    """
    for check in LEARNER_CHECKS.values():
        check(learner, data or toy_bench().data.train)


def check_same_seed_same_weights(learner: Learner, data: Dataset) -> None:
    """The seed decides the weights bit for bit (on a CPU), whatever the global random state; so too what is said."""
    first = learner.fit(data, seed=Seed(1)).model
    torch.rand(3)
    again = learner.fit(data, seed=Seed(1)).model
    other = again.state_dict()
    for name, value in first.state_dict().items():
        assert torch.equal(value, other[name]), f"{learner} trains two networks from one seed: '{name}' differs"
    one, two = (predictions(each, data.all_inputs()) for each in (first, again))
    assert torch.equal(one, two), f"{learner} trains two networks from one seed: they say different things"


def check_other_seed_other_weights(learner: Learner, data: Dataset) -> None:
    """Another seed starts elsewhere, and ends elsewhere; or all in the same place, if the learner is not ``seeded``.

    Networks whose weights are not in tensors are told apart by what they say once trained.
    """
    models = [learner.build(data.space, Seed(k)) for k in (1, 2)]
    fitted = [learner.fit(data, seed=Seed(k)).model for k in (1, 2)]
    for pair, when in ((models, "starts"), (fitted, "ends")):
        if pair is models and not learner.remembered:
            continue  # an estimator that is not fitted says nothing
        one, two = (_decided(learner, each, data) for each in pair)
        same = all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
        weights = "the same weights" if same else "other weights"
        assert same != learner.seeded, f"{learner} {when} with {weights} from two seeds, but seeded is {learner.seeded}"


def check_loss_falls(learner: Learner, data: Dataset) -> None:
    """Training brings the loss on its own rows below that of a network that knows nothing."""
    start = _loss(learner.build(data.space, Seed(1).child("weights")), data)
    fitted = learner.fit(data, seed=Seed(1))
    end, chance = _loss(fitted.model, data), float(np.log(data.space.num_classes))
    said = f"{learner} ends with a loss of {end:.3f}, from {start:.3f}; a network that knows nothing has {chance:.3f}"
    assert end < min(start, chance), said


def check_reports_every_epoch(learner: Learner, data: Dataset) -> None:
    """Epochs are numbered from 1 to the last, and ``fit`` ends in evaluation mode."""
    seen = [(progress.epoch, progress.epochs) for progress in learner.train(data, seed=Seed(1))]
    assert seen == [(k + 1, len(seen)) for k in range(len(seen))], f"{learner} numbers its epochs {seen}"
    assert not learner.fit(data, seed=Seed(1)).model.training, f"{learner} hands out a network in training mode"


def check_training_leaves_everything_alone(learner: Learner, data: Dataset) -> None:
    """Data, settings and the global random states are what they were, after every epoch."""
    digest, settings = data.digest(), pickle.dumps(learner)
    with undisturbed(str(learner)):
        for _ in learner.train(data, seed=Seed(1)):
            pass
    assert data.digest() == digest, f"{learner} writes into its data"
    assert pickle.dumps(learner) == settings, f"{learner} keeps something on itself while training"


def check_augmentation_is_differentiable(learner: Learner, data: Dataset) -> None:
    """``augment`` keeps the shape, replays a generator's draw, and lets gradients through to its inputs."""
    inputs = data.all_inputs()[:8].requires_grad_(True)
    one, two = (learner.augment(inputs, space=data.space, generator=Seed(2).generator(inputs.device)) for _ in range(2))
    assert one.shape == inputs.shape, f"{learner} augments {tuple(inputs.shape)} to {tuple(one.shape)}"
    assert torch.equal(one, two), f"{learner} augments differently under one generator"
    slope = torch.autograd.grad(one.sum(), inputs)[0]
    assert bool((slope.abs().flatten(1).sum(1) > 0).all()), f"{learner} stops gradients in its augmentation"


LEARNER_CHECKS: Mapping[str, Callable[[Learner, Dataset], None]] = MappingProxyType(
    {
        "same seed, same weights": check_same_seed_same_weights,
        "other seed, other weights": check_other_seed_other_weights,
        "the loss falls": check_loss_falls,
        "reports every epoch": check_reports_every_epoch,
        "leaves everything alone": check_training_leaves_everything_alone,
        "augmentation is differentiable": check_augmentation_is_differentiable,
    }
)


def _decided(learner: Learner, model: Classifier, data: Dataset) -> list[Tensor]:
    """What training decided: the weights, or where they are not all in tensors, what is said of the rows."""
    return list(model.parameters()) if learner.remembered else [predictions(model, data.all_inputs())]


def _loss(model: torch.nn.Module, data: Dataset) -> float:
    model.eval()
    with torch.no_grad():
        return float(functional.cross_entropy(model(data.all_inputs()), data.labels))
