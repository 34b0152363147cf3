"""Trial by trial across defenses: whether a defense saves the same trials, a stripe of squares for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mithridate.report.entries import Board, Column, Entry, Line

_MOST_TRIALS = 100
"""Squares of one stripe."""
_MOST = 24_000
"""Squares on the page."""
_LEVELS = 3
"""Shades of a square above none: some, most and all of the networks."""
_STEP, _SIDE = 14, 12
"""Pixels from one square to the next, and its side."""


@dataclass(frozen=True, kw_only=True)
class Stripe:
    """One defense against one attack."""

    name: str
    control: bool
    oracle: bool
    svg: Markup
    hit: str
    """As in: 3 of 5."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """The stripes of one attack, no defense first."""

    name: str
    stripes: tuple[Stripe, ...]


@dataclass(frozen=True, kw_only=True)
class Stripes:
    """One scenario and victim."""

    name: str
    trials: tuple[int, ...]
    """Those shown."""
    attacks: tuple[Attack, ...]
    left_out: int
    """Attacks without a place on the page."""


@dataclass(frozen=True, kw_only=True)
class AllStripes:
    """What the page has room for."""

    boards: tuple[Stripes, ...]
    left_out: int
    """Boards without a place on the page."""
    trials_left_out: int
    """Trials without a square, of the board that has most."""
    controls: bool
    """Whether some stripes are of controls."""
    gaps: bool
    """Whether some place lacks a trial."""
    keys: Markup
    """A square of each shade, for the legend."""


def all_stripes(boards: Sequence[Board]) -> AllStripes | None:
    """The stripes of every board with at least two trials; None where there are none."""
    judged = [board for board in boards if len(board.trials) > 1]
    kept: list[Stripes] = []
    room = _MOST
    for board in judged:
        room -= len(board.lines) * len(board.columns) * min(_MOST_TRIALS, len(board.trials))
        if room >= 0 or not kept:
            kept.append(_stripes(board))
    if not kept:
        return None
    over = max(len(board.trials) for board in judged) - _MOST_TRIALS
    entries = [(board, entry) for board in judged for line in board.lines for entry in line.entries if entry.by_trial]
    return AllStripes(
        boards=tuple(kept),
        left_out=len(judged) - len(kept),
        trials_left_out=max(0, over),
        controls=any(column.control_of for board in judged for column in board.columns),
        gaps=any(len(entry.by_trial) < len(board.trials) for board, entry in entries),
        keys=squares({0: 0.0, 1: 0.4, 2: 0.7, 3: 1.0}, range(4), label="White, light, darker, darkest:"),
    )


def _stripes(board: Board) -> Stripes:
    shown = board.trials[:_MOST_TRIALS]
    lines = board.lines[: max(1, _MOST // (len(shown) * len(board.columns)))]
    attacks = [_attack(line, board.columns, shown) for line in lines]
    name = f"{board.scenario}, {board.victim}"
    return Stripes(
        name=name,
        trials=shown,
        attacks=tuple(each for each in attacks if each.stripes),
        left_out=len(board.lines) - len(lines),
    )


def _attack(line: Line, columns: Sequence[Column], trials: Sequence[int]) -> Attack:
    pairs = zip(columns, line.entries, strict=True)
    stripes = tuple(_stripe(column, entry, trials) for column, entry in pairs if entry.by_trial)
    return Attack(name=line.attack, stripes=stripes)


def _stripe(column: Column, entry: Entry, trials: Sequence[int]) -> Stripe:
    name = "no defense" if column.defense == "none" else column.name
    hit = [trial for trial, share in entry.by_trial.items() if share > 0]
    said = f"{len(hit)} of {len(entry.by_trial)}"
    numbers = f": {', '.join(str(trial) for trial in sorted(hit))}" if hit else ""
    label = f"{name}: hit in {said} trials{numbers}"
    return Stripe(
        name=name,
        control=bool(column.control_of),
        oracle=column.oracle,
        svg=squares(entry.by_trial, trials, label=label),
        hit=said,
    )


def squares(shares: Mapping[int, float], trials: Sequence[int], *, label: str) -> Markup:
    """A row of squares as SVG, one for each of ``trials``, darker the larger its share; those without one are dots."""
    paths: dict[str, list[str]] = {}
    for k, trial in enumerate(trials):
        x = k * _STEP + 1
        if trial not in shares:
            paths.setdefault("absent", []).append(f"M{x + 4} 6h4")
            continue
        level = level_of(shares[trial])
        paths.setdefault("judged", []).append(f"M{x} 1h{_SIDE}v{_SIDE}h-{_SIDE}z")
        if level:
            paths.setdefault(f"hit l{level}", []).append(f"M{x} 1h{_SIDE}v{_SIDE}h-{_SIDE}z")
    width = len(trials) * _STEP
    head = Markup(
        '<svg class="stripe" role="img" width="{0}" height="14" viewBox="0 0 {0} 14" aria-label="{1}">'
    ).format(width, label)
    order = sorted(paths, key=lambda name: name == "judged")  # frames above the fills
    drawn = (Markup('<path class="{}" d="{}"/>').format(name, "".join(paths[name])) for name in order)
    return head + Markup("").join(drawn) + Markup("</svg>")


def level_of(share: float) -> int:
    """The shade of a share in [0, 1]: 0 where none was hit, the darkest where all were."""
    return 0 if share <= 0 else _LEVELS if share >= 1 else 1 if share < 0.5 else 2
