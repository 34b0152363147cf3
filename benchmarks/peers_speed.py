"""Whole tasks beside the peers' packages: what they cost on one thread, and what their results are worth.

    python benchmarks/peers_speed.py FOLDER --case gradient-matching --art PYTHON [--problems 0:6]
    python benchmarks/peers_speed.py FOLDER --case gradient-matching --judge
    python benchmarks/peers_speed.py FOLDER --write

``PYTHON`` are interpreters of environments of their own: ``--art`` with adversarial-robustness-toolbox 1.20.1, torch
and packaging (which it imports without saying so), ``--select`` with submodlib-py 0.0.3 and apricot-select 0.6.1.
Cases and their settings are in ``peers/table.py``. One call measures one case on some problems, all sides in turn on
each; each measurement is a process of its own with one thread of computing, and imports, reading and training of the
surrogate are not counted. ``--judge`` (not timed) trains victims and compares results. Everything is kept in ``FOLDER``
piece by piece: what is there is not done again, so calls can be cut as one likes, on other days too. Seconds
count only where the process had a core for at least 80 % of them (and not with ``--untimed``); pieces where others had
it are measured again by a later call, until then only their CPU seconds (children included) and results count.
``--write`` puts what there is into ``benchmarks/results/peers-speed.json``.

``times_mithridate`` are medians over problems of ratios within a problem, with their range. ``load_before`` is how many
processes wanted a core in the minute before.

What is equal in gradient matching: rows poisoned, target, eps, network and its weights, steps, restarts, one batch of
all poisons, rounding to 8 bits, and how victims train. What cannot be: ART crafts on images as they are, without the
victims' augmentation, so ours is shown with it (as it is meant) and without. ART begins at (nearly) no change, bounds
it by a tanh and has rates of its own (their milestones, meant for 250 steps, are brought to as many as are made); ours
begins with noise, projects, and has the quickstart's step size. ART loads each step's batch from another process, which
may use a second core. It gets the base rows as its whole training set and 100 % as poison share, so that it poisons the
same rows. In Bullseye Polytope ART's ``target`` is not used by its code (1.20.1), and its step of 0.04 is in pixels
where ours is in standard deviations. Spectral signatures: ART takes a share of each class, ours of all rows; shares are
set so that as many rows go. Features are handed to ART as inputs of a network that shows them as they are. Opacus: the
batch is given, not drawn; ours takes 32 rows at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
PLACE = HERE / "results" / "peers-speed.json"
ALONE = 0.8
"""Share of a core that a measurement must have had for its seconds to count."""
sys.path.insert(0, str(HERE / "peers"))

from judging import Piece, spread, summarised  # noqa: E402 (found through the line above)
from table import BASELINE, CASES, Case, Side  # noqa: E402


def main() -> int:
    """Measure or judge, then write."""
    asked = arguments()
    asked.folder.mkdir(parents=True, exist_ok=True)
    if asked.case:
        first, last = map(int, asked.problems.split(":"))
        for number in range(first, last):
            (judge if asked.judge else measure)(asked, CASES[asked.case], number)
    if asked.write:
        result = recorded(asked.folder)
        PLACE.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(result["measured"], indent=1))
    return 0


def arguments() -> Any:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where pieces are kept")
    parser.add_argument("--case", choices=list(CASES))
    parser.add_argument("--problems", default="0:3", help="numbers of problems, first:end (default: 0:3)")
    parser.add_argument("--art", metavar="PYTHON", help="interpreter with adversarial-robustness-toolbox and torch")
    parser.add_argument("--select", metavar="PYTHON", help="interpreter with submodlib-py and apricot-select")
    parser.add_argument("--side", help="this side alone (default: all, in turn)")
    parser.add_argument("--judge", action="store_true", help="train victims and compare, instead of measuring")
    parser.add_argument("--untimed", action="store_true", help="do not count the seconds: the machine is busy")
    parser.add_argument("--write", action="store_true", help="write the results")
    return parser.parse_args()


def measure(asked: Any, case: Case, number: int) -> None:
    """All sides of a problem in turn, as far as they have not been measured."""
    pythons = {"ours": sys.executable, "art": asked.art, "select": asked.select}
    problem = stem(asked, "problem", number).with_suffix(".npz")
    for side, what in case.sides.items():
        place = stem(asked, side, number)
        if asked.side not in (None, side):
            continue
        kept = read(place.with_suffix(".json"))
        if "seconds" in kept and (kept["timed"] or asked.untimed):
            continue
        if not problem.exists():
            np.savez(problem, **case.problem(number, asked.folder))
        python = pythons[what.who]
        absent: dict[str, Any] = {"failed": "no interpreter was given"}
        cost = apart(python, what, case, problem, place, number) if python else absent
        alone = cost.get("cpu_seconds", 0.0) >= ALONE * cost.get("seconds", 1.0)
        write(place.with_suffix(".json"), {**cost, "timed": alone and not asked.untimed})
        if kept.get("made") not in (None, cost.get("made")):
            place.with_name(place.name + "-verdict.json").unlink(missing_ok=True)  # it was about something else
        print(f"{asked.case}, {number}, {side}: {cost.get('seconds', cost.get('failed'))}", flush=True)


def apart(python: str, side: Side, case: Case, problem: Path, place: Path, number: int) -> dict[str, Any]:
    """A measurement in a process of its own, or why there is none."""
    script = HERE / "peers" / ("ours.py" if side.who == "ours" else "theirs.py")
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    settings = json.dumps({**case.settings, **side.settings, "seed": number})
    command = [python, str(script), side.call, str(problem), str(place.with_suffix(".npz")), settings]
    done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": (done.stderr.strip().splitlines() or ["no reason was given"])[-1]}
    cost: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])  # others talk on stdout, too
    return cost


def judge(asked: Any, case: Case, number: int) -> None:
    """Verdicts on what all sides made of a problem, as far as there is none yet."""
    if not stem(asked, "problem", number).with_suffix(".npz").exists():
        return
    problem = arrays(stem(asked, "problem", number))
    for side in case.sides:
        place = stem(asked, side, number)
        verdict = place.with_name(place.name + "-verdict.json")
        if (
            verdict.exists()
            or not place.with_suffix(".npz").exists()
            or "seconds" not in read(place.with_suffix(".json"))
        ):
            continue
        reference = arrays(stem(asked, BASELINE, number))
        piece = Piece(number=number, problem=problem, made=arrays(place), reference=reference, folder=asked.folder)
        write(verdict, case.verdict(piece))
        print(f"{asked.case}, {number}, {side}: {read(verdict)}", flush=True)
    control = stem(asked, "control", number).with_suffix(".json")
    if case.control and not asked.side and not control.exists():
        write(control, case.control(number, problem, asked.folder))


def stem(asked: Any, side: str, number: int) -> Path:
    """The path of a piece, without its ending."""
    return Path(asked.folder) / f"{asked.case}--{number}--{side.replace(' ', '_')}"


def arrays(place: Path) -> dict[str, Any]:
    """What is in a stored file of arrays."""
    with np.load(place.with_suffix(".npz")) as stored:
        return {name: stored[name] for name in stored.files}


def read(place: Path) -> dict[str, Any]:
    """What is in a stored JSON file; nothing where there is none."""
    return json.loads(place.read_text(encoding="utf-8")) if place.exists() else {}


def write(place: Path, content: Mapping[str, Any]) -> None:
    """Store."""
    place.write_text(json.dumps(content), encoding="utf-8")


def recorded(folder: Path) -> dict[str, Any]:
    """The result as it is written: nothing about the machine's paths."""
    import torch

    from mithridate import runtime

    lines: list[dict[str, Any]] = []
    details: list[dict[str, Any]] = []
    versions: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for name, case in CASES.items():
        found = {side: pieces(folder, name, side) for side in [*case.sides, "control"]}
        lines += summary(name, case, found)
        for side, by_number in found.items():
            for number, piece in by_number.items():
                versions |= {name: each for name, each in piece.get("facts", {}).items() if isinstance(each, str)}
                failed |= {f"{name}, {side}": piece["failed"]} if "failed" in piece else {}
                details.append(
                    {"case": name, "side": side, "problem": number, **{k: piece[k] for k in piece if k != "facts"}}
                )
    return {
        "name": "peers-speed",
        "about": "Whole tasks beside the peers' packages, seconds on one thread, and what the results are worth.",
        "command": "python benchmarks/peers_speed.py FOLDER --case CASE --art PYTHON --select PYTHON; --judge; --write",
        "environment": runtime.describe(torch.device("cpu")),
        "core_seconds": round(sum(each.get("cpu_seconds", 0) for each in details)),
        "written": time.strftime("%Y-%m-%d"),
        "measured": lines,
        "rows": [],
        "failed": failed,
        "not_measured": [name for name in CASES if name not in {line["case"] for line in lines}],
        "elsewhere": {"svm-poisoning": "svm-poisoning-peers.json"},
        "versions": versions,
        "cases": {name: {"about": case.about, "settings": case.settings} for name, case in CASES.items()},
        "pieces": details,
    }


