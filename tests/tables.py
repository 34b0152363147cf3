"""Tables with every kind of column, for tests: one that is fixed, and any that hypothesis draws."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from mithridate.dataset import Column, Dataset, Space


def one_hot(group, *categories, mutable=True):
    names = [f"{group}={each}" for each in categories]
    return tuple(
        Column(name=name, kind="one-hot", group=group, category=each, mutable=mutable)
        for name, each in zip(names, categories, strict=True)
    )


COLUMNS = (
    Column(name="age", kind="integer", low=17, high=90),
    Column(name="income", low=-2.5, high=10_000),
    *one_hot("work", "private", "state", "none"),
    Column(name="married", kind="binary"),
    *one_hot("sex", "female", "male", mutable=False),
    Column(name="born", kind="integer", low=1900, high=2020, mutable=False),
)
"""age, income, work (3 places), married, sex (2 places, immutable), born (immutable)."""
TABLE = Space.table(COLUMNS, num_classes=2)
ADA = (36.0, 250.5, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1915.0)
"""A valid row."""


def rows(count, *, space=TABLE, seed=0, first_id=0):
    """Random valid rows, labelled 0 and 1 in turn."""
    drawn = torch.rand(count, len(space.columns), generator=torch.Generator().manual_seed(seed))
    return Dataset.of(space.layout.anywhere(drawn), torch.arange(count) % 2, space=space, first_id=first_id)


@st.composite
def tables(draw):
    """A space of one to nine columns of any kind."""
    columns = []
    for k, kind in enumerate(
        draw(st.lists(st.sampled_from(["real", "integer", "binary", "one-hot"]), min_size=1, max_size=4))
    ):
        mutable = draw(st.booleans())
        if kind == "one-hot":
            columns += one_hot(f"g{k}", *"abc"[: draw(st.integers(1, 3))], mutable=mutable)
        elif kind == "binary":
            columns.append(Column(name=f"b{k}", kind="binary", mutable=mutable))
        else:
            ends = st.integers(-(10**6), 10**6) if kind == "integer" else st.floats(-1e6, 1e6, width=32)
            low = draw(ends)
            high = draw(ends.filter(lambda each, low=low: each >= low))
            columns.append(Column(name=f"{kind}{k}", kind=kind, low=low, high=high, mutable=mutable))
    columns.append(Column(name="last"))  # so that the bounds are never one point
    return Space.table(tuple(columns), num_classes=2)
