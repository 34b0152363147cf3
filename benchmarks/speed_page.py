"""Write docs/speed.md and its drawings from what was measured.

    mithridate bench --json benchmarks/results/bench.json
    python benchmarks/speed_page.py [--results FOLDER] [--page FILE]

Tables and drawings come from ``bench.json``, further tables from other files about speed where there are any. What
stands in the page above the mark is written by hand and stays.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from speed_drawings import growths, ratios, shares

ROOT = Path(__file__).resolve().parents[1]
MARK = "<!-- everything below is written by benchmarks/speed_page.py -->"
HEAD = "# Speed\n\n"
OTHERS = {
    "peers-speed": "Whole tasks beside other packages",
    "craft-backends": "Does a fast gradient weaken the attack?",
    "hypergradients": "Hypergradients",
    "polytope-step": "Polytopes",
    "medoids": "Facility location on one core",
    "svm-poisoning-peers": "Poisoning a linear SVM beside other packages",
}
"""Files about speed beside bench.json, with their headings."""
Row = Mapping[str, Any]


def main() -> int:
    """Write the page; what is missing is said on it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "speed.md")
    asked = parser.parse_args()
    source = asked.results / "bench.json"
    if not source.exists():
        print(f"there is no {source.name}: measure first with  mithridate bench --json {source}", file=sys.stderr)
        return 1
    bench = json.loads(source.read_text(encoding="utf-8"))
    images = asked.page.parent / "img"
    images.mkdir(parents=True, exist_ok=True)
    sections = [machine(bench), *goals(bench), *against_plain(bench, images), *grown(bench, images), *missing(bench)]
    sections += [section for name in OTHERS for section in other(asked.results / f"{name}.json")]
    page: Path = asked.page
    head = page.read_text(encoding="utf-8").partition(MARK)[0] if page.exists() else HEAD
    page.write_text(head + MARK + "\n\n" + "\n".join(sections), encoding="utf-8")
    print(f"wrote {page.name} and {len(list(images.glob('speed-*.svg')))} drawings")
    return 0


def machine(bench: Row) -> str:
    """Where it was measured, and that machine's limits."""
    where, foreign = bench["environment"], bench.get("ceilings_foreign")
    limits = ", ".join(
        f"{name} **{value:,.0f} {'GB' if name == 'copy' else 'GFLOP'}/s**" for name, value in bench["ceilings"].items()
    )
    others = [row["foreign"] for row in bench["measured"] if row.get("foreign") is not None]
    busy = sum(each > 0.05 for each in others)
    lines = [
        "## Where, and how",
        "",
        f"`{bench['command']}` on {where['processor']} ({where['instructions']}), {where['cores']} cores, "
        f"{where['threads']} threads, GPU: {where['gpu']}; torch {where['torch']}, Python {where['python']}, "
        f"numba {where.get('numba', 'absent')}; {bench['core_seconds']} s in all.",
        "",
        f"Limits of the machine, the best call of each kind: {limits}"
        + (f" (others used {foreign:.0%} of the processor meanwhile)." if foreign is not None else "."),
        "",
        "Every form of a case runs in turn in every round, in one process; a ratio is the median over rounds of plain "
        "seconds over seconds in the same round, with its range. Memory is what a call needs above what is held before "
        "it, in a process of its own. The first call, with compiling, does not count. Others used more than 5 % of the "
        f"processor during {busy} of {len(others)} cases.",
        "",
    ]
    return "\n".join(lines)


def goals(bench: Row) -> Iterable[str]:
    """What must be, beside what is."""
    cells = []
    for row in bench["measured"]:
        for what, asked in (("times_faster", row.get("must", {})), ("times_lighter", row.get("lighter", {}))):
            for name, must in asked.items():
                is_now = row["forms"].get(name, {}).get(what)
                found = "not measured" if is_now is None else f"**{short(is_now)}x**" + (", not yet" * (is_now < must))
                wanted = f"{must:g}x" + (" less memory" if what == "times_lighter" else "")
                better = row["stretch"].get(name) if what == "times_faster" else None
                cells.append((f"`{row['name']}`", name, wanted, "" if better is None else f"{better:g}x", found))
    if cells:
        yield "## What must be, and what is\n"
        yield table(("case", "form", "must", "stretch", "is"), cells)


def against_plain(bench: Row, images: Path) -> Iterable[str]:
    """A table a group, after drawings of all ratios and shares."""
    rows = [row for row in bench["measured"] if row["kind"] == "case"]
    if not rows:
        return
    yield "## Beside the plain form\n"
    if ratios(rows, images / "speed-ratios.svg"):
        yield "![How many times faster than the plain form](img/speed-ratios.svg)\n"
    if shares(rows, images / "speed-limits.svg"):
        yield "![Share of the machine's limit](img/speed-limits.svg)\n"
    for group in dict.fromkeys(row["name"].partition("/")[0] for row in rows):
        own = [row for row in rows if row["name"].partition("/")[0] == group]
        yield f"### {group}\n"
        yield "\n".join(f"- `{row['name']}`: {row['about']}" for row in own) + "\n"
        heading = ("case", "form", "seconds", "times faster", "must", "rate", "share of limit", "memory", "accuracy")
        yield table(heading, [cells for row in own for cells in forms(row)])


