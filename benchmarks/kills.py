"""Kill a small campaign at 200 random moments, and in other ways, and compare its rows with those of a quiet run.

    python benchmarks/kills.py WORK [--kills 200] [--out benchmarks/results/kills.json]

A campaign is started, killed at a moment drawn over the length of a whole life (or, more often than that would be,
within the first second, while it works, and while it draws the report), started again, and so on until it completes;
then everything in its folder is held against the quiet run, and the next campaign begins. Every life notes where jobs
stand many times a second. Then come Ctrl-C, SIGTERM, killed workers, full disks (a small one is mounted, which needs
root) and second runs in one folder.

What was found is kept in WORK after each life: started again, this goes on, and writes its result at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests import lives  # noqa: E402 (found only after the line above)
from tests.lives import Life  # noqa: E402

LONGER: dict[str, Any] = {
    "attacks": [{"name": "gradient-matching", "steps": 150, "restarts": 2}],
    "victims": [{**lives.LIVING["victims"][0], "epochs": 120}],
}
"""Jobs of half a second."""
OTHERS = {"Ctrl-C": 10, "SIGTERM": 10, "killed worker": 10, "full disk": 10, "two at once": 3}
"""Other cases, and how many campaigns of each."""
NOTING = (str(ROOT / "benchmarks" / "noting.py"),)


@dataclass
class Bench:
    """The work folder: campaigns in it, and the log of what was found."""

    work: Path
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        """The experiment."""
        return self.work / "living.yaml"

    def note(self, **found: Any) -> None:
        """Keep one finding."""
        self.log.append(found)
        text = "".join(json.dumps(each) + "\n" for each in self.log)
        (self.work / "log.new").write_text(text, encoding="utf-8")
        (self.work / "log.new").replace(self.work / "log.jsonl")

    def of(self, case: str) -> list[dict[str, Any]]:
        """The findings of one case."""
        return [each for each in self.log if each["case"] == case]

    def expected(self) -> dict[str, Any]:
        """The rows of the quiet run."""
        return dict(json.loads((self.work / "quiet.json").read_text(encoding="utf-8")))


def main() -> None:
    """Do what is left, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "kills.json")
    wanted = parser.parse_args()
    bench = begun(wanted.work)
    quiet(bench)
    killed(bench, wanted.kills, wanted.seed)
    for case, count in OTHERS.items():
        for number in range(len(bench.of(case)), count):
            folder = bench.work / "other"
            shutil.rmtree(folder, ignore_errors=True)
            bench.note(case=case, **CASES[case](bench, folder, random.Random(f"{wanted.seed} {case} {number}")))
            print(bench.log[-1], flush=True)
    result = summary(bench, wanted.seed)
    wanted.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({name: value for name, value in result.items() if name != "lives"}, indent=2))


def begun(work: Path) -> Bench:
    """The bench, with what an earlier start found."""
    lives.written(work, **LONGER)
    log = work / "log.jsonl"
    found = [json.loads(line) for line in log.read_text().splitlines()] if log.is_file() else []
    return Bench(work=work, log=found)


def quiet(bench: Bench) -> None:
    """Run once without a disturbance: the rows wanted, and how long a life is."""
    if (bench.work / "quiet.json").is_file():
        return
    folder = bench.work / "quiet"
    shutil.rmtree(folder, ignore_errors=True)
    life = lives.ended(lives.begun(bench.file, folder, workers=1, prefix=NOTING))
    rows = json.loads(json.dumps(lives.rows(folder)))
    assert life.code == 0, life.errors
    assert lives.wrongs(folder, rows) == []
    for workers in (1, 2):
        again = bench.work / f"quiet {workers}"
        shutil.rmtree(again, ignore_errors=True)
        life = lives.ended(lives.begun(bench.file, again, workers=workers, prefix=NOTING))
        wrong = lives.wrongs(again, rows)
        seconds, first = round(life.seconds, 2), round(life.lines[0][0], 2)
        bench.note(case="quiet", workers=workers, seconds=seconds, first=first, jobs=life.jobs, wrong=wrong)
    (bench.work / "quiet.json").write_text(json.dumps(rows), encoding="utf-8")


