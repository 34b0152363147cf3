"""Runs that stop on purpose, before all their trials: what they note of that, and whether it holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mithridate.database import connect, sentences
from mithridate.store import Store

_LEFT = """
SELECT EXISTS (SELECT 1 FROM jobs WHERE place IS NOT NULL AND state != 'done' AND (
state IN ('failed', 'lost') OR kind IN ('pretraining', 'surrogate') OR (kind = 'clean' AND NOT :resample)
OR coalesce(json_extract(job, '$.trial'), 0) BETWEEN :first AND :last))
"""


def noted(store: Store) -> Mapping[str, Any] | None:
    """What the run notes of trials that are added by what they show; None for an ordinary run.

    ``width``: how narrow the interval was to be. ``trials``: so many first ones count. ``most``: the most that were
    ever asked for. ``reached``: whether the last run ended because the interval was narrow enough.
    """
    note = store.meta().get("sequential")
    return note if isinstance(note, dict) else None


def enough(store: Store) -> bool:
    """Whether the last run stopped on purpose, and no job is left of the trials that it counted.

    Nor may one be left that all trials share, or that belongs to a defense added since, and none may have failed or
    been lost, whatever its trial.
    """
    note = noted(store)
    return bool(note and note.get("reached") and not left(store, int(note.get("trials") or 0)))


def left(store: Store, trials: int) -> bool:
    """Whether a job is left that the first ``trials`` trials need, or any has failed or been lost."""
    if store.failures():
        return True
    settings = store.meta().get("experiment")
    known = settings if isinstance(settings, dict) else {}
    first = int(known.get("first_trial") or 0)
    values = {"first": first, "last": first + trials - 1, "resample": bool(known.get("resample"))}
    with sentences(store.path):
        base = connect(store.path, reading=True)
        try:
            return bool(base.execute(_LEFT, values).fetchone()[0])
        finally:
            base.close()
