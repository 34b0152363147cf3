"""What the peers do, each as its own documentation calls it. Run by a peer's interpreter (see ``peers_speed.py``).

Of Mithridate only the network's class is used, so that both sides run the same layers; it needs nothing but torch.
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from child import Given, Prepare, Work, serve


def version(*names: str) -> dict[str, str]:
    """Versions of what was measured."""
    return {name: metadata.version(name) for name in names}


def art_versions() -> dict[str, str]:
    """Of ART and what it runs on."""
    return version("adversarial-robustness-toolbox", "torch", "numpy", "scikit-learn")


def network(given: Given, settings: dict[str, Any]) -> Any:
    """The surrogate: the same class and the same weights as on our side."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "src"))
    import torch

    from mithridate.dataset import Space
    from mithridate.models.smallconvnet import SmallConvNet

    torch.set_num_threads(1)
    space = json.loads(str(given["space"]))
    shape, *moments = (tuple(space[name]) for name in ("shape", "mean", "std"))
    built = SmallConvNet(widths=tuple(settings["network"]["widths"]), pools=tuple(settings["network"]["pools"])).build(
        Space(shape=shape, num_classes=space["num_classes"], levels=256, mean=moments[0], std=moments[1])
    )
    built.load_state_dict({name[2:]: torch.from_numpy(given[name]) for name in given if name.startswith("w:")})
    return built.eval()


def classifier(model: Any, shape: tuple[int, ...], classes: int) -> Any:
    """ART's wrapper around a network."""
    import torch
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model=model,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=shape,
        nb_classes=classes,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )


def art_gradient_matching(given: Given, settings: dict[str, Any]) -> Work:
    """GradientMatchingAttack; it is given the base rows alone, of which it poisons all, so that both have the same."""
    import torch
    from art.attacks.poisoning import GradientMatchingAttack

    torch.manual_seed(settings["seed"])
    np.random.seed(settings["seed"])  # noqa: NPY002 (it draws from the global generator)
    base = given["base"]
    wrapped = classifier(network(given, settings), base.shape[1:], json.loads(str(given["space"]))["num_classes"])

    falls = [round(place * settings["steps"] / 250) for place in (100, 150, 200, 220)]  # its own, for 250 steps

    def craft() -> tuple[dict[str, Any], dict[str, Any]]:
        attack = GradientMatchingAttack(
            wrapped,
            learning_rate_schedule=([1e-1, 1e-2, 1e-3, 1e-4], falls),
            percent_poison=1.0,
            epsilon=float(given["eps"]),
            max_trials=settings["restarts"],
            max_epochs=settings["steps"],
            verbose=0,
        )
        poison, _ = attack.poison(given["target"], given["wanted"], base, given["base_labels"])
        return {"poison": poison}, art_versions()

    return craft


def art_bullseye(given: Given, settings: dict[str, Any]) -> Work:
    """BullseyePolytopeAttackPyTorch on the layer before the last."""
    import torch
    from art.attacks.poisoning.bullseye_polytope_attack import BullseyePolytopeAttackPyTorch

    torch.manual_seed(settings["seed"])
    base = given["base"]
    wrapped = classifier(network(given, settings), base.shape[1:], json.loads(str(given["space"]))["num_classes"])
    one_hot = np.eye(wrapped.nb_classes, dtype=np.float32)[given["base_labels"]]

    def craft() -> tuple[dict[str, Any], dict[str, Any]]:
        attack = BullseyePolytopeAttackPyTorch(
            wrapped,
            given["target"],
            "body",
            max_iter=settings["steps"],
            epsilon=float(given["eps"]),
            verbose=False,
            **settings.get("art", {}),
        )
        poison, _ = attack.poison(base, one_hot)
        return {"poison": poison}, {**art_versions(), "layers": list(wrapped.layer_names)}

    return craft


def features_classifier(given: Given) -> Any:
    """A classifier whose only layer shows the features it is given."""
    import torch

    torch.set_num_threads(1)
    width = given["features"].shape[1]
    return classifier(torch.nn.Sequential(torch.nn.Identity()), (width,), int(given["labels"].max()) + 1)


def art_spectral(given: Given, settings: dict[str, Any]) -> Work:
    """SpectralSignatureDefense, told the share of each class that makes it remove as many rows as ours."""
    from art.defences.detector.poison import SpectralSignatureDefense

    wrapped = features_classifier(given)
    classes = wrapped.nb_classes

    def detect() -> tuple[dict[str, Any], dict[str, Any]]:
        defence = SpectralSignatureDefense(
            wrapped,
            given["features"],
            given["labels"],
            expected_pp_poison=settings["expected"] * classes,
            eps_multiplier=settings["multiplier"],
        )
        _, clean = defence.detect_poison()
        return {"flagged": np.asarray(clean) == 0}, art_versions()

    return detect


def art_clustering(given: Given, settings: dict[str, Any]) -> Work:
    """ActivationDefence with its default analysis, or with the one that ours resembles."""
    from art.defences.detector.poison import ActivationDefence

    wrapped = features_classifier(given)
    np.random.seed(settings["seed"])  # noqa: NPY002 (scikit-learn draws from the global generator)

    def detect() -> tuple[dict[str, Any], dict[str, Any]]:
        defence = ActivationDefence(wrapped, given["features"], given["labels"])
        _, clean = defence.detect_poison(nb_clusters=2, nb_dims=10, reduce="PCA", cluster_analysis=settings["analysis"])
        return {"flagged": np.asarray(clean) == 0}, art_versions()

    return detect


def submodlib_medoids(given: Given, settings: dict[str, Any]) -> Work:
    """FacilityLocationFunction with its own Euclidean kernel, lazily."""
    from submodlib import FacilityLocationFunction

    points, count = given["points"], settings["count"]

    def pick() -> tuple[dict[str, Any], dict[str, Any]]:
        function = FacilityLocationFunction(n=len(points), mode="dense", data=points, metric="euclidean")
        picked = function.maximize(
            budget=count,
            optimizer="LazyGreedy",
            stopIfZeroGain=False,
            stopIfNegativeGain=False,
            verbose=False,
            show_progress=False,
        )
        return {"chosen": np.array([int(each) for each, _ in picked])}, version("submodlib-py", "numpy")

    return pick


def apricot_medoids(given: Given, settings: dict[str, Any]) -> Work:
    """FacilityLocationSelection on the same kernel, computed beforehand as its users do, lazily."""
    from apricot import FacilityLocationSelection
    from sklearn.metrics import pairwise_distances

    points, count = given["points"].astype(np.float64), settings["count"]

    def pick() -> tuple[dict[str, Any], dict[str, Any]]:
        similarity = np.exp(-pairwise_distances(points) / points.shape[1])
        chosen = FacilityLocationSelection(count, metric="precomputed", optimizer="lazy").fit(similarity).ranking
        return {"chosen": np.asarray(chosen)}, version("apricot-select", "numpy", "numba")

    return pick


TABLE: dict[str, Prepare] = {
    each.__name__: each
    for each in (
        art_gradient_matching,
        art_bullseye,
        art_spectral,
        art_clustering,
        submodlib_medoids,
        apricot_medoids,
    )
}

if __name__ == "__main__":
    sys.exit(serve(TABLE))
