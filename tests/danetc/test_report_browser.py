"""The page of ``danetc report`` in headless Chromium: by keyboard, by pointer, for screen readers,
in both themes, without a network, and with harm in every text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from danetc.runtime.system.files import digest, save_record
from danetc.runtime.training.evaluation import Evaluation
from tests.danetc import runs

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

EPOCHS = [
    {
        "train_loss": 2.0 / n,
        "test_loss": 2.5 / n,
        "train_accuracy": 0.2 * n,
        "test_accuracy": 0.15 * n,
    }
    for n in range(1, 5)
]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with real measures and curves of our own."""
    run = runs.built(tmp_path_factory.mktemp("runs"), "tiny")
    tested = Evaluation(steps=2).as_dict()
    weights = digest((run / "weights.safetensors").read_bytes())
    trained = {"epochs": EPOCHS, "evaluation": tested, "weights": weights}
    save_record(trained, run / "training.json")
    save_record({"settings": {"seed": 3}, "facts": {"danetc": "x"}}, run / "run.json")
    runs.do("report", run, "--data", "digits", "-o", run.parent / "first.html")
    return run


@pytest.fixture(scope="module")
def measures(measured: Path) -> dict[str, Any]:
    entry = json.loads((measured / "measures.json").read_text())["measured"][0]
    assert isinstance(entry, dict)
    return entry


@pytest.fixture(scope="module")
def two(measured: Path) -> Path:
    """The page of a run with everything and of one that was only built."""
    page = measured.parent / "two.html"
    runs.do("report", measured, runs.built(measured.parent), "-o", page)
    return page


@pytest.fixture
def watched(browser: Browser) -> Iterator[Page]:
    """A page without a network. What it asks for or complains of fails the test."""
    context = browser.new_context(
        offline=True, reduced_motion="reduce", viewport={"width": 1400, "height": 900}
    )
    page = context.new_page()
    wrong: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    context.close()
    assert wrong == []
    assert len(asked) == 1  # the file itself
    assert asked[0].startswith("file://")


def opened(page: Page, file: Path) -> Page:
    page.goto(file.as_uri())
    return page


def seen(page: Page) -> list[float]:
    """The part of the first run's picture that is seen: x, y, width, height."""
    text = picture(page).locator("svg").get_attribute("viewBox")
    assert text is not None
    return [float(number) for number in text.split()]


def picture(page: Page, run: int = 0) -> Locator:
    return page.locator(f'.picture[data-of="{run}"]:visible')


def status(page: Page, run: int = 0) -> str:
    return page.locator("#topology .status").nth(run).inner_text()


def mean(measures: dict[str, Any], start: str) -> float:
    """The mean firing rate of the layers of a part, which here are all on the main path."""
    rates = [r["rate"] for r in measures["firing_rate"]["layers"] if r["layer"].startswith(start)]
    return float(sum(rates) / len(rates))


