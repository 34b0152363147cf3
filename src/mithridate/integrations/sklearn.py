"""Defenses in scikit-learn's own terms: estimators that go into pipelines, grid searches and cross-validation.

::

    spam = make_pipeline(CountVectorizer(), DefendedClassifier(MultinomialNB(), defense="label-sanitisation"))
    spam.fit(texts, labels)
    spam[-1].kept_                                     # (n,) bool: the rows trained on

``LearnerClassifier`` is the other way round: a learner of ours as an estimator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, is_classifier
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from mithridate import config
from mithridate.checkpoint import Checkpoint
from mithridate.control import Control
from mithridate.dataset import Dataset, Space
from mithridate.defense import Defense, protect
from mithridate.errors import ConfigError, DataError
from mithridate.integrations.rows import (
    Kept,
    Statistics,
    UnfitError,
    classes_of,
    dataset_of,
    seed_of,
    statistics,
    validated,
)
from mithridate.learner import Hook, Learner, Progress, predictions
from mithridate.learners.fitted import Feed, FittedEstimator, Floats, hook_problems, training
from mithridate.learners.sgd import SGD
from mithridate.models.mlp import MLP
from mithridate.seeding import Seed


def _has(method: str) -> Callable[[Any], bool]:
    """Whether the estimator inside has a method, for ``available_if``."""
    return lambda outside: hasattr(getattr(outside, "estimator_", outside.estimator), method)


class DefendedClassifier(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier that is fitted on what a defense leaves of its training rows.

    Any estimator and any defense that removes or relabels rows before training. Where the defense looks at rows, it
    sees each column in units of its standard deviation; where it trains, the estimator is fitted on the very rows that
    it was given. Rows must be numbers: vectorise texts and encode categories in a step before.

    Attributes after ``fit``: ``estimator_`` (a clone, fitted on what was left), ``kept_`` ``(n,)`` bool (the rows it
    was fitted on, in the order given), ``relabelled_`` ``(n,)`` bool (those whose label the defense changed),
    ``classes_``, ``n_features_in_``.
    """

    def __init__(
        self,
        estimator: Any,
        defense: Any = "label-sanitisation",
        *,
        dense_limit: int = 50_000_000,
        random_state: Any = 0,
    ) -> None:
        """Defend ``estimator`` by ``defense``: a name, a mapping with a name and settings, an object, or a list of any.

        Of a list the first is innermost. Sparse rows are made dense where the defense looks at them, up to
        ``dense_limit`` numbers (20 bytes each for a while). ``random_state`` decides what the defense draws and every
        random state that the estimator leaves open.
        """
        self.estimator = estimator
        self.defense = defense
        self.dense_limit = dense_limit
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> DefendedClassifier:  # noqa: N803 (scikit-learn's name)
        """Defend, and fit on what is left: rows ``(n, d)`` (array, sparse or frame), labels ``(n,)`` of any kind.

        Raises :class:`ConfigError` for a defense that does more than remove or relabel rows before training, for one
        that plays the oracle, and for an estimator that is no classifier; :class:`UnfitError` (a ``ValueError``) for
        rows that cannot be trained on.
        """
        X, y = validated(self, X, y, accept_sparse="csr")  # noqa: N806
        self.classes_, labels = classes_of(y, "DefendedClassifier")
        who = type(self.estimator).__name__
        if not is_classifier(self.estimator):
            raise ConfigError(f"DefendedClassifier needs a classifier, but {who} is none")
        kept = Kept(X, self.classes_, limit=self.dense_limit)
        data = dataset_of(kept.scaled, labels, self.classes_)
        learner = protect(_Clones(self.estimator, kept, who), _defenses(self.defense, data.space))
        model = _fitted(learner, data, seed_of(self.random_state)).model
        if not isinstance(model, FittedEstimator):
            raise ConfigError(
                f"DefendedClassifier needs a defense that removes or relabels rows before training, but {learner.name} "
                "trains more than one classifier"
            )
        rows = model.ids.numpy()
        self.estimator_ = model.estimator
        self.kept_ = np.isin(np.arange(len(labels)), rows)
        self.relabelled_ = np.zeros(len(labels), bool)
        self.relabelled_[rows] = model.labels.numpy() != labels[rows]
        return self

    @available_if(_has("predict"))  # type: ignore[untyped-decorator]
    def predict(self, X: Any) -> Any:  # noqa: N803
        """The class of each row ``(n,)``."""
        return self._ask("predict", X)

    @available_if(_has("predict_proba"))  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Any:  # noqa: N803
        """Probabilities ``(n, C)``; 0 for a class that the defense left no row of."""
        return self._of_all_classes(self._ask("predict_proba", X), 0.0)

    @available_if(_has("predict_log_proba"))  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> Any:  # noqa: N803
        """Their logarithms ``(n, C)``."""
        return self._of_all_classes(self._ask("predict_log_proba", X), -np.inf)

    @available_if(_has("decision_function"))  # type: ignore[untyped-decorator]
    def decision_function(self, X: Any) -> Any:  # noqa: N803
        """The decision function of the estimator, of the classes in ``estimator_.classes_``."""
        return self._ask("decision_function", X)

    def _ask(self, method: str, X: Any) -> Any:  # noqa: N803
        check_is_fitted(self)
        return getattr(self.estimator_, method)(validated(self, X, accept_sparse="csr"))

    def _of_all_classes(self, found: NDArray[Any], absent: float) -> NDArray[Any]:
        """Columns ``(n, k)`` of the classes that were left, as columns ``(n, C)`` of all classes."""
        if found.shape[1] == len(self.classes_):
            return found
        columns = np.full((len(found), len(self.classes_)), absent)
        columns[:, np.isin(self.classes_, self.estimator_.classes_)] = found
        return columns

    def __sklearn_tags__(self) -> Any:
        """The tags of a classifier that takes what the estimator inside takes, but no missing values or texts."""
        from sklearn.utils import get_tags  # since scikit-learn 1.6, which alone asks for these

        tags, inside = super().__sklearn_tags__(), get_tags(self.estimator)
        tags.classifier_tags = replace(inside.classifier_tags or tags.classifier_tags, multi_label=False)
        tags.input_tags.sparse = inside.input_tags.sparse
        tags.input_tags.positive_only = inside.input_tags.positive_only
        return tags


class LearnerClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A learner of ours as a scikit-learn estimator, for tables.

    Attributes after ``fit``: ``model_`` (the network), ``classes_``, ``n_features_in_``.
    """

    def __init__(self, learner: Any = None, *, standardise: bool = True, random_state: Any = 0) -> None:
        """Train as ``learner`` does: an object, a mapping of settings (``{name: sklearn, estimator: knn}``).

        None: a perceptron with one hidden layer, by SGD. With ``standardise`` every column has mean 0 and standard
        deviation 1 over the training rows before the network sees it. ``random_state`` decides everything drawn.

        The network is asked in float64, so that what it says of a row does not depend on the rows asked with it.
        """
        self.learner = learner
        self.standardise = standardise
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> LearnerClassifier:  # noqa: N803 (scikit-learn's name)
        """Train on rows ``(n, d)`` and labels ``(n,)`` of any kind.

        Raises :class:`ConfigError` for a learner that does not fit the rows, and :class:`UnfitError` (a ``ValueError``)
        for rows that cannot be trained on.
        """
        X, y = validated(self, X, y, dtype=np.float64)  # noqa: N806
        self.classes_, labels = classes_of(y, "LearnerClassifier")
        learner: Learner = _perceptron()
        if self.learner is not None:
            learner = config.parse(Learner, self.learner, where="learner")  # type: ignore[type-abstract]
        as_they_are: Statistics = (np.zeros(X.shape[1]), np.ones(X.shape[1]))
        self.mean_, self.scale_ = statistics(X) if self.standardise else as_they_are
        data = dataset_of(self._scaled(X), labels, self.classes_)
        wrong = learner.problems(data.space)
        if wrong:
            raise ConfigError("; ".join(wrong))
        self.model_ = _fitted(learner, data, seed_of(self.random_state)).model.double()
        return self

    def decision_function(self, X: Any) -> Floats:  # noqa: N803
        """Logits ``(n, C)``; of two classes, how much higher the second is, ``(n,)``."""
        found = self._logits(X)
        return found[:, 1] - found[:, 0] if found.shape[1] == 2 else found

    def predict_proba(self, X: Any) -> Floats:  # noqa: N803
        """Softmax of the logits, ``(n, C)``."""
        found: Floats = torch.from_numpy(self._logits(X)).softmax(1).numpy()
        return found

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """The class with the highest logit, ``(n,)``; of equal ones the first."""
        best = self._logits(X).argmax(1)
        found: NDArray[Any] = self.classes_[best]
        return found

    def _logits(self, X: Any) -> Floats:  # noqa: N803
        check_is_fitted(self)
        rows = torch.from_numpy(self._scaled(validated(self, X, dtype=np.float64)).astype(np.float64))
        found: Floats = predictions(self.model_, rows).double().numpy()
        return found

    def _scaled(self, rows: Floats) -> NDArray[np.float32]:
        with np.errstate(over="ignore"):
            return ((rows - self.mean_) / self.scale_).astype(np.float32)


def _perceptron() -> SGD:
    """What learns small tables in a second."""
    return SGD(model=MLP(hidden=(32,)), epochs=30, batch_size=32, lr=0.1, schedule="one-cycle", augmentation=None)


@dataclass(frozen=True, eq=False)
class _Clones(Learner):
    """Fits clones of an estimator object."""

    name: ClassVar[str] = "clones"

    prototype: Any
    feed: Feed
    who: str

    @property
    def remembered(self) -> bool:
        return False

    @property
    def differentiable(self) -> bool:
        return False

    def build(self, space: Space, seed: Seed) -> FittedEstimator:
        return FittedEstimator(space, who=self.who)

    def hook_problems(self, hooks: Sequence[Hook]) -> list[str]:
        return hook_problems(hooks, self.who)

    def augment(self, inputs: Tensor, *, space: Space, generator: torch.Generator) -> Tensor:
        return inputs

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        yield training(self.prototype, data, seed=seed, hooks=hooks, who=self.who, feed=self.feed)


def _defenses(given: Any, space: Space) -> list[Defense]:
    """The stack that was meant. Raises :class:`ConfigError` for what is none, or cannot protect rows of this space."""
    several = isinstance(given, Sequence) and not isinstance(given, (str, Mapping))
    found: list[Defense] = [
        config.parse(Defense, each, where="defense")  # type: ignore[type-abstract]
        for each in (given if several else [given])
    ]
    wrong = [problem for each in found for problem in each.problems(space)]
    wrong += [f"{each.name} plays the oracle, which nobody can outside an experiment" for each in found if each.oracle]
    wrong += [
        f"{each.name} is a control of experiments and defends nothing" for each in found if isinstance(each, Control)
    ]
    if wrong:
        raise ConfigError("; ".join(wrong))
    return found


def _fitted(learner: Learner, data: Dataset, seed: Seed) -> Progress:
    try:
        return learner.fit(data, seed=seed)
    except DataError as error:
        raise UnfitError(str(error)) from error
