"""A measurement in a process of its own: read a problem, prepare, do the work under a clock, save what was made.

Imported by ``ours.py`` and by ``theirs.py``, which runs under a peer's interpreter, so nothing but NumPy is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Given = dict[str, Any]
"""The arrays of a problem, by name."""
Made = tuple[dict[str, Any], dict[str, Any]]
"""Arrays that were made, and facts about them."""
Work = Callable[[], Made]
"""What is timed."""
Prepare = Callable[[Given, dict[str, Any]], Work]
"""From a problem and settings to the work; imports, reading and conversions that a user does once are done here."""


def serve(table: Mapping[str, Prepare]) -> int:
    """Do what the command line asks: ``NAME PROBLEM.npz MADE.npz SETTINGS``; prints seconds and facts as JSON.

    Of ``repeats`` runs (a setting, 1) seconds are the median; ``warm`` runs before them do not count.
    """
    name, problem, made, text = sys.argv[1:]
    settings = json.loads(text)
    with np.load(problem) as stored:
        given = {key: stored[key] for key in stored.files}
    work = table[name](given, settings)
    for _ in range(settings.get("warm", 0)):
        work()
    seconds, busy, load = [], [], os.getloadavg()[0]
    for _ in range(settings.get("repeats", 1)):
        began, before = time.perf_counter(), processor_seconds()
        arrays, facts = work()
        seconds.append(time.perf_counter() - began)
        busy.append(processor_seconds() - before)
    np.savez(Path(made), **arrays)
    cost = {
        "seconds": statistics.median(seconds),
        "all_seconds": [round(each, 4) for each in seconds],
        "cpu_seconds": statistics.median(busy),
        "load_before": round(load, 1),
        "made": hashlib.sha256(b"".join(np.ascontiguousarray(each).tobytes() for each in arrays.values())).hexdigest(),
    }
    print("\n" + json.dumps({**cost, "facts": facts}))
    return 0


def processor_seconds() -> float:
    """Of this process and of the children it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
