"""The extension without the editor: its tests, its contributions, and the page of its preview."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from danetc.compiler import check_text
from danetc.compiler.draw import DEFAULT_LEVEL, LEVELS
from danetc.compiler.draw.theme import Theme
from danetc.dsl.reading import find_spec
from danetc.dsl.syntax.tree import DECLARATION_KINDS
from danetc.editor.analysis import analyse
from danetc.editor.preview import Preview, preview
from tests.conftest import check_accessible
from tests.highlighting.test_words import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

FOLDER = ROOT / "editors/vscode"


@cache
def missing() -> str:
    """The reason why nothing can be built; empty if it can."""
    if shutil.which("node") is None:
        return "there is no node (Debian: apt install nodejs npm)"
    if not (FOLDER / "node_modules").is_dir():
        return "editors/vscode has no packages (make editors)"
    return ""


def run(*command: str) -> str:
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@cache
def build() -> None:
    run("node", "build.mjs", "--tests")


PACKAGE = json.loads((FOLDER / "package.json").read_text("utf-8"))
SNIPPETS = json.loads((FOLDER / "snippets/danet.json").read_text("utf-8"))
PLACEHOLDER = re.compile(r"\$\{\d+:([^{}]*)\}|\$\d+")


def test_its_own_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """They use the real server if pygls is installed."""
    if missing():
        pytest.skip(missing())
    build()
    if importlib.util.find_spec("pygls") is not None:
        monkeypatch.setenv("DANETC_LSP", json.dumps([sys.executable, "-m", "danetc", "lsp"]))
    tests = [str(path) for path in sorted((FOLDER / "build/test").glob("*.test.js"))]
    printed = run("node", "--test", "--test-reporter=tap", *tests)
    assert "\n# fail 0\n" in printed
    found = re.search(r"\n# pass (\d+)\n", printed)
    assert int(found.group(1)) > 20


def filled(body: list[str]) -> str:
    """A snippet as inserted, before anything is typed."""
    text = PLACEHOLDER.sub(lambda match: match.group(1) or "", "\n".join(body))
    # A repeated placeholder, such as `${4:32}`, gives the same text.
    assert "${" not in text
    return text


@pytest.mark.parametrize("name", SNIPPETS)
def test_a_snippet_is_a_spec(name: str) -> None:
    text = filled(SNIPPETS[name]["body"])
    if name.startswith("Variant"):
        network = filled(SNIPPETS["Network"]["body"])
        text = network.replace("network name", "network other") + text
    elif "use std" not in text:
        text = "use std\n" + text
    assert check_text(text).module.own


def test_what_it_contributes_is_there() -> None:
    given = PACKAGE["contributes"]
    written = {filled(snippet["body"]) for snippet in SNIPPETS.values()}
    for kind in DECLARATION_KINDS:
        assert any(re.search(rf"^{kind} ", text, re.MULTILINE) for text in written), kind
    assert (FOLDER / given["languages"][0]["configuration"]).is_file()
    for part in ("grammars", "snippets"):
        assert (FOLDER / given[part][0]["path"]).is_file()
    levels = given["configuration"]["properties"]["danet.preview.level"]
    assert (levels["enum"], levels["default"]) == ([*LEVELS], DEFAULT_LEVEL)
    assert len(levels["enumDescriptions"]) == len(LEVELS)
    source = (FOLDER / "src/extension.ts").read_text("utf-8")
    for command in given["commands"]:
        assert f'registerCommand("{command["command"]}"' in source


# -- the page of the preview in headless Chromium, with pictures as the server gives them ----------


ADDRESS = "http://preview.test/"
THEMES: dict[Theme, dict[str, str]] = {
    "dark": {
        "editor-background": "#1f1f1f", "editor-foreground": "#cccccc", "button-background": "#0078d4",
        "button-foreground": "#ffffff", "button-secondaryBackground": "#313131",
        "button-secondaryForeground": "#cccccc", "button-secondaryHoverBackground": "#3c3c3c",
        "dropdown-background": "#313131", "dropdown-foreground": "#cccccc", "focusBorder": "#0078d4",
        "dropdown-border": "#3c3c3c", "panel-border": "#2b2b2b", "charts-green": "#89d185",
        "inputValidation-warningBackground": "#352a05", "inputValidation-warningBorder": "#b89500",
    },
    "light": {
        "editor-background": "#ffffff", "editor-foreground": "#3b3b3b", "button-background": "#005fb8",
        "button-foreground": "#ffffff", "button-secondaryBackground": "#e5e5e5",
        "button-secondaryForeground": "#3b3b3b", "button-secondaryHoverBackground": "#cccccc",
        "dropdown-background": "#ffffff", "dropdown-foreground": "#3b3b3b", "focusBorder": "#005fb8",
        "dropdown-border": "#cecece", "panel-border": "#e5e5e5", "charts-green": "#388a34",
        "inputValidation-warningBackground": "#f6f5d2", "inputValidation-warningBorder": "#b89500",
    },
}  # fmt: skip
"""Colours of the editor's own themes (Dark Modern, Light Modern), which it gives to pages."""

