"""The machine: which device, how many threads, how exact. Only the command line and the executors ask."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from pathlib import Path

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


def gpus(where: torch.device) -> tuple[str, ...]:
    """The GPUs that ``cuda`` means, as CUDA_VISIBLE_DEVICES names them; none for the CPU or one GPU by its number."""
    if where.type != "cuda" or where.index is not None:
        return ()
    named = [each.strip() for each in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if each.strip()]
    count = torch.cuda.device_count()
    return tuple(named[:count] if named else map(str, range(count)))


def available_memory(*, system: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes of memory that processes may still take: of the machine, and of the control groups this one is in.

    A great many where the system does not tell.
    """
    return max(
        0, min([_available(system / "meminfo"), *map(_left_in, _groups(_words(system / "self" / "cgroup"), groups))])
    )


def _available(meminfo: Path) -> int:
    """MemAvailable, in bytes."""
    found = [line.split()[1] for line in _words(meminfo).splitlines() if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else sys.maxsize


def _groups(listed: str, root: Path) -> list[Path]:
    """The folders of the control groups that bound this process's memory, of version 1 or 2, and of those around."""
    found: list[Path] = []
    for line in listed.splitlines():
        number, kinds, path = line.split(":", 2)
        if number == "0" or "memory" in kinds.split(","):
            top = root if number == "0" else root / "memory"
            place = top / path.lstrip("/")
            found += [each for each in (place, *place.parents) if each.is_relative_to(top)]
    return found


def _left_in(group: Path) -> int:
    """What a control group may still take, in bytes; files that are only kept in memory make room when they must."""
    for limit, used, files in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, now = _words(group / limit).strip(), _words(group / used).strip()
        if most.isdecimal() and now.isdecimal():
            stat = (line.split() for line in _words(group / "memory.stat").splitlines())
            return int(most) - int(now) + sum(int(number) for name, number in stat if name == files)
    return sys.maxsize


def _words(path: Path) -> str:
    """The text of a file; empty where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


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
        "device": _device_name(where),
        "processor": _processor(),
        "cores": cores(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _device_name(where: torch.device) -> str:
    if where.type != "cuda":
        return "cpu"
    return torch.cuda.get_device_name(where) if torch.cuda.is_available() else "cuda, on other machines"


def _processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 (a device, not a path of ours)
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
        return names[0] if names else platform.processor()
    except OSError:
        return platform.processor() or platform.machine()
