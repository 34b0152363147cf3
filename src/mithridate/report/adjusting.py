"""Chances of several comparisons told side by side, adjusted for their number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mithridate.pairing import holm
from mithridate.stats import Difference


def adjusted(found: Sequence[Difference]) -> list[Difference]:
    """Differences with their chances adjusted over all of them (Holm 1979); the intervals stay as they are."""
    chances = holm([each.chance for each in found])
    return [replace(each, chance=chance, family=len(found)) for each, chance in zip(found, chances, strict=True)]


def adjusted_claims(claims: Sequence[Sequence[Difference]]) -> list[list[Difference]]:
    """The same where a claim rests on several differences, all of which must be clear: its largest chance counts.

    Each chance is adjusted as if it were its claim's, so that all of a claim are clear where the largest is.
    """
    largest = [max((each.chance for each in claim), default=1.0) for claim in claims]
    family = sum(bool(claim) for claim in claims)

    def within(place: int, chance: float) -> float:
        beside = [largest[k] for k, claim in enumerate(claims) if claim and k != place]
        return holm([chance, *beside])[0]

    return [
        [replace(each, chance=within(place, each.chance), family=family) for each in claim]
        for place, claim in enumerate(claims)
    ]
