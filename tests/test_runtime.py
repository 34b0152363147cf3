"""Promises of what a run says it was computed with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy
import sklearn
import torch

from mithridate.runtime import available_memory, describe, gpus


def test_names_the_versions_that_results_depend_on():
    found = describe(torch.device("cpu"))
    versions = {"numpy": np.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__}
    assert versions.items() <= found.items()


MEMINFO = "MemTotal:       16000000 kB\nMemFree:          500000 kB\nMemAvailable:    8000000 kB\n"


def machine(folder: Path, cgroup: str, **files: str) -> int:
    """The memory left on a machine with these files."""
    (folder / "proc" / "self").mkdir(parents=True)
    (folder / "proc" / "meminfo").write_text(MEMINFO)
    (folder / "proc" / "self" / "cgroup").write_text(cgroup)
    for name, text in files.items():
        path = folder / "groups" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(path.name.replace("memory_", "memory.")).write_text(text)
    return available_memory(system=folder / "proc", groups=folder / "groups")


class TestAvailableMemory:
    def test_is_what_the_machine_says(self, tmp_path: Path) -> None:
        assert machine(tmp_path, "0::/\n", memory_max="max\n", memory_current="5\n") == 8_000_000 * 1024

    def test_is_bounded_by_the_group_and_those_around_it(self, tmp_path: Path) -> None:
        """Of 1000 bytes 900 are used, 300 of them by files that can go; the group around has more."""
        inner = {
            "a__b__memory_max": "1000\n",
            "a__b__memory_current": "900\n",
            "a__b__memory_stat": "inactive_file 300",
        }
        outer = {"a__memory_max": "5000\n", "a__memory_current": "4500\n"}
        assert machine(tmp_path, "0::/a/b\n", **inner, **outer) == 400

    def test_is_bounded_by_a_group_of_version_1(self, tmp_path: Path) -> None:
        files = {"memory__a__memory_limit_in_bytes": "700\n", "memory__a__memory_usage_in_bytes": "800\n"}
        assert machine(tmp_path, "12:cpu,memory:/a\n4:pids:/\n", **files) == 0

    def test_is_a_great_deal_where_nobody_tells(self, tmp_path: Path) -> None:
        assert available_memory(system=tmp_path, groups=tmp_path) > 1 << 60

    def test_is_known_of_this_machine(self) -> None:
        assert 1 << 20 < available_memory() < 1 << 50


def test_gpus_are_those_that_cuda_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert gpus(torch.device("cuda")) == ("0", "1", "2")
    assert gpus(torch.device("cuda:1")) == gpus(torch.device("cpu")) == ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 6,GPU-1f")
    assert gpus(torch.device("cuda")) == ("4", "6", "GPU-1f")
