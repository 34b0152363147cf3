"""What Ray costs: a small campaign on a Ray node of one processor, and one job after another in this process.

    python benchmarks/ray_overhead.py [--rounds 3] [--epochs 800]

Both sides run the same campaign alternately, each time in a fresh folder; a job takes about a second. Ray is started
and its worker has done a job of each kind before the clock runs, since that is paid once in a campaign. Ray's side has
data, poison and surrogates go through the object store and files written by the driver, as on a cluster. The overhead
is the time that passes outside jobs, as a share of the time inside them, which a busy machine slows on both sides; the
ratio of both sides' whole times is given too. Also timed: jobs of exactly one second that do nothing. Writes
``benchmarks/results/ray-overhead.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mithridate import config, runtime
from mithridate.executor import Executor, Work
from mithridate.executors.cluster import Cluster
from mithridate.executors.local import Local
from mithridate.experiment import Experiment, Job
from mithridate.portable import Portable
from mithridate.watch import Step, Watch
from mithridate.work import Result

PLACE = Path(__file__).parent / "results" / "ray-overhead.json"


def one_second(job: Job, watch: Watch) -> list[Result]:
    """Do nothing for a second."""
    time.sleep(1.0)
    return [Result(key=job.key, kind="craft", row={"inside": 1.0, "cpu": 0.0})]


def experiment(epochs: int, *, trials: int = 3, runs: int = 3) -> Experiment:
    """A campaign on the small digits, with steps and epochs to make jobs take a second or so."""
    return config.parse(
        Experiment,
        {
            "name": "overhead",
            "data": {"name": "digits"},
            "threat": {"budget": "5 %", "perturbation": {"name": "linf", "radius": "64/255"}},
            "attacks": [{"name": "gradient-matching", "steps": epochs // 2, "restarts": 1}],
            "victims": [
                {
                    "model": {"name": "mlp", "hidden": [32]},
                    "epochs": epochs // 20,
                    "batch_size": 64,
                    "augmentation": None,
                }
            ],
            "trials": trials,
            "runs": runs,
            "controls": {"clean": 1, "noise": 1},
        },
    )


@dataclass(frozen=True, kw_only=True)
class Timed(Portable):
    """Jobs that say how long they took, from the call to the return."""

    def __call__(self, job: Job, watch: Watch) -> list[Result]:
        """Do one job."""
        began, cpu = time.perf_counter(), time.process_time()
        found = super().__call__(job, watch)
        spent = {"inside": time.perf_counter() - began, "cpu": time.process_time() - cpu}
        return [replace(found[0], row={**found[0].row, **spent}), *found[1:]]


def campaign(executor: Executor, what: Experiment) -> dict[str, float]:
    """How long a campaign takes, and how much of it was spent inside jobs."""
    with tempfile.TemporaryDirectory() as folder:
        return timed(executor, Timed(experiment=what, folder=Path(folder), device="cpu"), what.jobs())


def timed(executor: Executor, work: Work, jobs: list[Job]) -> dict[str, float]:
    """Seconds for some jobs, in all and inside them; raises where one failed."""
    began = time.perf_counter()
    ends = list(executor.map(work, jobs, report=nobody))
    whole = time.perf_counter() - began
    if errors := [each.error for each in ends if each.error]:
        raise SystemExit(errors[0])
    rows = [each.results[0].row for each in ends]
    inside, cpu = (sum(row[name] for row in rows) for name in ("inside", "cpu"))
    return {"jobs": len(jobs), "seconds": whole, "inside": inside, "cpu": cpu, "overhead": whole / inside - 1}


def nobody(job: Job, step: Step) -> None:
    """Hear no reports."""


def main() -> int:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=800)
    given = parser.parse_args()
    torch.set_num_threads(1)
    import ray

    began = time.perf_counter()
    # the same priority as this process, which Ray's workers do not have of themselves
    settings: dict[str, Any] = {"include_dashboard": False, "_system_config": {"worker_niceness": 0}}
    ray.init("local", num_cpus=1, log_to_driver=False, logging_level="error", **settings)
    cluster, here = Cluster(), Local()
    campaign(cluster, experiment(20, trials=1, runs=1))
    started = time.perf_counter() - began
    campaign(here, experiment(20, trials=1, runs=1))
    rounds = []
    for _ in range(given.rounds):
        rounds.append(
            {"ray": campaign(cluster, experiment(given.epochs)), "local": campaign(here, experiment(given.epochs))}
        )
        print(*(f"{side}: {found}" for side, found in rounds[-1].items()), sep="\n", flush=True)
    idle = timed(cluster, one_second, [Job(kind="craft", trial=k, key=str(k)) for k in range(20)])
    ray.shutdown()
    sides = [(each["ray"], each["local"]) for each in rounds]
    found = {
        "command": "python benchmarks/ray_overhead.py " + " ".join(sys.argv[1:]),
        "versions": {name: version(name) for name in ("mithridate", "ray", "torch")},
        "machine": {**runtime.describe(torch.device("cpu")), "load average": list(os.getloadavg())},
        "rounds": rounds,
        "overhead, median": statistics.median(there["overhead"] for there, _ in sides),
        "overhead of local, median": statistics.median(local["overhead"] for _, local in sides),
        "ray / local, whole time, median": statistics.median(
            there["seconds"] / local["seconds"] for there, local in sides
        ),
        "ray / local, processor time in jobs, median": statistics.median(
            there["cpu"] / local["cpu"] for there, local in sides
        ),
        "jobs of one second that do nothing": idle,
        "seconds to start Ray and its first worker, once": started,
    }
    PLACE.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"overhead {found['overhead, median']:.1%} in campaigns, {idle['overhead']:.1%} for jobs that do nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
