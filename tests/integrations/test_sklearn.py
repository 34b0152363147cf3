"""Defenses as scikit-learn estimators: they pass its own checks, and are fitted on what the defense leaves."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_blobs
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from mithridate.defense import Filter, Sanitiser, Verdict
from mithridate.defenses.activation_clustering import ActivationClustering
from mithridate.defenses.mixup import Mixup
from mithridate.defenses.partition_aggregation import PartitionAggregation
from mithridate.defenses.spectral_signatures import SpectralSignatures
from mithridate.errors import ConfigError, DataError, MithridateError
from mithridate.integrations.sklearn import DefendedClassifier, LearnerClassifier
from mithridate.learner import predictions
from mithridate.learners.estimator import Estimator
from mithridate.learners.sgd import SGD
from mithridate.models.mlp import MLP
from mithridate.testing.surroundings import undisturbed

QUICK = SGD(model=MLP(hidden=(8,)), epochs=4, batch_size=32, lr=0.3, schedule="one-cycle", augmentation=None)


@dataclass(frozen=True, kw_only=True)
class Outliers(Sanitiser):
    """Drops the ``count`` rows of largest inputs, or relabels them as their probe calls them."""

    name: ClassVar[str] = "outliers"

    count: int = 3
    relabel: bool = False

    def sift(self, learner, data, *, seed):
        scores = data.all_inputs().abs().amax(1)
        flagged = torch.zeros(len(data), dtype=torch.bool)
        flagged[scores.argsort(descending=True)[: self.count]] = True
        if not self.relabel:
            return Verdict(scores=scores, flagged=flagged)
        probe = learner.fit(data.at(~flagged), seed=seed).model
        labels = torch.where(flagged, predictions(probe, data.all_inputs()).argmax(1), data.labels)
        return Verdict(scores=scores, flagged=torch.zeros_like(flagged), labels=labels)


@dataclass(frozen=True, kw_only=True)
class Nobody(Sanitiser):
    """Drops all rows of the first class."""

    name: ClassVar[str] = "nobody"

    def sift(self, learner, data, *, seed):
        return Verdict(scores=torch.zeros(len(data)), flagged=data.labels == 0)


def checks():
    """A test for each check of each estimator; a list also where old releases give a generator."""
    estimators = [
        DefendedClassifier(LogisticRegression(), ActivationClustering(dims=2)),
        DefendedClassifier(SVC(), Outliers(count=1, relabel=True)),
        LearnerClassifier(Estimator(estimator="svm-rbf")),
        LearnerClassifier(QUICK),
    ]
    if hasattr(BaseEstimator, "__sklearn_tags__"):  # before scikit-learn 1.6 nothing tells that it needs counts
        estimators.append(DefendedClassifier(MultinomialNB(), SpectralSignatures()))
    mark = parametrize_with_checks(estimators).mark
    return pytest.mark.parametrize(mark.args[0], list(mark.args[1]), **mark.kwargs)


@checks()
def test_scikit_learns_own_checks(estimator, check):
    """None is expected to fail."""
    check(estimator)


def blobs(rows=90, classes=3, seed=0):
    """Rows in clouds, the first three of them far outside and wrongly labelled."""
    inputs, labels = make_blobs(rows, n_features=4, centers=classes, cluster_std=1.5, random_state=seed)
    inputs[:3] *= 8
    labels[:3] = (labels[:3] + 1) % classes
    return inputs, np.array(["ham", "spam", "egg"])[labels]


@pytest.mark.parametrize("estimator", [SVC(), RandomForestClassifier(8, random_state=3)])
def test_the_estimator_is_fitted_on_the_rows_that_the_defense_leaves(estimator):
    inputs, labels = blobs()
    found = DefendedClassifier(estimator, Outliers()).fit(inputs, labels)
    assert found.kept_.tolist() == [False] * 3 + [True] * 87
    assert not found.relabelled_.any()
    oracle = clone(estimator).fit(inputs[3:], labels[3:])
    fresh = blobs(seed=1)[0]
    assert found.predict(fresh).tolist() == oracle.predict(fresh).tolist()
    assert found.classes_.tolist() == ["egg", "ham", "spam"]
    assert found.score(inputs, labels) == oracle.score(inputs, labels)


def test_other_methods_are_those_of_the_estimator():
    inputs, labels = blobs()
    found, oracle = DefendedClassifier(LogisticRegression(), Outliers()).fit(inputs, labels), LogisticRegression()
    oracle.fit(inputs[3:], labels[3:])
    for method in ("predict_proba", "predict_log_proba", "decision_function"):
        np.testing.assert_array_equal(getattr(found, method)(inputs), getattr(oracle, method)(inputs))
    assert not hasattr(DefendedClassifier(SVC()), "predict_proba")
    assert hasattr(DefendedClassifier(SVC()), "decision_function")


def test_the_order_of_the_rows_is_that_of_the_mask():
    inputs, labels = blobs()
    order = np.random.default_rng(0).permutation(90)
    straight = DefendedClassifier(LogisticRegression(), Outliers()).fit(inputs, labels)
    shuffled = DefendedClassifier(LogisticRegression(), Outliers()).fit(inputs[order], labels[order])
    assert shuffled.kept_.tolist() == straight.kept_[order].tolist()


def test_corrected_labels_are_trained_on():
    inputs, labels = blobs()
    found = DefendedClassifier(SVC(), Outliers(relabel=True)).fit(inputs, labels)
    assert found.kept_.all()
    corrected = labels.copy()
    corrected[:3] = SVC().fit(inputs[3:], labels[3:]).predict(inputs[:3])
    assert found.relabelled_.tolist() == (corrected != labels).tolist()
    assert found.relabelled_.any()
    fresh = blobs(seed=1)[0] * 4
    assert found.predict(fresh).tolist() == SVC().fit(inputs, corrected).predict(fresh).tolist()


def test_a_class_that_is_all_gone_keeps_its_column():
    inputs, labels = blobs()
    found = DefendedClassifier(LogisticRegression(), Nobody()).fit(inputs, labels)
    assert found.classes_.tolist() == ["egg", "ham", "spam"]
    assert found.estimator_.classes_.tolist() == ["ham", "spam"]
    assert found.predict_proba(inputs).shape == (90, 3)
    assert not found.predict_proba(inputs)[:, 0].any()
    with pytest.raises(ValueError, match=r"needs rows of at least two classes, but all \d+ are called 'spam'"):
        DefendedClassifier(LogisticRegression(), Nobody()).fit(inputs[labels != "ham"], labels[labels != "ham"])


class Witness(ClassifierMixin, BaseEstimator):
    """Notes every row that it is fitted on or asked about."""

    seen: ClassVar[list] = []

    def fit(self, inputs, labels):
        self.classes_ = np.unique(labels)
        self.seen.append(inputs)
        return self

    def predict(self, inputs):
        self.seen.append(inputs)
        return np.full(inputs.shape[0], self.classes_[0])


@dataclass(frozen=True, kw_only=True)
class Asking(Filter):
    """Asks its probe, drops nothing."""

    name: ClassVar[str] = "asking"

    def judge(self, features, data, *, seed):
        return Verdict(scores=features[:, 0], flagged=torch.zeros(len(data), dtype=torch.bool))


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix], ids=["array", "sparse"])
def test_the_estimator_sees_the_very_rows_it_was_given(form):
    """float32 could not hold them: large, with small differences."""
    inputs = 1e9 + np.random.default_rng(0).normal(size=(30, 3))
    Witness.seen.clear()
    DefendedClassifier(Witness(), Asking()).fit(form(inputs), np.arange(30) % 2)
    assert len(Witness.seen) >= 4
    for each in Witness.seen:
        assert sparse.issparse(each) == (form is sparse.csr_matrix)
        np.testing.assert_array_equal(each.toarray() if sparse.issparse(each) else each, inputs)


@dataclass(frozen=True, kw_only=True)
class Elsewhere(Sanitiser):
    """Asks about rows between the rows."""

    name: ClassVar[str] = "elsewhere"

    def sift(self, learner, data, *, seed):
        probe = learner.fit(data, seed=seed).model
        predictions(probe, data.all_inputs().mean(0, keepdim=True))
        return Verdict(scores=torch.zeros(len(data)), flagged=torch.zeros(len(data), dtype=torch.bool))


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix], ids=["array", "sparse"])
def test_rows_that_are_not_among_those_given_are_asked_about_in_their_units(form):
    inputs = np.random.default_rng(0).normal(size=(30, 3)) * [1, 100, 1e4] + 5
    Witness.seen.clear()
    DefendedClassifier(Witness(), Elsewhere()).fit(form(inputs), np.arange(30) % 2)
    between = next(each for each in Witness.seen if each.shape[0] == 1)
    assert sparse.issparse(between) == (form is sparse.csr_matrix)
    between = between.toarray() if sparse.issparse(between) else between
    np.testing.assert_allclose(between[0], inputs.mean(0), rtol=1e-3, atol=1e-2)


def test_a_defense_sees_columns_in_units_of_their_standard_deviation():
    inputs, labels = blobs()
    wide = DefendedClassifier(LogisticRegression(), Outliers()).fit(inputs * [1, 1e-6, 1e6, 1] + 7, labels)
    plain = DefendedClassifier(LogisticRegression(), Outliers()).fit(inputs, labels)
    assert wide.kept_.tolist() == plain.kept_.tolist()


WORDS = {"spam": "win prize money now free", "ham": "lunch meeting notes tomorrow friend"}


def texts(rows=60):
    draws = np.random.default_rng(0)
    labels = np.array(["spam", "ham"] * (rows // 2))
    return [" ".join(draws.choice(WORDS[each].split(), 6)) for each in labels], labels


def test_it_stands_in_a_pipeline_behind_a_vectoriser():
    rows, labels = texts()
    pipeline = make_pipeline(CountVectorizer(), DefendedClassifier(MultinomialNB(), Outliers())).fit(rows, labels)
    assert pipeline[-1].kept_.sum() == 57
    assert pipeline.predict(["free money", "meeting a friend"]).tolist() == ["spam", "ham"]
    oracle = MultinomialNB().fit(pipeline[0].transform(rows)[pipeline[-1].kept_], labels[pipeline[-1].kept_])
    np.testing.assert_allclose(pipeline.predict_proba(rows), oracle.predict_proba(pipeline[0].transform(rows)))


def test_sparse_rows_beyond_the_limit_are_refused_in_a_sentence():
    rows, labels = texts()
    defended = DefendedClassifier(MultinomialNB(), Outliers(), dense_limit=599)
    with pytest.raises(ValueError, match=r"60 sparse rows of 10 columns are 600 numbers .* dense_limit is 599"):
        make_pipeline(CountVectorizer(), defended).fit(rows, labels)
    make_pipeline(CountVectorizer(), defended.set_params(dense_limit=600)).fit(rows, labels)


def test_a_grid_search_chooses_among_defenses_and_parameters():
    inputs, labels = blobs()
    pipeline = make_pipeline(StandardScaler(), DefendedClassifier(SVC(), Outliers()))
    grid = {
        "defendedclassifier__defense": [
            "spectral-signatures",
            Outliers(),
            {"name": "activation-clustering", "least": 9},
        ],
        "defendedclassifier__estimator__C": [0.1, 1.0],
    }
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(inputs, labels)
    assert len(search.cv_results_["params"]) == 6
    assert search.predict(inputs).shape == (90,)


def test_a_list_of_defenses_is_a_stack():
    inputs, labels = blobs()
    found = DefendedClassifier(SVC(), [Outliers(count=2), Outliers(count=3)]).fit(inputs, labels)
    assert found.kept_.sum() == 85


def test_the_random_state_decides_and_nothing_global_is_drawn():
    inputs, labels = blobs()
    fresh = blobs(seed=1)[0] * 3

    def said(state):
        return (
            DefendedClassifier(RandomForestClassifier(4), Outliers(), random_state=state)
            .fit(inputs, labels)
            .predict_proba(fresh)
        )

    with undisturbed("DefendedClassifier"):
        one = said(1)
    assert (one == said(1)).all()
    assert (one != said(2)).any()


def test_the_estimator_given_is_left_alone():
    inputs, labels = blobs()
    forest = RandomForestClassifier(4)
    DefendedClassifier(forest, Outliers()).fit(inputs, labels)
    assert forest.random_state is None
    assert not hasattr(forest, "estimators_")


@pytest.mark.parametrize(
    ("estimator", "defense", "sentence"),
    [
        (SVC(), "spectral-signature", "no defense called 'spectral-signature': did you mean 'spectral-signatures'"),
        (SVC(), {"name": "spectral-signatures", "capp": 1}, "defense.capp: there is no such setting"),
        (SVC(), None, "defense: a name, or a mapping with a 'name', is needed"),
        (SVC(), Mixup(), "mixup acts inside the training loop, but SVC is fitted in one go"),
        (SVC(), PartitionAggregation(partitions=2), "partitioned trains more than one classifier"),
        (SVC(), {"name": "spectral-signatures", "expected": "true"}, "spectral-signatures plays the oracle"),
        (SVC(), "jpeg", "jpeg .*images"),
        (Ridge(), Outliers(), "needs a classifier, but Ridge is none"),
        (SVC(C=-1), Outliers(), "SVC cannot be trained on these 87 rows: .* 'C' parameter"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(estimator, defense, sentence):
    with pytest.raises(MithridateError, match=sentence):
        DefendedClassifier(estimator, defense).fit(*blobs())


def test_rows_too_large_are_a_value_error_of_ours():
    inputs, labels = blobs()
    inputs[0, 0] = 1e308
    inputs[1, 0] = -1e308
    with pytest.raises(ValueError, match="too large for float32") as caught:
        DefendedClassifier(SVC(), Outliers()).fit(inputs, labels)
    assert isinstance(caught.value, DataError)


def test_frames_of_pandas_are_read():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    inputs, labels = blobs()
    frame = pandas.DataFrame(inputs, columns=list("abcd"))
    found = DefendedClassifier(SVC(), Outliers()).fit(frame, pandas.Series(labels))
    assert found.feature_names_in_.tolist() == list("abcd")
    assert found.predict(frame).tolist() == SVC().fit(inputs[3:], labels[3:]).predict(inputs).tolist()


def test_a_learner_says_in_scikit_learns_terms_what_its_network_says():
    inputs, labels = blobs()
    found = LearnerClassifier(QUICK).fit(inputs[3:], labels[3:])
    assert found.score(inputs[3:], labels[3:]) > 0.9
    scaled = StandardScaler().fit(inputs[3:]).transform(inputs).astype(np.float32)
    logits = found.model_(torch.from_numpy(scaled).double()).detach()
    np.testing.assert_allclose(found.predict_proba(inputs), logits.softmax(1), atol=1e-6)
    assert found.predict(inputs).tolist() == found.classes_[logits.argmax(1)].tolist()
    assert found.decision_function(inputs).shape == (90, 3)
    two = labels != "egg"
    binary = LearnerClassifier(QUICK).fit(inputs[two], labels[two])
    assert ((binary.decision_function(inputs) > 0) == (binary.predict(inputs) == "spam")).all()


def test_a_learner_sees_the_columns_as_they_are_where_that_is_asked():
    inputs, labels = blobs()
    found = LearnerClassifier(Estimator(estimator="knn", scale=False), standardise=False).fit(inputs, labels)
    np.testing.assert_allclose(found.model_.estimator._fit_X, inputs, rtol=1e-6)


def test_a_learner_is_given_by_its_settings_too():
    inputs, labels = blobs()
    given = {"model": {"name": "mlp", "hidden": [8]}, "epochs": 2, "augmentation": None}
    found = LearnerClassifier(given).fit(inputs, labels)
    assert found.model_.last.in_features == 8
    assert LearnerClassifier().fit(inputs, labels).score(inputs[3:], labels[3:]) > 0.9
    with pytest.raises(ConfigError, match=r"learner\.epoch: there is no such setting"):
        LearnerClassifier({**given, "epoch": 3}).fit(inputs, labels)
    with pytest.raises(ConfigError, match="images of shape"):
        LearnerClassifier({"model": "resnet18"}).fit(inputs, labels)


def test_fitted_ones_survive_pickling():
    inputs, labels = blobs()
    for each in (
        DefendedClassifier(SVC(), Outliers()),
        LearnerClassifier(QUICK),
        LearnerClassifier(Estimator(estimator="knn")),
    ):
        fitted = each.fit(inputs, labels)
        assert pickle.loads(pickle.dumps(fitted)).predict(inputs).tolist() == fitted.predict(inputs).tolist()


def test_a_defended_learner_is_a_defended_classifier():
    inputs, labels = blobs()
    found = DefendedClassifier(LearnerClassifier(QUICK), Outliers()).fit(inputs, labels)
    assert found.kept_.sum() == 87
    assert found.score(inputs[3:], labels[3:]) > 0.9


def test_none_draws_a_seed_from_numpys_global_state():
    inputs, labels = blobs()
    state = np.random.get_state()  # noqa: NPY002
    try:
        forests = [
            DefendedClassifier(RandomForestClassifier(4), Outliers(), random_state=None).fit(inputs, labels).estimator_
            for _ in range(2)
        ]
    finally:
        np.random.set_state(state)  # noqa: NPY002
    assert forests[0].random_state != forests[1].random_state


def test_controls_are_refused_since_they_defend_nothing():
    inputs = np.random.default_rng(0).normal(size=(40, 3))
    labels = (inputs[:, 0] > 0).astype(int)
    for name in ("oracle-filter", {"name": "random-drop", "like": {"name": "slab"}}):
        with pytest.raises(ConfigError, match="is a control of experiments"):
            DefendedClassifier(LogisticRegression(), name).fit(inputs, labels)