def killed(bench: Bench, count: int, seed: int) -> None:
    """Campaigns killed again and again, until there were so many kills and the last has completed."""
    folder = bench.work / "run"
    while len(bench.of("kill")) < count or (bench.log and bench.log[-1]["case"] == "kill"):
        number = len(bench.of("kill"))
        draws = random.Random(f"{seed} {number} {len(bench.of('end'))}")
        workers = draws.choice((1, 2))
        aim, moment = aimed(draws, length(bench, workers))
        life = lives.begun(bench.file, folder, workers=workers, prefix=NOTING)
        alone = draws.random() < 0.2  # the driver alone: its workers must follow it
        was_killed = number < count and dead(life, aim, moment, everyone=not alone)
        if was_killed:
            found = {"phase": life.phase, "jobs": life.jobs, "seconds": round(life.seconds, 3), **left(folder)}
            found["first"] = life.lines[0][0] if life.lines else None
            bench.note(case="kill", aim=aim, workers=workers, everyone=not alone, errors=life.errors, **found)
        else:
            lives.ended(life)
            wrong = lives.wrongs(folder, bench.expected()) if life.code == 0 else [f"exit {life.code}"]
            bench.note(case="end", wrong=wrong, errors=life.errors)
            if wrong or life.errors:
                shutil.copytree(folder, bench.work / f"wrong {number}", dirs_exist_ok=True)
            shutil.rmtree(folder)
        print(number, {name: value for name, value in bench.log[-1].items() if value not in ("", [], 0)}, flush=True)


def length(bench: Bench, workers: int) -> float:
    """Seconds of a whole life as fast as the machine is now, which may have other work: by when it says its first."""
    (quiet,) = [each for each in bench.of("quiet") if each["workers"] == workers]
    recent = [each["first"] for each in bench.log if each.get("first")][-5:]
    return float(quiet["seconds"] * statistics.median(recent) / quiet["first"])


def aimed(draws: random.Random, length: float) -> tuple[str, float]:
    """Where a kill is aimed, and its moment in seconds after that began."""
    aim = draws.choices(("life", "first second", "jobs", "report"), (5, 1, 3, 1))[0]
    return aim, draws.uniform(0, {"life": length, "first second": 1.0, "jobs": length / 2, "report": 1.5}[aim])


def dead(life: Life, aim: str, moment: float, *, everyone: bool) -> bool:
    """Kill a run at its moment; False where it had ended by then."""
    since = life.began
    if aim in ("jobs", "report"):
        reached = ("report",) if aim == "report" else ("first job", "jobs", "report")
        if not lives.waited(life, lambda life: life.phase in reached, timeout=300):
            return False
        since = time.monotonic()
    lives.waited(life, lambda life: time.monotonic() - since >= moment, timeout=300)
    if life.process.poll() is not None:
        return False
    if everyone:
        lives.killed(life)
    else:  # the next life begins at once, while these workers may still be there
        life.process.kill()
        life.process.wait()
    return life.code == -signal.SIGKILL


def left(folder: Path) -> dict[str, int]:
    """What a killed run leaves on the disk: notes, and files half written."""
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    notes = [path for path in files if path.suffix == ".part" or "notes" in path.relative_to(folder).parts]
    return {"notes": len(notes), "half": sum(path.name.startswith(".") for path in files)}


def stopped(number: signal.Signals, *, everyone: bool) -> Callable[[Bench, Path, random.Random], dict[str, Any]]:
    """A campaign stopped at a random moment by a signal that says so, then finished."""

    def case(bench: Bench, folder: Path, draws: random.Random) -> dict[str, Any]:
        workers, jobs = draws.choice((1, 2)), draws.randint(0, 8)
        life = lives.begun(bench.file, folder, workers=workers, prefix=NOTING)
        lives.waited(life, lambda life: life.jobs >= jobs and bool(life.lines))
        time.sleep(draws.uniform(0, 0.5))
        lives.killed(life, number=number, everyone=everyone)
        said = "Go on with:  mithridate run" in life.said
        return {"code": life.code, "said": said, "errors": life.errors, "wrong": finished(bench, folder)}

    return case


