"""DP-SGD: noise of the stated size on clipped gradients, rows chosen by chance, and an account that adds up."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from mithridate.defenses.dp_sgd import DPSGD, PrivateSteps
from mithridate.learner import Batch, Hook
from mithridate.learners.augment import Augmentation
from mithridate.learners.cached import Cached
from mithridate.learners.sgd import SGD
from mithridate.models.linear import Linear
from mithridate.models.mlp import MLP
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.ops.group_norm import GroupNormed
from mithridate.ops.row_gradients import clipped_sum
from mithridate.seeding import Seed
from mithridate.testing import check_learner, toy

DATA = toy(48, seed=1)
LEARNER = SGD(model=MLP(hidden=(8,)), epochs=3, batch_size=16, lr=0.1, schedule="constant", augmentation=None)
CONVOLUTIONS = replace(LEARNER, model=SmallConvNet(widths=(4, 6)), augmentation=Augmentation(shift=1.0))


def opacus(part="accountants"):
    """A part of Opacus, or skip."""
    return pytest.importorskip(f"opacus.{part}", reason="the extra 'dp' (Opacus) is not installed")


def states(model):
    return dict(model.state_dict())


def same(one, two):
    assert states(one).keys() == states(two).keys()
    return all(torch.equal(each, states(two)[name]) for name, each in states(one).items())


def batch(rows):
    inputs, labels = DATA.take(slice(0, rows))
    return Batch(inputs=inputs, labels=labels, ids=DATA.ids[:rows])


def step(defense, *, rows=48, size=48, seed=5, model=None):
    """Gradients of one step on the first ``rows`` rows of 48, by name, and the loss."""
    hook, model = PrivateSteps(defense, epochs=3), model or LEARNER.build(DATA.space, Seed(1))
    hook.batches(48, size, Seed(2).generator())
    hook._due = [rows]
    loss = hook.backward(model, batch(rows), Seed(seed).generator())
    return {name: each.grad for name, each in model.named_parameters()}, loss


def test_without_noise_the_gradient_is_the_clipped_sum_over_the_expected_rows():
    opacus()
    model = LEARNER.build(DATA.space, Seed(1))
    taken = batch(20)
    expected, loss = clipped_sum(model, taken.inputs, taken.labels, bound=0.3, chunk=64)
    found, mean = step(DPSGD(noise_multiplier=0.0, max_grad_norm=0.3, chunk=7), rows=20, size=16, model=model)
    for name, each in expected.items():
        assert torch.allclose(found[name], each / 16, atol=1e-6)
    assert float(mean) == pytest.approx(float(loss) / 20, rel=1e-5)


@pytest.mark.parametrize(("noise", "bound"), [(1.0, 0.5), (3.0, 0.1)])
def test_the_noise_is_normal_with_the_stated_deviation(noise, bound):
    opacus()
    quiet, _ = step(DPSGD(noise_multiplier=0.0, max_grad_norm=bound), rows=20, size=16)
    loud = [step(DPSGD(noise_multiplier=noise, max_grad_norm=bound), rows=20, size=16, seed=k)[0] for k in range(40)]
    draws = torch.cat([(each[name] - quiet[name]).flatten() for each in loud for name in quiet]) * 16
    assert float(draws.mean()) == pytest.approx(0, abs=4 * noise * bound / len(draws) ** 0.5)
    assert float(draws.std()) == pytest.approx(noise * bound, rel=4 / (2 * len(draws)) ** 0.5)
    within = float((draws.abs() < noise * bound).float().mean())
    assert within == pytest.approx(math.erf(2**-0.5), abs=4 * 0.47 / len(draws) ** 0.5)


def test_noise_differs_between_parameters_and_steps_and_repeats_with_the_generator():
    opacus()
    defense = DPSGD(noise_multiplier=2.0)
    one, again, other = (step(defense, rows=0, seed=seed)[0]["last.bias"] for seed in (5, 5, 6))
    assert torch.equal(one, again)
    assert not torch.allclose(one, other)
    assert len(torch.cat([each.flatten() for each in step(defense, rows=0)[0].values()]).unique()) > 500


def test_an_empty_batch_is_a_step_of_noise_alone():
    opacus()
    found, loss = step(DPSGD(noise_multiplier=1.0), rows=0)
    assert float(loss) == 0
    assert all(bool(each.any()) for each in found.values())
    quiet, _ = step(DPSGD(noise_multiplier=0.0), rows=0)
    assert not any(bool(each.any()) for each in quiet.values())


class Sizes(Hook):
    """Notes the rows of each batch."""

    def __init__(self):
        self.seen = []

    def transform(self, model, batch, generator):
        self.seen.append(len(batch.inputs))
        return batch


@pytest.mark.parametrize("learner", [LEARNER, CONVOLUTIONS], ids=["perceptron", "augmented convolutions"])
def test_a_training_with_empty_batches_goes_to_its_end(learner):
    opacus()
    defense, sizes = DPSGD(noise_multiplier=1.0, replace_batch_norm=True), Sizes()
    learner = defense.protect(replace(learner, batch_size=1, epochs=4))
    last = learner.fit(DATA.at(slice(0, 2)), seed=Seed(1), hooks=(sizes,))
    assert {0, 1} <= set(sizes.seen)
    assert math.isfinite(last.loss)


def test_every_row_is_taken_with_the_stated_probability_and_independently():
    opacus()
    hook, draws = PrivateSteps(DPSGD(), epochs=1), Seed(3).generator()
    taken = torch.zeros(400, 48)
    for epoch in range(100):
        batches = hook.batches(48, 12, draws)
        assert len(batches) == 4
        for k, index in enumerate(batches):
            taken[4 * epoch + k, index] = 1
    spread = (0.25 * 0.75) ** 0.5
    assert float(taken.mean()) == pytest.approx(0.25, abs=4 * spread / taken.numel() ** 0.5)
    assert float((taken.mean(0) - 0.25).abs().max()) < 4.5 * spread / 20
    sizes = taken.sum(1)  # binomial, so not all of one size
    assert float(sizes.var()) == pytest.approx(48 * 0.25 * 0.75, rel=4 * (2 / 400) ** 0.5)


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_epsilon_is_what_the_accountant_says(accountant):
    """Three epochs of 48 // 16 steps, each row in a third of them."""
    direct = opacus().create_accountant(mechanism=accountant)
    for _ in range(9):
        direct.step(noise_multiplier=1.5, sample_rate=16 / 48)
    defense = DPSGD(noise_multiplier=1.5, delta=1e-3, accountant=accountant)
    facts = defense.protect(LEARNER).fit(DATA, seed=Seed(1)).facts
    assert facts == {"epsilon": pytest.approx(direct.get_epsilon(delta=1e-3)), "delta": 1e-3}


