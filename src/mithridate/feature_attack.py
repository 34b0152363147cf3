"""What attacks in feature space share: networks with recorded layers, and descent on where poison lies in them.

Several trials can be crafted at once, as the networks are the same: the first dimension of poison and targets is the
trial. Trials do not touch each other, whatever else is in the batch (but for float rounding and dropout draws).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from mithridate.attack import Attack
from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError
from mithridate.goal import Aims, GoalSpec, Misclassify
from mithridate.learner import Learner, trained
from mithridate.model import Classifier
from mithridate.notes import Notes, no_notes
from mithridate.ops.layers import PENULTIMATE, Recorder, crafting, dropouts, mean_of, recording, rows_by_trial
from mithridate.ops.units import channel_units
from mithridate.poison import Poison, no_poison
from mithridate.seeding import Seed
from mithridate.threat import ThreatModel
from mithridate.watch import Step, Watch, silent

Project = Callable[[Tensor, Tensor], Tensor]
"""From changed and clean inputs ``(n, *shape)`` to the nearest allowed ones."""


@dataclass(frozen=True, kw_only=True)
class FeatureAttack(Attack):
    """An attack that moves poison about in the feature space of trained networks."""

    goals: ClassVar[tuple[type[GoalSpec], ...]] = (Misclassify,)
    heeds_wanted: ClassVar[bool] = False
    in_feature_space: ClassVar[bool] = True
    resumable: ClassVar[bool] = True

    layers: tuple[str, ...] = (PENULTIMATE,)
    """Where the poison is placed: ``penultimate``, ``last-but-one`` (the block before the last) or the dotted name of
    a submodule. Papers: the penultimate layer for transfer; it and the last block but one for end-to-end training."""
    dropout: bool = True
    """Leave the surrogates' dropout layers on while crafting. Papers: yes; victims have none."""
    draws: int = 1
    """Passes with other dropout over which the poison's features are averaged at each step. Convex Polytope: 1;
    Bullseye Polytope: 1, 3 or 5."""
    target_draws: int = 1
    """Passes over which the target's features are averaged, once, before the descent. Papers: 1."""
    views: Literal["mean", "each"] = "mean"
    """With several targets (views of one object): aim at the mean of their features, or at each and average."""

    networks: tuple[int, ...] = ()
    """Numbers, from 0, of the surrogates to craft with; empty: all. So one run can compare ensembles."""

    def __post_init__(self) -> None:
        """Refuse settings that cannot craft."""
        for what in ("draws", "target_draws"):
            if getattr(self, what) < 1:
                raise ConfigError(f"{what} must be at least 1, but it is {getattr(self, what)}")
        if not self.layers or len(set(self.layers)) < len(self.layers):
            raise ConfigError(f"layers must name one or more layers, each once, but it is {list(self.layers)}")

    @final
    def crew(self, surrogates: Sequence[Learner]) -> Sequence[Learner]:
        """The surrogates that ``networks`` names; :class:`ConfigError` for a number that is none, or named twice."""
        if len(set(self.networks)) < len(self.networks):
            raise ConfigError(f"networks of {self.name} names a surrogate twice, which adds nothing; name each once")
        wrong = [k for k in self.networks if not 0 <= k < len(surrogates)]
        if wrong:
            raise ConfigError(
                f"networks of {self.name} names surrogate {wrong[0]}, but there are {len(surrogates)} (from 0)"
            )
        return [surrogates[k] for k in self.networks] or surrogates

    @abstractmethod
    def descend(self, place: Placing, watch: Watch, notes: Notes) -> tuple[Tensor, dict[str, Tensor]]:
        """The poison inputs ``(T, k, *shape)`` in natural units, and curves ``(steps, T)`` by name.

        Draws come from torch's own generators, whose states belong into what is noted.
        """

    @final
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
        """Train the surrogates on the clean data (with ``transfer``, their heads), then move the poison."""
        if threat.count(data) == 0:
            return no_poison(data)
        networks = trained_networks(surrogates, data, seed=seed.child("surrogates"), watch=watch)
        rows = data.rows(threat.pick(data, aims, seed.child("pick")))
        (poison,) = self.craft_together(
            [rows], [aims.to(data.device)], threat=threat, networks=networks, seed=seed, watch=watch, notes=notes
        )
        return poison

    @final
    def craft_together(
        self,
        rows: Sequence[Dataset],
        aims: Sequence[Aims],
        *,
        threat: ThreatModel,
        networks: Sequence[Classifier],
        seed: Seed,
        watch: Watch = silent,
        notes: Notes = no_notes,
    ) -> list[Poison]:
        """Poison for several trials at once, with the same networks; not yet quantised, not yet checked.

        ``rows`` are the clean base rows of each trial (as many in each) and ``aims`` its targets (as many in each).
        The networks are left as they were. Raises :class:`ConfigError` where trials differ in size.
        """
        if len({len(each) for each in rows}) > 1 or len({len(each) for each in aims}) > 1:
            raise ConfigError("trials crafted together need equally many base rows, and equally many targets")
        space = rows[0].space
        clean = torch.stack([each.all_inputs() for each in rows])
        targets = torch.stack([each.seen() for each in aims])
        varied = self.dropout and any(dropouts(network) for network in networks)
        with seed.child("dropout").scope(), recorded(networks, self.layers, dropout=self.dropout) as recorders:
            place = Placing(
                clean=clean,
                space=space,
                recorders=recorders,
                seen=targets,
                targets=[self._targets(each, targets) for each in recorders],
                varied=varied,
                draws=self.draws if varied else 1,  # without dropout all draws are the same
                project=lambda changed, base: threat.perturbation.project(changed, base, space),
            )
            inputs, curves = self.descend(place, watch, notes)
        return [
            Poison(
                rows=Dataset(inputs=inputs[t].detach(), labels=each.labels, ids=each.ids, space=space),
                trace={name: tuple(values[:, t].tolist()) for name, values in curves.items()},
            )
            for t, each in enumerate(rows)
        ]

    def _targets(self, recorder: Recorder, targets: Tensor) -> list[Tensor]:
        """What each layer shows of targets ``(T, V, *shape)``: ``(T, V, *map)``, or ``(T, 1, *map)`` for their mean."""
        with torch.no_grad():
            passes = [recorder(targets.flatten(0, 1)) for _ in range(self.target_draws)]
        found = [rows_by_trial(each, len(targets)) for each in mean_of(passes)]
        return found if self.views == "each" else [each.mean(1, keepdim=True) for each in found]


