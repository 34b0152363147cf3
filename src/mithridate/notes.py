"""Notes: where one long computation stands, kept in a file, so that it goes on there if it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

from mithridate import checkpoint
from mithridate.checkpoint import Checkpoint
from mithridate.errors import FormatError
from mithridate.settings import METHOD, fingerprint

EVERY = 30.0
"""Seconds between two notes, where nothing else is said."""
DEAREST = 0.01
"""Share of the time that notes may cost: where one takes long to write, the next is put off."""
_LONGEST = 20
"""How many times the interval the next note is put off at most."""


class Notes:
    """The notes of one computation, in one file: complete, or as good as absent.

    A note is read again only by the computation that it is of: ``key`` must hold all that decides what is computed.
    Notes of another key, of another release of torch or of ours, and damaged ones are removed, and the computation
    begins anew. A note that cannot be written (a full disk) is left out, and the computation goes on.
    """

    def __init__(self, path: Path | None, *, key: str = "", every: float = EVERY) -> None:
        """Notes at ``path``, at most one in ``every`` seconds (0: at every opportunity). No path: nothing is noted."""
        self._path, self._every = path, every
        self._key = fingerprint(METHOD, torch.__version__, key)
        self._began = self._last = time.perf_counter()
        self._before = self._cost = 0.0

    @property
    def before(self) -> float:
        """Seconds that the computation had taken up to the note read; 0 where none was."""
        return self._before

    def read(self, *, device: torch.device | str = "cpu") -> Checkpoint | None:
        """What was noted last, its tensors on ``device``; None where the computation is to begin anew."""
        if self._path is None or not self._path.is_file():
            return None
        try:
            found = checkpoint.read(self._path, device=device)
            if found.facts["key"] != self._key:
                raise FormatError(f"'{self._path}' is the note of another computation")
            self._before = float(found.facts["seconds"])
        except (FormatError, KeyError, TypeError, ValueError):
            self.drop()
            return None
        self._began = self._last = time.perf_counter()
        return found.under("state")

    def take(self, state: Callable[[], Checkpoint]) -> None:
        """Note where the computation stands, if the last note is old enough; else ``state`` is not asked."""
        if self._path is None:
            return
        now = time.perf_counter()
        if now - self._last < max(self._every, min(self._cost / DEAREST, _LONGEST * self._every)):
            return
        facts = {"key": self._key, "seconds": self._before + now - self._began}
        with suppress(OSError):
            checkpoint.write(Checkpoint(facts=facts).joined(state=state()), self._path)
        self._last = time.perf_counter()
        self._cost = self._last - now

    def drop(self) -> None:
        """Remove what is noted: the computation is done."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


no_notes = Notes(None)
"""Notes that are never taken."""
