"""Pictures in a browser: its preference for light or dark, its fonts, nothing cut off."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from danetc.compiler import check_file, graph_of
from danetc.compiler.draw import LEVELS, compare, draw
from danetc.compiler.draw.theme import DARK, LIGHT
from tests.compiler.draw.pictures import read

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

LOOK = """() => {
  const inside = (a, b, by) => a.left >= b.left - by && a.right <= b.right + by
    && a.top >= b.top - by && a.bottom <= b.bottom + by;
  const svg = document.documentElement, page = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')];
  const cut = [];
  for (const text of texts) {
    const box = text.getBoundingClientRect();
    const frame = text.parentElement.querySelector('path, polygon, ellipse');
    const around = frame ? frame.getBoundingClientRect() : page;
    if (!inside(box, around, frame ? 3 : 0)) cut.push(text.textContent);
  }
  // Text is lower than its line; 2 of its rim are empty above and below.
  // Slanted letters of one formula may lean over what follows.
  const formula = (text) => text.parentElement.id.split('.piece')[0];
  const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect(), formula(text)]);
  const over = [];
  boxes.forEach(([one, a, of], index) => {
    for (const [other, b, whole] of boxes.slice(index + 1))
      if (of !== whole && a.left < b.right - 1 && b.left < a.right - 1 && a.top + 2 < b.bottom - 2 && b.top + 2 < a.bottom - 2)
        over.push(`${one} | ${other}`);
  });
  return { texts: texts.length, cut, over };
}"""


def _rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"


def _opened(browser: Browser, data: bytes, folder: Path, scheme: str = "light") -> Page:
    path = folder / "picture.svg"
    path.write_bytes(data)
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(path.as_uri())
    return page


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["danet_c_small", "danet_c_r152"])
def test_no_text_is_cut_off(browser: Browser, tmp_path: Path, name: str, level: str) -> None:
    page = _opened(browser, draw(graph_of(check_file(name)), level), tmp_path)
    found = page.evaluate(LOOK)
    page.close()
    assert found["texts"] > 10
    assert (found["cut"], found["over"]) == ([], [])


def test_two_fingers_zoom_a_picture_on_a_phone(browser: Browser, tmp_path: Path) -> None:
    """Opened alone it is shown whole, or as far out as a browser goes; in a page it has its ratio."""
    path = tmp_path / "picture.svg"
    path.write_bytes(draw(graph_of(check_file("danet_c_r50"))))
    phone = browser.new_context(
        viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True
    )
    page = phone.new_page()
    page.goto(path.as_uri())
    before = page.evaluate("visualViewport.scale")
    pinch = {"x": 195, "y": 300, "scaleFactor": 2}
    phone.new_cdp_session(page).send("Input.synthesizePinchGesture", pinch)
    assert page.evaluate("visualViewport.scale") > 1.5 * before
    holder = tmp_path / "page.html"
    holder.write_text(
        '<meta name=viewport content="width=device-width"><img src=picture.svg width=300>'
    )
    page.goto(holder.as_uri())
    width, height = page.evaluate("[document.images[0].width, document.images[0].height]")
    svg = read(path.read_bytes())
    wide, high = (float(svg.attrib[side].removesuffix("pt")) for side in ("width", "height"))
    assert width == 300
    assert abs(height - 300 * high / wide) < 1.5
    phone.close()


def test_no_text_of_a_comparison_is_cut_off(browser: Browser, tmp_path: Path) -> None:
    names = ("origin_r18", "tdbn_r18", "baa_r18", "sew_r18", "danet_a_r18", "danet_b_r18")
    page = _opened(browser, compare([graph_of(check_file(name)) for name in names]), tmp_path)
    found = page.evaluate(LOOK)
    page.close()
    assert (found["cut"], found["over"]) == ([], [])


@pytest.mark.thorough
@pytest.mark.parametrize(("scheme", "palette"), [("light", LIGHT), ("dark", DARK)])
def test_the_preference_of_the_browser(
    browser: Browser, tmp_path: Path, scheme: str, palette: dict[str, str]
) -> None:
    graph = graph_of(check_file("danet_c_small"))
    page = _opened(browser, draw(graph, "op"), tmp_path, scheme)
    fill = "element => getComputedStyle(element).fill"
    assert page.locator("#title text").evaluate(fill) == _rgb(palette["ink"])
    assert page.locator("#graph0 > polygon").first.evaluate(fill) == _rgb(palette["paper"])
    neuron = page.locator("#s0b0n7 > path").first
    assert neuron.evaluate(fill) == _rgb(palette["neuron"])
    page.close()
    # A picture that was asked for in one theme keeps it.
    page = _opened(browser, draw(graph, "op", theme="light"), tmp_path, scheme)
    assert page.locator("#title text").evaluate(fill) == _rgb(LIGHT["ink"])
    page.close()
