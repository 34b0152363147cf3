"""Number formats: what auto means where, and that training in bf16 computes in bf16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import nn

from mithridate.dataset import Space
from mithridate.learners import precision
from mithridate.learners.precision import LIMIT, agreement, autocast, fitting, resolved
from mithridate.learners.running import Run
from mithridate.learners.sgd import SGD
from mithridate.model import Architecture, Stack
from mithridate.models.smallconvnet import SmallConvNet
from mithridate.seeding import Seed
from tests.conftest import stripes

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(("hardware", "found"), [(True, "bf16"), (False, "float32")])
def test_auto_follows_the_processor(monkeypatch, hardware, found):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: hardware, raising=False)
    assert resolved("auto", CPU) == found


@pytest.mark.parametrize(("hardware", "found"), [(True, "bf16"), (False, "float32")])
def test_auto_follows_the_gpu_and_not_its_emulation(monkeypatch, hardware, found):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: hardware or including_emulation
    )
    assert resolved("auto", CUDA) == found


def test_a_torch_without_the_question_gets_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported", raising=False)
    assert precision.resolved("auto", CPU) == "float32"


@pytest.mark.parametrize("kind", ["bf16", "float32"])
def test_what_is_asked_for_is_computed_in(kind):
    assert resolved(kind, CPU) == resolved(kind, CUDA) == kind
    with autocast(kind, CPU):
        found = torch.nn.functional.linear(torch.ones(2, 2), torch.ones(2, 2)).dtype
    assert found == {"bf16": torch.bfloat16, "float32": torch.float32}[kind]


SPACE = Space(shape=(3, 8, 8), num_classes=3, levels=256)


@dataclass(frozen=True, kw_only=True)
class Odd(Architecture):
    """A small network with one layer of a kind."""

    name: ClassVar[str] = "odd"
    layer: str = "dense"

    def build(self, space):
        convolution = {
            "dense": lambda: nn.Conv2d(4, 4, 3, padding=1),
            "grouped": lambda: nn.Conv2d(4, 4, 3, padding=1, groups=2),
            "dilated": lambda: nn.Conv2d(4, 4, 3, padding=2, dilation=2),
            "rough": Rough,
            "endless": lambda: Rough(1e30),
            "strict": Strict,
        }[self.layer]()
        body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), convolution, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return Stack(space, body=body, width=4)


class Rough(nn.Module):
    """A difference of large numbers, which bf16 rounds away."""

    def __init__(self, size=1e3):
        super().__init__()
        self.size = size

    def forward(self, inputs):
        return (((inputs + self.size).square() - self.size**2) * 1e-2).sin()


class Strict(nn.Module):
    """Knows no bf16."""

    def forward(self, inputs):
        if inputs.dtype == torch.bfloat16:
            raise NotImplementedError("not for BFloat16")
        return inputs


@pytest.fixture
def fast_bf16(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)


@pytest.mark.parametrize(
    ("layer", "found"),
    [
        ("dense", "bf16"),
        ("grouped", "float32"),
        ("dilated", "float32"),
        ("rough", "float32"),
        ("endless", "float32"),
        ("strict", "float32"),
    ],
)
@pytest.mark.usefixtures("fast_bf16")
def test_auto_takes_bf16_only_where_the_network_bears_it(layer, found):
    assert fitting("auto", Odd(layer=layer), SPACE, CPU) == found
    for asked in ("bf16", "float32"):
        assert fitting(asked, Odd(layer=layer), SPACE, CPU) == asked


@pytest.mark.usefixtures("fast_bf16")
def test_the_choice_leaves_no_trace_and_follows_neither_seed_nor_draws():
    state = torch.get_rng_state()
    agreed = [agreement(Odd().build(SPACE), SPACE) for _ in range(2)]
    assert all(LIMIT < each <= 1.001 for each in agreed)
    state = torch.get_rng_state()
    assert fitting("auto", SmallConvNet(widths=(4,), pools=()), SPACE, CPU) == "bf16"
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.usefixtures("fast_bf16")
@pytest.mark.parametrize(("layer", "kind"), [("dense", torch.bfloat16), ("grouped", torch.float32)])
def test_training_computes_in_what_was_chosen(layer, kind, monkeypatch):
    seen = []
    run = Run.begun(SGD(model=Odd(layer=layer), precision="auto"), stripes(8, seed=1, classes=3, size=8), Seed(0), ())
    run.model.body[1].register_forward_hook(lambda layer, inputs, outputs: seen.append(outputs.dtype))
    learner = SGD(model=Odd(layer=layer), precision="auto", epochs=1, batch_size=4)
    monkeypatch.setattr(Run, "begun", lambda *given: run)
    learner.fit(run.data, seed=Seed(0))
    assert set(seen) == {kind}
