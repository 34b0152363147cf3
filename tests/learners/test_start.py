"""What a training starts from: what stays, what moves and by how much, and weights that do not fit."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from mithridate import checkpoint
from mithridate.defense import protect
from mithridate.defenses.dp_sgd import DPSGD
from mithridate.defenses.epic import EPIC
from mithridate.defenses.mixup import Mixup
from mithridate.defenses.partition_aggregation import PartitionAggregation
from mithridate.errors import ConfigError, ModelError
from mithridate.learner import Hook, Removal, predictions
from mithridate.learners.augment import Augmentation
from mithridate.learners.cached import Cached
from mithridate.learners.sgd import SGD
from mithridate.learners.start import FineTune, Scratch, Transfer
from mithridate.learners.weights import File, Own, Trained
from mithridate.model import Architecture, Stack
from mithridate.models.linear import Linear
from mithridate.models.mlp import MLP
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.models.wrapped import Wrapped
from mithridate.ops import medoids
from mithridate.seeding import Seed
from mithridate.source import Source, Split
from mithridate.testing import toy, undisturbed

NET = SmallConvNet(widths=(4, 6), pools=(1,))
PLAIN = SGD(
    model=NET, epochs=3, batch_size=16, lr=0.05, weight_decay=0.01, schedule="constant", augmentation=None
)  # fmt: skip
SHUFFLED = toy(72, seed=1).at(torch.randperm(72, generator=Seed(3).generator()))
DATA = replace(SHUFFLED, ids=SHUFFLED.ids * 7 + 5, space=replace(SHUFFLED.space, mean=(0.5,), std=(0.3,)))
"""Rows in no order, with ids that are no positions, and other statistics than the pretraining data's."""
SEED = Seed(1)


@pytest.fixture(scope="module")
def pretrained():
    """A network trained on other rows."""
    return replace(PLAIN, batch_size=32).fit(toy(96, seed=5), seed=Seed(9)).model


@pytest.fixture(scope="module")
def weights(pretrained, tmp_path_factory):
    return written(pretrained, tmp_path_factory.mktemp("weights"))


def written(model, folder):
    """The state of a network in a file."""
    path = folder / "network.safetensors"
    safetensors.torch.save_file({name: each.clone() for name, each in model.state_dict().items()}, path)
    return File(path=path)


def state(model):
    """Copies of all parameters and buffers by name."""
    return {name: each.clone() for name, each in model.state_dict().items()}


