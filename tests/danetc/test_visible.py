"""Every command escapes names with terminal control characters."""

import io
import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label, render
from danetc.dsl.diagnostics.visible import HIDDEN, visible
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.main import COMMANDS, main
from danetc.output.console import VisibleConsole
from danetc.output.table import Cell, Table, show
from danetc.runtime.system.figures import in_figure

from .conftest import SMALL

EVIL = "\x1b]0;owned\x07\x1b[31m\u202eevil\u2066\u200b\u2028\x9b2J\x7f\u3164[bold]$x$"
FORGED = "error: forged"
INSIDE = EVIL  # for names inside a data set
if sys.platform != "win32":
    INSIDE += f"\n{FORGED}"
if sys.platform == "linux":
    INSIDE += "\udcff"  # a byte that is not UTF-8

NETWORK = (
    SMALL.replace("classes = 10", "classes = 2").replace("image(1", "image(3")
    + "recipe quick { epochs = 1; batch = 4; optimizer = sgd(lr = 0.1); evaluate = resize(8) }\n"
)


def test_hidden_characters_are_those_of_unicode() -> None:
    hidden = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    for character in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.category(character) in hidden:
            assert HIDDEN.match(character), hex(ord(character))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("grün ≥ 1 \U0001f600", "grün ≥ 1 \U0001f600"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\n\r\t\0\x7f\x9b", r"\n\r\t\x00\x7f\x9b"),
        ("a\u202eb\u2028", "a<U+202E>b<U+2028>"),
        ("\udcff\ud800", r"\xff<U+D800>"),
        ("\U000e0041", "<U+E0041>"),
    ],
)
def test_hidden_characters_are_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_every_part_of_an_error_is_visible() -> None:
    source = SourceFile(EVIL, f"{EVIL}\n")
    span = Span(source, 0, 5)
    text = render(Diagnostic("E0101", EVIL, span, EVIL, (Label(span, EVIL),), EVIL), colour=False)
    assert_harmless(text)


def test_a_console_sends_nothing_of_a_name() -> None:
    """This also holds for a terminal. The console sends only its own colours."""
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    console = VisibleConsole(stream, width=300)
    console.print(EVIL, style="bold")
    with console.status(EVIL):
        pass
    text = stream.getvalue()
    assert "[bold]" in text  # markup is not interpreted
    own = ["\x1b[1m", "\x1b[0m", "\x1b[?25l", "\x1b[?25h", "\x1b[2K", "\x1b[1A", "\x1b[32m", "\r"]
    for sequence in own:
        text = text.replace(sequence, "")
    assert_harmless(text.replace(FORGED, ""))


@pytest.mark.parametrize("form", ["table", "markdown", "latex", "csv"])
def test_a_table_shows_names_as_they_are(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    show(Table((INSIDE, "a"), ((Cell(INSIDE, best=True), Cell(INSIDE)),), frozenset()), form)
    shown = capsys.readouterr().out
    assert_harmless(shown)
    assert "evil" in shown


def test_a_figure_shows_names_as_they_are() -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    axes.plot([0, 1], label=in_figure("_$1$ is \x1b no formula"))
    axes.figure.savefig(io.StringIO(), format="svg")
    (label,) = axes.legend().get_texts()
    assert label._preprocess_math(label.get_text()) == (r" _$1$ is \x1b no formula", False)


def test_nothing_prints_by_another_way() -> None:
    """A new command cannot print without escaping."""
    folder = Path(__file__).parents[2] / "danetc"
    for path in folder.rglob("*.py"):
        if path.relative_to(folder).parts[0] in ("dsl", "compiler", "runtime", "specs"):
            continue
        if path.parent.name == "output" and path.name in ("echo.py", "console.py"):
            continue
        text = path.read_text()
        for way in ("click.echo(", "click.secho(", " print(", " Console(", "ensure_ascii=False"):
            assert way not in text, f"{path} has {way}...): use danetc.output.echo or .console"


# -- every command ---------------------------------------------------------------------------------


def assert_harmless(text: str) -> None:
    found = {match.group() for match in HIDDEN.finditer(text)} - {"\n", "\t"}
    assert not found, [hex(ord(character)) for character in found]
    assert not [line for line in text.splitlines() if line.startswith(FORGED)]


class World:
    """A folder of evil names: a spec, one with errors, images by class, a run."""

    def __init__(self, root: Path) -> None:
        self.root = root / EVIL
        self.root.mkdir()
        self.spec = self.root / f"{EVIL}.danet"
        self.spec.write_text(NETWORK)
        self.wrong = self.root / f"wrong{EVIL}.danet"
        self.wrong.write_text(f'{NETWORK.replace("LIF", "LFI")}\nuse "{self.spec.name[:6]}"')
        self.images = self.root / f"images{EVIL}"
        for split in ("train", "val"):
            for name in ("a", "b"):
                folder = self.images / split / f"{name}{INSIDE}"
                folder.mkdir(parents=True)
                for number in range(2):
                    pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), np.uint8)
                    Image.fromarray(pixels).save(folder / f"{number}{INSIDE}.png")
        self.torn = self.root / f"torn{EVIL}"
        shutil.copytree(self.images, self.torn)
        shutil.rmtree(self.torn / "val" / f"b{INSIDE}")
        self.data = f"folder:{self.images}"
        self.run = self.root / f"run{EVIL}"
        self.plain = self.root / f"unmeasured{EVIL}"

    def train(self, *more: object) -> list[object]:
        quick = ["--recipe=quick", "--backend=eager"]
        return ["train", self.spec, "--data", self.data, *quick, *more]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("evil"))
    assert main([str(part) for part in world.train("-o", world.run)]) == 0
    shutil.copytree(world.run, world.plain)
    yield world
    shutil.rmtree(world.root)


