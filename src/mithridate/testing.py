"""Promises that every attack and every learner keeps, checked on a toy task; for the authors of new ones.

``check_attack(MyAttack(steps=30))`` in a test of yours raises ``AssertionError`` with a sentence where a promise is
broken. ``ATTACK_CHECKS`` and ``LEARNER_CHECKS`` hold the checks one by one, to be run under their names.
"""

from __future__ import annotations

import inspect
import pickle
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mithridate.attack import Attack, craft
from mithridate.dataset import Dataset, Space
from mithridate.goal import Aims, Backdoor, Degrade, Goal, GoalSpec, Misclassify
from mithridate.learner import Learner, predictions
from mithridate.learners.sgd import SGD
from mithridate.models.mlp import MLP
from mithridate.poison import Poison, Trigger
from mithridate.seeding import Seed
from mithridate.source import Split
from mithridate.threat import Linf, ThreatModel
from mithridate.trial import noise_control

TRIALS = 6
"""Trials of :func:`check_beats_noise`, each with a victim of the poison and one of noise."""


def toy(rows: int, *, seed: int, side: int = 8) -> Dataset:
    """Noisy 8-bit grey images in three classes: rows, columns or a chequered pattern of faint lines.

    A perceptron learns them in a tenth of a second, a convolution also where they are shifted and mirrored.
    """
    draws = torch.Generator().manual_seed(seed)
    lines = (torch.arange(side) % 2)[:, None].expand(side, side)
    patterns = torch.stack([lines, lines.T, lines ^ lines.T])
    labels = torch.arange(rows) % len(patterns)
    images = torch.rand(rows, 1, side, side, generator=draws) * 0.6 + 0.2 * patterns[labels][:, None]
    space = Space(shape=(1, side, side), num_classes=3, levels=256, mean=(0.4,), std=(0.2,))
    return Dataset.of(space.encode(images), labels, space=space)


