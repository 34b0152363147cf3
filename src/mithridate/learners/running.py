"""Everything that changes while one network is trained by gradient descent: what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mithridate.checkpoint import Checkpoint, generator_state
from mithridate.dataset import Dataset
from mithridate.errors import FormatError
from mithridate.learner import Hook, Progress, Removal, removals_of, removals_state
from mithridate.learners.hooks import dropped
from mithridate.learners.precision import Format, fitting
from mithridate.model import Classifier
from mithridate.ops.optimisers import Adam, Momentum
from mithridate.seeding import Seed

if TYPE_CHECKING:
    from mithridate.learners.sgd import SGD

_COUNTS = ("epoch", "epochs", "loss", "accuracy")


@dataclass(kw_only=True, eq=False)
class Run:
    """One training: its network, its optimiser, its random draws and what it has removed."""

    data: Dataset
    active: Tensor
    """``(N,)`` bool: the rows not removed."""
    hooks: Sequence[Hook]
    model: Classifier
    trained: list[torch.nn.Parameter]
    """The parameters that steps change."""
    optimiser: torch.optim.Optimizer
    precision: Format
    """What steps compute in."""
    order: torch.Generator
    draws: torch.Generator
    features: Tensor | None = None
    """``(N, D)`` of all rows, where they stay the same."""
    removals: list[Removal] = field(default_factory=list)
    progress: Progress | None = None

    @staticmethod
    def begun(learner: SGD, data: Dataset, seed: Seed, hooks: Sequence[Hook]) -> Run:
        """Before the first epoch."""
        model = learner.build(data.space, seed.child("weights")).to(data.device)
        if learner.channels_last and len(data.space.shape) == 3:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        learner.start.begin(model)
        groups = learner.start.groups(model)
        return Run(
            data=data,
            active=torch.ones(len(data), dtype=torch.bool, device=data.device),
            hooks=hooks,
            model=model,
            trained=[each for group in groups for each in group["params"]],
            optimiser=optimiser(learner, groups),
            precision=fitting(learner.precision, learner.model, data.space, data.device),
            order=seed.child("order").generator(),
            draws=seed.child("augmentation").generator(data.device),
        )

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return self.progress.epoch if self.progress else 0

    def drop(self) -> None:
        """Take out what the hooks say."""
        self.active, removals = dropped(self.hooks, self.data, self.active, self.progress)
        self.removals += removals

    def reached(self, *, epoch: int, epochs: int, loss: float, accuracy: float) -> Progress:
        """Note and return where the training stands."""
        self.progress = Progress(
            epoch=epoch,
            epochs=epochs,
            model=self.model,
            loss=loss,
            accuracy=accuracy,
            removals=tuple(self.removals),
            facts={name: value for hook in self.hooks for name, value in hook.facts().items()},
            state=self.state,
        )
        return self.progress

    def state(self) -> Checkpoint:
        """Where the training stands, as copies: it goes on."""
        assert self.progress is not None  # handed out with the progress
        momenta = {
            f"momentum/{k}/{name}": value.clone()
            for k, each in enumerate(self.trained)
            for name, value in self.optimiser.state[each].items()
            if isinstance(value, Tensor)
        }
        facts = {name: getattr(self.progress, name) for name in _COUNTS}
        own = Checkpoint(
            tensors={**momenta, "order": generator_state(self.order), "draws": generator_state(self.draws)}, facts=facts
        )
        hooks = {f"hook-{k}": hook.state() for k, hook in enumerate(self.hooks)}
        model = Checkpoint(tensors={name: value.clone() for name, value in self.model.state_dict().items()})
        return own.joined(model=model, removals=removals_state(self.removals), **hooks)

    def restore(self, state: Checkpoint) -> None:
        """Go on from a state. Raises :class:`FormatError` where it does not fit."""
        try:
            self._restore(state)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise FormatError(
                f"the state to resume from is not that of this training ({type(error).__name__}: {error}); "
                "train from the start, or with the settings, data and defenses it was written with"
            ) from error

    def _restore(self, state: Checkpoint) -> None:
        with torch.no_grad():  # load_state_dict keeps each parameter's memory format
            self.model.load_state_dict(dict(state.under("model").tensors))
        for k, each in enumerate(self.trained):
            for name, value in state.under(f"momentum/{k}").tensors.items():
                alike = value.shape == each.shape  # and so in the parameter's memory format
                self.optimiser.state[each][name] = torch.empty_like(each).copy_(value) if alike else value.cpu()
        self.order.set_state(state.tensors["order"].cpu())
        self.draws.set_state(state.tensors["draws"].cpu())
        for k, hook in enumerate(self.hooks):
            hook.restore(state.under(f"hook-{k}"))
        self.removals = list(removals_of(state.under("removals")))
        for removal in self.removals:
            self.active = self.active & ~torch.isin(self.data.ids, removal.ids.to(self.data.device))
        self.reached(**{name: state.facts[name] for name in _COUNTS})


def optimiser(learner: SGD, groups: list[dict[str, Any]], *, overwrite: bool = False) -> torch.optim.Optimizer:
    """The optimiser of a learner's settings over parameter groups; with ``overwrite`` it may change gradients."""
    if learner.optimiser == "adam":
        betas = (learner.momentum, 0.999)
        return Adam(groups, lr=learner.lr, betas=betas, weight_decay=learner.weight_decay)
    return Momentum(
        groups,
        lr=learner.lr,
        momentum=learner.momentum,
        weight_decay=learner.weight_decay,
        nesterov=learner.nesterov and learner.momentum > 0,
        overwrite=overwrite,
    )
