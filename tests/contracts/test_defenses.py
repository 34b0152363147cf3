"""Every defense in the registry keeps every promise; and the checks catch defenses that break them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from mithridate import config, registry
from mithridate.checkpoint import Checkpoint
from mithridate.control import MatchedControl
from mithridate.defense import Defense, Filter, HookDefense, Verdict
from mithridate.errors import ConfigError, MissingExtraError, MithridateError
from mithridate.learner import Around, Hook, Removal
from mithridate.learners.augment import Augmentation
from mithridate.learners.sgd import SGD
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.testing import DEFENSE_CHECKS, check_defense, defense_bench
from mithridate.testing.witnesses import Tally

NAMES = sorted(registry.places(Defense))
BENCH = defense_bench()
CONVOLUTIONS = SGD(
    model=SmallConvNet(widths=(4, 6)), epochs=4, batch_size=44, lr=0.1, augmentation=Augmentation(shift=1.0)
)


@dataclass(frozen=True, kw_only=True)
class Outliers(Filter):
    """Honest: flags the rows farthest from the middle of their class."""

    name: ClassVar[str] = "outliers"

    share: float = 0.1

    def judge(self, features, data, *, seed):
        scores, flagged = torch.zeros(len(data)), torch.zeros(len(data), dtype=torch.bool)
        for label in data.labels.unique():
            rows = (data.labels == label).nonzero().flatten()
            scores[rows] = (features[rows] - features[rows].double().mean(0)).norm(dim=1).float()
            flagged[rows[scores[rows].argsort(descending=True)[: int(self.share * len(rows))]]] = True
        return Verdict(scores=scores, flagged=flagged)


@dataclass(frozen=True, kw_only=True)
class Informed(Outliers):
    """Honest: Outliers that may be told the share."""

    name: ClassVar[str] = "informed"

    listens: bool = False

    @property
    def oracle(self):
        return self.listens

    def told(self, truth):
        return replace(self, share=len(truth.poison_ids) / 132) if self.listens else self


@dataclass(frozen=True, kw_only=True)
class Jitter(HookDefense):
    """Honest: adds noise to inputs, and every second epoch drops the two rows nearest to black."""

    name: ClassVar[str] = "jitter"
    drops: ClassVar[bool] = True

    def hook(self, learner, seed):
        return JitterHook(self, seed)


class JitterHook(Hook):
    def __init__(self, settings, seed):
        self.settings, self.own = settings, seed.generator()

    def drop(self, data, active, progress):
        if progress is None or progress.epoch % 2:
            return None
        rows = data.at(active)
        dark = rows.all_inputs().double().flatten(1).mean(1)
        return Removal(by="jitter", epoch=progress.epoch, ids=rows.ids[dark.argsort()[:2]])

    def transform(self, model, batch, generator):
        noise = torch.rand(batch.inputs.shape, generator=generator) * torch.rand(1, generator=self.own)
        return replace(batch, inputs=batch.inputs + 0.02 * noise)

    def state(self):
        return Checkpoint(tensors={"own": self.own.get_state()})

    def restore(self, state):
        self.own.set_state(state.tensors["own"])


QUICK = {
    "epic": {"fraction": 0.2, "interval": 1, "warmup": 1, "stop": 5, "min_class_size": 5},
    "dp-sgd": {"noise_multiplier": 0.3},
    "partition-aggregation": {"partitions": 3},
    "random-drop": {"like": Outliers()},
    "top-loss-drop": {"like": Jitter()},
    "roni": {"base": 30, "batch": 28, "trials": 1, "sigmas": 0.5, "measure": "loss"},
    "label-sanitisation": {"k": 3},
}
"""Settings with which a defense acts on the toy task, where its defaults are made for larger ones."""


def registered(name):
    """A small instance; skips where it needs a library that is not there."""
    try:
        return registry.kind(Defense, name)(**QUICK.get(name, {}))
    except (MissingExtraError, ConfigError) as error:
        if isinstance(error, MissingExtraError) or "No module named" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("promise", DEFENSE_CHECKS)
def test_every_defense_keeps_its_promises(name, promise):
    defense = registered(name)
    try:
        DEFENSE_CHECKS[promise](defense, BENCH)
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("name", NAMES)
def test_every_defense_resumes_with_batch_norm_and_shifts(name):
    defense = registered(name)
    try:
        DEFENSE_CHECKS["resuming equals not stopping"](defense, replace(BENCH, learner=CONVOLUTIONS))
    except MithridateError as refusal:
        pytest.skip(f"{name} refuses batch norm, or misses a library: {refusal}")


@pytest.mark.parametrize("name", NAMES)
def test_every_defense_survives_a_configuration_file(name):
    defense = registered(name)
    if isinstance(defense, MatchedControl):  # the defense inside is made up here, so no file can name it
        defense = replace(defense, like=registered("spectral-signatures"))
    text = config.write_yaml(defense)
    assert config.parse(Defense, config.read_yaml(text, where="again")) == defense


@pytest.mark.parametrize(
    "defense",
    [Outliers(), Informed(), Informed(listens=True), Jitter(), Tally()],
    ids=["filter", "deaf filter", "informed filter", "hook", "tally"],
)
def test_honest_defenses_pass(defense):
    for promise, check in DEFENSE_CHECKS.items():
        if promise != "cites its paper":
            check(defense, BENCH)


def test_check_defense_stops_at_the_first_broken_promise():
    with pytest.raises(AssertionError, match="cites no paper"):
        check_defense(Outliers)


@dataclass(frozen=True, kw_only=True)
class BrokenFilter(Filter):
    """A filter that breaks one promise, as told."""

    name: ClassVar[str] = "broken-filter"

    how: str

    def judge(self, features, data, *, seed):
        scores = torch.arange(len(data)).float() if self.how == "place" else data.ids.float()
        flagged = scores < 5 if self.how in ("place", "place flags") else torch.zeros(len(data), dtype=torch.bool)
        if self.how == "place flags":
            flagged = torch.arange(len(data)) < 5
        if self.how == "rare class":
            flagged = (data.labels == 2) & (torch.bincount(data.labels)[2] < 5)
        if self.how == "far class":
            flagged = features.norm(dim=1) > 100
        if self.how == "numbers":
            flagged = torch.tensor([0, 1, 2])
        if self.how == "NaN":
            return Verdict(scores=torch.rand(len(data), generator=seed.generator()), flagged=flagged)
        return Verdict(scores=scores, flagged=flagged)


@dataclass(frozen=True, kw_only=True)
class Broken(HookDefense):
    """A defense in the training loop that breaks one promise, as told."""

    name: ClassVar[str] = "broken"
    drops: ClassVar[bool] = True

    how: str
    heard: tuple[int, ...] = field(default=(), compare=False)

    @property
    def oracle(self):
        return self.how in ("deaf oracle", "secretive oracle")

    def told(self, truth):
        listens = self.how in ("secretive oracle", "eavesdropper")
        return replace(self, heard=tuple(truth.poison_ids.tolist())) if listens else self

    def hook(self, learner, seed):
        if self.how == "changes the learner":
            object.__setattr__(learner, "lr", learner.lr / 2)
        if self.how == "keeps":
            object.__setattr__(self, "last", seed)
        return BrokenHook(self)


class BrokenHook(Hook):
    def __init__(self, defense):
        self.how, self.count = defense.how, torch.zeros(1)
        self.settings = None if self.how == "nameless" else defense

    def drop(self, data, active, progress):
        epoch, ids = progress.epoch if progress else 0, data.ids[active]
        self.late = epoch >= 3
        found = {
            "strangers": ids[:2] + 1000,
            "twice": ids[:2].repeat(2),
            "for another": ids[:2],
            "late": ids[:2],
            "first place": ids[:1],
            "odd ids": ids[ids % 7 == 3],
            "rare class": ids[data.labels[active] == 2][: 4 if len(ids) < 110 else 0],
        }
        if self.how not in found or epoch > 1:
            return None
        by = "somebody" if self.how == "for another" else "broken"
        return Removal(by=by, epoch=0 if self.how == "late" else epoch, ids=found[self.how])

    def batches(self, count, size, generator):
        if self.how == "silent":
            return torch.arange(count - 4).split(size)
        return torch.arange(count // 2).split(size) if self.how == "silent later" and self.late else None

    def transform(self, model, batch, generator):
        self.count += 1
        if self.how == "unseeded":
            return replace(batch, inputs=batch.inputs + 0.01 * random.random())
        if self.how == "numpy":
            np.random.rand()  # noqa: NPY002
        if self.how == "python":
            random.random()
        if self.how == "one class":
            return replace(batch, labels=torch.zeros_like(batch.labels))
        if self.how in ("forgets", "living state"):
            return replace(batch, inputs=batch.inputs * (1 + 0.01 * self.count))
        return batch

    def state(self):
        return Checkpoint(tensors={"count": self.count} if self.how == "living state" else {})

    def restore(self, state):
        if self.how == "living state":
            self.count = state.tensors["count"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Nameless(HookDefense):
    """Compares by address."""

    name: ClassVar[str] = "nameless"

    def hook(self, learner, seed):
        return Hook()


@dataclass(frozen=True, kw_only=True)
class Wrapping(Defense):
    """A defense with a learner of its own, which breaks one promise, as told."""

    name: ClassVar[str] = "wrapping"

    how: str

    def protect(self, learner):
        return learner if self.how == "nothing" else BrokenAround(learner=learner, how=self.how)


@dataclass(frozen=True, kw_only=True)
class BrokenAround(Around):
    name: ClassVar[str] = "broken-around"

    how: str

    def build(self, space, seed):
        return self.learner.build(space, seed)

    def train(self, data, *, seed, hooks=(), resume=None):
        if self.how == "data":
            data.inputs[0, 0, 0, 0] ^= 1
        if self.how == "refuses" and (hooks or isinstance(self.learner, Around)):
            raise ConfigError("no company")
        hooks = () if self.how == "deaf to hooks" else hooks
        for progress in self.learner.train(data, seed=seed, hooks=hooks, resume=resume):
            if self.how == "half way" and progress.epoch > 3:
                return
            if self.how == "global randomness":
                torch.rand(1)
            if self.how == "claims":
                gone = Removal(by="wrapping", epoch=0, ids=data.ids[:3])
                progress = replace(progress, removals=(gone,))
            if self.how == "hides facts":
                progress = replace(progress, facts={})
            if self.how == "hides removals":
                progress = replace(progress, removals=())
            yield replace(progress, state=None) if self.how == "no state" else progress


BROKEN = [
    (Broken(how="unseeded"), "same seed, same model", "trains two networks from one seed: 'body.1.weight' differs"),
    (Broken(how="one class"), "learns clean data", "learns nothing: 33% of clean test rows"),
    (Wrapping(how="half way"), "learns clean data", "ends after 3 of 6 epochs"),
    (Broken(how="strangers"), "says what it drops", r"ids that it was not given: \[1000, 1001\]"),
    (Broken(how="twice"), "says what it drops", "drops 4 rows more than once"),
    (Broken(how="for another"), "says what it drops", "in the name of 'somebody'"),
    (Broken(how="late"), "says what it drops", "goes on training on 2 of the rows"),
    (Broken(how="silent"), "says what it drops", "leaves out 4 rows after epoch 0 and does not say so"),
    (Broken(how="silent later"), "says what it drops", "leaves out 66 rows after epoch 3 and does not say so"),
    (Wrapping(how="claims"), "says what it drops", "drops 3 rows, so its class must say  drops = True"),
    (Wrapping(how="deaf to hooks"), "says what it drops", "does not hand on the hooks"),
    (Broken(how="rare class"), "empties no class", r"every row of class \[2\] of \(60, 40, 4\)"),
    (BrokenFilter(how="rare class"), "empties no class", r"every row of class \[2\] of \(60, 40, 4\)"),
    (BrokenFilter(how="far class"), "empties no class", r"that lies far off, and says"),
    (BrokenFilter(how="place"), "the order of rows does not matter", "judges 10 rows otherwise"),
    (BrokenFilter(how="place flags"), "the order of rows does not matter", "rows otherwise"),
    (BrokenFilter(how="NaN"), "the order of rows does not matter", "gives rows other scores"),
    (BrokenFilter(how="numbers"), "the order of rows does not matter", r"flagged \(3,\) of 132 rows"),
    (Broken(how="first place"), "the order of rows does not matter", "drops other rows after epoch 0"),
    (Broken(how="odd ids"), "ids mean nothing", "reads something out of ids"),
    (Broken(how="forgets"), "resuming equals not stopping", "resumed after epoch 1 of 6 ends elsewhere"),
    (Broken(how="living state"), "resuming equals not stopping", "goes on changing the state"),
    (Wrapping(how="no state"), "resuming equals not stopping", "its progress after epoch 1 has no state"),
    (Wrapping(how="hides facts"), "stacks", "inside another defense hides what the other one reports"),
    (Wrapping(how="hides removals"), "stacks", "inside another defense hides what the other one drops"),
    (Wrapping(how="refuses"), "stacks", "can be worn with no other defense: .*no company"),
    (Wrapping(how="data"), "leaves everything alone", "writes into its data"),
    (Wrapping(how="global randomness"), "leaves everything alone", "torch's global random state"),
    (Broken(how="numpy"), "leaves everything alone", "NumPy's global random state"),
    (Broken(how="python"), "leaves everything alone", "Python's global random state"),
    (Broken(how="keeps"), "leaves everything alone", "keeps something on itself"),
    (Broken(how="changes the learner"), "leaves everything alone", "changes the learner inside"),
    (Nameless(), "settings compare", "does not survive pickling"),
    (Broken(how="nameless"), "settings compare", "hook.settings of broken is None"),
    (Wrapping(how="nothing"), "settings compare", "trainings would be mixed up"),
    (Broken(how=""), "cites its paper", "cites no paper"),
    (Broken(how="eavesdropper"), "only oracles listen", "changes when it is told the truth"),
    (Broken(how="deaf oracle"), "only oracles listen", "does not listen"),
    (Broken(how="secretive oracle"), "only oracles listen", "hides what it was told"),
]


@pytest.mark.parametrize(
    ("defense", "promise", "sentence"), BROKEN, ids=[f"{getattr(each, 'how', '')}, {name}" for each, name, _ in BROKEN]
)
def test_a_broken_promise_is_found(defense, promise, sentence):
    with pytest.raises(AssertionError, match=sentence):
        DEFENSE_CHECKS[promise](defense, defense_bench())
