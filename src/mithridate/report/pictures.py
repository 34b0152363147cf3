"""Pictures out of poison sets: rows read from safetensors, turned into small PNG data URIs."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError, safe_open

from mithridate.report.load import Craft, Run

Floats = NDArray[np.float64]

LARGEST = 96
"""Pixels a side; larger pictures are averaged down. Noise does not compress: 96 x 96 x 3 is 27 kB."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The first rows of a poison set, and its targets. Pictures are ``(N, C, H, W)`` in [0, 1], tables ``(N, D)``."""

    inputs: Floats
    base: Floats | None
    """The clean originals of ``inputs``; None where they are not stored."""
    ids: tuple[int, ...]
    labels: tuple[int, ...]
    base_ids: tuple[int, ...]
    """Ids of the clean originals, which are those of ``inputs`` unless these were added to the training set."""
    base_labels: tuple[int, ...]
    """Empty where they are not stored."""
    targets: Floats
    target_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture for the page."""

    uri: str
    alt: str
    width: int
    height: int


def rows(run: Run, craft: Craft, count: int) -> Rows | None:
    """Read the first ``count`` rows and targets of a poison set; None where the file is absent or cannot be read."""
    path = (run.folder / craft.folder / "poison.safetensors").resolve()
    if not path.is_relative_to(run.folder.resolve()) or not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            sizes = {name: shape[0] for name, each in slices.items() if (shape := each.get_shape())}
            found = {  # an empty slice of nothing is refused, so what is empty is taken whole
                name: slices[name][: min(count, size)] if size else file.get_tensor(name)
                for name, size in sizes.items()
            }
    except (SafetensorError, OSError, TypeError, ValueError):
        return None
    top = _top(path.with_name("manifest.json"))
    inputs, base = _unit(found.get("inputs"), top), _unit(found.get("base"), top)
    return Rows(
        inputs=inputs,
        base=base if base.size and base.shape == inputs.shape else None,
        ids=_whole(found.get("ids")),
        labels=_whole(found.get("labels")),
        base_ids=_whole(found.get("base_ids", found.get("ids"))),
        base_labels=_whole(found.get("base_labels")),
        targets=_unit(found.get("target_inputs"), top),
        target_ids=_whole(found.get("target_ids")),
    )


def amplification(inputs: Floats, base: Floats) -> int:
    """The whole factor that makes the largest difference of a set fill the range around middle grey.

    Middle grey lies between two codes of 8 bits, so 128 of them count as half: 32/255 is shown 4 times amplified.
    """
    largest = float(np.abs(inputs - base).max(initial=0.0))
    return max(1, int(128 / 255 / largest + 1e-6)) if largest > 0 else 1


def difference(changed: Floats, clean: Floats, factor: int) -> Floats:
    """``changed - clean`` times ``factor``, centred on middle grey. Any shape, [0, 1]."""
    return np.clip(0.5 + factor * (changed - clean), 0.0, 1.0)


def picture(pixels: Floats, alt: str, *, largest: int = LARGEST) -> Picture | None:
    """A picture of ``(C, H, W)`` pixels in [0, 1], at most ``largest`` a side; None for what is no image."""
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or not pixels.size:
        return None
    levels = np.round(np.clip(np.nan_to_num(pixels), 0, 1) * 255).astype(np.uint8)
    image = Image.fromarray(levels[0] if len(levels) == 1 else np.ascontiguousarray(levels.transpose(1, 2, 0)))
    if max(image.size) > largest:
        image.thumbnail((largest, largest), Image.Resampling.BOX)
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    uri = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
    return Picture(uri=uri, alt=alt, width=image.width, height=image.height)


def weight(pictures: Sequence[Picture | None]) -> int:
    """Bytes that pictures take on the page."""
    return sum(len(each.uri) for each in pictures if each is not None)


def _top(manifest: Path) -> float:
    """The code of the brightest value: 255, unless the manifest says that the data have fewer levels."""
    try:
        levels = json.loads(manifest.read_text(encoding="utf-8"))["space"]["levels"]
        return float(levels - 1) if levels and levels > 1 else 255.0
    except (OSError, ValueError, TypeError, KeyError):
        return 255.0


def _unit(values: NDArray[np.generic] | None, top: float) -> Floats:
    """Pixels in [0, 1], whether they were stored as codes or as floats; empty where there are none."""
    if values is None:
        return np.zeros((0,))
    return np.asarray(values, dtype=np.float64) / (top if values.dtype == np.uint8 else 1.0)


def _whole(values: NDArray[np.generic] | None) -> tuple[int, ...]:
    return () if values is None else tuple(int(value) for value in np.asarray(values).reshape(-1).tolist())
