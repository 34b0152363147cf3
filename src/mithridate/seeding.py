"""Randomness by name: every random draw descends from one number through the names of the things that draw."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Seed:
    """A seed that hands out independent seeds by name.

    ``Seed(0).child("trial", 3).child("craft")`` is the same number in every process, whatever was drawn before, so
    a job computed alone equals the same job computed in a campaign. Nothing here touches the global generator except
    inside :meth:`scope`, which restores it.
    """

    value: int = 0

    def child(self, *names: str | int) -> Seed:
        """The seed of the thing called ``names`` below this one (63 bits of BLAKE2b over value and names)."""
        text = "\x1f".join([str(self.value), *(f"{type(name).__name__}:{name}" for name in names)])
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        return Seed(int.from_bytes(digest, "big") >> 1)

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator on ``device``, at the start of this seed's stream."""
        return torch.Generator(device=device).manual_seed(self.value)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Seed torch's global CPU and CUDA generators inside the block and restore them after it.

        For code that knows no other randomness, above all the initialisation of ``nn.Module`` weights and dropout.
        """
        devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=devices):
            if devices:
                torch.manual_seed(self.value)
            else:  # the former would also note, with a stack trace, how to seed devices that may come: 0.6 ms each time
                torch.default_generator.manual_seed(self.value)
            yield
