"""The report in a real browser: it opens without errors and without a network, on large and small screens."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mithridate.report import page
from tests.report.fabricate import fabricate
from tests.report.fabricate_defenses import fabricate_defenses, twenty
from tests.report.fabricate_degrade import Made, fabricate_digits, fabricate_table
from tests.report.fabricate_polytopes import fabricate_polytopes

pytestmark = pytest.mark.browser

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
HOSTILE = ("<script>alert(1)</script>", "a\"b' onerror=x", "bag", "sandal", "coat")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scenarios = ((32 / 255, 0.04), (16 / 255, 0.04))
    folder = tmp_path_factory.mktemp("report")
    return page.write(fabricate(folder, classes=HOSTILE, scenarios=scenarios, defenses=("none", "epic 0.1")))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def defended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty defenses and controls, ten trials of two networks."""
    return page.write(fabricate_defenses(tmp_path_factory.mktemp("defended"), twenty()))


@pytest.fixture(scope="module")
def featured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two feature-space attacks in five networks, with published numbers and a pretraining."""
    return page.write(fabricate_polytopes(tmp_path_factory.mktemp("featured"), trials=2, networks=5, name=HOSTILE[0]))


@pytest.fixture(scope="module")
def degraded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three attacks in four amounts on two victims under four defenses, on a table."""
    defenses = {"none": 1.0, "label-sanitisation": 0.3, "slab": 0.6, "sphere": 0.8, "roni": 0.95}
    victims = {"logistic-regression": 0.07, "mlp-10": 0.06}
    made = Made(budgets=(0.1, 0.02, 0.05, 0.15), victims=victims, defenses=defenses)
    return page.write(fabricate_table(tmp_path_factory.mktemp("degraded"), made))


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An error-specific attack on digits."""
    return page.write(fabricate_digits(tmp_path_factory.mktemp("mistaken")))


@pytest.fixture
def opened_degraded(browser: Any, degraded: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The report about attacks that degrade, likewise."""
    yield from _window(browser, degraded, *request.param)


