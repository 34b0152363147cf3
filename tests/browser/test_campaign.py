"""The page of a campaign and the leaderboard in a real browser: on every screen, printed, sorted and filtered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mithridate.report import leaderboard_page, page
from tests.browser.test_report import SCREENS, _window, browser  # noqa: F401 - a fixture
from tests.report.fabricate_grid import ALL, Grid, fabricate_grid

pytestmark = pytest.mark.browser

SMALL = Grid(trials=8, runs=1)
RATIO = """cell => {
  const probe = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const light = (...colours) => {
    probe.clearRect(0, 0, 1, 1);
    for (const colour of colours) { probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1); }
    const parts = [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => v / 255);
    const linear = parts.map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const paper = getComputedStyle(document.body).backgroundColor;
  const ground = light(paper, getComputedStyle(cell).backgroundColor);
  return Math.min(...[...cell.querySelectorAll("b, small")].map(each => {
    const [low, high] = [light(getComputedStyle(each).color), ground].sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  }));
}"""


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return page.write(fabricate_grid(tmp_path_factory.mktemp("campaign"), SMALL))


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    for name in ("alpha", "beta"):
        fabricate_grid(folder / name, replace(SMALL, holes=False, scenarios=((0.1, 0.04),)), seed=len(name))
    leaderboard_page.write([folder / "alpha", folder / "beta", folder / "absent"], folder / "board.html")
    return folder / "board.html"


@pytest.fixture
def opened(browser: Any, campaign: Path, request: pytest.FixtureRequest) -> Iterator[Any]:  # noqa: F811
    yield from _window(browser, campaign, *getattr(request, "param", (1280, "light")))


@pytest.fixture
def opened_board(browser: Any, board: Path, request: pytest.FixtureRequest) -> Iterator[Any]:  # noqa: F811
    yield from _window(browser, board, *getattr(request, "param", (1280, "light")))


@pytest.mark.parametrize("opened", SCREENS, indirect=True, ids=lambda screen: f"{screen[0]}-{screen[1]}")
def test_the_campaign_fits_on_every_screen(opened: Any):
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert opened.locator("#grid .heatmap").first.is_visible()
    assert opened.locator("#stripes svg.stripe").first.is_visible()
    darkest = opened.locator("#grid td.run").first
    assert darkest.evaluate("each => getComputedStyle(each).backgroundColor") != "rgba(0, 0, 0, 0)"
    assert darkest.evaluate(RATIO) >= 4.5


@pytest.mark.parametrize("opened_board", SCREENS, indirect=True, ids=lambda screen: f"{screen[0]}-{screen[1]}")
def test_the_leaderboard_fits_on_every_screen(opened_board: Any):
    assert opened_board.evaluate("document.documentElement.scrollWidth <= innerWidth")
    table = opened_board.locator("table.board").first
    assert table.evaluate("each => each.parentElement.scrollWidth <= each.parentElement.clientWidth")
    assert opened_board.locator(".notice").count() == 1


def test_the_map_fits_on_paper(opened: Any):
    opened.set_viewport_size({"width": 718, "height": 1000})  # the width of A4 less its margins
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    opened.emulate_media(media="print")
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert not opened.locator(".tools").first.is_visible()
    small = opened.locator("#grid td.run small").first
    assert small.is_visible()


def column(opened: Any, name: str) -> list[str]:
    cells = opened.locator(f'table.defended >> nth=0 >> td[data-label="{name}"]')
    return [text.split("\n")[0] for text in cells.all_inner_texts()]


def test_a_table_is_sorted_by_its_headings_with_the_keyboard_alone(opened: Any):
    table = opened.locator("table.defended").first
    before = column(opened, "Success")
    heading = table.locator("th", has_text="Success").first
    heading.locator("button").focus()
    found = []
    for wanted in ("ascending", "descending", None):
        opened.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == wanted
        found.append(column(opened, "Success"))
    rates = [[float(text.split("\N{NO-BREAK SPACE}")[0]) for text in each] for each in found[:2]]
    assert rates[0] == sorted(rates[0])
    assert rates[1] == sorted(rates[1], reverse=True)
    assert found[2] == before


def test_what_was_not_run_stays_last_either_way(opened: Any):
    opened.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    table = opened.locator("table.results", has_text="Base rate, clean").first
    heading = table.locator("th", has_text="Success").first
    for _ in range(2):
        heading.locator("button").click()
        texts = table.locator("tbody tr td:nth-child(5)").all_inner_texts()
        places = [k for k, text in enumerate(texts) if "not run" in text]
        assert places == list(range(len(texts) - 2, len(texts)))


def test_the_filter_keeps_rows_with_all_its_words(opened: Any):
    table = opened.locator("table.defended").first
    box = opened.locator("#results input[type=search]").first
    box.fill("EPIC random")
    shown = table.locator("tbody tr:not([hidden])").all_inner_texts()
    assert len(shown) == 2  # the controls of epic, and of mixup + epic
    assert opened.locator("#results output").first.inner_text() == f"2 of {len(ALL)} rows"
    box.fill("")
    assert table.locator("tbody tr:not([hidden])").count() == len(ALL)


def test_without_a_script_everything_is_shown(browser: Any, campaign: Path):  # noqa: F811
    context = browser.new_context(java_script_enabled=False)
    window = context.new_page()
    window.goto(campaign.as_uri())
    assert window.locator("table.defended").first.locator("tbody tr").count() == len(ALL)
    assert window.locator(".tools").count() == 0
    assert window.locator("th button").count() == 0
    context.close()


@pytest.mark.parametrize("opened", [(360, "light")], indirect=True)
def test_on_a_phone_a_list_sorts_the_folded_table(opened: Any):
    opened.locator("#results .by select").first.select_option(label="Clean accuracy, ascending")
    rates = [float(each.split("\N{NO-BREAK SPACE}")[0]) for each in column(opened, "Clean accuracy")]
    assert rates == sorted(rates)


def test_sorting_a_leaderboard_hides_what_is_said_of_the_line_above(opened_board: Any):
    table = opened_board.locator("table.board", has_text="not clearly different").first
    assert table.locator(".above").first.is_visible()
    table.locator("th button", has_text="Run").click()
    assert not table.locator(".above").first.is_visible()
