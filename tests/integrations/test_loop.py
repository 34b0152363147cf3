"""A guard in a plain PyTorch loop: the rows it keeps, against the defense itself; its state; what it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, IterableDataset, Subset

from mithridate.dataset import Dataset as MithridateRows
from mithridate.dataset import Space
from mithridate.defenses.epic import EPIC
from mithridate.errors import ConfigError, DataError, FormatError, ModelError
from mithridate.integrations.loop import Guard
from mithridate.integrations.sampler import GuardedSampler
from mithridate.learner import Progress
from mithridate.learners.sgd import SGD
from mithridate.models.linear import Linear
from mithridate.models.wrapped import wrap
from mithridate.ops.isolation import isolated
from mithridate.seeding import Seed
from mithridate.testing import undisturbed
from tests.integrations.plain import BOLD, EPOCHS, Net, Rows, removed, same_weights

IDS = torch.randperm(500, generator=torch.Generator().manual_seed(2))[:67]


def guarding(epic=BOLD, rows=None, **changes):
    rows = rows or Rows()
    return Guard(epic, **{"labels": rows.y, "epochs": EPOCHS, "ids": IDS, **changes})


class Training:
    """A user's own loop: everything that changes in it, and one epoch of it."""

    def __init__(self, epic=BOLD):
        self.rows, self.model, self.guard = Rows(), Net(), guarding(epic)
        self.optimiser = torch.optim.SGD(self.model.parameters(), lr=0.2, momentum=0.9)
        self.seen = []

    def run(self, epoch):
        keep = self.guard.update(epoch, self.model, self.rows)
        self.seen.append(keep.tolist())
        self.model.train()
        with Seed(epoch).scope():  # shuffling and dropout
            for part in keep[torch.randperm(len(keep))].split(16)[:-1]:
                x, y = self.rows.x[part], self.rows.y[part]
                losses = functional.cross_entropy(self.model(x), y, reduction="none") * self.guard.weights[part]
                self.optimiser.zero_grad()
                losses.mean().backward()
                self.optimiser.step()
        return self


def trained(epochs=EPOCHS, epic=BOLD):
    training = Training(epic)
    for epoch in range(epochs):
        training.run(epoch)
    return training


class TestGuard:
    @pytest.mark.parametrize("use_bias", [True, False])
    @pytest.mark.parametrize("ground_set", ["all", "active"])
    def test_drops_what_the_defense_drops(self, use_bias, ground_set):
        """On the same network and rows as the hook of a learner, twice in a row."""
        epic, rows, model = replace(BOLD, use_bias=use_bias, ground_set=ground_set), Rows(), trained(3).model
        space = Space(shape=(2,), num_classes=3, bounds=(-99.0, 99.0))
        data = MithridateRows(inputs=rows.x, labels=rows.y, ids=IDS, space=space)
        hook = epic.hook(SGD(model=Linear(), schedule="constant"), Seed(0))
        guard, active = guarding(epic, head="fc"), torch.ones(67, dtype=torch.bool)
        for epoch in (2, 3):
            progress = Progress(epoch=epoch, epochs=EPOCHS, model=wrap(model, "fc"), loss=0.0, accuracy=0.0)
            removal = hook.drop(data, active, progress)
            active = active & ~torch.isin(IDS, removal.ids)
            keep = guard.update(epoch, model, rows)
            assert removed(guard)[-1] == (epoch, removal.ids.tolist())
            assert keep.tolist() == active.nonzero()[:, 0].tolist()
            assert torch.equal(guard.active, active)
            model = trained(4).model
        assert len(guard.removals[0].ids)
        assert guard.removals[0].seconds > 0

    def test_drops_what_the_pure_function_calls_isolated(self):
        rows, model, guard = Rows(), trained(2).model, guarding()
        keep = guard.update(1, model, rows)
        model.eval()
        expected = isolated(model(rows.x).softmax(1), rows.y, 0.3, ids=IDS)
        assert expected.any()
        assert keep.tolist() == (~expected).nonzero()[:, 0].tolist()

    def test_rounds_are_those_of_the_defense(self):
        guard = guarding(epic=EPIC(fraction=0.3), epochs=40, last_drop=35)
        model = Net()
        for epoch in range(40):
            guard.update(epoch, model, Rows())
        assert [each.epoch for each in guard.removals] == list(range(10, 35, 2))
        assert max(guarding(epochs=40, epic=EPIC()).rounds) == 34

    def test_dropped_rows_never_come_back_and_no_class_is_emptied(self):
        seen = trained(EPOCHS, replace(BOLD, ground_set="active", fraction=0.9)).seen
        assert [len(each) for each in seen] == sorted((len(each) for each in seen), reverse=True)
        assert all(set(after) <= set(before) for before, after in pairwise(seen))
        assert len(set(Rows().y[seen[-1]].tolist())) == 3
        assert seen[0] == list(range(67))
        assert len(seen[-1]) < 40

    def test_asking_again_changes_nothing(self):
        rows, model, guard = Rows(), trained(2).model, guarding()
        keep = guard.update(1, model, rows)
        assert torch.equal(guard.update(1, Net(), rows), keep)
        assert len(guard.removals) == 1

    @pytest.mark.parametrize("wrong", [{}, {"batch_size": 5}, {"shuffle": True}, {"drop_last": True, "batch_size": 64}],
                             ids=["plain", "batches of five", "shuffled", "without the last"])  # fmt: skip
    def test_a_loader_gives_the_rows_in_their_own_order(self, wrong):
        """Whatever its own: a known port of EPIC took positions in a shuffled loader for rows, and dropped others."""
        rows, model = Rows(), trained(2).model
        with undisturbed("the guard"):
            keep = guarding().update(1, model, DataLoader(rows, **wrong))
        assert torch.equal(keep, guarding().update(1, model, rows))

    def test_a_loader_may_collate_its_own_way(self):
        """Rows that are mappings become pairs in the user's own function."""

        class Mappings(Rows):
            def __getitem__(self, index):
                return {"x": self.x[index], "y": self.y[index]}

        def collated(rows):
            return torch.stack([row["x"] for row in rows]), torch.stack([row["y"] for row in rows])

        loader = DataLoader(Mappings(), collate_fn=collated)
        model = trained(2).model
        assert torch.equal(guarding().update(1, model, loader), guarding().update(1, model, Rows()))

    def test_the_network_and_all_randomness_are_left_alone(self):
        model = trained(2).model.train()
        model.body[1].eval()  # frozen by its owner
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with undisturbed("the guard"):
            guarding().update(1, model, Rows())
        assert [each.training for each in (model, model.body[1], model.body[3])] == [True, False, True]
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_weights_are_the_defenses_own(self):
        guard, model = guarding(replace(BOLD, weighted=True)), trained(2).model
        assert torch.equal(guard.weights, torch.ones(67))
        guard.update(1, model, Rows())
        assert guard.weights[guard.active].mean() == pytest.approx(1, abs=1e-5)
        assert (guard.weights[~guard.active] == 1).all()
        assert len(guard.weights.unique()) > 3
        plain = guarding()
        plain.update(1, model, Rows())
        assert torch.equal(plain.weights, torch.ones(67))


