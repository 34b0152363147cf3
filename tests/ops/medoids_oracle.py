"""What another library picks: submodlib-py, the one that EPIC's release calls.

    python tests/ops/medoids_oracle.py > tests/ops/medoids_oracle.json

writes the frozen answers (numpy and submodlib-py installed); the tests compare with them everywhere, and with the
library itself where it can be imported.
"""

from __future__ import annotations

import json
from importlib import metadata

import numpy as np


def library_picks(points, count, kernel):
    """Positions and gains, in the order picked."""
    from submodlib import FacilityLocationFunction

    if kernel == "linear":  # which it does not have, so it is handed the matrix
        distance = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
        settings = {"sijs": 1 - distance / np.sqrt((np.ptp(points, axis=0) ** 2).sum()), "separate_rep": False}
    else:
        settings = {"data": points, "metric": {"exp": "euclidean", "cosine": "cosine"}[kernel]}
    function = FacilityLocationFunction(n=len(points), mode="dense", **settings)
    found = function.maximize(
        budget=count,
        optimizer="LazyGreedy",
        stopIfZeroGain=False,
        stopIfNegativeGain=False,
        show_progress=False,
    )
    return [int(i) for i, _ in found], [float(gain) for _, gain in found]


def example():
    """Thirty softmax-like points and thirty of any sign, three decimals, a few of them twice."""
    draws = np.random.default_rng(5)
    logits = 2 * draws.normal(size=(60, 4)) + np.array([2.0, 0, 0, 0])
    soft = np.exp(logits[:30]) / np.exp(logits[:30]).sum(1, keepdims=True)
    points = np.round(np.concatenate([soft, logits[30:]]), 3)
    points[[7, 19, 41]] = points[[3, 3, 35]]
    return points


def main():
    points, count = example(), 25
    answers = {}
    for kernel in ("exp", "linear", "cosine"):
        picks, gains = library_picks(points, count, kernel)
        answers[kernel] = {"picks": picks, "gains": gains}
    library = f"submodlib-py {metadata.version('submodlib-py')}"
    about = {"command": "python tests/ops/medoids_oracle.py > tests/ops/medoids_oracle.json", "library": library}
    print(json.dumps({**about, "points": points.tolist(), "answers": answers}))


if __name__ == "__main__":
    main()
