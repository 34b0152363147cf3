"""Processes of their own: what they return, and every way in which they may end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mithridate.bench.apart import BrokenError, LateError, MissingError, apart
from mithridate.bench.measure import Effort
from mithridate.bench.peak import peak
from mithridate.bench.runner import memory_named, timed_named
from mithridate.errors import DataError

MIB = 2**20


def product(left, right):
    return left * right, os.getpid()


def ends(way):
    if way == "sentence":
        raise DataError("the images are not here")
    if way == "error":
        raise ValueError("seven")
    os.kill(os.getpid(), signal.SIGKILL)


def sleeps(file):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    file.write_text(str(child.pid))
    time.sleep(60)


def tells(count, tell):
    for number in range(count):
        tell(number)
    time.sleep(60)


def held(megabytes):
    import torch

    return peak(lambda: torch.ones(megabytes * MIB // 4).sum())


def alive(process):
    """Whether a process runs; one that has ended may wait for its parent to hear of it."""
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_answer_comes_from_another_process():
    value, process = apart(product, 6, 7)
    assert value == 42
    assert process != os.getpid()


@pytest.mark.parametrize(
    ("way", "error", "says"),
    [
        ("sentence", MissingError, "^the images are not here$"),
        ("error", BrokenError, "^ValueError: seven$"),
        ("kill", BrokenError, "ended by SIGKILL .memory may have run out"),
    ],
)
def test_every_bad_end_is_a_sentence(way, error, says):
    with pytest.raises(error, match=says):
        apart(ends, way)


def test_what_is_told_on_the_way_is_heard_though_the_end_is_late():
    heard = []
    with pytest.raises(LateError):
        apart(tells, 3, until=time.monotonic() + 3, heard=heard.append)
    assert heard == [0, 1, 2]


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_what_is_late_ends_with_all_it_started(tmp_path):
    apart(product, 1, 1)  # the server is up
    with pytest.raises(LateError):
        apart(sleeps, tmp_path / "child", until=time.monotonic() + 1.5)
    child = int((tmp_path / "child").read_text())
    ended = time.monotonic() + 5
    while alive(child) and time.monotonic() < ended:
        time.sleep(0.05)
    assert not alive(child)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory can be read on Linux only")
def test_peak_memory_is_that_of_one_call():
    found = apart(held, 64)
    assert found is not None
    assert 63 * MIB < found[0] < 72 * MIB


def test_a_case_is_found_by_its_name_over_there():
    name = "augmentation/bilinear/N128"
    found = apart(timed_named, name, Effort(rounds=3), 1)
    assert (found.name, list(found.forms), len(found.forms["ours"].round_seconds)) == (name, ["plain", "ours"], 3)
    if sys.platform == "linux":
        assert apart(memory_named, name, "ours", 1)[0] > 128 * 3 * 32 * 32 * 4  # what comes out, at the least