@dataclass(frozen=True, kw_only=True)
class CornerMark(Trigger):
    """A white pixel in the first corner: the trigger of the toy backdoor."""

    name: ClassVar[str] = "corner-mark"

    def apply(self, inputs: Tensor) -> Tensor:
        """Images ``(N, C, H, W)`` with the mark."""
        marked = inputs.clone()
        marked[:, :, 0, 0] = 1.0
        return marked


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What promises are checked on: data, a threat model, and the learner of attacker and victim."""

    data: Split
    threat: ThreatModel
    learner: Learner

    def goal(self, seed: int = 3, spec: GoalSpec | None = None) -> Goal:
        """The goal drawn from ``seed``."""
        return (spec or self.threat.goal).draw(self.data.train, self.data.test, Seed(seed))

    def craft(
        self, attack: Attack, *, aims: Aims | None = None, threat: ThreatModel | None = None, seed: int = 5
    ) -> Poison:
        """The poison of ``attack``, checked against the threat model."""
        return craft(
            attack,
            self.data.train,
            threat=threat or self.threat,
            aims=aims or self.goal().known,
            surrogates=(self.learner,),
            seed=Seed(seed),
        )


def toy_bench(goal: GoalSpec | None = None, *, rows: str = "replace", labels: str = "clean") -> Bench:
    """The toy task: 120 images in 3 classes, a tenth of them poison, a radius of 32/255, a small perceptron."""
    data = Split(train=toy(120, seed=1), test=toy(60, seed=2))
    learner = SGD(model=MLP(hidden=(16,)), epochs=8, batch_size=16, lr=0.05, schedule="one-cycle", augmentation=None)
    threat = ThreatModel(
        goal=goal or Misclassify(target=0, intended=1),
        budget=0.1,
        perturbation=Linf(radius=32 / 255),
        rows="append" if rows == "append" else "replace",
        labels="dirty" if labels == "dirty" else "clean",
    )
    return Bench(data=data, threat=threat, learner=learner)


def bench_of(attack: Attack) -> Bench:
    """The toy task under the first goal that ``attack`` can pursue, and the first way of writing rows."""
    goals: Mapping[type[GoalSpec], GoalSpec] = {
        Misclassify: Misclassify(target=0, intended=1),
        Backdoor: Backdoor(trigger=CornerMark(), intended=1),
        Degrade: Degrade(),
    }
    known = [goals[kind] for kind in attack.goals if kind in goals]
    assert known, f"{attack.name} names no goal of ours in goals, so it cannot be checked; it has {attack.goals}"
    return toy_bench(known[0], rows=attack.rows[0])


def check_attack(attack: Attack | type[Attack], *, bench: Bench | None = None) -> None:
    """Check every promise of an attack (a class is tried with its default settings).

    Without ``bench`` the toy task is used; give one where the attack needs another threat model. Raises
    ``AssertionError`` with a sentence for the first promise that is broken.
    """
    attack = attack() if isinstance(attack, type) else attack
    for check in ATTACK_CHECKS.values():
        check(attack, bench or bench_of(attack))


def check_learner(learner: Learner, *, data: Dataset | None = None) -> None:
    """Check every promise of a learner, on ``data`` or the toy task.

    Raises ``AssertionError`` with a sentence for the first promise that is broken.
    """
    for check in LEARNER_CHECKS.values():
        check(learner, data or toy_bench().data.train)


def check_keeps_to_threat_model(attack: Attack, bench: Bench) -> None:
    """The poison, rounded as it would be released, is allowed; and it is some poison. Wide, odd and tiny radii."""
    for levels in (32.0, 5.5, 1.0):
        threat = replace(bench.threat, perturbation=Linf(radius=levels / 255))
        poison = bench.craft(attack, threat=threat)  # craft checks it
        count = len(poison.rows)
        assert count, f"{attack.name} returns no rows where a budget of {threat.budget:g} pays for some"
        if threat.rows == "replace" and threat.labels == "clean":
            clean = bench.data.train.rows(poison.rows.ids).inputs.int()
            moved = int((poison.rows.inputs.int() - clean).abs().max())
            assert moved <= levels, f"{attack.name} moves a value by {moved} levels, but {levels:g} are allowed"
            assert moved, f"{attack.name} returns clean rows under a radius of {levels:g}/255"


def check_zero_budget(attack: Attack, bench: Bench) -> None:
    """A budget that pays for nothing gives a poison of no rows."""
    poison = bench.craft(attack, threat=replace(bench.threat, budget=0.0))
    assert not len(poison.rows), f"{attack.name} returns {len(poison.rows)} rows under a budget of 0"
    assert poison.apply(bench.data.train).digest() == bench.data.train.digest(), f"{attack.name} changes data for free"


def check_same_seed_same_poison(attack: Attack, bench: Bench) -> None:
    """The seed decides the poison bit for bit."""
    first, again = bench.craft(attack), bench.craft(attack)
    assert first.rows.digest() == again.rows.digest(), f"{attack.name} makes two poisons from one seed"
    assert first.trace == again.trace, f"{attack.name} traces two curves from one seed"


def check_target_matters(attack: Attack, bench: Bench) -> None:
    """Another target, or another class wanted of it, gives another poison on the same rows (targeted attacks)."""
    if not isinstance(bench.threat.goal, Misclassify):
        return
    threat = replace(bench.threat, base_ids=tuple(bench.craft(attack).rows.ids.tolist()))
    ids = bench.data.test.ids[bench.data.test.labels == 0][:2].tolist()
    wishes = [(ids[0], 1), (ids[1], 1), (ids[0], 2)]
    crafted = []
    for target, intended in wishes:
        goal = Misclassify(ids=(target,), intended=intended)
        aims = bench.goal(spec=goal).known
        crafted.append(bench.craft(attack, aims=aims, threat=replace(threat, goal=goal)).rows.inputs)
    for k, what in ((1, "target"), (2, "wanted class")):
        share = float((crafted[k] != crafted[0]).float().mean())
        assert share > 0.01, f"{attack.name} ignores its {what}: another one changes {share:.2%} of the values"


def check_leaves_everything_alone(attack: Attack, bench: Bench) -> None:
    """Data, aims, settings and the global random states are what they were."""
    aims = bench.goal().known
    before = bench.data.train.digest(), aims.inputs.clone(), aims.labels.clone(), pickle.dumps(attack)
    with undisturbed(attack.name):
        bench.craft(attack, aims=aims)
    assert bench.data.train.digest() == before[0], f"{attack.name} writes into its data"
    assert torch.equal(aims.inputs, before[1]), f"{attack.name} writes into the inputs of its aims"
    assert torch.equal(aims.labels, before[2]), f"{attack.name} writes into the labels of its aims"
    assert pickle.dumps(attack) == before[3], f"{attack.name} keeps something on itself while crafting"


def check_beats_noise(attack: Attack, bench: Bench) -> None:
    """Victims of the poison are nearer to the attacker's wish than victims of noise on the same rows (replace only).

    Nearness is the log-probability of the wanted class (or minus that of the true one), its gain over noise averaged
    over ``TRIALS`` trials; the mean must be more than two standard errors above zero.
    """
    if "replace" not in attack.rows:
        return
    gains = np.asarray([_gain(attack, bench, trial) for trial in range(TRIALS)])
    mean, error = gains.mean(), gains.std(ddof=1) / np.sqrt(TRIALS)
    said = f"{attack.name} is no better than noise of its size: gain {mean:.3f}, standard error {error:.3f}"
    assert mean > 2 * error, said


def check_cites_its_paper(attack: Attack, bench: Bench) -> None:
    """The module says where the method is from, by an address."""
    text = inspect.getdoc(inspect.getmodule(type(attack))) or ""
    assert "http" in text, f"the module of {attack.name} cites no paper by its address"


def check_settings_compare(attack: Attack, bench: Bench) -> None:
    """Settings pickle, compare and hash: they are the identity of a stored result."""
    again = pickle.loads(pickle.dumps(attack))  # noqa: S301 (ours, a line above)
    assert again == attack, f"{attack.name} does not survive pickling"
    assert hash(again) == hash(attack), f"{attack.name} has two hashes"


def check_same_seed_same_weights(learner: Learner, data: Dataset) -> None:
    """The seed decides the weights bit for bit (on a CPU), whatever the global random state."""
    first = learner.fit(data, seed=Seed(1)).model.state_dict()
    torch.rand(3)
    again = learner.fit(data, seed=Seed(1)).model.state_dict()
    for name, value in first.items():
        assert torch.equal(value, again[name]), f"{learner} trains two networks from one seed: '{name}' differs"


def check_other_seed_other_weights(learner: Learner, data: Dataset) -> None:
    """Another seed starts elsewhere, and ends elsewhere."""
    models = [learner.build(data.space, Seed(k)) for k in (1, 2)]
    fitted = [learner.fit(data, seed=Seed(k)).model for k in (1, 2)]
    for (one, two), when in ((models, "starts"), (fitted, "ends")):
        same = all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
        assert not same, f"{learner} {when} with the same weights from two seeds"


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


ATTACK_CHECKS: Mapping[str, Callable[[Attack, Bench], None]] = MappingProxyType(
    {
        "keeps to its threat model": check_keeps_to_threat_model,
        "zero budget, no rows": check_zero_budget,
        "same seed, same poison": check_same_seed_same_poison,
        "the target matters": check_target_matters,
        "leaves everything alone": check_leaves_everything_alone,
        "beats noise": check_beats_noise,
        "cites its paper": check_cites_its_paper,
        "settings compare": check_settings_compare,
    }
)

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


@contextmanager
def undisturbed(who: str) -> Iterator[None]:
    """Fail where the global random states of torch, NumPy or Python, or torch's gradient mode, change in the block."""
    before = _global_state()
    yield
    for name, value in _global_state().items():
        assert value == before[name], f"{who} disturbs {name}"


