"""The page of ``danetc report`` in headless Chromium: its choices, its accessibility in both themes,
and its use offline."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from danetc.runtime.system.files import digest, read_record, save_record
from danetc.runtime.training.evaluation import Evaluation
from tests.conftest import check_accessible
from tests.danetc import runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

EPOCHS = [{"train_loss": 2.0 / n, "test_accuracy": 0.15 * n} for n in range(1, 5)]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with real measures and invented curves."""
    run = runs.built(tmp_path_factory.mktemp("runs"), "tiny")
    weights = digest((run / "weights.safetensors").read_bytes())
    trained = {"epochs": EPOCHS, "evaluation": Evaluation(steps=2).as_dict(), "weights": weights}
    save_record(trained, run / "training.json")
    save_record({"settings": {"seed": 3}, "facts": {"danetc": "x"}}, run / "run.json")
    runs.do("report", run, "--data", "digits", "-o", run.parent / "first.html")
    return run


@pytest.fixture(scope="module")
def two(measured: Path) -> Path:
    """The page of a complete run and of one that was only built."""
    page = measured.parent / "two.html"
    runs.do("report", measured, runs.built(measured.parent), "-o", page)
    return page


@pytest.fixture
def page(browser: Browser, two: Path) -> Iterator[Page]:
    """The page, opened offline. Any other request or console message fails the test."""
    context = browser.new_context(offline=True, viewport={"width": 1400, "height": 900})
    page = context.new_page()
    wrong: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(two.as_uri())
    yield page
    context.close()
    assert wrong == []
    assert [url for url in asked if not url.startswith("data:image/svg+xml;base64,")] == asked[:1]
    assert asked[0].startswith("file://")


def picture(page: Page, run: int = 0) -> Locator:
    return page.locator("#topology article").nth(run).locator(".picture:visible")


def choose(page: Page, name: str, value: str) -> None:
    page.locator(f'input[name="{name}"][value="{value}"]').check()


def mean(measures: dict[str, Any], start: str) -> float:
    """Return the mean firing rate of a part, whose layers are all on the main path here."""
    rates = [r["rate"] for r in measures["firing_rate"]["layers"] if r["layer"].startswith(start)]
    return float(sum(rates) / len(rates))


def test_levels_and_measures_are_chosen(page: Page, measured: Path) -> None:
    """Parts have tooltips, and the colours of the scale in both themes."""
    measures = read_record(measured / "measures.json")["measured"][0]
    part = picture(page).locator(".part", has_text="block 1").first
    told = part.locator("title")
    assert f"firing rate {mean(measures, 'stages.0.blocks.1'):.3f} (2 layers" in told.inner_html()
    shape = part.locator("path").first
    colour = "element => getComputedStyle(element).fill"
    background = "element => getComputedStyle(element).backgroundColor"
    probe = page.locator(f".scale:visible .heat-{part.get_attribute('data-firing')}")
    assert shape.evaluate(colour) == probe.evaluate(background)
    light = shape.evaluate(colour)
    choose(page, "theme", "dark")
    assert shape.evaluate(colour) == probe.evaluate(background) != light
    choose(page, "measure", "stability")
    assert "gradient stability " in told.inner_html()
    assert page.locator(".scale:visible").count() == 1
    assert "Gradient stability" in page.locator(".scale:visible").inner_text()
    choose(page, "measure", "")
    # The other run was never measured: no colours, and a note.
    assert picture(page, 1).locator("[data-firing]").count() == 0
    assert "Nothing was measured here" in page.locator("#topology article").nth(1).inner_text()
    choose(page, "level", "neuron")
    assert picture(page).get_attribute("data-level") == "neuron"
    assert "v_threshold" in picture(page).inner_text()
    layers = page.locator("#layers details").nth(1)
    assert not layers.locator("table").is_visible()
    layers.locator("summary").click()
    row = layers.locator("tr", has_text="stages.0.blocks.0.branch.spike")
    assert f"{mean(measures, 'stages.0.blocks.0.branch'):.3f}" in row.inner_text()


def test_runs_can_be_left_out(page: Page) -> None:
    page.get_by_role("checkbox", name="other").uncheck()
    assert page.locator("#results tbody tr:visible").count() == 1
    assert page.locator("article:visible").count() == 3
    page.get_by_role("checkbox", name="other").check()
    page.get_by_role("checkbox", name="tiny").uncheck()
    assert page.locator("#settings td:visible").first.inner_text() == "-"
    page.get_by_role("checkbox", name="tiny").check()
    assert page.locator("article:visible").count() == 6


@pytest.mark.parametrize("scheme", [pytest.param("light", marks=pytest.mark.thorough), "dark"])
def test_accessible_in_both_themes(browser: Browser, two: Path, scheme: Any) -> None:
    """All details are open."""
    page = browser.new_page(color_scheme=scheme, viewport={"width": 1400, "height": 900})
    page.goto(two.as_uri())
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
    assert dark == (scheme == "dark")
    page.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
    check_accessible(page, {"color-contrast", "image-alt", "label"})
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map((each) => each.id)")
    assert len(ids) == len(set(ids)) > 0
    page.close()
