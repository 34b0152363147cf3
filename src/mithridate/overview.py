"""Where a campaign stands: what is done, runs, waits and has failed, and how long the rest takes. By SQL alone."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mithridate.database import connect, sentences
from mithridate.folder_lock import holder
from mithridate.halting import enough
from mithridate.jobqueue import Entry, Progress
from mithridate.schema import PLANNED_FAILURES
from mithridate.store import Store

Standing = Literal["done", "enough", "running", "stopped", "failed"]
"""``done``: every job is. ``enough``: all that ``--until-width`` asked for. ``running``: a driver is at work.
``stopped``: jobs wait, and nobody works on them. ``failed``: none waits, but some have failed or were lost, and nobody
works on them."""

_SAMPLE = 300
"""Jobs of a kind over which the time that one takes is averaged."""
_ENOUGH = 5
"""Jobs of a kind among the last ones that say more about it than its first ones."""
_SENTENCES = 20
"""Different failures that are told."""


@dataclass(frozen=True, kw_only=True)
class Running:
    """One job under way."""

    what: str
    """As in: gradient-matching, trial 3, victim 2."""
    kind: str
    stage: str
    """What it is doing (``victim``, ``crafting``); empty before its first step."""
    done: int | None
    """Steps done."""
    total: int | None
    seconds: float | None
    """How long it has run."""
    where: str
    """Who runs it."""
    beat: float | None
    """Seconds since its driver last said that it is alive."""


@dataclass(frozen=True, kw_only=True)
class Failed:
    """Failures that say the same."""

    sentence: str
    kind: str
    jobs: int


@dataclass(frozen=True, kw_only=True)
class Overview:
    """Where a campaign stands."""

    name: str
    standing: Standing
    driver: str
    """Who works on it; empty where nobody does."""
    counts: Mapping[str, Mapping[str, int]]
    """Number of jobs by kind, then by state (``waiting``, ``running``, ``done``, ``failed``, ``lost``)."""
    running: tuple[Running, ...]
    failures: tuple[Failed, ...]
    """The most frequent first."""
    further_failures: int
    """Failed jobs beside these."""
    work_left: float | None
    """Seconds that the jobs left would take one after the other; None while no job of one of their kinds is done."""
    time_left: float | None
    """Seconds until all is done with as many jobs at a time as now; None where that is not known."""
    rows: int
    """Rows of results, about: of all networks, crafts and surrogates."""
    command: str
    """What goes on with it, or tries failed jobs again; empty where nothing is to be done."""

    def total(self, *states: str) -> int:
        """Number of jobs in any of these states; of all where none is given."""
        return sum(n for by in self.counts.values() for state, n in by.items() if not states or state in states)


def overview(folder: Path) -> Overview:
    """Where the campaign in ``folder`` stands. Raises :class:`StoreError` where there is none, or it is damaged."""
    with Store(folder) as store:
        meta, progress, known = store.meta(), store.progress(), enough(store)
    facts = holder(Path(folder) / "store.lock")
    beating = any(each.beat is not None and time.time() - each.beat < 20 for each in progress.running)
    driver = "" if facts is None and not beating else _named(facts or {}, progress)
    path = Path(folder) / "store.sqlite"
    with sentences(path):
        base = connect(path, reading=True)
        try:
            means = {kind: _seconds(base, progress, kind) for kind in progress.counts}
            failures, further = _failures(base)
            rows = int(base.execute("SELECT coalesce(max(id), 0) FROM results").fetchone()[0])
        finally:
            base.close()
    left = _work_left(progress, means)
    standing = _standing(progress, driver, enough=known)
    workers = len(progress.running) if standing == "running" else 0
    commands = {"stopped": str(meta.get("command") or "mithridate run"), "failed": f"mithridate retry {folder}"}
    return Overview(
        name=str(_mapping(meta.get("experiment")).get("name") or Path(folder).name),
        standing=standing,
        driver=driver,
        counts=progress.counts,
        running=tuple(_running(each, _mapping(meta.get("names"))) for each in progress.running) if driver else (),
        failures=failures,
        further_failures=further,
        work_left=left,
        time_left=left / workers if left is not None and workers else None,
        rows=rows,
        command=commands.get(standing, ""),
    )


def _standing(progress: Progress, driver: str, *, enough: bool) -> Standing:
    if driver:
        return "running"
    if enough and progress.total("waiting"):
        return "enough"
    if progress.total("waiting", "running") or not progress.total():  # none are listed where a repair began anew
        return "stopped"
    return "failed" if progress.total("failed", "lost") else "done"


def _named(facts: Mapping[str, Any], progress: Progress) -> str:
    """The driver in words, as far as it is known."""
    if "pid" in facts:
        return f"process {facts['pid']} on {facts.get('host')}, since {facts.get('since')}"
    return next((each.owner for each in progress.running if each.owner), "a process that left no name")


def _seconds(base: Any, progress: Progress, kind: str) -> float | None:
    """How long a job of a kind takes: the mean of the last ones, or of the first where few of the last are of it."""
    recent = [seconds for each, seconds, _ in progress.recent if each == kind]
    if len(recent) < _ENOUGH:
        query = "SELECT ended - started FROM jobs WHERE place IS NOT NULL AND state = 'done' AND kind = ? LIMIT ?"
        recent += [seconds for (seconds,) in base.execute(query, (kind, _SAMPLE)) if seconds is not None]
    return sum(recent) / len(recent) if recent else None


def _work_left(progress: Progress, means: Mapping[str, float | None]) -> float | None:
    """Seconds of work left, one job after the other; those under way count for what they have not run yet."""
    now, left = time.time(), 0.0
    for kind, by in progress.counts.items():
        waiting, mean = by.get("waiting", 0), means[kind]
        started = [each.started for each in progress.running if each.kind == kind]
        if not waiting and not started:
            continue
        if mean is None:
            return None
        left += waiting * mean + sum(max(0.0, mean - (now - each)) if each else mean for each in started)
    return left


def _failures(base: Any) -> tuple[tuple[Failed, ...], int]:
    """Failures by what they say, and how many jobs there are beside these."""
    total = int(base.execute(f"SELECT count(*) FROM {PLANNED_FAILURES}").fetchone()[0])  # noqa: S608
    query = f"SELECT message, kind, count(*) AS jobs FROM {PLANNED_FAILURES} "  # noqa: S608 (the words are ours)
    query += "GROUP BY message, kind ORDER BY jobs DESC LIMIT ?"
    found = [Failed(sentence=text, kind=kind, jobs=n) for text, kind, n in base.execute(query, (_SENTENCES,))]
    return tuple(found), total - sum(each.jobs for each in found)


def _running(entry: Entry, names: Mapping[str, Any]) -> Running:
    now = time.time()
    return Running(
        what=_what(entry, names),
        kind=entry.kind,
        stage=entry.stage or "",
        done=entry.done_steps,
        total=entry.total_steps,
        seconds=now - entry.started if entry.started else None,
        where=entry.owner or "",
        beat=now - entry.beat if entry.beat else None,
    )


_CALLED = {
    "pretraining": "pretrained network {run}",
    "surrogate": "surrogate {run}",
    "clean": "clean victim {run}",
    "craft": "trial {trial}, crafting",
    "attack": "trial {trial}, victim {run}",
    "noise": "trial {trial}, noise control {run}",
}

"""What a job of each kind is called."""
_PARTS = {
    "pretraining": (),
    "surrogate": (),
    "clean": ("victim", "defense"),
    "craft": ("attack", "scenario"),
    "attack": ("attack", "scenario", "victim", "defense"),
    "noise": ("attack", "scenario", "victim", "defense"),
}
"""The parts of the grid that it belongs to."""


def _what(entry: Entry, names: Mapping[str, Any]) -> str:
    """A job in a few words: its kind and numbers, and of several attacks, scenarios, victims and defenses which."""
    job = entry.job
    words = [_CALLED.get(entry.kind, entry.kind).format(trial=job.get("trial", 0), run=int(job.get("run", 0)) + 1)]
    for part in _PARTS.get(entry.kind, tuple(names)):
        known, number = names.get(part), job.get(part, 0)
        if isinstance(known, list) and len(known) > 1 and isinstance(number, int) and 0 <= number < len(known):
            words.append(f"no {part}" if known[number] == "none" else str(known[number]))
    return ", ".join(words)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
