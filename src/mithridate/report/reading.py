"""Trained networks out of a store: a few with their whole rows, a million by their scalars and the first ones whole."""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mithridate.report.grid import Grid, Part
from mithridate.report.remembering import Networks
from mithridate.report.treatment import Treatment
from mithridate.report.victims import Victim, judgement, required, victim
from mithridate.report.words import plural
from mithridate.store import Store

MOST = 20_000
"""Networks up to which all are read whole; of larger runs, those of the first trials of every combination."""
_WHOLE = 5_000
"""Networks read whole where there are too many to read all of them so."""
_CARDS = 40
"""Trials read whole of the first attack in any case: as many as have a card on the page."""
_NAMES = (
    "key", "training", "control", "attack", "scenario", "defense", "victim", "trial", "run", "success",
    "clean_accuracy", "judged", "seconds", "peak_memory", "box", "error", "dropped", "dropped_poison", "poison_rows",
    "training_rows", "reused",
)  # fmt: skip
_PARTS: tuple[Part, ...] = ("attack", "victim", "defense", "scenario")
_CRAFTS = 2000
"""Crafts of which the curves are all read."""
_LOT = 500
"""Crafts read at once."""
_Lines = Generator[tuple[Any, ...], None, None]
_UNREAD: Mapping[str, tuple[float, ...]] = {}
Codes = NDArray[np.int64]


Place = tuple[str, str | None, str | None, str, str]
"""Control, attack, scenario, victim and defense."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Where very many networks belong, as numbers."""

    names: Sequence[Place]
    """The combinations, each once."""
    group: Codes
    """``(n,)``: the combination of every network, a place in ``names``."""
    trial: Codes
    run: Codes

    def taken(self, which: Codes) -> Places:
        """Those of some networks, in the order of ``which``."""
        return Places(names=self.names, group=self.group[which], trial=self.trial[which], run=self.run[which])

    def sorted(self, order: Grid) -> Codes:
        """The numbers of the networks in the order of :meth:`Grid.sorted`."""
        _, attacks, scenarios, victims, defenses = (list(names) for names in zip(*self.names, strict=True))
        attack, victim, defense, scenario = (
            _codes(names, part, order)[self.group]
            for names, part in zip((attacks, victims, defenses, scenarios), _PARTS, strict=True)
        )
        return np.lexsort((self.run, defense, victim, attack, self.trial, scenario))

    def index(self) -> dict[Place, list[int]]:
        """The numbers of the networks of every combination, in their order; combinations as they are first seen."""
        sorting = np.argsort(self.group, kind="stable")
        numbers, starts = np.unique(self.group[sorting], return_index=True)
        parts = dict(zip(numbers.tolist(), np.split(sorting, starts[1:]), strict=True))
        return {self.names[k]: parts[k].tolist() for k in dict.fromkeys(self.group.tolist())}


