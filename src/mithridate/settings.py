"""Settings as plain JSON-able values, and the fingerprint that decides whether two jobs are the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


def plain(value: Any) -> Any:
    """``value`` as JSON knows it: dataclasses become mappings led by their ``name``, tensors become hashes.

    Two settings objects are equal if and only if their plain forms are, and the form is the same in every process.
    """
    if is_dataclass(value) and not isinstance(value, type):
        name = getattr(type(value), "name", None)
        head = {"name": name} if isinstance(name, str) else {}
        return head | {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.init}
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (tuple, list, set, frozenset)):
        return [plain(each) for each in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, (torch.Tensor, np.ndarray)):
        array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
        return f"sha256:{hashlib.sha256(str(array.shape).encode() + array.tobytes()).hexdigest()}"
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return _named(value)


def fingerprint(*values: Any) -> str:
    """SHA-256 (first 24 hex digits) of the plain forms of ``values``, keys sorted."""
    text = json.dumps([plain(value) for value in values], sort_keys=True, allow_nan=True)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _named(value: Any) -> str:
    """A function or class by its place; any other object by its class, since its address means nothing."""
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}:{kind.__qualname__}"
