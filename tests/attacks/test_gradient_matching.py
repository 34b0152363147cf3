"""Gradient matching: its objective against one written out by hand, its choices, and what it hands to whom."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, get_args, get_type_hints

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from mithridate.attack import craft
from mithridate.attacks import gradient_matching
from mithridate.attacks.gradient_matching import GradientMatching
from mithridate.dataset import Dataset, Space
from mithridate.defense import Defense, protect
from mithridate.errors import ConfigError
from mithridate.goal import Backdoor, Misclassify
from mithridate.learner import Hook, Learner, predictions
from mithridate.learners.augment import Augmentation
from mithridate.learners.cached import Cached
from mithridate.learners.sgd import SGD
from mithridate.model import Architecture, Stack
from mithridate.models.linear import Linear
from mithridate.models.mlp import MLP
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.ops import compiling
from mithridate.ops.criteria import CRITERIA, head_gradient_norms
from mithridate.ops.matching import OBJECTIVES
from mithridate.seeding import Seed
from mithridate.settings import fingerprint, plain
from mithridate.testing import CornerMark, toy, undisturbed
from mithridate.threat import L2, Linf, ThreatModel, Unbounded
from mithridate.trial import noise_control
from tests.conftest import stripes

DATA, TEST = toy(60, seed=1), toy(30, seed=2)
NET = SGD(model=MLP(hidden=(12,)), epochs=4, batch_size=16, lr=0.05, schedule="one-cycle", augmentation=None)
MOVING = replace(NET, augmentation=Augmentation(shift=1.0))
CONV = SGD(model=SmallConvNet(widths=(4, 5)), epochs=2, batch_size=16, lr=0.05, augmentation=Augmentation(shift=1.0))
THREAT = ThreatModel(goal=Misclassify(target=0, intended=1), budget=0.1, perturbation=Linf(radius=16 / 255))
QUICK = GradientMatching(steps=6, restarts=1)


def crafted(attack=QUICK, *, threat=THREAT, surrogates=(NET,), seed=1, data=DATA, watch=None):
    goal = threat.goal.draw(data, TEST, Seed(2))
    more = {"watch": watch} if watch else {}
    return craft(attack, data, threat=threat, aims=goal.known, surrogates=surrogates, seed=Seed(seed), **more)


def aims(threat=THREAT):
    return threat.goal.draw(DATA, TEST, Seed(2)).known


def surrogate(learner=NET, seed=1, number=0):
    """The network that the attack trains, trained here."""
    return learner.fit(DATA, seed=Seed(seed).child("surrogates").child(number)).model


def gradient(model, inputs, labels, create_graph=False):
    """Of the mean loss in all parameters, written out."""
    return torch.autograd.grad(
        functional.cross_entropy(model(inputs), labels), list(model.parameters()), create_graph=create_graph
    )


def matching_loss(model, poison_inputs, labels, targets):
    """One minus the cosine between all parameters' gradients, written out."""
    g = torch.cat([x.flatten() for x in gradient(model, poison_inputs, labels)])
    t = torch.cat([x.flatten() for x in gradient(model, targets.seen(), targets.wanted)])
    return float(1 - g @ t / (g.norm() * t.norm()))


def moved(poison, data=DATA):
    return poison.rows.inputs.int() - data.rows(poison.rows.ids).inputs.int()


