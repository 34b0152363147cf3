"""Small data and learners that the tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from mithridate import campaign
from mithridate.dataset import Dataset, Space
from mithridate.learners.augment import Augmentation
from mithridate.learners.sgd import SGD
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.source import Split
from tests.runs import carried_out, tiny

torch.set_num_threads(1)

# `make test` tries the same examples on every machine; `make test-slow` also searches for new ones.
settings.register_profile("steady", derandomize=True, database=None, deadline=None)
settings.register_profile("search", deadline=None, print_blob=True)
settings.load_profile("steady")


def stripes(rows: int, *, seed: int, classes: int = 3, size: int = 12, first_id: int = 0) -> Dataset:
    """Noisy 8-bit images whose class is the place of a bright stripe: learnt in a few epochs, never at once."""
    draws = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % classes
    images = torch.rand(rows, 3, size, size, generator=draws) * 0.6
    width = size // classes
    for label in range(classes):
        images[labels == label, :, :, label * width : (label + 1) * width] += 0.25
    space = Space(
        shape=(3, size, size),
        num_classes=classes,
        levels=256,
        classes=tuple(f"stripe {k}" for k in range(classes)),
        mean=(0.38, 0.38, 0.38),
        std=(0.2, 0.2, 0.2),
    )
    return Dataset.of(space.encode(images.clamp(0, 1)), labels, space=space, first_id=first_id)


@pytest.fixture(scope="session")
def split() -> Split:
    return Split(train=stripes(90, seed=1), test=stripes(30, seed=2))


@pytest.fixture(scope="session")
def learner() -> SGD:
    return SGD(
        model=SmallConvNet(widths=(4, 6)),
        epochs=3,
        batch_size=16,
        lr=0.05,
        schedule="one-cycle",
        augmentation=Augmentation(shift=1.0),
    )


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the tiny experiment, with its report. Tests leave it as it is."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert not [ended for ended in carried_out(tiny(), folder) if ended.error]
    campaign.finish(folder)
    return folder
