"""EPIC: its rounds against the table of the release, its choices against cases solved by hand, its trainings."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from mithridate import checkpoint, config
from mithridate.dataset import Dataset, Space
from mithridate.defense import Defense
from mithridate.defenses.epic import EPIC
from mithridate.errors import ConfigError, ModelError, ProblemsError
from mithridate.learner import Hook, Progress
from mithridate.learners.sgd import SGD
from mithridate.model import Classifier
from mithridate.models.linear import Linear
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.models.wrapped import wrap
from mithridate.ops.confidence import confidences, evaluating
from mithridate.ops.isolation import isolated
from mithridate.seeding import Seed
from mithridate.testing import toy, undisturbed
from mithridate.trial import accuracy
from tests.conftest import stripes

BOLD = EPIC(fraction=0.3, interval=1, warmup=1, max_total_drop=None, min_class_size=1)
"""Unguarded, and at work from the first moment on."""
LEARNER = SGD(model=SmallConvNet(widths=(4, 6)), epochs=6, batch_size=16, lr=0.05, schedule="one-cycle")


class TestRounds:
    """Epochs done before each round; spec A.3 counts those of the released examples."""

    def test_presets_act_when_the_release_does(self):
        assert list(EPIC.preset("release-40").rounds(40, 35)) == list(range(10, 35, 2))  # 13: 10 ... 34
        assert list(EPIC.preset("release-200").rounds(200, 150)) == list(range(30, 151, 10))  # 13: 30 ... 150
        assert list(EPIC.preset("paper").rounds(200, 150)) == list(range(10, 151, 10))

    @pytest.mark.parametrize(
        ("settings", "epochs", "last_drop", "first", "count"),
        [
            ({"interval": 5, "warmup": 1}, 40, 35, 5, 7),  # gradient matching, radius 16
            ({"interval": 10, "warmup": 1}, 200, 150, 10, 15),  # Bullseye, TinyImageNet
            ({"interval": 1, "warmup": 1, "stop": 10}, 40, 35, 1, 9),  # Bullseye, linear transfer
            ({"interval": 1, "warmup": 5}, 40, 35, 5, 31),  # Bullseye, fine-tuning
        ],
    )
    def test_other_rows_of_the_table(self, settings, epochs, last_drop, first, count):
        found = EPIC(**settings).rounds(epochs, last_drop)
        assert (found[0], len(found)) == (first, count)

    def test_the_default_is_the_release_in_proportion(self):
        """At 40 epochs it is the 40-epoch preset; elsewhere a quarter, a twentieth and seven eighths."""
        assert EPIC().rounds(40, 35) == EPIC().rounds(40) == EPIC.preset("release-40").rounds(40, 35)
        assert list(EPIC().rounds(15)) == list(range(4, 14))
        assert list(EPIC().rounds(20)) == list(range(5, 18))
        assert list(EPIC().rounds(200, 150)) == list(range(50, 151, 10))

    def test_a_round_is_never_before_the_first_or_after_the_last_epoch(self):
        for epochs in range(1, 300):
            for last_drop in (None, epochs - 1):
                found = EPIC().rounds(epochs, last_drop)
                assert all(0 < each < epochs for each in found)
                assert found or epochs < 2
        assert not EPIC(stop=1).rounds(40)
        assert max(EPIC(stop=1000, interval=1).rounds(40)) == 39

    def test_the_hook_asks_the_learner_when_its_rate_drops_for_the_last_time(self):
        early = replace(LEARNER, schedule="steps", drops=(2,))
        smooth = replace(LEARNER, schedule="cosine")
        assert self.seen(early) == [1, 2]
        assert self.seen(smooth) == [1, 2, 3, 4, 5]  # 7/8 of 6 is 5

    def seen(self, learner):
        """The rounds of a training: where each row is isolated, each round takes some."""
        found = replace(BOLD, fraction=0.5).protect(learner).fit(stripes(60, seed=1), seed=Seed(1))
        return [each.epoch for each in found.removals]


def softmaxes(count, classes, *, seed=0):
    """Softmax outputs and labels of unequal classes; ids scattered and unsorted."""
    draws = torch.Generator().manual_seed(seed)
    labels = (torch.rand(count, generator=draws).square() * classes).long()
    logits = torch.randn(count, classes, generator=draws)
    logits[torch.arange(count), labels] += 2
    ids = torch.randperm(5 * count, generator=draws)[:count]
    return logits.softmax(1), labels, ids


def choose(epic, probabilities, labels, ids, active=None):
    active = torch.ones(len(labels), dtype=torch.bool) if active is None else active
    rows = epic.ground(ids, active)
    return epic.chosen(probabilities[rows], rows=rows, labels=labels, ids=ids, active=active)


class TestChoices:
    @pytest.mark.parametrize("classes", [2, 3, 50])
    def test_without_guards_all_isolated_rows_go(self, classes):
        probabilities, labels, ids = softmaxes(150, classes)
        expected = ids[isolated(probabilities, labels, 0.3, ids=ids)]
        found = choose(BOLD, probabilities, labels, ids)
        assert sorted(found.ids.tolist()) == sorted(expected.tolist())
        assert len(found.ids)
        assert not found.held_back

    @pytest.mark.parametrize(("kernel", "min_cluster"), [("cosine", 1), ("exp", 3)])
    def test_kernel_and_size_of_clusters_are_handed_on(self, kernel, min_cluster):
        probabilities, labels, ids = softmaxes(150, 5)
        epic = replace(BOLD, kernel=kernel, min_cluster=min_cluster)
        found = set(choose(epic, probabilities, labels, ids).ids.tolist())
        expected = isolated(probabilities, labels, 0.3, ids=ids, kernel=kernel, min_cluster=min_cluster)
        assert found == set(ids[expected].tolist())
        assert found != set(choose(BOLD, probabilities, labels, ids).ids.tolist())

    def test_the_row_farthest_from_its_neighbour_goes_first(self):
        """By hand: on a line, gaps of 0.2, 0.3 and 0.5 at the ends of a dense stretch; three medoids and one more."""
        places = [0.40, 0.41, 0.42, 0.43, 0.44, 0.64, 0.94, 0.10, 0.11]
        p = torch.tensor(places, dtype=torch.float64)
        probabilities, labels = torch.stack([1 - p, p], 1), torch.zeros(9, dtype=torch.int64)
        ids = torch.tensor([9, 8, 7, 6, 5, 40, 30, 2, 1])
        found = choose(replace(BOLD, fraction=0.45), probabilities, labels, ids)  # four medoids
        assert found.ids.tolist() == [30, 40]  # 0.3 to its neighbour, then 0.2
        held = choose(replace(BOLD, fraction=0.45, min_class_size=8), probabilities, labels, ids)
        assert held.ids.tolist() == [30]
        assert held.held_back == 1

    def test_equally_far_rows_go_by_id(self):
        p = torch.tensor([0.5, 0.5, 0.5, 0.5, 0.25, 0.75], dtype=torch.float64)
        probabilities, labels = torch.stack([1 - p, p], 1), torch.zeros(6, dtype=torch.int64)
        for ids, first in (([1, 2, 3, 4, 50, 60], 50), ([1, 2, 3, 4, 60, 50], 50)):
            found = choose(replace(BOLD, fraction=0.5), probabilities, labels, torch.tensor(ids))
            assert found.ids.tolist() == [first, 60]

    @pytest.mark.parametrize("ground_set", ["all", "active"])
    def test_the_order_of_rows_does_not_matter(self, ground_set):
        probabilities, labels, ids = softmaxes(120, 4)
        active = ids % 3 > 0
        order = torch.randperm(120, generator=torch.Generator().manual_seed(1))
        for epic in (
            replace(BOLD, ground_set=ground_set),
            EPIC(fraction=0.3, min_class_size=10, ground_set=ground_set),
        ):
            one = choose(epic, probabilities, labels, ids, active)
            two = choose(epic, probabilities[order], labels[order], ids[order], active[order])
            assert one.ids.tolist() == two.ids.tolist()
            assert len(one.ids)
            assert torch.equal(one.weights[order], two.weights)

    def test_what_is_clustered_decides(self):
        """Dropped rows go on taking up medoids where all rows are clustered, and not where only active ones are."""
        probabilities, labels, ids = softmaxes(200, 3)
        active = torch.ones(200, dtype=torch.bool)
        active[torch.isin(ids, choose(BOLD, probabilities, labels, ids).ids)] = False
        again = choose(BOLD, probabilities, labels, ids, active)
        assert not len(again.ids)  # the same clusters, whose singletons are gone
        rest = choose(replace(BOLD, ground_set="active"), probabilities, labels, ids, active)
        at = active.nonzero()[:, 0]
        expected = ids[at][isolated(probabilities[at], labels[at], 0.3, ids=ids[at])]
        assert sorted(rest.ids.tolist()) == sorted(expected.tolist())
        assert len(rest.ids)

    @pytest.mark.parametrize("ground_set", ["all", "active"])
    def test_guards_hold_round_after_round(self, ground_set):
        """However many rounds: at most 30 % of a class and none of a small one; what is held back is counted."""
        epic = EPIC(fraction=0.6, ground_set=ground_set)
        active = torch.ones(300, dtype=torch.bool)
        held = 0
        for seed in range(12):
            _, labels, ids = softmaxes(300, 6)
            probabilities = torch.randn(300, 6, generator=torch.Generator().manual_seed(seed)).softmax(1)
            found = choose(epic, probabilities, labels, ids, active)
            assert active[torch.isin(ids, found.ids)].all()  # nobody goes twice
            active = active & ~torch.isin(ids, found.ids)
            held += found.held_back
        counts, left = torch.bincount(labels), torch.bincount(labels[active])
        for count, rest in zip(counts.tolist(), left.tolist(), strict=True):
            assert count - rest == max(0, min(int(0.3 * count), count - 20))
        assert held
        assert int((counts <= 20).sum()) == 0
        small = choose(replace(epic, min_class_size=1000), probabilities, labels, ids)
        assert not len(small.ids)
        assert small.held_back

    @pytest.mark.parametrize("min_cluster", [1, 3])
    def test_no_class_is_ever_emptied(self, min_cluster):
        """Every row its own medoid, round after round, without any guard."""
        epic = replace(BOLD, fraction=0.97, ground_set="active", min_cluster=min_cluster)
        labels = torch.tensor([0] * 30 + [1] * 7 + [2] * 2 + [3])
        ids, active = torch.arange(40) * 3 + 100, torch.ones(40, dtype=torch.bool)
        for seed in range(20):
            probabilities = torch.randn(40, 5, generator=torch.Generator().manual_seed(seed)).softmax(1)
            active = active & ~torch.isin(ids, choose(epic, probabilities, labels, ids, active).ids)
        left = torch.bincount(labels[active], minlength=4)
        assert (left >= 1).all()
        assert left.sum() < 20

    def test_weights_are_cluster_sizes_with_a_mean_of_one(self):
        """By hand: a cluster of three, one of two, and one on its own, which goes."""
        p = torch.tensor([0.1, 0.1, 0.1, 0.5, 0.5, 0.9], dtype=torch.float64)
        probabilities, labels = torch.stack([1 - p, p], 1), torch.zeros(6, dtype=torch.int64)
        found = choose(replace(BOLD, fraction=0.5), probabilities, labels, torch.arange(6))
        assert found.ids.tolist() == [5]
        mean = (3 * 3 + 2 * 2) / 5
        assert found.weights.tolist() == pytest.approx([3 / mean] * 3 + [2 / mean] * 2 + [1.0])


class Scripted(Classifier):
    """A network that says of each input what is written in it: its features are the input, its head adds a bias."""

    def __init__(self, bias, head=lambda features: features):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(bias))
        self.norm = nn.BatchNorm1d(len(bias), affine=False)
        self.curve = head

    def features(self, inputs):
        assert not self.training  # the pass is made in evaluation mode
        return inputs

    def head(self, features):
        return self.curve(features) + self.shift

    def head_parameters(self):
        return [self.shift]


def written(logits, labels, ids):
    space = Space(shape=(logits.shape[1],), num_classes=logits.shape[1], bounds=(-99.0, 99.0))
    return Dataset(inputs=logits, labels=labels, ids=ids, space=space)


def after(epoch, model, epochs=6):
    return Progress(epoch=epoch, epochs=epochs, model=model, loss=0.0, accuracy=0.0)


def scripted(count=150, classes=3, seed=0):
    probabilities, labels, ids = softmaxes(count, classes, seed=seed)
    return written(probabilities.log(), labels, ids)


class TestHook:
    @pytest.mark.parametrize("use_bias", [True, False])
    def test_drops_what_stands_alone_with_or_without_the_bias(self, use_bias):
        data, model = scripted(), Scripted([0.0, 3.0, -2.0])
        hook = replace(BOLD, use_bias=use_bias).hook(LEARNER, Seed(0))
        active = torch.ones(len(data), dtype=torch.bool)
        removal = hook.drop(data, active, after(1, model))
        seen = data.inputs + (model.shift.detach() if use_bias else 0.0)
        expected = choose(BOLD, seen.softmax(1), data.labels, data.ids)
        assert removal.ids.tolist() == expected.ids.tolist()
        assert (removal.by, removal.epoch) == ("epic", 1)
        assert removal.seconds > 0
        other = replace(BOLD, use_bias=not use_bias).hook(LEARNER, Seed(0)).drop(data, active, after(1, model))
        assert set(removal.ids.tolist()) != set(other.ids.tolist())

    def test_the_order_of_rows_and_the_size_of_batches_do_not_matter(self):
        data, model = scripted(), Scripted([0.0, 0.0, 0.0])
        order = torch.randperm(150, generator=torch.Generator().manual_seed(1))
        active = data.ids % 4 > 0
        one = BOLD.hook(LEARNER, Seed(0)).drop(data, active, after(1, model))
        two = replace(BOLD, batch_size=7).hook(LEARNER, Seed(3)).drop(data.at(order), active[order], after(1, model))
        assert one.ids.tolist() == two.ids.tolist()
        assert active[data.positions(one.ids)].all()

    def test_a_planted_row_is_dropped_first(self):
        """A network sure of all rows but one, which it is sure is of another class."""
        labels = torch.arange(60) % 3
        logits = 4.0 * functional.one_hot(labels, 3) + 0.1 * torch.randn(60, 3, generator=Seed(1).generator())
        logits[17] = 4.0 * functional.one_hot(torch.tensor((17 + 1) % 3), 3)
        data = written(logits.float(), labels, torch.arange(60) * 11 + 5)
        removal = EPIC(warmup=1, interval=1, min_class_size=5).hook(LEARNER, Seed(0)).drop(
            data, torch.ones(60, dtype=torch.bool), after(1, Scripted([0.0, 0.0, 0.0]))
        )  # fmt: skip
        assert removal.ids[0] == 17 * 11 + 5

    def test_acts_only_when_a_round_is_due(self):
        data, model = scripted(), Scripted([0.0, 0.0, 0.0])
        active = torch.ones(len(data), dtype=torch.bool)
        hook = replace(BOLD, interval=2, warmup=3).hook(LEARNER, Seed(0))
        acted = [k for k in range(1, 12) if hook.drop(data, active, after(k, model, epochs=12))]
        assert acted == [4, 6, 8, 10]
        assert hook.drop(data, active, None) is None

    def test_leaves_the_network_and_all_randomness_alone(self):
        data, model = scripted(), Scripted([0.0, 0.0, 0.0])
        model.train()
        model.norm.eval()  # frozen by its owner
        before = {name: value.clone() for name, value in model.state_dict().items()}
        with undisturbed("EPIC"):
            BOLD.hook(LEARNER, Seed(0)).drop(data, torch.ones(150, dtype=torch.bool), after(1, model))
        assert model.training
        assert not model.norm.training
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_rows_are_seen_unaugmented(self):
        """One class to a place: by the colour that augmentation would move."""

        class Seen(Scripted):
            rows = ()

            def features(self, inputs):
                self.rows = (*self.rows, inputs.clone())
                return inputs

        data, model = scripted(), Seen([0.0, 0.0, 0.0])
        replace(BOLD, batch_size=40).hook(LEARNER, Seed(0)).drop(data, data.ids > -1, after(1, model))
        assert [len(each) for each in model.rows] == [40, 40, 40, 30]
        assert torch.equal(torch.cat(model.rows), data.inputs[data.ids.argsort()])

    def test_a_bias_is_taken_off_an_affine_head_only(self):
        draws = torch.Generator().manual_seed(0)
        inputs = torch.randn(9, 3, generator=draws)
        affine = Scripted([1.0, 2.0, 3.0], head=lambda features: 2 * features)
        with evaluating(affine):
            assert torch.allclose(confidences(affine, inputs, use_bias=False), (2 * inputs).softmax(1), atol=1e-6)
            assert torch.allclose(confidences(affine, inputs), (2 * inputs + affine.shift).softmax(1), atol=1e-6)
            assert torch.allclose(confidences(affine, inputs[:1], use_bias=False), (2 * inputs[:1]).softmax(1))
        for head in (torch.relu, torch.tanh, lambda features: features.square()):
            curved = Scripted([1.0, 2.0, 3.0], head=head)
            with evaluating(curved), pytest.raises(ModelError, match=r"use_bias=False needs an affine head.*Scripted"):
                confidences(curved, inputs.abs(), use_bias=False)

    def test_a_wrapped_layer_is_a_head(self):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4))
        inputs = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
        found = confidences(wrap(net, "2"), inputs, use_bias=False)
        assert torch.allclose(found, (net(inputs) - net[2].bias).softmax(1), atol=1e-6)

    def test_a_network_that_diverged_is_said(self):
        data = scripted()
        hook = BOLD.hook(LEARNER, Seed(0))
        with pytest.raises(ModelError, match="diverged"):
            hook.drop(data, data.ids > -1, after(1, Scripted([0.0, torch.nan, 0.0])))


class Diary(Hook):
    """Writes down which rows are trained on, and their labels, epoch by epoch."""

    def __init__(self):
        self.ids, self.labels = [], []

    def drop(self, data, active, progress):
        self.ids.append(set())

    def transform(self, model, batch, generator):
        self.ids[-1] |= set(batch.ids.tolist())
        self.labels.append((batch.ids, batch.labels))
        return batch


def noisy(rows=90, *, seed=1):
    """Stripes with every tenth label wrong and ids far apart."""
    data = stripes(rows, seed=seed)
    labels = torch.where(torch.arange(rows) % 10 == 3, (data.labels + 1) % 3, data.labels)
    return replace(data, labels=labels, ids=data.ids * 7 + 1000)


class TestTraining:
    def test_dropped_rows_never_come_back(self):
        data, diary = noisy(), Diary()
        found = BOLD.protect(LEARNER).fit(data, seed=Seed(1), hooks=(diary,))
        gone = set()
        assert len(found.removals) >= 3
        for epoch in range(6):
            gone |= {i for each in found.removals if each.epoch == epoch for i in each.ids.tolist()}
            assert diary.ids[epoch] == set(data.ids.tolist()) - gone

    @pytest.mark.parametrize("stop", [1, 3])
    @pytest.mark.parametrize(
        "epic",
        [
            BOLD,
            replace(BOLD, weighted=True, ground_set="active"),
            EPIC(fraction=0.3, warmup=2, interval=2, min_class_size=20),
        ],
        ids=["bold", "weighted", "guarded"],
    )
    def test_a_resumed_training_equals_one_that_never_stopped(self, stop, epic, tmp_path):
        """Bit for bit; the release starts its count of visits again, and drops everything."""
        data, learner = noisy(), epic.protect(LEARNER)
        whole = learner.fit(data, seed=Seed(1))
        for progress in learner.train(data, seed=Seed(1)):
            if progress.epoch == stop:
                checkpoint.write(progress.state(), tmp_path / "state")
                break
        rest = learner.fit(data, seed=Seed(1), resume=checkpoint.read(tmp_path / "state"))
        assert [(e.epoch, e.ids.tolist()) for e in rest.removals] == [(e.epoch, e.ids.tolist()) for e in whole.removals]
        assert whole.removals
        assert rest.facts == whole.facts
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, rest.model.state_dict()[name])

    def test_unweighted_training_is_training_on_the_rest(self):
        """Before the first round it is the undefended training; after it, that of a hook which drops the same rows."""

        class Same(Hook):
            def drop(self, data, active, progress):
                return next((each for each in found.removals if progress and each.epoch == progress.epoch), None)

        data = noisy()
        found = BOLD.protect(LEARNER).fit(data, seed=Seed(1))
        again = LEARNER.fit(data, seed=Seed(1), hooks=(Same(),))
        for name, value in found.model.state_dict().items():
            assert torch.equal(value, again.model.state_dict()[name])

    def test_weights_multiply_the_loss_of_each_row(self):
        """Against the gradient of the weighted loss written out, for a linear network and one step."""
        data, diary = noisy(), Diary()
        learner = SGD(model=Linear(), epochs=2, batch_size=200, lr=0.1, momentum=0.0, weight_decay=0.0,
                      schedule="constant", augmentation=None)  # fmt: skip
        epic = replace(BOLD, weighted=True, stop=2)
        models = [
            {name: value.clone() for name, value in each.model.state_dict().items()}
            for each in epic.protect(learner).train(data, seed=Seed(1), hooks=(diary,))
        ]
        ids, labels = diary.labels[-1]
        (_, first_labels), *_ = diary.labels
        assert first_labels.ndim == 1  # unweighted before the first round
        weights = labels.sum(1)
        assert weights.mean() == pytest.approx(1, abs=1e-5)
        assert len(weights.unique()) > 2
        model = learner.build(data.space, Seed(0))
        model.load_state_dict(models[0])
        rows = data.rows(ids)
        loss = functional.cross_entropy(model(rows.all_inputs()), rows.labels, reduction="none") * weights
        loss.mean().backward()
        for name, parameter in model.named_parameters():
            assert torch.allclose(models[1][name], parameter.detach() - 0.1 * parameter.grad, atol=1e-6)

    def test_clean_data_are_still_learnt(self):
        found = EPIC(min_class_size=10).protect(replace(LEARNER, epochs=12)).fit(toy(120, seed=1), seed=Seed(0))
        assert found.removals
        assert accuracy(found.model, toy(60, seed=2)) > 0.8

    @pytest.mark.parametrize("name", EPIC.presets)
    def test_every_preset_trains_with_a_rare_class(self, name):
        """Of 60, 30, and one row."""
        data = stripes(180, seed=1).at(torch.tensor([*range(0, 180, 3), *range(1, 91, 3), 2]))
        epic = EPIC.preset(name, warmup=1, interval=1, stop=5, fraction=0.4)
        found = epic.protect(LEARNER).fit(data, seed=Seed(1))
        left = data.without(torch.cat([data.ids[:0], *(each.ids for each in found.removals)]))
        assert torch.bincount(left.labels, minlength=3).min() >= 1
        assert found.removals


class TestSettings:
    def test_presets_are_what_their_sources_say(self):
        assert EPIC.preset("guarded") == EPIC()
        paper, r40, r200 = (EPIC.preset(name) for name in ("paper", "release-40", "release-200"))
        for each in (paper, r40, r200):
            assert (each.fraction, each.min_cluster, each.kernel, each.weighted) == (0.1, 1, "exp", False)
            assert (each.max_total_drop, each.min_class_size, each.stop) == (None, 1, "last-drop")
        assert (paper.ground_set, paper.use_bias, paper.warmup) == ("active", True, 10)
        assert {(each.ground_set, each.use_bias) for each in (r40, r200)} == {("all", False)}
        assert EPIC.preset("paper", fraction=0.2, warmup=20).warmup == 20
        with pytest.raises(ConfigError, match="did you mean 'release-40'"):
            EPIC.preset("release40")

    @pytest.mark.parametrize("name", EPIC.presets)
    def test_presets_are_reached_from_yaml(self, name):
        text = f"{{name: epic, preset: {name}, fraction: 20%}}"
        found = config.parse(Defense, config.read_yaml(text, where="here"))
        assert found == EPIC.preset(name, fraction=0.2)
        again = config.read_yaml(config.write_yaml(found), where="again")
        assert config.parse(Defense, again) == found

    def test_yaml_takes_an_epoch_to_stop_at(self):
        assert config.parse(Defense, {"name": "epic", "stop": 10, "max_total_drop": None}) == EPIC(
            stop=10, max_total_drop=None
        )
        with pytest.raises(ProblemsError, match="stop"):
            config.parse(Defense, {"name": "epic", "stop": "never"})

    @pytest.mark.parametrize(
        ("wrong", "sentence"),
        [
            ({"fraction": 0.0}, r"fraction must lie in \(0, 1\), but it is 0"),
            ({"fraction": 1.0}, "fraction must lie"),
            ({"fraction": float("nan")}, "fraction must lie"),
            ({"interval": 0}, "interval must be at least 1"),
            ({"warmup": 0}, "warmup must be at least 1"),
            ({"stop": 0}, "stop must be at least 1"),
            ({"stop": "late"}, "stop must be 'last-drop' or a number of epochs, but it is 'late'"),
            ({"min_cluster": 0}, "min_cluster must be at least 1"),
            ({"min_class_size": 0}, "min_class_size must be at least 1"),
            ({"batch_size": 0}, "batch_size must be at least 1"),
            ({"max_total_drop": 1.1}, r"max_total_drop must lie in \[0, 1\]"),
            ({"ground_set": "some"}, "ground_set must be 'all' or 'active'"),
            ({"kernel": "lineal"}, "did you mean 'linear'"),
        ],
        ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
    )
    def test_settings_that_mean_nothing_are_refused(self, wrong, sentence):
        with pytest.raises(ConfigError, match=sentence):
            EPIC(**wrong)