HOPELESS = [["summary", "a\udcff"], ["summary", f"a\n{FORGED}"]]
Lines = Callable[[World], list[list[object]]]
LINES: dict[str, Lines] = {
    "check": lambda w: [["check", w.spec], ["check", w.wrong], ["check", "--json", w.wrong]],
    "fmt": lambda w: [["fmt", "--check", "--diff", w.spec], ["fmt", w.spec], ["fmt", w.wrong]],
    "explain": lambda w: [["explain", EVIL]],
    "list": lambda w: [["list", EVIL]],
    "new": lambda w: [["new", EVIL], ["new", f"new{EVIL}"]],
    "show": lambda w: [["show", w.spec], ["show", f"{w.spec}:3"], ["show", "--json", w.spec], ["show", f"{w.spec}:999"], ["show", f"std/{EVIL}"]],
    "completion": lambda w: [["completion", EVIL]],
    "lsp": lambda w: [["lsp", w.spec]],
    "summary": lambda w: [["summary", w.spec], ["summary", "--json", w.spec, "-n", EVIL]],
    "build": lambda w: [["build", w.spec, "-o", w.root / "built"], ["build", w.spec, "--init", w.spec]],
    "draw": lambda w: [["draw", w.spec, "-o", w.root / f"{EVIL}.svg"], ["draw", w.spec]],
    "prove": lambda w: [["prove", w.spec], ["prove", w.spec, "--set", f"steps={EVIL}"]],
    "equiv": lambda w: [["equiv", w.spec, w.spec], ["equiv", w.spec, "danet_c_small", "--json"]],
    "data": lambda w: [["data", w.data, "-o", w.root / f"{EVIL}.png"], ["data", w.data, "--json"], ["data", f"folder:{w.torn}"], ["data", w.data, "--recipe", w.spec]],
    "train": lambda w: [w.train("-o", w.run), w.train("--data", EVIL), w.train("--data", f"folder:{w.torn}"), w.train("--dry-run", "--json")],
    "eval": lambda w: [["eval", w.run], ["eval", w.run, "--checkpoint", EVIL]],
    "predict": lambda w: [["predict", w.run, next(w.images.rglob("*.png"))], ["predict", w.run, EVIL], ["predict", w.run, w.spec, "--json"]],
    "record": lambda w: [["record", w.run, next(w.images.rglob("*.png")), "-o", w.root / f"{EVIL}.npz"], ["record", w.spec, EVIL], ["record", w.run, "--layers", EVIL]],
    "convert": lambda w: [["convert", w.run, "--data", w.data, "-o", w.root / f"{EVIL}out"], ["convert", EVIL, "--data", w.data]],
    "import": lambda w: [["import", f"{EVIL}:make", "-o", w.root / f"{EVIL}.danet"], ["import", w.spec, "-o", w.root / "out.danet"]],
    "export": lambda w: [["export", w.run, "-o", w.root / f"{EVIL}.pth"], ["export", EVIL, "-o", "x.pth"]],
    "compare": lambda w: [["compare", w.spec, w.wrong, "--data", EVIL, "-o", w.root / "grid"]],
    "search": lambda w: [["search", w.spec, "--data", w.data, "--grid", f"neuron={EVIL}", "--trials", "1", "-o", w.root / "found"], ["search", "-o", w.root / "found", "--only-report", "--json"]],
    "measure": lambda w: [["measure", w.run, w.run, "--data", w.data, "--only", "firing-rate", "-o", w.run]],
    "report": lambda w: [["report", w.run, "-o", w.root / f"{EVIL}.html"], ["report", w.plain, "-o", w.root / "unmeasured.html"], ["report", w.spec]],
    "bench": lambda w: [["bench", w.wrong]],
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_no_command_lets_a_name_through(
    name: str, world: World, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world.root)
    for line in [*LINES[name](world), [name, f"--{EVIL}"], [name, EVIL], *HOPELESS]:
        status = main([str(part) for part in line])
        out, err = capfd.readouterr()
        assert "internal error" not in err, err
        assert status in (0, 1, 2)
        assert_harmless(err)
        assert_harmless(out)
        if "--json" in line and out:
            json.loads(out)


def test_no_file_lets_a_name_through(world: World) -> None:
    """All text that the commands above wrote is harmless."""
    for folder, _, names in os.walk(world.root):
        for name in names:
            path = Path(folder) / name
            binary = path.suffix in (".safetensors", ".png", ".pth", ".npz") or "tfevents" in name
            if not binary and path != world.wrong:
                assert_harmless(path.read_bytes().decode("utf-8"))
