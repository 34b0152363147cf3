"""Convolutional victims: images a second over all cores, ours against a plain loop with as many threads as cores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from mithridate.bench.case import Case, Figure, Form, Forms, Growth

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from mithridate.dataset import Dataset
    from mithridate.learners.sgd import SGD
    from mithridate.source import Split

_WIDTHS, _POOLS = (32, 32, 64, 64, 64), (2, 4)
_SHIFT, _LR = 2.0, 0.05
_ENDLESS = 10**6  # epochs: a training whose next epoch is always at hand
_SEEDS_APART = 0.08  # by how much the accuracies of equal trainings from other seeds may differ
_GFLOP = 3 * 2 * 0.0268  # three passes of 26.8 million multiply-adds an image


def _learner(size: Mapping[str, int], epochs: int) -> SGD:
    from mithridate.learners.augment import Augmentation
    from mithridate.learners.recipes import recipe
    from mithridate.models.smallconvnet import SmallConvNet

    return recipe(
        "cpu-fast",
        model=SmallConvNet(widths=_WIDTHS, pools=_POOLS),
        epochs=epochs,
        batch_size=size["batch"],
        lr=_LR,
        schedule="constant" if epochs == _ENDLESS else "one-cycle",
        augmentation=Augmentation(shift=_SHIFT),
    )


def _data() -> Split:
    from mithridate.datasets.bundled import Bundled
    from mithridate.loading import load

    return load(Bundled())


def _rows(count: int) -> Dataset:
    return _data().train.at(slice(0, count))


def _epochs(size: Mapping[str, int], rows: int) -> Callable[[], object]:
    """A function that trains ours for one epoch more."""
    from mithridate.seeding import Seed

    training = _learner(size, _ENDLESS).train(_rows(rows), seed=Seed(0))
    return lambda: next(training)


def _plain(size: Mapping[str, int], data: Dataset, epochs: int) -> tuple[Callable[[], None], Callable[[Split], float]]:
    """A function that trains the plain form for one epoch more, and its test accuracy."""
    import torch

    from mithridate.bench.plain.victims import network, trainer
    from mithridate.learners.schedule import factor

    space = data.space
    torch.manual_seed(0)
    model = network(_WIDTHS, _POOLS, space.num_classes, torch.tensor(space.mean), torch.tensor(space.std))

    def rate(epoch: float) -> float:
        schedule: str = "constant" if epochs == _ENDLESS else "one-cycle"
        return _LR * factor(schedule, epoch=epoch, epochs=epochs, drops=())  # type: ignore[arg-type]

    def accuracy(split: Split) -> float:
        model.eval()
        with torch.no_grad():
            return float((model(split.test.all_inputs()).argmax(1) == split.test.labels).float().mean())

    epoch = trainer(model, data.all_inputs(), data.labels, batch=size["batch"], lr=rate, shift=_SHIFT)
    return epoch, accuracy


def _prepared(size: Mapping[str, int]) -> Forms:
    import torch

    from mithridate.seeding import Seed
    from mithridate.trial import accuracy as measured

    cores, work = torch.get_num_threads(), _GFLOP * size["images"]
    plain, _ = _plain(size, _rows(size["images"]), _ENDLESS)
    fast = {"one process": Form(run=_epochs(size, size["images"]), work=work, limit="conv bf16")}
    absent = {}
    if cores > 1:
        fast["processes"] = Form(run=_crew(size, cores), work=work, limit="conv bf16")
    else:
        absent["processes"] = "it needs two cores"

    def accuracy() -> dict[str, list[Figure]]:
        split, epochs = _data(), size["epochs"]
        rows = split.train.at(slice(0, size["rows"]))
        slow, judged = _plain(size, rows, epochs)
        for _ in range(epochs):
            slow()
        found, theirs = measured(_learner(size, epochs).fit(rows, seed=Seed(0)).model, split.test), judged(split)
        least = max(0.3, theirs - _SEEDS_APART)
        ours = [Figure(name="test accuracy", value=found, at_least=least if epochs > 1 else 0.0)]
        return {"plain": [Figure(name="test accuracy", value=theirs)], **dict.fromkeys(fast, ours)}

    plain_form = Form(run=plain, work=work, limit="conv fp32")
    return Forms(plain=plain_form, fast=fast, accuracy=accuracy, absent=absent)


def _side_by_side(size: Mapping[str, int]) -> Forms:
    """One process of one thread, against as many as there are cores."""
    import torch

    cores, work = torch.get_num_threads(), _GFLOP * size["images"]
    plain = Form(run=_crew(size, 1), work=work, limit="conv bf16")
    if cores < 2:
        return Forms(plain=plain, fast={}, accuracy=dict, absent={"processes": "it needs two cores"})
    many = Form(run=_crew(size, cores), work=work, limit="conv bf16")
    same = [Figure(name="networks at a time", value=cores, at_least=1)]
    return Forms(plain=plain, fast={"processes": many}, accuracy=lambda: {"processes": same})


def _crew(size: Mapping[str, int], count: int) -> Callable[[], object]:
    """A function that has so many processes of one thread train a network each, on their share of the images."""
    import multiprocessing

    context, pipes = multiprocessing.get_context("spawn"), []
    for _ in range(count):
        ours, theirs = context.Pipe()
        context.Process(target=_work, args=(theirs, dict(size), size["images"] // count), daemon=True).start()
        theirs.close()
        pipes.append(ours)

    def run() -> None:
        for pipe in pipes:
            pipe.send("epoch")
        for pipe in pipes:
            pipe.recv()

    return run


def _work(pipe: Connection, size: Mapping[str, int], rows: int) -> None:
    """Train one epoch for each word, until the other end is closed."""
    import torch

    torch.set_num_threads(1)
    epoch = _epochs(size, rows)
    try:
        while pipe.recv():
            epoch()
            pipe.send("done")
    except (EOFError, OSError):
        return


def _grown(rows: int) -> Callable[[], object]:
    return _epochs({"batch": 64}, rows)


CASES = (
    Case(
        name="victims/convnet/B128",
        about="train a ConvNet of five layers on images of 32 x 32; plain: float32, sampling grids, all threads",
        size={"images": 1024, "batch": 128, "rows": 2531, "epochs": 8},
        tiny={"images": 32, "batch": 16, "rows": 64, "epochs": 1},
        items="images",
        prepare=_prepared,
        must={"processes": 2.1},
        stretch={"processes": 2.8},
    ),
    Case(
        name="victims/side-by-side/B128",
        about="the same training in as many processes of one thread as there are cores; plain: in one such process",
        size={"images": 1024, "batch": 128},
        tiny={"images": 32, "batch": 16},
        items="images",
        prepare=_side_by_side,
        must={"processes": 1.8},
    ),
    Growth(
        name="victims/growth/rows",
        about="an epoch of the same training, by the rows in it",
        parameter="rows",
        sizes=(256, 512, 1024, 2048),
        tiny=(32, 64),
        prepare=_grown,
        exponent=1.0,
    ),
)
