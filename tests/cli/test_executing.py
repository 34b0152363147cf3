"""Where jobs run: what the options of ``mithridate run`` choose, and which of them contradict each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mithridate.cli.executing import chosen, device
from mithridate.errors import ConfigError, DeviceError
from mithridate.executors.cluster import Cluster
from mithridate.executors.local import Local
from mithridate.executors.processes import Processes

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def choice(kind: str = "auto", *, where: torch.device = CPU, workers: int | None = None, **more: Any) -> str:
    """The executor chosen, in its own words."""
    return str(chosen(kind, where=where, workers=workers, **{"address": None, **more}))


@pytest.fixture(autouse=True)
def _three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here changes the threads of this process, which has three GPUs and four cores."""
    monkeypatch.setattr("mithridate.runtime.use_threads", lambda count: None)
    monkeypatch.setattr("mithridate.runtime.cores", lambda: 4)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("mithridate.executors.cluster.import_module", lambda name: None)


def test_without_a_word_processes_on_a_cpu_and_one_job_at_a_time_on_a_gpu() -> None:
    assert isinstance(chosen("auto", where=CPU, workers=None, address=None), Processes)
    assert choice() == "4 at a time"
    assert choice(workers=3) == "3 at a time"
    assert isinstance(chosen("auto", where=CPU, workers=1, address=None), Local)
    assert isinstance(chosen("auto", where=CUDA, workers=None, address=None), Local)


def test_local_is_one_at_a_time() -> None:
    assert choice("local") == choice("local", workers=1) == "one at a time"
    with pytest.raises(ConfigError, match="--executor local runs one job at a time, but --workers is 3"):
        choice("local", workers=3)


def test_processes_on_gpus_are_one_for_each() -> None:
    assert choice("processes", where=CUDA) == "3 at a time, each on a GPU of its own"
    assert choice("processes", where=CUDA, workers=2) == "2 at a time, each on a GPU of its own"
    assert choice("processes", where=torch.device("cuda:1")) == "1 at a time"
    assert choice("processes", workers=1) == "1 at a time"


def test_jobs_may_share_gpus_which_are_filled_evenly() -> None:
    assert choice(where=CUDA, per_gpu=2) == "6 at a time, on 3 GPUs"
    found = chosen("processes", where=CUDA, workers=4, address=None, per_gpu=2)
    assert isinstance(found, Processes)
    assert found.gpus == ("0", "1", "2", "0")
    assert choice("processes", where=CUDA, workers=2, per_gpu=2) == "2 at a time, each on a GPU of its own"
    assert choice("processes", where=torch.device("cuda:1"), per_gpu=3) == "3 at a time"
    assert choice("processes", where=torch.device("cuda:1"), per_gpu=3, workers=2) == "2 at a time"
    cluster = chosen("ray", where=CUDA, workers=None, address=None, per_gpu=4)
    assert isinstance(cluster, Cluster)
    assert cluster.needs == {"CPU": 1, "GPU": 0.25}


def test_jobs_cannot_share_a_gpu_that_is_not_there_or_one_after_another() -> None:
    with pytest.raises(ConfigError, match="--per-gpu 2 has jobs share a GPU, but the device is cpu; say --workers"):
        choice(per_gpu=2)
    with pytest.raises(ConfigError, match="--executor local runs one job at a time, but --per-gpu is 2"):
        choice("local", where=CUDA, per_gpu=2)


def test_ray_is_a_cluster_by_its_address_or_one_started_here() -> None:
    found = chosen("ray", where=CUDA, workers=None, address="auto")
    assert isinstance(found, Cluster)
    assert str(found) == "on the Ray cluster at auto"
    assert found.needs == {"CPU": 1, "GPU": 1}
    assert choice("ray") == "on a local Ray, started for this run"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"kind": "dask"}, "--executor can be auto, local, processes or ray, but it is 'dask'"),
        ({"address": "auto"}, "--address names a Ray cluster; say --executor ray too"),
        ({"kind": "ray", "where": torch.device("cuda:1")}, "with Ray, --device is cpu or cuda .* it is 'cuda:1'"),
    ],
)
def test_contradictions_are_said(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        choice(**options)


def test_the_gpus_of_a_cluster_need_not_be_here() -> None:
    assert device("cuda", "ray") == CUDA
    assert device("cpu", "ray") == CPU
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="no usable CUDA device"):
            device("cuda", "processes")
