"""DP-SGD refuses what would void its guarantee, and settings that bound nothing, with sentences."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from mithridate.defense import HookDefense, protect
from mithridate.defenses.dp_sgd import DPSGD, PrivateSteps, epochs_of, group_normed
from mithridate.errors import ConfigError, MissingExtraError, ModelError
from mithridate.learner import Hook, Learner, Removal
from mithridate.seeding import Seed
from tests.defenses.test_dp_sgd import CONVOLUTIONS, DATA, LEARNER, opacus


def test_batch_norm_is_refused_before_and_while_training():
    opacus()
    learner = DPSGD().protect(CONVOLUTIONS)
    for use in (lambda: learner.build(DATA.space, Seed(1)), lambda: learner.fit(DATA, seed=Seed(1))):
        with pytest.raises(ModelError, match=r"in 2 places \('body.1'\); set replace_batch_norm to true"):
            use()


@dataclass(frozen=True, kw_only=True)
class Opaque(Learner):
    """A learner whose network is no setting."""

    name: ClassVar[str] = "opaque"

    def build(self, space, seed):
        raise NotImplementedError

    def augment(self, inputs, *, space, generator):
        return inputs

    def train(self, data, *, seed, hooks=(), resume=None):
        raise NotImplementedError


def test_a_learner_of_unknown_network_or_length_gets_a_sentence():
    with pytest.raises(ConfigError, match="cannot reach the network of 'opaque'"):
        group_normed(Opaque())
    with pytest.raises(ConfigError, match="'opaque' has no setting 'epochs'; give noise_multiplier"):
        epochs_of(Opaque())


class Acting(Hook):
    """Does one thing to the training."""

    def __init__(self, act):
        self.act = act

    def drop(self, data, active, progress):
        if self.act == "drop" and progress is not None and progress.epoch == 1:
            return Removal(by="acting", epoch=1, ids=data.ids[:3])
        return None

    def transform(self, model, batch, generator):
        if self.act == "mix":
            labels = torch.nn.functional.one_hot(batch.labels, 3).float()
            return replace(batch, labels=(labels + labels.flip(0)) / 2)
        if self.act == "repeat":
            return replace(batch, inputs=batch.inputs.repeat(2, 1, 1, 1), labels=batch.labels.repeat(2))
        return batch

    def batches(self, count, size, generator):
        return [torch.arange(count)] if self.act == "choose" else None


class Stepping(Hook):
    """Computes the gradients itself."""

    def backward(self, model, batch, generator):
        return torch.zeros(())


@dataclass(frozen=True, kw_only=True)
class Watching(HookDefense):
    """Hangs an acting hook into the training."""

    name: ClassVar[str] = "watching"
    act: str = "nothing"

    def hook(self, learner, seed):
        return Acting(self.act)


SENTENCES = {
    "mix": (Acting("mix"), "another defense mixes rows"),
    "repeat": (Acting("repeat"), "must choose the rows of every step itself"),
    "choose": (Acting("choose"), "must choose the rows of every step itself"),
}


@pytest.mark.parametrize("act", SENTENCES)
def test_what_would_break_the_bound_on_a_row_is_refused(act):
    opacus()
    rival, sentence = SENTENCES[act]
    with pytest.raises(ConfigError, match=sentence):
        LEARNER.fit(DATA, seed=Seed(1), hooks=(rival, PrivateSteps(DPSGD(), epochs=3)))


def test_an_account_of_no_steps_is_refused():
    """Instead of an epsilon of zero for a training that another defense did."""
    opacus()
    hook = PrivateSteps(DPSGD(), epochs=3)
    with pytest.raises(ConfigError, match="did not get to take the steps"):
        hook.facts()
    last = LEARNER.fit(DATA, seed=Seed(1), hooks=(hook,))
    assert last.facts == hook.facts()
    hook.batches(48, 16, Seed(1).generator())  # of an epoch that another one trains
    with pytest.raises(ConfigError, match="did not get to take the steps"):
        hook.facts()


def test_a_second_defense_that_computes_gradients_is_refused():
    opacus()
    for hooks in ((Stepping(), PrivateSteps(DPSGD(), epochs=3)), (PrivateSteps(DPSGD(), epochs=3), Stepping())):
        with pytest.raises(ConfigError):
            LEARNER.fit(DATA, seed=Seed(1), hooks=hooks)


def test_rows_removed_while_it_runs_void_the_account():
    opacus()
    learner = protect(LEARNER, [DPSGD(), Watching(act="drop")])
    spent = [each.facts["epsilon"] for each in learner.train(DATA, seed=Seed(1))]
    assert [math.isinf(each) for each in spent] == [False, True, True]
    for progress in learner.train(DATA, seed=Seed(1)):
        if progress.epoch == 2:
            break
    assert learner.fit(DATA, seed=Seed(1), resume=progress.state()).facts["epsilon"] == math.inf


def test_twice_is_once_or_refused():
    opacus()
    once = DPSGD().protect(LEARNER)
    assert DPSGD().protect(once) == once
    with pytest.raises(ConfigError, match="stands twice in the stack"):
        DPSGD(noise_multiplier=2.0).protect(once)


def test_without_opacus_there_is_a_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus", None)
    for name in [each for each in sys.modules if each.startswith("opacus.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtraError, match=r"pip install 'mithridate\[dp\]'"):
        DPSGD().protect(LEARNER)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"noise_multiplier": -1.0}, "noise_multiplier must be at least 0, but it is -1"),
        ({"noise_multiplier": 1.0, "target_epsilon": 1.0}, "both decide the noise"),
        ({"max_grad_norm": 0.0}, "max_grad_norm must be positive, but it is 0"),
        ({"target_epsilon": 0.0}, "target_epsilon must be positive, but it is 0"),
        ({"delta": 1.0}, "delta must lie between 0 and 1, but it is 1"),
        ({"chunk": 0}, "chunk must be at least 1, but it is 0"),
    ],
    ids=["negative-noise", "two-noises", "no-norm", "no-epsilon", "certain-failure", "no-chunk"],
)
def test_settings_that_bound_nothing_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        DPSGD(**settings)


def test_a_target_out_of_reach_gets_a_sentence():
    opacus()
    with pytest.raises(ConfigError, match="no noise keeps 9 steps below an epsilon of 1e-09"):
        DPSGD(target_epsilon=1e-9).protect(LEARNER).fit(DATA, seed=Seed(1))
