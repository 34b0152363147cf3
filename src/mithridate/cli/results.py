"""The table that stands in the terminal when a run has ended: what summary.json says, in brief."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from mithridate.report.words import KNOWLEDGE, fine, signed

_PLACES = ("attack", "scenario", "victim", "defense")
_PLAIN = ("success (95 %)", "clean base rate", "noise control", "accuracy", "trials x victims")
_DEFENDED = ("success", "accuracy", "dropped", "of poison", "of clean", "time")
_GRADED = ("{} (95 %)", "clean data", "rise, points", "trials x victims")
_GRADED_DEFENDED = ("{}", "clean data", "dropped", "of poison", "of clean")
"""The same for attacks that degrade, whose success is a mean share of test rows: the name of that goes first."""
_WIDTHS = {"of poison": 6, "of clean": 6, "time": 7}
"""Columns that take a heading of two lines, so that all fit in 80 characters."""
_MOST = 24
"""Rows about such attacks; of longer tables those of the verdict's scenario and victim stand here."""


def results_table(rows: Sequence[Mapping[str, object]], *, title: str) -> Group:
    """The summary for the terminal: what all rows share in words, the rest as a table, no number ever cut short.

    Where there are defenses, a control stands marked under the defense it controls, and below the table stands what
    each defense is worth. A long table about attacks that degrade is cut to the scenario and victim of its verdict.
    """
    kept = _kept(rows)
    table = _table(kept, title)
    if len(kept) < len(rows):
        return Group(table, Text(f"  {len(rows) - len(kept)} further rows are in summary.json and in the report"))
    return table


def _kept(rows: Sequence[Mapping[str, object]]) -> Sequence[Mapping[str, object]]:
    places = {(row.get("scenario"), row.get("victim")) for row in rows if row.get("of_verdict")}
    if len(rows) <= _MOST or not places:
        return rows
    return [row for row in rows if (row.get("scenario"), row.get("victim")) in places]


def _table(rows: Sequence[Mapping[str, object]], title: str) -> Group:
    if any(row.get("defense") != "none" for row in rows):
        return _defended_table(rows, title)
    shared, sources = _shared(rows), _sources(rows)
    table = Table()
    for heading in [name for name in _PLACES if name not in shared]:
        table.add_column(heading, overflow="fold")
    for heading in _with_published(_headings(rows, _PLAIN, _GRADED), sources):
        table.add_column(heading, justify="right", overflow="fold")
    for row in rows:
        places = [_place(rows, row, name) for name in _PLACES if name not in shared]
        table.add_row(*map(Text, [*places, *_with_published(_plain(row), sources, _published(row, sources))]))
    return Group(*_head(rows, title, shared), table, *_notes(sources))


def _defended_table(rows: Sequence[Mapping[str, object]], title: str) -> Group:
    shared, sources = [name for name in _shared(rows) if name != "defense"], _sources(rows)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grouped = "attack" not in shared  # a line of its own for each attack leaves room
    own = [name for name in _PLACES if name not in shared and not (grouped and name == "attack")]
    for heading in own:
        table.add_column(heading, overflow="fold", min_width=19 if grouped and heading == "defense" else None)
    for k, heading in enumerate(_with_published(_headings(rows, _DEFENDED, _GRADED_DEFENDED), sources)):
        whole = k == 0  # an interval in two lines is hard to read
        table.add_column(
            heading, justify="right", overflow="fold", no_wrap=whole, width=_WIDTHS.get(heading) if grouped else None
        )
    attack = None
    for row in rows:
        if grouped and row.get("attack") != attack:
            attack = row.get("attack")
            table.add_row(*[""] * (len(own) - 1), Text(str(attack), style="bold"))
        places = [_place(rows, row, name) for name in own if name != "defense"]
        numbers = _with_published(_defended(row), sources, _published(row, sources))
        table.add_row(*map(Text, [*places, _defense(row), *numbers]))
    said = _said(rows, shared)
    sample = Text(f"  trials x victims: {rows[0].get('trials')} x {_ratio(rows[0])}, with 95 % intervals")
    alike = len({(row.get("trials"), row.get("victims")) for row in rows}) == 1
    controls = any(row.get("control_of") for row in rows)
    legend = (
        [Text("  └─ controls, which remove as many rows as the defense above, chosen in other ways")]
        if controls
        else []
    )
    return Group(*_head(rows, title, shared), *([sample] if alike else []), table, *legend, *said, *_notes(sources))


