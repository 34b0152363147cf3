"""Tracking: a tracker is told every point once, however often a run stops, and can do a campaign no harm."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from mithridate import campaign
from mithridate.errors import ConfigError, MissingExtraError
from mithridate.executors.local import Local
from mithridate.experiment import Experiment
from mithridate.tracker import Point, Tracker
from mithridate.tracking import KINDS, Tracking, flat, following, spelled
from tests.runs import CPU, TINY, begun, results, tiny


class Book(Tracker):
    """A record in memory, which outlives the processes that a test plays."""

    name: ClassVar[str] = "book"

    def __init__(self, folder: Path) -> None:
        self.points: list[Point] = []
        self.opened: list[str] = []
        self.settings: dict[str, Any] = {}
        self.closed: list[tuple[list[str], bool]] = []

    def begin(self, title: str, settings: Mapping[str, Any], *, identity: str) -> str:
        self.opened.append(identity)
        self.settings = dict(settings)
        return identity or "page 1"

    def last(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for point in self.points:
            found[point.tag] = max(point.step, found.get(point.tag, 0))
        return found

    def log(self, points: Sequence[Point]) -> None:
        self.points += points

    def finish(self, files: Sequence[Path], *, complete: bool) -> None:
        self.closed.append(([path.name for path in files], complete))

    def curve(self, tag: str) -> list[float]:
        """Values by step, from 1 without gaps."""
        found = [(point.step, point.value) for point in self.points if point.tag == tag]
        assert [step for step, _ in found] == list(range(1, len(found) + 1)), tag
        return [value for _, value in found]


def tracked(
    experiment: Experiment, folder: Path, *trackers: Tracker, jobs: int = 1000, killed: bool = True
) -> list[str]:
    """Run at most so many jobs with trackers, then be killed or stopped if there are more; the sentences said."""
    said: list[str] = []
    tracking = Tracking(trackers, experiment=experiment, say=said.append)
    with begun(experiment, folder) as store:
        tracking.begin(store)
        ends = campaign.run(experiment, store, executor=Local(), device=CPU, report=tracking.step)
        for _, ended in zip(range(jobs), ends, strict=False):
            tracking.ended(ended)
    if jobs == 1000 or not killed:
        tracking.finish([folder / "experiment.json", folder / "nothing.html"], complete=jobs == 1000)
    return said


def told(book: Book) -> dict[tuple[str, int], float]:
    """Points by place, none twice, without times."""
    counts = Counter((point.tag, point.step) for point in book.points)
    assert set(counts.values()) == {1}
    return {(point.tag, point.step): point.value for point in book.points if "seconds" not in point.tag}


def test_a_run_is_told_whole(tmp_path: Path) -> None:
    book = Book(tmp_path)
    assert tracked(tiny(), tmp_path, book) == []
    rows = [row for row in results(tmp_path, without=()).values() if row.get("control") == "attack"]
    cell = "gradient-matching"
    assert book.curve(f"success/{cell}") == [row["success"] for row in rows]
    assert book.curve(f"clean accuracy/{cell}") == [row["clean_accuracy"] for row in rows]
    assert book.curve(f"seconds/{cell}") == [row["seconds"] for row in rows]
    hits = [row["success"] for row in rows]
    assert book.curve(f"rate/{cell}") == pytest.approx([sum(hits[: k + 1]) / (k + 1) for k in range(len(hits))])
    first = next(row for row in rows if (row["trial"], row["run"]) == (0, 0))
    assert book.curve(f"training/{cell}/loss") == first["curve"]["loss"]
    craft = next(row for row in results(tmp_path).values() if row["kind"] == "craft" and row["trial"] == 0)
    assert book.curve(f"crafting/{cell}/loss") == craft["trace"]["loss"]
    assert len(book.curve("success/clean - all")) == 2, "a clean victim for each trial"
    assert len(book.curve(f"success/noise - {cell}")) == 2
    assert book.settings["threat.budget"] == 0.05
    assert book.settings["attacks.0.steps"] == 2
    assert book.closed == [(["experiment.json"], True)]


@pytest.mark.parametrize("jobs", [1, 4, 7])
def test_a_run_that_goes_on_tells_only_what_is_missing(jobs: int, tmp_path: Path) -> None:
    whole, book = Book(tmp_path), Book(tmp_path)
    tracked(tiny(), tmp_path / "whole", whole)
    tracked(tiny(), tmp_path / "run", book, jobs=jobs)
    tracked(tiny(), tmp_path / "run", book)
    tracked(tiny(), tmp_path / "run", book)
    assert told(book) == told(whole)
    assert book.opened == ["", "page 1", "page 1"]


def test_what_was_done_before_tracking_is_told(finished: Path, tmp_path: Path) -> None:
    whole, late = Book(tmp_path), Book(tmp_path)
    tracked(tiny(), tmp_path / "run", whole)
    tracked(tiny(), tmp_path / "run", late)
    assert {key: value for key, value in told(whole).items() if not key[0].startswith("under way")} == told(late)


def test_a_point_told_before_a_kill_is_not_told_again(tmp_path: Path) -> None:
    """Killed between the tracker's writing and anything of ours: only the record itself knows."""
    book = Book(tmp_path)
    tracked(tiny(), tmp_path, book, jobs=3)
    book.points.append(Point(tag="training/gradient-matching/loss", step=1, value=1.0))
    tracked(tiny(), tmp_path, book)
    assert len(told(book)) > 10
    assert told(book)["training/gradient-matching/loss", 1] == 1.0


