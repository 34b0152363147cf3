"""An experiment from a table and the name of its target column: what some poison does to usual classifiers on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mithridate import config
from mithridate.errors import ConfigError, DataError
from mithridate.experiment import Experiment
from mithridate.loading import load
from mithridate.settings import plain
from mithridate.source import Source

FEWEST = 60
"""Training rows that a stress test needs, validation rows included."""
MOST_VALIDATION = 400
MAIN = "logistic-regression"
"""The victim that stress tests judge first, and defend."""


def stress_test(
    source: Source,
    *,
    name: str,
    budget: float = 0.05,
    trials: int = 5,
    rows: int = 1000,
    victims: Sequence[str] = (MAIN, "random-forest"),
    seed: int = 0,
) -> Experiment:
    """Back-gradient poison and label flips against scikit-learn classifiers, with sanitisation of the training rows.

    The attacker sees the victim's training rows and some validation rows; it differentiates a logistic (or softmax)
    regression of its own and never the victim. Each trial draws up to ``rows`` training rows of its own. Raises
    :class:`DataError` where there are too few rows, and :class:`ConfigError` for settings that make no experiment.
    """
    if not 0 < budget <= 0.5:
        raise ConfigError(
            f"budget must be a share of the training rows in (0, 0.5], but it is {budget:g}"
            + (f" (did you mean {budget:g} %, that is {budget / 100:g}?)" if 1 < budget <= 50 else "")
        )
    train = load(source).train
    if len(train) < FEWEST:
        raise DataError(
            f"a stress test needs at least {FEWEST} training rows (some are the attacker's), that is 75 rows in a file "
            f"of which a fifth is held out for testing, but there are {len(train)} training rows"
        )
    known = min(MOST_VALIDATION, len(train) // 4)
    size = min(rows, len(train) - known)
    settings = _settings(known=known, size=size, budget=budget, classes=train.space.num_classes)
    settings |= {"name": name, "data": plain(source), "trials": trials, "seed": seed}
    settings["victims"] = [{"name": "sklearn", "estimator": each} for each in victims]
    return config.parse(Experiment, settings)


def _settings(*, known: int, size: int, budget: float, classes: int) -> dict[str, Any]:
    loss = "logistic" if classes == 2 else "softmax"
    return {
        "about": "What an attacker who may append a few rows to this training set does to usual classifiers.",
        "notes": [
            f"Each trial draws {size} training rows and {known} validation rows; the attacker sees both, never the "
            "test rows, though the ranges of columns are those of the whole table. Poison rows are valid rows of it, "
            "with labels of the attacker's choice.",
            "The attacker differentiates a regression of its own, trained by 100 steps of gradient descent, and knows "
            "nothing of the victims' classifiers: what it does to others than its own is transfer.",
        ],
        "threat": {
            "goal": {"name": "degrade", "known": known},
            "budget": budget,
            "perturbation": "unbounded",
            "labels": "dirty",
            "rows": "append",
        },
        "vary": {"budget": [round(budget * share, 6) for share in (0.4, 2.0) if budget * share <= 0.5]},
        "vary_trials": 3,
        "attacks": ["back-gradient", "random-flips", "loss-flips"],
        "surrogates": [{"name": "gradient-descent", "loss": loss, "steps": 100, "lr": 0.1, "l2": 0.01}],
        "defenses": ["none", "label-sanitisation", "loss-sanitisation", "slab"],
        "training_rows": size,
        "resample": True,
        "runs": 1,
        "controls": {"clean": 1, "noise": 0, "drops": ["random-drop", "top-loss-drop"]},
    }
