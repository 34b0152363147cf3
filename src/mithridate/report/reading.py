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
_PARTS: tuple[Part, ...] = ("scenario", "attack", "victim", "defense")
_CRAFTS = 2000
"""Crafts of which the curves are all read."""
_LOT = 500
"""Crafts read at once."""
_Lines = Generator[tuple[Any, ...], None, None]
_UNREAD: Mapping[str, tuple[float, ...]] = {}
Codes = NDArray[np.int64]


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
) -> tuple[tuple[Victim, ...], Partial | None]:
    """All planned networks in the order of the experiment, and how many of them were read whole (None: all).

    ``graded``: success is a share of test rows. ``appended``: poison is added to the training rows, not put in their
    place. Raises :class:`StoreError` where a row is no result.
    """
    with uncollected():
        scalars = _Scalars(graded=graded, appended=appended)
        with closing(cast(_Lines, store.scalars(_NAMES, "victim"))) as lines:
            found = [scalars.victim(line) for line in lines]
        if len(found) <= most:
            rows = order.sorted(store.rows("victim", planned=True))
            return tuple(victim(row, graded=graded) for row in rows), None
        last = {each.defense: each.key for each in found}  # which knows best what its defense is a control of
        if order.names:
            found = [found[k] for k in _sorted(found, order)]
        keys = [found[k].key for k in _first(found, min(most, _WHOLE))]
        kept = store.rows("victim", keys=list({*keys, *last.values()}), planned=True)
        wholes = {row["key"]: victim(row, graded=graded) for row in kept}
        found = [wholes.get(each.key, each) for each in found]
    return tuple(found), Partial(read=len(wholes), of=len(found))


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

    def victim(self, row: Sequence[Any]) -> Victim:
        """A network without what only its whole row tells; the order of ``row`` is that of ``_NAMES``."""
        key, training, control, attack, scenario, defense, name, trial, run, success = row[:10]
        accuracy, judged, seconds, memory, box, error, *treated = row[10:]
        if (
            control not in ("attack", "noise", "clean")
            or not isinstance(success, (int, float))
            or not 0 <= success <= 1
        ):
            judgement(key, control, success)
        if name is None or trial is None:
            required({"key": key, "victim": name, "trial": trial}, "victim" if name is None else "trial")
        error = error if self._graded else None
        same = self._values.setdefault
        return Victim(
            key,
            key if training is None or training == key else training,
            same(control, control),
            same(attack, attack),
            same(scenario, scenario),
            same(defense, defense) or "none",
            same(name, name),
            int(trial),
            int(run or 0),
            same(success, success),
            same(accuracy, accuracy) if error is None else 1 - error,
            (),
            int(judged or 1),
            seconds or 0.0,
            memory,
            _UNREAD,
            None,
            same(box, box),
            self._treatment(*treated),
            self._graded,
            error,
            (),
            None,
            whole=False,
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
        place = (dropped, dropped_poison, poison, rows, reused)
        found = self._treatments.get(place)
        if found is None:
            added = poison or 0 if self._appended else 0
            self._treatments[place] = found = Treatment(
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


def _sorted(found: Sequence[Victim], order: Grid) -> list[int]:
    """The places of networks in the order of :meth:`Grid.sorted`."""
    scenario, attack, victims, defense = (
        _codes([getattr(each, part) for each in found], part, order) for part in _PARTS
    )
    trial, run = (np.array([getattr(each, name) for each in found]) for name in ("trial", "run"))
    return [int(k) for k in np.lexsort((run, defense, victims, attack, trial, scenario))]


def _codes(names: Sequence[str | None], part: Part, order: Grid) -> Codes:
    """The places of names in the experiment: those that it does not name come last, None first."""
    known = {name: place for place, name in enumerate(order.names.get(part, ()))}
    places = {name: -1 if name is None else known.get(name, len(known)) for name in set(names)}
    return np.array([places[name] for name in names], dtype=np.int64)


def _first(found: Sequence[Victim], most: int) -> list[int]:
    """The places of the networks to be read whole: those of the first trials of every combination.

    Of every combination as many trials as there is room for in ``most``, one at least as long as there is any room;
    of the first attack without a defense, and of its controls, enough for the cards of the page.
    """
    groups: dict[tuple[str | None, ...], int] = {}
    group = np.array(
        [groups.setdefault((v.control, v.attack, v.scenario, v.victim, v.defense), len(groups)) for v in found]
    )
    trials, trial = np.unique([victim.trial for victim in found], return_inverse=True)
    pairs, inverse, counts = np.unique(group * len(trials) + trial, return_inverse=True, return_counts=True)
    starts = np.searchsorted(pairs // len(trials), pairs // len(trials))
    rank = np.arange(len(pairs)) - starts  # of each trial in its combination
    by_rank = np.bincount(rank, counts)
    most_rank = max(1, int(np.searchsorted(np.cumsum(by_rank), most, side="right")))
    chosen = np.flatnonzero(rank[inverse] < most_rank)[:most]
    cards = np.isin(group, _of_first_attack(found, groups)) & (rank[inverse] < _CARDS)
    return sorted({*chosen.tolist(), *np.flatnonzero(cards).tolist()})


def _of_first_attack(found: Sequence[Victim], groups: Mapping[tuple[str | None, ...], int]) -> list[int]:
    """The numbers of the combinations that the page begins with: an undefended attack and its controls."""
    poisoned = [each for each in groups if each[0] == "attack"]
    first = next((each for each in poisoned if each[4] == "none"), poisoned[0] if poisoned else None)
    if first is None:
        return []
    return [
        number
        for each, number in groups.items()
        if each[3:] == first[3:] and each[1] in (first[1], None) and each[2] in (first[2], None)
    ]
