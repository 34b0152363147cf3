"""A remembered learner whose training is differentiated: the learner inside decides, under the seed they share."""

from __future__ import annotations

import torch

from mithridate.goal import Degrade
from mithridate.learners.cached import Cached
from mithridate.learners.recipes import recipe
from mithridate.seeding import Seed
from mithridate.unrollable_cache import UnrollableCached
from tests.conftest import stripes

DATA, TEST = stripes(30, seed=1), stripes(15, seed=2)
AIMS = Degrade().draw(DATA, TEST, Seed(0), validation=TEST).known
LEARNER = recipe("mlp-10", loss="softmax", steps=5)


def value(learner, seed):
    """The validation loss after training with two rows under a wrong label."""
    rows = DATA.at(slice(0, 2))
    return learner.bilevel(DATA, AIMS, seed=Seed(seed)).value(rows.all_inputs().double(), (rows.labels + 1) % 3)


def test_is_differentiated_as_the_learner_inside_is(tmp_path):
    free = UnrollableCached(learner=LEARNER, folder=tmp_path)
    assert value(free, 1) == value(LEARNER, 1) != value(LEARNER, 2)


def test_differentiates_from_the_callers_seed_where_trained_networks_share_one(tmp_path):
    """Several trainings that an attack averages must differ; nothing of them is kept."""
    shared = UnrollableCached(learner=LEARNER, folder=tmp_path, pinned=Seed(2))
    assert value(shared, 1) == value(LEARNER, 1) != value(shared, 5)


def test_remembers_trainings_as_the_other_does(tmp_path):
    one, other = (kind(learner=LEARNER, folder=tmp_path) for kind in (Cached, UnrollableCached))
    found = [each.fit(DATA, seed=Seed(1)) for each in (one, other)]
    assert found[0].reused == 0 < found[1].reused
    with torch.no_grad():
        logits = [each.model(TEST.all_inputs()) for each in found]
    assert torch.equal(*logits)
