"""Lives of a campaign: run as a person runs it, ended at some moment; and what must be true of its folder then."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mithridate.store import Store

LIVING: dict[str, Any] = {
    "name": "living",
    "data": {"name": "digits", "classes": [0, 1, 2], "train_rows": 120, "test_rows": 60},
    "threat": {"budget": "5 %", "perturbation": {"name": "linf", "radius": "64/255"}},
    "attacks": [{"name": "gradient-matching", "steps": 40, "restarts": 2}],
    "victims": [{"model": {"name": "mlp", "hidden": [8]}, "epochs": 40, "batch_size": 32, "augmentation": None}],
    "defenses": ["none", "epic"],
    "trials": 2,
    "runs": 1,
    "controls": {"clean": 1, "noise": 1, "drops": []},
}
"""A small campaign of jobs of some tenths of a second; EPIC holds a state during its trainings."""

OWN = ("seconds", "peak_memory", "reused", "created")
"""What no two runs share."""


@dataclass
class Life:
    """One start of the command, up to its end."""

    process: subprocess.Popen[str]
    began: float
    lines: list[tuple[float, str]] = field(default_factory=list)
    """What it said, each line with its moment in seconds since it began."""
    seconds: float = 0.0
    errors: str = ""
    listeners: list[threading.Thread] = field(default_factory=list)

    @property
    def said(self) -> str:
        """All lines."""
        return "\n".join(line for _, line in self.lines)

    @property
    def code(self) -> int:
        """How it ended; negative: by that signal."""
        return int(self.process.returncode)

    @property
    def jobs(self) -> int:
        """How many jobs it has reported."""
        return sum(line.startswith("[") for _, line in self.lines)

    @property
    def phase(self) -> str:
        """How far it came, judged by what it said."""
        if any(line.startswith("Report: ") for _, line in self.lines):
            return "after the report"
        if not self.lines:
            return "start"
        ends = [line for _, line in self.lines if line.startswith("[")]
        if not ends:
            return "first job"
        done, total = ends[-1][1:].partition("]")[0].split("/")
        return "report" if done == total else "jobs"


def written(folder: Path, **changes: Any) -> Path:
    """The experiment as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "living.yaml"
    path.write_text(yaml.safe_dump({**LIVING, **changes}), encoding="utf-8")
    return path


