"""White, grey, black: the words follow from who shares what with the victim, and from nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import torch

from mithridate.datasets.digits import Digits
from mithridate.defense import protect
from mithridate.defenses.mixup import Mixup
from mithridate.knowledge import box
from mithridate.learners.estimator import Estimator
from mithridate.learners.gradient_descent import GradientDescent
from mithridate.learners.sgd import SGD
from mithridate.learners.start import FineTune, Transfer
from mithridate.learners.weights import File, Own, Trained
from mithridate.models.mlp import MLP
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.models.wrapped import Wrapped

NET = SmallConvNet(widths=(4, 6))
OTHER = MLP(hidden=(8,))
RECIPE = SGD(model=NET, epochs=2)
SOURCE = Trained(data=Digits(), learner=RECIPE)


def on(weights, model=NET, kind=Transfer, **settings):
    return SGD(model=model, start=kind(weights=weights), **settings)


VICTIM = on(SOURCE)


def test_files_are_the_same_weights_wherever_they_lie(tmp_path):
    """One content under two paths is shared; another content is not."""
    for name, content in (("one", b"a"), ("copy", b"a"), ("other", b"b")):
        (tmp_path / name).write_bytes(content)
    one, copy, other = (on(File(path=tmp_path / name)) for name in ("one", "copy", "other"))
    assert box([one], copy) == "white-box"
    assert box([one], other) == "grey-box"


@pytest.mark.parametrize(
    ("surrogates", "victim", "expected"),
    [
        # the same pretrained weights, whatever is trained on them and how
        ([VICTIM], VICTIM, "white-box"),
        ([on(SOURCE, epochs=3, lr=0.5)], VICTIM, "white-box"),
        ([on(SOURCE, kind=FineTune)], VICTIM, "white-box"),
        ([VICTIM], on(SOURCE, kind=FineTune), "white-box"),
        ([on(Own())], on(Own()), "white-box"),
        # dropout while crafting is the attacker's own affair
        ([on(SOURCE, replace(NET, dropout=0.25))], VICTIM, "white-box"),
        # the same architecture, other weights: another seed, recipe, data or none at all
        ([on(replace(SOURCE, seed=1))], VICTIM, "grey-box"),
        ([on(replace(SOURCE, learner=replace(RECIPE, epochs=3)))], VICTIM, "grey-box"),
        ([on(replace(SOURCE, data=Digits(train_rows=50)))], VICTIM, "grey-box"),
        ([SGD(model=NET)], VICTIM, "grey-box"),
        ([on(SOURCE)], SGD(model=NET), "grey-box"),
        ([on(replace(SOURCE, seed=1), replace(NET, dropout=0.25))], VICTIM, "grey-box"),
        # from scratch nothing but the architecture can be shared, even where all settings are equal
        ([RECIPE], RECIPE, "grey-box"),
        # other architectures; a width is one
        ([SGD(model=OTHER)], VICTIM, "black-box"),
        ([SGD(model=replace(NET, widths=(4, 7)))], SGD(model=NET), "black-box"),
        ([on(Own(), OTHER)], on(Own()), "black-box"),
        ([SGD(model=Wrapped(factory="a:b"))], SGD(model=Wrapped(factory="a:c")), "black-box"),
        ([], VICTIM, "black-box"),
        # of an ensemble, the one that knows most
        ([SGD(model=OTHER), SGD(model=NET)], VICTIM, "grey-box"),
        ([SGD(model=OTHER), SGD(model=NET), VICTIM], VICTIM, "white-box"),
        ([SGD(model=OTHER), SGD(model=MLP(hidden=(9,)))], VICTIM, "black-box"),
    ],
)
def test_the_word_is_that_of_the_most_that_is_shared(surrogates, victim, expected):
    assert box(surrogates, victim) == expected
    assert box(surrogates[::-1], victim) == expected


def test_a_file_is_shared_by_those_who_read_it(tmp_path: Path):
    one, other = tmp_path / "one.safetensors", tmp_path / "other.safetensors"
    for value, path in enumerate((one, other)):
        safetensors.torch.save_file({"x": torch.tensor(value)}, path)
    assert box([on(File(path=one))], on(File(path=one))) == "white-box"
    assert box([on(File(path=one))], on(File(path=other))) == "grey-box"


def test_a_learner_of_another_kind_shares_what_it_is():
    """Nothing is known of its network, so only an equal one counts."""
    one, same, other = (protect(SGD(model=net), [Mixup()]) for net in (NET, NET, OTHER))
    assert box([one], same) == "grey-box"
    assert box([one], other) == "black-box"


@pytest.mark.parametrize(
    ("surrogate", "expected"),
    [(VICTIM, "grey-box"), (on(Own()), "grey-box"), (SGD(model=NET), "grey-box"), (SGD(model=OTHER), "black-box")],
)
def test_who_crafts_on_rows_of_its_own_knows_an_architecture_at_most(surrogate, expected):
    """Not even pretrained weights make it white-box: what is trained on them was trained on other rows."""
    assert box([surrogate], VICTIM, knows="own-rows") == expected


def test_linear_classifiers_have_one_architecture_whoever_trains_them():
    ours = GradientDescent(loss="logistic")
    for name in ("logistic-regression", "sklearn.svm:LinearSVC"):
        assert box([ours], Estimator(estimator=name)) == "grey-box"
    assert box([ours], Estimator(estimator="random-forest")) == "black-box"
    assert box([GradientDescent(hidden=3)], Estimator(estimator="logistic-regression")) == "black-box"


def test_gradient_descent_from_fixed_weights_shares_them():
    ours = GradientDescent(loss="logistic", steps=100)
    assert box([ours], GradientDescent(loss="logistic", steps=1500)) == "white-box"
    assert box([ours], GradientDescent(loss="squared")) == "grey-box"
    assert box([GradientDescent(hidden=3)], GradientDescent(hidden=3, steps=9)) == "grey-box"
    fixed = GradientDescent(hidden=3, initial_seed=1)
    assert box([fixed], GradientDescent(hidden=3, initial_seed=1, steps=9)) == "white-box"
