"""The table that stands in the terminal when a run has ended: what summary.json says, in brief."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

_PLACES = ("attack", "scenario", "victim", "defense")
_PLAIN = ("success (95 %)", "clean base rate", "noise control", "accuracy", "trials x victims")
_DEFENDED = ("success", "accuracy", "dropped", "of poison", "of clean", "time")


def results_table(rows: Sequence[Mapping[str, object]], *, title: str) -> Group:
    """The summary for the terminal: what all rows share in words, the rest as a table, no number ever cut short.

    Where there are defenses, a control stands marked under the defense it controls, and below the table stands what
    each defense is worth.
    """
    if any(row.get("defense") != "none" for row in rows):
        return _defended_table(rows, title)
    shared = _shared(rows)
    table = Table()
    for heading in [name for name in _PLACES if name not in shared]:
        table.add_column(heading, overflow="fold")
    for heading in _PLAIN:
        table.add_column(heading, justify="right", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, [*(str(row.get(name)) for name in _PLACES if name not in shared), *_plain(row)]))
    return Group(*_head(rows, title, shared), table)


def _defended_table(rows: Sequence[Mapping[str, object]], title: str) -> Group:
    shared = [name for name in _shared(rows) if name != "defense"]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in [name for name in _PLACES if name not in shared]:
        table.add_column(heading, overflow="fold")
    for heading in _DEFENDED:
        table.add_column(heading, justify="right", overflow="fold")
    for row in rows:
        places = [str(row.get(name)) for name in _PLACES[:-1] if name not in shared]
        table.add_row(*map(Text, [*places, _defense(row), *_defended(row)]))
    found = [(row.get("defense"), row.get("comparison")) for row in rows]
    said = [Text(f"  {name}: {each.get('words')}") for name, each in found if isinstance(each, dict)]
    sample = Text(f"  trials x victims: {rows[0].get('trials')} x {_ratio(rows[0])}, with 95 % intervals")
    alike = len({(row.get("trials"), row.get("victims")) for row in rows}) == 1
    controls = any(row.get("control_of") for row in rows)
    legend = (
        [Text("  └─ controls, which remove as many rows as the defense above, chosen in other ways")]
        if controls
        else []
    )
    return Group(*_head(rows, title, shared), *([sample] if alike else []), table, *legend, *said)


def _shared(rows: Sequence[Mapping[str, object]]) -> list[str]:
    """The places that are the same in all rows."""
    return [name for name in _PLACES if len({str(row.get(name)) for row in rows}) == 1]


def _head(rows: Sequence[Mapping[str, object]], title: str, shared: Sequence[str]) -> list[Text]:
    return [Text(title, style="italic"), *(Text(f"  {name}: {rows[0].get(name)}") for name in shared)]


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
    return [
        _interval(row.get("success")).replace("%, ", "-"),  # "75% [44-92%]" stays on one line of a narrow terminal
        _percent(_mean(row.get("clean_accuracy"))),
        f"{dropped:.0f}" if isinstance(dropped, (int, float)) and dropped else "-",
        _percent(row.get("poison_recall")) if dropped else "-",
        _tenth(row.get("clean_drop")) if dropped else "-",
        time,
    ]


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


def _percent(value: object) -> str:
    return f"{value:.0%}" if isinstance(value, (int, float)) else "not run"


def _tenth(value: object) -> str:
    return f"{value:.1%}" if isinstance(value, (int, float)) else "-"
