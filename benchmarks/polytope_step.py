"""What a crafting step costs: Convex against Bullseye Polytope; exact coefficients against forward-backward splitting.

    python benchmarks/polytope_step.py [--rounds 9] [--steps 20]

Both attacks are timed in turn in one process, on the same networks, one thread, and quoted as a ratio of medians over
rounds (published: Convex takes 12 times as long). ``splitting`` is the method of the paper's code, as
:mod:`mithridate.bench.plain.polytope` has it: forward-backward splitting on the full features, one network at a time,
from equal coefficients. Writes
``benchmarks/results/polytope-step.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from mithridate import runtime
from mithridate.attacks.bullseye_polytope import BullseyePolytope
from mithridate.attacks.convex_polytope import ConvexPolytope
from mithridate.bench.cases.polytope import features
from mithridate.bench.plain.polytope import miss, one_by_one
from mithridate.dataset import Dataset, Space
from mithridate.feature_attack import FeatureAttack
from mithridate.goal import Aims
from mithridate.models.resnet import ResNet18
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.ops.simplex import coefficients
from mithridate.seeding import Seed
from mithridate.threat import Linf, ThreatModel

SPACE = Space(shape=(3, 32, 32), num_classes=10, levels=256, mean=(0.5,) * 3, std=(0.25,) * 3)
PLACE = Path(__file__).parent / "results" / "polytope-step.json"


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=20)
    asked = parser.parse_args()
    runtime.use_threads(1)
    device = torch.device("cpu")
    small = SmallConvNet(widths=(16, 32, 64, 256), pools=(1, 2, 3))
    cases = [
        ("smallconvnet, 1 network, 5 poisons", [small], 5),
        ("smallconvnet, 4 networks, 5 poisons", [small] * 4, 5),
        ("smallconvnet, 1 network, 25 poisons", [small], 25),
        ("resnet18 of width 16, 1 network, 5 poisons", [ResNet18(width=16)], 5),
    ]
    found = [stepped(name, models, k, rounds=asked.rounds, steps=asked.steps) for name, models, k in cases]
    found += [solved(18, 5, 512, rounds=asked.rounds), solved(18, 25, 512, rounds=asked.rounds)]
    result = {
        "name": "polytope-step",
        "about": "Milliseconds of wall time, medians over rounds; the two sides of every case in turn, in one process.",
        "command": f"python benchmarks/polytope_step.py --rounds {asked.rounds} --steps {asked.steps}",
        "environment": runtime.describe(device),
        "core_seconds": 0,
        "measured": found,
    }
    PLACE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))
    return 0


def stepped(name: str, models: list[Any], count: int, *, rounds: int, steps: int) -> dict[str, Any]:
    """Milliseconds of a step of both attacks."""
    with Seed(0).scope():
        networks = [model.build(SPACE) for model in models]
    draws = torch.Generator().manual_seed(1)
    images = SPACE.encode(torch.rand(count + 1, 3, 32, 32, generator=draws))
    rows = Dataset.of(images[:count], torch.zeros(count, dtype=torch.int64), space=SPACE)
    aims = Aims(inputs=SPACE.decode(images[count:]), labels=torch.ones(1, dtype=torch.int64), wanted=rows.labels[:1])
    attacks: dict[str, FeatureAttack] = {
        "bullseye": BullseyePolytope(steps=steps),
        "convex": ConvexPolytope(steps=steps),
    }
    threat = ThreatModel(perturbation=Linf(radius=0.1))

    def craft(attack: FeatureAttack) -> None:
        attack.craft_together([rows], [aims], threat=threat, networks=networks, seed=Seed(2))

    times = alternately({kind: lambda attack=attack: craft(attack) for kind, attack in attacks.items()}, rounds)
    bullseye, convex = (1000 * statistics.median(times[kind]) / steps for kind in ("bullseye", "convex"))
    ratios = [c / b for b, c in zip(times["bullseye"], times["convex"], strict=True)]
    return {
        "case": name,
        "bullseye_ms": round(bullseye, 3),
        "convex_ms": round(convex, 3),
        "convex_over_bullseye": round(statistics.median(ratios), 3),
        "ratio_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "rounds": rounds,
    }


def solved(problems: int, count: int, width: int, *, rounds: int) -> dict[str, Any]:
    """Milliseconds for the coefficients of several networks."""
    points, targets = features(problems, count, width)
    worst = 0.0
    for ours, other, p, t in zip(
        coefficients(points, targets), one_by_one(points, targets), points.double(), targets.double(), strict=True
    ):
        worst = max(worst, miss(ours, p, t) - miss(other, p, t))

    times = alternately(
        {"ours": lambda: coefficients(points, targets), "splitting": lambda: one_by_one(points, targets)}, rounds
    )
    ours, theirs = (1000 * statistics.median(times[side]) for side in ("ours", "splitting"))
    return {
        "case": f"coefficients of {problems} networks, {count} poisons, {width} features",
        "exact_ms": round(ours, 3),
        "splitting_ms": round(theirs, 2),
        "times_faster": round(theirs / ours, 1),
        "worst_excess_of_exact": worst,
        "rounds": rounds,
    }


def alternately(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Wall seconds of each side in every round, after one that does not count."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            if turn:
                found[name].append(time.perf_counter() - started)
    return found


if __name__ == "__main__":
    sys.exit(main())
