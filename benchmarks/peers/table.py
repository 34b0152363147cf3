"""What is compared: sides, their settings, and which problems they are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import judging
import problems
from judging import Piece, Verdict
from problems import QUICK, SHIFT, TRANSFER, WIDE, Arrays

BASELINE = "mithridate"
"""The side whose seconds are 1, and whose results the others' are compared with."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of those compared."""

    call: str
    """A function of ``ours.py`` or ``theirs.py``."""
    who: str = "ours"
    """Whose interpreter: ``ours``, ``art`` or ``select``."""
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A comparison over numbered problems; all sides get the same ones."""

    about: str
    problem: Callable[[int, Path], Arrays]
    verdict: Callable[[Piece], Verdict]
    sides: Mapping[str, Side]
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of all sides."""
    control: Callable[[int, Arrays, Path], Verdict] | None = None
    """What becomes of a problem without poison."""


_IMAGES = {"recipe": "cpu-fast", "augmentation": SHIFT, "data": {}}
_ART = Side(call="art_gradient_matching", who="art")
_KEPT_ROWS = {"who": "art", "call": "art_clustering"}

CASES: dict[str, Case] = {
    "gradient-matching": Case(
        about="A whole crafting: 127 poisons of 2,531 rows (5 classes of CIFAR-10), eps 32/255, one surrogate "
        "(smallconvnet 16-32-64), 60 steps, 1 restart; success on victims of the same kind trained from scratch.",
        problem=problems.brewing,
        verdict=judging.brewed,
        sides={
            BASELINE: Side(call="gradient_matching"),
            "mithridate, without augmentation": Side(call="gradient_matching", settings={"augment": False}),
            "ART": _ART,
        },
        settings={**_IMAGES, "network": QUICK, "steps": 60, "step_size": 0.2, "restarts": 1},
        control=judging.brewed_control,
    ),
    "gradient-matching-wide": Case(
        about="10 steps on 100 poisons with a larger network (smallconvnet 32-32-64-64-64), seconds and the distance "
        "between gradients that is left.",
        problem=problems.brewing_wide,
        verdict=judging.brewed_wide,
        sides={
            BASELINE: Side(call="gradient_matching", settings={"augment": False}),
            "mithridate, with augmentation": Side(call="gradient_matching"),
            "ART": _ART,
        },
        settings={**_IMAGES, "network": WIDE, "steps": 10, "restarts": 1},
    ),
    "bullseye-polytope": Case(
        about="5 poisons of 500 rows, eps 0.1, 200 steps, one network whose head the victim trains anew; objective is "
        "the distance from the poisons' mean features to the target's, over the target's length.",
        problem=problems.transferring,
        verdict=judging.placed,
        sides={BASELINE: Side(call="bullseye"), "ART": Side(call="art_bullseye", who="art")},
        settings={
            "recipe": "convex-polytope-transfer",
            "data": {"per_class": "380:480"},
            "network": TRANSFER,
            "steps": 200,
        },
        control=judging.placed_control,
    ),
    "spectral-signatures": Case(
        about="64 features of 2,531 rows of 5 classes, 126 of them with a patch and relabelled; each side removes "
        "about 190 rows of every class.",
        problem=problems.marked_features,
        verdict=judging.filtered,
        sides={BASELINE: Side(call="spectral"), "ART": Side(call="art_spectral", who="art")},
        settings={"expected": 0.05, "multiplier": 1.5, "warm": 1, "repeats": 5},
    ),
    "spectral-signatures-wide": Case(
        about="512 features of 50,000 rows of 10 classes, 250 of them shifted; each side removes 375 rows of every "
        "class.",
        problem=problems.wide_features,
        verdict=judging.filtered,
        sides={BASELINE: Side(call="spectral"), "ART": Side(call="art_spectral", who="art")},
        settings={"expected": 0.005, "multiplier": 1.5},
    ),
    "activation-clustering": Case(
        about="The same 64 features; ART with its default analysis, and with the one that ours resembles, "
        "whose code (1.20.1) takes the whole of a suspicious class for poison.",
        problem=problems.marked_features,
        verdict=judging.filtered,
        sides={
            BASELINE: Side(call="clustering"),
            "ART": Side(**_KEPT_ROWS, settings={"analysis": "smaller"}),
            "ART, silhouette scores": Side(**_KEPT_ROWS, settings={"analysis": "silhouette-scores"}),
        },
        settings={"warm": 1, "repeats": 3},
    ),
    "activation-clustering-wide": Case(
        about="The same 50,000 rows with 512 features.",
        problem=problems.wide_features,
        verdict=judging.filtered,
        sides={
            BASELINE: Side(call="clustering"),
            "ART": Side(**_KEPT_ROWS, settings={"analysis": "smaller"}),
            "ART, silhouette scores": Side(**_KEPT_ROWS, settings={"analysis": "silhouette-scores"}),
        },
    ),
    "facility-location": Case(
        about="500 medoids of 5,000 points with 10 coordinates, from points to picks, kernel exp(-distance / 10).",
        problem=problems.softmax_rows,
        verdict=judging.selected,
        sides={
            BASELINE: Side(call="facility_location", settings={"numba": True}),
            "mithridate, without numba": Side(call="facility_location", settings={"numba": False}),
            "submodlib": Side(call="submodlib_medoids", who="select"),
            "apricot-select": Side(call="apricot_medoids", who="select"),
        },
        settings={"count": 500, "warm": 1, "repeats": 3},
    ),
    "facility-location-30": Case(
        about="1,500 medoids of the same 5,000 points.",
        problem=problems.softmax_rows,
        verdict=judging.selected,
        sides={
            BASELINE: Side(call="facility_location", settings={"numba": True}),
            "mithridate, without numba": Side(call="facility_location", settings={"numba": False}),
            "submodlib": Side(call="submodlib_medoids", who="select"),
            "apricot-select": Side(call="apricot_medoids", who="select"),
        },
        settings={"count": 1500, "warm": 1, "repeats": 3},
    ),
    "dp-sgd-step": Case(
        about="A step of DP-SGD on 64 images, smallconvnet 16-32-64 with group normalisation; gradients compared "
        "without noise.",
        problem=problems.image_rows,
        verdict=judging.stepped,
        sides={
            BASELINE: Side(call="private_step", settings={"chunk": 32}),
            "Opacus": Side(call="opacus_step"),
        },
        settings={"warm": 2, "repeats": 9},
    ),
}
