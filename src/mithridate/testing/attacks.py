"""Promises that every attack keeps, checked on a toy task."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch

from mithridate.attack import Attack
from mithridate.goal import Aims, Backdoor, Degrade, GoalSpec, Misclassify
from mithridate.learner import predictions
from mithridate.poison import Poison
from mithridate.seeding import Seed
from mithridate.testing.bench import Bench, CornerMark, toy_bench
from mithridate.testing.resuming import check_crafting_resumes
from mithridate.testing.surroundings import undisturbed
from mithridate.threat import Linf
from mithridate.trial import beginnings, noise_like

TRIALS = 6
"""Trials of :func:`check_beats_noise`, each with a victim of the poison and one of noise."""


def bench_of(attack: Attack) -> Bench:
    """The toy task under the first goal that ``attack`` can pursue, and the first way of writing rows."""
    goals: Mapping[type[GoalSpec], GoalSpec] = {
        Misclassify: Misclassify(target=0, intended=1),
        Backdoor: Backdoor(trigger=CornerMark(), intended=1),
        Degrade: Degrade(),
    }
    known = [goals[kind] for kind in attack.goals if kind in goals]
    assert known, f"{attack.name} names no goal of ours in goals, so it cannot be checked; it has {attack.goals}"
    return toy_bench(known[0], rows=attack.rows[0], labels="dirty" if attack.needs_dirty_labels else "clean")


def check_attack(attack: Attack | type[Attack], *, bench: Bench | None = None) -> None:
    """Check every promise of an attack (a class is tried with its default settings).

    Without ``bench`` the toy task is used; give one where the attack needs another threat model. Raises
    ``AssertionError`` with a sentence for the first promise that is broken.
    """
    attack = attack() if isinstance(attack, type) else attack
    for check in ATTACK_CHECKS.values():
        check(attack, bench or bench_of(attack))


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
    first = bench.craft(attack)
    began = first.rows.ids if first.origins is None else first.origins
    threat = replace(bench.threat, base_ids=tuple(began.tolist()))
    ids = bench.data.test.ids[bench.data.test.labels == 0][:2].tolist()
    wishes = [(ids[0], 1), (ids[1], 1), (ids[0], 2)]
    crafted = []
    for target, intended in wishes:
        goal = Misclassify(ids=(target,), intended=intended)
        aims = bench.goal(spec=goal).known
        crafted.append(bench.craft(attack, aims=aims, threat=replace(threat, goal=goal)).rows.inputs)
    for k, what in ((1, "target"), (2, "wanted class"))[: 2 if attack.heeds_wanted else 1]:
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
    """Victims of the poison are nearer to the attacker's wish than victims of noise on the same rows.

    Attacks that only change labels are left out: noise keeps their labels, which are all they do. Nearness is
    the log-probability of the wanted class (or minus that of the true one), its gain over noise averaged over
    ``TRIALS`` trials; the mean must be more than two standard errors above zero.
    """
    if attack.needs_dirty_labels:
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
        "resuming equals not stopping": check_crafting_resumes,
    }
)


def _gain(attack: Attack, bench: Bench, trial: int) -> float:
    """How much nearer to the wish poison brings a victim than noise does, both trained from one seed."""
    goal, seed = bench.goal(trial), Seed(trial).child("victim")
    poison = bench.craft(attack, aims=goal.known, seed=trial)
    base = beginnings(poison, None, bench.data.train, seed=Seed(trial).child("noise"))
    noise = noise_like(poison, base, threat=bench.threat, seed=Seed(trial).child("noise"))
    return _wish(bench, poison, goal.judged, seed) - _wish(bench, noise, goal.judged, seed)


def _wish(bench: Bench, poison: Poison, judged: Aims, seed: Seed) -> float:
    """How near a victim of ``poison`` is to what was wanted: a mean log-probability."""
    model = bench.learner.fit(poison.apply(bench.data.train), seed=seed).model
    likely = predictions(model, judged.seen()).log_softmax(1)
    classes, sign = (judged.labels, -1.0) if judged.wanted is None else (judged.wanted, 1.0)
    return sign * float(likely.gather(1, classes[:, None]).mean())