@pytest.mark.thorough
def test_by_keyboard(watched: Page, two: Path, measures: dict[str, Any]) -> None:
    page = opened(watched, two)
    page.locator("#measure").focus()
    order = []
    for _ in range(7):
        page.keyboard.press("Tab")
        name = (
            "(each => each.getAttribute('aria-label') ?? each.textContent)(document.activeElement)"
        )
        order.append(page.evaluate(name))
    # Open has nothing to open yet, so it is passed over.
    assert order[:5] == ["Zoom in", "Zoom out", "Fit", "Up", "tiny, level stage"]
    assert order[5] == "input"
    assert order[6] == "Zoom in"  # of the next run
    for _ in range(2):
        page.keyboard.press("Shift+Tab")
    x, y, width, height = seen(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert seen(page) == pytest.approx([x + width / 10, y + height / 10, width, height])
    page.keyboard.press("+")
    assert seen(page)[2:] == pytest.approx([width / 1.25, height / 1.25])
    page.keyboard.press("-")
    page.keyboard.press("-")
    assert seen(page)[2:] == pytest.approx([width * 1.25, height * 1.25])
    page.keyboard.press("0")
    assert seen(page) == [x, y, width, height]
    # Into the picture, from part to part: what is told is what was measured.
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert status(page).startswith(f"stem · firing rate {mean(measures, 'stem'):.3f}")
    page.keyboard.press("ArrowRight")
    block = "stages.0.blocks.0"
    assert status(page).startswith(f"{block} · firing rate {mean(measures, block):.3f} (2 layers")
    page.keyboard.press("End")
    assert status(page) == "head"
    page.keyboard.press("Home")
    assert status(page) == "input"


@pytest.mark.thorough
def test_stages_open_and_close(watched: Page, two: Path, measures: dict[str, Any]) -> None:
    page = opened(watched, two)
    page.get_by_label("network", exact=True).check()
    whole = page.locator('.part[data-key="s1"]:visible').first
    assert f"firing rate {mean(measures, 'stages.1'):.3f} (4 layers" in (
        whole.get_attribute("aria-label") or ""
    )
    whole.focus()
    page.keyboard.press("Enter")
    assert page.get_by_label("stage", exact=True).is_checked()
    assert status(page).startswith("stages.1.blocks.0")
    page.keyboard.press("ArrowRight")
    assert status(page).startswith("stages.1.blocks.1")
    lane = seen(page)
    page.keyboard.press("Enter")
    assert page.get_by_label("op", exact=True).is_checked()
    assert picture(page).get_attribute("data-picture") == "op"
    assert page.evaluate("document.activeElement.dataset.key").startswith("s1b1n")
    assert seen(page) != lane  # it zoomed in on the block
    page.keyboard.press("Escape")
    assert page.get_by_label("stage", exact=True).is_checked()
    assert page.evaluate("document.activeElement.dataset.key") == "s1b1"
    page.get_by_role("button", name="Up").first.click()
    assert page.get_by_label("network", exact=True).is_checked()
    assert page.get_by_role("button", name="Up").first.is_disabled()
    page.get_by_label("neuron", exact=True).check()
    assert "v_threshold" in picture(page).inner_text()
    layers = page.locator("#layers details").nth(1)
    assert not layers.locator("table").is_visible()
    layers.locator("summary").click()
    row = layers.locator("tr", has_text="stages.0.blocks.0.branch.spike")
    assert f"{mean(measures, 'stages.0.blocks.0.branch'):.3f}" in row.inner_text()


def test_by_pointer(watched: Page, two: Path) -> None:
    page = opened(watched, two)
    viewport = picture(page).locator(".viewport")
    viewport.scroll_into_view_if_needed()
    box = viewport.bounding_box()
    assert box is not None
    x, y, width, height = seen(page)
    page.mouse.move(box["x"] + 30, box["y"] + box["height"] - 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 130, box["y"] + box["height"] - 60, steps=4)
    page.mouse.up()
    after = seen(page)
    assert after[0] < x
    assert after[1] > y
    page.get_by_role("button", name="Fit").first.click()
    assert seen(page) == [x, y, width, height]
    page.get_by_role("button", name="Zoom in").first.click()
    assert seen(page)[2] < width
    page.get_by_role("button", name="Fit").first.click()
    page.keyboard.down("Control")
    page.mouse.move(box["x"] + 100, box["y"] + 100)
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    assert seen(page)[2] < width
    page.get_by_role("button", name="Fit").first.click()
    page.locator('.part[data-key="s0b1"]:visible').first.hover()
    assert status(page).startswith("stages.0.blocks.1 · firing rate")
    page.mouse.move(5, 5)
    assert status(page).strip() == ""
    page.locator('.part[data-key="s0b1"]:visible').first.dblclick()
    assert page.get_by_label("op", exact=True).is_checked()


def test_colours_and_their_numbers(watched: Page, two: Path, measures: dict[str, Any]) -> None:
    page = opened(watched, two)
    part = page.locator('.part[data-key="s0b1"]:visible').first
    value = part.locator(".value")
    assert value.text_content() == f"{mean(measures, 'stages.0.blocks.1'):.3f}"
    shape = part.locator("path").first
    colour = "element => getComputedStyle(element).fill"
    step = part.get_attribute("data-heat")
    probe = page.locator(f".heat-{step}:visible").first
    background = "element => getComputedStyle(element).backgroundColor"
    assert shape.evaluate(colour) == probe.evaluate(background)
    page.locator("#theme").select_option("dark")
    assert shape.evaluate(colour) == probe.evaluate(background)
    page.locator("#measure").select_option("stability")
    told = {row["layer"]: row["stability"] for row in measures["gradient_stability"]["layers"]}
    one, other = (told[f"stages.0.blocks.1.{name}"] for name in ("branch.spike", "spike"))
    assert value.text_content() == f"{(one * other) ** 0.5:.3g}"
    assert page.locator(".scale:visible").count() == 1
    assert "Gradient stability" in page.locator(".scale:visible").inner_text()
    page.locator("#measure").select_option("")
    assert value.count() == 0
    assert part.get_attribute("data-heat") is None
    # The other run was never measured: no colours, and a note.
    assert picture(page, 1).locator("[data-heat]").count() == 0
    assert "Nothing was measured here" in page.locator("#topology article").nth(1).inner_text()


def test_numbers_stand_clear_of_other_words(watched: Page, two: Path) -> None:
    page = opened(watched, two)
    for level in ("network", "stage", "block", "op"):
        page.get_by_label(level, exact=True).check()
        overlaps = page.evaluate(
            """() => {
              const texts = [...document.querySelectorAll('.picture:not([hidden])[data-of="0"] text')];
              const boxes = texts.map((text) => [text, text.getBoundingClientRect()]);
              const found = [];
              for (const [one, a] of boxes.filter(([text]) => text.matches('.value')))
                for (const [other, b] of boxes)
                  if (one !== other && a.left < b.right - 1 && b.left < a.right - 1
                      && a.top + 3 < b.bottom - 3 && b.top + 3 < a.bottom - 3)
                    found.push(`${one.textContent} on ${other.textContent}`);
              return found;
            }"""
        )
        assert overlaps == [], level


def test_charts_are_read_aloud(watched: Page, two: Path, measures: dict[str, Any]) -> None:
    page = opened(watched, two)
    loss = page.get_by_role("group", name="Loss", exact=True)
    readout = page.locator("figure", has=loss).locator(".readout")
    assert readout.get_attribute("aria-live") == "polite"
    loss.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    third = f"epoch 3 · tiny, train: {2 / 3:.4f} · tiny, test: {2.5 / 3:.4f}"
    assert readout.inner_text() == third
    page.keyboard.press("End")
    assert readout.inner_text().startswith("epoch 4")
    page.keyboard.press("Home")
    assert readout.inner_text().startswith("epoch 1")
    firing = page.get_by_role("group", name="Firing rate by layer")
    firing.hover(position={"x": 60, "y": 50})
    first = measures["firing_rate"]["layers"][0]
    text = page.locator("figure", has=firing).locator(".readout").inner_text()
    assert text == f"layer 1 · tiny: {first['rate']:.3f}, {first['layer']}"


def test_runs_can_be_left_out(watched: Page, two: Path) -> None:
    page = opened(watched, two)
    page.get_by_role("checkbox", name="other").uncheck()
    assert page.locator("#results tbody tr:visible").count() == 1
    assert page.locator("article:visible").count() == 3
    page.get_by_role("checkbox", name="other").check()
    page.get_by_role("checkbox", name="tiny").uncheck()
    assert page.locator("#curves polyline:visible").count() == 0
    assert page.locator("#settings td:visible").first.inner_text() == "-"
    page.get_by_role("checkbox", name="tiny").check()
    assert page.locator("#curves polyline:visible").count() == 4


def test_by_two_fingers(browser: Browser, two: Path) -> None:
    """On a phone they zoom the picture between them, not the page."""
    phone = browser.new_context(
        viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True
    )
    page = opened(phone.new_page(), two)
    viewport = picture(page).locator(".viewport")
    viewport.scroll_into_view_if_needed()
    box = viewport.bounding_box()
    assert box is not None
    before = seen(page)[2]
    middle = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    phone.new_cdp_session(page).send("Input.synthesizePinchGesture", {**middle, "scaleFactor": 2})
    assert seen(page)[2] < 0.8 * before
    assert page.evaluate("visualViewport.scale") == 1
    phone.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_accessible_in_both_themes(browser: Browser, two: Path, scheme: Any) -> None:
    """By axe-core's rules (WCAG A and AA, contrast among them), everything opened."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    page = browser.new_page(color_scheme=scheme, viewport={"width": 1400, "height": 900})
    opened(page, two)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
    assert dark == (scheme == "dark")
    page.evaluate("document.querySelectorAll('details').forEach((each) => each.open = true)")
    result = axe.Axe().run(page)
    assert result.response["violations"] == []
    assert {"color-contrast", "aria-required-children", "label"} <= {
        rule["id"] for rule in result.response["passes"]
    }
    assert page.evaluate(
        """() => [...document.querySelectorAll('[id]')].length
                 === new Set([...document.querySelectorAll('[id]')].map((each) => each.id)).size"""
    )
    page.close()


def test_results_are_not_cut_and_axes_name_layers(watched: Page, two: Path) -> None:
    page = opened(watched, two)
    page.set_viewport_size({"width": 1280, "height": 900})
    assert page.evaluate(
        "(() => { const t = document.querySelector('#results .scroll');"
        " return t.scrollWidth <= t.clientWidth; })()"
    )
    axis = page.locator("#profiles .axes").first
    for name in ("0.0.branch.spike", "stem.spike"):
        assert axis.locator("text", has_text=name).count() == 1
    inside = "(svg) => [...svg.querySelectorAll('.axes text')].every((text) => {"
    inside += " const a = text.getBoundingClientRect(), b = svg.getBoundingClientRect();"
    inside += (
        " return a.left >= b.left - 1 && a.right <= b.right + 1 && a.bottom <= b.bottom + 1; })"
    )
    for chart in page.locator("#profiles .chart svg").all():
        assert chart.evaluate(inside)


def test_narrow_windows_do_not_scroll_sideways(watched: Page, two: Path) -> None:
    page = opened(watched, two)
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


@pytest.mark.thorough
def test_harm_in_every_text_stays_text(watched: Page, tmp_path: Path) -> None:
    bad = runs.harmful(tmp_path)
    good = runs.built(tmp_path, "tiny")  # of the same name, so that folders are the labels
    runs.do("report", bad, good, "-o", tmp_path / "a.html")
    page = opened(watched, tmp_path / "a.html")
    for level in ("network", "block", "op", "neuron", "stage"):
        page.get_by_label(level, exact=True).check()
    page.locator(".part:visible").nth(1).focus()
    assert status(page) == "stem · firing rate 0.250 · silent neurons 0.000"
    assert page.locator("article h3").first.inner_text() == runs.HARM
    assert runs.SCRIPT in page.locator(".spec").first.inner_text()
    assert runs.SCRIPT in page.locator("#settings").inner_text()
    assert page.evaluate("window.pwned") is None
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2


@pytest.mark.thorough
def test_what_gets_in_in_spite_of_that_cannot_run(browser: Browser, two: Path) -> None:
    context = browser.new_context(offline=True)
    page = opened(context.new_page(), two)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.evaluate(
        """() => {
          document.body.insertAdjacentHTML('beforeend', '<a id="bad" onclick="window.pwned = 1">x</a>');
          const script = document.createElement('script');
          script.textContent = 'window.pwned = 2';
          document.body.append(script);
          document.getElementById('bad').click();
        }"""
    )
    assert page.evaluate("window.pwned") is None
    assert len([text for text in said if "Content Security Policy" in text]) == 2
    context.close()


@pytest.mark.thorough
def test_without_javascript(browser: Browser, two: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = opened(context.new_page(), two)
    assert "Without JavaScript" in page.locator("header").inner_text()
    assert page.locator("#results td:visible").count() > 10
    assert page.locator(".picture:visible").count() == 2
    context.close()
