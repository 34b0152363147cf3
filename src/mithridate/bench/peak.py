"""How much memory one call needs above what is held before it (Linux; elsewhere it is not known)."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")
_REFERENCES = Path("/proc/self/clear_refs")


def peak(run: Callable[[], Any]) -> tuple[int, int] | None:
    """Bytes that a call needs above those held before it, and bytes that the form keeps between calls.

    The second call is measured: the first compiles and fills caches. Memory of other processes that the call starts
    is not seen. To be called in a fresh process: what an earlier computation freed is handed back first, but need not
    go in full.
    """
    before = _held()
    run()
    base = _held()
    try:
        _REFERENCES.write_text("5", encoding="utf-8")  # the high-water mark begins anew
    except OSError:
        return None
    run()
    most = _field("VmHWM")
    if before is None or base is None or most is None:
        return None
    return max(0, most - base), max(0, base - before)


def _held() -> int | None:
    """Bytes held now, once everything free is handed back."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if _STATUS.exists() else None
    if trim is not None:
        trim(0)
    return _field("VmRSS")


def _field(name: str) -> int | None:
    try:
        lines = _STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