def _said(rows: Sequence[Mapping[str, object]], shared: Sequence[str]) -> list[Text]:
    """What each defense is worth, under what it was tried against where that is not the same in all rows."""
    found: list[Text] = []
    under: tuple[object, ...] = ()
    for row in rows:
        comparison = row.get("comparison")
        if not row.get("of_verdict", True) or not isinstance(comparison, dict):
            continue
        where = tuple(row.get(name) for name in _PLACES if name != "defense" and name not in shared)
        if where != under:
            found.append(Text(f"  {', '.join(map(str, where))}", style="bold"))
        under = where
        found.append(Text(f"  {row.get('defense')}: {comparison.get('words')}"))
    return found


def subject(rows: Sequence[Mapping[str, object]]) -> str:
    """What the table is about, for its title."""
    if not _measure(rows):
        return "success of the poisoner, and its controls"
    what = str(_measure(rows))
    return f"{what[:1].lower()}{what[1:]} under poison and on clean data, means over trials"


def _measure(rows: Sequence[Mapping[str, object]]) -> object:
    """What the success of attacks that degrade is a share of; None for other attacks."""
    return next((row["measure"] for row in rows if row.get("measure")), None)


def _headings(rows: Sequence[Mapping[str, object]], usual: Sequence[str], graded: Sequence[str]) -> list[str]:
    what = str(_measure(rows) or "")
    return [each.format(what[:1].lower() + what[1:]) for each in graded] if what else list(usual)