def fresh():
    """A module of the user's, with features that differ each time."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Linear(5, 3))


def always_the_same():
    """One that brings its features."""
    with Seed(4).scope():
        return fresh()


def with_a_new_neck():
    """Pretrained features, and a layer more that is not."""
    first, second, last = always_the_same()
    return nn.Sequential(first, nn.Sequential(second, nn.Linear(5, 5)), last)


class Masked(nn.Sequential):
    """A module that holds a mask, as attention does."""

    def __init__(self):
        super().__init__(*fresh())
        self.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))


MASKED = Wrapped(factory=Masked, head="2")


def is_head(name):
    return name.startswith("last.")


def moved(before, model):
    """Names of the parameters and buffers that are not what they were, bit for bit."""
    return {name for name, each in model.state_dict().items() if not torch.equal(each, before[name])}


def begun(start, model=NET, space=DATA.space):
    """A network as its training begins."""
    network = SGD(model=model).build(space, Seed(4))
    start.begin(network)
    return network.eval()


class Idle(Hook):
    """Changes nothing, but might: so nothing is computed ahead."""

    def __init__(self):
        self.seen = []

    def transform(self, model, batch, generator):
        self.seen.append(batch)
        return batch


class Dropping(Hook):
    """Removes five rows after the first epoch."""

    def drop(self, data, active, progress):
        return Removal(by="test", epoch=1, ids=data.ids[10:15]) if progress and progress.epoch == 1 else None


AUGMENTED = replace(PLAIN, augmentation=Augmentation(shift=1.0))


class TestBegin:
    @pytest.mark.parametrize("kind", [Transfer, FineTune])
    def test_a_kept_head_gives_the_logits_of_the_source(self, kind, pretrained, weights):
        inputs = DATA.all_inputs()
        assert torch.equal(
            predictions(begun(kind(weights=weights, head="kept")), inputs), predictions(pretrained, inputs)
        )

    @pytest.mark.parametrize("kind", [Transfer, FineTune])
    def test_a_new_head_is_that_of_a_fresh_network_on_the_features_of_the_source(self, kind, pretrained, weights):
        found, fresh = begun(kind(weights=weights)), begun(Scratch())
        for name, each in found.state_dict().items():
            assert torch.equal(each, (fresh if is_head(name) else pretrained).state_dict()[name]), name
        assert not torch.equal(found.last.weight, pretrained.last.weight)

    def test_a_new_head_may_have_other_classes(self, weights):
        space = replace(DATA.space, num_classes=5)
        assert begun(Transfer(weights=weights), space=space).last.weight.shape == (5, 6)

    def test_a_kept_head_of_other_classes_is_refused_in_a_sentence(self, weights):
        space = replace(DATA.space, num_classes=5)
        sentence = (
            r"^'last.weight' has shape \(5, 6\) in this network, but \(3, 6\) in the weights "
            r"\(keep head: new where the classes differ\)$"
        )
        with pytest.raises(ModelError, match=sentence):
            begun(Transfer(weights=weights, head="kept"), space=space)

    @pytest.mark.parametrize(
        ("model", "sentence"),
        [
            (
                SmallConvNet(widths=(4, 7), pools=(1,)),
                r"^'body.4.weight' has shape \(7, 4, 3, 3\) in this network, but",
            ),
            (
                SmallConvNet(widths=(4, 6, 6), pools=(1,)),
                "^the weights hold no 'body.7.weight', which this network has; they are those of another network",
            ),
            (MLP(hidden=(6,)), r"^'body.1.weight' has shape \(6, 64\) in this network, but \(4,\) in the weights$"),
        ],
        ids=["wider", "deeper", "of another kind"],
    )
    def test_weights_of_another_network_are_refused_by_the_name_of_a_parameter(self, model, sentence, weights):
        with pytest.raises(ModelError, match=sentence):
            begun(Transfer(weights=weights), model)

    def test_weights_of_a_deeper_network_are_not_cut_off(self, tmp_path):
        """Every parameter that is asked for is there, and of the right shape; but the features are others."""
        source = written(begun(Scratch(), SmallConvNet(widths=(4, 6, 6), pools=(1,))), tmp_path)
        with pytest.raises(ModelError, match=r"^the weights hold 'body.7.weight', which this network lacks; they are"):
            begun(Transfer(weights=source))

    def test_a_module_s_own_names_will_do_where_it_is_wrapped(self, tmp_path):
        path, module = tmp_path / "own.safetensors", fresh()
        safetensors.torch.save_file(module.state_dict(), path)
        for normalise in (False, True):
            found = begun(Transfer(weights=File(path=path)), Wrapped(factory=fresh, head="2", normalise=normalise))
            assert torch.equal(found.state_dict()["module.1.weight"], module[1].weight)

    def test_networks_that_we_kept_will_do(self, tmp_path, pretrained):
        learner = Cached(learner=PLAIN, folder=tmp_path)
        kept = learner.fit(toy(96, seed=5), seed=Seed(9)).model
        (path,) = tmp_path.iterdir()
        found = begun(Transfer(weights=File(path=path), head="kept"))
        assert not moved(state(kept), found)

    def test_weights_of_a_failed_training_are_refused(self, pretrained, tmp_path):
        broken = state(pretrained)
        broken["body.4.weight"][0] = float("nan")
        safetensors.torch.save_file(broken, tmp_path / "broken.safetensors")
        with pytest.raises(ModelError, match=r"^the weights hold NaN or infinite values in 'body.4.weight'"):
            begun(Transfer(weights=File(path=tmp_path / "broken.safetensors")))


class TestTransfer:
    @pytest.mark.parametrize("learner", [PLAIN, AUGMENTED], ids=["features computed once", "augmented"])
    def test_moves_the_head_and_not_a_bit_of_the_features(self, learner, pretrained, weights):
        found = replace(learner, start=Transfer(weights=weights)).fit(DATA, seed=SEED).model
        assert moved(state(pretrained), found) == {
            "last.weight",
            "last.bias",
        }  # normalisation and statistics are others' too
        begun_head = replace(learner, start=Transfer(weights=weights)).build(DATA.space, SEED.child("weights")).last
        assert not torch.equal(found.last.weight, begun_head.weight)

    def test_learns(self, weights):
        learner = replace(PLAIN, start=Transfer(weights=weights), epochs=15, lr=0.5)
        losses = [each.loss for each in learner.train(DATA, seed=SEED)]
        assert losses[-1] < 0.8 * losses[0]

    @pytest.mark.parametrize("hooks", [(), (Dropping(),)], ids=["all rows", "rows dropped on the way"])
    @pytest.mark.parametrize("optimiser", ["sgd", "adam"])
    def test_on_features_computed_once_is_transfer_through_the_network(self, hooks, optimiser, weights):
        learner = replace(PLAIN, start=Transfer(weights=weights), optimiser=optimiser)
        ahead, slow = learner.fit(DATA, seed=SEED, hooks=hooks), learner.fit(DATA, seed=SEED, hooks=(*hooks, Idle()))
        assert ahead.loss == pytest.approx(slow.loss, abs=1e-5)
        assert ahead.accuracy == slow.accuracy
        for name, each in ahead.model.state_dict().items():
            assert torch.allclose(each, slow.model.state_dict()[name], rtol=0, atol=1e-5), name

    def test_computes_features_once(self, weights, monkeypatch):
        rows, features = [], Stack.features
        monkeypatch.setattr(
            Stack, "features", lambda self, inputs: (rows.append(len(inputs)), features(self, inputs))[1]
        )
        learner = replace(PLAIN, start=Transfer(weights=weights))
        learner.fit(DATA, seed=SEED)
        assert rows == [72]
        rows.clear()
        learner.fit(DATA, seed=SEED, hooks=(Idle(),))
        assert rows == [16, 16, 16, 16, 8] * 3

    def test_of_augmented_rows_is_regression_on_their_features(self, pretrained, weights):
        """Against the formula of the softmax's gradient, on what the network saw."""
        learner, diary = replace(AUGMENTED, start=Transfer(weights=weights), momentum=0.0), Idle()
        found = learner.fit(DATA, seed=SEED, hooks=(diary,)).model.last
        fresh = learner.build(DATA.space, SEED.child("weights")).last
        weight, bias = fresh.weight.detach().clone(), fresh.bias.detach().clone()
        plain = DATA.rows(diary.seen[0].ids).all_inputs()
        assert not torch.equal(diary.seen[0].inputs, plain), "nothing was augmented"
        for batch in diary.seen:
            with torch.no_grad():
                features = pretrained.eval().features(batch.inputs)
            errors = (features @ weight.T + bias).softmax(1) - functional.one_hot(batch.labels, 3)
            weight -= 0.05 * (errors.T @ features / len(errors) + 0.01 * weight)
            bias -= 0.05 * (errors.mean(0) + 0.01 * bias)
        assert torch.allclose(found.weight, weight, atol=1e-5)
        assert torch.allclose(found.bias, bias, atol=1e-5)

    def test_of_a_network_without_features_to_train_is_training_it(self, tmp_path):
        source = written(begun(Scratch(), Linear()), tmp_path)
        for kind in (Transfer, FineTune):
            learner = replace(PLAIN, model=Linear(), start=kind(weights=source))
            found = learner.fit(DATA, seed=SEED).model
            assert moved(state(begun(kind(weights=source), Linear())), found) == {"last.weight", "last.bias"}