def test_without_sampling_epsilon_is_that_of_the_gaussian_mechanism():
    """All rows in every step: n Gaussian mechanisms have Renyi divergence n * order / (2 noise^2), by hand."""
    opacus()
    learner = replace(LEARNER, batch_size=48, epochs=4)
    found = DPSGD(noise_multiplier=4.0).protect(learner).fit(DATA, seed=Seed(1)).facts["epsilon"]
    orders = [1 + k / 10 for k in range(1, 100)] + list(range(12, 64))
    by_hand = min(4 * a / (2 * 4.0**2) + math.log1p(-1 / a) - (math.log(1e-5) + math.log(a)) / (a - 1) for a in orders)
    assert found == pytest.approx(by_hand)


def test_a_target_is_met_from_below(tmp_path):
    opacus()
    defense = DPSGD(target_epsilon=3.0, delta=1e-3)
    learner = defense.protect(Cached(learner=LEARNER, folder=tmp_path))  # inside another learner, to be looked through
    spent = [each.facts["epsilon"] for each in learner.train(DATA, seed=Seed(1))]
    assert spent == sorted(set(spent))
    assert 2.97 < spent[-1] <= 3.0


@pytest.mark.parametrize("accountant", ["rdp", "prv"])
def test_without_noise_nothing_is_guaranteed(accountant):
    opacus()
    learner = DPSGD(noise_multiplier=0.0, accountant=accountant).protect(replace(LEARNER, epochs=1))
    assert learner.fit(DATA, seed=Seed(1)).facts["epsilon"] == math.inf


@pytest.mark.parametrize(
    ("settings", "size"),
    [({"noise_multiplier": 0.8}, 24), ({"target_epsilon": 5.0}, 48)],
    ids=["noise", "target"],
)
def test_resuming_equals_not_stopping(settings, size):
    opacus()
    learner = DPSGD(replace_batch_norm=True, **settings).protect(replace(CONVOLUTIONS, batch_size=size))
    whole = learner.fit(DATA, seed=Seed(1))
    for progress in learner.train(DATA, seed=Seed(1)):
        if progress.epoch == 2:
            state = progress.state()
            break
    resumed = learner.fit(DATA, seed=Seed(1), resume=state)
    assert same(whole.model, resumed.model)
    assert whole.facts == resumed.facts
    assert 0 < progress.facts["epsilon"] < whole.facts["epsilon"]


def test_the_chunk_changes_nothing_but_rounding():
    opacus()
    learner = replace(LEARNER, batch_size=48)
    one, two = (DPSGD(chunk=chunk).protect(learner).fit(DATA, seed=Seed(1)).model for chunk in (1, 64))
    for name, each in states(one).items():
        assert torch.allclose(each, states(two)[name], atol=1e-4)


def test_batch_norm_is_replaced_in_what_is_built_trained_and_remembered(tmp_path):
    opacus()
    learner = DPSGD(replace_batch_norm=True).protect(Cached(learner=CONVOLUTIONS, folder=tmp_path))
    trained, found = (learner.fit(DATA, seed=Seed(1)) for _ in range(2))
    assert found.reused > 0
    assert same(trained.model, found.model)
    assert states(learner.build(DATA.space, Seed(1))).keys() == states(trained.model).keys()
    assert not any("running" in name for name in states(trained.model))
    assert learner.learner == Cached(
        learner=replace(CONVOLUTIONS, model=GroupNormed(model=CONVOLUTIONS.model)), folder=tmp_path
    )


def test_the_protected_learner_keeps_the_promises_of_learners():
    opacus()
    learner = replace(LEARNER, model=Linear(), epochs=10, batch_size=120, lr=0.5)
    check_learner(DPSGD(noise_multiplier=0.2).protect(learner), data=toy(120, seed=1))