class TestObjective:
    @pytest.mark.parametrize("backend", ["double", "gated-difference"])
    def test_poison_beats_noise_of_its_size_in_the_matching_loss(self, backend):
        for seed in range(3):
            poison = crafted(replace(QUICK, steps=30, backend=backend), seed=seed)
            noise = noise_control(DATA, threat=THREAT, ids=poison.rows.ids, seed=Seed(seed))
            model, known, labels = surrogate(seed=seed), aims(), poison.rows.labels
            clean = DATA.rows(poison.rows.ids).all_inputs()
            losses = [matching_loss(model, each, labels, known) for each in (poison.rows.all_inputs(), clean)]
            assert losses[0] < losses[1] - 0.1
            assert losses[0] < matching_loss(model, noise.rows.all_inputs(), labels, known) - 0.1

    def test_the_trace_is_the_loss_at_each_step_from_the_clean_rows_on(self):
        poison = crafted(replace(QUICK, init="zero", augment=False))
        clean = DATA.rows(poison.rows.ids)
        first = matching_loss(surrogate(), clean.all_inputs(), clean.labels, aims())
        assert poison.trace["loss"][0] == pytest.approx(first, abs=1e-4)
        assert poison.trace["alignment"][0] == pytest.approx(1 - first, abs=1e-4)
        assert len(poison.trace["loss"]) == len(poison.trace["alignment"]) == 6
        assert poison.trace["loss"][-1] < first

    @pytest.mark.parametrize("loss", sorted(OBJECTIVES))
    def test_one_plain_step_follows_double_backward_written_out(self, loss):
        """With plain signed steps from the clean rows the first step is known by hand."""
        attack = GradientMatching(
            steps=1,
            restarts=1,
            optimiser="pgd",
            init="zero",
            loss=loss,
            augment=False,
            step_size=0.02,
            backend="double",
        )
        poison = crafted(attack)
        clean, model, known = DATA.rows(poison.rows.ids), surrogate(), aims()
        leaf = clean.all_inputs().requires_grad_(True)
        target = gradient(model, known.seen(), known.wanted)
        value = OBJECTIVES[loss](gradient(model, leaf, clean.labels, create_graph=True), target)
        slope = torch.autograd.grad(value, leaf)[0]
        expected = clean.all_inputs() - 0.02 * 0.2 * slope.sign()  # 0.2: one normalised pixel
        certain = slope.abs() > 1e-3 * slope.abs().max()
        assert float(certain.float().mean()) > 0.5
        assert torch.equal(poison.rows.inputs[certain], DATA.space.encode(expected)[certain])

    def test_full_data_matches_the_gradient_of_the_whole_poisoned_set(self):
        seen = []
        attack = replace(QUICK, full_data=True, steps=1, init="zero", augment=False, optimiser="pgd", backend="double")
        poison = crafted(attack, watch=seen.append)
        model, known = surrogate(), aims()
        mask = torch.isin(DATA.ids, poison.rows.ids)
        whole = DATA.all_inputs().requires_grad_(True)
        g = gradient(model, whole, DATA.labels, create_graph=True)
        value = OBJECTIVES["similarity"](g, gradient(model, known.seen(), known.wanted))
        assert poison.trace["loss"][0] == pytest.approx(float(value.detach()), abs=1e-5)
        slope = torch.autograd.grad(value, whole)[0][mask]
        expected = DATA.all_inputs()[mask] - 0.1 * 0.2 * slope.sign()
        certain = slope.abs() > 1e-3 * slope.abs().max()
        change = (expected - DATA.all_inputs()[mask]).clamp(-16 / 255, 16 / 255)
        found = DATA.space.encode((DATA.all_inputs()[mask] + change).clamp(0, 1))
        assert torch.equal(poison.rows.inputs[certain], found[certain])

    def test_the_target_is_shown_as_the_victim_will_see_it(self, monkeypatch):
        """The target gradient is taken at the unaugmented target, with its trigger on."""
        shown = []
        original = GradientMatching._target_gradients

        def spied(self, model, known):
            found = original(self, model, known)
            expected = gradient(model, known.seen(), known.wanted)
            shown.append(max(float((a - b).abs().max()) for a, b in zip(found[0], expected, strict=True)))
            return found

        monkeypatch.setattr(GradientMatching, "_target_gradients", spied)
        crafted(surrogates=(MOVING,))
        threat = replace(THREAT, goal=Backdoor(trigger=CornerMark(), intended=1, known=10))
        crafted(threat=threat, surrogates=(MOVING,))
        assert len(shown) == 2
        assert max(shown) < 1e-5


class TestCriteria:
    def test_untargeted_leads_away_from_the_true_class(self):
        attack = replace(QUICK, criterion="untargeted-cross-entropy", steps=30, augment=False)
        poison = crafted(attack)
        model, known = surrogate(), aims()
        g = torch.cat([x.flatten() for x in gradient(model, poison.rows.all_inputs(), poison.rows.labels)])
        away = torch.cat([-x.flatten() for x in gradient(model, known.seen(), known.labels)])
        cosine = float(g @ away / (g.norm() * away.norm()))
        assert cosine == pytest.approx(poison.trace["alignment"][-1], abs=0.1)
        clean = DATA.rows(poison.rows.ids)
        before = torch.cat([x.flatten() for x in gradient(model, clean.all_inputs(), clean.labels)])
        assert cosine > float(before @ away / (before.norm() * away.norm())) + 0.2

    def test_cw_is_the_margin_summed(self):
        logits = torch.tensor([[1.0, 3.0, 2.0], [5.0, 1.0, 0.0]])
        labels = torch.tensor([2, 0])
        assert float(CRITERIA["cw"](logits, labels)) == 1.0

    @pytest.mark.parametrize("loss", sorted(OBJECTIVES))
    def test_cw_with_every_row_called_right_is_no_nan(self, loss):
        """Then the poison gradient is exactly zero, and a cosine has no direction."""
        easy = replace(NET, epochs=30)
        model = surrogate(easy)
        assert (predictions(model, DATA.all_inputs()).argmax(1) == DATA.labels).all()
        attack = replace(
            QUICK, criterion="cw", loss=loss, init="zero", augment=False, optimiser="adam"
        )  # sign(NaN) is 0
        poison = crafted(attack, surrogates=(easy,))
        assert all(abs(value) < 1e6 for value in poison.trace["loss"])  # NaN is not below anything

    @pytest.mark.parametrize("loss", sorted(OBJECTIVES))
    def test_cw_on_a_target_already_called_so_is_no_nan(self, loss):
        """Then the target gradient is exactly zero."""
        goal = Misclassify(target=0, intended=1)
        known = goal.draw(DATA, TEST, Seed(2)).known
        inputs = TEST.at(TEST.labels == 1).all_inputs()
        calls = predictions(surrogate(), inputs).argmax(1)
        sure = replace(known, inputs=inputs[calls == 1][:1])
        attack = replace(QUICK, criterion="cw", loss=loss, optimiser="adam")
        poison = craft(attack, DATA, threat=THREAT, aims=sure, surrogates=(NET,), seed=Seed(1))
        assert all(abs(value) < 1e6 for value in poison.trace["loss"])


def choices(name):
    return get_args(get_type_hints(GradientMatching)[name])