class TestFineTune:
    @pytest.mark.parametrize("statistics", ["frozen", "updated"])
    def test_moves_all_parameters_and_statistics_only_where_told(self, statistics, pretrained, weights):
        learner = replace(PLAIN, start=FineTune(weights=weights, statistics=statistics, head="kept"))
        found = learner.fit(DATA, seed=SEED).model
        running = {name for name in state(pretrained) if "running" in name or "num_batches" in name}
        parameters = {name for name, _ in pretrained.named_parameters()}
        assert len(running) == 6
        assert moved(state(pretrained), found) == parameters | (running if statistics == "updated" else set())

    @pytest.mark.parametrize("statistics", ["frozen", "updated"])
    @pytest.mark.parametrize("rate", [1.0, 0.25])
    def test_takes_the_first_step_that_is_worked_out_by_hand(self, rate, statistics, weights):
        start = FineTune(weights=weights, rate=rate, statistics=statistics, head="kept")
        learner = replace(PLAIN, start=start, momentum=0.0, weight_decay=0.0, epochs=1, batch_size=len(DATA))
        found = dict(learner.fit(DATA, seed=SEED).model.named_parameters())
        model = begun(start).train(statistics == "updated")
        functional.cross_entropy(model(DATA.all_inputs()), DATA.labels).backward()
        for name, each in model.named_parameters():
            step = (1.0 if is_head(name) else rate) * 0.05 * each.grad
            assert float(step.abs().max()) > 1e-5
            assert torch.allclose(found[name].detach(), each.detach() - step, rtol=0, atol=1e-6), name

    def test_rate_follows_the_schedule_with_the_head(self, weights):
        """Where both rates have fallen to a tenth, ten times the rates give the same steps."""
        start = FineTune(weights=weights, rate=0.25, head="kept")
        after = [
            replace(PLAIN, start=start, momentum=0.0, lr=lr, epochs=2, schedule="steps", drops=drops)
            for lr, drops in ((0.05, (5,)), (0.5, (0, 5)))
        ]
        one, other = (each.fit(DATA, seed=SEED).model for each in after)
        for name, each in one.state_dict().items():
            assert torch.allclose(each, other.state_dict()[name], rtol=0, atol=1e-6), name

    @pytest.mark.parametrize("rate", [0.0, -1.0, float("nan")])
    def test_refuses_a_rate_that_trains_nothing(self, rate):
        with pytest.raises(
            ConfigError, match=r"rate must be positive, but it is .*; to train the head alone use transfer"
        ):
            FineTune(weights=Own(), rate=rate)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize(
    ("kind", "settings", "augmentation"),
    [
        (Transfer, {}, None),
        (Transfer, {}, Augmentation(shift=1.0)),
        (FineTune, {"rate": 0.1}, None),
        (FineTune, {"statistics": "updated", "head": "kept"}, Augmentation(shift=1.0)),
    ],
    ids=["transfer", "transfer, augmented", "fine-tune", "fine-tune, statistics updated"],
)
@pytest.mark.parametrize("done", [1, 2])
def test_resuming_equals_not_stopping(kind, settings, augmentation, optimiser, done, weights, tmp_path):
    start = kind(weights=weights, **settings)
    learner = replace(PLAIN, start=start, optimiser=optimiser, augmentation=augmentation, lr=0.01)
    whole = list(learner.train(DATA, seed=SEED, hooks=(Dropping(),)))[-1]
    for progress in learner.train(DATA, seed=SEED, hooks=(Dropping(),)):
        if progress.epoch == done:
            checkpoint.write(progress.state(), tmp_path / "state")
            break
    again = learner.fit(DATA, seed=SEED, hooks=(Dropping(),), resume=checkpoint.read(tmp_path / "state"))
    assert (again.loss, again.accuracy) == (whole.loss, whole.accuracy)
    assert not moved(state(whole.model), again.model)


