"""One worker process: started with an environment of its own, given jobs through a pipe, asked to stop, or killed."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

from mithridate import runtime
from mithridate.executor import Ended, Stopped, Work, attempt
from mithridate.experiment import Job
from mithridate.watch import Step, Watch

_PAGE = resource.getpagesize()


@dataclass(frozen=True, kw_only=True)
class End:
    """What a worker says when a job has ended."""

    ended: Ended
    peak: int
    """The most memory that the worker has held so far, in bytes."""


class Worker:
    """A process that does one job after another, as the driver sees it."""

    def __init__(self, number: int, work: Work, environment: Mapping[str, str]) -> None:
        self.number = number
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, work))
        try:
            with _set(environment), _deaf():
                self._process.start()
        except KeyboardInterrupt:
            self.pipe.close()  # ends the process, which nobody knows yet
            raise
        finally:
            theirs.close()  # so that the end of the process is the end of the pipe
        self.job: Job | None = None

    def __str__(self) -> str:
        return f"worker {self.number + 1}"

    @property
    def watched(self) -> tuple[Connection, int]:
        """What becomes ready when the worker says something or dies."""
        return self.pipe, self._process.sentinel

    def give(self, job: Job) -> None:
        """Have it do a job. A worker that is dead by now is found so at the next :meth:`said`."""
        self.job = job
        with suppress(OSError):
            self.pipe.send(job)

    def said(self) -> Iterator[Step | End | None]:
        """What it has said since; last of all None where it is dead."""
        alive = self._process.is_alive()  # asked first: what it said before it died is still in the pipe
        try:
            while self.pipe.poll():
                yield self.pipe.recv()
        except (EOFError, OSError):
            alive = False
        if not alive:
            yield None

    def memory(self) -> int:
        """Bytes of memory that it holds now; 0 where the system does not tell."""
        try:
            pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        except (OSError, IndexError):
            return 0
        return int(pages) * _PAGE

    def ask_to_stop(self) -> None:
        """Have its job end at its next report, and the process with it."""
        with suppress(OSError):
            self.pipe.send(None)

    def end(self, grace: float) -> None:
        """Wait until the process is gone; kill it after ``grace`` seconds."""
        self._process.join(grace)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self.pipe.close()


def _serve(pipe: Connection, work: Work) -> None:
    """Do the jobs that come through the pipe, until None comes or the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the driver hears it too, and asks
    threading.Thread(target=_follow_driver, daemon=True).start()
    runtime.use_threads(1)
    with suppress(EOFError, OSError, Stopped):
        while (job := pipe.recv()) is not None:
            ended = attempt(work, job, _watch(pipe))
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            pipe.send_bytes(_sendable(End(ended=ended, peak=peak)))


def _follow_driver() -> None:
    """End this process once its parent is gone, even amid a job that never reports."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _watch(pipe: Connection) -> Watch:
    def watch(step: Step) -> None:
        if pipe.poll():  # all that comes amid a job is that it should stop
            raise Stopped
        pipe.send(step)

    return watch


def _sendable(end: End) -> Any:
    """An end in bytes; rows that no pipe carries are a failure of their job."""
    try:
        return ForkingPickler.dumps(end)
    except Exception as error:
        text = f"its rows cannot be sent to the process that stores them ({type(error).__name__}: {error})"
        return ForkingPickler.dumps(replace(end, ended=Ended(job=end.ended.job, error=text)))


@contextmanager
def _deaf() -> Iterator[None]:
    """Have processes that start inside the block hear no interrupt of a terminal, from their first moment on.

    The driver, which asks them to stop, hears it after the block. Python lets the main thread alone decide this;
    elsewhere nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: heard.append(number))  # other threads are not deaf
    resource_tracker.ensure_running()  # which would end the block's deafness where it was begun amid it
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # what a process inherits
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, before)
        if heard:
            signal.raise_signal(signal.SIGINT)


@contextmanager
def _set(environment: Mapping[str, str]) -> Iterator[None]:
    """Have processes that start inside the block find these variables."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
