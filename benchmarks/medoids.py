"""Measure greedy medoids against their targets on one core, with numba and without.

    python benchmarks/medoids.py [--skip-slow]

writes ``benchmarks/results/medoids.json``. The points are softmax outputs as of the middle of training: about three
quarters of the rows are called right, many of those with confidence. Each measurement is a process of its own, so that
its peak memory is its own; compilation (numba) comes before the clock starts and is reported by itself.
``load_before`` is how many processes wanted a core in the minute before; where others did, the CPU seconds say what
one core needs. ``--skip-slow`` leaves out 50 000 points without numba, which takes minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

RESULT = Path(__file__).resolve().parent / "results" / "medoids.json"
CASES = {
    "one class": {"points": 5_000, "classes": 1, "repeats": 7, "target_seconds": 1.5},
    "a CIFAR-10 round": {"points": 5_000, "classes": 10, "repeats": 3, "target_seconds": 15},
    "50 000 points": {"points": 50_000, "classes": 1, "repeats": 1, "target_seconds": 120, "target_megabytes": 500},
}
"""The targets are those of the issue; medoids are 10 % of the points of a class, and every point has 10 numbers."""
WIDTH = 10


def main() -> None:
    """Run every case with each engine, and write what was measured."""
    asked = arguments()
    if asked.case:
        print(json.dumps(measured(asked.case, asked.engine)))
        return
    started = time.monotonic()
    rows = []
    for case in CASES:
        for engine in ("numba", "torch"):
            if not (asked.skip_slow and case == "50 000 points" and engine == "torch"):
                rows.append(apart(case, engine))
                print(
                    {key: rows[-1][key] for key in ("case", "engine", "seconds", "cpu_seconds", "peak_megabytes")},
                    flush=True,
                )
    result = {
        "name": "medoids",
        "about": "Greedy facility location of softmax outputs on one core, against its targets.",
        "command": "python benchmarks/medoids.py" + (" --skip-slow" if asked.skip_slow else ""),
        "environment": rows[0].pop("environment"),
        "core_seconds": round(time.monotonic() - started),
        "measured": [{key: value for key, value in row.items() if key != "environment"} for row in rows],
        "rows": [],
    }
    RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def arguments() -> Any:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--skip-slow", action="store_true")
    parser.add_argument("--case", choices=list(CASES), help=argparse.SUPPRESS)
    parser.add_argument("--engine", choices=["numba", "torch"], help=argparse.SUPPRESS)
    return parser.parse_args()


def apart(case: str, engine: str) -> dict[str, Any]:
    """One measurement in a process of its own, on one thread."""
    command = [sys.executable, __file__, "--case", case, "--engine", engine]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measured(case: str, engine: str) -> dict[str, Any]:
    """Seconds and peak memory of a case, here and now."""
    import torch

    from mithridate import runtime
    from mithridate.ops import medoids

    torch.set_num_threads(1)
    compiled = medoids._compiled_greedy() if engine == "numba" else None
    if engine == "numba" and compiled is None:
        raise SystemExit("numba is not installed: pip install 'mithridate[fast]'")
    medoids._compiled_greedy = lambda: compiled  # type: ignore[assignment]
    size = CASES[case]
    points, labels = softmax_outputs(int(size["points"]), int(size["classes"]))
    counts = dict.fromkeys(range(int(size["classes"])), int(size["points"]) // 10)
    warm, before = time.perf_counter(), megabytes("VmRSS")
    medoids.facility_location(points[:100], 10)
    warm = time.perf_counter() - warm
    seconds, busy, load = [], [], os.getloadavg()[0]
    for _ in range(int(size["repeats"])):
        start, cpu = time.perf_counter(), time.process_time()
        found = medoids.by_class(points, labels, counts)
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - cpu)
    singletons = sum(int((each.sizes == 1).sum()) for _, each in found.values())
    return {
        "case": case,
        "engine": engine,
        **size,
        "medoids_a_class": int(size["points"]) // 10,
        "seconds": round(min(seconds), 3),
        "seconds_longest": round(max(seconds), 3),
        "cpu_seconds": round(min(busy), 3),
        "cpu_seconds_longest": round(max(busy), 3),
        "load_before": round(load, 1),
        "seconds_first_call": round(warm, 2),
        "peak_megabytes": round(megabytes("VmHWM")),
        "megabytes_before": round(before),
        "dense": medoids.dense(int(size["points"])),
        "singletons": singletons,
        "environment": {**runtime.describe(torch.device("cpu")), **version_of("numba"), "threads": 1},
    }


def softmax_outputs(points: int, classes: int) -> tuple[Any, Any]:
    """Outputs ``(points * classes, WIDTH)`` float32 and labels: the right logit leads by a gamma-distributed margin."""
    import torch

    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(points * classes) % classes
    logits = torch.randn(len(labels), WIDTH, generator=draws)
    margin = -1.5 * torch.rand(len(labels), 3, generator=draws).clamp_min(1e-12).log().sum(1) - 1  # gamma(3, 1.5) - 1
    logits[torch.arange(len(labels)), labels] += margin
    return (1.5 * logits).softmax(1), labels


def megabytes(field: str) -> float:
    """A field of this process's memory (Linux): VmRSS is what it holds now, VmHWM the most it held."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024 / 1e6
    raise SystemExit("peak memory can be read on Linux only")


def version_of(library: str) -> dict[str, str]:
    """The version of an optional library."""
    from importlib import metadata

    return {library: metadata.version(library)}


if __name__ == "__main__":
    main()
