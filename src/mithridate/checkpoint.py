"""Where a long computation stands: tensors by name and plain facts, written without pickle, complete or absent."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import get_ident
from typing import Any

import safetensors
import torch
from safetensors.torch import load, save
from torch import Tensor

from mithridate.errors import FormatError
from mithridate.settings import fingerprint


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """Tensors and plain facts under names; parts of a whole are kept under ``part/``."""

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    """By name, on any device."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What JSON can hold, by name."""

    def under(self, part: str) -> Checkpoint:
        """The part of this name; empty where there is none."""
        head = f"{part}/"
        return Checkpoint(
            tensors={name.removeprefix(head): each for name, each in self.tensors.items() if name.startswith(head)},
            facts={name.removeprefix(head): each for name, each in self.facts.items() if name.startswith(head)},
        )

    def joined(self, **parts: Checkpoint) -> Checkpoint:
        """This checkpoint with others kept inside it, each under its name."""
        return Checkpoint(
            tensors={**self.tensors, **{f"{p}/{n}": each for p, c in parts.items() for n, each in c.tensors.items()}},
            facts={**self.facts, **{f"{p}/{n}": each for p, c in parts.items() for n, each in c.facts.items()}},
        )


def write(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint as safetensors with a hash of its content, so that it is complete or absent."""
    # copies, because tied weights share memory, which the file format refuses
    tensors = {name: value.detach().contiguous().clone() for name, value in checkpoint.tensors.items()}
    facts = dict(checkpoint.facts)
    about = {"facts": json.dumps(facts), "digest": fingerprint(tensors, facts)}
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.{get_ident()}.partial")  # others may be writing the same one
    try:
        aside.write_bytes(save(tensors, metadata=about))
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def read(path: Path, *, device: torch.device | str = "cpu") -> Checkpoint:
    """The checkpoint at ``path``, its tensors on ``device``. Raises :class:`FormatError` where it is damaged."""
    try:
        stored = path.read_bytes()  # at once, since others may be replacing the file
        header = json.loads(stored[8 : 8 + int.from_bytes(stored[:8], "little")])
        about = header["__metadata__"]
        facts = json.loads(about["facts"])
        tensors = load(stored)
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError, RuntimeError, OSError) as error:
        raise FormatError(f"'{path}' is missing, damaged or no checkpoint ({type(error).__name__})") from error
    if fingerprint(tensors, facts) != about.get("digest"):
        raise FormatError(f"'{path}' is damaged: its content is not what was written")
    return Checkpoint(tensors={name: each.to(device) for name, each in tensors.items()}, facts=facts)


def generator_state(generator: torch.Generator) -> Tensor:
    """The state of a generator, ``(bytes,)`` uint8 on the CPU."""
    return generator.get_state().cpu()
