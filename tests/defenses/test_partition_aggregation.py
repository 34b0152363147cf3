"""Partition aggregation: a row reaches one network, whatever the order; how votes are counted; stops and resumes.

That the certificate holds is tried in ``test_partition_certificate.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import nn

from mithridate.dataset import Dataset
from mithridate.defense import Filter, HookDefense, Verdict, protect
from mithridate.defenses.partition_aggregation import (
    PartitionAggregation,
    Voting,
    constant_vote,
    partitioned,
    standing_alone,
)
from mithridate.errors import ConfigError, FormatError
from mithridate.learner import Hook
from mithridate.learners.cached import Cached
from mithridate.learners.sgd import SGD
from mithridate.model import Classifier
from mithridate.models.linear import Linear
from mithridate.ops.certificate import winners
from mithridate.seeding import Seed
from mithridate.testing import check_learner, toy
from mithridate.trial import called
from tests.defenses.test_partition_certificate import CLASSES, EVERY_INPUT, VALUES, NearestCentroid, rows

TOY = SGD(model=Linear(), epochs=4, batch_size=16, lr=0.05, schedule="constant", augmentation=None)


def test_a_row_reaches_no_network_but_that_of_its_partition():
    """Bit for bit, although the statistics of all rows, their numbers and their order change."""
    data = toy(60, seed=3)
    row = toy(1, seed=9).inputs
    extra = Dataset(inputs=row, labels=torch.tensor([2]), ids=torch.tensor([-5]), space=data.space)
    more = replace(
        data,
        inputs=torch.cat([row, data.inputs]),
        labels=torch.cat([torch.tensor([2]), data.labels]),
        ids=torch.cat([torch.tensor([-5]), data.ids]),
    )
    home = next(k for k, index in enumerate(partitioned(extra, 4)) if len(index))
    learner = PartitionAggregation(partitions=4).protect(TOY)
    before, after = (learner.fit(each, seed=Seed(1)).model for each in (data, more))
    for k in range(4):
        same = equal_states(before.members[k], after.members[k])
        assert same == (k != home)


def equal_states(one, two):
    states = one.state_dict(), two.state_dict()
    assert states[0].keys() == states[1].keys()
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_neither_the_order_nor_the_ids_of_rows_matter():
    data = toy(60, seed=3)
    mixed = torch.randperm(60, generator=Seed(8).generator())
    other = replace(data.at(mixed), ids=torch.arange(60) * 7 - 100)
    learner = PartitionAggregation(partitions=3).protect(TOY)
    one, two = (learner.fit(each, seed=Seed(1)) for each in (data, other))
    assert equal_states(one.model, two.model)
    assert (one.loss, one.accuracy) == (two.loss, two.accuracy)


def test_one_input_under_two_labels_has_an_order_too():
    data = rows([(3, 1), (3, 0), (1, 0), (3, 1)])
    orders = [partitioned(data.at(torch.tensor(order)), 1)[0] for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2])]
    labels = [data.at(torch.tensor(order)).labels for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 0, 3, 2])]
    assert len({tuple(each[index].tolist()) for each, index in zip(labels, orders, strict=True)}) == 1


def test_the_hash_leaves_the_label_out_and_looks_at_the_whole_input():
    data = toy(200, seed=3)
    homes = partitioned(data, 7)
    assert sorted(torch.cat(homes).tolist()) == list(range(200))
    relabelled = partitioned(replace(data, labels=(data.labels + 1) % 3), 7)
    assert [set(index.tolist()) for index in homes] == [set(index.tolist()) for index in relabelled]
    changed = data.inputs.clone()
    changed[:, :, -1, -1] ^= 1
    moved = partitioned(replace(data, inputs=changed), 7)
    stay = sum(len(set(a.tolist()) & set(b.tolist())) for a, b in zip(homes, moved, strict=True))
    assert stay < 200 / 7 * 2  # a seventh would by chance


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16], ids=["codes", "floats", "half"])
def test_equal_rows_share_a_partition_however_they_are_stored(dtype):
    data = toy(30, seed=3)
    stored = data.inputs if dtype == torch.uint8 else data.all_inputs().to(dtype)
    twice = Dataset(
        inputs=torch.cat([stored, stored]), labels=data.labels.repeat(2), ids=torch.arange(60), space=data.space
    )
    for index in partitioned(twice, 5):
        assert sorted((index % 30).tolist()) == sorted([k for k in range(30) if k in index.tolist()] * 2)


def test_duplicates_count_as_often_as_they_occur():
    """The mean of class 1 moves with its second copy, and the input between the classes changes sides."""
    once, twice = ((1, 0), (2, 1), (4, 1)), ((1, 0), (2, 1), (4, 1), (4, 1), (4, 1))
    learner = PartitionAggregation(partitions=1).protect(NearestCentroid())
    found = [learner.fit(rows(pairs), seed=Seed(4)).model.members[0].centres for pairs in (once, twice)]
    assert [each.tolist() for each in found] == [[1.0, 3.0], [1.0, 3.5]]


def test_a_partition_is_normalised_by_its_own_statistics():
    data = toy(40, seed=3)
    part = standing_alone(data, torch.arange(10, 20))
    own = data.all_inputs()[10:20].double()
    assert part.space.mean == pytest.approx([float(own.mean())], abs=1e-5)
    assert part.space.std == pytest.approx([float(own.std(correction=0))], abs=1e-5)
    assert part.ids.tolist() == list(range(10))
    bare = replace(data, space=replace(data.space, mean=(), std=()))
    assert (standing_alone(bare, torch.arange(10)).space.mean, standing_alone(bare, torch.arange(10)).space.std) == (
        (),
        (),
    )
    scaled = replace(data, space=replace(data.space, mean=()))
    assert standing_alone(scaled, torch.arange(10, 20)).space == replace(part.space, mean=())


def test_partitions_without_a_choice_vote_for_what_they_know():
    assert constant_vote(rows([])) == 0
    assert constant_vote(rows([(3, 1)])) == 1
    assert constant_vote(rows([(3, 1), (2, 1)])) == 1
    assert constant_vote(rows([(3, 1), (2, 0)])) is None
    pairs = ((3, 1), (2, 1), (4, 1))  # in 40 partitions 37 or more are empty
    model = PartitionAggregation(partitions=40).protect(NearestCentroid()).fit(rows(pairs), seed=Seed(4)).model
    filled = sum(len(index) > 0 for index in partitioned(rows(pairs), 40))
    votes = model.features(EVERY_INPUT).unflatten(1, (40, CLASSES)).sum(1)
    assert votes.tolist() == [[40 - filled, filled]] * VALUES


class Fixed(Classifier):
    """Says what it was told to."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def features(self, inputs):
        return inputs.flatten(1)

    def head(self, features):
        return self.logits.expand(len(features), -1)

    def head_parameters(self):
        return []