@pytest.mark.parametrize("start", [Scratch, Transfer, FineTune])
def test_gradients_are_asked_for_only_where_something_is_trained(start, weights):
    start = start() if start is Scratch else start(weights=weights)
    training = replace(PLAIN, start=start).train(DATA, seed=SEED)
    model = next(training).model
    asking = {name for name, each in model.named_parameters() if each.requires_grad}
    everything = {name for name, _ in model.named_parameters()}
    assert asking == ({"last.weight", "last.bias"} if start.frozen else everything)
    training.close()
    assert all(each.requires_grad for each in model.parameters()), "left in the middle"
    assert all(each.requires_grad for each in replace(PLAIN, start=start).fit(DATA, seed=SEED).model.parameters())


@pytest.mark.parametrize("learner", [PLAIN, AUGMENTED])
@pytest.mark.parametrize("kind", [Transfer, FineTune])
def test_global_randomness_is_left_alone(learner, kind, weights):
    learner = replace(learner, start=kind(weights=weights))
    with undisturbed("training from weights"):
        learner.problems(DATA.space)
        learner.fit(DATA, seed=SEED)


@dataclass(frozen=True, kw_only=True)
class HalfFrozen(Architecture):
    """A perceptron whose first layer its author wants left alone."""

    name = "half-frozen"

    def build(self, space):
        network = MLP(hidden=(8, 8)).build(space)
        network.body[1].requires_grad_(False)
        return network


