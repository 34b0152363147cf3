"""What Mithridate does in each case, in a process of its own (see ``child.py``)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any, ClassVar

import numpy as np
import torch
from child import Given, Prepare, Work, serve
from torch import Tensor, nn

from mithridate.attack import Attack, craft
from mithridate.checkpoint import Checkpoint
from mithridate.dataset import Dataset, Space
from mithridate.datasets.bundled import Bundled
from mithridate.defense import Filter
from mithridate.defenses.activation_clustering import ActivationClustering
from mithridate.defenses.dp_sgd import DPSGD, PrivateSteps
from mithridate.defenses.spectral_signatures import SpectralSignatures
from mithridate.goal import Aims
from mithridate.learner import Around, Batch, Hook, Progress
from mithridate.learners.recipes import recipe
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.ops import medoids
from mithridate.ops.group_norm import GroupNormed
from mithridate.seeding import Seed
from mithridate.threat import Linf, ThreatModel

VERSIONS = {name: metadata.version(name) for name in ("mithridate", "torch", "numpy", "scikit-learn")}


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained(Around):
    """A learner whose training is over: it hands out the weights it was given."""

    name: ClassVar[str] = "trained-before"

    weights: dict[str, Tensor]
    """The state of the network."""

    def build(self, space: Space, seed: Seed) -> Any:
        """The network with these weights."""
        model = self.learner.build(space, seed)
        model.load_state_dict(self.weights)
        return model.eval()

    def train(
        self, data: Dataset, *, seed: Seed, hooks: Sequence[Hook] = (), resume: Checkpoint | None = None
    ) -> Iterator[Progress]:
        """Nothing is left to do."""
        yield Progress(epoch=1, epochs=1, model=self.build(data.space, seed), loss=0.0, accuracy=1.0)


def crafting(given: Given, settings: dict[str, Any], attack: Attack) -> Work:
    """A whole crafting, on the base rows and with the surrogate of the problem."""
    torch.set_num_threads(1)
    data = Bundled(**settings["data"]).load().train
    ids = tuple(given["base_ids"].tolist())
    wanted, true = torch.from_numpy(given["wanted"]), torch.from_numpy(given["true"])
    aims = Aims(inputs=torch.from_numpy(given["target"]), labels=true, wanted=wanted)
    threat = ThreatModel(budget=len(ids) / len(data), perturbation=Linf(radius=float(given["eps"])), base_ids=ids)
    model = SmallConvNet(widths=tuple(settings["network"]["widths"]), pools=tuple(settings["network"]["pools"]))
    learner = Trained(
        learner=recipe(settings["recipe"], model=model, **augmentation(settings)),
        weights={name[2:]: torch.from_numpy(given[name]) for name in given if name.startswith("w:")},
    )

    def work() -> tuple[dict[str, Any], dict[str, Any]]:
        poison = craft(attack, data, threat=threat, aims=aims, surrogates=[learner], seed=Seed(settings["seed"]))
        if poison.rows.ids.tolist() != list(ids):
            raise SystemExit("other rows were poisoned than those of the peer")
        return {"poison": poison.rows.all_inputs().numpy()}, VERSIONS

    return work


def augmentation(settings: dict[str, Any]) -> dict[str, Any]:
    """What the victims do to their images, where the problem says so."""
    from mithridate.learners.augment import Augmentation

    return {"augmentation": Augmentation(**settings["augmentation"])} if "augmentation" in settings else {}


def gradient_matching(given: Given, settings: dict[str, Any]) -> Work:
    """Witches' Brew."""
    from mithridate.attacks.gradient_matching import GradientMatching

    chosen = {name: settings[name] for name in ("steps", "step_size", "restarts", "augment") if name in settings}
    return crafting(given, settings, GradientMatching(**chosen))


def bullseye(given: Given, settings: dict[str, Any]) -> Work:
    """Bullseye Polytope on the layer before the last."""
    from mithridate.attacks.bullseye_polytope import BullseyePolytope

    return crafting(given, settings, BullseyePolytope(steps=settings["steps"]))