def forms(row: Row) -> Iterable[tuple[str, ...]]:
    """The cells of every form of a case."""
    for name, form in row["forms"].items():
        ratio, low_high, lighter = form["times_faster"], form["times_faster_range"], form["times_lighter"]
        must = f"{row['must'][name]:g}x" if name in row["must"] else ""
        must += f" (stretch {row['stretch'][name]:g}x)" if name in row["stretch"] else ""
        memory = "" if form["peak_bytes"] is None else f"{form['peak_bytes'] / 2**20:,.0f} MiB"
        yield (
            f"`{row['name']}`" if name == "plain" else "",
            name,
            seconds(form["median_seconds"])
            + (f" (+ {form['compile_seconds']:.0f} s once)" if form["compile_seconds"] > 1 else ""),
            "" if ratio is None else f"**{short(ratio)}** [{short(low_high[0])}, {short(low_high[1])}]",
            must,
            rate(row, form),
            "" if form["share_of_limit"] is None else f"{form['share_of_limit']:.0%} of {form['limit']}",
            memory + ("" if lighter is None else f" ({lighter:.3g}x less)"),
            "; ".join(f"{each['name']} {each['value']:.6g}" for each in form["accuracy"]),
        )
    for name, why in row["absent"].items():
        yield ("", name, f"not here: {why}", *[""] * 6)


def rate(row: Row, form: Row) -> str:
    """Items a second, or work a second."""
    if form["items_per_second"] is not None:
        return f"{form['items_per_second']:,.0f} {row['items']}/s"
    unit = "GB/s" if form["limit"] == "copy" else "GFLOP/s"
    return "" if form["work_per_second"] is None else f"{form['work_per_second']:,.3g} {unit}"


def grown(bench: Row, images: Path) -> Iterable[str]:
    """How cost grows: a drawing and a table."""
    rows = [row for row in bench["measured"] if row["kind"] == "growth"]
    if not rows:
        return
    yield "## How cost grows\n"
    growths(rows, images / "speed-growth.svg")
    yield "![Cost over size, with the fitted power](img/speed-growth.svg)\n"
    yield "An exponent is the slope of log cost over log size by least squares, with Student's 95 % interval.\n"
    yield table(
        ("growth", "what", "sizes", "cost from ... to", "exponent", "expected"),
        [
            (
                f"`{row['name']}`",
                row["about"],
                ", ".join(f"{size:,}" for size in row["sizes"]),
                " ... ".join(cost(row, each) for each in (row["costs"][0], row["costs"][-1])),
                f"**{row['fitted']['exponent']:.2f}** [{row['fitted']['low']:.2f}, {row['fitted']['high']:.2f}]",
                f"{row['exponent']:g} within {row['tolerance']:g}",
            )
            for row in rows
        ],
    )


def missing(bench: Row) -> Iterable[str]:
    """What was not measured, and why."""
    if bench["unmeasured"]:
        yield "## Not measured\n"
        yield "\n".join(f"- `{name}`: {why}" for name, why in bench["unmeasured"].items()) + "\n"


def other(path: Path) -> Iterable[str]:
    """What another script measured, as it wrote it."""
    if not path.exists():
        return
    told = json.loads(path.read_text(encoding="utf-8"))
    where = told["environment"]
    yield f"## {OTHERS[path.stem]}\n"
    yield (
        f"{told['about']}\n\n`{told['command']}` on {where['processor']}, {where['cores']} cores, torch "
        f"{where['torch']}. All numbers: `benchmarks/results/{path.name}`.\n"
    )
    names = tuple(dict.fromkeys(name for row in told["measured"] for name in row))
    yield table(names, [tuple(plain(row.get(name, "")) for name in names) for row in told["measured"]])


def table(heading: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    """Markdown, without columns that are empty."""
    names, body = list(heading), list(rows)
    used = [k for k in range(len(names)) if any(row[k] for row in body)]
    lines = [[names[k].replace("_", " ") for k in used], ["---"] * len(used), *([row[k] for k in used] for row in body)]
    return "".join("| " + " | ".join(each.replace("|", "\\|") for each in line) + " |\n" for line in lines)


def plain(value: Any) -> str:
    """A cell of somebody else's table: a value, several, or a mean with its interval."""
    if isinstance(value, dict):
        return f"{plain(value['mean'])} [{plain(value['low'])}, {plain(value['high'])}]"
    if isinstance(value, list):
        return "[" + ", ".join(map(plain, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def short(value: float) -> str:
    """Three digits; whole numbers from a thousand on."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def cost(row: Row, value: float) -> str:
    """Seconds or memory of a growth."""
    return seconds(value) if row["measures"] == "seconds" else f"{value / 2**20:,.1f} MiB"


def seconds(value: float) -> str:
    """A time with three digits."""
    for unit, factor in (("s", 1.0), ("ms", 1e3)):
        if value * factor >= 1:
            return f"{value * factor:,.3g} {unit}" if value * factor < 1000 else f"{value * factor:,.0f} {unit}"
    return f"{value * 1e6:.3g} µs"


if __name__ == "__main__":
    sys.exit(main())