def _shared(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """The places that are the same in all rows."""
    return [name for name in _PLACES if len({_place(rows, row, name) for row in rows}) == 1]


def _place(rows: Sequence[Mapping[str, object]], row: Mapping[str, object], name: str) -> str:
    """Where a row belongs; a victim with what the attacker knows of it, where that is not the same in all rows."""
    box = row.get("box")
    return f"{row.get(name)} ({box})" if name == "victim" and box and _box(rows) is None else str(row.get(name))


def _box(rows: Sequence[Mapping[str, object]]) -> object:
    """What the attacker knows of the victims, if it is the same in all rows; label flips, which know nothing, aside."""
    found = {row.get("box") for row in rows if row.get("box") or not row.get("measure")}
    return found.pop() if len(found) == 1 else None


def _head(rows: Sequence[Mapping[str, object]], title: str, shared: Sequence[str]) -> list[Text]:
    lines = [f"  {name}: {rows[0].get(name)}" for name in shared]
    box = _box(rows)
    if box:
        meaning = f" ({KNOWLEDGE[str(box)]})" if str(box) in KNOWLEDGE else ""
        lines.append(f"  knowledge: {box}{meaning}")
    if any(row.get("interval") == "sequential" for row in rows):
        lines.append("  intervals: sequential, so they hold however often one looks")
    return [Text(title, style="italic"), *map(Text, lines)]


def _with_published(cells: Sequence[str], sources: Sequence[str], cell: str = "published") -> list[str]:
    """Cells of a row with the published one after our success, where any row has one."""
    return [cells[0], cell, *cells[1:]] if sources else list(cells)


def _theirs(row: Mapping[str, object]) -> list[Mapping[str, object]]:
    found = row.get("published")
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def _sources(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """Where published numbers were read, in the order of their notes."""
    return list(dict.fromkeys(str(each.get("source")) for row in rows for each in _theirs(row)))


def _published(row: Mapping[str, object], sources: Sequence[str]) -> str:
    """Published rates of a row, each with its source and, where our interval does not hold it, where ours lies."""
    found = []
    for each in _theirs(row):
        ours = each.get("ours")
        trials = f" (n={each.get('trials')})" if each.get("trials") else ""
        said = f"{_percent(each.get('rate'))}{trials} [{sources.index(str(each.get('source'))) + 1}]"
        found.append(said + (f"\nours {ours}" if ours in ("below", "above") else ""))
    return "\n".join(found) or "-"


def _notes(sources: Sequence[str]) -> list[Text]:
    return [Text(f"  [{number}] published: {source}") for number, source in enumerate(sources, start=1)]


def _defense(row: Mapping[str, object]) -> str:
    """A defense, or a control: marked, and without the name of the one that it stands under."""
    name, controlled = str(row.get("defense")), row.get("control_of")
    if row.get("oracle") and "(oracle)" not in name:
        name += " (oracle)"
    if not isinstance(controlled, list) or not controlled:
        return name
    if len(controlled) > 1:
        return f"└─{name} (of {len(controlled)})"
    return f"└─{name.partition(' (like ')[0]}"


def _plain(row: Mapping[str, object]) -> list[str]:
    if row.get("measure"):
        return [
            _fine(row.get("success")),
            _share(row.get("base_rate")),
            _rise(row),
            f"{row.get('trials')} x {_ratio(row)}",
        ]
    return [
        _interval(row.get("success")),
        _percent(row.get("base_rate")),
        _percent(row.get("noise_control")),
        _percent(_mean(row.get("clean_accuracy"))),
        f"{row.get('trials')} x {_ratio(row)}",
    ]


def _defended(row: Mapping[str, object]) -> list[str]:
    dropped = row.get("dropped")
    seconds, ratio = row.get("seconds_per_victim"), row.get("times_undefended")
    time = f"{seconds:.1f} s" if isinstance(seconds, (int, float)) else "-"
    time += f" ({ratio:.1f}x)" if isinstance(ratio, (int, float)) and row.get("defense") != "none" else ""
    rates = [_interval(row.get("success")).replace("%, ", "-"), _percent(_mean(row.get("clean_accuracy")))]
    if row.get("measure"):
        rates, time = [_fine(row.get("success")), _share(row.get("base_rate"))], ""
    found = [
        *rates,  # "75% [44-92%]" stays on one line of a narrow terminal
        f"{dropped:.0f}" if isinstance(dropped, (int, float)) and dropped else "-",
        _percent(row.get("poison_recall")) if dropped else "-",
        _tenth(row.get("clean_drop")) if dropped else "-",
    ]
    return [*found, time] if time else found


def _ratio(row: Mapping[str, object]) -> str:
    """Victims a trial."""
    victims, trials = row.get("victims"), row.get("trials")
    if isinstance(victims, int) and isinstance(trials, int) and trials:
        return f"{victims / trials:.3g}"
    return "?"


def _mean(value: object) -> object:
    return value.get("mean") if isinstance(value, dict) else None


def _interval(value: object) -> str:
    if not isinstance(value, dict) or value.get("mean") is None:
        return "not run"
    return f"{value['mean']:.0%} [{value['low']:.0%}, {value['high']:.0%}]"


def _fine(value: object) -> str:
    """A mean share with its interval, in as many digits as errors need: "7.1% [6.2-8.0%]"."""
    if not isinstance(value, dict) or value.get("mean") is None:
        return "not run"
    if value["low"] == value["high"]:
        return _share(value["mean"])
    digits = 1 if value["mean"] < 0.0995 else 0
    return f"{_share(value['mean'])} [{100 * value['low']:.{digits}f}-{100 * value['high']:.{digits}f}%]"


def _share(value: object) -> str:
    return fine(value).replace("\N{NO-BREAK SPACE}", "") if isinstance(value, (int, float)) else "not run"


def _rise(row: Mapping[str, object]) -> str:
    """How far a mean lies above clean data: "+20.0 [+19.6, +20.5]"; of one trial or equal ones without interval."""
    rise = row.get("rise")
    if not isinstance(rise, dict):
        return "not known"
    mean, low, high = (signed(100 * rise[part], 1).replace("\N{MINUS SIGN}", "-") for part in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]" if rise.get("trials", 0) > 1 and rise["low"] < rise["high"] else mean


def _percent(value: object) -> str:
    return f"{value:.0%}" if isinstance(value, (int, float)) else "not run"


def _tenth(value: object) -> str:
    return f"{value:.1%}" if isinstance(value, (int, float)) else "-"
