"""Measure status, report and tables over a run folder of a million rows, against their targets.

    python benchmarks/report_scale.py [--trials 1000] [--folder DIR]

writes ``benchmarks/results/report-scale.json``. The rows are made up (4 attacks, 5 scenarios, 2 victims, 6 stacks of
defenses, noise and clean controls), which takes minutes; ``--folder`` keeps them for another time. Each measurement is
a process of its own, started as a user starts it; the CPU seconds say what one core needs where others want it too
(``load_before`` is how many processes did in the minute before).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.report.fabricate_large import Size, fabricate_large  # noqa: E402 (the tests lie beside the benchmarks)

RESULT = ROOT / "benchmarks" / "results" / "report-scale.json"
TARGETS = {"status": 1.0, "report": 20.0}
"""Seconds, of the issue; for the report page and summary also 3 MB together."""
CASES = {
    "status": ("status",),
    "status --json": ("status", "--json"),
    "report": ("report",),
    "export --table csv": ("export", "--table", "csv", "--to", "table.csv"),
    "export --table parquet --rows": ("export", "--table", "parquet", "--rows", "--to", "rows.parquet"),
}
REPEATS = 3
"""Of which the fastest counts, for what takes less than a second or so."""


def main() -> None:
    """Make the rows, measure, write."""
    asked = arguments()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.folder or Path(scratch) / "run"
        size, made = Size(trials=asked.trials), None
        if not (folder / "store.sqlite").is_file():
            started = time.monotonic()
            fabricate_large(folder, size)
            made = round(time.monotonic() - started, 1)
        found = [measured(name, words, folder, Path(scratch)) for name, words in CASES.items()]
        result = {
            "name": "report-scale",
            "command": f"python benchmarks/report_scale.py --trials {asked.trials}",
            "environment": environment(),
            "networks": size.networks,
            "store_megabytes": round((folder / "store.sqlite").stat().st_size / 1e6),
            "seconds_to_make": made,
            "page_megabytes": round((folder / "report.html").stat().st_size / 1e6, 3),
            "summary_megabytes": round((folder / "summary.json").stat().st_size / 1e6, 3),
            "cases": found,
        }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def measured(name: str, words: tuple[str, ...], folder: Path, scratch: Path) -> dict[str, Any]:
    """The fastest of a few runs of one command."""
    runs = []
    for repeat in range(REPEATS if words[0] == "status" else 1):
        paths = [str(scratch / f"{repeat}{word}") if "." in word else word for word in words]
        runs.append(once([paths[0], str(folder), *paths[1:]]))
    best = min(runs, key=lambda run: float(run["seconds"]))
    return {"case": name, **best, "target_seconds": TARGETS.get(words[0]), "runs": len(runs)}


def once(words: list[str]) -> dict[str, Any]:
    """One command: seconds by the clock and of a core, and its peak memory."""
    load, before, started = os.getloadavg()[0], resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "mithridate", *words], stdout=subprocess.DEVNULL)
    _, code, used = os.wait4(process.pid, 0)
    if code:
        sys.exit(f"mithridate {' '.join(words)} ended with {code}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "seconds": round(time.monotonic() - started, 2),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "peak_megabytes": round(used.ru_maxrss / 1e3),
        "load_before": round(load, 1),
    }


def environment() -> dict[str, Any]:
    """What it was measured with."""
    import sqlite3

    packages = ("mithridate", "numpy", "scipy", "matplotlib", "jinja2", "pyarrow")
    return {
        **{name: importlib.metadata.version(name) for name in packages},
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def processor() -> str:
    """The processor's name, as far as the system tells."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description="Measure status and report over very many rows.")
    parser.add_argument("--trials", type=int, default=1000, help="1000: a million rows")
    parser.add_argument("--folder", type=Path, help="where to make the run, and find it the next time")
    return parser.parse_args()


if __name__ == "__main__":
    main()
