"""Any scikit-learn classifier as a learner: by a short name, or by the place it is imported from.

Settings are plain values. A parameter that is itself an estimator (``AdaBoostClassifier``, ``BaggingClassifier``,
``StackingClassifier``) is written as a mapping of its own::

    {name: sklearn, estimator: "sklearn.ensemble:AdaBoostClassifier",
     parameters: {estimator: {estimator: decision-tree, parameters: {max_depth: 1}}}}
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from sklearn.base import BaseEstimator, is_classifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.errors import ConfigError, FormatError, nearest
from mithridate.learner import Hook, Learner, Progress
from mithridate.learners.fitted import FittedEstimator, hook_problems, training, words
from mithridate.seeding import Seed

SHORT: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "logistic-regression": ("sklearn.linear_model:LogisticRegression", {"max_iter": 1000}),
        "linear-svm": ("sklearn.svm:LinearSVC", {"dual": "auto", "max_iter": 10_000}),
        "svm-rbf": ("sklearn.svm:SVC", {}),
        "knn": ("sklearn.neighbors:KNeighborsClassifier", {}),
        "naive-bayes": ("sklearn.naive_bayes:GaussianNB", {}),
        "decision-tree": ("sklearn.tree:DecisionTreeClassifier", {}),
        "random-forest": ("sklearn.ensemble:RandomForestClassifier", {}),
        "gradient-boosting": ("sklearn.ensemble:HistGradientBoostingClassifier", {"min_samples_leaf": 5}),
    }
)
"""Short names: where the class is, and parameters other than its defaults. scikit-learn's boosting asks for 20 rows in
a leaf, with which it learns nothing from 100; iterations are raised so that ordinary fits converge."""

_INDIFFERENT = tuple(
    f"sklearn.{each}" for each in ("tree.", "naive_bayes", "ensemble._forest", "ensemble._gb", "ensemble._hist_")
)
"""Modules whose classifiers do not care how wide a column is, or (naive Bayes of counts) need it as it is."""


@dataclass(frozen=True, kw_only=True)
class Estimator(Learner):
    """Fit a scikit-learn classifier, after preprocessing; it has one epoch, no gradients, and runs on the CPU."""

    name: ClassVar[str] = "sklearn"

    estimator: str
    """A short name (``logistic-regression``, ``linear-svm``, ``svm-rbf``, ``knn``, ``naive-bayes``, ``decision-tree``,
    ``random-forest``, ``gradient-boosting``), or where a class is: ``sklearn.svm:SVC``, ``your.module:Class``."""
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Its parameters, plain values, over those of the short name. Not ``random_state``: the seed decides it."""
    steps: tuple[str, ...] = ()
    """Preprocessing before it, as places (``sklearn.preprocessing:MinMaxScaler``), with their default parameters."""
    scale: bool | None = None
    """Whether columns are standardised before all else. None: where it helps, so not before ``steps`` of your own, and
    not for trees and naive Bayes."""

    def __post_init__(self) -> None:
        """Refuse what is no plain value, a random state, and names that are empty; keep a copy of the parameters."""
        for what in (self.estimator, *self.steps):
            if not what.strip():
                raise ConfigError(
                    "estimator and steps must be short names or places (sklearn.svm:SVC), but one is empty"
                )
        object.__setattr__(self, "parameters", _copied(self.parameters, "parameters"))

    @property
    def title(self) -> str:
        """What tables call it: its short name, or that of its class."""
        return self.estimator.rpartition(":")[2]

    @property
    def remembered(self) -> bool:
        """No: what it learns is not in tensors."""
        return False

    @property
    def differentiable(self) -> bool:
        """No."""
        return False

    def prototype(self) -> Any:
        """The estimator with its parameters behind its preprocessing, not fitted.

        Raises :class:`ConfigError` where a class cannot be found or does not take its parameters.
        """
        last = _instance(self.estimator, self.parameters)
        scaled = not self.steps and not type(last).__module__.startswith(_INDIFFERENT)
        before = [StandardScaler()] if (scaled if self.scale is None else self.scale) else []
        before += [_instance(each, {}) for each in self.steps]
        return make_pipeline(*before, last) if before else last

    def build(self, space: Space, seed: Seed) -> FittedEstimator:
        """A classifier that is not fitted yet, whose logits are 0. Raises :class:`ConfigError` for :meth:`problems`."""
        wrong = self.problems(space)
        if wrong:
            raise ConfigError("; ".join(wrong))
        return FittedEstimator(space, who=self.title)

    def problems(self, space: Space) -> list[str]:
        """Classes that cannot be imported or are of another kind, and parameters that they do not take."""
        found = _problems(self.estimator, self.parameters)
        found += [each for step in self.steps for each in _problems(step, {})]
        try:
            return found or self._unfit() or _value_problems(self.prototype())
        except ConfigError as error:  # a class that does not even let itself be made
            return [str(error)]

    def _unfit(self) -> list[str]:
        """That the estimator is no classifier, or a step before it transforms nothing."""
        found = _kind_problems(self.estimator, _instance(self.estimator, self.parameters))
        idle = [each for each in self.steps if not hasattr(_instance(each, {}), "transform")]
        return found + [f"'{each}' cannot be a step, because it transforms nothing" for each in idle]

    def hook_problems(self, hooks: Sequence[Hook]) -> list[str]:
        """Hooks that act on batches or gradients, of which it has none."""
        return hook_problems(hooks, self.title)

    def augment(self, inputs: Tensor, *, space: Space, generator: torch.Generator) -> Tensor:
        """The inputs as they are."""
        return inputs

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """One item, after the fit. Same seed and rows: same predictions.

        Raises :class:`ConfigError` for hooks that do more than remove rows before the first epoch and for parameters
        of wrong values, :class:`DataError` for rows of one class and where the fit fails, :class:`FormatError` for a
        state to resume from, since there is none.
        """
        if resume is not None:
            raise FormatError(f"{self.title} is fitted in one go and has no state to resume from; train from the start")
        yield training(self.prototype(), data, seed=seed, hooks=hooks, who=self.title)


