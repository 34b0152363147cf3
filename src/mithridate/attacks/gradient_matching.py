"""Gradient matching: poison whose training gradient points where the target's would (Witches' Brew).

Paper: Geiping, Fowl, Huang, Czaja, Taylor, Moeller, Goldstein, "Witches' Brew: Industrial Scale Data Poisoning via
Gradient Matching", ICLR 2021, https://arxiv.org/abs/2009.02276, algorithm 1.

Differences from the paper and its released code:

1. A batch of any size is cut into micro-batches without changing the objective: one global cosine over the mean
   gradient of *all* poison rows (the released code matches each batch of 512 rows separately).
2. Restarts are compared on the same fixed draws of the augmentation (``score_draws``), not on the last noisy step.
3. With ``retrain_every`` the surrogates are trained again on the current poison and the target gradient is
   *recomputed*; the released code's ``step`` option keeps the old one.
4. The surrogate is in evaluation mode throughout, dropout included (the released code leaves dropout on).
5. In an ensemble the objectives are averaged and the step size is not divided by the number of networks, which for
   signed steps only slows crafting down.
6. With ``full_data`` the clean rows' share of the mean gradient is taken once and without augmentation; the released
   code passes over the augmented training set at every step.
7. With ``retrain_every`` each restart is compared on the surrogates it was crafted with last.
8. ``select="gradient-norm"`` picks the rows with the largest gradient in the surrogate's (linear) head instead of
   random ones, as Sleeper Agent does over all parameters (Souri et al. 2022, https://arxiv.org/abs/2106.08970). Off
   by default.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from mithridate.attack import Attack
from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError
from mithridate.facts import Fact, attacker
from mithridate.goal import Aims, Backdoor, GoalSpec, Misclassify
from mithridate.learner import Hook, Learner, trained
from mithridate.model import Classifier
from mithridate.notes import Notes, no_notes
from mithridate.ops.criteria import CRITERIA, head_gradient_norms
from mithridate.ops.gradients import EXACT, Backend, Derivatives, Precision, parameter_gradient
from mithridate.ops.matching import OBJECTIVES, Loss, cosine
from mithridate.ops.optimisers import Adam, Momentum
from mithridate.ops.units import channel_units
from mithridate.poison import Poison, no_poison
from mithridate.restarts import Best, Contest, Descent, halvings
from mithridate.seeding import Seed
from mithridate.settings import LATER
from mithridate.threat import ThreatModel
from mithridate.watch import Step, Watch, silent


@dataclass(frozen=True, kw_only=True)
class GradientMatching(Attack):
    """Clean-label, targeted: perturb training rows so that learning them also learns the wrong answer for a target."""

    name: ClassVar[str] = "gradient-matching"
    assumes: ClassVar[tuple[Fact, ...]] = (
        attacker(
            "victim training",
            "takes gradient steps, in directions that its surrogates share",
            where="Geiping et al. 2021",
        ),
    )
    goals: ClassVar[tuple[type[GoalSpec], ...]] = (Misclassify, Backdoor)
    resumable: ClassVar[bool] = True

    steps: int = 250
    """Steps of the optimiser in a restart. Paper: 250."""
    restarts: int = 8
    """Independent starts, of which the best is kept. Paper: 8."""
    step_size: float = 0.1
    """First step size, in units of the channels' standard deviation (normalised pixels). Paper: 0.1."""
    decay: bool = True
    """Divide the step size by ten after 3/8, 5/8 and 7/8 of the steps. Paper: yes."""
    optimiser: Literal["signed-adam", "adam", "momentum", "pgd"] = "signed-adam"
    """How steps are made from gradients: Adam on their signs (paper), Adam, heavy ball, or plain signed steps."""
    init: Literal["randn", "rand", "zero"] = "randn"
    """Where a restart begins: normal with the radius as deviation, clipped (paper), uniform in the ball, or clean."""
    loss: Loss = "similarity"
    """The distance between gradients. Paper: ``similarity``, one minus the global cosine."""
    criterion: Literal["cross-entropy", "cw", "untargeted-cross-entropy"] = "cross-entropy"
    """The loss whose gradients are matched. Paper: ``cross-entropy``. ``untargeted-cross-entropy`` only leads away
    from the target's true class."""
    augment: bool = True
    """Craft through the surrogate learner's augmentation. Paper: yes; without it the attack is about a third as
    strong against a victim who augments."""
    full_data: bool = False
    """Match the gradient of the whole training set with the poison in it, not of the poison rows alone."""
    clean_gradient: bool = False
    """Use the derivative at the clean rows for every step (first order, as the paper's MetaPoison rows)."""
    per_target: bool = False
    """With several targets: match each target's gradient and average, instead of matching their mean gradient."""
    select: Literal["random", "gradient-norm"] = "random"
    """Which of the rows allowed are poisoned. Paper: random."""
    stagger: Literal["none", "full", "first", "between"] = "none"
    """Stop surrogate k of K early: evenly from start to end (``full``), after k epochs (``first``), or evenly inside
    (``between``). Paper: none."""
    retrain_every: int = 0
    """Train the surrogates again on the current poison after every so many steps; 0 for never (paper)."""
    score_draws: int = 8
    """Fixed augmentation draws on which restarts are compared."""
    micro_batch: int = 256
    """Rows differentiated at once; decides memory, never the result (but for float rounding)."""
    backend: Backend = "auto"
    """How the mixed derivative is computed. Exact: ``double`` backward, ``reverse-over-forward``, ``compiled`` (for
    CUDA). ``gated-difference``: a difference of two gradients with the gates held, fastest on CPUs, whose cosine to
    ``double`` is above 0.999. ``auto``: the difference where it agrees with ``double`` on a CPU, else an exact one.
    ``smoothed``: a plain difference over a step of 0.01, which is NOT the published gradient. (``gated`` is the older
    name of ``gated-difference``.)"""
    precision: Precision = field(default="float32", metadata=LATER)
    """Number format of crafting: ``float32``, ``tf32`` (products of 10 bits on CUDA) or ``bf16``, with exact backends
    alone."""
    halving: bool = field(default=False, metadata=LATER)
    """Give up the worse half of the restarts after 1/2, 1/4, 1/8, ... of the steps (successive halving), so that 8
    restarts take 2.5 times the steps of one. Paper: no."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot craft."""
        for what in ("steps", "restarts", "score_draws", "micro_batch"):
            if getattr(self, what) < 1:
                raise ConfigError(f"{what} must be at least 1, but it is {getattr(self, what)}")
        if not self.step_size > 0:
            raise ConfigError(f"step_size must be positive, but it is {self.step_size:g}")
        if self.retrain_every < 0:
            raise ConfigError(f"retrain_every must be at least 0, but it is {self.retrain_every}")
        if self.halving and self.retrain_every:
            raise ConfigError(
                f"halving compares restarts on the surrogates they began with, but retrain_every is "
                f"{self.retrain_every}; set retrain_every: 0, or halving: false"
            )
        if self.precision != "float32" and self.backend != "auto" and self.backend not in EXACT:
            raise ConfigError(
                f"backend '{self.backend}' takes a difference of gradients, which drowns in the rounding of "
                f"{self.precision}; use precision: float32, or backend: auto"
            )

    def craft(
        self,
        data: Dataset,
        threat: ThreatModel,
        *,
        aims: Aims,
        surrogates: Sequence[Learner],
        seed: Seed,
        watch: Watch = silent,
        notes: Notes = no_notes,
    ) -> Poison:
        """Algorithm 1: train surrogates, take the target gradient, descend on the distance, keep the best restart."""
        aims = aims.to(data.device)
        if threat.count(data) == 0:
            return no_poison(data)
        surrogates_now = self._surrogates(data, aims, surrogates, seed.child("surrogates"), watch)
        rows = data.rows(self._picked(data, threat, aims, surrogates_now, seed))
        self._say_backends(surrogates_now, rows, watch)

        def brewing(restart: int) -> _Brewing:
            return _Brewing(self, data, threat, rows, aims, surrogates, seed.child("restart", restart))

        noted = notes.read(device=data.device) or Checkpoint()
        if self.halving and self.restarts > 1:
            return self._halved(brewing, surrogates_now, seed, watch, notes, noted)
        best, within = Best.of(noted.under("best"), rows), noted.under("descent")
        while best.restarts < self.restarts:
            k, descending = best.restarts, brewing(best.restarts)
            noting = _Noting(notes, best.state, watch, self._stage(k))
            poison, networks, _ = descending.run(surrogates_now, noting=noting, within=within)
            score = descending.score(networks, poison, seed.child("score")) if self.restarts > 1 else 0.0
            best, within = best.beside(poison, score), Checkpoint()
            notes.take(best.state)
        assert best.poison is not None
        return best.poison

    def _halved(
        self,
        brewing: Callable[[int], _Brewing],
        surrogates: list[_Surrogate],
        seed: Seed,
        watch: Watch,
        notes: Notes,
        noted: Checkpoint,
    ) -> Poison:
        """The restart that is left when the worse half has been given up again and again."""
        contest, within = Contest.of(noted.under("contest"), self.restarts), noted.under("descent")
        stops = halvings(self.steps, self.restarts)
        while True:
            k, descending = contest.turn, brewing(contest.turn)
            within = within if within.tensors else contest.states.get(k, Checkpoint())
            noting = _Noting(notes, contest.state, watch, self._stage(k))
            poison, _, state = descending.run(surrogates, noting=noting, within=within, until=stops[contest.halved])
            if stops[contest.halved] == self.steps and len(contest.left) == 1:
                return poison
            score = descending.score(surrogates, poison, seed.child("score"))
            contest, within = contest.beside(state, score), Checkpoint()
            notes.take(contest.state)

    def _say_backends(self, surrogates: Sequence[_Surrogate], rows: Dataset, watch: Watch) -> None:
        """Tell why a backend that was asked for by name is not used."""
        if self.backend == "auto":
            return
        found = [each.derivatives(rows) for each in surrogates]
        for sentence in dict.fromkeys(f"{each.note}; '{each.backend}' is used" for each in found if each.note):
            watch(Step("crafting", 0, self.steps, note=sentence))

    def _stage(self, restart: int) -> str:
        """What a restart is called while it runs."""
        return "crafting" if self.restarts == 1 else f"crafting, restart {restart + 1} of {self.restarts}"

    def _surrogates(
        self, data: Dataset, aims: Aims, learners: Sequence[Learner], seed: Seed, watch: Watch
    ) -> list[_Surrogate]:
        """Trained surrogates with their target gradients."""
        stops = _stops(self.stagger, len(learners))
        networks = []
        for k, learner in enumerate(learners):
            stage = "surrogate" if len(learners) == 1 else f"surrogate {k + 1} of {len(learners)}"
            progress = _trained_until(learner, data, seed.child(k), stops[k], stage, watch)
            networks.append(_Surrogate(self, learner, progress, self._target_gradients(progress, aims)))
        return networks

    def _target_gradients(self, model: Classifier, aims: Aims) -> list[tuple[Tensor, ...]]:
        """The gradient of each target (``per_target``), or of their mean, as the victim will see them unaugmented."""
        inputs = aims.seen()
        untargeted = self.criterion == "untargeted-cross-entropy" or aims.wanted is None
        labels = aims.labels if untargeted or aims.wanted is None else aims.wanted
        sign = -1.0 if untargeted else 1.0
        criterion = CRITERIA[self.criterion]
        groups = torch.split(torch.arange(len(aims), device=inputs.device), 1 if self.per_target else len(aims))
        gradients = []
        for group in groups:
            total = parameter_gradient(model, inputs[group], labels[group], criterion=criterion)
            gradients.append(tuple(g * (sign / len(group)) for g in total))
        return gradients

    def _picked(
        self, data: Dataset, threat: ThreatModel, aims: Aims, surrogates: Sequence[_Surrogate], seed: Seed
    ) -> Tensor:
        """Ids of the rows to poison."""
        drawn = threat.pick(data, aims, seed.child("pick"))
        if self.select == "random" or threat.base_ids:
            return drawn
        candidates = data.rows(threat.candidates(data, aims, seed.child("pick")))
        norms = sum(head_gradient_norms(each.model, candidates) for each in surrogates)
        assert isinstance(norms, Tensor)
        return candidates.ids[norms.topk(len(drawn)).indices].sort().values

    def _shown(self, inputs: Tensor, surrogate: _Surrogate, space: Space, generator: torch.Generator) -> Tensor:
        """Inputs as a training step would show them to the network."""
        if not self.augment:
            return inputs
        return surrogate.learner.augment(inputs, space=space, generator=generator)


