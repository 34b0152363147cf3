"""Small tables of people, and files of them."""

from __future__ import annotations

import csv
import random

import pyarrow as pa
import pyarrow.parquet as pq


def people(rows=60, *, seed=0, **columns):
    """Rows as mappings; ``columns`` gives values of its own to some: one for all, or a function of the row."""
    draw = random.Random(seed)
    found = []
    for row in range(rows):
        person = {
            "age": draw.randrange(18, 80),
            "height": round(draw.uniform(1.5, 2.0), 2),
            "member": draw.randrange(2),
            "city": draw.choice(["Rome", "Oslo", "Lima"]),
            "credit": ("good", "bad")[row % 2],
        }
        found.append(person | {name: each(row) if callable(each) else each for name, each in columns.items()})
    return found


def write_csv(path, rows, *, separator=",", head="", ending="\n", encoding="utf-8"):
    """The rows below a header, by Python's own writer; ``head`` goes before both."""
    with path.open("w", newline="", encoding=encoding) as file:
        file.write(head)
        writer = csv.DictWriter(file, rows[0].keys(), delimiter=separator, lineterminator=ending)
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def told(part):
    """Every row of a data set by its id, as people would write it, with the name of its class."""
    inputs, labels = part.take(slice(None))
    return {
        int(key): part.space.layout.described(row.tolist()) | {"class": part.space.name(int(label))}
        for key, row, label in zip(part.ids, inputs, labels, strict=True)
    }
