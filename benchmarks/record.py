"""Copy what a finished run measured into benchmarks/results/: table, interval, hardware, versions, command.

    python benchmarks/record.py runs/quickstart [runs/cifar10-mini ...]

writes ``benchmarks/results/<name>.json`` for each run folder, and lists all of them in ``docs/results.md``.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from mithridate.store import Store

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "results.md"
MARK = "<!-- everything below is written by benchmarks/record.py -->"


def recorded(folder: Path) -> dict[str, Any]:
    """What a run folder measured, without anything about the machine's paths."""
    with Store(folder) as store:
        meta = store.meta()
        seconds = sum(row["seconds"] for row in {row.get("training", row["key"]): row for row in store.rows()}.values())
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return {
        "name": meta["experiment"]["name"],
        "about": meta["experiment"]["about"],
        "command": re.sub(r" --out \S+", "", meta["command"]).replace(f"{ROOT}/", ""),
        "environment": meta["environment"],
        "core_seconds": round(seconds),
        "experiment": meta["experiment"],
        **summary,
    }


def table(result: dict[str, Any]) -> str:
    """One result as a section of the page."""
    where = result["environment"]
    lines = [
        f"## {result['name']}",
        "",
        result["about"],
        "",
        f"`{result['command']}` on {where['processor']}, {where['cores']} cores, {where['device']}, "
        f"torch {where['torch']}, Python {where['python']}; {result['core_seconds']} s of computing in all.",
        "",
    ]
    if "measured" in result:
        return "\n".join([*lines, *measured(result["measured"]), ""])
    rows = result["rows"]
    if any(row.get("measure") for row in rows):
        return "\n".join([*lines, *degraded(result), ""])
    if any(row["defense"] != "none" for row in rows):
        return "\n".join([*lines, *heading(DEFENDED), *map(defended, rows), "", *verdicts(rows), ""])
    return "\n".join([*lines, *heading(ATTACKED), *map(line, rows), ""])


ATTACKED = (
    *("attack", "scenario", "victim", "success [95 %]", "clean base rate", "noise control"),
    *("accuracy", "trials", "victims"),
)
DEFENDED = (
    *("defense", "success [95 %]", "clean accuracy", "rows dropped", "poison found", "clean rows lost"),
    *("seconds a network", "trials"),
)


def heading(words: tuple[str, ...]) -> list[str]:
    """The first two lines of a table."""
    return ["| " + " | ".join(words) + " |", "|" + " --- |" * len(words)]


def defended(row: dict[str, Any]) -> str:
    """One row of a table of defenses."""
    dropped = row["dropped"]
    cells = [row["defense"], interval(row["success"]), percent((row["clean_accuracy"] or {}).get("mean"))]
    cells += [f"{dropped:.0f}", percent(row["poison_recall"]), percent(row["clean_drop"])] if dropped else ["-"] * 3
    cells += [f"{row['seconds_per_victim']:.1f}", str(row["trials"])]
    return "| " + " | ".join(cells) + " |"


GRADED = ("attack", "rows poisoned", "victim", "defense", "error [95 %]", "on clean data", "rise, points", "trials")


def degraded(result: dict[str, Any]) -> list[str]:
    """Means of errors as a table, with the verdict above; controls of defenses are in the file."""
    rows = [row for row in result["rows"] if not row["control_of"]]
    what = next(row["measure"] for row in rows)
    said = result.get("verdict")
    words = [said["sentence"], "", said["words"], ""] if said else []
    names = [what.lower() + " [95 %]" if name.startswith("error") else name for name in GRADED]
    return [*words, *heading(tuple(names)), *map(graded, rows)]


def graded(row: dict[str, Any]) -> str:
    """One row of a table of mean errors."""
    victim = f"{row['victim']}, {row['box']}" if row.get("box") else row["victim"]
    rise, clean = row["rise"], row["base_rate"]
    cells = [row["attack"], f"{row['budget']:.1%}", victim, row["defense"], fine(row["success"])]
    cells += ["not run" if clean is None else f"{clean:.1%}"]
    cells += [f"{100 * rise['mean']:+.1f} [{100 * rise['low']:+.1f}, {100 * rise['high']:+.1f}]" if rise else "not run"]
    return "| " + " | ".join([*cells, str(row["trials"])]) + " |"


def fine(value: dict[str, Any] | None) -> str:
    """A mean with its interval, to a tenth of a percent."""
    if not value or value.get("mean") is None:
        return "not run"
    return f"{value['mean']:.1%} [{value['low']:.1%}, {value['high']:.1%}]"


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """What each defense is worth, in the report's words."""
    said = [(row["defense"], (row["comparison"] or {}).get("words")) for row in rows if not row["control_of"]]
    return [f"- **{name}**: {words}" for name, words in said if words and name != "none"]


def measured(cases: list[dict[str, Any]]) -> list[str]:
    """Timings as a table, whatever was measured."""
    names = tuple(dict.fromkeys(name for case in cases for name in case))
    return [*heading(names), *("| " + " | ".join(str(case.get(name, "")) for name in names) + " |" for case in cases)]


def line(row: dict[str, Any]) -> str:
    """One row of a table."""
    victim = f"{row['victim']}, {row['box']}" if row.get("box") else row["victim"]
    cells = [row["attack"], row["scenario"], victim, interval(row["success"])]
    cells += [percent(row["base_rate"]), percent(row["noise_control"])]
    cells += [percent((row["clean_accuracy"] or {}).get("mean")), str(row["trials"]), str(row["victims"])]
    return "| " + " | ".join(cells) + " |"


def interval(value: dict[str, Any] | None) -> str:
    """A rate with its interval, or that it was not run."""
    if not value or value.get("mean") is None:
        return "not run"
    return f"{value['mean']:.0%} [{value['low']:.0%}, {value['high']:.0%}]"


def percent(value: float | None) -> str:
    """A rate, or that it was not run."""
    return "not run" if value is None else f"{value:.0%}"


def main() -> None:
    """Record the run folders named, then write the page anew."""
    RESULTS.mkdir(exist_ok=True)
    for folder in map(Path, sys.argv[1:]):
        result = recorded(folder)
        text = json.dumps(result, indent=1, sort_keys=True) + "\n"
        (RESULTS / f"{result['name']}.json").write_text(text, encoding="utf-8")
    results = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json")))
    ours = (each for each in results if "core_seconds" in each and each.get("name") not in ("bench", "peers-speed"))
    sections = [table(each) for each in ours]  # the others are shown elsewhere, or speak for themselves
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0] if PAGE.exists() else "# Results\n\n"
    PAGE.write_text(head + MARK + "\n\n" + "\n".join(sections), encoding="utf-8")


if __name__ == "__main__":
    main()
