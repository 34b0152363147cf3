"""The data of a source, read once in a process, and the digest that names them."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from pathlib import Path

import torch

from mithridate.settings import fingerprint
from mithridate.source import Source, Split

Loaded = tuple[Source, Split, str]
"""A source, its data, and their digest."""
_KEPT = 4
"""Sources whose data are kept: those of an experiment, and what its networks were pretrained on."""


def load(source: Source) -> Split:
    """The data of a source, read once in this process."""
    return loaded(source)[1]


def data_digest(source: Source) -> str:
    """SHA-256 over training rows, test rows and their space: what jobs are keyed by, whatever the source is called."""
    return loaded(source)[2]


def loaded(source: Source) -> Loaded:
    """The source (kept, so that its objects keep their addresses), its data, and their digest."""
    key = _key(source)
    if key in _LOADED:
        _LOADED[key] = _LOADED.pop(key)  # the last used is the last to go
        return _LOADED[key]
    while len(_LOADED) >= _KEPT:
        _LOADED.pop(next(iter(_LOADED)))
    data = source.load()
    _LOADED[key] = (source, data, fingerprint(data.train.digest(), data.test.digest(), data.train.space))
    return _LOADED[key]


def _key(source: Source) -> str:
    return f"{fingerprint(source)} {_live(source)}"


def hold(given: Loaded) -> None:
    """Take the data of a source as another process loaded them: where this one runs they may not be."""
    _LOADED[_key(given[0])] = given


def _live(source: Source) -> list[int]:
    """Addresses of settings that are objects of the user's (a torch data set): their fingerprint says too little."""
    if not is_dataclass(source):
        return [id(source)]
    known = (str, int, float, tuple, dict, Path, torch.Tensor, type(None))
    values = [getattr(source, each.name) for each in fields(source)]
    inner = [each for value in values if isinstance(value, tuple) for each in value if isinstance(each, Source)]
    own = [id(value) for value in values if not isinstance(value, known)]
    return own + [address for each in inner for address in _live(each)]


_LOADED: dict[str, Loaded] = {}