def pieces(folder: Path, case: str, side: str) -> dict[int, dict[str, Any]]:
    """What is known of a side, by problem."""
    found = {}
    for place in folder.glob(f"{case}--*--{side.replace(' ', '_')}.json"):
        verdict = read(place.with_name(place.stem + "-verdict.json"))
        found[int(place.name.split("--")[1])] = {**read(place), **({"verdict": verdict} if verdict else {})}
    return dict(sorted(found.items()))


def summary(name: str, case: Case, found: Mapping[str, Mapping[int, dict[str, Any]]]) -> list[dict[str, Any]]:
    """A line for each side; cells as they stand in a table."""
    lines = []
    mine = found[BASELINE]
    ours = {number: piece["verdict"] for number, piece in mine.items() if "verdict" in piece}
    for side in case.sides:
        those = found[side]
        timed = {number: piece for number, piece in those.items() if piece.get("timed") and "seconds" in piece}
        line: dict[str, Any] = {"case": name, "side": side}
        if timed:
            line["seconds"] = spread([piece["seconds"] for piece in timed.values()])
            line["times_mithridate"] = ratios(timed, mine, "seconds")
        ran = {number: piece for number, piece in those.items() if "seconds" in piece}
        if ran:
            line["cpu_seconds"] = spread([piece["cpu_seconds"] for piece in ran.values()])
            line["cpu_times_mithridate"] = ratios(ran, mine, "cpu_seconds")
            line["runs"], line["timed"] = len(ran), len(timed)
        judged = {number: piece["verdict"] for number, piece in those.items() if "verdict" in piece}
        line |= summarised(judged, None if side == BASELINE else ours)
        if len(line) > 2:  # more than its name
            lines.append(line)
    if found["control"]:
        lines.append({"case": name, "side": "no poison", **summarised(found["control"], None)})
    return lines


def ratios(those: Mapping[int, dict[str, Any]], mine: Mapping[int, dict[str, Any]], kind: str) -> str:
    """What a side costs over what ours does, in the same problem: the median over problems with the range."""
    counted = [
        number for number in those if kind in mine.get(number, {}) and (kind != "seconds" or mine[number]["timed"])
    ]
    return spread([those[n][kind] / mine[n][kind] for n in counted], middle=statistics.median) if counted else ""


if __name__ == "__main__":
    sys.exit(main())
