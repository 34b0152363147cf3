"""A function called in a process of its own: fresh memory, its own threads, and nothing of ours lost where it dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar, cast

from mithridate.errors import MithridateError

T = TypeVar("T")


class MissingError(Exception):
    """The function ended in an error with a sentence for people: something it needs is not here."""


class BrokenError(Exception):
    """The function failed, or its process died; the text says how."""


class LateError(Exception):
    """The time was over before the function ended."""


def apart(
    function: Callable[..., T],
    *given: Any,
    until: float | None = None,
    heard: Callable[[Any], object] | None = None,
) -> T:
    """What ``function(*given)`` returns in a fresh process in which torch is loaded and has computed nothing.

    All must be picklable. Where there is ``heard``, the function is given a last argument: what it calls that with,
    ``heard`` hears here. At ``until`` (of ``time.monotonic``) the process and those it started are killed. Raises
    :class:`MissingError`, :class:`BrokenError` or :class:`LateError`.
    """
    context: Any = multiprocessing.get_context(_method())
    if _method() == "forkserver":
        context.set_forkserver_preload(["mithridate.bench.preloaded"])
    ours, theirs = context.Pipe(duplex=False)
    process: BaseProcess = context.Process(target=_answer, args=(theirs, function, given, heard is not None))
    process.start()
    theirs.close()
    try:
        kind, value = "note", cast(Any, None)
        while kind == "note":
            left = None if until is None else max(0.0, until - time.monotonic())
            if not ours.poll(left):
                raise LateError
            kind, value = ours.recv()
            if kind == "note" and heard is not None:
                heard(value)
    except EOFError:
        process.join()
        raise BrokenError(_death(process.exitcode)) from None
    finally:
        _end(process)
        ours.close()
    if kind == "missing":
        raise MissingError(value)
    if kind == "broken":
        raise BrokenError(value)
    found: T = value
    return found


def _method() -> str:
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"


def _answer(pipe: Connection, function: Callable[..., Any], given: tuple[Any, ...], noting: bool) -> None:
    """Call, and say what came of it. In a group of its own: what it starts ends with it, and interrupts pass it by."""
    with suppress(OSError, AttributeError):
        os.setpgid(0, 0)
    try:
        telling = (lambda note: pipe.send(("note", note)),) if noting else ()
        told = ("done", function(*given, *telling))
    except MithridateError as error:
        told = ("missing", str(error))
    except MemoryError:
        told = ("broken", "there is not enough memory for it")
    except Exception as error:
        told = ("broken", f"{type(error).__name__}: {error}")
    with suppress(BrokenPipeError):
        pipe.send(told)


def _end(process: BaseProcess) -> None:
    """Make sure that a process and all it started have ended."""
    process.join(timeout=0.5)
    if process.pid is not None and hasattr(os, "killpg"):
        with suppress(OSError):  # all have ended
            os.killpg(process.pid, signal.SIGKILL)
    if process.is_alive():
        process.kill()
    process.join()


def _death(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"its process was ended by {name}" + (" (memory may have run out)" if name == "SIGKILL" else "")
    return f"its process ended with code {code} and said nothing"
