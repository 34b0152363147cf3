"""Everything that changes while a dense network is trained on all rows at once: what a checkpoint holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mithridate.checkpoint import Checkpoint, generator_state
from mithridate.dataset import Dataset
from mithridate.errors import FormatError
from mithridate.learner import Batch, Hook, Progress, Removal, removals_of, removals_state
from mithridate.learners.dense import Dense
from mithridate.learners.hooks import dropped, hooked_backward
from mithridate.ops.descent import Descent, State
from mithridate.ops.fullbatch import Problem, Rows, cheaper
from mithridate.ops.scores import Array, ScoreLoss
from mithridate.seeding import Seed


@dataclass(kw_only=True, eq=False)
class DenseRun:
    """One training: its network, velocities, random draws and what it has removed."""

    data: Dataset
    model: Dense
    descent: Descent
    hooks: Sequence[Hook]
    seed: Seed
    active: Tensor = field(init=False)
    """``(N,)`` bool: the rows not removed."""
    velocity: tuple[Array, ...] = field(init=False)
    """Of the first layer and of each parameter above; empty without momentum."""
    removals: list[Removal] = field(default_factory=list)
    progress: Progress | None = None
    rows: Rows | None = None
    """The active rows as the first layer sees them, until others are removed."""

    def __post_init__(self) -> None:
        """Begin."""
        self.active = torch.ones(len(self.data), dtype=torch.bool, device=self.data.device)
        begun = self.model.beginning()
        self.velocity = tuple(map(np.zeros_like, (begun.first, *begun.upper))) if self.descent.momentum else ()
        self.order = self.seed.child("order").generator()
        self.draws = self.seed.child("augmentation").generator(self.data.device)

    @property
    def epoch(self) -> int:
        """Stretches done."""
        return self.progress.epoch if self.progress else 0

    def drop(self) -> None:
        """Take out what the hooks say."""
        self.active, removals = dropped(self.hooks, self.data, self.active, self.progress)
        self.removals += removals
        self.rows = None if removals else self.rows

    def advance(self, steps: int) -> None:
        """So many steps: in NumPy on all rows, or through the hooks where one acts inside steps."""
        self.rows = self.rows or _rows(self.model, self.data.at(self.active), known=not self.descent.momentum)
        if any(_acts(hook) for hook in self.hooks):
            self._through_hooks(steps)
        else:
            self._alone(steps)

    def _alone(self, steps: int) -> None:
        assert self.rows is not None
        moving = self.descent.momentum > 0  # a velocity has no Gram form to go on in
        form = "plain" if moving else cheaper("auto", self.rows)
        problem = Problem(self.rows, self.model.above, self.descent, self.model.beginning(), form)
        state = State(problem.begun().parts, self.velocity)
        with np.errstate(all="ignore"):  # a training may diverge, which its loss then tells
            for _ in range(steps):
                state = problem.step(state)
            self.model.write(problem.trained(state))
        self.velocity = tuple(each for each in state.velocity if isinstance(each, np.ndarray))

    def _through_hooks(self, steps: int) -> None:
        left = self.active.nonzero().flatten()
        decaying = self.model.decaying()
        for _ in range(steps):
            for index in self._batches(len(left)):
                batch = self._batch(left[index.to(left.device)])
                self.model.zero_grad(set_to_none=True)
                if hooked_backward(self.hooks, self.model, batch, self.draws) is None:
                    _mean_loss(self.model, batch).backward()  # type: ignore[no-untyped-call]
                self._step(decaying)

    def _batches(self, count: int) -> Sequence[Tensor]:
        for hook in self.hooks:
            found = hook.batches(count, count, self.order)
            if found is not None:
                return found
        return [torch.arange(count)]

    def _batch(self, index: Tensor) -> Batch:
        inputs, labels = self.data.take(index)
        batch = Batch(inputs=inputs, labels=labels, ids=self.data.ids[index])
        for hook in self.hooks:
            batch = hook.transform(self.model, batch, self.draws)
        return batch

    def _step(self, decaying: Sequence[bool]) -> None:
        """One step in torch, with the arithmetic of :class:`Descent`."""
        d, velocity = self.descent, []
        with torch.no_grad():
            for k, (each, decays) in enumerate(zip(self.model.parameters(), decaying, strict=True)):
                gradient = torch.zeros_like(each) if each.grad is None else each.grad.to(each.dtype)
                gradient = gradient + d.l2 * each if decays else gradient
                before = torch.from_numpy(self.velocity[k]).to(each.device) if d.momentum else 0.0
                moving = d.momentum * before + (1 - d.dampening) * gradient
                each.sub_(gradient + d.momentum * moving if d.nesterov else moving, alpha=d.lr)
                velocity.append(moving.cpu().numpy())
        self.velocity = tuple(velocity) if d.momentum else ()

    def reached(self, *, epoch: int, epochs: int) -> Progress:
        """Note and return where the training stands; loss and accuracy are of the active rows."""
        assert self.rows is not None
        with torch.no_grad():
            seen = torch.from_numpy(self.rows.inputs)
            first, *upper = (each.cpu() for each in (self.model.first, *self.model.upper))
            scores = self.model.above.scores(seen @ first, tuple(upper))
            targets = torch.from_numpy(self.rows.targets)
            loss = float(self.model.above.loss.value(scores, targets).mean())
            right = self.model.above.loss.logits(scores).argmax(1) == self.data.labels[self.active].cpu()
        self.progress = Progress(
            epoch=epoch,
            epochs=epochs,
            model=self.model,
            loss=loss,
            accuracy=float(right.double().mean()),
            removals=tuple(self.removals),
            facts={name: value for hook in self.hooks for name, value in hook.facts().items()},
            state=self.state,
        )
        return self.progress

    def state(self) -> Checkpoint:
        """Where the training stands, as copies."""
        assert self.progress is not None  # handed out with the progress
        velocity = {f"velocity/{k}": torch.from_numpy(each.copy()) for k, each in enumerate(self.velocity)}
        facts = {name: getattr(self.progress, name) for name in ("epoch", "epochs")}
        own = Checkpoint(
            tensors={**velocity, "order": generator_state(self.order), "draws": generator_state(self.draws)},
            facts=facts,
        )
        hooks = {f"hook-{k}": hook.state() for k, hook in enumerate(self.hooks)}
        model = Checkpoint(tensors={name: value.clone() for name, value in self.model.state_dict().items()})
        return own.joined(model=model, removals=removals_state(self.removals), **hooks)

    def restore(self, state: Checkpoint, *, epochs: int) -> None:
        """Go on from a state of a training of so many epochs. Raises :class:`FormatError` where it does not fit."""
        try:
            if state.facts["epochs"] != epochs:
                raise ValueError(f"it is of {state.facts['epochs']} epochs, not {epochs}")
            self.model.load_state_dict(dict(state.under("model").tensors))
            count = len(self.velocity)
            self.velocity = tuple(state.tensors[f"velocity/{k}"].cpu().numpy() for k in range(count))
            self.order.set_state(state.tensors["order"].cpu())
            self.draws.set_state(state.tensors["draws"].cpu())
            for k, hook in enumerate(self.hooks):
                hook.restore(state.under(f"hook-{k}"))
            self.removals = list(removals_of(state.under("removals")))
            for removal in self.removals:
                self.active = self.active & ~torch.isin(self.data.ids, removal.ids.to(self.data.device))
            self.rows = _rows(self.model, self.data.at(self.active), known=not self.descent.momentum)
            self.reached(epoch=int(state.facts["epoch"]), epochs=epochs)
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise FormatError(
                f"the state to resume from is not that of this training ({type(error).__name__}: {error}); "
                "train from the start, or with the settings, data and defenses it was written with"
            ) from error


def _acts(hook: Hook) -> bool:
    """Whether a hook does more than take out rows."""
    return any(getattr(type(hook), name) is not getattr(Hook, name) for name in ("transform", "backward", "batches"))


def _rows(model: Dense, data: Dataset, *, known: bool) -> Rows:
    """The rows as the first layer sees them, with their inner products where those will be of use."""
    with torch.no_grad():
        inputs = model.standardised(data.all_inputs()).cpu().numpy()
    targets = model.above.loss.targets(data.labels.cpu(), data.space.num_classes).numpy()
    rows = Rows(inputs=inputs, targets=targets)
    if known and cheaper("auto", rows) == "gram":
        rows = Rows(inputs=inputs, targets=targets, products=inputs @ inputs.T)
    return rows


def _mean_loss(model: Dense, batch: Batch) -> Tensor:
    scores = model.scores(model.features(batch.inputs))
    return model.above.loss.value(scores, _targets(model.above.loss, batch.labels, scores)).mean()


def _targets(loss: ScoreLoss, labels: Tensor, scores: Tensor) -> Tensor:
    """Targets of labels ``(n,)``, or of class probabilities ``(n, num_classes)`` that a hook has mixed."""
    classes = max(scores.shape[1], 2)
    if labels.ndim == 1:
        return loss.targets(labels, classes)
    return loss.soft_targets(labels.to(torch.float64), classes)
