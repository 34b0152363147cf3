"""The lock that keeps a second run out of a run folder, and says who holds it."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mithridate.errors import StoreError

try:
    import fcntl
except ImportError:  # Windows, where two runs in one folder are kept apart by their heartbeats alone
    fcntl = None  # type: ignore[assignment]


class FolderLock:
    """Keeps a second run out of a folder. The system lets go of it when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process holds it; False too where the file system knows no locks."""
        return self._file is not None

    def take(self) -> None:
        """Hold the lock until :meth:`release`. Raises :class:`StoreError` where another run holds it."""
        if fcntl is None:
            return
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _flock(self._file)
        except BlockingIOError:
            try:
                raise self._taken(os.pread(self._file, 4096, 0)) from None
            finally:
                self.release()
        except OSError:  # a network file system without locks
            self.release()
            return
        self._sign()

    def look(self) -> None:
        """Raise :class:`StoreError` where another run holds it; takes nothing and writes nothing."""
        facts = holder(self._path)
        if facts is not None:
            raise self._taken(json.dumps(facts).encode())

    def release(self) -> None:
        """Let go."""
        if self._file is not None:
            os.close(self._file)
        self._file = None

    def _sign(self) -> None:
        """Write who holds the lock, for whoever comes second; on a full disk it stays unsigned."""
        assert self._file is not None
        name = Path(sys.argv[0]).name if sys.argv else ""
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        facts["command"] = " ".join([name, *sys.argv[1:]])[:300]
        with suppress(OSError):
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, json.dumps(facts).encode(), 0)

    def _taken(self, signed: bytes) -> StoreError:
        """That another run holds the lock, and who signed it, where that can be read."""
        try:
            facts = json.loads(signed)
            who = f" (process {facts['pid']} on {facts['host']}, since {facts['since']}: {facts['command']})"
        except (ValueError, KeyError, TypeError):
            who = ""
        return StoreError(f"'{self._path.parent}' is in use by another run{who}; wait for it, or choose another --out")


def _flock(file: int) -> None:
    """Take the lock; one that is held for a blink is :func:`holder` asking, and is waited for."""
    for patience in (0.02, 0.1):
        with suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(patience)
    return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def holder(path: Path) -> dict[str, Any] | None:
    """Who holds the lock at ``path``, as far as it is written (``pid``, ``host``, ``since``, ``command``).

    None where nobody does, or the file system knows no locks. Takes nothing and writes nothing.
    """
    if fcntl is None:
        return None
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None  # closing the file lets go again
    except BlockingIOError:
        with suppress(OSError, ValueError):
            facts = json.loads(os.pread(file, 4096, 0))
            return facts if isinstance(facts, dict) else {}
        return {}
    except OSError:
        return None
    finally:
        os.close(file)


def owner() -> str:
    """This process in words, as leases name it."""
    return f"process {os.getpid()} on {socket.gethostname()}"