@dataclass(frozen=True, kw_only=True, eq=False)
class Placing:
    """Where the poison of some trials is to go."""

    clean: Tensor
    """``(T, k, *shape)``: the base rows in natural units."""
    space: Space
    recorders: Sequence[Recorder]
    """One a network."""
    seen: Tensor
    """``(T, V, *shape)``: the targets in natural units."""
    targets: Sequence[Sequence[Tensor]]
    """For each network and layer ``(T, V, *map)``."""
    varied: bool
    """Whether passes differ by dropout."""
    draws: int
    project: Project

    def unit(self) -> Tensor:
        """One normalised pixel, ``(1, 1, C, 1, ...)``."""
        return channel_units(self.space, self.clean)[None]

    def allowed(self, inputs: Tensor) -> Tensor:
        """The nearest allowed inputs to ``(T, k, *shape)``."""
        found = self.project(inputs.flatten(0, 1), self.clean.flatten(0, 1))
        return found.reshape(self.clean.shape)

    def points(self, network: int, inputs: Tensor) -> list[Tensor]:
        """What each layer of a network shows of inputs ``(T, k, *shape)``: ``(T, k, *map)``, averaged over draws."""
        flat = inputs.flatten(0, 1)
        found = mean_of([self.recorders[network](flat) for _ in range(self.draws)])
        return [rows_by_trial(each, len(inputs)) for each in found]


@contextmanager
def recorded(networks: Sequence[Classifier], layers: Sequence[str], *, dropout: bool) -> Iterator[list[Recorder]]:
    """Recorders for all networks, which are as they were after the block."""
    with ExitStack() as stack:
        found = []
        for network in networks:
            stack.enter_context(crafting(network, dropout=dropout))
            found.append(stack.enter_context(recording(network, layers)))
        yield found


def trained_networks(
    learners: Sequence[Learner], data: Dataset, *, seed: Seed, watch: Watch = silent
) -> list[Classifier]:
    """The surrogates, each trained on ``data`` from a seed of its own."""
    of = "" if len(learners) == 1 else " {} of " + str(len(learners))
    return [
        trained(learner, data, seed=seed.child(k), stage="surrogate" + of.format(k + 1), watch=watch).model
        for k, learner in enumerate(learners)
    ]


def report(watch: Watch, done: int, total: int, value: Tensor) -> None:
    """Tell the caller how far crafting is, reading the loss from the device only now and then."""
    every = max(1, total // 50)
    if done % every == 0 or done == total:
        watch(Step("crafting", done, total, {"loss": float(value.mean())}))
