"""craft(): hands over only what may be known, and lets out only what can be stored and is allowed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mithridate.attack import Attack, craft, problems, released
from mithridate.attacks.back_gradient import BackGradient
from mithridate.attacks.loss_flips import LossFlips
from mithridate.attacks.random_flips import RandomFlips
from mithridate.errors import ConfigError, ThreatModelError
from mithridate.goal import Backdoor, Degrade, Misclassify
from mithridate.learners.recipes import recipe
from mithridate.poison import Poison
from mithridate.seeding import Seed
from mithridate.source import Split
from mithridate.testing import CornerMark
from mithridate.threat import L2, Linf, ThreatModel, Unbounded
from mithridate.trial import Trial
from mithridate.watch import silent
from tests.conftest import stripes

DATA = stripes(90, seed=1)


@dataclass(frozen=True, kw_only=True)
class Spy(Attack):
    """Keeps what it is handed, and returns noise over the whole allowed range, or what it is told."""

    name: ClassVar[str] = "spy"
    goals: ClassVar = (Misclassify, Backdoor, Degrade)
    needs_surrogate: ClassVar[bool] = False

    seen: list
    poison: object = None

    def craft(self, data, threat, *, aims, surrogates, seed, watch=silent):
        self.seen.append({"data": data, "aims": aims, "surrogates": surrogates})
        rows = data.rows(threat.pick(data, aims, seed.child("pick")))
        if self.poison is not None:
            return self.poison(rows)
        clean = rows.all_inputs()
        anywhere = torch.rand(clean.shape, generator=seed.generator())
        return Poison(rows=replace(rows, inputs=threat.perturbation.project(anywhere, clean, data.space)))


def crafted(attack, threat, seed=1):
    goal = threat.goal.draw(DATA, stripes(30, seed=2), Seed(seed))
    return craft(attack, DATA, threat=threat, aims=goal.known, seed=Seed(seed))


def moved(poison):
    return poison.rows.inputs.int() - DATA.rows(poison.rows.ids).inputs.int()


class TestRounding:
    @given(st.floats(0.3 / 255, 60 / 255), st.integers(0, 100))
    def test_every_value_is_within_any_radius_after_rounding(self, radius, seed):
        threat = ThreatModel(budget=0.05, perturbation=Linf(radius=radius))
        poison = crafted(Spy(seen=[]), threat, seed)
        assert poison.rows.inputs.dtype == torch.uint8
        assert float(moved(poison).abs().max()) <= radius * 255 + 3e-4  # 1e-6 of slack
        if radius > 3 / 255:  # and the radius is used: nearly all of these rows sit on the boundary
            assert float(moved(poison).abs().max()) > radius * 255 - 1

    @pytest.mark.parametrize("levels", [5.5, 0.5, 5.9995, 5.99999, 6.0, 6.0001])
    def test_odd_radii(self, levels):
        poison = crafted(Spy(seen=[]), ThreatModel(budget=0.05, perturbation=Linf(radius=levels / 255)))
        assert int(moved(poison).abs().max()) == int(levels + 3e-4)

    @given(st.floats(0.05, 5), st.integers(0, 100))
    def test_l2_balls_too(self, radius, seed):
        poison = crafted(Spy(seen=[]), ThreatModel(budget=0.05, perturbation=L2(radius=radius)), seed)
        length = (moved(poison).double() / 255).flatten(1).norm(dim=1)
        assert float(length.max()) <= radius + 1e-5

    def test_coarse_levels_too(self):
        space = replace(DATA.space, levels=16)
        data = replace(DATA, inputs=DATA.inputs // 16, space=space)
        clean = data.rows(torch.arange(5))
        for steps in (0.9995, 1.0, 1.4, 1.9995):
            threat = ThreatModel(budget=0.1, perturbation=Linf(radius=steps / 15))
            loud = threat.perturbation.noise(clean.all_inputs(), space, Seed(0).generator())
            poison = released(Poison(rows=replace(clean, inputs=loud)), data, threat)
            threat.check(data, poison)
            assert int((poison.rows.inputs.int() - clean.inputs.int()).abs().max()) == int(steps)

    def test_a_whole_radius_rounds_to_the_nearest_level_and_not_towards_clean(self):
        """Float rounding at the boundary must not cost the values inside it up to a level each."""
        threat = ThreatModel(budget=0.05, perturbation=Linf(radius=8 / 255))
        rows = DATA.rows(torch.arange(5))
        clean = rows.all_inputs()
        steps = torch.full_like(clean, 7.6)
        steps[:, :, ::2] = 8.0  # on the boundary
        raw = threat.perturbation.project(clean + steps / 255, clean, DATA.space)
        found = released(Poison(rows=replace(rows, inputs=raw)), DATA, threat).rows.inputs
        assert torch.equal(found, (rows.inputs.int() + 8).clamp_max(255).to(torch.uint8))

    def test_what_slack_forgives_is_released_as_it_is(self):
        """Poison of others that is a level too far passes the gate unchanged, or not at all."""
        rows = DATA.rows(torch.arange(5))
        loud = Poison(rows=replace(rows, inputs=(rows.inputs.int() + 9).clamp_max(255).to(torch.uint8)))
        gate = ThreatModel(budget=0.1, perturbation=Linf(radius=8 / 255, slack=1 / 255))
        assert torch.equal(released(loud, DATA, gate).rows.inputs, loud.rows.inputs)
        crafted(Spy(seen=[], poison=lambda _: loud), gate)
        with pytest.raises(ThreatModelError, match="exceeds"):
            crafted(Spy(seen=[], poison=lambda _: loud), replace(gate, perturbation=Linf(radius=8 / 255)))


class TestBorders:
    def told(self, poison, **changes):
        threat = ThreatModel(budget=0.05, perturbation=Linf(radius=8 / 255), **changes)
        return crafted(Spy(seen=[], poison=poison), threat)

    def test_nan_is_not_hidden_by_rounding(self):
        def broken(rows):
            inputs = rows.all_inputs()
            inputs[0, 0, 0, 0] = float("nan")
            return Poison(rows=replace(rows, inputs=inputs))

        with pytest.raises(ThreatModelError, match="NaN"):
            self.told(broken)

    def test_too_far_is_refused_and_not_cut(self):
        with pytest.raises(ThreatModelError, match="exceeds"):
            self.told(lambda rows: Poison(rows=replace(rows, inputs=(rows.all_inputs() + 0.1).clamp(0, 1))))

    def test_unknown_rows_and_labels_are_refused(self):
        with pytest.raises(ThreatModelError, match="appends new rows"):
            self.told(lambda rows: Poison(rows=replace(rows, ids=rows.ids + 1000)))
        with pytest.raises(ThreatModelError, match="changes labels"):
            self.told(lambda rows: Poison(rows=replace(rows, labels=(rows.labels + 1) % 3)))

    def test_appended_rows_are_stored_as_the_data_are(self):
        class Appending(Spy):
            rows: ClassVar = ("append",)

        def fresh(rows):
            return Poison(rows=replace(rows, ids=rows.ids + 1000, inputs=rows.all_inputs() * 0.5))

        threat = ThreatModel(budget=0.05, rows="append", labels="dirty", perturbation=Unbounded())
        poison = crafted(Appending(seen=[], poison=fresh), threat)
        after = poison.apply(DATA)
        assert len(after) == 95
        assert after.inputs.dtype == torch.uint8
        assert torch.equal(after.at(slice(0, 90)).inputs, DATA.inputs)

    def test_real_numbers_are_not_rounded(self):
        data = replace(DATA, inputs=DATA.all_inputs(), space=replace(DATA.space, levels=None))
        threat = ThreatModel(budget=0.05, perturbation=Unbounded())
        goal = threat.goal.draw(data, data, Seed(0))
        poison = craft(Spy(seen=[]), data, threat=threat, aims=goal.known, seed=Seed(0))
        assert float((poison.rows.inputs * 255 % 1).std()) > 0.2


class TestKnowledge:
    @pytest.mark.parametrize("goal", [Backdoor(trigger=CornerMark(), known=9), Degrade()], ids=["backdoor", "degrade"])
    def test_the_attacker_is_handed_known_and_nothing_that_is_judged(self, goal, learner):
        data, seen = Split(train=DATA, test=stripes(30, seed=2)), []
        trial = Trial(
            attack=Spy(seen=seen), threat=ThreatModel(goal=goal), surrogates=(learner,), victim=learner, seed=Seed(4)
        )
        drawn = trial.goal(data)
        trial.run(data)
        (call,) = seen
        assert torch.equal(call["aims"].inputs, drawn.known.inputs)
        assert call["data"].digest() == trial.rows(data).train.digest()
        assert call["surrogates"] == (learner,)
        judged = {row.numpy().tobytes() for row in drawn.judged.inputs}
        handed = [*call["aims"].inputs, *call["aims"].seen(), *call["data"].all_inputs()]
        assert not judged & {row.numpy().tobytes() for row in handed}

    def test_the_data_an_attack_is_handed_are_clean_in_every_trial(self, learner):
        seen = []
        for seed in range(3):
            crafted(Spy(seen=seen), ThreatModel(budget=0.1), seed)
        assert {call["data"].digest() for call in seen} == {DATA.digest()}


class TestProblems:
    class Narrow(Spy):
        goals: ClassVar = (Backdoor,)
        needs_surrogate: ClassVar[bool] = True

        def problems(self):
            return ["there is no folder"]

    def test_everything_wrong_is_said_at_once(self):
        threat = ThreatModel(rows="append")
        with pytest.raises(ConfigError) as caught:
            crafted(self.Narrow(seen=[]), threat)
        for part in (
            "no folder",
            r"cannot pursue the goal 'misclassify' (it can: backdoor)",
            "cannot append rows",
            "surrogate",
        ):
            assert part in str(caught.value)


@pytest.mark.parametrize("attack", [RandomFlips(), LossFlips(), BackGradient()])
@pytest.mark.parametrize("goal", [Degrade(kind="specific"), Misclassify(target=0, intended=1)])
def test_flipping_rows_of_the_wanted_class_is_refused_since_it_works_against_it(attack, goal):
    threat = ThreatModel(goal=goal, labels="dirty", rows="append", perturbation=Unbounded())
    learner = recipe("softmax-regression")
    assert any("origin" in each for each in problems(attack, threat, surrogates=[learner]))
    for fine in (
        replace(threat, origin="either-class"),
        replace(threat, labels="clean"),
        replace(threat, goal=Degrade()),
    ):
        assert not any("origin" in each for each in problems(attack, fine, surrogates=[learner]))
