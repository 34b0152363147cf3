"""What Ray costs: a small campaign on a Ray node of one processor, and one job after another in this process.

    python benchmarks/ray_overhead.py [--rounds 3] [--epochs 800]

Both sides run the same campaign alternately, each time in a fresh folder; a job takes about a second. Ray is started
and its worker has done a job of each kind before the clock runs, since that is paid once in a campaign. Ray's side has
data, poison and surrogates go through the object store and files written by the driver, as on a cluster. Also timed:
jobs of exactly one second that do nothing. Writes ``benchmarks/results/ray-overhead.json``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
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
    return []


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


def seconds(executor: Executor, what: Experiment) -> tuple[float, int]:
    """How long a campaign takes, and how many jobs it has."""
    with tempfile.TemporaryDirectory() as folder:
        work = Portable(experiment=what, folder=Path(folder), device="cpu")
        return timed(executor, work, what.jobs())


def timed(executor: Executor, work: Work, jobs: list[Job]) -> tuple[float, int]:
    """Seconds for some jobs, and their number; raises where one failed."""
    began = time.perf_counter()
    errors = [each.error for each in executor.map(work, jobs, report=nobody) if each.error]
    if errors:
        raise SystemExit(errors[0])
    return time.perf_counter() - began, len(jobs)


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
    seconds(cluster, experiment(20, trials=1, runs=1))
    started = time.perf_counter() - began
    seconds(here, experiment(20, trials=1, runs=1))
    pairs = []
    for _ in range(given.rounds):
        there, count = seconds(cluster, experiment(given.epochs))
        local, _ = seconds(here, experiment(given.epochs))
        pairs.append({"ray": there, "local": local, "ratio": there / local})
        print(f"{count} jobs: Ray {there:.1f} s, here {local:.1f} s ({local / count:.2f} s a job)", flush=True)
    sleeping, number = timed(cluster, one_second, [Job(kind="craft", trial=k, key=str(k)) for k in range(20)])
    ray.shutdown()
    ratio = statistics.median(each["ratio"] for each in pairs)
    found = {
        "command": "python benchmarks/ray_overhead.py " + " ".join(sys.argv[1:]),
        "versions": {name: version(name) for name in ("mithridate", "ray", "torch")},
        "machine": runtime.describe(torch.device("cpu")),
        "campaigns": pairs,
        "jobs": count,
        "seconds a job": statistics.median(each["local"] for each in pairs) / count,
        "overhead": ratio - 1,
        "overhead of jobs of one second that do nothing": sleeping / number - 1,
        "seconds to start Ray and its first worker, once": started,
    }
    PLACE.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"overhead {ratio - 1:.1%} in campaigns, {sleeping / number - 1:.1%} for jobs of one second that do nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