CHOICES = [
    (name, value)
    for name in ("optimiser", "init", "loss", "criterion", "select", "stagger", "backend")
    for value in choices(name)
    if value != "compiled"  # takes long: see tests/ops/test_gradients.py
] + [(name, value) for name in ("per_target", "full_data", "clean_gradient") for value in (True,)]


class TestChoices:
    @pytest.mark.parametrize(("name", "value"), CHOICES)
    def test_every_choice_keeps_to_the_threat_model_and_lowers_its_loss(self, name, value):
        step = {"adam": 0.05, "momentum": 50.0, "pgd": 0.05}.get(value, 0.1)
        attack = GradientMatching(steps=25, restarts=1, augment=False, step_size=step, **{name: value})
        threat = replace(THREAT, goal=Misclassify(target=0, intended=1, targets=2))
        poison = crafted(attack, threat=threat, surrogates=(NET, NET))
        assert len(poison.rows) == 6
        assert set(poison.rows.labels.tolist()) == {1}
        assert 0 < int(moved(poison).abs().max()) <= 16
        if value != "cw" and name != "clean_gradient":  # one may vanish, the other is always at the clean rows
            assert poison.trace["loss"][-1] < poison.trace["loss"][0]

    def test_every_choice_is_another_poison(self):
        base = GradientMatching(steps=12, restarts=1)
        threat = replace(THREAT, goal=Misclassify(target=0, intended=1, targets=2))
        poisons = {}
        for name, value in [("steps", 12), *CHOICES]:
            if getattr(base, name) == value and name != "steps":
                continue
            if name == "backend" or value in ("top5-similarity", "top10-similarity", "top20-similarity"):
                continue  # equal but for float rounding, and: this network has four tensors
            attack = replace(base, **{name: value})
            poisons[name, value] = crafted(attack, threat=threat, surrogates=(MOVING, MOVING)).rows.digest()
        assert len(set(poisons.values())) == len(poisons)

    @pytest.mark.parametrize("origin", ["single-class", "third-party", "random-subset", "self-betrayal"])
    def test_every_origin_writes_its_own_rows(self, origin):
        poison = crafted(threat=replace(THREAT, origin=origin))
        labels = set(poison.rows.labels.tolist())
        allowed = {"single-class": {1}, "third-party": {2}, "random-subset": {0, 1, 2}, "self-betrayal": {0}}
        assert labels <= allowed[origin]
        assert len(poison.rows) == 6
        assert int(moved(poison).abs().max()) > 8

    def test_fixed_rows_and_targets_as_the_benchmark_has_them(self):
        base = tuple(DATA.ids[DATA.labels == 2][:4].tolist())
        target = tuple(TEST.ids[TEST.labels == 0][3:4].tolist())
        threat = ThreatModel(goal=Misclassify(ids=target, intended=2), budget=0.1, base_ids=base)
        assert aims(threat).ids.tolist() == list(target)
        poison = crafted(threat=threat)
        assert poison.rows.ids.tolist() == sorted(base)
        assert int(moved(poison).abs().max()) == 8

    @settings(max_examples=15)
    @given(st.floats(0.2 / 255, 1.0))
    def test_every_row_is_within_any_radius(self, radius):
        poison = crafted(replace(QUICK, steps=2), threat=replace(THREAT, perturbation=Linf(radius=radius)))
        assert float(moved(poison).abs().max()) <= radius * 255 + 3e-4

    @pytest.mark.parametrize("perturbation", [L2(radius=0.9), Unbounded(), Linf(radius=5.5 / 255)], ids=str)
    def test_other_perturbations(self, perturbation):
        poison = crafted(replace(QUICK, steps=15), threat=replace(THREAT, perturbation=perturbation))
        assert poison.trace["loss"][-1] < poison.trace["loss"][0]
        if isinstance(perturbation, Linf):
            assert int(moved(poison).abs().max()) == 5

    def test_tables_can_be_poisoned(self):
        space = Space(shape=(6,), num_classes=3, bounds=(-4.0, 4.0), std=(1.0, 1.0, 1.0, 2.0, 2.0, 2.0))
        draws = torch.Generator().manual_seed(0)
        inputs = torch.randn(60, 6, generator=draws).clamp(-4, 4)
        data = Dataset.of(inputs, inputs[:, :3].argmax(1), space=space)
        threat = replace(THREAT, perturbation=Linf(radius=0.5))
        goal = threat.goal.draw(data, data, Seed(0))
        learner = replace(NET, model=Linear())
        attack = replace(QUICK, steps=20, step_size=0.2)
        poison = craft(attack, data, threat=threat, aims=goal.known, surrogates=(learner,), seed=Seed(0))
        change = poison.rows.inputs - data.rows(poison.rows.ids).inputs
        assert 0.4 < float(change.abs().max()) <= 0.5 + 1e-5
        assert poison.trace["loss"][-1] < poison.trace["loss"][0]

    def test_randn_init_is_normal_with_the_radius_as_deviation_whatever_the_pixel(self):
        """Black pixels too: bounds cut the start off, but do not shrink it first."""
        black = replace(DATA, inputs=torch.zeros_like(DATA.inputs))
        brewing = gradient_matching._Brewing(QUICK, black, THREAT, black, aims(), (NET,), Seed(0))
        start = brewing._start() * brewing.unit * 255 / 16  # in radii
        assert float((start == 0).float().mean()) == pytest.approx(0.5, abs=0.03)
        assert float((start == 1).float().mean()) == pytest.approx(0.1587, abs=0.02)  # a normal above 1
        inside = start[(start > 0) & (start < 1)]
        assert float(inside.mean()) == pytest.approx(0.4598, abs=0.03)  # of a normal cut to [0, 1]
        rand = gradient_matching._Brewing(replace(QUICK, init="rand"), black, THREAT, black, aims(), (NET,), Seed(0))
        start = rand._start() * rand.unit * 255 / 16
        assert float(start[start > 0].mean()) == pytest.approx(0.5, abs=0.03)