@pytest.fixture
def opened_mistaken(browser: Any, mistaken: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The report about an error-specific attack, likewise."""
    yield from _window(browser, mistaken, *request.param)


@pytest.fixture
def opened_featured(browser: Any, featured: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The report about feature-space attacks, likewise."""
    yield from _window(browser, featured, *request.param)


@pytest.fixture
def opened(browser: Any, report: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The report in a window of the given width and colour scheme; whatever went wrong fails the test."""
    width, scheme = getattr(request, "param", (1280, "light"))
    yield from _window(browser, report, width, scheme)


@pytest.fixture
def opened_defended(browser: Any, defended: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The report about defenses, likewise."""
    yield from _window(browser, defended, *request.param)


def _window(browser: Any, shown: Path, width: int, scheme: str) -> Iterator[Any]:
    window = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    problems: list[str] = []
    requests: list[str] = []
    window.on("console", lambda message: problems.append(f"console: {message.text}"))
    window.on("pageerror", lambda error: problems.append(f"error: {error}"))
    window.on("dialog", lambda dialog: (problems.append("a dialog"), dialog.dismiss()))
    window.on("request", lambda each: requests.append(each.url))
    window.goto(shown.as_uri())
    yield window
    assert problems == []
    assert [url for url in requests if not url.startswith("data:")] == [shown.as_uri()]
    window.close()


SCREENS = [(1280, "light"), (1280, "dark"), (360, "light"), (360, "dark")]


@pytest.mark.parametrize("opened", SCREENS, indirect=True, ids=lambda screen: f"{screen[0]}-{screen[1]}")
def test_the_verdict_is_seen_and_nothing_overflows(opened: Any):
    assert opened.locator(".sentence").is_visible()
    assert "freshly trained networks" in opened.locator(".sentence").inner_text()
    assert opened.locator(".sentence").bounding_box()["y"] < 800
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_every_picture_of_the_gallery_shows(opened: Any):
    pictures = opened.locator("#poisons .wall img")
    assert pictures.count() == (3 + 1) * 3 * 8
    assert pictures.evaluate_all("all => all.every(each => each.complete && each.naturalWidth > 0)")
    assert opened.locator("svg.plot").count() >= 8


@pytest.mark.parametrize("opened", SCREENS[:2], indirect=True, ids=["light", "dark"])
def test_text_stands_out_from_its_ground(opened: Any):
    """Contrast of at least 4.5 to 1 (WCAG AA) for ink, muted text and the colours of the controls."""
    ratio = """names => {
      const probe = document.body.appendChild(document.createElement("p"));
      const light = colour => {
        probe.style.color = colour;
        const parts = getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3).map(v => v / 255);
        const linear = parts.map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
      };
      const ground = light("var(--paper)");
      return names.map(name => {
        const [low, high] = [light(`var(--${name})`), ground].sort((a, b) => a - b);
        return (high + 0.05) / (low + 0.05);
      });
    }"""
    names = ["ink", "muted", "poison", "noise", "clean", "intended"]
    found = dict(zip(names, opened.evaluate(ratio, names), strict=True))
    assert {name: value for name, value in found.items() if value < 4.5} == {}


def test_the_keyboard_reaches_the_skip_link_and_the_scroll_boxes(opened: Any):
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.className") == "skip"
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.id") == "verdict"
    assert opened.locator(".scroll").evaluate_all("all => all.every(each => each.tabIndex === 0)")


def test_the_command_can_be_copied_or_is_selected(opened: Any):
    opened.locator("#copy").click()
    opened.wait_for_function("document.getElementById('copy').textContent !== 'Copy'")


def test_everything_is_unfolded_for_printing(opened: Any):
    assert opened.locator("details:not([open])").count() > 0
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.locator("details:not([open])").count() == 0
    opened.emulate_media(media="print")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@pytest.mark.parametrize("opened_defended", SCREENS, indirect=True, ids=lambda screen: f"{screen[0]}-{screen[1]}")
def test_twenty_defenses_fit_on_every_screen(opened_defended: Any):
    """Neither the page nor the table must be scrolled sideways, and every number of every row is seen."""
    assert opened_defended.evaluate("document.documentElement.scrollWidth <= innerWidth")
    table = opened_defended.locator("table.defended")
    assert table.evaluate("each => each.parentElement.scrollWidth <= each.parentElement.clientWidth")
    assert table.locator("tbody tr").count() == 21
    for name in ("epic", "random-drop", "top-loss-drop", "oracle-filter"):
        row = table.locator("tbody tr", has_text=name).first
        cells = row.locator("td").evaluate_all("all => all.map(each => each.getBoundingClientRect().right)")
        assert max(cells) <= opened_defended.viewport_size["width"]
        assert row.is_visible()


@pytest.mark.parametrize("opened_defended", SCREENS[:2], indirect=True, ids=["light", "dark"])
def test_controls_stand_apart_and_dropped_poison_is_framed(opened_defended: Any):
    indent = "each => parseFloat(getComputedStyle(each).paddingLeft)"
    first = opened_defended.locator("table.defended .own th").first
    assert first.evaluate(indent) > opened_defended.locator("table.defended tr:not(.control) th").nth(1).evaluate(
        indent
    )
    border = "each => getComputedStyle(each).borderTopColor"
    poison = opened_defended.locator(".dropped .poison img").first.evaluate(border)
    clean = opened_defended.locator(".dropped li:not(.poison) img").first.evaluate(border)
    assert poison != clean == "rgba(0, 0, 0, 0)"
    assert opened_defended.locator(".dropped .poison").first.inner_text().endswith("poison")


@pytest.mark.parametrize("opened_featured", SCREENS, indirect=True, ids=lambda screen: f"{screen[0]}-{screen[1]}")
def test_where_the_poison_lies_fits_on_every_screen(opened_featured: Any):
    """No sideways scrolling; every bar of the coefficients stands on its line and under the top of its scale."""
    assert opened_featured.evaluate("document.documentElement.scrollWidth <= innerWidth")
    figures = opened_featured.locator("#polytopes > .views .plotted")
    assert figures.count() == 2 * 4
    widest = "all => Math.max(...all.map(each => each.getBoundingClientRect().right))"
    assert figures.evaluate_all(widest) <= opened_featured.viewport_size["width"]
    inside = """all => all.every(field => [...field.querySelectorAll("i")].every(bar => {
      const [outer, inner] = [field, bar].map(each => each.getBoundingClientRect());
      return inner.width > 0 && inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;
    }))"""
    fields = opened_featured.locator("#polytopes > .views .field")
    assert fields.count() == 2 * 4
    assert fields.evaluate_all(inside)


@pytest.mark.parametrize("opened_featured", [(1280, "light")], indirect=True)
def test_a_published_number_leads_to_its_source(opened_featured: Any):
    table = opened_featured.locator("#results table.results")
    assert table.evaluate("each => each.parentElement.scrollWidth <= each.parentElement.clientWidth")
    table.get_by_role("link", name="source 1").first.click()
    assert opened_featured.evaluate("location.hash") == "#source-1"
    assert "Schwarzschild" in opened_featured.locator("#source-1").inner_text()


@pytest.mark.parametrize("opened_degraded", SCREENS, indirect=True, ids=lambda screen: f"{screen[0]}-{screen[1]}")
def test_error_over_poison_fits_on_every_screen(opened_degraded: Any):
    """No sideways scrolling of the page or of the defenses; no name beside a line leaves its figure."""
    assert opened_degraded.locator(".sentence").bounding_box()["y"] < 800
    assert opened_degraded.evaluate("document.documentElement.scrollWidth <= innerWidth")
    figures = opened_degraded.locator("#curves .plotted svg")
    assert figures.count() == 2 * 2
    inside = """all => all.every(svg => [...svg.querySelectorAll("text")].every(text => {
      const [outer, inner] = [svg, text].map(each => each.getBoundingClientRect());
      return inner.left >= outer.left - 4 && inner.right <= outer.right + 4 && inner.right <= innerWidth;
    }))"""
    assert figures.evaluate_all(inside)
    table = opened_degraded.locator("table.defended").first
    assert table.evaluate("each => each.parentElement.scrollWidth <= each.parentElement.clientWidth")


@pytest.mark.parametrize("opened_degraded", SCREENS[:2], indirect=True, ids=["light", "dark"])
def test_numbers_stand_out_from_shaded_places(opened_degraded: Any):
    """Contrast of at least 4.5 to 1 on the darkest places of the transfer table and of the confusion matrices."""
    ratio = """cell => {
      const probe = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
      const light = (...colours) => {
        probe.clearRect(0, 0, 1, 1);
        for (const colour of colours) { probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1); }
        const parts = [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3).map(v => v / 255);
        const linear = parts.map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
      };
      const paper = getComputedStyle(document.body).backgroundColor, style = getComputedStyle(cell);
      const [low, high] = [light(style.color), light(paper, style.backgroundColor)].sort((a, b) => a - b);
      return (high + 0.05) / (low + 0.05);
    }"""
    for place in (".transfer tr:nth-child(2) td", ".matrix .right", ".matrix .wrong"):
        cell = opened_degraded.locator(place).first
        assert cell.evaluate("each => getComputedStyle(each).backgroundColor") != "rgba(0, 0, 0, 0)"
        assert cell.evaluate(ratio) >= 4.5


@pytest.mark.parametrize("opened_mistaken", SCREENS, indirect=True, ids=lambda screen: f"{screen[0]}-{screen[1]}")
def test_ten_classes_and_pairs_of_digits_fit_on_every_screen(opened_mistaken: Any):
    assert opened_mistaken.evaluate("document.documentElement.scrollWidth <= innerWidth")
    outline = "each => getComputedStyle(each).outlineStyle"
    assert opened_mistaken.locator(".matrix .wished").first.evaluate(outline) == "solid"
    pictures = opened_mistaken.locator("#poisons .twins img")
    assert pictures.evaluate_all("all => all.every(each => each.complete && each.naturalWidth > 0)")
    beside = """all => all.every(pair => {
      const [clean, poison] = [...pair.querySelectorAll("img")].map(each => each.getBoundingClientRect());
      return clean.top === poison.top && clean.right <= poison.left;
    })"""
    assert opened_mistaken.locator("#poisons > .twins li").evaluate_all(beside)
