"""A run that is stopped, killed or watched: nothing is lost, nothing is left behind, and it goes on."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mithridate.store import Store
from tests.cli.calls import Caller, command, environment, written
from tests.runs import TINY

LONG = [
    {**TINY["victims"][0], "epochs": 150}
]  # some tenths of a second each, so that a slow machine stops them in time
JOBS = 1 + 1 + 4 * 4


@contextmanager
def running(*words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """A run in a process group of its own, which nothing outlives."""
    started = subprocess.Popen(
        command("run", *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(PYTHONUNBUFFERED="1"),
        start_new_session=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # ignored, where the tests run in the background
    )
    try:
        yield started
    finally:
        if is_alive(started.pid):
            os.killpg(started.pid, signal.SIGKILL)
        started.communicate()


def wait_for(started: subprocess.Popen[str], done: int) -> None:
    """Wait until so many jobs have been reported."""
    assert started.stdout
    for line in started.stdout:
        if line.startswith(f"[{done}/"):
            return
    raise AssertionError(f"the run ended early: {started.stderr.read() if started.stderr else ''}")


def is_alive(group: int) -> bool:
    """Whether any process of a group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def is_left_behind(group: int) -> bool:
    """Whether any process of a group is still there in a while: Python's own helpers need a moment."""
    deadline = time.monotonic() + 20
    while is_alive(group) and time.monotonic() < deadline:
        time.sleep(0.05)
    return is_alive(group)


def finished_jobs(folder: Path) -> set[str]:
    with Store(folder) as store:
        return {key.partition("-")[0] for key in store.keys()}  # noqa: SIM118 (no mapping)


def goes_on(call: Caller, path: Path, folder: Path, kept: set[str]) -> None:
    """Running again does exactly what is missing."""
    said = call("run", path, "--out", folder, "--workers", "1")
    assert said.code == 0
    assert f"; {len(kept)} are done already" in said.out
    assert len(re.findall(r"^\[\d+/", said.out, re.MULTILINE)) == JOBS - len(kept)
    assert len(finished_jobs(folder)) == JOBS
    assert kept <= finished_jobs(folder)


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, "2"), (signal.SIGTERM, "1")])
def test_that_is_stopped_says_what_is_kept_and_how_to_go_on(
    number: signal.Signals, workers: str, call: Caller, tmp_path: Path
) -> None:
    path, folder = written(tmp_path, victims=LONG, trials=4), tmp_path / "run"
    with running(path, "--out", folder, "--workers", workers) as started:
        wait_for(started, 3)
        if number == signal.SIGINT:
            os.killpg(started.pid, number)  # as a terminal does: to everyone
        else:
            started.send_signal(number)
        out, err = started.communicate(timeout=60)
        assert started.returncode == 130
        assert "Traceback" not in out + err
        assert err == ""
        assert not is_left_behind(started.pid)
    kept = finished_jobs(folder)
    stopped = re.search(r"^Stopped: (\d+) of 18 jobs are done and kept. Go on with:  (mithridate run .*)$", out, re.M)
    assert stopped
    assert int(stopped[1]) == len(kept) >= 3
    assert stopped[2] == f"mithridate run {path} --out {folder} --workers {workers}"
    assert (folder / "report.html").is_file()
    goes_on(call, path, folder, kept)


@pytest.mark.parametrize("seconds", [0.0, 0.5])
def test_stopped_while_its_workers_start_ends_without_a_traceback(seconds: float, tmp_path: Path) -> None:
    """A terminal interrupts them too, while they import what they need."""
    path, folder = written(tmp_path, victims=LONG, trials=4), tmp_path / "run"
    with running(path, "--out", folder, "--workers", "2") as started:
        wait_for_workers(started.pid)
        time.sleep(seconds)
        os.killpg(started.pid, signal.SIGINT)
        out, err = started.communicate(timeout=60)
        assert (started.returncode, err) == (130, "")
        assert "Traceback" not in out
        assert "Stopped: 0 of 18 jobs are done and kept. Go on with:  mithridate run" in out
        assert not is_left_behind(started.pid)


@pytest.mark.parametrize("made_of_it", [None, RecursionError("half a module"), ImportError("half a module")])
def test_an_interrupt_is_told_whatever_modules_make_of_it(
    made_of_it: Exception | None, call: Caller, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if made_of_it is None:
                raise
            raise made_of_it from None

    monkeypatch.setattr("mithridate.cli.running.carry_out", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where the tests run in the background
    try:
        said = call("run", written(tmp_path))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (said.code, said.out, said.err) == (130, "", "stopped\n")


def wait_for_workers(group: int) -> None:
    """Wait until a process of a group has begun another that does jobs."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for place in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if b"spawn_main" in place.read_bytes() and os.getpgid(int(place.parent.name)) == group:
                    return
        time.sleep(0.01)
    raise AssertionError("no worker was started")


def test_that_is_killed_leaves_a_whole_store_and_no_worker(call: Caller, tmp_path: Path) -> None:
    path, folder = written(tmp_path, victims=LONG, trials=4), tmp_path / "run"
    with running(path, "--out", folder, "--workers", "2") as started:
        wait_for(started, 3)
        started.send_signal(signal.SIGKILL)
        started.wait()
        assert not is_left_behind(started.pid)
    kept = finished_jobs(folder)
    assert 3 <= len(kept) < JOBS
    goes_on(call, path, folder, kept)


def test_on_a_terminal_has_bars(tmp_path: Path) -> None:
    """All jobs, and the one under way with its stage and its numbers."""
    path = written(tmp_path, trials=1, runs=1, victims=[{**TINY["victims"][0], "epochs": 150}])
    ours, theirs = pty.openpty()
    started = subprocess.Popen(
        command("run", path, "--out", tmp_path / "run", "--workers", "1"),
        stdout=theirs,
        stderr=theirs,
        env=environment(TERM="xterm-256color", COLUMNS="140"),
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the terminal is gone
            break
        if not part:
            break
        shown += part
    os.close(ours)
    assert started.wait() == 0
    assert b"\x1b[" in shown
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "━" in text
    assert re.search(r"all jobs ━*.*\b2/5\b", text)
    assert re.search(r"clean victim 1: clean victim .*\d+/150 .*loss \d\.\d+, accuracy \d\.\d+", text)
    assert "trial 0, victim 1: target " in text
    assert "Traceback" not in text