def filtering(given: Given, settings: dict[str, Any], defense: Filter) -> Work:
    """A filter on features."""
    torch.set_num_threads(1)
    features, labels = torch.from_numpy(given["features"]), torch.from_numpy(given["labels"])
    space = Space(shape=(1,), num_classes=int(labels.max()) + 1)
    data = Dataset.of(torch.zeros(len(labels), 1), labels, space=space)

    def work() -> tuple[dict[str, Any], dict[str, Any]]:
        verdict = defense.judge(features, data, seed=Seed(settings["seed"]))
        return {"flagged": verdict.flagged.numpy()}, VERSIONS

    return work


def spectral(given: Given, settings: dict[str, Any]) -> Work:
    """Spectral signatures."""
    told = SpectralSignatures(expected=settings["expected"], multiplier=settings["multiplier"])
    return filtering(given, settings, told)


def clustering(given: Given, settings: dict[str, Any]) -> Work:
    """Activation clustering."""
    return filtering(given, settings, ActivationClustering())


def facility_location(given: Given, settings: dict[str, Any]) -> Work:
    """Medoids, with numba or without."""
    torch.set_num_threads(1)
    if not settings["numba"]:
        medoids._compiled_greedy = lambda: None  # type: ignore[assignment]
    elif medoids._compiled_greedy() is None:
        raise SystemExit("numba is not installed")
    points = torch.from_numpy(given["points"])

    def work() -> tuple[dict[str, Any], dict[str, Any]]:
        return {"chosen": medoids.facility_location(points, settings["count"]).chosen.numpy()}, VERSIONS

    return work


def private_network(given: Given) -> tuple[nn.Module, Batch, Dataset]:
    """A network without batch normalisation, and a batch for it."""
    torch.set_num_threads(1)
    data = Bundled().load().train.at(torch.from_numpy(given["rows"]))
    with Seed(0).scope():
        model = GroupNormed(model=SmallConvNet()).build(data.space)
    return model.train(), Batch(inputs=data.all_inputs(), labels=data.labels, ids=data.ids), data


def private_step(given: Given, settings: dict[str, Any]) -> Work:
    """A step of DP-SGD: gradients of rows, clipped, added up, noise, SGD."""
    model, batch, data = private_network(given)
    size = len(batch.inputs)
    hook = PrivateSteps(DPSGD(noise_multiplier=float(given["noise"]), chunk=settings["chunk"]), epochs=1)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    draws = torch.Generator().manual_seed(0)

    def work() -> tuple[dict[str, Any], dict[str, Any]]:
        hook._rate, hook._rows, hook._due = 1.0, size, [size]  # the batch is given, not drawn
        hook.backward(model, batch, draws)  # type: ignore[arg-type]
        made = gradients(model)
        optimiser.step()
        return made, {**VERSIONS, "rows": len(data)}

    return work


def opacus_step(given: Given, settings: dict[str, Any]) -> Work:
    """The same step by Opacus: its module with hooks, its optimizer."""
    from opacus import GradSampleModule
    from opacus.optimizers import DPOptimizer

    model, batch, _ = private_network(given)
    for each in model.modules():
        if isinstance(each, nn.ReLU):
            each.inplace = False  # its hooks need what was there before
    wrapped = GradSampleModule(model, loss_reduction="mean")
    optimiser = DPOptimizer(
        torch.optim.SGD(wrapped.parameters(), lr=0.05),
        noise_multiplier=float(given["noise"]),
        max_grad_norm=1.0,
        expected_batch_size=len(batch.inputs),
    )

    def work() -> tuple[dict[str, Any], dict[str, Any]]:
        optimiser.zero_grad()
        nn.functional.cross_entropy(wrapped(batch.inputs), batch.labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return gradients(model), {**VERSIONS, "opacus": metadata.version("opacus")}

    return work


def gradients(model: nn.Module) -> dict[str, Any]:
    """Of all parameters, as they stand, in one row."""
    found = [each.grad.flatten() for each in model.parameters() if each.grad is not None]
    return {"gradient": torch.cat(found).detach().numpy().astype(np.float64)}


TABLE: dict[str, Prepare] = {
    each.__name__: each
    for each in (gradient_matching, bullseye, spectral, clustering, facility_location, private_step, opacus_step)
}

if __name__ == "__main__":
    sys.exit(serve(TABLE))
