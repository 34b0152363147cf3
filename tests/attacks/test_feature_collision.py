"""Feature collision: its steps against the algorithm written out, and every poison on its own."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from mithridate.attacks.feature_collision import FeatureCollision
from mithridate.errors import ConfigError
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.threat import Linf
from tests.attacks.featurespace import (
    ANYTHING,
    BOTH,
    CONV,
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

FC = FeatureCollision(steps=20, watermark=0.0)
UNIT = 0.2
"""One normalised pixel of the toy data."""


def written_out(attack, models, base, target, threat):
    """Algorithm 1 for one poison ``(1, *shape)``, with everything spelled out: the poison and its objectives."""
    features = [model.features(target).detach() for model in models]

    def collision(x):
        found = [
            (model.features(x) - wanted).square().sum() / wanted.square().sum() / 2
            for model, wanted in zip(models, features, strict=True)
        ]
        return sum(found) / len(found)

    def objective(x):
        return float(collision(x).detach()) + attack.penalty / 2 * float(((x - base) / UNIT).square().mean())

    def allowed(x):
        radius = getattr(threat.perturbation, "radius", 1.0)
        return x.clamp(base - radius, base + radius).clamp(0, 1)

    x, s, values, refused = allowed(base + attack.watermark * (target - base)), attack.step_size, [], 0
    for _ in range(attack.steps):
        leaf = x.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(collision(leaf), leaf)
        x_hat = x - s * slope * base.numel() * UNIT**2
        new = allowed((x_hat + s * attack.penalty * base) / (1 + s * attack.penalty))
        values.append(objective(x))
        if objective(new) > objective(x):
            s, refused = s * attack.decay, refused + 1
        else:
            x = new
    return x, values, refused


class TestSteps:
    @pytest.mark.parametrize("threat", [THREAT, ANYTHING], ids=["linf", "unbounded"])
    @pytest.mark.parametrize("penalty", [0.0, 0.05])
    @pytest.mark.parametrize("size", [0.01, 1.0, 50.0])
    def test_they_are_those_of_the_algorithm(self, size, penalty, threat):
        attack = replace(FC, step_size=size, penalty=penalty, watermark=0.3, tolerance=0.0)
        models, base, target = [network(), network(CONV, seed=1)], rows(count=1), aims()
        poison = crafted(attack, models, base=base, at=target, threat=threat)
        expected, values, refused = written_out(attack, models, base.all_inputs(), target.inputs, threat)
        assert refused >= (0 if size == 0.01 else 1 if size == 1.0 else 3)
        assert refused < 20
        assert torch.allclose(poison.rows.inputs, expected, rtol=0, atol=1e-4)
        assert poison.trace["loss"] == pytest.approx(values, rel=1e-3)

    def test_a_step_of_one_lands_on_the_target_where_features_keep_distances(self):
        """Features are the pixels, and the target's mean square is 1."""
        poison = crafted(replace(FC, steps=1), [transparent()], base=points([0.0, 0.5, 0.3, 1.0]), at=at([1.0] * 4))
        assert poison.rows.inputs.tolist() == [pytest.approx([1.0] * 4)]

    def test_neither_the_length_of_features_nor_the_size_of_images_matters(self):
        """Features ten times as long, or every pixel twice: the same steps."""
        base, target = [0.0, 0.5, 0.3, 1.0], [0.6, 0.2, 0.9, 0.4]
        attack = replace(FC, steps=3, step_size=0.1, penalty=0.2)
        once = crafted(attack, [transparent()], base=points(base), at=at(target))
        loud = nn.Linear(4, 4, bias=False)
        loud.weight = nn.Parameter(10 * torch.eye(4))
        tenfold = crafted(attack, [transparent(loud)], base=points(base), at=at(target))
        twofold = crafted(attack, [transparent()], base=points(base * 2), at=at(target * 2))
        assert once.trace["loss"][-1] < 0.95 * once.trace["loss"][0]
        for poison, copies in ((tenfold, 1), (twofold, 2)):
            assert poison.rows.inputs.tolist() == [pytest.approx(once.rows.inputs[0].tolist() * copies, abs=1e-6)]
            assert poison.trace["loss"] == pytest.approx(once.trace["loss"], rel=1e-5)

    def test_the_penalty_holds_the_poison_between_base_and_target(self):
        """Features are the pixels: minimising |x - t|^2 / 2 |t|^2 + beta / 2 mean (x - b)^2 gives a weighted mean."""
        base, target = torch.tensor([0.0, 0.5, 0.3, 1.0]), torch.tensor([0.6, 0.2, 0.9, 0.4])
        attack = replace(FC, steps=200, penalty=1.5)
        poison = crafted(attack, [transparent()], base=points(base.tolist()), at=at(target.tolist()))
        near, far = 1 / float(target.square().sum()), 1.5 / 4
        expected = (near * target + far * base) / (near + far)
        assert poison.rows.inputs.tolist() == [pytest.approx(expected.tolist(), abs=1e-3)]

    @pytest.mark.parametrize("penalty", [0.0, 0.05])
    def test_the_objective_never_rises(self, penalty):
        poison = crafted(replace(FC, step_size=1e4, penalty=penalty), [network(CONV)], threat=THREAT)
        curve = poison.trace["loss"]
        assert all(after <= before for before, after in pairwise(curve))
        assert curve[-1] < 0.7 * curve[0]

    def test_steps_are_judged_under_the_dropout_they_were_made_for(self):
        """Else luck with the draws decides, and step sizes soon vanish."""

        class Noted(nn.Dropout):
            def __init__(self):
                super().__init__()
                self.draws = []

            def forward(self, inputs):
                self.draws.append(float(torch.rand(())))
                return inputs * (1 + self.draws[-1])

        layer = Noted()
        crafted(
            replace(FC, steps=5, tolerance=0.0, draws=2),
            [transparent(layer)],
            base=points([0.0, 0.5, 0.3, 1.0]),
            at=at([0.6, 0.2, 0.9, 0.4]),
        )
        steps = torch.tensor(layer.draws[1:]).reshape(5, 2, 2)  # the target's first; before and after; two draws
        assert torch.equal(steps[:, 0], steps[:, 1])
        assert len(steps.unique()) == 10

    def test_it_works_under_dropout(self):
        model = network(replace(CONV, model=SmallConvNet(widths=(8, 8), dropout=0.3)))
        base, target = rows(), aims()
        poison = crafted(replace(FC, steps=40, target_draws=50), [model], base=base, at=target)
        wanted = shown(model, target.inputs)[0]
        before, after = [
            float((shown(model, each) - wanted).norm(dim=1).mean()) for each in (base.all_inputs(), poison.rows.inputs)
        ]
        assert after < 0.6 * before


