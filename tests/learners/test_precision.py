"""Number formats: what auto means where, and that training in bf16 computes in bf16."""

from __future__ import annotations

import pytest
import torch

from mithridate.learners import precision
from mithridate.learners.precision import autocast, resolved

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
