"""The machine that is measured on, as far as it decides speed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from mithridate import runtime

_FLAGS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "asimd",
    "bf16",
)
_OPTIONAL = ("numba", "opacus")
Machine = Mapping[str, str | int]


def machine(threads: int | None = None) -> Machine:
    """What speed depends on: versions, processor, instruction sets, cores, threads (default: torch's), the GPU."""
    import torch

    versions = {}
    for name in _OPTIONAL:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "absent"
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    where = runtime.describe(torch.device("cpu"))
    return {
        **where,
        **versions,
        "instructions": _instructions(),
        "gpu": gpu,
        "threads": threads or torch.get_num_threads(),
    }


def _instructions(info: Path = Path("/proc/cpuinfo")) -> str:
    """The instruction sets that matter here, as far as the system tells."""
    try:
        lines = info.read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    named = next(
        (line.partition(":")[2].split() for line in lines if line.lower().startswith(("flags", "features"))), []
    )
    return " ".join(each for each in _FLAGS if each in named) or "unknown"