def test_ties_go_to_the_lower_class_in_votes_and_in_the_vote():
    members = [Fixed([1.0, 3.0, 3.0]), Fixed([0.0, 0.0, 9.0]), Fixed([float("nan")] * 3)]
    model = Voting(members, num_classes=3)
    inputs = torch.zeros(4, 1)
    assert winners(model.features(inputs).unflatten(1, (3, 3)).flatten(0, 1)).tolist() == [1, 2, 0] * 4
    logits = model(inputs)
    assert logits[0].tolist() == pytest.approx([1.0, 1 - 1 / 6, 1 - 2 / 6])
    assert called(logits).tolist() == [0] * 4
    assert model.certificate(inputs).tolist() == [0] * 4


def test_many_voters_leave_the_handicap_visible():
    model = Voting([Fixed([0.0, 1.0]), Fixed([1.0, 0.0])] * 600, num_classes=2)
    assert called(model(torch.zeros(1, 1))).tolist() == [0]


def test_votes_have_the_gradient_of_the_probabilities():
    member = Fixed([0.2, 0.5])
    Voting([member], num_classes=2)(torch.zeros(1, 1))[0, 1].backward()
    likely = torch.tensor([0.2, 0.5]).softmax(0)
    assert torch.allclose(member.logits.grad, torch.tensor([-likely[0] * likely[1], likely[0] * likely[1]]))


def test_progress_is_a_partition_at_a_time_and_those_to_come_abstain():
    learner = PartitionAggregation(partitions=3).protect(TOY)
    data, seen = toy(60, seed=3), []
    for progress in learner.train(data, seed=Seed(1)):
        votes = progress.model.features(data.all_inputs()[:1]).detach().sum()
        seen.append((progress.epoch, progress.epochs, float(votes)))
    assert seen == [(1, 3, 1.0), (2, 3, 2.0), (3, 3, 3.0)]


