"""The page of a scan: the verdict, the most suspect rows as pictures, and what the methods can do on these data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mithridate.report import pictures, words
from mithridate.report.pictures import Floats
from mithridate.store import write_atomically

_HERE = Path(__file__).parent
TONES = {"suspect": "landed", "nothing found": "missed", "cannot tell": ""}
"""How the verdict is coloured."""


def write(path: Path, facts: Mapping[str, Any], images: Sequence[Floats]) -> Path:
    """Write the page of a scan; ``facts`` are those of ``scan.json``, ``images`` the first rows of its list.

    ``images`` are ``(C, H, W)`` in [0, 1]. Raises :class:`~mithridate.errors.StoreError` where it cannot be written.
    """
    write_atomically(path, html(facts, images))
    return path


def html(facts: Mapping[str, Any], images: Sequence[Floats]) -> str:
    """The page as text; the same scan gives the same bytes."""
    headline, _, verdict = facts["verdict"].partition(": ")
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": words.percent, "duration": words.duration}
    return environment.get_template("scan.html.j2").render(
        facts=facts,
        title=Path(facts["place"]).name or facts["place"],
        headline=headline,
        verdict=verdict,
        tone=TONES[facts["state"]],
        cards=[_card(row, image) for row, image in zip(facts["first"], images, strict=False)],
        methods=_methods(facts["calibration"]),
        css=Markup((_HERE / "page.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
    )


def _card(row: Mapping[str, Any], image: Floats) -> dict[str, Any]:
    """One row of the gallery."""
    name = row["file"] or f"row {row['row']}"
    return {
        "row": row,
        "name": name,
        "picture": pictures.picture(image, f"{name}, labelled {words.quoted(row['label'])}"),
        "agrees": row["predicted"] == row["label"],
    }


def _methods(calibration: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """What each method does with each kind of planted poison, by method."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for each in calibration:
        found.setdefault(each["method"], []).append(each)
    return list(found.items())
