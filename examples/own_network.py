"""Try a poisoner on your own arrays and your own torch network, in a minute on a CPU.

python examples/own_network.py
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits
from torch import nn

import mithridate as mi


def network(num_classes: int) -> nn.Module:
    """Any network; its last layer is found by name."""
    layers = nn.Sequential(nn.Conv2d(1, 16, 3), nn.GELU(), nn.Flatten(), nn.Linear(16 * 36, 64), nn.GELU())
    layers.add_module("last", nn.Linear(64, num_classes))
    return layers


def main() -> None:
    """Craft, train, judge; then the same victim on clean data."""
    digits = load_digits()
    images = (digits.images * (255 / 16)).astype(np.uint8)
    data = mi.Arrays(
        x_train=images[:1400], y_train=digits.target[:1400], x_test=images[1400:], y_test=digits.target[1400:]
    ).load()
    threat = mi.ThreatModel(
        goal=mi.Misclassify(target=8, intended=1), budget=0.05, perturbation=mi.Linf(radius=64 / 255)
    )
    learner = mi.recipe(
        "cpu-fast", model=mi.Wrapped(factory=network, head="last"), epochs=10, augmentation=mi.Augmentation(shift=0.5)
    )
    attack = mi.GradientMatching(steps=60, restarts=1, step_size=0.2)
    trial = mi.Trial(attack=attack, threat=threat, surrogates=(learner,), victim=learner, seed=mi.Seed(0), victims=2)
    for outcome in trial.run(data):
        print(f"victim {outcome.victim + 1}: {outcome.metrics}")
    clean = learner.fit(data.train, seed=mi.Seed(1)).model
    print("trained on clean data:", mi.judge(clean, trial.goal(data).judged, data.test)[0])


if __name__ == "__main__":
    main()
