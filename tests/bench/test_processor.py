"""Who used the processor: against a made-up /proc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mithridate.bench.processor import Usage, foreign, usage

GRAIN = os.sysconf("SC_CLK_TCK")


def proc(folder: Path, *, stat: str, **processes: tuple[int, int]) -> Path:
    """A /proc with processes ``p<number>=(parent, ticks)``."""
    (folder / "stat").write_text(stat)
    for name, (parent, ticks) in processes.items():
        place = folder / name[1:]
        place.mkdir()
        (place / "stat").write_text(f"{name[1:]} (a (strange) name) S {parent} 0 0 0 0 0 0 0 0 0 {ticks} 2 3 4 20 0")
    return folder


def test_own_time_is_that_of_the_process_and_of_all_below_it(tmp_path):
    stat = f"cpu {GRAIN} {GRAIN} {GRAIN} 999 999 {GRAIN} {GRAIN} {GRAIN} 5 5\ncpu0 1\ncpu1 1\nintr 5\n"
    system = proc(tmp_path, stat=stat, p10=(1, 100), p11=(10, 200), p12=(11, 400), p20=(1, 800))
    found = usage(10, system=system)
    assert found is not None
    assert found.own == (100 + 200 + 400 + 3 * 9) / GRAIN
    assert (found.busy, found.cores) == (6.0, 2)


@pytest.mark.parametrize(("others", "share"), [(0.0, 0.0), (1.0, 0.25), (4.0, 1.0), (-0.3, 0.0)])
def test_share_of_others_is_what_was_busy_beyond_our_own_time(others, share):
    before = Usage(wall=10.0, busy=100.0, own=5.0, cores=2)
    after = Usage(wall=12.0, busy=101.5 + others, own=6.5, cores=2)
    assert foreign(before, after) == pytest.approx(share)


def test_nothing_is_said_where_the_system_does_not_tell_or_the_time_is_too_short(tmp_path):
    assert usage(system=tmp_path) is None
    now = Usage(wall=1.0, busy=1.0, own=1.0, cores=2)
    assert foreign(None, now) is None
    assert foreign(now, now) is None


def test_this_process_is_found_here():
    found = usage()
    assert found is None or found.own > 0
