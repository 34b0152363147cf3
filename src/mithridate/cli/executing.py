"""Where jobs run: what ``--device``, ``--executor``, ``--workers`` and ``--address`` mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mithridate.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from mithridate.executor import Executor

EXECUTORS = ("auto", "local", "processes", "ray")


def device(asked: str, executor: str) -> torch.device:
    """The device for a name; with Ray ``cuda`` means that of a node, and this machine needs none."""
    import torch

    from mithridate import runtime

    return torch.device("cuda") if executor == "ray" and asked == "cuda" else runtime.device(asked)


def chosen(kind: str, *, where: torch.device, workers: int | None, address: str | None) -> Executor:
    """The executor of this kind; ``auto``: processes on a CPU with several cores, else one job after another.

    Raises :class:`ConfigError` where the options contradict each other, and :class:`MissingExtraError` without Ray.
    """
    from mithridate import runtime
    from mithridate.executors.cluster import Cluster
    from mithridate.executors.local import Local
    from mithridate.executors.processes import Processes

    if kind not in EXECUTORS:
        raise ConfigError(f"--executor can be {', '.join(EXECUTORS[:-1])} or {EXECUTORS[-1]}, but it is '{kind}'")
    if address is not None and kind != "ray":
        raise ConfigError(f"--address names a Ray cluster; say --executor ray too (it is '{kind}')")
    if kind == "local" and (workers or 1) > 1:
        raise ConfigError(f"--executor local runs one job at a time, but --workers is {workers}; choose processes")
    if where.type == "cpu":
        runtime.use_threads(1)  # as workers do, so that their number changes no result
    if kind == "ray":
        if where.index is not None:
            raise ConfigError(f"with Ray, --device is cpu or cuda (each job has a GPU of its own), but it is '{where}'")
        return Cluster(address, gpus_per_job=int(where.type == "cuda"), workers=workers)
    count = workers or (runtime.cores() if where.type == "cpu" else 1)
    if kind == "local" or (kind == "auto" and (count == 1 or where.type != "cpu")):
        return Local()
    if where.type == "cpu":
        return Processes(count)
    return Processes(1, gpus=runtime.gpus(where)[:workers])
