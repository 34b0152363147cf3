"""A fitted scikit-learn estimator as a classifier, and the training that gives one."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor, nn
from torch.nn import functional

from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError, DataError, ModelError
from mithridate.learner import Hook, Progress, Removal, predictions
from mithridate.model import Classifier
from mithridate.seeding import Seed

Floats = NDArray[np.float64]

_LEAST = 1e-12
"""Probabilities below are taken for this, so that their logarithms are finite."""
_NEVER = 1e4
"""How far the logit of a class that training never saw lies below all others."""
_LARGEST = 1e37
"""Scores are cut here, since logits are float32."""


class Feed:
    """How an estimator is given rows and classes: flat, in natural units, by number, unless a caller knows better."""

    def training(self, data: Dataset) -> Any:
        """What it is fitted on for the rows of ``data``, in their order."""
        return data.all_inputs().flatten(1).cpu().double().numpy()

    def asked(self, features: Floats) -> Any:
        """What it is asked about for features ``(N, D)``."""
        return features

    def named(self, labels: NDArray[np.int64]) -> NDArray[Any]:
        """What it calls classes ``(n,)``; ascending where the classes are."""
        return labels


class FittedEstimator(Classifier):
    """An estimator as a network without weights: its features are the inputs, its head the estimator.

    Before it is fitted, all logits are 0. It runs on the CPU and moves what it is given there and back.
    """

    def __init__(
        self,
        space: Space,
        *,
        estimator: Any = None,
        data: Dataset | None = None,
        who: str = "",
        feed: Feed | None = None,
    ) -> None:
        """Wrap ``estimator``, fitted on ``data`` as ``feed`` gives them; None: not fitted yet.

        ``who`` is what errors call it.
        """
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(0), requires_grad=False)  # a model tells its device by a parameter
        self.num_classes = space.num_classes
        self.estimator = estimator
        self.who = who
        self.feed = feed or Feed()
        none = torch.zeros(0, dtype=torch.int64)
        self.ids = none if data is None else data.ids.cpu()
        """``(n,)`` int64: the rows that it was fitted on."""
        self.labels = none if data is None else data.labels.cpu()
        """``(n,)`` int64: what they were called then."""
        self.register_load_state_dict_pre_hook(_refuse_state)  # type: ignore[no-untyped-call]

    def features(self, inputs: Tensor) -> Tensor:
        """The inputs ``(N, *shape)`` flat, in natural units, ``(N, D)`` float32."""
        return inputs.flatten(1).float()

    def head(self, features: Tensor) -> Tensor:
        """Logits ``(N, C)`` float32 of features ``(N, D)``, as :func:`logits` gives them, on the features' device.

        Those of classes that training never saw lie far below all others.

        Raises :class:`ConfigError` where a gradient is asked for, and :class:`DataError` where the estimator fails.
        """
        if features.requires_grad and torch.is_grad_enabled():
            raise ConfigError(
                f"{self.who or 'a scikit-learn estimator'} has no gradients to follow; craft with a surrogate that is "
                "trained by gradient descent"
            )
        if self.estimator is None:
            return torch.zeros(len(features), self.num_classes, device=features.device)
        rows, seen = self.feed.asked(features.detach().cpu().double().numpy()), np.unique(self.labels.numpy())
        known = _asked(lambda: logits(self.estimator, rows, self.feed.named(seen)), f"{self.who} cannot be asked")
        found = np.empty((len(known), self.num_classes), np.float32)
        found[:] = known.min(1, keepdims=True) - np.float32(_NEVER)
        found[:, seen] = known
        return torch.from_numpy(found).to(features.device)

    def head_parameters(self) -> list[nn.Parameter]:
        """None: nothing of it is trained by gradients."""
        return []


def _refuse_state(model: nn.Module, state: Any, prefix: str, *_: Any) -> None:
    """Raise :class:`ModelError`: what was fitted is not in the tensors, and would silently be missing."""
    raise ModelError("an estimator cannot be read back from tensors; fit it again")


def logits(estimator: Any, inputs: Any, seen: NDArray[Any]) -> NDArray[np.float32]:
    """What a fitted estimator says of ``N`` inputs, ``(N, k)`` float32, of ``seen`` ``(k,)``, its classes, ascending.

    Logarithms of its probabilities where it gives any, else its decision function (halved and mirrored where it is one
    number, so that its logistic function is the softmax), else 1 for the class it predicts and 0 for others. Whatever
    it scores, the one largest logit is that of the class it predicts: where others are level with it, by a hair.
    """
    predicted = np.searchsorted(seen, np.asarray(estimator.predict(inputs)).ravel())
    return _single(_as_predicted(_scores(estimator, inputs, predicted, len(seen)), predicted), predicted)


def _scores(estimator: Any, inputs: Any, predicted: NDArray[np.int64], count: int) -> Floats:
    """A score for each of the ``count`` classes that training saw, ``(N, count)``."""
    if hasattr(estimator, "predict_proba"):
        return np.log(np.clip(np.asarray(estimator.predict_proba(inputs), np.float64), _LEAST, None))
    if hasattr(estimator, "decision_function") and not _pairwise(estimator):
        decided = np.asarray(estimator.decision_function(inputs), np.float64)
        if decided.ndim == 1 or decided.shape[1] == 1:
            decided = decided.reshape(-1, 1) / 2
            return np.concatenate([-decided, decided], axis=1)
        if decided.shape[1] == count:
            return decided
    return np.asarray(predicted[:, None] == np.arange(count), np.float64)


def _pairwise(estimator: Any) -> bool:
    """Whether its decision function has a column for each pair of classes: of three classes three, which look alike."""
    settings = estimator.get_params(deep=True).items()
    return any(name.endswith("decision_function_shape") and value == "ovo" for name, value in settings)


def _as_predicted(scores: Floats, predicted: NDArray[np.int64]) -> Floats:
    """Scores ``(N, k)`` whose largest is that of the class predicted ``(N,)``: else the two change places.

    Platt's probabilities of a support vector machine and thresholds other than a half disagree with ``predict``.
    """
    rows, best = np.arange(len(scores)), scores.argmax(1)
    swapped = scores.copy()
    swapped[rows, best], swapped[rows, predicted] = scores[rows, predicted], scores[rows, best]
    return swapped


def _single(scores: Floats, predicted: NDArray[np.int64]) -> NDArray[np.float32]:
    """Scores ``(N, k)`` as float32, in which the class predicted ``(N,)`` stands above all others."""
    rows = np.arange(len(scores))
    found = np.clip(scores, -_LARGEST, _LARGEST).astype(np.float32)
    others = found.copy()
    others[rows, predicted] = -np.inf
    rival = others.max(1)
    level = rows[found[rows, predicted] <= rival]
    found[level, predicted[level]] = np.nextafter(rival[level], np.float32(np.inf))
    return found


def training(
    prototype: Any, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), who: str, feed: Feed | None = None
) -> Progress:
    """The only epoch of a training: a clone of ``prototype`` fitted on the rows of ``data`` that the hooks leave.

    It is given the rows by ``feed``. Wherever an estimator in it has an open ``random_state``, the seed decides it;
    numpy's, torch's and Python's global random states are set from the seed too, for estimators that know no other,
    and put back. ``who`` is what errors call it. A fit that does not converge is no error.

    Raises :class:`ConfigError` for hooks that act inside a training loop and for wrong parameters, and
    :class:`DataError` for rows of one class or fewer than two, and where fitting fails.
    """
    wrong = hook_problems(hooks, who)
    if wrong:
        raise ConfigError("; ".join(wrong))
    rows, removals = _left(data, hooks)
    if len(rows) < 2:
        raise DataError(f"training needs at least 2 rows, but there are {len(rows)}" + (" left" if hooks else ""))
    classes = set(rows.labels.tolist())
    if len(classes) < 2:
        raise DataError(
            f"{who} needs rows of at least two classes, but all {len(rows)} are called "
            f"'{data.space.name(min(classes))}'"
        )
    feed = feed or Feed()
    labels = feed.named(rows.labels.cpu().numpy())
    failure = f"{who} cannot be trained on these {len(rows)} rows"
    fitted = _asked(lambda: _fitted(prototype, feed.training(rows), labels, seed), failure)
    model = FittedEstimator(data.space, estimator=fitted, data=rows, who=who, feed=feed).to(data.device)
    said = predictions(model, rows.all_inputs())
    return Progress(
        epoch=1,
        epochs=1,
        model=model,
        loss=float(functional.cross_entropy(said, rows.labels)),
        accuracy=float((said.argmax(1) == rows.labels).float().mean()),
        removals=removals,
        facts={name: value for hook in hooks for name, value in hook.facts().items()},
    )


def hook_problems(hooks: Sequence[Hook], who: str) -> list[str]:
    """Why an estimator cannot be trained with these hooks: those that act on batches or gradients, a sentence each."""
    return [
        f"{getattr(hook.settings, 'name', type(hook).__name__)} acts inside the training loop, but {who} is fitted in "
        "one go: take a defense that removes or relabels rows before training"
        for hook in hooks
        if any(getattr(type(hook), act) is not getattr(Hook, act) for act in ("batches", "transform", "backward"))
    ]


def _left(data: Dataset, hooks: Sequence[Hook]) -> tuple[Dataset, tuple[Removal, ...]]:
    """The rows that the hooks leave before the first epoch, which is the only one, and what they took out."""
    active = torch.ones(len(data), dtype=torch.bool, device=data.device)
    removals: list[Removal] = []
    for hook in hooks:
        removal = hook.drop(data, active, None)
        if removal is not None and len(removal.ids):
            active = active & ~torch.isin(data.ids, removal.ids.to(data.device))
            removals.append(removal)
    return data.at(active), tuple(removals)


def _fitted(prototype: Any, inputs: Any, labels: NDArray[Any], seed: Seed) -> Any:
    """A clone, fitted."""
    estimator = seeded(clone(prototype), seed)
    with _scope(seed.child("global")), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return estimator.fit(inputs, labels)


def seeded(estimator: Any, seed: Seed) -> Any:
    """``estimator`` itself, each ``random_state`` in it that is None set from the seed and its place."""
    places = [
        name
        for name, value in estimator.get_params(deep=True).items()
        if name.rpartition("__")[2] == "random_state" and value is None
    ]
    if places:
        estimator.set_params(**{place: seed.child("random_state", place).value % 2**31 for place in places})
    return estimator


@contextmanager
def _scope(seed: Seed) -> Iterator[None]:
    """Seed the global states of numpy, Python and torch inside the block and restore them after it."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 (what others may draw from)
    np.random.seed(seed.value % 2**32)  # noqa: NPY002
    random.seed(seed.value)
    try:
        with seed.scope():
            yield
    finally:
        np.random.set_state(numpy_state)  # noqa: NPY002
        random.setstate(python_state)


def _asked(call: Callable[[], Any], failure: str) -> Any:
    """What ``call`` of other people's code returns, or a sentence where it fails.

    Raises :class:`ConfigError` for a parameter that the estimator refuses, else :class:`DataError`.
    """
    try:
        return call()
    except Exception as error:
        kind = ConfigError if type(error).__name__ == "InvalidParameterError" else DataError
        raise kind(f"{failure}: {words(error)}") from error


def words(error: Exception) -> str:
    """The first line of an exception, after its kind."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
