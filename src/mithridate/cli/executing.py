"""Where jobs run: what ``--device``, ``--executor``, ``--workers``, ``--per-gpu`` and ``--address`` mean."""

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


def chosen(kind: str, *, where: torch.device, workers: int | None, address: str | None, per_gpu: int = 1) -> Executor:
    """The executor of this kind; ``auto``: processes on a CPU with several cores, else one job after another.

    Jobs share a GPU where ``per_gpu`` is more than 1; ``auto`` is then processes, too. Raises :class:`ConfigError`
    where the options contradict each other, and :class:`MissingExtraError` without Ray.
    """
    from mithridate import runtime
    from mithridate.executors.cluster import Cluster
    from mithridate.executors.local import Local
    from mithridate.executors.processes import Processes

    if kind not in EXECUTORS:
        raise ConfigError(f"--executor can be {', '.join(EXECUTORS[:-1])} or {EXECUTORS[-1]}, but it is '{kind}'")
    if address is not None and kind != "ray":
        raise ConfigError(f"--address names a Ray cluster; say --executor ray too (it is '{kind}')")
    _check_sharing(kind, where, per_gpu)
    if kind == "local" and (workers or 1) > 1:
        raise ConfigError(f"--executor local runs one job at a time, but --workers is {workers}; choose processes")
    if where.type == "cpu":
        runtime.use_threads(1)  # as workers do, so that their number changes no result
    if kind == "ray":
        if where.index is not None:
            raise ConfigError(f"with Ray, --device is cpu or cuda (each job has a GPU of its own), but it is '{where}'")
        return Cluster(address, gpus_per_job=1 / per_gpu if where.type == "cuda" else 0, workers=workers)
    count = workers or (runtime.cores() if where.type == "cpu" else 1)
    if kind == "local" or (kind == "auto" and per_gpu == 1 and (count == 1 or where.type != "cpu")):
        return Local()
    if where.type == "cpu":
        return Processes(count)
    most = min(per_gpu, workers or per_gpu)  # on the one GPU that was named
    return Processes(most, gpus=(runtime.gpus(where) * per_gpu)[:workers])


def _check_sharing(kind: str, where: torch.device, per_gpu: int) -> None:
    """Raise :class:`ConfigError` where several jobs are to share a GPU, but there is none or one job at a time."""
    if per_gpu == 1:
        return
    if where.type == "cpu":
        raise ConfigError(f"--per-gpu {per_gpu} has jobs share a GPU, but the device is cpu; say --workers instead")
    if kind == "local":
        raise ConfigError(f"--executor local runs one job at a time, but --per-gpu is {per_gpu}; choose processes")