def _global_state() -> dict[str, object]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 (the legacy state is what must stay)
    return {
        "torch's global random state": tuple(torch.get_rng_state().tolist()),
        "NumPy's global random state": (kind, tuple(np.asarray(keys).tolist()), *rest),
        "Python's global random state": random.getstate(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's determinism": torch.are_deterministic_algorithms_enabled(),
        "the number of threads": torch.get_num_threads(),
    }


def _gain(attack: Attack, bench: Bench, trial: int) -> float:
    """How much nearer to the wish poison brings a victim than noise does, both trained from one seed."""
    goal, seed = bench.goal(trial), Seed(trial).child("victim")
    poison = bench.craft(attack, aims=goal.known, seed=trial)
    ids = poison.rows.ids
    noise = noise_control(bench.data.train, threat=bench.threat, ids=ids, seed=Seed(trial).child("noise"))
    return _wish(bench, poison, goal.judged, seed) - _wish(bench, noise, goal.judged, seed)


def _wish(bench: Bench, poison: Poison, judged: Aims, seed: Seed) -> float:
    """How near a victim of ``poison`` is to what was wanted: a mean log-probability."""
    model = bench.learner.fit(poison.apply(bench.data.train), seed=seed).model
    likely = predictions(model, judged.seen()).log_softmax(1)
    classes, sign = (judged.labels, -1.0) if judged.wanted is None else (judged.wanted, 1.0)
    return sign * float(likely.gather(1, classes[:, None]).mean())


def _loss(model: torch.nn.Module, data: Dataset) -> float:
    model.eval()
    with torch.no_grad():
        return float(functional.cross_entropy(model(data.all_inputs()), data.labels))
