"""The page of a report in a real browser, Debian's chromium: it opens, fits, sorts, and asks for nothing."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from art_mtl.evaluation import evaluate
from art_mtl.evaluation.report.page import page_html

sys.path.insert(0, str(Path(__file__).resolve().parent / "evaluation"))  # pytest imports tests from nowhere

import pages

sys.path.pop(0)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "no browser: install chromium" if CHROMIUM is None else "no playwright: pip install '.[dev]'"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None or importlib.util.find_spec("playwright") is None, reason=MISSING),
]
NAMES = ("odd", "digits", "multilabel", "rooms")
LOOKS = [(width, scheme) for width in (1300, 360) for scheme in ("light", "dark")]

CONTRAST = """() => {
  for (const part of document.querySelectorAll("details")) part.open = true;
  const pixel = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const parse = (colour) => {
    pixel.clearRect(0, 0, 1, 1); pixel.fillStyle = colour; pixel.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255];
  };
  const over = ([r, g, b, a], below) => [r, g, b].map((value, i) => a * value + (1 - a) * below[i]);
  const behind = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || element.closest("script, style, title") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), below = behind(element);
    const ink = over(parse(element.closest("svg") ? style.fill : style.color), below);
    const [high, low] = [light(ink), light(below)].sort((a, b) => b - a);
    found.push([(high + 0.05) / (low + 0.05), text.slice(0, 40)]);
  }
  return found.sort(([a], [b]) => a - b);
}"""
TOO_WIDE = """() => {
  for (const part of document.querySelectorAll("details")) part.open = true;
  const wide = document.documentElement.scrollWidth > innerWidth ? ["the page"] : [];
  for (const element of document.body.querySelectorAll("*")) {
    const box = element.getBoundingClientRect(), svg = element.closest("svg");
    const frame = svg && svg !== element ? svg.getBoundingClientRect() : {left: 0, right: innerWidth};
    const outside = box.right > frame.right + 1 || box.left < frame.left - 1;
    if (outside && !element.closest(".scroll > *, title")) wide.push(element.outerHTML.slice(0, 80));
  }
  return wide;
}"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of the package's victims, and of a model with odd names."""
    folder = tmp_path_factory.mktemp("pages")
    options: dict[str, Any] = {"limit": 6, "steps": 1, "progress": False}
    runs = {
        "odd": pages.odd_run(),
        "digits": evaluate("digits", ["all"], eps=[0.05, 0.1], **options),
        "multilabel": evaluate("multilabel", ["equal", "minmax", "worst-task"], eps=[0.1], **options),
        "rooms": evaluate("rooms", ["equal", "worst-task"], eps=["4/255", "8/255"], **options),
    }
    return {name: run.report(folder / f"{name}.html")[0] for name, run in runs.items()}