class TestState:
    @pytest.mark.parametrize("stop", [1, 3, 5])
    @pytest.mark.parametrize("moment", ["between epochs", "inside an epoch"])
    @pytest.mark.parametrize("weighted", [False, True], ids=["plain", "weighted"])
    def test_resuming_equals_not_stopping(self, stop, moment, weighted, tmp_path):
        epic = replace(BOLD, weighted=weighted, ground_set="active")
        whole = trained(epic=epic)
        half = trained(stop, epic)
        if moment == "inside an epoch":
            half.guard.update(stop, half.model, half.rows)  # held once, asked again after the resumption
        parts = (half.guard, half.model, half.optimiser)
        torch.save([each.state_dict() for each in parts], tmp_path / "state.pt")
        again = Training(epic)
        kept = torch.load(tmp_path / "state.pt", weights_only=True)
        for part, state in zip((again.guard, again.model, again.optimiser), kept, strict=True):
            part.load_state_dict(state)
        for epoch in range(stop, EPOCHS):
            again.run(epoch)
        assert removed(again.guard) == removed(whole.guard)
        assert again.seen == whole.seen[stop:]
        assert same_weights(again.model, whole.model)
        assert torch.equal(again.guard.weights, whole.guard.weights)
        assert len(whole.guard.removals) >= 3

    def test_a_state_is_tensors_of_its_own(self):
        training = trained(3)
        state = training.guard.state_dict()
        kept = {name: value.clone() for name, value in state.items()}
        for epoch in (3, 4):
            training.run(epoch)
        assert all(torch.equal(state[name], kept[name]) for name in kept)
        fresh = guarding()
        fresh.load_state_dict(state)
        fresh.update(3, training.model, training.rows)
        assert all(torch.equal(state[name], kept[name]) for name in kept)

    def test_a_state_of_something_else_is_refused(self):
        with pytest.raises(FormatError, match="no state of a guard: it lacks dropped, epoch"):
            guarding().load_state_dict({"ids": IDS})
        with pytest.raises(FormatError, match="belongs to other rows: 67 ids"):
            guarding(ids=None).load_state_dict(guarding().state_dict())


