"""What an attacker knows of a victim's network, in the field's three words, computed from who shares what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal

from mithridate.learner import Learner
from mithridate.learners.estimator import Estimator
from mithridate.learners.fast import Fast
from mithridate.learners.gradient_descent import GradientDescent
from mithridate.learners.sgd import SGD
from mithridate.learners.weights import File
from mithridate.model import Architecture
from mithridate.settings import fingerprint

_LINEAR = (
    "logistic-regression",
    "linear-svm",
    "sklearn.linear_model:LogisticRegression",
    "sklearn.linear_model:RidgeClassifier",
    "sklearn.linear_model:SGDClassifier",
    "sklearn.svm:LinearSVC",
)
"""scikit-learn's linear classifiers, which have the shape of gradient descent's."""

Box = Literal["white-box", "grey-box", "black-box"]


def box(surrogates: Sequence[Learner], victim: Learner, *, knows: str = "training-rows") -> Box:
    """The most that any of the surrogates shares with the victim: weights, architecture, or neither.

    An attacker who crafts on rows of its own (``knows: own-rows``) shares an architecture at most. Weights are shared
    where both start from the same pretrained ones, whatever is then trained and whatever file they lie in (from
    scratch, two networks never share any). Dropout is no part of an architecture here.
    """
    shared = knows == "training-rows"
    if shared and any(_weights(each) is not None and _weights(each) == _weights(victim) for each in surrogates):
        return "white-box"
    if any(_architecture(each) == _architecture(victim) for each in surrogates):
        return "grey-box"
    return "black-box"


def _weights(learner: Learner) -> str | None:
    """What decides the weights that a learner starts from; None where they are its own.

    Gradient descent without a seed starts every time from the same weights; with the same loss, from the same ones.
    """
    if isinstance(learner, GradientDescent):
        return None if learner.seeded else fingerprint(_architecture(learner), learner.loss, learner.initial_seed)
    source = learner.start.source() if isinstance(learner, SGD) else None
    if source is None:
        return None
    return fingerprint(_architecture(learner), (source.sha256 if isinstance(source, File) else "") or source)


def _architecture(learner: Learner) -> str:
    """What decides the shape of a learner's network; of a learner of another kind, all its settings."""
    if isinstance(learner, GradientDescent):
        return fingerprint(learner.hidden, learner.activation if learner.hidden else "", learner.standardise)
    if isinstance(learner, Estimator) and learner.estimator in _LINEAR and not learner.steps:
        return fingerprint(0, "", learner.scale is not False)
    return fingerprint(_plain(learner.model) if isinstance(learner, (SGD, Fast)) else learner)


def _plain(model: Architecture) -> Any:
    """An architecture without dropout, which changes no weight's meaning."""
    if not is_dataclass(model) or "dropout" not in {each.name for each in fields(model)}:
        return model
    return replace(model, dropout=0.0)