def without_worker(bench: Bench, folder: Path, draws: random.Random) -> dict[str, Any]:
    """A campaign one of whose workers is killed; it goes on by itself."""
    life = lives.begun(bench.file, folder, workers=2, prefix=NOTING)
    jobs = draws.randint(0, 8)
    lives.waited(life, lambda life: bool(lives.workers(life)) and life.jobs >= jobs)
    time.sleep(draws.uniform(0, 0.5))
    victims = lives.workers(life)
    if victims:
        os.kill(draws.choice(victims), signal.SIGKILL)
    lives.ended(life)
    wrong = lives.wrongs(folder, bench.expected())
    return {"code": life.code, "killed": bool(victims), "errors": life.errors, "wrong": wrong}


def full_disk(bench: Bench, folder: Path, draws: random.Random) -> dict[str, Any]:
    """A campaign on a disk that is too small, which is then enlarged."""
    size = draws.randint(40, 700)
    with disk(folder, size) as larger:
        if larger is None:
            return {"skipped": "mounting a small disk needs root", "wrong": []}
        run = folder / "run"
        life = lives.ended(lives.begun(bench.file, run, workers=draws.choice((1, 2)), prefix=NOTING))
        larger()
        said = [line for line in life.errors.splitlines() if line] or life.said.splitlines()[-2:]
        return {"kib": size, "code": life.code, "jobs": life.jobs, "said": said, "wrong": finished(bench, run)}


@contextmanager
def disk(folder: Path, size: int) -> Iterator[Callable[[], None] | None]:
    """A disk of so many KiB, and how to enlarge it; None where that is not allowed."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=1g", str(folder)], check=True) and None
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def two_at_once(bench: Bench, folder: Path, draws: random.Random) -> dict[str, Any]:
    """A second run in the folder of one that is under way."""
    life = lives.begun(bench.file, folder, workers=1, prefix=NOTING)
    jobs = draws.randint(1, 3)
    lives.waited(life, lambda life: life.jobs >= jobs)
    second = lives.ended(lives.begun(bench.file, folder, workers=1))
    lives.ended(life)
    wrong = lives.wrongs(folder, bench.expected())
    return {"code": second.code, "said": second.errors.strip(), "first": life.code, "wrong": wrong}


CASES = {
    "Ctrl-C": stopped(signal.SIGINT, everyone=True),
    "SIGTERM": stopped(signal.SIGTERM, everyone=False),
    "killed worker": without_worker,
    "full disk": full_disk,
    "two at once": two_at_once,
}


def finished(bench: Bench, folder: Path) -> list[str]:
    """Go on to the end; what is wrong then."""
    life = lives.ended(lives.begun(bench.file, folder, workers=1, prefix=NOTING))
    wrong = lives.wrongs(folder, bench.expected())
    return wrong + ([f"exit {life.code}: {life.errors}"] if life.code or life.errors else [])


def summary(bench: Bench, seed: int) -> dict[str, Any]:
    """The result: how often each phase was hit, and whether everything was as in the quiet run."""
    import torch

    from mithridate import runtime

    kills, ends = bench.of("kill"), bench.of("end")
    return {
        "name": "kills",
        "about": "A campaign killed at random moments and in other ways, compared with a quiet run",
        "command": f"python benchmarks/kills.py WORK --kills {len(kills)} --seed {seed}",
        "environment": runtime.describe(torch.device("cpu")),
        "jobs": bench.of("quiet")[0]["jobs"],
        "rows": len(bench.expected()),
        "kills": len(kills),
        "campaigns": len(ends),
        "phases": dict(Counter(each["phase"] for each in kills)),
        "workers": dict(Counter(str(each["workers"]) for each in kills)),
        "kills that left notes": sum(each["notes"] > 0 for each in kills),
        "kills that left half-written files": sum(each["half"] > 0 for each in kills),
        "campaigns with the rows of the quiet run": sum(not each["wrong"] for each in ends),
        "wrong": sorted({wrong for each in bench.log for wrong in each.get("wrong", [])}),
        "others": {
            case: {
                "campaigns": len(bench.of(case)),
                "with the rows of the quiet run": sum(not each["wrong"] for each in bench.of(case)),
                "exit codes": dict(Counter(str(each.get("code")) for each in bench.of(case))),
            }
            for case in OTHERS
        },
        "lives": bench.log,
    }


if __name__ == "__main__":
    main()
