"""What a faster gradient costs the attack: objective and success of poison crafted by each backend, restarts halved.

    python benchmarks/craft_backends.py FOLDER [--trials 8] [-- --set a.b=c ...]

Runs ``craft-backends.yaml`` into FOLDER by ``mithridate run`` (run it again to go on where it stopped), then measures
every poison as it was published (uint8) again: the objective on its surrogate over the same draws of the augmentation,
by double backward's float32 gradient whatever it was crafted with. Writes ``benchmarks/results/craft-backends.json``:
by attack the success with its interval, the objective with its t-interval over trials, seconds of crafting, and the
differences to exact crafting over the same trials.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from mithridate import poisonset
from mithridate.attacks.gradient_matching import GradientMatching, _Brewing
from mithridate.config import parse
from mithridate.experiment import Experiment
from mithridate.seeding import Seed
from mithridate.stats import mean_interval, paired, rate
from mithridate.store import Store
from mithridate.work import cached_crew, data_of

HERE = Path(__file__).parent
PLACE = HERE / "results" / "craft-backends.json"
NAMES = ("exact", "gated difference", "bf16", "smoothed", "4 restarts", "4 restarts, halved")
"""The attacks of the file, in its order."""
AGAINST = dict.fromkeys(NAMES[1:4], "exact") | {"4 restarts, halved": "4 restarts"}
"""What each is compared with."""
DRAWS = 16


def main() -> int:
    """Run, measure again, write, print."""
    asked = arguments()
    command = [sys.executable, "-m", "mithridate", "run", str(HERE / "craft-backends.yaml"), "--out", str(asked.folder)]
    code = subprocess.run([*command, "--trials", str(asked.trials), *asked.rest], check=False).returncode
    if code:
        return code
    with Store(asked.folder) as store:
        meta, rows = store.meta(), store.rows()
    experiment = parse(Experiment, meta["experiment"])
    found = gathered(experiment, rows, asked.folder)
    result = {
        "name": "craft-backends",
        "about": experiment.about,
        "command": f"python benchmarks/craft_backends.py FOLDER --trials {asked.trials}",
        "environment": meta["environment"],
        "core_seconds": round(sum(row["seconds"] for row in {r.get("training", r["key"]): r for r in rows}.values())),
        "experiment": meta["experiment"],
        "measured": [summary(name, found) for name in NAMES],
    }
    asked.write.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["measured"], indent=1))
    return 0


def arguments() -> Any:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--write", type=Path, default=PLACE)
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)  # after it: for  mithridate run
    asked = parser.parse_args(words[:end])
    asked.rest = words[end + 1 :]
    return asked


def gathered(experiment: Experiment, rows: Sequence[dict[str, Any]], folder: Path) -> dict[str, dict[str, list[Any]]]:
    """By attack: success of the victims of each trial, objective and seconds of each poison, in the order of trials."""
    found: dict[str, dict[str, list[Any]]] = {name: defaultdict(list) for name in NAMES}
    by_key = {row["key"]: row for row in rows}
    victims: dict[tuple[str, int], list[float]] = defaultdict(list)
    for row in rows:
        if row["kind"] == "victim" and row["control"] == "attack":
            victims[row["attack"], row["trial"]].append(row["success"])
    for job in experiment.jobs():
        if job.kind == "craft":
            row, values = by_key[job.key], found[NAMES[job.attack]]
            values["success"].append(victims[row["attack"], row["trial"]])
            values["objective"].append(objective(experiment, job, folder))
            values["seconds"].append(row["seconds"])
    return found


def objective(experiment: Experiment, job: Any, folder: Path) -> float:
    """The matching objective of a published poison, over draws of the augmentation that no restart was compared on."""
    trial, data = experiment.trial(job), data_of(experiment, job)
    assert isinstance(trial.attack, GradientMatching)
    attack = replace(trial.attack, backend="double", precision="float32", score_draws=DRAWS)
    made = poisonset.read(folder / "poisons" / job.key)
    known, crew = trial.known_rows(data), cached_crew(experiment, folder)
    surrogates = attack._surrogates(known, made.aims, crew, trial.crafting.child("surrogates"), lambda step: None)
    rows = known.rows(made.poison.rows.ids)
    brewing = _Brewing(attack, known, trial.threat, rows, made.aims, crew, Seed(1))
    return brewing.score(surrogates, made.poison, Seed(2))


def summary(name: str, found: dict[str, dict[str, list[Any]]]) -> dict[str, Any]:
    """One attack, and how it differs from the one it is compared with."""
    ours = found[name]
    line = {
        "attack": name,
        "trials": len(ours["success"]),
        "success": asdict(rate(ours["success"])),
        "objective": asdict(mean_interval(ours["objective"])),
        "craft_seconds": round(statistics.median(ours["seconds"]), 2),
    }
    if name in AGAINST and len(ours["success"]) > 1:
        other = found[AGAINST[name]]
        apart = [a - b for a, b in zip(ours["objective"], other["objective"], strict=True)]
        line |= {
            "against": AGAINST[name],
            "success_difference": asdict(paired(ours["success"], other["success"])),
            "objective_difference": asdict(mean_interval(apart)),
            "times_faster": round(statistics.median(other["seconds"]) / statistics.median(ours["seconds"]), 2),
        }
    return line


if __name__ == "__main__":
    sys.exit(main())
