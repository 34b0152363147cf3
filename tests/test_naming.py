"""What tables call things: short, and different where the reader must tell them apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest

from mithridate.datasets.digits import Digits
from mithridate.defense import protect
from mithridate.defenses.mixup import Mixup
from mithridate.learners.augment import Augmentation
from mithridate.learners.sgd import SGD
from mithridate.learners.start import FineTune, Transfer
from mithridate.learners.weights import File, Own, Trained
from mithridate.models.mlp import MLP
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.naming import label, perturbation_name, scenario_name, weights_label
from mithridate.settings import distinct
from mithridate.threat import L2, Linf, ThreatModel, Unbounded

PLAIN = SGD(model=SmallConvNet(widths=(4, 6)), epochs=3)
SOURCE = Trained(data=Digits(), learner=replace(PLAIN, epochs=20), seed=4)


@pytest.mark.parametrize(
    ("learner", "expected"),
    [
        (PLAIN, "smallconvnet, 3 epochs"),
        (SGD(model=MLP()), "mlp, 40 epochs"),
        (replace(PLAIN, start=Transfer(weights=SOURCE)), "smallconvnet, transfer, 3 epochs"),
        (replace(PLAIN, start=FineTune(weights=Own())), "smallconvnet, fine-tune, 3 epochs"),
        (protect(PLAIN, [Mixup()]), "hooked"),
    ],
)
def test_a_learner_is_its_network_its_start_and_its_epochs(learner, expected):
    assert label(learner) == expected


def test_a_pretraining_is_its_network_its_data_and_its_seed():
    assert weights_label(SOURCE) == "smallconvnet, 20 epochs, on digits, seed 4"


def test_a_scenario_is_its_budget_and_its_perturbation():
    assert scenario_name(ThreatModel()) == "1 % of rows, linf 8/255"
    assert scenario_name(ThreatModel(budget=0.0025, perturbation=L2(radius=0.75))) == "0.25 % of rows, l2 0.75"
    assert perturbation_name(ThreatModel(perturbation=Linf(radius=0.1))) == "linf 25.5/255"
    assert perturbation_name(ThreatModel(perturbation=Unbounded())) == "unbounded"


@pytest.mark.parametrize("rows", ["replace", "append"])
def test_a_scenario_names_the_budget_as_asked_for_and_no_share_that_few_rows_would_not_have(rows):
    """2 % of 57 rows pay for 2 rows, which are 3.5 % of them: the report counts, a name does not."""
    threat = ThreatModel(budget=0.02, perturbation=Unbounded(), rows=rows)
    assert scenario_name(threat) == "2 % of rows, unbounded"


def test_a_learner_with_a_title_is_called_by_it():
    @dataclass(frozen=True)
    class Titled(SGD):
        title: ClassVar[str] = "a forest"

    assert label(Titled(model=MLP())) == "a forest"


def names(*learners):
    return distinct(learners, [label(each) for each in learners])


def test_learners_that_differ_deep_inside_are_told_apart_by_what_differs():
    """One nested setting names itself, not the whole it lies in."""
    one, other = (replace(PLAIN, start=Transfer(weights=replace(SOURCE, seed=seed))) for seed in (0, 1))
    head = "smallconvnet, transfer, 3 epochs"
    assert names(one, other) == [f"{head} (start.weights.seed=0)", f"{head} (start.weights.seed=1)"]


def test_learners_that_start_from_other_kinds_of_weights_are_told_apart_by_the_kind():
    """Not by everything that one kind has and the other lacks."""
    head, trained = "smallconvnet, transfer, 3 epochs", replace(PLAIN, start=Transfer(weights=SOURCE))
    others = [replace(PLAIN, start=Transfer(weights=each)) for each in (File(path=Path("w.safetensors")), Own())]
    assert names(trained, *others, PLAIN) == [
        f"{head} (start.weights=trained)",
        f"{head} (start.weights=file)",
        f"{head} (start.weights=own)",
        "smallconvnet, 3 epochs",
    ]
    again = replace(PLAIN, start=Transfer(weights=replace(SOURCE, seed=7)))
    assert names(trained, again, others[1]) == [
        f"{head} (start.weights=trained, start.weights.seed=4)",
        f"{head} (start.weights=trained, start.weights.seed=7)",
        f"{head} (start.weights=own)",
    ]


def test_what_is_switched_off_is_told_apart_from_what_is_set():
    found = names(PLAIN, replace(PLAIN, augmentation=None))
    assert found == [
        "smallconvnet, 3 epochs (augmentation=4.0 True bilinear 0.0)",
        "smallconvnet, 3 epochs (augmentation=None)",
    ]
    one, other = names(PLAIN, replace(PLAIN, augmentation=Augmentation(shift=1.0)))
    assert one.endswith("(augmentation.shift=4.0)")
    assert other.endswith("(augmentation.shift=1.0)")


def test_learners_of_other_names_are_left_as_they_are():
    assert names(PLAIN, SGD(model=MLP())) == ["smallconvnet, 3 epochs", "mlp, 40 epochs"]


def test_one_setting_that_tells_all_apart_is_enough():
    """Where a network and the pretraining of it differ, the network is named; where none is enough, all are."""
    nets = [SmallConvNet(widths=(4, width)) for width in (6, 7)]
    one, other = (
        replace(PLAIN, model=net, start=Transfer(weights=replace(SOURCE, learner=replace(SOURCE.learner, model=net))))
        for net in nets
    )
    head = "smallconvnet, transfer, 3 epochs"
    assert names(one, other) == [f"{head} (model.widths=[4, 6])", f"{head} (model.widths=[4, 7])"]
    third = [replace(PLAIN, lr=lr, momentum=momentum) for lr, momentum in ((0.1, 0.9), (0.1, 0.5), (0.2, 0.5))]
    assert names(*third) == [
        "smallconvnet, 3 epochs (lr=0.1, momentum=0.9)",
        "smallconvnet, 3 epochs (lr=0.1, momentum=0.5)",
        "smallconvnet, 3 epochs (lr=0.2, momentum=0.5)",
    ]


def test_equal_things_are_numbered():
    assert distinct([PLAIN, PLAIN], ["a", "a"]) == ["a (number 1)", "a (number 2)"]
