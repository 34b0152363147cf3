"""Where a piece is measured: the device, the size, the data, networks trained on them, and until when."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mithridate import checkpoint
from mithridate.checkpoint import Checkpoint
from mithridate.datasets.named import CIFAR10
from mithridate.learner import predictions
from mithridate.learners.recipes import recipe
from mithridate.learners.sgd import SGD
from mithridate.loading import load
from mithridate.model import Architecture, Classifier
from mithridate.models.resnet import ResNet18
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.notes import Notes
from mithridate.seeding import Seed
from mithridate.source import Split


class TimeUp(KeyboardInterrupt):
    """The minutes of this call are spent; what is known so far comes with it. An interrupt: jobs stop as at Ctrl-C."""

    def __init__(self, found: Mapping[str, Any] | None = None) -> None:
        super().__init__("the time is up")
        self.found = found


class NotThereError(Exception):
    """What is to be measured does not exist yet; the text says what."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much is measured."""

    rows: int | None
    """Training rows; None: all of CIFAR-10."""
    test_rows: int | None
    networks: Mapping[str, Architecture]
    """By the names they have in results; stand-ins where the size is tiny."""
    epochs: int | None
    """Of every training; None: as many as its recipe has."""
    poisons: int
    probed: int
    """Rows on which exactness is measured."""
    steps: int
    restarts: tuple[int, ...]
    rounds: int
    victims: int
    """``paper-40`` victims."""
    fast_victims: int
    together: tuple[int, ...]
    side: int
    """Of the matrices that are multiplied for a ceiling."""


FULL = Size(
    rows=None,
    test_rows=None,
    networks={"convnet": SmallConvNet(widths=(32, 32, 64, 64, 64), pools=(2, 4)), "resnet18": ResNet18(width=64)},
    epochs=None,
    poisons=500,
    probed=64,
    steps=250,
    restarts=(1, 8),
    rounds=7,
    victims=3,
    fast_victims=10,
    together=(1, 2, 4, 8),
    side=8192,
)
TINY = Size(
    rows=100,
    test_rows=20,
    networks={
        "convnet": SmallConvNet(widths=(4, 4), pools=(1, 2)),
        "resnet18": SmallConvNet(widths=(4, 8), pools=(1, 2)),
    },
    epochs=2,
    poisons=4,
    probed=4,
    steps=3,
    restarts=(1, 2),
    rounds=2,
    victims=2,
    fast_victims=2,
    together=(1, 2),
    side=64,
)


@dataclass(kw_only=True, eq=False)
class Place:
    """Device, size, folder and deadline of a call, and what pieces share."""

    device: torch.device
    tiny: bool
    folder: Path
    """Where work is kept between calls."""
    deadline: float
    """Of ``time.monotonic``."""
    trials: int | None = None
    """Trials planned of the published protocols; None: all."""
    kept: dict[str, Any] = field(default_factory=dict)
    """What was computed once in this process, by name."""

    @property
    def size(self) -> Size:
        """How much is measured."""
        return TINY if self.tiny else FULL

    @property
    def cuda(self) -> bool:
        """Whether it is measured on a GPU."""
        return self.device.type == "cuda"

    def check(self, found: Mapping[str, Any] | None = None) -> None:
        """Raise :class:`TimeUp` where the minutes are spent."""
        if self.late():
            raise TimeUp(found)

    def late(self) -> bool:
        """Whether the minutes are spent."""
        return time.monotonic() > self.deadline

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, made once in this process."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def data(self) -> Split:
        """CIFAR-10 on the device. Raises :class:`DataError` saying where to put it."""

        def moved() -> Split:
            split = load(CIFAR10(train_rows=self.size.rows, test_rows=self.size.test_rows))
            return Split(train=split.train.to(self.device), test=split.test.to(self.device))

        found: Split = self.once("data", moved)
        return found

    def fast(self) -> dict[str, Any]:
        """The settings with which a training is fast; recorded beside what is measured with them."""
        return {"precision": "bf16" if self.cuda else "auto", "channels_last": True, "compile": self.cuda}

    def learner(self, name: str, network: str, **changes: Any) -> SGD:
        """A recipe's learner, its training shortened where the size is tiny."""
        short = {} if self.size.epochs is None else {"epochs": self.size.epochs}
        return recipe(name, model=self.size.networks[network], **{**short, **changes})

    def network(self, name: str) -> Classifier:
        """A network trained for five epochs on the data, the same in every call: kept in the folder."""

        def made() -> Classifier:
            learner = self.learner("paper-40", name, schedule="one-cycle", **self.fast(), **self._five())
            path = self.folder / "networks" / f"{name}.safetensors"
            if not path.is_file():
                trained = learner.fit(self.data().train, seed=Seed(0)).model
                checkpoint.write(Checkpoint(tensors=trained.state_dict()), path)
            model = learner.build(self.data().train.space, Seed(0)).to(self.device)  # in the same layout in every call
            model.load_state_dict(dict(checkpoint.read(path, device=self.device).tensors))
            return model.eval()

        found: Classifier = self.once(f"network {name}", made)
        return found

    def _five(self) -> dict[str, int]:
        return {"epochs": 5} if self.size.epochs is None else {}

    def accuracy(self, model: Classifier) -> float:
        """The share of the test rows that a network gets right."""
        test = self.data().test
        said = predictions(model, test.all_inputs(), batch_size=2000).argmax(1)
        return float((said == test.labels).double().mean())

    def notes(self, name: str, key: str) -> Notes:
        """Where a long computation notes how far it is."""
        return Notes(self.folder / "notes" / f"{name}.safetensors", key=key, every=0.0 if self.tiny else 5.0)

    def wait(self) -> None:
        """Wait until the device has done all it was told to."""
        if self.cuda:
            torch.cuda.synchronize(self.device)