class TestSelection:
    def test_the_rows_with_the_largest_gradient_are_poisoned(self):
        poison = crafted(replace(QUICK, select="gradient-norm"))
        model = surrogate()
        candidates = DATA.at(DATA.labels == 1)
        norms = []
        for k in range(len(candidates)):
            inputs, labels = candidates.take(torch.tensor([k]))
            loss = functional.cross_entropy(model(inputs), labels)
            slopes = torch.autograd.grad(loss, model.head_parameters())
            norms.append(float(torch.cat([s.flatten() for s in slopes]).norm()))
        largest = torch.tensor(norms).topk(6).indices
        assert poison.rows.ids.tolist() == sorted(candidates.ids[largest].tolist())

    def test_the_norm_is_exact(self):
        found = head_gradient_norms(surrogate(CONV), DATA.at(slice(0, 5)))
        model = surrogate(CONV)
        for k in range(5):
            inputs, labels = DATA.take(torch.tensor([k]))
            slopes = torch.autograd.grad(functional.cross_entropy(model(inputs), labels), model.head_parameters())
            assert float(found[k]) == pytest.approx(float(torch.cat([s.flatten() for s in slopes]).norm()), rel=1e-4)

    def test_fixed_rows_are_never_exchanged(self):
        base = tuple(DATA.ids[DATA.labels == 1][:3].tolist())
        poison = crafted(replace(QUICK, select="gradient-norm"), threat=replace(THREAT, base_ids=base))
        assert poison.rows.ids.tolist() == list(base)


class TestMicroBatch:
    @pytest.mark.parametrize("backend", ["double", "gated-difference"])
    @pytest.mark.parametrize("full", [False, True], ids=["poison rows", "full data"])
    def test_it_does_not_change_the_poison_but_for_rounding(self, backend, full):
        base = GradientMatching(
            steps=5, restarts=1, optimiser="momentum", step_size=20.0, backend=backend, full_data=full
        )
        real = replace(DATA, inputs=DATA.all_inputs(), space=replace(DATA.space, levels=None))
        whole, parts, single = (
            crafted(replace(base, micro_batch=size), data=real, surrogates=(MOVING,)) for size in (128, 4, 1)
        )
        used = float((whole.rows.inputs - real.rows(whole.rows.ids).inputs).abs().mean())
        assert used > 1e-3
        tolerance = {"double": 2e-3, "gated-difference": 2e-2}[backend] * used
        for other in (parts, single):
            assert float((other.rows.inputs - whole.rows.inputs).abs().mean()) < tolerance
            assert other.trace["loss"] == pytest.approx(whole.trace["loss"], rel=1e-3, abs=1e-4)


class TestRestarts:
    def scores(self, monkeypatch, attack, values=None, **more):
        """What each restart was scored on, and its poison."""
        found, original = [], gradient_matching._Brewing.score

        def spied(self, surrogates, poison, seed):
            real = original(self, surrogates, poison, seed)
            score = real if values is None else values[len(found)]
            found.append({"seed": seed, "poison": poison, "score": score, "surrogates": list(surrogates), "real": real})
            return score

        monkeypatch.setattr(gradient_matching._Brewing, "score", spied)
        return crafted(attack, **more), found

    def test_all_are_scored_on_the_same_draws(self, monkeypatch):
        _, found = self.scores(monkeypatch, replace(QUICK, restarts=3), surrogates=(MOVING,))
        assert len(found) == 3
        assert len({each["seed"] for each in found}) == 1
        assert len({each["poison"].rows.digest() for each in found}) == 3

    @pytest.mark.parametrize("best", [0, 1, 2])
    def test_the_best_is_kept(self, monkeypatch, best):
        values = [0.5, 0.5, 0.5]
        values[best] = 0.1
        poison, found = self.scores(monkeypatch, replace(QUICK, restarts=3), values)
        kept = found[best]["poison"]
        assert torch.equal(poison.rows.inputs, DATA.space.encode(kept.rows.all_inputs()))
        assert poison.trace == kept.trace

    def test_the_score_is_the_objective_averaged_over_fixed_draws(self, monkeypatch):
        attack = replace(QUICK, restarts=2, score_draws=5, steps=3)
        _, found = self.scores(monkeypatch, attack, surrogates=(MOVING,))
        model, known = surrogate(MOVING), aims()
        for each in found:
            rows = each["poison"].rows
            losses = [
                matching_loss(
                    model,
                    MOVING.augment(rows.inputs, space=DATA.space, generator=each["seed"].child(k).generator()),
                    rows.labels,
                    known,
                )
                for k in range(5)
            ]
            assert each["real"] == pytest.approx(sum(losses) / 5, abs=1e-4)

    def test_with_full_data_the_score_is_over_the_full_data(self, monkeypatch):
        attack = replace(QUICK, restarts=2, full_data=True, augment=False, steps=3)
        _, found = self.scores(monkeypatch, attack)
        for each in found:
            poisoned = replace(DATA, inputs=DATA.all_inputs()).updated(each["poison"].rows)
            expected = matching_loss(surrogate(), poisoned.inputs, poisoned.labels, aims())
            assert each["real"] == pytest.approx(expected, abs=1e-4)

    def test_more_restarts_are_never_worse_on_those_draws(self, monkeypatch):
        _, found = self.scores(monkeypatch, replace(QUICK, restarts=4), surrogates=(MOVING,))
        few, _ = crafted(replace(QUICK, restarts=2), surrogates=(MOVING,)), None
        ranked = min(found, key=lambda each: each["real"])
        many = crafted(replace(QUICK, restarts=4), surrogates=(MOVING,))
        assert many.trace == ranked["poison"].trace
        assert few.trace == min(found[:2], key=lambda each: each["real"])["poison"].trace


