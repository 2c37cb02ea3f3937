"""Pictures in a browser: its preference for light or dark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from danetc.compiler import check_file, graph_of
from danetc.compiler.draw import draw
from danetc.compiler.draw.theme import DARK, LIGHT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def _rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))})"


def _opened(browser: Browser, data: bytes, folder: Path, scheme: str = "light") -> Page:
    path = folder / "picture.svg"
    path.write_bytes(data)
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(path.as_uri())
    return page


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