def test_steps_and_rows_of_a_crew_are_of_one_curve(tmp_path: Path) -> None:
    """What is told while a job runs continues under the name that its row has."""
    victim = TINY["victims"][0]
    crews = {"small": [0], "large": [1]}
    more = {"surrogates": [victim, {**victim, "epochs": 3}], "crews": crews, "trials": 1, "runs": 1}
    live, late = Book(tmp_path), Book(tmp_path)
    tracked(tiny(**more), tmp_path, live)
    tracked(tiny(**more), tmp_path, late)
    crafts = {point.tag.split("/")[1] for point in live.points if point.tag.startswith("crafting/")}
    assert len(crafts) == 2
    assert {point.tag.split("/")[1] for point in live.points if point.tag.startswith("under way/")} == crafts
    assert {key: value for key, value in told(live).items() if not key[0].startswith("under way")} == told(late)


class Broken(Book):
    """Fails in one method."""

    def __init__(self, where: str) -> None:
        super().__init__(Path())
        self._where = where
        self.calls = 0

    def _fail(self, where: str) -> None:
        if where == self._where:
            self.calls += 1
            raise OSError(28, "No space left\n on device")

    def begin(self, title: str, settings: Mapping[str, Any], *, identity: str) -> str:
        self._fail("begin")
        return super().begin(title, settings, identity=identity)

    def last(self) -> dict[str, int]:
        self._fail("last")
        return super().last()

    def log(self, points: Sequence[Point]) -> None:
        self._fail("log")
        super().log(points)

    def finish(self, files: Sequence[Path], *, complete: bool) -> None:
        self._fail("finish")


@pytest.mark.parametrize("where", ["begin", "last", "log", "finish"])
def test_one_that_fails_is_said_once_and_left_out(where: str, finished: Path, tmp_path: Path) -> None:
    broken, book = Broken(where), Book(tmp_path)
    (said,) = tracked(tiny(), tmp_path / "run", broken, book)
    assert said == "no longer tracked by book (OSError: [Errno 28] No space left on device); the run goes on"
    assert broken.calls == 1
    assert results(tmp_path / "run") == results(finished)
    assert book.closed


def test_cells_have_names_of_their_own(tmp_path: Path) -> None:
    """Even where they differ only in letters that a tracker does not allow."""
    attacks = [{"name": "gradient-matching", "steps": steps, "restarts": 1} for steps in (2, 3)]
    book = Book(tmp_path)
    tracked(tiny(attacks=attacks, trials=1, runs=1), tmp_path, book)
    cells = {point.tag.partition("/")[2] for point in book.points if point.tag.startswith("success/")}
    assert len(cells) == len({row["attack"] for row in results(tmp_path).values() if row.get("attack")}) * 2 + 1
    assert all(spelled(cell) == cell for cell in cells)


@pytest.mark.parametrize("name", KINDS)
def test_an_absent_library_is_named_with_its_extra(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [each for each in sys.modules if each.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"mithridate.trackers.{KINDS[name][0]}", raising=False)
    with pytest.raises(MissingExtraError, match=rf"--track {name} needs the '{name}' extra: install it with"):
        following([name], experiment=tiny(), folder=tmp_path, say=print)


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--track tensorbord: no such tracker; did you mean 'tensorboard'"):
        following(["tensorbord"], experiment=tiny(), folder=tmp_path, say=print)


def test_settings_are_told_by_place() -> None:
    assert flat({"a": {"b (c)": 1}, "d": [{"e": None}, 2], "f": []}) == {
        "a.b c": 1,
        "d.0.e": None,
        "d.1": 2,
        "f": [],
    }