class TestEnsembles:
    def test_architectures_mix_and_their_objectives_are_averaged(self):
        attack = replace(QUICK, init="zero", augment=False)
        crew = (NET, CONV, replace(NET, model=Linear()))
        together = crafted(attack, surrogates=crew)
        clean = DATA.rows(together.rows.ids)
        alone = [
            matching_loss(surrogate(learner, number=k), clean.all_inputs(), clean.labels, aims())
            for k, learner in enumerate(crew)
        ]
        assert together.trace["loss"][0] == pytest.approx(sum(alone) / 3, abs=1e-4)
        assert together.trace["loss"][-1] < together.trace["loss"][0]

    def test_a_step_follows_the_mean_of_the_slopes(self):
        attack = GradientMatching(
            steps=1, restarts=1, optimiser="momentum", init="zero", augment=False, step_size=1.0, backend="double"
        )
        real = replace(DATA, inputs=DATA.all_inputs(), space=replace(DATA.space, levels=None))
        poison = crafted(attack, surrogates=(NET, replace(NET, model=Linear())), data=real)
        clean, known = real.rows(poison.rows.ids), aims()
        leaf = clean.inputs.clone().requires_grad_(True)
        values = []
        for k, learner in enumerate((NET, replace(NET, model=Linear()))):
            model = learner.fit(real, seed=Seed(1).child("surrogates").child(k)).model
            target = gradient(model, known.seen(), known.wanted)
            values.append(OBJECTIVES["similarity"](gradient(model, leaf, clean.labels, create_graph=True), target))
        slope = torch.autograd.grad(sum(values) / 2, leaf)[0]
        found = poison.rows.inputs - clean.inputs
        expected = (-slope * 0.2**2).clamp(-16 / 255, 16 / 255)  # a step and a slope in normalised pixels of 0.2
        inside = (clean.inputs > 0.1) & (clean.inputs < 0.9)
        assert float(expected.abs().max()) > 1e-4
        assert torch.allclose(found[inside], expected[inside], rtol=1e-3, atol=2e-7)

    def test_equal_learners_train_different_networks(self):
        one, two = surrogate(number=0), surrogate(number=1)
        assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))

    @pytest.mark.parametrize(
        ("stagger", "epochs"), [("none", [4, 4, 4]), ("full", [0, 2, 4]), ("first", [1, 2, 3]), ("between", [1, 2, 3])]
    )
    @pytest.mark.parametrize("remembered", [False, True], ids=["trained", "cached"])
    def test_staggered_surrogates_stop_when_they_should(self, monkeypatch, tmp_path, stagger, epochs, remembered):
        used = []
        original = GradientMatching._target_gradients

        def spied(self, model, known):
            used.append({name: value.clone() for name, value in model.state_dict().items()})
            assert not model.training
            return original(self, model, known)

        monkeypatch.setattr(GradientMatching, "_target_gradients", spied)
        crew = [NET] * 3
        if remembered:  # networks that were trained to the end before, as by another attack of the experiment
            crew = [Cached(learner=NET, folder=tmp_path) for _ in range(3)]
            for k, learner in enumerate(crew):
                learner.fit(DATA, seed=Seed(1).child("surrogates").child(k))
        crafted(replace(QUICK, stagger=stagger, steps=1), surrogates=tuple(crew))
        for k, epoch in enumerate(epochs):
            seed = Seed(1).child("surrogates").child(k)
            expected = NET.build(DATA.space, seed.child("weights"))
            for progress in NET.train(DATA, seed=seed):
                if progress.epoch <= epoch:
                    expected = progress.model
                if progress.epoch == epoch:
                    break
                if epoch == 0:
                    expected = NET.build(DATA.space, seed.child("weights"))
                    break
            assert all(torch.equal(value, used[k][name]) for name, value in expected.state_dict().items())

    def test_one_staggered_surrogate_is_trained_to_the_end(self):
        assert gradient_matching._stops("full", 1) == [None]
        assert gradient_matching._stops("full", 5) == [0, 0.25, 0.5, 0.75, 1]
        assert gradient_matching._stops("between", 3) == [0.25, 0.5, 0.75]


