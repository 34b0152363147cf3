"""The result table for people, as Markdown and LaTeX: percentages with their intervals, one line a combination."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mithridate.report.tabular import PLACES, Row, published


def as_markdown(rows: Sequence[Row]) -> str:
    """A table with aligned columns, percentages with their intervals."""
    names, cells = _for_people(rows)
    texts = [[_in_markdown(text) for text in line] for line in (names, *cells)]
    widths = [max(3, *map(len, column)) for column in zip(*texts, strict=True)]
    places = _left(names)
    rule = ["-" * width if left else "-" * (width - 1) + ":" for width, left in zip(widths, places, strict=True)]
    lines = [
        [
            text.ljust(width) if left else text.rjust(width)
            for text, width, left in zip(line, widths, places, strict=True)
        ]
        for line in texts
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in (lines[0], rule, *lines[1:]))


def as_latex(rows: Sequence[Row]) -> str:
    """A ``tabular`` with the rules of booktabs, percentages with their intervals."""
    names, cells = _for_people(rows)
    columns = "".join("l" if left else "r" for left in _left(names))
    lines = [" & ".join(map(_in_latex, line)) + r" \\" for line in (names, *cells)]
    body = ["\\toprule", lines[0], "\\midrule", *lines[1:], "\\bottomrule"]
    head = [
        r"% needs \usepackage{booktabs}; numbers are percentages with 95 % intervals",
        rf"\begin{{tabular}}{{{columns}}}",
    ]
    return "\n".join([*head, *body, r"\end{tabular}", ""])


def _for_people(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Headings and cells. What is known of no row has no column."""
    graded = next((row["measure"] for row in rows if row.get("measure")), None)
    looked = ", sequential" if any(row.get("interval") == "sequential" for row in rows) else ""
    columns: dict[str, Callable[[Row], str]] = {
        **{name: (lambda row, name=name: _named(row, name)) for name in PLACES},  # type: ignore[misc]
        "trials": lambda row: str(row.get("trials", "")),
        "victims": lambda row: str(row.get("victims", "")),
        f"{graded or 'success'} (%{looked})": lambda row: _percent(row.get("success")),
        "clean data (%)": lambda row: _percent(row.get("base_rate_interval"), row.get("base_rate")),
        "noise (%)": lambda row: _percent(row.get("noise_interval"), row.get("noise_control")),
        "rise (points)": lambda row: _percent(row.get("rise")),
        "accuracy (%)": lambda row: _percent(row.get("clean_accuracy")),
        "rows dropped": lambda row: f"{row['dropped']:.0f}" if row.get("dropped") else "",
        "worth": lambda row: str((row.get("comparison") or {}).get("worth") or ""),
        "published": lambda row: "; ".join(map(published, row.get("published") or ())),
        "oracle knowledge": _oracles,
    }
    cells = {name: [column(row) for row in rows] for name, column in columns.items()}
    known = {name: column for name, column in cells.items() if name in (*PLACES, "trials") or any(column)}
    return list(known), [list(line) for line in zip(*known.values(), strict=True)]


def _named(row: Row, name: str) -> str:
    """A place; a victim with what the attacker knows of it, an oracle with its stamp."""
    text = str(row.get(name) or "")
    if name == "victim" and row.get("box"):
        return f"{text} ({row['box']})"
    stamp = name == "defense" and row.get("oracle") and "(oracle)" not in text
    return f"{text} (oracle)" if stamp else text


def _oracles(row: Row) -> str:
    """What somebody knew that nobody can know outside an experiment."""
    facts = [fact for fact in row.get("ledger") or () if fact.get("oracle")]
    return "; ".join(dict.fromkeys(f"{fact.get('who')}: {fact.get('what')}" for fact in facts))


def _percent(found: Row | None, mean: float | None = None) -> str:
    """As in: 75.0 [44.1, 92.0]; without bounds where they are not known, or all values agree."""
    found = found or {}
    mean, low, high = found.get("mean", mean), found.get("low"), found.get("high")
    if mean is None or low is None or high is None or low == high:
        return "" if mean is None else f"{100 * mean:.1f}"
    return f"{100 * mean:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def _left(names: Sequence[str]) -> list[bool]:
    """Which columns hold words."""
    return [name in (*PLACES, "worth", "published", "oracle knowledge") for name in names]


_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': r"\textquotedbl{}", "\N{NO-BREAK SPACE}": "~", "\N{EN DASH}": "--", "\n": " ",
}  # fmt: skip


def _in_latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)


def _in_markdown(text: str) -> str:
    text = "".join(f"\\{sign}" if sign in "\\|`*_<" else sign for sign in text)
    return text.replace("\n", " ")