def _codes(names: Sequence[str | None], part: Part, order: Grid) -> Codes:
    """The places of names in the experiment: those that it does not name come last, None first."""
    known = {name: place for place, name in enumerate(order.names.get(part, ()))}
    return np.array([-1 if name is None else known.get(name, len(known)) for name in names], dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class Partial:
    """How much of a very large run was read whole."""

    read: int
    """Networks read whole."""
    of: int
    """Networks in all."""

    @property
    def words(self) -> str:
        """The same as a sentence for the reader."""
        return (
            f"Of {plural(self.of, 'result row')} of networks, {self.read} were read whole, those of the first trials "
            "of every combination: targets, curves, maps, certificates, and what defenses report of themselves are of "
            "these. Rates, accuracies, differences, rows removed and times are of all."
        )


def read_victims(
    store: Store, order: Grid, *, graded: bool, appended: bool, most: int = MOST
) -> tuple[Networks, Partial | None]:
    """All planned networks in the order of the experiment, and how many of them were read whole (None: all).

    ``graded``: success is a share of test rows. ``appended``: poison is added to the training rows, not put in their
    place. Raises :class:`StoreError` where a row is no result.
    """
    with uncollected():
        scalars = _Scalars(graded=graded, appended=appended)
        with closing(cast(_Lines, store.scalars(_NAMES, "victim"))) as lines:
            found = list(map(scalars.victim, lines))
        if len(found) <= most:
            rows = order.sorted(store.rows("victim", planned=True))
            return Networks(victim(row, graded=graded) for row in rows), None
        # the last row of a defense knows best what that is a control of
        at, told = scalars.places(), list({each.defense: place for place, each in enumerate(found)}.values())
        if order.names:
            sorting = at.sorted(order)
            found, at, told = list(map(found.__getitem__, sorting.tolist())), at.taken(sorting), _moved(told, sorting)
        chosen = {*_first(at, min(most, _WHOLE)), *told}
        kept = store.rows("victim", keys=[found[place].key for place in chosen], planned=True)
        wholes = {row["key"]: victim(row, graded=graded) for row in kept}
        for place in chosen:
            found[place] = wholes.get(found[place].key, found[place])
        all_of_them = Networks(found)
        all_of_them.remember("index", at.index)
    return all_of_them, Partial(read=len(wholes), of=len(found))


def _moved(places: Sequence[int], sorting: Codes) -> list[int]:
    """Where things are, after sorting, that were at ``places``."""
    now = np.empty_like(sorting)
    now[sorting] = np.arange(len(sorting))
    return [int(now[place]) for place in places]


def read_crafts(store: Store) -> list[dict[str, Any]]:
    """The planned crafts' rows in the order they were added.

    Of very many, only those of the first trials of every attack and scenario have their curves and the views of their
    surrogates. They are read in lots: one row may hold thousands of points.
    """
    with closing(cast(_Lines, store.scalars(("key", "attack", "scenario", "trial"), "craft"))) as lines:
        found = list(lines)
    trials: dict[tuple[Any, Any], set[Any]] = {}
    for _, attack, scenario, trial in found:
        trials.setdefault((attack, scenario), set()).add(trial)
    last = {place: sorted(each, key=lambda trial: trial or 0)[:_CARDS][-1] or 0 for place, each in trials.items()}
    keys = [each[0] for each in found]
    rows: list[dict[str, Any]] = []
    for start in range(0, len(keys), _LOT):
        lot = store.rows("craft", keys=keys[start : start + _LOT], planned=True)
        for row in lot if len(keys) > _CRAFTS else ():
            if (row.get("trial") or 0) > last[row.get("attack"), row.get("scenario")]:
                row |= {"trace": None, "polytope": None}
        rows += lot
    return rows


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the search for reference cycles, which takes longer than the reading where nothing can be freed."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


class _Scalars:
    """Makes networks of their scalars alone.

    Equal values are one object, because a million rows hold a few dozen names and thousands of numbers: that halves
    the memory, and what lies close together is summed three times as fast.
    """

    def __init__(self, *, graded: bool, appended: bool) -> None:
        self._graded, self._appended = graded, appended
        self._values: dict[Any, Any] = {}
        self._treatments: dict[tuple[Any, ...], Treatment] = {}
        self._groups: dict[Place, int] = {}
        self._names: list[Place] = []
        self._group: list[int] = []
        self._trial: list[int] = []
        self._run: list[int] = []

    def places(self) -> Places:
        """Where the networks made so far belong, in the order they were made."""
        group, trial, run = (np.array(each, dtype=np.int64) for each in (self._group, self._trial, self._run))
        return Places(names=self._names, group=group, trial=trial, run=run)

    def victim(self, row: Sequence[Any]) -> Victim:
        """A network without what only its whole row tells; the order of ``row`` is that of ``_NAMES``."""
        key, training, control, attack, scenario, defense, name, trial, run, success = row[:10]
        accuracy, judged, seconds, memory, box, error = row[10:16]
        if (
            control not in ("attack", "noise", "clean")
            or not isinstance(success, (int, float))
            or not 0 <= success <= 1
        ):
            judgement(key, control, success)
        if name is None or trial is None:
            required({"key": key, "victim": name, "trial": trial}, "victim" if name is None else "trial")
        error = error if self._graded else None
        same, trial, run = self._values.setdefault, int(trial), int(run or 0)
        defense = defense or "none"
        place = (control, attack, scenario, name, defense)
        number = self._groups.get(place)
        if number is None:
            number = self._groups[place] = len(self._groups)
            self._names.append(place)
        self._group.append(number)
        self._trial.append(trial)
        self._run.append(run)
        control, attack, scenario, name, defense = self._names[number]
        treated = tuple(row[16:])
        found = self._treatments.get(treated) or self._treatment(*treated)
        return tuple.__new__(  # a million times, so without the checks of a call by name
            Victim,
            (
                key,
                key if training is None or training == key else training,
                control,
                attack,
                scenario,
                defense,
                name,
                trial,
                run,
                same(success, success),
                same(accuracy, accuracy) if error is None else 1 - error,
                (),
                int(judged or 1),
                seconds or 0.0,
                memory,
                _UNREAD,
                None,
                same(box, box),
                found,
                self._graded,
                error,
                (),
                None,
                False,
            ),
        )

    def _treatment(
        self,
        dropped: int | None,
        dropped_poison: int | None,
        poison: int | None,
        rows: int | None,
        reused: float | None,
    ) -> Treatment:
        """What a defense removed; the rows of the training set include poison that was added to it."""
        added = poison or 0 if self._appended else 0
        found = self._treatments[dropped, dropped_poison, poison, rows, reused] = Treatment(
            control_of=(),
            oracle=False,
            rounds=(),
            dropped=dropped,
            dropped_poison=dropped_poison,
            poison_rows=poison,
            training_rows=None if rows is None else rows + added,
            class_rows=(),
            facts={},
            certificate=None,
            images=None,
            reused=reused or 0.0,
        )
        return found


def _first(at: Places, most: int) -> list[int]:
    """The places of the networks to be read whole: those of the first trials of every combination.

    Of every combination as many trials as there is room for in ``most``, one at least as long as there is any room;
    of the first attack without a defense, and of its controls, enough for the cards of the page.
    """
    trials, trial = np.unique(at.trial, return_inverse=True)
    pairs, inverse, counts = np.unique(at.group * len(trials) + trial, return_inverse=True, return_counts=True)
    starts = np.searchsorted(pairs // len(trials), pairs // len(trials))
    rank = np.arange(len(pairs)) - starts  # of each trial in its combination
    by_rank = np.bincount(rank, counts)
    most_rank = max(1, int(np.searchsorted(np.cumsum(by_rank), most, side="right")))
    chosen = np.flatnonzero(rank[inverse] < most_rank)[:most]
    cards = np.isin(at.group, _of_first_attack(at)) & (rank[inverse] < _CARDS)
    return sorted({*chosen.tolist(), *np.flatnonzero(cards).tolist()})


def _of_first_attack(at: Places) -> list[int]:
    """The numbers of the combinations that the page begins with: an undefended attack and its controls."""
    order = [at.names[k] for k in dict.fromkeys(at.group.tolist())]  # as they are first seen
    poisoned = [each for each in order if each[0] == "attack"]
    first = next((each for each in poisoned if each[4] == "none"), poisoned[0] if poisoned else None)
    if first is None:
        return []
    return [
        number
        for number, each in enumerate(at.names)
        if each[3:] == first[3:] and each[1] in (first[1], None) and each[2] in (first[2], None)
    ]