def _copied(value: Any, where: str) -> Any:
    """Plain values anew: keys as text and sequences as lists, as they are read from YAML.

    Raises :class:`ConfigError` for other values, and for a ``random_state``.
    """
    if isinstance(value, Mapping):
        if "random_state" in value:
            raise ConfigError(f"{where}.random_state must be left out, because the seed of each training decides it")
        return {str(key): _copied(each, f"{where}.{key}") for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_copied(each, f"{where}[{k}]") for k, each in enumerate(value)]
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise ConfigError(
        f"{where} must be a plain value (text, a number, true, false, none, a list or a mapping), but it is a "
        f"{type(value).__name__}; write an estimator as {{estimator: place, parameters: {{}}}}"
    )


def _instance(place: str, parameters: Mapping[str, Any]) -> Any:
    """An object of the class at ``place``, or of that short name. Raises :class:`ConfigError`."""
    base, more = SHORT.get(place, (place, {}))
    cls, settings = _imported(base), {**more, **{name: _value(each) for name, each in parameters.items()}}
    try:
        return cls(**settings)
    except Exception as error:
        raise ConfigError(f"'{place}' cannot be made with these parameters: {words(error)}") from error


def _value(value: Any) -> Any:
    """A parameter as the class wants it: mappings that name an estimator are made one, numbers as keys are numbers."""
    if _names_estimator(value):
        return _instance(value["estimator"], value.get("parameters") or {})
    if isinstance(value, Mapping):
        return {int(key) if key.lstrip("-").isdecimal() else key: _value(each) for key, each in value.items()}
    return [_value(each) for each in value] if isinstance(value, list) else value


def _names_estimator(value: Any) -> bool:
    """Whether a value is ``{estimator: place}``, with parameters or without."""
    return isinstance(value, Mapping) and isinstance(value.get("estimator"), str) and len(value) <= 2


def _problems(place: str, parameters: Mapping[str, Any]) -> list[str]:
    """A class that is not there, parameters that it does not have, and the same of estimators among them."""
    if ":" not in place and place not in SHORT:
        return [f"there is no estimator '{place}': {nearest(place, SHORT)}, or a place such as sklearn.svm:SVC"]
    try:
        signature = inspect.signature(_imported(SHORT[place][0] if place in SHORT else place))
    except ConfigError as error:
        return [str(error)]
    kinds = inspect.Parameter
    known = {name: each for name, each in signature.parameters.items() if name != "random_state"}
    open_ended = any(each.kind is kinds.VAR_KEYWORD for each in known.values())
    unknown = [] if open_ended else [name for name in parameters if name not in known]
    starred = (kinds.VAR_KEYWORD, kinds.VAR_POSITIONAL)
    needed = [name for name, each in known.items() if each.default is kinds.empty and each.kind not in starred]
    found = [f"'{place}' has no parameter '{name}': {nearest(name, known)}" for name in unknown]
    found += [f"'{place}' needs the parameter '{name}'" for name in needed if name not in parameters]
    return found + [each for value in parameters.values() for each in _problems_inside(value)]


def _problems_inside(value: Any) -> list[str]:
    """The problems of the estimators that a parameter names."""
    if _names_estimator(value):
        return _problems(value["estimator"], value.get("parameters") or {})
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return [found for each in inside for found in _problems_inside(each)]


def _imported(place: str) -> type:
    """The estimator class at ``package.module:Class``. Raises :class:`ConfigError` where there is none."""
    module_name, _, attribute = place.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(
            f"'{place}' cannot be imported: {words(error)} (is the folder of '{module_name}' on PYTHONPATH?)"
        ) from error
    found = getattr(module, attribute, None)
    if found is None:
        classes = [name for name, each in vars(module).items() if _is_estimator(each)]
        raise ConfigError(f"the module '{module_name}' has no '{attribute}': {nearest(attribute, classes)}")
    if not _is_estimator(found):
        raise ConfigError(f"'{place}' must be a class with the methods fit and get_params, but is {found!r}")
    cls: type = found
    return cls


def _is_estimator(thing: Any) -> bool:
    return inspect.isclass(thing) and callable(getattr(thing, "fit", None)) and hasattr(thing, "get_params")


def _kind_problems(place: str, estimator: Any) -> list[str]:
    """That an estimator is no classifier."""
    try:
        fits = is_classifier(estimator)
    except Exception:  # estimators that know nothing of scikit-learn's tags
        fits = hasattr(estimator, "predict")
    if fits:
        return []
    return [f"'{place}' is no classifier; regressors, transformers and outlier detectors cannot be asked for a class"]


def _value_problems(prototype: Any) -> list[str]:
    """Values that an estimator refuses for its parameters, where scikit-learn can tell before fitting."""
    inside = [each for each in prototype.get_params(deep=True).values() if isinstance(each, BaseEstimator)]
    found: dict[str, None] = {}
    for each in (prototype, *inside):
        try:
            getattr(each, "_validate_params", lambda: None)()
        except (TypeError, ValueError) as error:
            found[str(error).partition("\n")[0]] = None
    return list(found)
