"""(g) Several networks on one GPU at once, a process each: images a second of all together against one alone."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

import torch

from gpu_pieces.keeping import Found, Piece, Row, Unit
from gpu_pieces.place import FULL, TINY, Place
from gpu_pieces.results import measured, row
from mithridate.dataset import Dataset, Space
from mithridate.learners.recipes import recipe
from mithridate.seeding import Seed

SPACE = Space(shape=(3, 32, 32), num_classes=10, levels=256, mean=(0.5,) * 3, std=(0.25,) * 3)
PATIENCE = 420.0
"""Seconds in which all processes must have begun, compiled and trained."""


def units(place: Place) -> list[Unit]:
    """Both networks, one alone and several at once."""
    return [
        Unit(name=f"{network} x {count}", run=lambda n=network, c=count: _together(place, n, c))
        for network in (["convnet"] if place.tiny else place.size.networks)
        for count in place.size.together
    ]


def _together(place: Place, network: str, count: int) -> Found:
    """Images a second over the epochs after the first, which compiles."""
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mithridate.bench.preloaded", "mithridate.learners.recipes"])
    barrier = context.Barrier(count, timeout=PATIENCE)
    crew = []
    for number in range(count):
        ours, theirs = context.Pipe(duplex=False)
        asked = (theirs, barrier, network, number, str(place.device), place.tiny, place.fast())
        process = context.Process(target=_train, args=asked, daemon=True)
        process.start()
        theirs.close()
        crew.append((process, ours))
    try:
        spans = [_answer(pipe) for _, pipe in crew]
    finally:
        for process, pipe in crew:
            process.kill()
            process.join()
            pipe.close()
    images = sum(span["images"] for span in spans)
    seconds = max(span["ended"] for span in spans) - min(span["began"] for span in spans)
    return {"networks": count, "images_a_second": images / seconds, "seconds": seconds, "images": images}


def _answer(pipe: Connection) -> dict[str, float]:
    """What a process measured. Raises :class:`RuntimeError` where it failed."""
    try:
        if not pipe.poll(PATIENCE):
            raise RuntimeError(f"a process said nothing for {PATIENCE:g} s")
        said: dict[str, Any] = pipe.recv()
    except EOFError:
        raise RuntimeError("a process died") from None
    if "failed" in said:
        raise RuntimeError(said["failed"])
    return said


def _train(
    pipe: Connection, barrier: Any, network: str, number: int, device: str, tiny: bool, fast: Mapping[str, Any]
) -> None:
    """Train a network on noise; tell when the epochs after the first began and ended."""
    try:
        torch.set_num_threads(1)
        size, count, epochs = (TINY, 40, 3) if tiny else (FULL, 10_000, 4)
        draws = torch.Generator().manual_seed(number)
        images = torch.randint(256, (count, *SPACE.shape), dtype=torch.uint8, generator=draws)
        data = Dataset.of(images, torch.arange(count) % 10, space=SPACE).to(device)
        learner = recipe("paper-40", model=size.networks[network], epochs=epochs, **fast)
        training = learner.train(data, seed=Seed(number))
        next(training)
        barrier.wait()
        began = time.monotonic()
        done = sum(1 for _ in training)
        pipe.send({"began": began, "ended": time.monotonic(), "images": count * done})
    except Exception as error:
        barrier.abort()
        pipe.send({"failed": f"{type(error).__name__}: {error}"[:300]})


def rows(found: Mapping[str, Found]) -> list[Row]:
    """Images a second, and the gain over one network alone."""
    there, lines = measured(found), []
    for name, each in there.items():
        alone = there.get(f"{name.partition(' x ')[0]} x 1")
        gain = f"{each['images_a_second'] / alone['images_a_second']:.2f} times one alone" if alone else ""
        lines.append(row(f"training at once: {name}", [each["images_a_second"]], "images/s", note=gain))
    return lines


PIECE = Piece(
    name="together", about="Several victims trained at once on one GPU, a process each.", units=units, rows=rows
)