EDITOR = """
window.told = [];
let state;
window.acquireVsCodeApi = () => ({
  postMessage: message => window.told.push(message),
  getState: () => state,
  setState: value => { state = value; },
});
"""


@cache
def picture(spec: str, level: str, theme: Theme) -> Preview:
    path = find_spec(spec)
    found = preview(analyse(path.read_text("utf-8"), str(path)), 0, level, theme)
    assert not found.problem
    return found


def message(
    found: Preview, networks: tuple[str, ...] = ("a",), marked: tuple[str, ...] = ()
) -> Any:
    return {
        "type": "picture", "svg": found.svg, "boxes": [*found.boxes], "network": networks[0],
        "networks": networks, "level": found.level, "levels": [*LEVELS], "marked": marked,
    }  # fmt: skip


Open = Callable[..., "Page"]


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Opens the page in a theme. An error of the page, or a request for a foreign file, fails the test."""
    if missing():
        pytest.skip(missing())
    build()
    wrong: list[str] = []
    asked: list[str] = []
    contexts = []

    def serve(route: Route) -> None:
        name = route.request.url.removeprefix(ADDRESS)
        asked.append(name)
        folder = FOLDER / ("build/page" if name == "index.html" else "dist")
        route.fulfill(path=folder / name)

    def open_page(theme: Theme = "dark", width: int = 900) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 700})
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: wrong.append(said.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.route("**/*", serve)
        page.add_init_script(EDITOR)
        page.goto(f"{ADDRESS}index.html")
        page.evaluate(
            "colours => Object.entries(colours).forEach(([name, value]) => "
            "document.documentElement.style.setProperty(`--vscode-${name}`, value))",
            THEMES[theme],
        )
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
    assert set(asked) == {"index.html", "preview.js", "preview.css"}


def post(page: Page, data: Any) -> None:
    page.evaluate("data => window.postMessage(data, '*')", data)
    page.evaluate("() => new Promise(resolve => setTimeout(resolve))")


def told(page: Page) -> list[Any]:
    found: list[Any] = page.evaluate("window.told.splice(0)")
    return found


def is_green(page: Page, box: str) -> bool:
    outline = page.locator(f'[id="{box}"] > :is(path, polygon, ellipse)').first
    found = outline.evaluate("element => getComputedStyle(element).stroke")
    return bool(found == "rgb(137, 209, 133)")


def test_it_says_when_it_is_ready_and_shows_what_it_gets(opened: Open) -> None:
    page = opened()
    assert told(page) == [{"type": "ready"}]
    found = picture("danet_c_small", "stage", "dark")
    post(page, message(found, marked=("s1b0", "s1b1")))
    assert page.locator("#picture svg").count() == 1
    assert page.locator("g.leads").count() == len(found.boxes)
    assert page.locator(".at-cursor").count() == 2
    assert (is_green(page, "s0b0"), is_green(page, "s1b0")) == (False, True)
    post(page, {"type": "mark", "boxes": ["s0b0"]})
    assert (is_green(page, "s0b0"), is_green(page, "s1b0")) == (True, False)
    assert page.locator("#levels button").all_inner_texts() == [*LEVELS]
    assert page.locator('#levels [aria-pressed="true"]').inner_text() == "stage"
    assert page.locator("#networks").is_hidden()


def test_clicks_and_keys_lead_to_the_text(opened: Open) -> None:
    page = opened()
    post(page, message(picture("danet_c_small", "stage", "dark")))
    told(page)
    page.locator("#s1b0").click()
    page.locator("#s0b1").click(modifiers=["Control"])
    page.locator("#s2b0").focus()
    page.keyboard.press("Enter")
    page.locator("#picture").click(position={"x": 2, "y": 2})
    assert told(page) == [
        {"type": "open", "box": "s1b0", "written": False},
        {"type": "open", "box": "s0b1", "written": True},
        {"type": "open", "box": "s2b0", "written": False},
    ]


def test_what_a_picture_must_not_do(opened: Open) -> None:
    page = opened()
    bad = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><script>window.bad = 1</script></svg>'
    found = message(picture("danet_c_small", "stage", "dark")) | {"svg": bad, "boxes": []}
    post(page, found)
    assert page.evaluate("window.bad") is None


@pytest.mark.parametrize("theme", THEMES)
def test_accessibility(opened: Open, theme: Theme) -> None:
    """The page is a part of the editor's window and has no heading of its own."""
    page = opened(theme)
    found = picture("danet_c_small", "stage", theme)
    post(page, message(found, ("a", "b"), marked=("s1b0",)))
    assert ("#0d1117" in found.svg) is (theme == "dark")
    rules = {"color-contrast", "button-name", "select-name"}
    check_accessible(page, rules, but="page-has-heading-one")