@pytest.mark.parametrize("start", [Scratch(), FineTune(weights=Own()), Transfer(weights=Own())], ids=lambda s: s.name)
def test_what_the_author_of_a_network_froze_stays_frozen(start):
    learner = replace(PLAIN, model=HalfFrozen(), start=start)
    before = state(learner.build(DATA.space, SEED.child("weights")))
    found = learner.fit(DATA, seed=SEED).model
    wanted = {"last.weight", "last.bias"} | (set() if start.frozen else {"body.3.weight", "body.3.bias"})
    assert moved(before, found) == wanted
    assert {name for name, each in found.named_parameters() if not each.requires_grad} == {
        "body.1.weight",
        "body.1.bias",
    }


@dataclass(frozen=True, kw_only=True, eq=False)
class Toy(Source):
    """The toy task as a source."""

    name = "toy"
    rows: int = 48

    def load(self):
        return Split(train=toy(self.rows, seed=5), test=toy(24, seed=6))


class TestProblems:
    """All that can be known before anything is trained is known then."""

    def found(self, weights, *, model=NET, space=DATA.space, **settings):
        return SGD(model=model, start=Transfer(weights=weights, **settings)).problems(space)

    @pytest.fixture(params=["file", "to be trained"])
    def source(self, request, weights, monkeypatch):
        def never(*args, **more):
            raise AssertionError("something was trained")

        monkeypatch.setattr(SGD, "train", never)
        return weights if request.param == "file" else Trained(data=Toy(), learner=PLAIN)

    def test_are_none_where_the_weights_fit(self, source):
        assert self.found(source) == []
        assert self.found(source, head="kept") == []
        assert self.found(source, space=replace(DATA.space, num_classes=7)) == []

    def test_weights_of_its_own_are_those_that_every_build_has(self):
        """Random features that nobody trained are refused, from us and from a factory; a new part is not."""
        (sentence,) = self.found(Own())
        assert sentence.startswith(
            "start: weights are the network's own, but each smallconvnet is built with others in"
        )
        (sentence,) = self.found(Own(), model=Wrapped(factory=fresh, head="2"))
        assert "each wrapped is built with others in all layers" in sentence
        for factory in (always_the_same, with_a_new_neck):
            assert self.found(Own(), model=Wrapped(factory=factory, head="2")) == []

    def test_are_none_where_a_buffer_is_infinite(self):
        assert self.found(Trained(data=Toy(), learner=replace(PLAIN, model=MASKED)), model=MASKED) == []

    def test_name_weights_of_another_network(self, source):
        (sentence,) = self.found(source, model=replace(NET, widths=(4, 7)))
        assert sentence.startswith("start: 'body.4.weight' has shape (7, 4, 3, 3) in this network, but (6, 4, 3, 3) in")

    def test_name_a_kept_head_of_other_classes(self, source):
        (sentence,) = self.found(source, head="kept", space=replace(DATA.space, num_classes=7))
        assert sentence.startswith("start: 'last.weight' has shape (7, 6)")

    def test_name_inputs_of_another_shape(self, source):
        (sentence,) = self.found(source, space=replace(DATA.space, shape=(3, 8, 8), mean=(), std=()))
        assert sentence.startswith("start: 'normalise.mean' has shape (3, 1, 1)")

    def test_name_a_pretraining_that_cannot_be(self, tmp_path):
        nested = replace(PLAIN, start=Transfer(weights=File(path=tmp_path / "absent.safetensors")))
        (sentence,) = self.found(Trained(data=Toy(), learner=nested))
        assert sentence.startswith("pretraining: no weights can be read from '")
        small = replace(PLAIN, model=SmallConvNet(widths=(4,) * 4, pools=(1, 2, 3, 4)))
        (sentence,) = self.found(Trained(data=Toy(), learner=small))
        assert sentence.startswith("pretraining: SmallConvNet with 4 pools needs images of at least 16 x 16")