class TestSeveralTargets:
    threat = replace(THREAT, goal=Misclassify(target=0, intended=1, targets=3))

    def test_one_gradient_of_their_mean_or_one_each(self):
        model, known = surrogate(), aims(self.threat)
        together = QUICK._target_gradients(model, known)
        each = replace(QUICK, per_target=True)._target_gradients(model, known)
        assert (len(together), len(each)) == (1, 3)
        whole = gradient(model, known.seen(), known.wanted)
        for a, b in zip(together[0], whole, strict=True):
            assert torch.allclose(a, b, atol=1e-5)
        for k, found in enumerate(each):
            alone = gradient(model, known.seen()[k : k + 1], known.wanted[k : k + 1])
            for a, b in zip(found, alone, strict=True):
                assert torch.allclose(a, b, atol=1e-5)

    def test_per_target_averages_the_objectives(self):
        poison = crafted(replace(QUICK, per_target=True, init="zero", augment=False), threat=self.threat)
        model, known = surrogate(), aims(self.threat)
        clean = DATA.rows(poison.rows.ids)
        losses = []
        for k in range(3):
            one = replace(known, inputs=known.inputs[k : k + 1], wanted=known.wanted[k : k + 1])
            losses.append(matching_loss(model, clean.all_inputs(), clean.labels, one))
        assert poison.trace["loss"][0] == pytest.approx(sum(losses) / 3, abs=1e-4)


class Spy(Learner):
    """Trains as the learner inside, and writes down on what."""

    name: ClassVar[str] = "spy"

    def __init__(self, inner):
        self.inner, self.calls = inner, []

    def build(self, space, seed):
        return self.inner.build(space, seed)

    def augment(self, inputs, *, space, generator):
        return self.inner.augment(inputs, space=space, generator=generator)

    def train(self, data, *, seed, hooks=(), resume=None):
        self.calls.append((data, seed))
        yield from self.inner.train(data, seed=seed, hooks=hooks)


class TestRetraining:
    def test_surrogates_are_trained_on_the_current_poison_and_targets_taken_again(self, monkeypatch):
        spy, gradients = Spy(NET), []
        original = GradientMatching._target_gradients

        def spied(self, model, known):
            found = original(self, model, known)
            gradients.append((model, found))
            return found

        monkeypatch.setattr(GradientMatching, "_target_gradients", spied)
        poison = crafted(replace(QUICK, steps=10, retrain_every=4), surrogates=(spy,))
        assert len(spy.calls) == len(gradients) == 3  # at the start, and after 4 and 8 steps
        assert len({seed for _, seed in spy.calls}) == 3
        clean, *later = (data for data, _ in spy.calls)
        assert clean.digest() == DATA.digest()
        for data in later:
            differs = (data.inputs != DATA.inputs).flatten(1).any(1)
            assert data.ids[differs].tolist() == poison.rows.ids.tolist()
            assert torch.equal(data.labels, DATA.labels)
        assert later[0].digest() != later[1].digest()
        for model, found in gradients:
            expected = gradient(model, aims().seen(), aims().wanted)
            assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found[0], expected, strict=True))

    def test_the_steps_after_it_descend_on_the_new_target(self):
        plain, again = (crafted(replace(QUICK, steps=8, retrain_every=every)) for every in (0, 4))
        assert plain.trace["loss"][:4] == again.trace["loss"][:4]
        assert plain.trace["loss"][4] != again.trace["loss"][4]

    def test_each_restart_begins_with_the_clean_surrogates(self):
        spy = Spy(NET)
        crafted(replace(QUICK, steps=4, retrain_every=2, restarts=2), surrogates=(spy,))
        assert len(spy.calls) == 3  # one clean, and one in each restart


class Doubling(Defense):
    """A defense that shows every input at double contrast, in training and in the augmentation."""

    name: ClassVar[str] = "doubling"

    def protect(self, learner):
        return Doubled(learner)


class Doubled(Spy):
    def augment(self, inputs, *, space, generator):
        return self.inner.augment(inputs, space=space, generator=generator) * 2

    def train(self, data, *, seed, hooks=(), resume=None):
        class Double(Hook):
            def transform(self, model, batch, generator):
                return replace(batch, inputs=batch.inputs * 2)

        self.calls.append((data, seed))
        yield from self.inner.train(data, seed=seed, hooks=(*hooks, Double()))


class TestAdaptive:
    def test_a_protected_learner_is_trained_and_looked_through(self):
        protected = protect(NET, (Doubling(),))
        poison = crafted(replace(QUICK, init="zero"), surrogates=(protected,))
        assert len(protected.calls) == 1
        model = protected.fit(DATA, seed=Seed(1).child("surrogates").child(0)).model
        clean = DATA.rows(poison.rows.ids)
        expected = matching_loss(model, clean.all_inputs() * 2, clean.labels, aims())
        assert poison.trace["loss"][0] == pytest.approx(expected, abs=1e-4)
        assert poison.rows.digest() != crafted(replace(QUICK, init="zero")).rows.digest()

    def test_crafting_goes_through_the_learners_own_augmentation(self):
        draws = Seed(1).child("restart", 0).child("augmentation").generator()
        poison = crafted(replace(QUICK, init="zero"), surrogates=(MOVING,))
        clean = DATA.rows(poison.rows.ids)
        shown = MOVING.augment(clean.all_inputs(), space=DATA.space, generator=draws)
        expected = matching_loss(surrogate(MOVING), shown, clean.labels, aims())
        assert poison.trace["loss"][0] == pytest.approx(expected, abs=1e-4)


