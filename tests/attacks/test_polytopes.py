"""Convex Polytope, Bullseye Polytope and feature collision: what all three keep, and where they differ."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn

from mithridate.attack import craft
from mithridate.attacks.bullseye_polytope import BullseyePolytope
from mithridate.attacks.convex_polytope import ConvexPolytope
from mithridate.attacks.feature_collision import FeatureCollision
from mithridate.errors import ConfigError
from mithridate.feature_attack import Placing, trained_networks
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.models.wrapped import wrap
from mithridate.ops.layers import crafting, recording
from mithridate.ops.polytope import (
    collisions,
    combined,
    convex_coefficients,
    equal_coefficients,
    miss,
    relative_distance,
)
from mithridate.seeding import Seed
from mithridate.threat import Linf
from tests.attacks.featurespace import (
    ANYTHING,
    BOTH,
    CONV,
    DATA,
    FLAT,
    NET,
    THREAT,
    aims,
    at,
    crafted,
    network,
    points,
    rows,
    shown,
    transparent,
)

CP, BP = ConvexPolytope(steps=25), BullseyePolytope(steps=25)
FC = FeatureCollision(steps=25, watermark=0.0)
ALL = [CP, BP, FC]
LEARNERS = [NET, CONV]


def named(value):
    return getattr(value, "name", None) or type(getattr(value, "model", value)).__name__


every_attack = pytest.mark.parametrize("attack", ALL, ids=named)
every_network = pytest.mark.parametrize("learner", LEARNERS, ids=named)


def miss_of(attack, poison_points, target):
    """How far the target ``(D,)`` is from where each attack wants it among points ``(k, D)``."""
    points, target = poison_points[None], target[None]
    if attack.name == "feature-collision":
        return float(collisions(points, target).mul(2).sqrt().mean())
    convex = attack.name == "convex-polytope"
    weights = convex_coefficients(points, target) if convex else equal_coefficients(points)
    return float(relative_distance(combined(points, weights), target))


class TestTarget:
    @every_attack
    @every_network
    def test_features_move_to_their_own_target_and_not_to_another(self, attack, learner):
        """The fault of a published toolbox: an attack that never looks at its target."""
        model, base = network(learner), rows()
        others = aims(0), aims(2)  # a target of class 0 and one of class 2
        features = [shown(model, each.inputs)[0] for each in others]
        clean = shown(model, base.all_inputs())
        poisons = [crafted(attack, [model], base=base, at=each, threat=THREAT).rows.all_inputs() for each in others]
        assert float((poisons[0] - poisons[1]).abs().mean()) > 0.01
        for own in (0, 1):
            moved = shown(model, poisons[own])
            left = [miss_of(attack, moved, target) / miss_of(attack, clean, target) for target in features]
            assert left[own] < 0.7
            assert left[own] < left[1 - own] - 0.05

    @every_attack
    def test_the_trace_is_the_distance_from_the_clean_rows_on(self, attack):
        model, base, target = network(), rows(), aims()
        poison = crafted(attack, [model], base=base, at=target)
        found = shown(model, target.inputs)[0]
        curve = poison.trace["distance to the target, network 1"]
        assert curve[0] == pytest.approx(miss_of(attack, shown(model, base.all_inputs()), found), rel=1e-4)
        assert curve[-1] < 0.7 * curve[0]
        if attack is not FC:  # whose loss is a mean of squares
            assert poison.trace["loss"] == pytest.approx([each**2 / 2 for each in curve], rel=1e-3, abs=1e-7)
        assert len(curve) == len(poison.trace["loss"]) == 25


ENDS, TARGET = ([0.0, 0.0, 0.5, 1.0], [1.0, 0.0, 0.5, 0.0]), [0.25, 0.0, 0.5, 0.75]
AT_REST = [
    pytest.param(replace(CP, optimiser="sgd"), ENDS, TARGET, id="a quarter of the way"),
    pytest.param(BP, ENDS, [0.5, 0.0, 0.5, 0.5], id="half the way"),
    pytest.param(replace(BP, ratio="released"), ENDS, [0.5, 0.0, 0.5, 0.5], id="half the way, released"),
    pytest.param(FC, (TARGET, TARGET), TARGET, id="on every poison"),
    pytest.param(replace(FC, watermark=0.3), (TARGET, TARGET), TARGET, id="on every poison, watermarked"),
]


class TestAtRest:
    """Where the target is where it should be the loss is zero, and so is its slope."""

    @pytest.mark.parametrize(("attack", "base", "target"), AT_REST)
    def test_nothing_moves(self, attack, base, target):
        base = points(*base)
        poison = crafted(attack, [transparent()], base=base, at=at(target))
        assert max(poison.trace["loss"]) < 1e-12
        assert torch.allclose(poison.rows.inputs, base.inputs, rtol=0, atol=1e-6)
        elsewhere = crafted(attack, [transparent()], base=base, at=at([0.0, 1.0, 0.0, 0.0]))
        assert elsewhere.trace["loss"][0] > 0.1
        assert not torch.allclose(elsewhere.rows.inputs, base.inputs, rtol=0, atol=1e-3)

    def test_in_the_hull_is_at_rest_for_convex_alone_and_at_the_mean_for_bullseye_too(self):
        base = points(*ENDS)
        losses = {
            attack.name: [
                crafted(attack, [transparent()], base=base, at=at(target)).trace["loss"][0]
                for target in (TARGET, [0.5, 0.0, 0.5, 0.5])
            ]
            for attack in ALL
        }
        assert max(losses["convex-polytope"]) < 1e-12
        assert losses["bullseye-polytope"] == pytest.approx([0.125 / (2 * 0.875), 0.0])
        assert losses["feature-collision"] == pytest.approx([(0.125 + 1.125) / 2 / (2 * 0.875), 0.5 / (2 * 0.75)])


class TestOnePoison:
    """A polytope of one point is that point: the three attacks are one."""

    @pytest.mark.parametrize("layers", [("penultimate",), BOTH], ids=str)
    @every_network
    def test_losses_agree(self, learner, layers):
        model, base = network(learner), rows(count=1)
        losses = [crafted(replace(each, layers=layers, steps=1), [model], base=base).trace["loss"][0] for each in ALL]
        assert losses[0] > 0.05
        assert losses == pytest.approx([losses[0]] * 3, rel=1e-4)

    @every_network
    def test_one_plain_step_agrees(self, learner):
        """Steps of feature collision are those of gradients of the mean over the 64 pixels: 64 times as long."""
        model, base = network(learner), rows(count=1)
        plain = {"steps": 1, "optimiser": "sgd"}
        changes = [
            crafted(attack, [model], base=base).rows.all_inputs() - base.all_inputs()
            for attack in (
                replace(CP, **plain, step_size=0.064),
                replace(BP, **plain, step_size=0.064),
                replace(FC, steps=1, step_size=0.001),
            )
        ]
        assert float(changes[0].abs().max()) > 1e-4
        for each in changes[1:]:
            assert torch.allclose(each, changes[0], rtol=1e-2, atol=1e-7)


class TestSeveralLayers:
    @every_attack
    @every_network
    def test_every_poison_moves(self, attack, learner):
        """The fault of a published toolbox: with several layers only the first poison moved."""
        model, base, target = network(learner), rows(count=4), aims()
        poison = crafted(replace(attack, layers=BOTH), [model], base=base, at=target, threat=THREAT)
        change = (poison.rows.all_inputs() - base.all_inputs()).abs().flatten(1).mean(1)
        if attack is CP:  # which has no use for points of no weight
            views = [(shown(model, base.all_inputs(), layer), shown(model, target.inputs, layer)) for layer in BOTH]
            weights = sum(convex_coefficients(points[None], wanted)[0] for points, wanted in views)
            change = change[weights > 0.05]
        assert len(change) >= 2
        assert float(change.min()) > 2 / 255

    @every_attack
    def test_the_loss_is_the_mean_over_layers(self, attack):
        model = network(CONV)
        first = [
            crafted(replace(attack, layers=layers, steps=1), [model]).trace["loss"][0]
            for layers in (BOTH, *[(layer,) for layer in BOTH])
        ]
        assert first[0] == pytest.approx((first[1] + first[2]) / 2, rel=1e-5)
        assert first[1] != pytest.approx(first[2], rel=0.01)

    @every_attack
    def test_layers_of_any_module_are_named_by_their_own_names(self, attack):
        with Seed(0).scope():
            second = nn.Sequential(OrderedDict(linear=nn.Linear(6, 5), relu=nn.ReLU()))
            parts = OrderedDict(flat=nn.Flatten(), one=nn.Linear(64, 6), two=second, fc=nn.Linear(5, 3))
        module = nn.Sequential(parts)
        before = {name: value.clone() for name, value in module.state_dict().items()}
        model = wrap(module)
        whole = crafted(replace(attack, layers=("one", "two.linear", "penultimate")), [model])
        assert whole.trace["loss"][-1] < 0.7 * whole.trace["loss"][0]
        assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
        assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
        assert all(each.requires_grad for each in module.parameters())
        assert module.training
        with pytest.raises(ConfigError, match=r"no layer 'two.linea': did you mean 'two.linear'"):
            crafted(replace(attack, layers=("two.linea",)), [model])

    def test_no_layer_and_layers_named_twice_are_refused(self):
        for layers in ((), ("penultimate", "penultimate")):
            with pytest.raises(ConfigError, match="layers must name"):
                BullseyePolytope(layers=layers)


class TestReleasedFault:
    """The released end-to-end loss: its last layer is the sum of collisions instead of the distance to the hull."""

    def test_it_is_the_sum_of_collisions_in_the_last_layer_alone(self):
        model, base, target = network(CONV), rows(), aims()
        right, faulty = [
            crafted(replace(CP, layers=BOTH, steps=1, release_fault=fault), [model], base=base).trace["loss"][0]
            for fault in (False, True)
        ]
        block, wanted = [shown(model, each, "last-but-one") for each in (base.all_inputs(), target.inputs)]
        hull = float(miss(combined(block[None], convex_coefficients(block[None], wanted)), wanted))
        last, wanted = [shown(model, each) for each in (base.all_inputs(), target.inputs)]
        collided = sum(float((each - wanted[0]).square().sum() / wanted[0].square().sum() / 2) for each in last)
        assert faulty == pytest.approx((hull + collided) / 2, rel=1e-4)
        assert right < faulty - 0.1

    def test_it_crafts_another_poison(self):
        model = network(CONV)
        right, faulty = [
            crafted(replace(CP, layers=BOTH, release_fault=fault), [model], threat=THREAT).rows.inputs
            for fault in (False, True)
        ]
        assert float((right - faulty).abs().mean()) > 0.005

    @pytest.mark.parametrize("layers", [("penultimate",), ("last-but-one",), ("last-but-one", "body.2")])
    def test_it_is_refused_where_it_is_none(self, layers):
        with pytest.raises(ConfigError, match="release_fault needs two or more layers"):
            ConvexPolytope(layers=layers, release_fault=True)


class TestReleasedRatio:
    @pytest.mark.parametrize("layers", [("penultimate",), ("last-but-one",), BOTH], ids=str)
    def test_its_loss_is_the_ratio_place_by_place(self, layers):
        model, base, target = network(CONV), rows(), aims(3)
        poison = crafted(replace(BP, ratio="released", layers=layers), [model], base=base, at=target)
        expected = []
        for layer in layers:
            wanted, found = shown(model, target.inputs, layer)[0], shown(model, base.all_inputs(), layer).mean(0)
            length = wanted.norm(dim=0)
            length = torch.where(length > 0, length, length.mean())
            expected.append(float(((found - wanted).norm(dim=0) / length).mean()))
        assert poison.trace["loss"][0] == pytest.approx(sum(expected) / len(layers), rel=1e-4)
        assert poison.trace["loss"][-1] < 0.7 * poison.trace["loss"][0]

    def test_targets_with_dead_places_give_numbers(self):
        model = network(CONV)
        with torch.no_grad():
            model.body[0].weight[:, :, :, :].abs_()
            model.body[1].bias.sub_(1.0)  # most of the first block is silent now
        dead = shown(model, aims().inputs, "last-but-one").norm(dim=1) == 0
        assert 0.05 < float(dead.float().mean()) < 0.95
        poison = crafted(replace(BP, ratio="released", layers=("last-but-one",)), [model])
        assert bool(torch.isfinite(poison.rows.inputs).all())
        assert poison.trace["loss"][0] < 100
        assert poison.trace["loss"][-1] < 0.9 * poison.trace["loss"][0]


class TestThreatModel:
    @every_attack
    @pytest.mark.parametrize("levels", [1.5, 5.5, 13.3])
    def test_radius_and_range_hold_after_rounding(self, attack, levels):
        threat = replace(THREAT, perturbation=Linf(radius=levels / 255))
        goal = threat.goal.draw(DATA, DATA, Seed(2))
        poison = craft(attack, DATA, threat=threat, aims=goal.known, surrogates=(NET,), seed=Seed(1))
        assert poison.rows.inputs.dtype == torch.uint8
        change = poison.rows.inputs.int() - DATA.rows(poison.rows.ids).inputs.int()
        assert int(change.abs().max()) == int(levels)
        assert poison.rows.labels.tolist() == [1] * 3

    @every_attack
    def test_nothing_leaves_the_range(self, attack):
        poison = crafted(attack, [network()], threat=ANYTHING)
        assert float(poison.rows.inputs.min()) >= 0
        assert float(poison.rows.inputs.max()) <= 1


class TestEnsembles:
    @every_attack
    def test_of_one_and_of_the_same_network_twice_it_equals_the_single_one(self, attack):
        goal = THREAT.goal.draw(DATA, DATA, Seed(2))
        poison = craft(attack, DATA, threat=THREAT, aims=goal.known, surrogates=(NET,), seed=Seed(1))
        base = DATA.rows(poison.rows.ids)
        (model,) = trained_networks([NET], DATA, seed=Seed(1).child("surrogates"))
        one = crafted(attack, [model], base=base, at=goal.known, threat=THREAT)
        twice = crafted(attack, [model, model], base=base, at=goal.known, threat=THREAT)
        assert torch.equal(FLAT.decode(DATA.space.encode(one.rows.inputs)), poison.rows.all_inputs())
        assert torch.allclose(twice.rows.inputs, one.rows.inputs, rtol=0, atol=1e-5)
        curves = [twice.trace[f"distance to the target, network {k}"] for k in (1, 2)]
        assert curves[0] == curves[1] == pytest.approx(one.trace["distance to the target, network 1"], rel=1e-4)

    @every_attack
    def test_the_loss_is_the_mean_over_networks_and_falls_in_each(self, attack):
        models = [network(seed=0), network(CONV, seed=1)]
        alone = [crafted(replace(attack, steps=1), [model]).trace["loss"][0] for model in models]
        poison = crafted(attack, models)
        assert poison.trace["loss"][0] == pytest.approx(sum(alone) / 2, rel=1e-5)
        for k in (1, 2):
            curve = poison.trace[f"distance to the target, network {k}"]
            assert curve[-1] < 0.8 * curve[0]


class Counted(nn.Dropout):
    """A dropout layer whose draws are known: while it is on, the nth call multiplies by n."""

    calls = 0

    def forward(self, inputs):
        """Inputs times the number of the call, or as they are."""
        if not self.training:
            return inputs
        self.calls += 1
        return inputs * self.calls


class TestDropout:
    """Base and target are the same, so all distance comes from the known draws."""

    BASE, TARGET = ([0.0, 0.5, 0.5, 1.0],), [0.0, 0.5, 0.5, 1.0]

    def first_loss(self, attack, **changes):
        attack = replace(attack, steps=1, **changes)
        return crafted(attack, [transparent(Counted())], base=points(*self.BASE), at=at(self.TARGET)).trace["loss"][0]

    @every_attack
    def test_features_are_averaged_over_draws(self, attack):
        assert self.first_loss(attack) == pytest.approx((2 - 1) ** 2 / 2)  # target drawn first, poison second
        assert self.first_loss(attack, draws=3) == pytest.approx(((2 + 3 + 4) / 3 - 1) ** 2 / 2)
        mean = (1 + 2) / 2
        assert self.first_loss(attack, target_draws=2) == pytest.approx(((3 - mean) / mean) ** 2 / 2)

    @every_attack
    def test_it_can_be_switched_off(self, attack):
        assert self.first_loss(attack, dropout=False, draws=3) == 0

    def test_points_are_the_mean_over_draws(self):
        inputs = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
        model = transparent(nn.Dropout(0.5))
        with crafting(model, dropout=True), recording(model, ["penultimate"]) as recorder:
            with Seed(3).scope():
                by_hand = torch.stack([model.features(inputs.flatten(0, 1)) for _ in range(3)]).mean(0)
            place = Placing(
                clean=inputs,
                space=FLAT,
                recorders=[recorder],
                seen=inputs,
                targets=[],
                varied=True,
                draws=3,
                project=lambda changed, clean: changed,
            )
            with Seed(3).scope():
                (found,) = place.points(0, inputs)
        assert torch.allclose(found, by_hand.reshape(2, 3, 4))
        assert not torch.allclose(found, inputs)

    @every_attack
    def test_without_dropout_draws_change_nothing(self, attack):
        model = network()
        once, often = [crafted(replace(attack, draws=draws), [model]) for draws in (1, 3)]
        assert torch.equal(once.rows.inputs, often.rows.inputs)

    @every_attack
    @pytest.mark.parametrize("dropout", [0.0, 0.3])
    def test_networks_are_left_as_they_were(self, attack, dropout):
        """Batch statistics above all: they would drift in training mode."""
        model = network(replace(CONV, model=SmallConvNet(widths=(4, 5), dropout=dropout)))
        before = {name: value.clone() for name, value in model.state_dict().items()}
        poison = crafted(attack, [model])
        assert poison.trace["loss"][-1] < poison.trace["loss"][0]
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert not any(part._forward_hooks for part in model.modules())
        assert not any(part.training for part in model.modules())
        assert all(each.requires_grad for each in model.parameters())

    @pytest.mark.parametrize("what", ["draws", "target_draws"])
    def test_no_draws_are_refused(self, what):
        with pytest.raises(ConfigError, match=f"{what} must be at least 1"):
            BullseyePolytope(**{what: 0})


class TestViews:
    VIEWS = [1.0, 0.0, 0.5, 0.0], [0.0, 0.5, 0.5, 0.0]

    def test_the_mean_view_is_at_the_mean_of_the_features(self):
        base = points([0.5, 0.25, 0.5, 0.0])
        for attack in (BP, FC):
            assert crafted(attack, [transparent()], base=base, at=at(*self.VIEWS)).trace["loss"][0] == 0
            each = crafted(replace(attack, views="each"), [transparent()], base=base, at=at(*self.VIEWS))
            assert each.trace["loss"][0] == pytest.approx((0.3125 / (2 * 1.25) + 0.3125 / (2 * 0.5)) / 2)

    @every_attack
    def test_each_view_counts_as_much(self, attack):
        model, base = network(CONV), rows()
        alone = [crafted(replace(attack, steps=1), [model], base=base, at=aims(k)).trace["loss"][0] for k in (0, 3)]
        both = crafted(replace(attack, views="each"), [model], base=base, at=aims(0, 3))
        assert both.trace["loss"][0] == pytest.approx(sum(alone) / 2, rel=1e-4)
        assert both.trace["loss"][-1] < 0.7 * both.trace["loss"][0]
        order = crafted(replace(attack, views="each"), [model], base=base, at=aims(3, 0))
        assert torch.allclose(order.rows.inputs, both.rows.inputs, atol=1e-3)

    @every_attack
    def test_views_of_the_same_kind_are_one_view(self, attack):
        model = network()
        one = crafted(attack, [model], at=aims(0)).rows.inputs
        for views in ("mean", "each"):
            assert torch.allclose(
                crafted(replace(attack, views=views), [model], at=aims(0, 0)).rows.inputs, one, atol=1e-4
            )


class TestTogether:
    @every_attack
    @every_network
    def test_trials_crafted_together_equal_those_crafted_alone(self, attack, learner):
        models = [network(learner), network(NET, seed=1)]
        bases = [rows(first=k) for k in (0, 3, 6)]
        targets = [aims(k) for k in (0, 2, 3)]
        attack = replace(attack, steps=10, layers=BOTH)
        together = attack.craft_together(bases, targets, threat=THREAT, networks=models, seed=Seed(1))
        assert len(together) == 3
        for base, target, poison in zip(bases, targets, together, strict=True):
            alone = crafted(attack, models, base=base, at=target, threat=THREAT)
            assert torch.equal(poison.rows.ids, base.ids)
            assert torch.allclose(poison.rows.inputs, alone.rows.inputs, rtol=0, atol=1e-5)
            assert poison.trace.keys() == alone.trace.keys()
            for name, curve in alone.trace.items():
                assert poison.trace[name] == pytest.approx(curve, rel=1e-3, abs=1e-6)

    def test_trials_of_other_sizes_are_refused(self):
        for bases, targets in ([rows(), rows(count=2)], [aims(), aims()]), ([rows(), rows()], [aims(), aims(0, 3)]):
            with pytest.raises(ConfigError, match="equally many"):
                BP.craft_together(bases, targets, threat=THREAT, networks=[network()], seed=Seed(1))


class TestOptimisers:
    @pytest.mark.parametrize("attack", [CP, BP], ids=named)
    def test_every_step_is_adams_and_then_back_into_the_allowed_set(self, attack):
        model, base, target = network(CONV), rows(), aims()
        threat, steps = replace(THREAT, perturbation=Linf(radius=8 / 255)), 12
        poison = crafted(replace(attack, steps=steps), [model], base=base, at=target, threat=threat)
        clean, wanted = base.all_inputs(), shown(model, target.inputs)
        change = torch.zeros_like(clean, requires_grad=True)
        adam = torch.optim.Adam([change], lr=0.04)
        for _ in range(steps):
            adam.zero_grad()
            features = model.features(clean + 0.2 * change)[None]
            convex = convex_coefficients(features.detach(), wanted)
            weights = convex if attack is CP else torch.full((1, 3), 1 / 3)
            found = (weights[0, :, None] * features[0]).sum(0)
            ((found - wanted[0]).square().sum() / wanted.square().sum() / 2).backward()
            adam.step()
            inside = (clean + 0.2 * change.detach()).clamp(clean - 8 / 255, clean + 8 / 255).clamp(0, 1)
            change.data = (inside - clean) / 0.2
        assert torch.allclose(poison.rows.inputs, clean + 0.2 * change.detach(), rtol=0, atol=1e-4)

    @pytest.mark.parametrize("attack", [CP, BP], ids=named)
    def test_each_lowers_the_loss_in_its_own_way(self, attack):
        model, steps = network(), {"adam": 0.04, "signed-adam": 0.04, "sgd": 20.0}
        poisons = [
            crafted(replace(attack, optimiser=kind, step_size=size), [model]).rows.inputs
            for kind, size in steps.items()
        ]
        for k, each in enumerate(poisons):
            others = [float((each - other).abs().mean()) for j, other in enumerate(poisons) if j != k]
            assert min(others) > 1e-3

    def test_signed_steps_are_of_one_length(self):
        base, model = rows(count=2), network()
        change = crafted(replace(BP, optimiser="signed-adam", steps=1), [model], base=base).rows.inputs
        units = ((change - base.all_inputs()).abs() / 0.2).flatten()  # normalised pixels
        inside = units[(change.flatten() > 0) & (change.flatten() < 1)]
        assert bool(((inside - 0.04).abs() < 1e-5).logical_or(inside == 0).all())
        assert float((inside > 0).float().mean()) > 0.9

    @pytest.mark.parametrize("attack", [ConvexPolytope, BullseyePolytope])
    def test_steps_that_go_nowhere_are_refused(self, attack):
        with pytest.raises(ConfigError, match="steps must be at least 1"):
            attack(steps=0)
        with pytest.raises(ConfigError, match="step_size must be positive"):
            attack(step_size=0.0)