def test_loss_and_accuracy_are_means_over_the_rows():
    data = toy(60, seed=3)
    learner = PartitionAggregation(partitions=3).protect(TOY)
    fitted = learner.fit(data, seed=Seed(1))
    alone = [
        (len(index), TOY.fit(standing_alone(data, index), seed=Seed(1).child("partition", k)))
        for k, index in enumerate(partitioned(data, 3))
    ]
    assert fitted.loss == pytest.approx(sum(n * each.loss for n, each in alone) / 60)
    assert fitted.accuracy == pytest.approx(sum(n * each.accuracy for n, each in alone) / 60)
    for member, (_, each) in zip(fitted.model.members, alone, strict=True):
        assert equal_states(member, each.model)


@dataclass(frozen=True, kw_only=True)
class DropFirst(Filter):
    """Flags the row of the highest label and then number."""

    name: ClassVar[str] = "drop-first"

    def judge(self, features, data, *, seed):
        scores = data.labels * 1000.0 + data.ids
        return Verdict(scores=scores, flagged=scores == scores.max())


class Counting(Hook):
    """Reports how many rows it saw."""

    def __init__(self):
        self.rows = 0

    def batches(self, count, size, generator):
        self.rows = count

    def facts(self):
        return {"rows": float(self.rows)}


@dataclass(frozen=True, kw_only=True)
class Counted(HookDefense):
    name: ClassVar[str] = "counted"

    def hook(self, learner, seed):
        return Counting()


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_resuming_between_partitions_equals_not_stopping(stop):
    data = toy(60, seed=3)
    learner = protect(TOY, [DropFirst(), Counted(), PartitionAggregation(partitions=4)])
    whole = learner.fit(data, seed=Seed(1))
    for progress in learner.train(data, seed=Seed(1)):
        if progress.epoch == stop:
            state = progress.state()
            break
    rest = list(learner.train(data, seed=Seed(1), resume=state))
    assert [each.epoch for each in rest] == list(range(stop + 1, 5))
    assert equal_states(whole.model, rest[-1].model)
    assert (whole.loss, whole.accuracy, whole.facts) == (rest[-1].loss, rest[-1].accuracy, rest[-1].facts)
    assert [each.ids.tolist() for each in whole.removals] == [each.ids.tolist() for each in rest[-1].removals]


def test_removals_inside_are_told_by_the_ids_outside_and_facts_are_the_largest():
    data = replace(toy(60, seed=3), ids=torch.arange(60) * 7 + 1000)
    homes = partitioned(data, 4)
    fitted = protect(TOY, [DropFirst(), Counted(), PartitionAggregation(partitions=4)]).fit(data, seed=Seed(1))
    for index, removal in zip(homes, fitted.removals, strict=True):
        last = index[data.labels[index] == data.labels[index].max()][-1]
        assert removal.ids.tolist() == data.ids[last][None].tolist()
    assert fitted.facts == {"rows": float(max(len(index) - 1 for index in homes))}


def test_networks_found_done_are_charged_for(tmp_path):
    learner = PartitionAggregation(partitions=3).protect(Cached(learner=TOY, folder=tmp_path))
    trained, found = (learner.fit(toy(60, seed=3), seed=Seed(1)) for _ in range(2))
    assert equal_states(trained.model, found.model)
    assert trained.reused == 0
    assert found.reused > 0
    first = next(iter(learner.train(toy(60, seed=3), seed=Seed(1))))
    rest = list(learner.train(toy(60, seed=3), seed=Seed(1), resume=first.state()))
    assert rest[-1].reused == pytest.approx(found.reused)


def test_a_hook_from_outside_is_refused():
    learner = Counted().protect(PartitionAggregation(partitions=2).protect(TOY))
    with pytest.raises(ConfigError, match="put it before partition-aggregation in the stack"):
        learner.fit(toy(30, seed=3), seed=Seed(1))


def test_the_state_of_another_training_is_refused():
    data = toy(60, seed=3)
    states = [next(iter(each.train(data, seed=Seed(1)))).state() for each in (TOY, several(3))]
    for state in states:
        with pytest.raises(FormatError, match="not that of this training of partitions"):
            several(2).fit(data, seed=Seed(1), resume=state)


def several(partitions):
    return PartitionAggregation(partitions=partitions).protect(TOY)


def test_no_partition_is_refused():
    with pytest.raises(ConfigError, match="partitions must be at least 1, but it is 0"):
        PartitionAggregation(partitions=0)


def test_the_protected_learner_keeps_the_promises_of_learners():
    check_learner(PartitionAggregation(partitions=3).protect(replace(TOY, epochs=8)))