@dataclass
class Open:
    """Opens pages, and notes what they complain of and ask for."""

    browser: Any
    faults: list[str] = field(default_factory=list)
    shown: list[Any] = field(default_factory=list)

    def __call__(self, path: Path, width: int = 1300, scheme: str = "light") -> Any:
        page = self.browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.shown.append(page)
        page.on("console", lambda message: self.faults.append(message.text))
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("dialog", self._dismiss)
        own = path.resolve().as_uri()
        page.on("request", lambda asked: asked.url.startswith(("data:", own)) or self.faults.append(asked.url))
        page.goto(own)
        return page

    def _dismiss(self, dialog: Any) -> None:
        self.faults.append(dialog.message)
        dialog.dismiss()


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Opens pages, which may neither complain nor ask for anything."""
    look = Open(browser)
    yield look
    for page in look.shown:
        page.close()
    assert look.faults == []


@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_and_can_be_read_in_every_look(name: str, made: dict[str, Path], opened: Open) -> None:
    for width, scheme in LOOKS:
        page = opened(made[name], width, scheme)
        assert page.evaluate(TOO_WIDE) == [], (width, scheme)
        contrasts = page.evaluate(CONTRAST)
        assert len(contrasts) > 100 and contrasts[0][0] >= 4.5, (width, scheme, contrasts[:3])


def test_too_little_contrast_and_too_much_width_would_be_found(made: dict[str, Path], opened: Open) -> None:
    page = opened(made["odd"])
    page.add_style_tag(content="h2 { color: #999 !important } .verdict { width: 1500px }")
    assert page.evaluate(CONTRAST)[0][0] == pytest.approx(2.85, abs=0.01)  # #999 on white, by WebAIM's calculator
    assert any("verdict" in wide for wide in page.evaluate(TOO_WIDE))


def column(page: Any, number: int) -> list[str]:
    """What a column of the table shows."""
    found: list[str] = page.eval_on_selector_all(
        f"#results tbody td:nth-child({number + 1})", "c => c.map(x => x.innerText)"
    )
    return found


def test_the_table_is_sorted_by_a_click(made: dict[str, Path], opened: Open) -> None:
    page = opened(made["digits"])
    heads = page.eval_on_selector_all("#results th", "heads => heads.map((head) => head.textContent)")
    place = heads.index("Δ_Wor (%)")
    figures = column(page, place)

    def number(text: str) -> float:
        return float(text.replace("−", "-"))

    button = page.locator("#results th button").nth(place)
    button.click()
    assert column(page, place) == sorted(figures, key=number) != figures
    assert page.locator("#results th").nth(place).get_attribute("aria-sort") == "ascending"
    button.click()
    assert list(map(number, column(page, place))) == sorted(map(number, figures), reverse=True)
    costs = heads.index("seconds")
    for descending in (False, True):
        page.locator("#results th button").nth(costs).click()
        *known, last = column(page, costs)
        assert last == "" and known == sorted(known, key=float, reverse=descending), "what is missing comes last"
    assert page.locator("#results th[aria-sort]").count() == 1
    page.locator("#results th button").first.click()
    assert column(page, 0) == sorted(column(page, 0), key=str.lower)


def test_names_are_shown_and_do_nothing(made: dict[str, Path], opened: Open) -> None:
    page = opened(made["odd"])
    text = page.inner_text("body")
    assert all(name in text for name in (*pages.TASKS, *pages.ATTACKS)) and "<script>alert(4)</script>" in text
    assert page.title() == "model: degradation by multi-task attacks"
    assert page.locator("script").count() == 1 and page.locator("[onerror], a[href^=javascript]").count() == 0
    assert page.eval_on_selector_all("img", "all => all.every((one) => one.naturalWidth > 0)")


def test_a_script_that_got_in_would_not_run(made: dict[str, Path], opened: Open, tmp_path: Path) -> None:
    source = made["odd"].read_text(encoding="utf-8")
    path = tmp_path / "bad.html"
    path.write_text(source.replace("</main>", "<script>document.title = 'taken'</script></main>"), encoding="utf-8")
    page = opened(path)
    assert page.title() != "taken"
    assert page.locator("#theme").is_visible(), "the page's own script runs"
    assert len(opened.faults) == 1 and "Content Security Policy" in opened.faults.pop()


def test_the_switch_turns_light_into_dark(made: dict[str, Path], opened: Open) -> None:
    page = opened(made["digits"])
    shade = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(shade)
    page.click("#theme")
    dark = page.evaluate(shade)
    page.click("#theme")
    assert page.evaluate(shade) == before == "rgb(255, 255, 255)" != dark
    assert dark == opened(made["digits"], scheme="dark").evaluate(shade)


def test_a_legend_hides_a_curve(made: dict[str, Path], opened: Open) -> None:
    page = opened(made["digits"])
    entry = page.locator(".legend button").first
    curves = page.locator(f".curves svg g[data-series='{entry.get_attribute('data-of')}']")
    assert curves.count() == 2 and curves.first.is_visible()
    entry.click()
    assert not curves.first.is_visible() and not curves.last.is_visible()
    entry.click()
    assert curves.first.is_visible()


def test_it_prints_with_everything_open(made: dict[str, Path], opened: Open) -> None:
    page = opened(made["digits"], scheme="dark")
    assert page.pdf().startswith(b"%PDF")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_large_page_is_small_enough_and_opens_at_once(
    opened: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "large.html"
    path.write_text(page_html(pages.large_results()), encoding="utf-8")
    start = time.perf_counter()
    page = opened(path)
    assert page.locator("#results tbody tr").count() == 1 + 6 * (40 + 1)
    seconds = time.perf_counter() - start
    with capsys.disabled():
        print(f"\n40 attacks × 6 radii × 6 tasks: {path.stat().st_size / 1e6:.1f} MB, open after {seconds:.1f} s")
    assert path.stat().st_size < 5e6
