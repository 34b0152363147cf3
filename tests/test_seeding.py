"""Seeds by name: stable across processes, independent, and no trace of them outside."""

from __future__ import annotations

import os
import subprocess
import sys

import torch
from hypothesis import given
from hypothesis import strategies as st

from mithridate.seeding import Seed
from mithridate.testing import undisturbed


def test_a_child_is_the_same_in_another_process():
    code = "from mithridate.seeding import Seed; print(Seed(7).child('trial', 3).child('craft').value)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "5"},
    )
    assert int(found.stdout) == Seed(7).child("trial", 3).child("craft").value


@given(st.integers(0, 2**63 - 1), st.lists(st.one_of(st.integers(), st.text(max_size=3)), min_size=2, max_size=40))
def test_children_of_different_names_differ(value, names):
    distinct = list(dict.fromkeys((type(name), name) for name in names))
    children = {Seed(value).child(name) for _, name in distinct}
    assert len(children) == len(distinct)  # 63 bits: a collision is not to be expected


def test_a_number_and_its_text_are_different_names():
    assert Seed(0).child(1) != Seed(0).child("1")
    assert Seed(0).child("a", "b") != Seed(0).child("a").child("b")
    assert Seed(0).child("ab") != Seed(0).child("a", "b")


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_child_can_seed_a_generator(value):
    child = Seed(value).child("x")
    assert 0 <= child.value < 2**63
    first = torch.rand(4, generator=child.generator())
    assert torch.equal(first, torch.rand(4, generator=child.generator()))


def test_streams_of_siblings_are_unlike():
    draws = [torch.rand(200, generator=Seed(0).child(k).generator()) for k in range(8)]
    correlations = torch.corrcoef(torch.stack(draws)) - torch.eye(8)
    assert float(correlations.abs().max()) < 0.3  # 4 standard errors of 200 draws


def test_scope_decides_the_global_stream_inside_and_restores_it_outside():
    with undisturbed("scope"):
        with Seed(3).scope():
            first = torch.rand(4)
        with Seed(3).scope():
            assert torch.equal(torch.rand(4), first)
        with Seed(4).scope():
            assert not torch.equal(torch.rand(4), first)


def test_scope_restores_after_an_error():
    with undisturbed("scope"):
        try:
            with Seed(3).scope():
                torch.rand(1)
                raise KeyError
        except KeyError:
            pass