class TestAlone:
    """Every poison has its own step size, and its own end."""

    @pytest.mark.parametrize("tolerance", [0.0, 0.08])
    def test_poisons_crafted_together_equal_those_crafted_alone(self, tolerance):
        models, base = [network(), network(CONV, seed=1)], rows(count=4)
        attack = replace(FC, step_size=5.0, layers=BOTH, penalty=0.01, tolerance=tolerance)
        together = crafted(attack, models, base=base, threat=THREAT).rows.inputs
        for k in range(4):
            alone = crafted(attack, models, base=base.at(slice(k, k + 1)), threat=THREAT).rows.inputs
            assert torch.allclose(together[k], alone[0], rtol=0, atol=1e-5)

    def test_their_step_sizes_differ_in_that_test(self):
        """Not each poison has a step refused at the same time; one size for all would be another algorithm."""
        models, base, target = [network(), network(CONV, seed=1)], rows(count=4), aims()
        attack = replace(FC, step_size=5.0, tolerance=0.0)
        counts = {written_out(attack, models, base.all_inputs()[k : k + 1], target.inputs, THREAT)[2] for k in range(4)}
        assert len(counts) > 1

    def test_a_poison_that_no_longer_moves_is_done_and_the_end_is_that_of_the_last(self):
        """The first base row is the target, so its first step is none; the second has some way to go."""
        target, seen = [0.6, 0.2, 0.9, 0.4], []
        attack = replace(FC, steps=100)
        poison = crafted(attack, [transparent()], base=points(target, [0.0] * 4), at=at(target), watch=seen.append)
        assert torch.equal(poison.rows.inputs[0], torch.tensor(target))
        assert poison.rows.inputs[1].tolist() == pytest.approx(target, abs=1e-3)
        assert 3 < len([step for step in seen if step.stage == "crafting"]) < 50  # it reports every second step
        assert {len(curve) for curve in poison.trace.values()} == {100}
        assert poison.trace["loss"][-1] < 1e-6

    def test_tolerance_decides_when_it_is_done(self):
        ends = []
        for tolerance in (0.3, 1e-2, 0.0):
            poison = crafted(replace(FC, steps=30, step_size=0.3, tolerance=tolerance), [network()])
            curve = poison.trace["loss"]
            ends.append(curve.index(curve[-1]))
        assert ends[0] < ends[1] < ends[2] == 29


class TestWatermark:
    def test_it_is_laid_over_the_base_and_cut_to_what_is_allowed(self):
        base, target = rows(), aims()
        still = replace(FC, steps=1, watermark=0.3, step_size=1e-30)
        clean = base.all_inputs()
        free = crafted(still, [network()], base=base, at=target).rows.inputs
        assert torch.allclose(free, 0.7 * clean + 0.3 * target.inputs)
        radius = 5 / 255
        bounded = crafted(
            still, [network()], base=base, at=target, threat=replace(THREAT, perturbation=Linf(radius=radius))
        )
        expected = clean + (0.3 * (target.inputs - clean)).clamp(-radius, radius)
        assert torch.allclose(bounded.rows.inputs, expected, atol=1e-6)

    def test_of_several_targets_it_is_their_mean(self):
        base, target = rows(), aims(0, 3)
        still = replace(FC, steps=1, watermark=0.5, step_size=1e-30)
        expected = 0.5 * base.all_inputs() + 0.5 * target.inputs.mean(0)
        assert torch.allclose(crafted(still, [network()], base=base, at=target).rows.inputs, expected)

    def test_it_helps_the_descent(self):
        with_it, without = [
            crafted(replace(FC, watermark=opacity, steps=3), [network()]).trace["loss"] for opacity in (0.3, 0.0)
        ]
        assert with_it[0] < without[0]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"steps": 0}, "steps must be at least 1"),
        ({"step_size": 0.0}, "step_size must be positive"),
        ({"decay": 1.0}, "decay must lie between 0 and 1"),
        ({"decay": 0.0}, "decay must lie between 0 and 1"),
        ({"watermark": 1.1}, r"watermark must lie in \[0, 1\]"),
        ({"penalty": -1.0}, "penalty must be at least 0"),
        ({"tolerance": float("nan")}, "tolerance must be at least 0"),
        ({"layers": ()}, "layers must name"),
    ],
)
def test_settings_that_cannot_craft_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        FeatureCollision(**settings)


def test_the_defaults_are_the_benchmarks():
    attack = FeatureCollision()
    assert (attack.steps, attack.decay, attack.watermark, attack.tolerance) == (120, 0.2, 0.3, 1e-5)
