"""What YAML text is read as: a range of rows is text, and numbers are numbers."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mithridate import config
from mithridate.experiment import Experiment
from mithridate.yamltext import loaded
from tests.runs import TINY


@pytest.mark.parametrize(
    "text", ["10:50", "0:4800", "4800:4850", "1:30:00", "-1:30", "+1:30", "1:30.5", "190:20:30.15", "1_0:59", "0:0"]
)
def test_what_has_a_colon_is_text(text: str) -> None:
    """YAML 1.1 reads minutes and seconds: 10:50 would be 650."""
    assert loaded(text, where="f") == text
    assert loaded(f"a: [{text}, {{b: {text}}}]", where="f") == {"a": [text, {"b": text}]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10), ("-7", -7), ("1_000", 1000), ("0x1f", 31), ("0b101", 5), ("1.5", 1.5), (".5", 0.5),
        ("1.5e+3", 1500.0), (".inf", math.inf), ("true", True), ("null", None), ("a:b", "a:b"), ("'10:50'", "10:50"),
        ("1/255", "1/255"), ("5 %", "5 %"),
    ],
)  # fmt: skip
def test_everything_else_is_what_yaml_says(text: str, value: Any) -> None:
    found = loaded(text, where="f")
    assert (found, type(found)) == (value, type(value))


def test_a_range_of_rows_reaches_the_data() -> None:
    text = config.write_yaml({**TINY, "data": {"name": "cifar10"}}).replace("cifar10", "cifar10\n  per_class: 10:50")
    settings = config.read_yaml(text, where="f.yaml")
    assert config.parse(Experiment, settings).data.per_class == "10:50"  # type: ignore[attr-defined]
    put = config.override(settings, ["data.per_class=20:59"])
    assert config.parse(Experiment, put).data.per_class == "20:59"  # type: ignore[attr-defined]
    again = config.read_yaml(config.write_yaml(config.parse(Experiment, put)), where="f.yaml")
    assert again["data"]["per_class"] == "20:59"
