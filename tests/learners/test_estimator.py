"""Any estimator as a learner: it says what the estimator says, draws from the seed, and refuses what it cannot do."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.ensemble import BaggingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from mithridate import config
from mithridate.attacks.gradient_matching import GradientMatching
from mithridate.dataset import Dataset, Space
from mithridate.defense import Filter, HookDefense, Verdict, protect
from mithridate.defenses.cutmix import CutMix
from mithridate.defenses.epic import EPIC
from mithridate.defenses.maxup import MaxUp
from mithridate.defenses.mixup import Mixup
from mithridate.defenses.partition_aggregation import PartitionAggregation
from mithridate.errors import ConfigError, DataError, FormatError, ModelError
from mithridate.learner import Hook, Removal, predictions
from mithridate.learners.cached import Cached
from mithridate.learners.estimator import SHORT, Estimator
from mithridate.learners.fitted import FittedEstimator, logits
from mithridate.seeding import Seed
from mithridate.settings import fingerprint, plain
from mithridate.testing import toy, toy_bench
from mithridate.testing.surroundings import undisturbed
from mithridate.trial import Trial, called

DATA = toy(90, seed=1)
FRESH = toy(60, seed=2)
HERE = "tests.learners.test_estimator"
FOREST = Estimator(estimator="random-forest", parameters={"n_estimators": 8})


class Base(ClassifierMixin, BaseEstimator):
    """What the estimators of these tests share: they know their classes once fitted."""

    def fit(self, inputs, labels):
        self.classes_ = np.unique(labels)
        return self


class OnlyPredicts(Base):
    """Calls everything by its first value, rounded up."""

    def predict(self, inputs):
        assert inputs.dtype == np.float64
        return self.classes_[np.minimum(np.ceil(inputs[:, 0] * len(self.classes_)).astype(int), len(self.classes_) - 1)]


class Contrary(Base):
    """Its probabilities are for the first class, but it predicts the last."""

    def predict_proba(self, inputs):
        share = np.linspace(0.9, 0.1, len(self.classes_))
        return np.tile(share / share.sum(), (len(inputs), 1))

    def predict(self, inputs):
        return np.full(len(inputs), self.classes_[-1])


class Careless(Base):
    """Draws from numpy's and Python's global states."""

    def fit(self, inputs, labels):
        super().fit(inputs, labels)
        self.weights_ = np.random.rand(inputs.shape[1], len(self.classes_)) * random.random()  # noqa: NPY002
        return self

    def decision_function(self, inputs):
        return inputs @ self.weights_

    def predict(self, inputs):
        return self.classes_[self.decision_function(inputs).argmax(1)]


class Far(Careless):
    """Its decision function is far below 0 for every class."""

    def decision_function(self, inputs):
        return super().decision_function(inputs) - 1e6


class Fails(Base):
    """Cannot be fitted."""

    def fit(self, inputs, labels):
        raise RuntimeError("the matrix is singular\nsecond line")


class Needs(Base):
    """Has a parameter without a default."""

    def __init__(self, width):
        self.width = width


def own(name, **parameters):
    return Estimator(estimator=f"{HERE}:{name}", parameters=parameters, scale=False)


def two_classes(values, labels):
    space = Space(shape=(1,), num_classes=2, bounds=(-10.0, 10.0))
    return Dataset.of(torch.tensor(values).reshape(-1, 1), torch.tensor(labels), space=space)


def rows(data):
    return data.all_inputs().flatten(1).double().numpy()


def said(learner, seed=1, data=DATA):
    return predictions(learner.fit(data, seed=Seed(seed)).model, FRESH.all_inputs())


@pytest.mark.parametrize("name", SHORT)
def test_every_short_name_fits_and_calls_what_its_estimator_predicts(name):
    done = Estimator(estimator=name).fit(DATA, seed=Seed(1))
    assert (done.epoch, done.epochs, done.model.training) == (1, 1, False)
    found = predictions(done.model, FRESH.all_inputs())
    assert found.shape == (60, 3)
    assert found.dtype == torch.float32
    assert bool(torch.isfinite(found).all())
    alone = called(found) >= 0
    expected = torch.from_numpy(done.model.estimator.predict(rows(FRESH)))
    assert torch.equal(called(found)[alone], expected[alone])
    assert float((called(found) == FRESH.labels).float().mean()) > 0.6
    seen = predictions(done.model, DATA.all_inputs())
    assert done.accuracy == pytest.approx(float((seen.argmax(1) == DATA.labels).float().mean()))
    assert done.loss == pytest.approx(float(torch.nn.functional.cross_entropy(seen, DATA.labels)))


def test_logits_are_logarithms_of_the_probabilities_that_scikit_learn_gives():
    oracle = make_pipeline(StandardScaler(), LogisticRegression(C=0.3)).fit(rows(DATA), DATA.labels.numpy())
    learner = Estimator(estimator="sklearn.linear_model:LogisticRegression", parameters={"C": 0.3})
    expected = torch.from_numpy(oracle.predict_proba(rows(FRESH)))
    assert torch.allclose(said(learner).double().exp(), expected, atol=1e-6)


def test_the_softmax_of_a_binary_decision_function_is_its_logistic_function():
    data = two_classes([-2.0, -1.0, 1.5, 2.0], [0, 0, 1, 1])
    model = Estimator(estimator="svm-rbf", scale=False).fit(data, seed=Seed(0)).model
    decided = torch.from_numpy(SVC().fit(rows(data), data.labels.numpy()).decision_function(rows(data)))
    assert torch.allclose(model(data.all_inputs()).softmax(1)[:, 1].double(), decided.sigmoid(), atol=1e-6)


def test_without_scores_the_class_predicted_gets_one_and_others_nothing():
    found = said(own("OnlyPredicts"))
    oracle = OnlyPredicts().fit(rows(DATA), DATA.labels.numpy()).predict(rows(FRESH))
    assert torch.equal(found, torch.nn.functional.one_hot(torch.from_numpy(oracle), 3).float())


def test_columns_for_pairs_of_classes_are_not_taken_for_classes():
    learner = Estimator(estimator="svm-rbf", parameters={"decision_function_shape": "ovo"})
    found = said(learner)
    assert set(found.flatten().tolist()) == {0.0, 1.0}
    assert torch.equal(found.argmax(1), said(Estimator(estimator="svm-rbf")).argmax(1))


def test_where_probabilities_and_prediction_disagree_the_prediction_counts():
    assert set(called(said(own("Contrary"))).tolist()) == {2}


def test_where_classes_are_level_the_one_that_scikit_learn_predicts_is_called():
    """Poison of flipped copies makes such rows; counted as no class at all they would count for the attack."""
    data = two_classes([-2.0, -1.0, 1.0, 2.0], [0, 0, 1, 1])
    learner = Estimator(estimator="knn", parameters={"n_neighbors": 2}, scale=False)
    model = learner.fit(data, seed=Seed(0)).model
    assert called(model(torch.tensor([[-1.5], [0.0], [1.5]]))).tolist() == [0, 0, 1]


def test_rounding_to_float32_makes_no_tie():
    class Close(Contrary):
        def predict_proba(self, inputs):
            return np.array([[0.5 - 1e-12, 0.5 + 1e-12], [0.5 + 1e-12, 0.5 - 1e-12], [0.5, 0.5]])

        def predict(self, inputs):
            return np.array([1, 0, 0])

    found = logits(Close(), np.zeros((3, 1)), np.arange(2))
    assert called(torch.from_numpy(found)).tolist() == [1, 0, 0]


@pytest.mark.parametrize("learner", [own("Far"), own("Contrary"), own("OnlyPredicts"), Estimator(estimator="svm-rbf")])
def test_a_class_that_was_not_trained_with_is_never_called(learner):
    data = DATA.at(DATA.labels != 1)
    found = said(learner, data=data)
    assert bool(torch.isfinite(found).all())
    assert bool((found[:, 1] < found[:, [0, 2]].min(1).values - 1e3).all())
    assert set(found.argmax(1).tolist()) <= {0, 2}


def test_an_estimator_that_is_not_fitted_knows_nothing():
    found = FOREST.build(DATA.space, Seed(0))(FRESH.all_inputs())
    assert torch.equal(found, torch.zeros(60, 3))


def test_features_are_the_flat_inputs():
    model = FOREST.fit(DATA, seed=Seed(1)).model
    assert torch.equal(model.features(FRESH.all_inputs()), FRESH.all_inputs().flatten(1))
    assert model.head_parameters() == []


@pytest.mark.parametrize("learner", [FOREST, own("Careless")], ids=["random forest", "draws globally"])
def test_the_seed_decides_what_is_said_and_the_global_states_are_left_alone(learner):
    with undisturbed(str(learner)):
        first = said(learner, seed=1)
    random.random()
    np.random.rand()  # noqa: NPY002
    assert torch.equal(first, said(learner, seed=1))
    assert not torch.equal(first, said(learner, seed=2))


def test_every_open_random_state_is_set_and_those_of_one_estimator_differ():
    nested = {"estimator": "sklearn.ensemble:BaggingClassifier", "parameters": {"n_estimators": 2}}
    nested["parameters"]["estimator"] = {"estimator": "decision-tree"}
    parameters = {"estimators": [["a", nested], ["b", {"estimator": "random-forest"}]], "voting": "soft"}
    model = (
        Estimator(estimator="sklearn.ensemble:VotingClassifier", parameters=parameters).fit(DATA, seed=Seed(1)).model
    )
    states = {k: v for k, v in model.estimator.get_params().items() if k.endswith("random_state")}
    assert len(states) == 3
    assert len({v for v in states.values() if isinstance(v, int)}) == 3


def test_a_random_state_that_is_set_is_kept():
    from mithridate.learners.fitted import seeded

    assert seeded(RandomForestClassifier(random_state=3), Seed(0)).random_state == 3
    bagged = seeded(BaggingClassifier(RandomForestClassifier(random_state=3)), Seed(0))
    assert bagged.estimator.random_state == 3
    assert bagged.random_state is not None


class Dropper(Hook):
    """Drops some rows before the first epoch."""

    def __init__(self, ids):
        self.settings, self.ids = "dropper", ids

    def drop(self, data, active, progress):
        assert progress is None
        return Removal(by="dropper", epoch=0, ids=self.ids)

    def facts(self):
        return {"dropped": float(len(self.ids))}


def test_rows_that_a_hook_drops_before_the_first_epoch_are_not_trained_on():
    gone = DATA.ids[::3]
    done = FOREST.fit(DATA, seed=Seed(1), hooks=[Dropper(gone[:10]), Dropper(gone)])
    assert [each.ids.tolist() for each in done.removals] == [gone[:10].tolist(), gone.tolist()]
    assert done.facts == {"dropped": 30.0}
    assert torch.equal(done.model.ids, DATA.without(gone).ids)
    assert torch.equal(predictions(done.model, FRESH.all_inputs()), said(FOREST, data=DATA.without(gone)))


@pytest.mark.parametrize("defense", [EPIC(), Mixup(), CutMix(), MaxUp()], ids=lambda each: each.name)
def test_defenses_that_act_inside_the_loop_are_refused_before_training(defense):
    protected = protect(own("Fails"), [defense])
    with pytest.raises(ConfigError, match=f"^{defense.name} acts inside the training loop, but Fails is fitted in one"):
        protected.fit(DATA, seed=Seed(1))
    around = Cached(learner=FOREST, folder="never")
    assert len(around.hook_problems([defense.hook(FOREST, Seed(0)), Dropper(DATA.ids[:1])])) == 1


@dataclass(frozen=True, kw_only=True)
class Steps(HookDefense):
    """Fills the gradients itself, as DP-SGD does."""

    name: ClassVar[str] = "steps"

    def hook(self, learner, seed):
        hook = type("Filling", (Hook,), {"backward": lambda self, model, batch, generator: torch.zeros(())})()
        hook.settings = self
        return hook


def test_hooks_that_fill_gradients_or_choose_batches_are_refused():
    with pytest.raises(ConfigError, match="steps acts inside the training loop"):
        protect(FOREST, [Steps()]).fit(DATA, seed=Seed(1))
    choosing = type("Choosing", (Hook,), {"batches": lambda self, count, size, generator: []})()
    assert "Choosing acts" in FOREST.hook_problems([choosing])[0]


@dataclass(frozen=True, kw_only=True)
class Brightest(Filter):
    """Flags the five brightest rows."""

    name: ClassVar[str] = "brightest"

    def judge(self, features, data, *, seed):
        scores = features.sum(1)
        return Verdict(scores=scores, flagged=torch.isin(torch.arange(len(data)), scores.argsort()[-5:]))


def test_a_filter_protects_it():
    done = protect(FOREST, [Brightest()]).fit(DATA, seed=Seed(1))
    gone = DATA.all_inputs().flatten(1).sum(1).argsort()[-5:]
    assert set(done.removals[0].ids.tolist()) == set(gone.tolist())
    assert torch.equal(predictions(done.model, FRESH.all_inputs()), said(FOREST, data=DATA.without(DATA.ids[gone])))


def test_partitions_of_it_vote():
    done = protect(FOREST, [PartitionAggregation(partitions=3)]).fit(DATA, seed=Seed(1))
    assert float((predictions(done.model, FRESH.all_inputs()).argmax(1) == FRESH.labels).float().mean()) > 0.5
    state = done.state()
    with pytest.raises(ModelError, match="cannot be read back from tensors"):
        protect(FOREST, [PartitionAggregation(partitions=3)]).fit(DATA, seed=Seed(1), resume=state)


@pytest.mark.parametrize("stack", [(), (Brightest(),), (PartitionAggregation(partitions=2),)], ids=len)
def test_the_memory_of_trainings_keeps_no_network_that_is_not_in_tensors(tmp_path, stack):
    inside = Cached(learner=FOREST, folder=tmp_path / "inside", save_every=1e-9)
    cached = Cached(learner=protect(inside, stack), folder=tmp_path / "outside", save_every=1e-9)
    assert not cached.remembered
    for _ in range(2):
        expected = protect(FOREST, stack).fit(DATA, seed=Seed(1)).model
        found = cached.fit(DATA, seed=Seed(1))
        assert torch.equal(predictions(found.model, FRESH.all_inputs()), predictions(expected, FRESH.all_inputs()))
        assert found.reused == 0
    assert not list(tmp_path.rglob("*.*"))


def test_a_pinned_seed_decides_also_where_nothing_is_remembered(tmp_path):
    cached = Cached(learner=FOREST, folder=tmp_path, pinned=Seed(7))
    assert torch.equal(said(cached, seed=1), said(FOREST, seed=7))


def test_gradients_are_refused_in_a_sentence_and_the_learner_says_so_before(tmp_path):
    assert not FOREST.differentiable
    assert not Cached(learner=protect(FOREST, [Brightest()]), folder=tmp_path).differentiable
    assert toy_bench().learner.differentiable
    model = FOREST.fit(DATA, seed=Seed(1)).model
    inputs = FRESH.all_inputs().requires_grad_(True)
    with pytest.raises(ConfigError, match="random-forest has no gradients to follow; craft with a surrogate"):
        model(inputs)
    with torch.no_grad():
        assert model(inputs).shape == (60, 3)


def test_one_class_is_refused_in_a_sentence():
    with pytest.raises(DataError, match="random-forest needs rows of at least two classes, but all 30 are called '0'"):
        FOREST.fit(DATA.at(DATA.labels == 0), seed=Seed(1))
    with pytest.raises(DataError, match="at least 2 rows, but there are 1 left"):
        FOREST.fit(DATA, seed=Seed(1), hooks=[Dropper(DATA.ids[1:])])


def test_what_an_estimator_says_when_it_fails_becomes_a_sentence():
    with pytest.raises(
        DataError, match=r"^Fails cannot be trained on these 90 rows: RuntimeError: the matrix is singular$"
    ):
        own("Fails").fit(DATA, seed=Seed(1))
    with pytest.raises(DataError, match="knn cannot be asked: ValueError: Expected n_neighbors <= n_samples_fit"):
        Estimator(estimator="knn").fit(DATA.at(slice(0, 4)), seed=Seed(1))
    with pytest.raises(ConfigError, match=r"svm-rbf cannot be trained .* The 'C' parameter of SVC must be"):
        Estimator(estimator="svm-rbf", parameters={"C": -1}).fit(DATA, seed=Seed(1))


def test_a_fit_that_does_not_converge_is_no_error():
    short = Estimator(estimator="logistic-regression", parameters={"max_iter": 1}, scale=False)
    assert short.fit(DATA, seed=Seed(1)).model.estimator.n_iter_.tolist() == [1]


def test_it_has_no_state_to_resume_from():
    done = FOREST.fit(DATA, seed=Seed(1))
    assert done.state is None
    state = toy_bench().learner.fit(DATA, seed=Seed(1)).state()
    with pytest.raises(FormatError, match="random-forest is fitted in one go and has no state to resume from"):
        FOREST.fit(DATA, seed=Seed(1), resume=state)


NESTED = {"estimator": "decision-tree", "parameters": {"max_dept": 1}}


@pytest.mark.parametrize(
    ("learner", "sentence"),
    [
        (Estimator(estimator="random-forrest"), "no estimator 'random-forrest': did you mean 'random-forest'?"),
        (Estimator(estimator="sklearn.svm:SVC1"), "'sklearn.svm' has no 'SVC1': did you mean 'SVC'?"),
        (Estimator(estimator="sklearn.smv:SVC"), "cannot be imported: ModuleNotFoundError"),
        (Estimator(estimator="sklearn.base:clone"), "must be a class with the methods fit and get_params"),
        (Estimator(estimator="sklearn.svm:SVR"), "'sklearn.svm:SVR' is no classifier; regressors"),
        (Estimator(estimator="sklearn.cluster:KMeans"), "is no classifier"),
        (Estimator(estimator="sklearn.svm:OneClassSVM"), "is no classifier"),
        (Estimator(estimator="svm-rbf", parameters={"gama": 1}), "no parameter 'gama': did you mean 'gamma'?"),
        (Estimator(estimator="svm-rbf", parameters={"C": -1}), "The 'C' parameter of SVC must be"),
        (own("Needs"), "needs the parameter 'width'"),
        (Estimator(estimator="sklearn.ensemble:AdaBoostClassifier", parameters={"estimator": NESTED}), "'max_depth'?"),
        (Estimator(estimator="knn", steps=("sklearn.svm:SVC",)), "transforms nothing"),
        (Estimator(estimator="knn", steps=("sklearn.preprocessing:Scaler",)), "has no 'Scaler'"),
    ],
)
def test_what_cannot_be_is_found_before_training(learner, sentence):
    (found,) = learner.problems(DATA.space)
    assert sentence in found
    with pytest.raises(ConfigError):
        learner.build(DATA.space, Seed(0))


def test_all_problems_are_listed_at_once():
    learner = Estimator(estimator="knn", parameters={"a": 1, "b": 2}, steps=("sklearn.svm:Absent",))
    assert len(learner.problems(DATA.space)) == 3


def test_columns_are_standardised_where_it_helps():
    def kinds(learner):
        prototype = learner.prototype()
        return [type(each).__name__ for _, each in getattr(prototype, "steps", [("", prototype)])]

    assert kinds(Estimator(estimator="knn")) == ["StandardScaler", "KNeighborsClassifier"]
    assert kinds(Estimator(estimator="sklearn.neighbors:KNeighborsClassifier", scale=False)) == ["KNeighborsClassifier"]
    assert kinds(FOREST) == ["RandomForestClassifier"]
    assert kinds(Estimator(estimator="naive-bayes")) == ["GaussianNB"]
    assert kinds(replace(FOREST, scale=True)) == ["StandardScaler", "RandomForestClassifier"]
    own_step = Estimator(estimator="knn", steps=("sklearn.preprocessing:MinMaxScaler",))
    assert kinds(own_step) == ["MinMaxScaler", "KNeighborsClassifier"]


def test_parameters_override_those_of_the_short_name():
    assert Estimator(estimator="logistic-regression").prototype()[-1].max_iter == 1000
    assert Estimator(estimator="logistic-regression", parameters={"max_iter": 7}).prototype()[-1].max_iter == 7


def test_settings_are_plain_values_that_come_back_from_yaml():
    parameters = {"hidden_layer_sizes": (10, 5), "alpha": 0.1, "early_stopping": False}
    learner = Estimator(estimator="sklearn.neural_network:MLPClassifier", parameters=parameters)
    text = config.write_yaml(learner)
    again = config.parse(Estimator, config.read_yaml(text, where="test"))
    assert again == learner
    assert hash(again) == hash(learner)
    assert plain(learner)["parameters"] == {"hidden_layer_sizes": [10, 5], "alpha": 0.1, "early_stopping": False}
    assert again.prototype()[-1].hidden_layer_sizes == [10, 5]
    parameters["alpha"] = 0.9
    assert again == learner
    assert fingerprint(replace(learner, parameters=parameters)) != fingerprint(learner)


def test_numbers_as_keys_survive_yaml():
    learner = Estimator(estimator="svm-rbf", parameters={"class_weight": {0: 5.0, 1: 1.0, 2: 1.0}})
    again = config.parse(Estimator, config.read_yaml(config.write_yaml(learner), where="test"))
    assert again == learner
    assert again.prototype()[-1].class_weight == {0: 5.0, 1: 1.0, 2: 1.0}
    assert not torch.equal(said(again), said(Estimator(estimator="svm-rbf")))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"parameters": {"random_state": 1}}, r"parameters\.random_state must be left out"),
        ({"parameters": {"estimator": SVC()}}, r"parameters\.estimator must be a plain value .* but it is a SVC"),
        ({"parameters": {"a": [1, {"random_state": 1}]}}, r"parameters\.a\[1\]\.random_state must be left out"),
        ({"steps": (" ",)}, "one is empty"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(settings, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Estimator(**{"estimator": "svm-rbf", **settings})


def test_tables_call_it_by_a_short_name():
    assert FOREST.title == "random-forest"
    assert Estimator(estimator="sklearn.svm:SVC").title == "SVC"


def test_it_is_a_victim_of_a_trial():
    bench = toy_bench()
    attack = GradientMatching(steps=2, restarts=1)
    trial = Trial(attack=attack, threat=bench.threat, surrogates=(bench.learner,), victim=FOREST, seed=Seed(0))
    (outcome,) = trial.run(bench.data)
    assert outcome.metrics["clean_accuracy"] > 0.5
    assert outcome.curve.keys() == {"loss", "accuracy"}


def test_a_gpu_free_neighbour_agrees_with_the_plain_estimator():
    oracle = KNeighborsClassifier(n_neighbors=3).fit(rows(DATA), DATA.labels.numpy()).predict(rows(FRESH))
    found = said(Estimator(estimator="knn", parameters={"n_neighbors": 3}, scale=False))
    alone = called(found) >= 0
    assert alone.float().mean() > 0.5
    assert torch.equal(found.argmax(1)[alone], torch.from_numpy(oracle)[alone])


def test_the_wrapped_estimator_names_itself_in_errors():
    model = FittedEstimator(DATA.space, estimator=SVC(), data=DATA, who="my SVC")
    with pytest.raises(DataError, match="my SVC cannot be asked: NotFittedError"):
        model(FRESH.all_inputs())
