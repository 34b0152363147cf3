"""The problems that all sides are given, made from their numbers; networks are trained once and kept in a folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, Any]
EPS = 32 / 255
SHIFT: dict[str, Any] = {"shift": 1, "flip": False}
"""Augmentation of the quickstart's victims."""
QUICK: dict[str, Any] = {"widths": [16, 32, 64], "pools": [1, 2, 3]}
"""The network of the quickstart."""
WIDE: dict[str, Any] = {"widths": [32, 32, 64, 64, 64], "pools": [2, 4]}
"""27 million multiply-adds an image."""
TRANSFER: dict[str, Any] = {"widths": [16, 32, 64, 256], "pools": [1, 2, 3]}
"""The network of polytope-mini."""
BUNDLED = 2531
"""Training rows of the bundled images."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """A network trained on clean rows, and what it was trained on."""

    model: Any
    train: Any
    test: Any
    victim: Any
    """How victims train."""


@cache
def quickstart(folder: Path) -> Known:
    """Network, recipe and data of the quickstart, one surrogate of the victims' kind."""
    return surrogate(folder, network=QUICK, part="", epochs=20)


@cache
def wide(folder: Path) -> Known:
    """A larger network, trained for three epochs."""
    return surrogate(folder, network=WIDE, part="", epochs=3)


@cache
def transfer_source(folder: Path) -> Known:
    """The network whose head is trained anew; victims start from its weights, as in a white-box transfer."""
    from dataclasses import replace

    from mithridate.learners.recipes import recipe
    from mithridate.learners.start import Transfer
    from mithridate.learners.weights import File

    known = surrogate(folder, network=TRANSFER, part="0:380", epochs=12)
    weights = File(path=kept(folder, TRANSFER, "0:380"))
    model = known.victim.model
    return replace(known, victim=recipe("convex-polytope-transfer", model=model, start=Transfer(weights=weights)))


@cache
def transfer_data() -> Any:
    """The 500 rows that heads are trained on, with the test rows."""
    from mithridate.datasets.bundled import Bundled

    return Bundled(per_class="380:480").load()


def kept(folder: Path, network: Mapping[str, Any], part: str) -> Path:
    """Where a surrogate is kept."""
    return folder / f"surrogate-{'-'.join(map(str, network['widths']))}-{part.replace(':', '-') or 'all'}.safetensors"


def surrogate(folder: Path, *, network: Mapping[str, Any], part: str, epochs: int) -> Known:
    """A network trained on (some of) the bundled images, with the settings of the quickstart's victims."""
    from safetensors.torch import load_file, save_file

    from mithridate.datasets.bundled import Bundled
    from mithridate.learners.augment import Augmentation
    from mithridate.learners.recipes import recipe
    from mithridate.models.smallconvnet import SmallConvNet
    from mithridate.seeding import Seed

    data = Bundled(per_class=part).load()
    model = SmallConvNet(widths=tuple(network["widths"]), pools=tuple(network["pools"]))
    learner = recipe("cpu-fast", model=model, epochs=epochs, augmentation=Augmentation(**SHIFT))
    place = kept(folder, network, part)
    if not place.exists():
        state = learner.fit(data.train, seed=Seed(0).child("surrogate")).model.state_dict()
        save_file({name: value.contiguous() for name, value in state.items()}, place)
    built = learner.build(data.train.space, Seed(0))
    built.load_state_dict(load_file(place))
    return Known(model=built.eval(), train=data.train, test=data.test, victim=learner)


# Crafting


def crafting_problem(number: int, model: Any, *, data: Any, budget: float, eps: float) -> Arrays:
    """Base rows and a target that the surrogate calls by its right name, drawn as in a trial of ours."""
    import torch

    from mithridate.goal import Misclassify
    from mithridate.learner import predictions
    from mithridate.seeding import Seed
    from mithridate.threat import Linf, ThreatModel

    seed = Seed(number)
    right = predictions(model, data.test.all_inputs()).argmax(1) == data.test.labels
    aims = Misclassify().draw(data.train, data.test.at(right), seed.child("goal")).known
    assert aims.wanted is not None
    threat = ThreatModel(budget=budget, perturbation=Linf(radius=eps))
    base = data.train.rows(threat.pick(data.train, aims, seed.child("craft", "pick")))
    space = data.train.space
    shown = {"shape": space.shape, "mean": space.mean, "std": space.std, "num_classes": space.num_classes}
    arrays = {
        "space": np.array(json.dumps(shown)),
        "eps": np.array(eps),
        "base": base.all_inputs().numpy(),
        "base_labels": base.labels.numpy(),
        "base_ids": base.ids.numpy(),
        "target": aims.inputs.numpy(),
        "true": aims.labels.numpy(),
        "wanted": aims.wanted.numpy(),
    }
    state: dict[str, torch.Tensor] = model.state_dict()
    return {**arrays, **{f"w:{name}": value.numpy() for name, value in state.items()}}