class TestSurrogate:
    def test_it_is_in_evaluation_mode_with_dropout_off_and_stays_as_trained(self, monkeypatch):
        @dataclass(frozen=True, kw_only=True)
        class Dropping(Architecture):
            name: ClassVar[str] = "dropping"

            def build(self, space):
                body = nn.Sequential(
                    nn.Conv2d(1, 4, 3),
                    nn.BatchNorm2d(4),
                    nn.ReLU(),
                    nn.Dropout(0.5),
                    nn.AdaptiveAvgPool2d(2),
                    nn.Flatten(),
                )
                return Stack(space, body=body, width=16)

        kept = []
        original = GradientMatching._target_gradients

        def spied(self, model, known):
            kept.append((model, {name: value.clone() for name, value in model.state_dict().items()}))
            return original(self, model, known)

        monkeypatch.setattr(GradientMatching, "_target_gradients", spied)
        learner = replace(NET, model=Dropping())
        one, two = (crafted(replace(QUICK, augment=False), surrogates=(learner,)) for _ in range(2))
        assert one.rows.digest() == two.rows.digest()
        for model, before in kept:
            assert not any(module.training for module in model.modules())
            assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_no_rows_no_training(self):
        spy = Spy(NET)
        assert len(crafted(threat=replace(THREAT, budget=0.0), surrogates=(spy,)).rows) == 0
        assert not spy.calls

    def test_global_randomness_is_left_alone_with_everything_switched_on(self):
        attack = replace(QUICK, restarts=2, retrain_every=3, select="gradient-norm", stagger="full")
        with undisturbed("gradient matching"):
            crafted(attack, surrogates=(MOVING, CONV))

    def test_the_last_step_is_reported(self):
        steps = []
        poison = crafted(replace(QUICK, restarts=2), watch=steps.append)
        crafting = [step for step in steps if step.stage.startswith("crafting")]
        assert [(step.done, step.total) for step in crafting] == [(k, 6) for k in range(1, 7)] * 2
        assert crafting[0].stage == "crafting, restart 1 of 2"
        assert {round(step.values["matching loss"], 5) for step in crafting} >= {
            round(v, 5) for v in poison.trace["loss"]
        }
        assert [step.done for step in steps if step.stage == "surrogate"] == [1, 2, 3, 4]


def test_crafting_through_the_augmentation_fools_augmented_views(learner):
    """Poison crafted without it matches less on the views a victim trains on (spec 3.2: a third of the strength)."""
    data, moving = stripes(90, seed=1), replace(learner, augmentation=Augmentation(shift=3.0))
    threat = ThreatModel(budget=0.1, perturbation=Linf(radius=16 / 255))
    goal = threat.goal.draw(data, stripes(30, seed=2), Seed(0)).known
    model = moving.fit(data, seed=Seed(1).child("surrogates").child(0)).model
    losses = []
    for augment in (True, False):
        attack = GradientMatching(steps=40, restarts=1, augment=augment)
        rows = craft(attack, data, threat=threat, aims=goal, surrogates=(moving,), seed=Seed(1)).rows
        views = [
            moving.augment(rows.all_inputs(), space=data.space, generator=Seed(5).child(k).generator())
            for k in range(12)
        ]
        losses.append(sum(matching_loss(model, view, rows.labels, goal) for view in views) / len(views))
    assert losses[0] < losses[1]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"steps": 0}, "steps must be at least 1, but it is 0"),
        ({"restarts": 0}, "restarts must be at least 1"),
        ({"score_draws": 0}, "score_draws must be at least 1"),
        ({"micro_batch": 0}, "micro_batch must be at least 1"),
        ({"step_size": 0.0}, "step_size must be positive"),
        ({"step_size": float("nan")}, "step_size must be positive"),
        ({"retrain_every": -1}, "retrain_every must be at least 0"),
        ({"retrain_every": 10, "halving": True}, "halving compares restarts .* retrain_every is 10; set retrain_every"),
        (
            {"backend": "smoothed", "precision": "bf16"},
            "backend 'smoothed' takes a difference .* use precision: float32",
        ),
        ({"backend": "gated", "precision": "tf32"}, "backend 'gated' takes a difference of gradients"),
    ],
)
def test_settings_that_cannot_craft_are_refused(wrong, sentence):
    with pytest.raises(ConfigError, match=sentence):
        GradientMatching(**wrong)


def test_the_papers_numbers():
    """Spec section 1.7."""
    found = GradientMatching()
    assert (found.steps, found.restarts, found.step_size, found.optimiser) == (250, 8, 0.1, "signed-adam")
    assert (found.init, found.loss, found.criterion) == ("randn", "similarity", "cross-entropy")
    assert (found.augment, found.decay, found.full_data, found.retrain_every) == (True, True, False, 0)
    assert gradient_matching._decays(250) == [93, 156, 218]


def test_step_sizes_fall_by_ten_after_each_decay():
    """Plain signed steps on a wide radius: the distance walked in each phase tells the step size."""
    attack = GradientMatching(steps=8, restarts=1, optimiser="pgd", init="zero", step_size=0.5, augment=False)
    poison = crafted(attack, threat=replace(THREAT, perturbation=Linf(radius=1.0)))
    reached = moved(poison).abs().max()
    assert gradient_matching._decays(8) == [2, 4, 7]
    # 2 steps of 0.5, 2 of 0.05, 3 of 0.005, 1 of 0.0005 normalised pixels, each 0.2 * 255 levels
    assert int(reached) == pytest.approx(1.1155 * 0.2 * 255, abs=1)
    flat = crafted(replace(attack, decay=False), threat=replace(THREAT, perturbation=Linf(radius=1.0)))
    assert int(moved(flat).abs().max()) > 1.5 * 0.2 * 255