class _Surrogate:
    """A trained network of the attacker's, and the gradients to be matched in it."""

    def __init__(
        self, attack: GradientMatching, learner: Learner, model: Classifier, targets: list[tuple[Tensor, ...]]
    ) -> None:
        self.attack, self.learner, self.model, self.targets = attack, learner, model, targets
        self._derivatives: Derivatives | None = None

    def derivatives(self, rows: Dataset) -> Derivatives:
        """Those of the network, by the backend that is right for it on ``rows``: found out once."""
        if self._derivatives is None:
            attack = self.attack
            self._derivatives = Derivatives(
                self.model,
                rows.all_inputs(),
                rows.labels,
                criterion=CRITERIA[attack.criterion],
                backend=attack.backend,
                precision=attack.precision,
                micro_batch=attack.micro_batch,
            )
        return self._derivatives

    def objective(self, gradient: Sequence[Tensor]) -> Tensor:
        """The distance of a gradient to the target gradients, averaged over them."""
        distance = OBJECTIVES[self.attack.loss]
        return torch.stack([distance(gradient, target) for target in self.targets]).mean()


@dataclass(frozen=True, kw_only=False, eq=False)
class _Noting:
    """Where a restart is noted and shown while it runs."""

    notes: Notes
    state: Callable[..., Checkpoint]
    """All there is to note, given the descent's own part."""
    watch: Watch
    stage: str


