"""The report in a browser: Chromium of the system, driven by Playwright."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from ssl4eo_bench.results.files import RunResult, write_result
from ssl4eo_bench.results.report.render import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `dev` is not installed: no playwright")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="neither chromium, chromium-browser nor google-chrome is in PATH"
)


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])  # root has no sandbox
        yield started
        started.close()


@pytest.fixture
def page_file(tmp_path: Path, make_result: Callable[..., RunResult]) -> Path:
    """A report on two tasks, one of which not every checkpoint has."""
    results = tmp_path / "results"
    for number, name in enumerate(("bandstats", "resnet18.random", "tf_efficientnet_lite0.in1k")):
        write_result(results, make_result(checkpoint=name, accuracy=0.3 + number / 10))
        write_result(results, make_result(checkpoint=name, accuracy=0.2 + number / 10, fraction=0.1))
    write_result(results, make_result("eurosat-rgb", checkpoint="bandstats", accuracy=0.7))
    (written,) = write_report(results, tmp_path / "report.html", cache_dir=tmp_path)
    return written


@pytest.fixture
def troubles() -> Iterator[list[str]]:
    """Complaints of the browser, and requests for anything but the page; none may be left at the end."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture
def open_page(browser: "Browser", page_file: Path, troubles: list[str]) -> Iterator[Callable[..., "Page"]]:
    """Opens the report."""
    contexts = []

    def opened(width: int = 1280, scheme: Literal["light", "dark"] = "light") -> "Page":
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("request", lambda request: troubles.append(request.url) if request.url != page_file.as_uri() else None)
        page.goto(page_file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()


def names(page: "Page") -> list[str]:
    """Of the checkpoints on the board, as far as they are seen."""
    found: list[str] = page.locator(".board tbody tr:visible").evaluate_all(
        "rows => rows.map(row => row.querySelector('.name').firstChild.textContent.trim())"
    )
    return found


BEST_FIRST = ["tf_efficientnet_lite0.in1k", "resnet18.random", "bandstats"]


def test_columns_sort_by_click_and_by_key(open_page: Callable[..., "Page"]) -> None:
    page = open_page()
    column = page.locator(".board th", has_text="eurosat-v1 accuracy")
    assert column.get_attribute("aria-sort") == "none"
    column.locator("button").click()
    assert (column.get_attribute("aria-sort"), names(page)) == ("descending", BEST_FIRST)
    page.keyboard.press("Enter")  # the button still has the focus
    assert (column.get_attribute("aria-sort"), names(page)) == ("ascending", BEST_FIRST[::-1])
    name = page.locator(".board th", has_text="checkpoint").first
    name.locator("button").focus()
    page.keyboard.press("Space")
    assert (name.get_attribute("aria-sort"), names(page)) == ("ascending", sorted(BEST_FIRST))
    assert column.get_attribute("aria-sort") == "none"


def test_what_is_missing_stays_last_in_both_directions(open_page: Callable[..., "Page"]) -> None:
    page = open_page()
    button = page.locator(".board th", has_text="eurosat-rgb-v1 accuracy").locator("button")
    for _ in range(2):
        button.click()
        assert names(page)[0] == "bandstats"


def test_rows_are_found_by_words(open_page: Callable[..., "Page"]) -> None:
    page = open_page()
    page.locator("#find").fill("imagenet lite")  # in name and pretraining
    assert names(page) == BEST_FIRST[:1]
    assert page.locator("#count").inner_text() == "1 of 3 rows"
    page.locator("#find").fill("nothing like it")
    assert names(page) == []
    page.locator("#find").fill("")
    assert len(names(page)) == 3
    page.locator("#find").press("Enter")  # sends nothing anywhere
    assert len(names(page)) == 3


def test_a_task_shows_its_rows_with_all_of_its_metrics(open_page: Callable[..., "Page"]) -> None:
    page = open_page()
    heads = page.locator(".board thead th:visible")
    main = heads.all_inner_texts()
    assert not any("macro F1" in head for head in main)
    page.locator("#task").select_option("eurosat-rgb-v1")
    assert names(page) == ["bandstats"]
    shown = " ".join(heads.all_inner_texts())
    assert "macro F1" in shown
    assert "eurosat-v1" not in shown
    page.locator("#task").select_option("")
    assert heads.all_inner_texts() == main
    assert len(names(page)) == 3


def test_a_place_of_a_figure_or_table_says_its_values_at_once(open_page: Callable[..., "Page"]) -> None:
    page = open_page()
    assert page.locator("#tip").is_hidden()
    page.locator(".matrix td").nth(1).hover()
    said = page.locator("#tip").inner_text()
    assert said.startswith("tf_efficientnet_lite0.in1k is above resnet18.random: +10.00 points, corrected p < 0.001")
    page.locator(".hover circle").first.hover(force=True)
    assert "%" in page.locator("#tip").inner_text()
    page.locator("h1").hover()
    assert page.locator("#tip").is_hidden()


def test_a_link_opens_what_it_leads_to_and_the_first_tab_skips_to_the_board(
    open_page: Callable[..., "Page"],
) -> None:
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#leaderboard"
    assert page.locator("details[open]").count() > 0
    assert page.locator("details:not([open])").count() > 0
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details:not([open])").count() > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen_and_text_can_be_read(
    open_page: Callable[..., "Page"], width: int, scheme: Literal["light", "dark"]
) -> None:
    page = open_page(width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    contrasts: dict[str, float] = page.evaluate(
        """() => {
          const luminance = (colour) => {
            const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => {
              const s = v / 255;
              return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          const paper = luminance(getComputedStyle(document.body).backgroundColor);
          const found = {};
          for (const one of ["body", ".muted", "a[href='#caveats']", "caption", ".plot text"]) {
            const style = getComputedStyle(document.querySelector(one));
            const ink = luminance(one === ".plot text" ? style.fill : style.color);
            found[one] = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
          }
          return found;
        }"""
    )
    assert {name: contrast for name, contrast in contrasts.items() if contrast < 4.5} == {}


def test_no_script_but_that_of_the_page_can_run(open_page: Callable[..., "Page"], troubles: list[str]) -> None:
    page = open_page()
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "window.attacked = true";
          document.body.append(script);
        }"""
    )
    assert page.evaluate("window.attacked ?? false") is False
    (complaint,) = troubles
    assert "Content Security Policy" in complaint
    troubles.clear()