def brewing(number: int, folder: Path) -> Arrays:
    """As in the quickstart: 5 % of five classes, eps 32/255, one surrogate for all trials."""
    known = quickstart(folder)
    return crafting_problem(number, known.model, data=known, budget=0.05, eps=EPS)


def brewing_wide(number: int, folder: Path) -> Arrays:
    """100 poisons and a network of 27 million multiply-adds an image, trained for three epochs."""
    known = wide(folder)
    return crafting_problem(number, known.model, data=known, budget=100 / BUNDLED, eps=EPS)


def transferring(number: int, folder: Path) -> Arrays:
    """Five poisons among 500 rows on which a pretrained network's head is trained anew (1 %), eps 0.1."""
    return crafting_problem(number, transfer_source(folder).model, data=transfer_data(), budget=0.01, eps=0.1)


# Features


def marked_features(number: int, folder: Path) -> Arrays:
    """Penultimate features of a network that learned a patch: 5 % of the bundled rows carry it, relabelled."""
    import torch

    from mithridate.datasets.bundled import Bundled
    from mithridate.learners.recipes import recipe
    from mithridate.models.smallconvnet import SmallConvNet
    from mithridate.seeding import Seed

    place = folder / f"marked-{number}.npz"
    if not place.exists():
        data = Bundled().load().train
        draws = torch.Generator().manual_seed(number)
        others = (data.labels != 0).nonzero().flatten()
        chosen = others[torch.randperm(len(others), generator=draws)[: len(data) // 20]]
        inputs, labels = data.inputs.clone(), data.labels.clone()
        inputs[chosen, :, -5:, -5:] = torch.tensor([255, 0, 255], dtype=torch.uint8)[:, None, None]
        labels[chosen] = 0
        marked = type(data).of(inputs, labels, space=data.space)
        model = SmallConvNet(widths=tuple(QUICK["widths"]), pools=tuple(QUICK["pools"]))
        network = recipe("cpu-fast", model=model, epochs=10).fit(marked, seed=Seed(number)).model
        with torch.no_grad():
            found = torch.cat([network.features(part) for part in torch.split(marked.all_inputs(), 512)])
        poisoned = torch.zeros(len(labels), dtype=torch.bool).index_fill(0, chosen, value=True)
        np.savez(place, features=found.float().numpy(), labels=labels.numpy(), poisoned=poisoned.numpy())
    with np.load(place) as stored:
        return {name: stored[name] for name in stored.files}


def wide_features(number: int, folder: Path) -> Arrays:
    """As many as CIFAR-10 has: 10 classes of 5,000 rows, 512 rectified features, 250 rows of class 0 shifted."""
    draws = np.random.default_rng(number)
    labels = np.repeat(np.arange(10), 5000)
    mixing = draws.normal(size=(512, 64)) / 8
    latent = draws.normal(size=(len(labels), 64)) + 3 * draws.normal(size=(10, 64))[labels]
    poisoned = np.zeros(len(labels), dtype=bool)
    poisoned[draws.choice(5000, 250, replace=False)] = True
    latent[poisoned] += 4 * draws.normal(size=64) / 2
    features = np.maximum(latent @ mixing.T + 0.3 * draws.normal(size=(len(labels), 512)), 0).astype(np.float32)
    return {"features": features, "labels": labels, "poisoned": poisoned}


def softmax_rows(number: int, folder: Path) -> Arrays:
    """A class of 5,000 rows, each the softmax output less its one-hot label, as in the middle of training."""
    draws = np.random.default_rng(number)
    logits = draws.normal(size=(5000, 10))
    logits[:, 0] += draws.gamma(3.0, 1.5, size=5000) - 1
    shown = np.exp(1.5 * logits - (1.5 * logits).max(1, keepdims=True))
    points = shown / shown.sum(1, keepdims=True)
    points[:, 0] -= 1
    return {"points": points.astype(np.float32)}


def image_rows(number: int, folder: Path) -> Arrays:
    """64 rows of the bundled images; no noise in the first problem, so that gradients can be compared."""
    rows = np.random.default_rng(number).choice(BUNDLED, 64, replace=False)
    return {"rows": rows, "noise": np.array(float(number > 0))}