class _Brewing:
    """One restart: the state of its descent."""

    def __init__(
        self,
        attack: GradientMatching,
        data: Dataset,
        threat: ThreatModel,
        rows: Dataset,
        aims: Aims,
        learners: Sequence[Learner],
        seed: Seed,
    ) -> None:
        self.attack, self.data, self.threat, self.rows, self.seed = attack, data, threat, rows, seed
        self.aims, self.learners = aims, learners
        self.clean = rows.all_inputs()
        self.unit = channel_units(rows.space, self.clean)
        self.draws = seed.child("augmentation").generator(data.device)

    def run(
        self, surrogates: list[_Surrogate], *, noting: _Noting, within: Checkpoint, until: int | None = None
    ) -> tuple[Poison, list[_Surrogate], Checkpoint]:
        """Descend, from the state ``within`` unless it is empty, to the last step, or to step ``until``.

        The poison of that step, the surrogates it was crafted with, and where the descent stands.
        """
        attack = self.attack
        run = self._begun()
        if within.tensors:
            run.restore(within)
        if run.retrained:
            surrogates = self._retrained(run, noting.watch)
        constants = [self._clean_part(each) for each in surrogates]
        decays = _decays(attack.steps) if attack.decay else []
        for step in range(len(run.loss), until or attack.steps):
            if attack.retrain_every and step and step % attack.retrain_every == 0:
                run.retrained = step, run.change.detach().clone()
                surrogates = self._retrained(run, noting.watch)
                constants = [self._clean_part(each) for each in surrogates]
            at = torch.zeros_like(run.change) if attack.clean_gradient else run.change.detach()
            value, alignment, slope = self._slope(at, surrogates, constants)
            run.change.grad = slope.sign() if attack.optimiser in ("signed-adam", "pgd") else slope
            run.optimiser.step()
            for group in run.optimiser.param_groups:
                group["lr"] *= 0.1 ** decays.count(step + 1)
            run.change.data = self._projected(run.change.data)
            run.loss.append(value)
            run.alignment.append(alignment)
            noting.notes.take(lambda: noting.state(descent=run.state()))
            _report(noting.watch, noting.stage, step + 1, attack.steps, value)
        curves = {"loss": run.loss, "alignment": run.alignment}
        trace = {name: tuple(torch.stack(values).tolist()) for name, values in curves.items()}
        return Poison(rows=self._poisoned(run.change.data), trace=trace), surrogates, run.state()

    def _begun(self) -> Descent:
        """The descent before its first step."""
        attack, change = self.attack, torch.nn.Parameter(self._start())
        return Descent(
            change=change, optimiser=_optimiser(attack.optimiser, change, attack.step_size), draws=self.draws
        )

    def score(self, surrogates: Sequence[_Surrogate], poison: Poison, seed: Seed) -> float:
        """The objective of a finished poison, averaged over surrogates and the augmentation draws of ``seed``."""
        attack, inputs, total = self.attack, poison.rows.all_inputs(), 0.0
        draws = attack.score_draws if attack.augment else 1
        for surrogate in surrogates:
            constant = self._clean_part(surrogate)
            for draw in range(draws):
                shown = attack._shown(inputs, surrogate, self.rows.space, seed.child(draw).generator(self.data.device))
                gradient = surrogate.derivatives(self.rows).gradient(shown, self.rows.labels)
                mean = [g / self._scale() for g in gradient]
                if constant is not None:
                    mean = [g + c for g, c in zip(mean, constant, strict=True)]
                total += float(surrogate.objective(mean))
        return total / (len(surrogates) * draws)

    def _slope(
        self,
        change: Tensor,
        surrogates: Sequence[_Surrogate],
        constants: Sequence[Sequence[Tensor] | None],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The objective averaged over surrogates, the cosine to the target, and the derivative in ``change``."""
        attack, total = self.attack, torch.zeros_like(change)
        value, alignment = torch.zeros((), device=change.device), torch.zeros((), device=change.device)
        for surrogate, constant in zip(surrogates, constants, strict=True):
            leaf = change.detach().requires_grad_(True)
            with torch.enable_grad():
                shown = attack._shown(self.clean + leaf * self.unit, surrogate, self.rows.space, self.draws)
            result = surrogate.derivatives(self.rows).matched(
                shown, self.rows.labels, objective=surrogate.objective, scale=1 / self._scale(), constant=constant
            )
            total += torch.autograd.grad(shown, leaf, result.inputs)[0] / len(surrogates)
            value += result.value / len(surrogates)
            alignment += torch.stack([cosine(result.parameters, t) for t in surrogate.targets]).mean() / len(surrogates)
        return value, alignment, total

    def _scale(self) -> int:
        """How many rows the mean gradient is taken over."""
        return len(self.data) if self.attack.full_data else len(self.rows)

    def _clean_part(self, surrogate: _Surrogate) -> tuple[Tensor, ...] | None:
        """With ``full_data``: the share of the clean rows in the mean gradient."""
        if not self.attack.full_data:
            return None
        others = self.data.without(self.rows.ids)
        total = parameter_gradient(
            surrogate.model, others.all_inputs(), others.labels, criterion=CRITERIA[self.attack.criterion]
        )
        return tuple(g / len(self.data) for g in total)

    def _start(self) -> Tensor:
        """Where the descent begins, in normalised pixels, inside the allowed set."""
        generator = self.seed.child("init").generator(self.data.device)
        low, high = self.rows.space.bounds
        halfway = torch.full_like(self.clean, (low + high) / 2 if math.isfinite(high - low) else 0.0)
        middle = self.clean if self.rows.space.columns else halfway  # halfway is no valid row of a table
        widest = self.threat.perturbation.noise(middle, self.rows.space, generator) - middle  # cut short by no bound
        shape = self.clean.shape
        if self.attack.init == "zero":
            return torch.zeros_like(self.clean)
        if self.attack.init == "rand":
            widest = widest * torch.rand(shape, generator=generator, device=self.data.device)
        else:
            widest = widest.abs() * torch.randn(shape, generator=generator, device=self.data.device)
        return self._projected(widest / self.unit)

    def _projected(self, change: Tensor) -> Tensor:
        """The nearest allowed change, in normalised pixels."""
        moved = self.clean + change * self.unit
        return (self.threat.perturbation.project(moved, self.clean, self.rows.space) - self.clean) / self.unit

    def _poisoned(self, change: Tensor) -> Dataset:
        """The rows with the change on them, as float inputs in natural units."""
        inputs = self.threat.perturbation.project(self.clean + change * self.unit, self.clean, self.rows.space)
        return Dataset(inputs=inputs, labels=self.rows.labels, ids=self.rows.ids, space=self.rows.space)

    def _retrained(self, run: Descent, watch: Watch) -> list[_Surrogate]:
        """Surrogates trained from scratch on the data with the poison of that moment, target gradients recomputed."""
        assert run.retrained is not None
        step, change = run.retrained
        poisoned = self.data.updated(self._poisoned(change))
        return self.attack._surrogates(poisoned, self.aims, self.learners, self.seed.child("retrain", step), watch)


def _optimiser(kind: str, change: torch.nn.Parameter, step_size: float) -> torch.optim.Optimizer:
    if kind in ("signed-adam", "adam"):
        return Adam([{"params": [change]}], lr=step_size)
    return Momentum([{"params": [change]}], lr=step_size, momentum=0.9 if kind == "momentum" else 0.0)


def _decays(steps: int) -> list[int]:
    """Steps after which the step size falls: 93, 156 and 218 of 250, as the released code."""
    return [int(steps // divisor) for divisor in (2.667, 1.6, 1.142) if steps >= divisor]  # none before the first step


def _stops(stagger: str, count: int) -> list[float | None]:
    """The fraction of its epochs (or, for ``first``, the epoch) after which each surrogate stops; None for the end."""
    if stagger == "full" and count > 1:
        return [k / (count - 1) for k in range(count)]
    if stagger == "between":
        return [(k + 1) / (count + 1) for k in range(count)]
    if stagger == "first":
        return [-(k + 1.0) for k in range(count)]
    return [None] * count


def _trained_until(
    learner: Learner, data: Dataset, seed: Seed, stop: float | None, stage: str, watch: Watch
) -> Classifier:
    """A surrogate trained to its stop: a fraction of its epochs, minus an epoch number, or None for the end."""
    if stop is None or stop == 1.0:
        return trained(learner, data, seed=seed, stage=stage, watch=watch).model
    if stop == 0.0:
        return learner.build(data.space, seed.child("weights")).to(data.device).eval()
    for progress in learner.train(data, seed=seed, hooks=(Hook(),)):  # idle, but makes a cached learner train
        watch(Step(stage, progress.epoch, progress.epochs, {"accuracy": progress.accuracy}))
        until = -stop if stop < 0 else max(1, round(stop * progress.epochs))
        if progress.epoch >= until:
            break
    return progress.model.eval()


def _report(watch: Watch, stage: str, done: int, total: int, value: Tensor) -> None:
    """Tell the caller, reading the loss from the device only now and then."""
    every = 1 if value.device.type == "cpu" else max(1, total // 50)
    if done % every == 0 or done == total:
        watch(Step(stage, done, total, {"matching loss": float(value)}))