def begun(path: Path, folder: Path, *more: str | Path, workers: int = 1, prefix: Sequence[str] = ()) -> Life:
    """Start ``mithridate run``, or go on, in a process group of its own."""
    words = [sys.executable, *(prefix or ("-m", "mithridate")), "run", path, "--out", folder]
    started = subprocess.Popen(
        [*map(str, words), "--workers", str(workers), *map(str, more)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "COLUMNS": "100"},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    life = Life(process=started, began=time.monotonic())
    life.listeners = [threading.Thread(target=each, args=(life,), daemon=True) for each in (_listen, _overhear)]
    for each in life.listeners:
        each.start()
    return life


def ended(life: Life, *, timeout: float = 600) -> Life:
    """Wait for its end, and that of all its workers."""
    try:
        life.process.wait(timeout)
    except subprocess.TimeoutExpired:
        os.killpg(life.process.pid, signal.SIGKILL)
        raise
    life.seconds = time.monotonic() - life.began
    outlived = time.monotonic() + 60
    while _is_alive(life.process.pid):
        if time.monotonic() > outlived:
            os.killpg(life.process.pid, signal.SIGKILL)
            raise AssertionError("a process outlived the run")
        time.sleep(0.02)
    for each in life.listeners:
        each.join()
    return life


def killed(life: Life, *, number: signal.Signals = signal.SIGKILL, everyone: bool = True) -> Life:
    """Send a signal to the run (and its workers), and wait for the end of all."""
    with suppress(ProcessLookupError):  # it ended in this very moment
        (os.killpg if everyone else os.kill)(life.process.pid, number)
    return ended(life)


def waited(life: Life, until: Callable[[Life], bool], *, timeout: float = 300) -> bool:
    """Wait until something is true of a run; whether that came before its end."""
    deadline = time.monotonic() + timeout
    while not until(life):
        if life.process.poll() is not None:
            return False
        if time.monotonic() > deadline:
            killed(life)
            raise AssertionError(f"waited in vain: {life.said}\n{life.errors}")
        time.sleep(0.005)
    return True


def children(process: int) -> list[int]:
    """The processes that a process has started."""
    path = Path(f"/proc/{process}/task/{process}/children")
    return [int(number) for number in path.read_text().split()]


def workers(life: Life) -> list[int]:
    """The worker processes of a run."""
    try:
        found = [(child, Path(f"/proc/{child}/cmdline").read_bytes()) for child in children(life.process.pid)]
    except OSError:  # one ended in this very moment
        return []
    return [child for child, words in found if b"spawn_main" in words]


def rows(folder: Path) -> dict[str, dict[str, Any]]:
    """The rows in a run folder by key, without what no two runs share, as JSON holds them."""
    with Store(folder) as store:
        return {row["key"]: _shared(row) for row in store.rows(planned=True)}


def wrongs(folder: Path, expected: dict[str, dict[str, Any]]) -> list[str]:
    """What is not as after a run that was never interrupted, as sentences; empty where all is well."""
    found = rows(folder)
    wrong = [f"row {key} is missing" for key in expected.keys() - found.keys()]
    wrong += [f"row {key} belongs to nothing" for key in found.keys() - expected.keys()]
    for key in expected.keys() & found.keys():
        names = [name for name in {**expected[key], **found[key]} if expected[key].get(name) != found[key].get(name)]
        wrong += [f"row {key} ({found[key]['kind']}) differs in {name}" for name in names]
    return wrong + list(_wrong_tables(folder)) + list(_wrong_files(folder))


def _wrong_tables(folder: Path) -> Iterator[str]:
    """Rows twice, jobs not done, failures, and a database that is not whole."""
    base = sqlite3.connect(f"file:{folder / 'store.sqlite'}?mode=ro", uri=True)
    try:
        for (said,) in base.execute("PRAGMA integrity_check"):
            if said != "ok":
                yield f"the database is damaged: {said}"
        keys = Counter(key for (key,) in base.execute("SELECT key FROM results"))
        yield from (f"row {key} is there {count} times" for key, count in keys.items() if count > 1)
        for state, count in base.execute("SELECT state, count(*) FROM jobs GROUP BY state"):
            if state != "done":
                yield f"{count} jobs are {state}"
        (count,) = base.execute("SELECT count(*) FROM failures").fetchone()
        if count:
            yield f"{count} failures are recorded"
        (count,) = base.execute("SELECT count(*) FROM details WHERE id NOT IN (SELECT id FROM results)").fetchone()
        if count:
            yield f"{count} rows of JSON belong to no result"
    finally:
        base.close()


def _wrong_files(folder: Path) -> Iterator[str]:
    """Files that are listed and not there or changed, there and not listed, or half written."""
    with Store(folder) as store:
        listed = {each.path: each.sha256 for each in store.artefacts()}
    for path, digest in listed.items():
        place = folder / path
        if not place.is_file():
            yield f"{path} is missing"
        elif hashlib.sha256(place.read_bytes()).hexdigest() != digest:
            yield f"{path} has another hash"
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        kind = name.partition("/")[0]
        if path.is_file() and kind in ("poisons", "dropped") and name not in listed:
            yield f"{name} is an orphan"
        if path.is_file() and (kind in ("notes", "memory") or path.suffix == ".part" or "tmp" in path.name):
            yield f"{name} is left behind"
        if path.is_file() and path.name.startswith("."):
            yield f"{name} is a half-written file"


def _shared(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _shared(each) for name, each in value.items() if name not in OWN}
    return [_shared(each) for each in value] if isinstance(value, list) else value


def _listen(life: Life) -> None:
    assert life.process.stdout
    with life.process.stdout as lines:
        for line in lines:
            life.lines.append((time.monotonic() - life.began, line.rstrip("\n")))


def _overhear(life: Life) -> None:
    assert life.process.stderr
    with life.process.stderr as lines:
        for line in lines:
            life.errors += line


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
