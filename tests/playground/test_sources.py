"""The playground: the sources of its page, and the page itself in headless Chromium.

The page needs node, npm and two registries to build, so ``make playground-test`` builds it and runs
these tests. Otherwise tests of the page run if it exists and is not older than its sources.
"""

from __future__ import annotations

import json
import re
import runpy
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from danetc.dsl.reading import ZOO, shipped_specs
from danetc.editor.analysis import analyse
from tests.conftest import check_accessible

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

ROOT = Path(__file__).parents[2]
NPM = "https://registry.npmjs.org/"
HERE = ROOT / "editors" / "playground"


def script(name: str) -> SimpleNamespace:
    return SimpleNamespace(**runpy.run_path(str(HERE / f"{name}.py")))


def read(name: str) -> Any:
    return json.loads((HERE / name).read_text("utf-8"))


def test_every_part_is_pinned_by_its_hash() -> None:
    package = read("package.json")
    named = package["dependencies"] | package["devDependencies"]
    packages = read("package-lock.json")["packages"].items()
    locked = {path.rpartition("node_modules/")[2]: entry for path, entry in packages if path}
    for name, version in named.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+", version), name
        assert locked[name]["version"] == version
    for name, entry in locked.items():
        assert entry["integrity"].startswith("sha512-"), name
        assert entry.get("resolved", NPM).startswith(NPM), name
    for line in (HERE / "requirements.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            assert re.fullmatch(r"\w+==[\d.]+ --hash=sha256:[0-9a-f]{64}", line)


def test_nothing_is_loaded_from_elsewhere() -> None:
    page = (HERE / "index.html").read_text("utf-8")
    assert "default-src 'none'" in page
    for path in (HERE / "index.html", HERE / "style.css", *(HERE / "src").glob("*.js")):
        text = path.read_text("utf-8").replace("http://www.w3.org/", "")
        assert "://" not in text, path.name


def test_examples_are_the_shipped_networks_and_the_library() -> None:
    found = {example["id"]: example for example in script("data").examples()}
    assert set(shipped_specs()) < set(found)
    assert {name for name in found if name.startswith("std/")} == {
        f"std/{path.stem}" for path in (ROOT / "dsl" / "std").glob("*.danet")
    }
    assert {found[name]["group"] for name in found if name.startswith(ZOO)} == {"The zoo"}


@pytest.mark.parametrize("id", ["first", "std/neurons", "std/backbones", "zoo/srnn"])
def test_an_example_checks_as_the_page_names_it(id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "specs")  # as in the browser
    example = next(each for each in script("data").examples() if each["id"] == id)
    assert analyse(example["text"], example["file"]).diagnostics == ()


def test_a_page_is_current_until_a_source_changes(tmp_path: Path) -> None:
    make = script("make")
    assert not make.is_current(tmp_path)
    (tmp_path / make.STAMP).write_text(make.fingerprint())
    assert make.is_current(tmp_path)
    names = {path.relative_to(ROOT).as_posix() for path in make.sources()}
    assert {
        "editors/playground/src/main.js",
        "dsl/syntax/danet.lark",
        "compiler/draw/gv.py",
    } <= names
    assert not any("node_modules" in name for name in names)


# -- the page in Chromium, as `make playground` has built it, without access to other servers -----


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Log nothing: requests are seen in the browser."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    make = script("make")
    if not make.is_current(make.FOLDER):
        pytest.skip("build/playground is not there, or older than its sources: `make playground`")
    handler = partial(_Quiet, directory=str(make.FOLDER))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def context(address: str, browser: Browser) -> Iterator[BrowserContext]:
    """A browser that can only reach the folder. A request for anything else fails the tests."""
    asked: list[str] = []
    clipboard = ["clipboard-read", "clipboard-write"]
    size = {"width": 1400, "height": 900}
    context = browser.new_context(reduced_motion="reduce", viewport=size, permissions=clipboard)

    def only_here(route: Any) -> None:
        if route.request.url.startswith((address, "blob:")):
            return route.continue_()
        asked.append(route.request.url)
        return route.abort()

    context.route("**/*", only_here)
    yield context
    context.close()
    assert asked == []


@pytest.fixture(scope="module")
def loaded(context: BrowserContext, address: str) -> Page:
    """The page with Python loaded, which takes seconds; all tests share it."""
    page = context.new_page()
    page.goto(address)
    until_shown(page, 1)
    return page


@pytest.fixture
def page(loaded: Page) -> Iterator[Page]:
    """The page in its first state. An error or a warning of the page fails the test."""
    wrong: list[str] = []

    def heard(message: Any) -> None:
        if getattr(message, "type", "error") in ("error", "warning"):
            wrong.append(str(message))

    for event in ("console", "pageerror"):
        loaded.on(event, heard)  # type: ignore[call-overload]
    loaded.set_viewport_size({"width": 1400, "height": 900})
    if loaded.locator("#tab-topology").get_attribute("aria-selected") != "true":
        after(loaded, lambda: loaded.locator("#tab-topology").click())
    if not loaded.get_by_label("stage", exact=True).is_checked():
        loaded.get_by_label("stage", exact=True).check(force=True)
    loaded.locator("#theme").select_option("")
    write(loaded, first())
    if loaded.locator("#network").input_value() != "my_network":
        loaded.locator("#network").select_option("my_network")
    loaded.wait_for_selector("svg[aria-label='Topology of my_network, level stage']")
    yield loaded
    for event in ("console", "pageerror"):
        loaded.remove_listener(event, heard)
    assert wrong == []


def first() -> str:
    return (script("make").HERE / "first.danet").read_text("utf-8")


def shown(page: Page) -> int:
    return int(page.evaluate("document.documentElement.dataset.shown ?? 0"))


def until_shown(page: Page, number: int) -> None:
    """Wait until the page has shown the results of checks ``number`` times."""
    for _ in range(1200):
        if shown(page) >= number:
            return
        page.wait_for_timeout(50)
    raise AssertionError(page.locator("#status").inner_text())


def after(page: Page, change: Any) -> None:
    before = shown(page)
    change()
    until_shown(page, before + 1)


def write(page: Page, text: str) -> None:
    page.locator("#editor .cm-content").focus()
    page.keyboard.press("Control+a")
    page.keyboard.press("Delete")
    after(page, lambda: page.keyboard.insert_text(text))


def lines(page: Page) -> str:
    return "\n".join(page.locator("#editor .cm-line").all_inner_texts())


def picture(page: Page) -> Locator:
    return page.locator("#picture svg")


def test_an_error_at_its_place_and_a_mend_that_clears_it(page: Page) -> None:
    write(page, first().replace("by densely_additive\n", "by densely_addictive\n"))
    assert page.locator("#status").inner_text() == "1 error"
    problem = page.get_by_role("button", name="error E0210")
    assert "unknown name `densely_addictive`" in problem.inner_text()
    assert "did you mean `densely_additive`?" in problem.inner_text()
    assert page.locator(".cm-lintRange-error").inner_text() == "densely_addictive"
    assert page.locator("#picture .note").inner_text().startswith("1 error.")
    after(page, lambda: page.locator("#problems .fix").first.click())
    assert "via origin by densely_additive" in lines(page)
    assert page.locator("#status").inner_text().startswith("no errors")
    assert page.locator("#problems").is_hidden()
    assert page.locator(".cm-lintRange-error, #picture .note").count() == 0


def test_hints_hover_and_completion(page: Page) -> None:
    assert "16 × 32 × 32 spike" in page.locator(".cm-hint").all_inner_texts()
    page.locator("#editor .cm-line", has_text="stem").get_by_text("conv", exact=True).hover()
    docs = page.locator(".cm-docs")
    docs.wait_for()
    assert "2-D convolution" in docs.inner_text()
    page.mouse.move(1000, 850)
    write(page, first().replace("via origin\n}\n", "via "))
    page.keyboard.press("Control+End")
    page.keyboard.type("pa_", delay=20)
    page.locator(".cm-completionLabel").get_by_text("pa_a", exact=True).wait_for()
    page.keyboard.press("Escape")


def test_boxes_and_lines_lead_to_each_other(page: Page) -> None:
    box = page.locator("#picture .placed", has_text="head").first
    box.click()
    selected = page.evaluate("getSelection().toString()")
    assert "avgpool" in selected
    assert page.locator("#picture .here").count() >= 1
    assert "head" in page.locator("#picture .here").first.text_content()


def test_by_keyboard(page: Page) -> None:
    page.locator("#tab-topology").focus()
    for tab, panel in (("Summary", "summary"), ("Propositions", "propositions")):
        after(page, lambda: page.keyboard.press("ArrowRight"))
        assert page.evaluate("document.activeElement.textContent") == tab
        assert page.locator(f"#{panel}").is_visible()
    assert "Proposition 4" in page.locator("#propositions").inner_text()
    after(page, lambda: page.keyboard.press("Home"))
    page.keyboard.press("Tab")  # the network
    page.keyboard.press("Tab")  # the level
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("svg[aria-label='Topology of my_network, level network']")
    for _ in range(5):
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent").strip().startswith("input")
    page.keyboard.press("End")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith("head")
    assert page.locator("#part").inner_text().startswith("head")
    before = picture(page).get_attribute("viewBox")
    page.keyboard.press("+")
    assert picture(page).get_attribute("viewBox") != before
    page.keyboard.press("0")
    assert picture(page).get_attribute("viewBox") == before
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.classList.contains('cm-content')")
    page.keyboard.press("Tab")  # Tab leaves the text
    assert page.evaluate("document.activeElement.id") == "divider"
    page.keyboard.press("ArrowRight")
    assert page.locator("#divider").get_attribute("aria-valuenow") == "45"


def test_facts_comparison_and_model(page: Page) -> None:
    after(page, lambda: page.locator("#tab-summary").click())
    assert "272,474" in page.locator("#summary").inner_text()
    after(page, lambda: page.locator("#tab-compare").click())
    page.wait_for_selector("#both svg")
    assert "my_network and my_chain are different" in page.locator("#verdict").inner_text()
    page.locator("#other-network").select_option("my_network")
    page.wait_for_selector("#verdict[data-verdict=equal]")
    after(page, lambda: page.locator("#tab-model").click())
    assert "a spiking network of 4 time steps" in page.locator("#model-text").inner_text()


def test_an_address_holds_the_spec(page: Page, context: BrowserContext) -> None:
    mine = first().replace("my_chain", "mine") + '# é𝄞 "<b>"\n'
    write(page, mine)
    page.locator("#network").select_option("mine")
    page.wait_for_selector("svg[aria-label='Topology of mine, level stage']")
    page.get_by_role("button", name="Share").click()
    page.get_by_text("Address copied").wait_for()
    address = page.evaluate("navigator.clipboard.readText()")
    assert len(address) < 1000
    other = context.new_page()
    other.goto(address)
    until_shown(other, 1)
    assert lines(other).startswith(lines(page)[:40])
    assert "é𝄞" in lines(other)
    assert other.locator("#network").input_value() == "mine"
    assert "mine" in other.locator("#picture svg").text_content()
    other.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_accessible_in_both_themes(page: Page, theme: str) -> None:
    page.locator("#theme").select_option(theme)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(13, 17, 23)"
    assert dark == (theme == "dark")
    write(page, first().replace("by densely_additive\n", "by densely_addictive\n"))
    check_accessible(page)
    write(page, first())
    for tab in ("summary", "propositions", "compare", "model", "topology"):
        after(page, lambda tab=tab: page.locator(f"#tab-{tab}").click())
        check_accessible(page)


def test_harm_in_a_spec_stays_text(page: Page) -> None:
    bad = '# <img src=x onerror="window.pwned=1">\n' + first().replace("my_chain", "my_chain2")
    write(page, bad + "network <script>window.pwned=1</script> = 1\n")
    assert page.locator(".problem").count() >= 1
    assert page.evaluate("window.pwned") is None
    assert page.locator("img[src=x]").count() == 0