class TestDefenses:
    def fitted(self, weights, *stack, **changes):
        return protect(replace(PLAIN, start=Transfer(weights=weights), **changes), stack).fit(DATA, seed=SEED)

    def test_epic_drops_rows_in_transfer(self, pretrained, weights, monkeypatch):
        monkeypatch.setattr(medoids, "_compiled_greedy", lambda: None)  # compiling takes longer than all tests here
        epic = EPIC.preset("paper", interval=1, warmup=1, fraction=0.3)
        found, plain = self.fitted(weights, epic, lr=0.3), self.fitted(weights, lr=0.3)
        assert sum(len(each.ids) for each in found.removals) > 0
        assert moved(state(pretrained), found.model) == {"last.weight", "last.bias"}
        assert moved(state(plain.model), found.model) == {"last.weight", "last.bias"}

    def test_mixup_mixes_inputs_in_transfer(self, pretrained, weights):
        found, plain = self.fitted(weights, Mixup()), self.fitted(weights)
        assert moved(state(pretrained), found.model) == {"last.weight", "last.bias"}
        assert moved(state(plain.model), found.model) == {"last.weight", "last.bias"}

    def test_every_partition_transfers(self, pretrained, weights):
        found = self.fitted(weights, PartitionAggregation(partitions=3)).model
        assert len(found.members) == 3
        for member in found.members:
            assert moved(state(pretrained), member) == {"last.weight", "last.bias"}

    def test_dp_sgd_clips_what_is_trained_and_nothing_else(self, tmp_path):
        """One step of all rows without noise, by hand: were the features in the length, it would be shorter."""
        pytest.importorskip("opacus.accountants", reason="the extra 'dp' (Opacus) is not installed")
        start = Transfer(weights=written(begun(Scratch(), MLP(hidden=(8,))), tmp_path), head="kept")
        learner = replace(
            PLAIN, model=MLP(hidden=(8,)), start=start, epochs=1, batch_size=len(DATA), momentum=0.0, weight_decay=0.0
        )
        private = protect(learner, [DPSGD(noise_multiplier=0.0, max_grad_norm=0.1)])
        found = private.fit(DATA, seed=SEED).model
        model = begun(start, MLP(hidden=(8,)))
        with torch.no_grad():
            features = model.features(DATA.all_inputs())
            errors = model.head(features).softmax(1) - functional.one_hot(DATA.labels, 3)
        rows = torch.cat([errors[:, :, None] * features[:, None], errors[:, :, None]], dim=2).flatten(1)  # (N, 3 * 9)
        lengths = rows.norm(dim=1, keepdim=True)
        assert float(lengths.min()) > 0.1
        step = (rows * 0.1 / lengths).mean(0).reshape(3, 9) * 0.05
        assert moved(state(model), found) == {"last.weight", "last.bias"}
        assert torch.allclose(found.last.weight, model.last.weight - step[:, :8], rtol=0, atol=1e-7)
        assert torch.allclose(found.last.bias, model.last.bias - step[:, 8], rtol=0, atol=1e-7)

    def test_dp_sgd_refuses_batch_normalisation_in_a_sentence(self, weights):
        pytest.importorskip("opacus.accountants", reason="the extra 'dp' (Opacus) is not installed")
        with pytest.raises(ModelError, match="dp-sgd cannot train a network with batch normalisation"):
            self.fitted(weights, DPSGD())
        with pytest.raises(ModelError, match=r"another network|in this network, but"):
            self.fitted(weights, DPSGD(replace_batch_norm=True))
