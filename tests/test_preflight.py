"""What would make every craft job fail is found before anything is trained, in the sentence the job would end with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mithridate.errors import ConfigError
from mithridate.preflight import problems
from mithridate.work import perform
from tests.runs import tiny

THREAT = {
    "goal": {"name": "degrade", "known": 20},
    "budget": 0.1,
    "perturbation": "unbounded",
    "labels": "dirty",
    "rows": "append",
}
DENSE = {"name": "gradient-descent", "loss": "softmax", "steps": 20}
SGD = {"model": "linear", "epochs": 1, "augmentation": None}
TRAINED = {"name": "fine-tune", "weights": {"name": "file", "path": "nowhere.safetensors"}}
VALIDATION = {"start": "validation"}
START = "start: validation copies rows that are not in the training set"
ADAPTIVE = {"adaptive": True, "defenses": ["none", "mixup"]}


def experiment(
    *, attack: dict[str, Any] | None = None, surrogate: dict[str, Any] = DENSE, threat: Any = None, **changes: Any
) -> Any:
    """Back-gradient on the digits, or on what is given instead."""
    changes = {"victims": [SGD], **changes}
    return tiny(
        attacks=[attack if attack and "name" in attack else {"name": "back-gradient", "steps": 1, **(attack or {})}],
        surrogates=[surrogate],
        threat={**THREAT, **(threat or {})},
        **changes,
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (ADAPTIVE, "which a defense around it does not allow; use gradient-descent or sgd without a defense around it"),
        ({**ADAPTIVE, "surrogate": SGD}, "which a defense around it does not allow"),
        ({"attack": VALIDATION, "threat": {"perturbation": {"name": "linf", "radius": 0.5}}}, START),
        ({"attack": VALIDATION, "threat": {"labels": "clean"}}, START),
        ({"attack": VALIDATION, "threat": {"rows": "replace"}}, START),
        ({"attack": {"name": "random-flips", **VALIDATION}, "threat": {"rows": "replace"}}, START),
        ({"surrogate": {**SGD, "optimiser": "adam"}}, "a training with optimiser: adam cannot be differentiated"),
        ({"surrogate": {**SGD, "augmentation": {"flip": True}}}, "a training with augmentation cannot be"),
        ({"surrogate": SGD, "attack": {"method": "implicit"}}, "method: implicit is for gradient-descent learners"),
        ({"surrogate": SGD, "attack": {"method": "approximate-reversal"}}, "method: approximate-reversal is for"),
        ({"surrogate": SGD, "attack": {"last": 1}}, "last is for gradient-descent learners"),
        ({"attack": {"method": "implicit"}}, "the implicit method needs an L2 penalty"),
        (
            {
                "attack": {"method": "approximate-reversal"},
                "surrogate": {**DENSE, "momentum": 0.5, "nesterov": True},
            },
            "approximate reversal has no form for Nesterov's momentum",
        ),
        ({"attack": {"last": 21}}, r"a sweep is cut to 1..20 steps (as many as the training has), but last is 21"),
    ],
    ids=str,
)
def test_what_no_craft_job_survives_is_found_before(changes: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    made = experiment(**changes)
    found = problems(made)
    assert len(found) == 1
    assert found[0].startswith("attacks[0]: ")
    assert sentence in found[0]
    job = next(job for job in reversed(made.jobs()) if job.kind == "craft")
    with pytest.raises(ConfigError) as refused:
        perform(made, job, folder=tmp_path, device=torch.device("cpu"))
    assert str(refused.value) == found[0].removeprefix("attacks[0]: ")


def test_a_surrogate_with_weights_from_elsewhere_is_found(tmp_path: Path) -> None:
    found = problems(experiment(surrogate={**SGD, "start": TRAINED}))
    assert any("attacks[0]: a training with start: fine-tune cannot be differentiated" in each for each in found)


def test_validation_rows_with_columns_that_cannot_change_are_found(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b,y\n" + "".join(f"{k / 7:.3f},{k % 5 / 3:.3f},{k % 2}\n" for k in range(200)))
    for immutable, expected in ((["a"], 1), ([], 0)):
        data = {"name": "table", "file": str(path), "target": "y", "immutable": immutable}
        found = problems(experiment(attack=VALIDATION, data=data))
        assert [each.startswith(f"attacks[0]: {START}") for each in found] == [True] * expected


def test_what_can_be_crafted_has_no_problem(tmp_path: Path) -> None:
    """And is crafted: the sentences above are about their own setting alone."""
    for changes in ({}, {"attack": VALIDATION}, {"surrogate": SGD}, {"attack": {"last": 20}}):
        made = experiment(**changes)
        assert problems(made) == []
        assert perform(
            made, next(job for job in made.jobs() if job.kind == "craft"), folder=tmp_path, device=torch.device("cpu")
        )