def test_a_single_step_is_a_whole_one():
    attack = GradientMatching(steps=1, restarts=1, optimiser="pgd", init="zero", step_size=0.2, augment=False)
    assert int(moved(crafted(attack)).abs().max()) == round(0.2 * 0.2 * 255)


def test_clean_gradients_are_one_direction_for_all_steps():
    attack = GradientMatching(steps=3, restarts=1, optimiser="pgd", init="zero", clean_gradient=True, decay=False)
    one, three = (crafted(replace(attack, steps=n, step_size=0.06, augment=False)) for n in (1, 3))
    inside = (DATA.rows(one.rows.ids).inputs > 20) & (DATA.rows(one.rows.ids).inputs < 235)
    sign_one, sign_three = moved(one)[inside].sign(), moved(three)[inside]
    assert float((sign_three == 9 * sign_one).float().mean()) > 0.95  # 0.06 * 0.2 * 255 = 3.06 levels a step
    assert three.trace["loss"][0] == three.trace["loss"][2]


def test_a_restart_without_a_score_never_beats_one_with(monkeypatch, split, learner):
    """A diverged surrogate scores nan, which no comparison beats."""
    scores = iter([float("nan"), 0.5, 0.1])
    made: list = []
    run = gradient_matching._Brewing.run

    def remembered(self, *args, **kwargs):
        found = run(self, *args, **kwargs)
        made.append(found[0])
        return found

    monkeypatch.setattr(gradient_matching._Brewing, "run", remembered)
    monkeypatch.setattr(gradient_matching._Brewing, "score", lambda *_: next(scores))
    attack = GradientMatching(steps=1, restarts=3)
    threat = ThreatModel(budget=0.1)
    aims = threat.goal.draw(split.train, split.test, Seed(0)).known
    found = attack.craft(split.train, threat, aims=aims, surrogates=[learner], seed=Seed(0))
    assert found is made[2]


class TestHalving:
    ATTACK = replace(QUICK, steps=16, restarts=4)

    def test_the_restart_kept_is_the_one_that_all_steps_would_have_made(self, monkeypatch):
        """Giving up others changes nothing of it: the poison is the same bit for bit."""
        made, run = [], gradient_matching._Brewing.run

        def remembered(self, *args, **kwargs):
            made.append(run(self, *args, **kwargs))
            return made[-1]

        monkeypatch.setattr(gradient_matching._Brewing, "run", remembered)
        crafted(self.ATTACK, surrogates=(MOVING,))
        whole = [each[0] for each in made]
        crafted(replace(self.ATTACK, halving=True), surrogates=(MOVING,))
        found = made[-1][0]
        same = [each for each in whole if each.rows.digest() == found.rows.digest()]
        assert len(same) == 1
        assert same[0].trace == found.trace

    def test_the_worse_half_is_given_up_after_a_quarter_and_half_of_the_steps(self, monkeypatch):
        scores = {4: [0.9, 0.2, 0.4, 0.8], 8: [0.6, 0.3]}
        score = gradient_matching._Brewing.score

        def told(self, surrogates, poison, seed):
            score(self, surrogates, poison, seed)
            return scores[len(poison.trace["loss"])].pop(0)

        monkeypatch.setattr(gradient_matching._Brewing, "score", told)
        steps = []
        crafted(replace(self.ATTACK, halving=True), watch=steps.append)
        done = [(each.stage.split(",")[1], each.done) for each in steps if each.stage.startswith("crafting")]
        expected = [(k, range(1, 5)) for k in (1, 2, 3, 4)] + [(2, range(5, 9)), (3, range(5, 9)), (3, range(9, 17))]
        assert done == [(f" restart {k} of 4", step) for k, steps in expected for step in steps]

    def test_one_restart_is_not_halved(self):
        one = replace(QUICK, restarts=1)
        assert crafted(one).rows.digest() == crafted(replace(one, halving=True)).rows.digest()


def test_settings_that_came_later_leave_older_keys_as_they_were():
    assert not {"precision", "halving"} & set(plain(GradientMatching()))
    assert plain(GradientMatching(halving=True, precision="bf16"))["halving"] is True
    assert fingerprint(GradientMatching()) == KEY


KEY = "c2fc9b045020ffa3ee7f0132"
"""Of the default settings, when they were first stored."""


def test_crafting_in_few_bits_keeps_to_the_threat_model_and_lowers_its_loss():
    poison = crafted(replace(QUICK, steps=25, precision="bf16", augment=False), surrogates=(CONV,))
    assert 0 < int(moved(poison).abs().max()) <= 16
    assert poison.trace["loss"][-1] < poison.trace["loss"][0]


def test_a_backend_that_cannot_be_used_is_named_with_the_one_that_is(monkeypatch):
    def broken(graph, inputs):
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(compiling, "ENGINE", broken)
    steps = []
    crafted(replace(QUICK, steps=1, backend="compiled"), watch=steps.append)
    (note,) = [each.note for each in steps if each.note]
    assert note.startswith("compiled cannot be used with this network (")
    assert note.endswith("; 'reverse-over-forward' is used")
    steps.clear()
    crafted(replace(QUICK, steps=1), watch=steps.append)
    assert not any(each.note for each in steps)
