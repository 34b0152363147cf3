"""The machine: which device, how many threads, how exact. Only the command line and the executors ask."""

from __future__ import annotations

import importlib.metadata
import os
import platform

import torch

from mithridate.errors import DeviceError


def device(asked: str) -> torch.device:
    """The device for ``auto``, ``cpu``, ``cuda`` or ``cuda:1``. Raises :class:`DeviceError` where it is not there."""
    if asked == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if asked == "cpu":
        return torch.device("cpu")
    kind, _, number = asked.partition(":")
    if kind != "cuda" or (number and not number.isdecimal()):
        raise DeviceError(f"there is no device '{asked}'; allowed: auto, cpu, cuda, cuda:0, cuda:1, ...")
    if not torch.cuda.is_available():
        raise DeviceError("CUDA was asked for, but this machine has no usable CUDA device; use --device cpu or auto")
    if number and int(number) >= torch.cuda.device_count():
        raise DeviceError(f"there is no '{asked}': this machine has {torch.cuda.device_count()} CUDA devices")
    return torch.device(asked)


def cores() -> int:
    """How many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_threads(count: int) -> None:
    """Let torch compute with ``count`` threads in this process."""
    torch.set_num_threads(count)


def describe(where: torch.device) -> dict[str, str | int]:
    """What the results were computed with, for the report."""
    return {
        "mithridate": importlib.metadata.version("mithridate"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: importlib.metadata.version(name) for name in ("numpy", "scipy", "scikit-learn")},
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu",
        "processor": _processor(),
        "cores": cores(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 (a device, not a path of ours)
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        return names[0] if names else platform.processor()
    except OSError:
        return platform.processor() or platform.machine()