class TestRefusals:
    """Every mistake a user is likely to make is a sentence, before anything is dropped."""

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"labels": torch.tensor([[0], [1]]), "ids": None}, r"labels must be whole numbers .* of shape \(2, 1\)"),
            ({"labels": torch.tensor([0.0, 1.0]), "ids": None}, "labels must be whole numbers .*float32"),
            ({"labels": torch.tensor([0, -1]), "ids": None}, "labels must be whole numbers"),
            ({"labels": [], "ids": None}, "labels must be whole numbers"),
            ({"ids": IDS[:-1]}, "ids must be 67 different whole numbers"),
            ({"ids": IDS // 2}, "ids must be 67 different whole numbers"),
        ],
        ids=["columns", "floats", "negative", "none", "too few ids", "ids twice"],
    )
    def test_labels_and_ids_that_name_no_rows(self, changes, sentence):
        with pytest.raises(DataError, match=sentence):
            guarding(**changes)

    def test_going_back_in_time(self):
        guard = guarding()
        guard.update(2, Net(), Rows())
        with pytest.raises(ConfigError, match=r"epoch 0 comes after epoch 2: .* make a new one"):
            guard.update(0, Net(), Rows())

    def test_rows_in_another_order_than_the_labels(self):
        rows = Rows()
        turned = Subset(rows, list(range(66, -1, -1)))
        with pytest.raises(DataError, match=r"do not belong to the labels: row .* in the order of the labels"):
            guarding().update(1, Net(), turned)

    def test_other_rows(self):
        with pytest.raises(DataError, match="67 labels, but the data have 30 rows"):
            guarding().update(1, Net(), Subset(Rows(), range(30)))

    def test_rows_that_are_augmented(self):
        class Augmented(Rows):
            def __getitem__(self, index):
                return self.x[index] * (1 + (torch.rand(1) > 0.5)), self.y[index]

        with Seed(0).scope(), pytest.raises(DataError, match=r"read twice are not the same; .* augmentation"):
            guarding().update(1, Net(), Augmented())

    def test_missing_values_are_no_augmentation(self):
        class Holes(Rows):
            def __getitem__(self, index):
                return torch.where(self.x[index] > 1, torch.nan, self.x[index]), self.y[index]

        class Filling(Net):
            def forward(self, x):
                return super().forward(x.nan_to_num())

        assert len(guarding().update(1, Filling(), Holes())) <= 67

    def test_a_stream(self):
        class Stream(IterableDataset):
            def __iter__(self):
                yield from Rows()

        with pytest.raises(DataError, match=r"by their number .* which a Stream does not allow"):
            guarding().update(1, Net(), Stream())

    def test_rows_that_are_no_pairs(self):
        with pytest.raises(DataError, match="rows \\(x, y\\) with x a tensor, but a batch of them is a Tensor"):
            guarding().update(1, Net(), Rows().x)

    @pytest.mark.parametrize(
        ("forward", "sentence"),
        [
            (lambda x: (x, x), "but returns a tuple of Tensor, Tensor"),
            (lambda x: x[:, 0], r"but returns a tensor of shape \(16,\)"),
            (lambda x: x / 0, "not finite"),
        ],
        ids=["a pair", "one number", "infinity"],
    )
    def test_a_network_without_logits(self, forward, sentence):
        class Odd(nn.Module):
            def forward(self, x):
                return forward(x)

        with pytest.raises(ModelError, match=sentence):
            guarding().update(1, Odd(), Rows())

    def test_a_bias_that_cannot_be_found(self):
        with pytest.raises(ConfigError, match="name it, Guard"):
            guarding(replace(BOLD, use_bias=False)).update(1, Net(), Rows())
        with pytest.raises(ModelError, match="no part 'head'"):
            guarding(replace(BOLD, use_bias=False), head="head").update(1, Net(), Rows())

    def test_labels_beyond_the_networks_classes(self):
        labels = Rows().y.clone()
        labels[5] = 3
        rows = Rows()
        rows.y = labels
        with pytest.raises(DataError, match=r"labels must be int64 in 0\.\.2"):
            guarding(rows=rows).update(1, Net(), rows)


class TestSampler:
    def test_an_epoch_is_as_long_as_ever_and_shows_kept_rows_evenly(self):
        training = trained(4)
        sampler, keep = GuardedSampler(training.guard, seed=3), training.guard.keep
        drawn = torch.tensor(list(sampler))
        assert len(drawn) == len(sampler) == 67
        assert sorted(drawn[: len(keep)].tolist()) == keep.tolist()
        counts = torch.bincount(drawn, minlength=67)
        assert counts[keep].max() - counts[keep].min() <= 1
        assert counts.sum() == counts[keep].sum()
        assert len(keep) < 67

    def test_the_order_is_decided_by_seed_and_epoch_alone(self):
        guard, model = guarding(), Net()
        orders = []
        for epoch in range(3):
            guard.update(epoch, model, Rows())
            with undisturbed("the sampler"):
                orders += [list(GuardedSampler(guard, seed=3)), list(GuardedSampler(guard, seed=3))]
        assert orders[::2] == orders[1::2]
        assert orders[0] != orders[2] != orders[4]
        assert list(GuardedSampler(guard, seed=4)) != orders[4]

    def test_few_rows_fill_an_epoch_many_times(self):
        guard = guarding()
        guard.active[:] = False
        guard.active[[3, 50]] = True
        drawn = list(GuardedSampler(guard))
        assert len(drawn) == 67
        assert abs(drawn.count(3) - drawn.count(50)) == 1
