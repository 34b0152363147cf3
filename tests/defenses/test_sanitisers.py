"""What sanitisers promise on tables, too; and that controls match them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mithridate.defenses.label_sanitisation import LabelSanitisation
from mithridate.defenses.loss_sanitisation import LossSanitisation
from mithridate.defenses.oracle_filter import OracleFilter
from mithridate.defenses.random_drop import RandomDrop
from mithridate.defenses.roni import RONI
from mithridate.defenses.slab import Slab
from mithridate.defenses.sphere import Sphere
from mithridate.defenses.top_loss_drop import TopLossDrop
from mithridate.seeding import Seed
from mithridate.testing import DEFENSE_CHECKS
from mithridate.testing.runs import emptied
from mithridate.testing.witnesses import Ledger
from tests.defenses.tables import LEARNER, Means, blobs, flipped, table, table_bench

BENCH = table_bench()
KINDS = {
    "roni": RONI(base=30, batch=28, trials=1, sigmas=0.5, measure="loss"),
    "sphere": Sphere(space="features", centre="median"),
    "slab": Slab(),
    "losses": LossSanitisation(rounds=3, per_class=False),
    "labels": LabelSanitisation(k=3),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("promise", DEFENSE_CHECKS)
def test_every_promise_is_kept_on_a_table(kind, promise):
    DEFENSE_CHECKS[promise](KINDS[kind], BENCH)


@pytest.mark.parametrize("kind", KINDS)
def test_each_acts_where_its_promises_are_checked(kind):
    found = KINDS[kind].protect(BENCH.learner).fit(BENCH.data.train, seed=Seed(1))
    assert sum(len(each.ids) for each in found.removals) + found.facts.get("relabelled", 0) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_no_class_is_emptied_in_all_sorts_of_tables(kind):
    """Far classes, classes among others, and all rows in one place; two rows of a class, and one."""
    draws = torch.Generator().manual_seed(0)
    labels = [*[0] * 60, *[1] * 38, *[2] * 2, 3]
    for inputs in (torch.randn(101, 3, generator=draws), torch.ones(101, 3), 1e3 * torch.tensor(labels)[:, None]):
        data, ledger = table(inputs, labels), Ledger()
        found = KINDS[kind].protect(LEARNER).fit(data, seed=Seed(2), hooks=(ledger,))
        assert emptied(data, torch.cat([data.ids[:0], *(each.ids for each in found.removals)])) == []
        assert set(ledger.labels.values()) == {0, 1, 2, 3}


@pytest.mark.parametrize("kind", [each for each in KINDS if each != "labels"])
def test_controls_take_out_as_many_rows_of_a_poisoned_table(kind):
    data, wrong = flipped(blobs(110, seed=3), 9)
    like = KINDS[kind]
    (own,) = like.protect(LEARNER).fit(data, seed=Seed(4)).removals
    for control in (RandomDrop(like=like), RandomDrop(like=like, per_class=True), TopLossDrop(like=like)):
        (removal,) = control.protect(LEARNER).fit(data, seed=Seed(4)).removals
        assert len(removal.ids) == len(own.ids) > 0
        if getattr(control, "per_class", False):
            counts = [torch.bincount(data.labels[each.ids]).tolist() for each in (removal, own)]
            assert counts[0] == counts[1]
    assert len(OracleFilter(poison_ids=tuple(wrong.tolist())).protect(LEARNER).fit(data, seed=Seed(4)).removals) == 1


def test_a_control_leaves_a_row_of_each_class_too():
    """Two rows of class 1 lie among those of class 0, so that their losses are highest."""
    data = table([*torch.linspace(-1, 1, 30), -0.1, 0.1], [*[0] * 30, 1, 1])
    control = TopLossDrop(like=Sphere(percentile=80.0))
    (removal,) = control.protect(replace(LEARNER, epochs=40)).fit(data, seed=Seed(4)).removals
    assert len({30, 31} & set(removal.ids.tolist())) == 1


def test_losses_and_their_control_are_one():
    """Top losses, as many and of each class: that is the defense itself."""
    data, _ = flipped(blobs(110, seed=3), 9)
    found = [
        each.protect(LEARNER).fit(data, seed=Seed(4)).removals[0].ids.tolist()
        for each in (LossSanitisation(), TopLossDrop(like=LossSanitisation(), per_class=True))
    ]
    assert sorted(found[0]) == sorted(found[1])


def test_flipped_labels_are_repaired_or_removed_by_what_looks_at_labels():
    """Each takes out, or puts right, all of 8 flipped rows among 110, for at most as many others."""
    data, wrong = flipped(blobs(110, seed=3, apart=4.0), 8)
    for defense in (Slab(percentile=85.0), LossSanitisation(fraction=0.15), LabelSanitisation(action="drop")):
        (removal,) = defense.protect(LEARNER).fit(data, seed=Seed(4)).removals
        assert set(wrong.tolist()) <= set(removal.ids.tolist())
        assert len(removal.ids) <= 2 * len(wrong) + 2


def test_seconds_hold_all_trainings_those_found_done_too():
    """Each training of the learner says that a quarter of a second was saved."""
    data = blobs(40, seed=1)
    for defense, trainings in ((RONI(base=8, quiz=12, trials=2), 82), (LossSanitisation(), 1), (Sphere(), 0)):
        found = defense.protect(Means()).fit(data, seed=Seed(0))
        assert found.reused == 0.25 * (trainings + 1)
        assert 0.25 * trainings < found.removals[0].seconds < 0.25 * trainings + 5
