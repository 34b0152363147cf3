"""(a) The machine, and what it can do at best: what everything else is to be held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn import functional

from gpu_pieces.keeping import Found, Piece, Row, Unit
from gpu_pieces.place import Place
from gpu_pieces.results import measured, row
from gpu_pieces.timing import timed

FORMATS = ("float32", "tf32", "bf16")


def units(place: Place) -> list[Unit]:
    """Products and convolutions in each number format, copying, and what launching a kernel costs."""
    found = []
    for kind in FORMATS:
        found.append(Unit(name=f"matmul {kind}", run=lambda kind=kind: _product(place, kind)))
        found.append(Unit(name=f"convolution {kind}", run=lambda kind=kind: _convolution(place, kind)))
    return [
        *found,
        Unit(name="copy", run=lambda: _copy(place)),
        Unit(name="launch", run=lambda: _launch(place)),
    ]


def rows(found: Mapping[str, Found]) -> list[Row]:
    """Rates; of a launch, microseconds."""
    lines = []
    for name, each in measured(found).items():
        low, high = each["range"]
        if name == "launch":
            lines.append(row(name, [1e6 * each["seconds"]], "us", spread=(1e6 * low, 1e6 * high)))
            continue
        unit = "GB/s" if name == "copy" else "TFLOP/s"
        rate = each["work"]
        lines.append(row(name, [rate / each["seconds"]], unit, spread=(rate / high, rate / low)))
    return [{**line, "n": found[line["case"]]["rounds"]} for line in lines]


def _product(place: Place, kind: str) -> Found:
    side = place.size.side
    left, right = (_random((side, side), place, kind) for _ in range(2))
    return _rated(lambda: left @ right, 2 * side**3 / 1e12, place, kind)


def _convolution(place: Place, kind: str) -> Found:
    """As in the third stage of ResNet-18 on 512 images."""
    images, channels = (2, 8) if place.tiny else (512, 256)
    shown = _random((images, channels, 8, 8), place, kind).to(memory_format=torch.channels_last)
    kernel = _random((channels, channels, 3, 3), place, kind).to(memory_format=torch.channels_last)
    work = 2 * 9 * channels**2 * 64 * images / 1e12
    return _rated(lambda: functional.conv2d(shown, kernel, padding=1), work, place, kind)


def _copy(place: Place) -> Found:
    source = torch.empty(place.size.side**2 * 16, device=place.device)
    target = torch.empty_like(source)
    return {**timed(lambda: target.copy_(source), place, calls=5), "work": 8 * source.numel() / 1e9}


def _launch(place: Place) -> Found:
    one = torch.zeros(1, device=place.device)
    return timed(lambda: one.add_(1), place, calls=1000)


def _rated(run: Callable[[], object], work: float, place: Place, kind: str) -> Found:
    with products(kind), torch.inference_mode():
        return {**timed(run, place, calls=10), "work": work}


def _random(shape: tuple[int, ...], place: Place, kind: str) -> Tensor:
    return torch.randn(shape, device=place.device, dtype=torch.bfloat16 if kind == "bf16" else torch.float32)


@contextmanager
def products(kind: str) -> Iterator[None]:
    """Products of float32 on CUDA rounded to TF32, or not."""
    places = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [each.allow_tf32 for each in places]
    try:
        for each in places:
            each.allow_tf32 = kind == "tf32"
        yield
    finally:
        for each, value in zip(places, before, strict=True):
            each.allow_tf32 = value


PIECE = Piece(name="machine", about="What the machine can do at best.", units=units, rows=rows)
