"""README.md and other pages agree with the program, the standard library and the results."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import danetc
from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.draw import compare, draw
from danetc.dsl.loading import standard
from danetc.dsl.reading import shipped_specs
from danetc.main import COMMANDS, main
from danetc.runtime.data.sources.published import splits
from results.data import read_cells
from tests.dsl.test_parser import read
from tests.zoo.authors import comparison_of
from tests.zoo.harness import NAMES, file_of
from tests.zoo.page import own_lines

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
(PYTHON,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SPEC, LIBRARY = re.findall(r"```danet\n(.*?)```", README, re.DOTALL)


def test_the_spec_is_the_shipped_network() -> None:
    checked = check_text(SPEC)
    assert set(checked.networks) == {"danet_c_r50", "sew_r50"}
    model = danetc.build(text=SPEC, network="danet_c_r50")
    shipped = danetc.build("danet_c_r50")
    assert [p.shape for p in model.parameters()] == [p.shape for p in shipped.parameters()]


def test_the_declarations_are_those_of_the_standard_library() -> None:
    shown = read(LIBRARY).declarations
    assert shown
    for declaration in shown:
        assert declaration == standard()[declaration.name].declaration


def links(page: Path) -> list[str]:
    """The links of a page within the repository, without text in code that looks like a link."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.findall(r"\]\((?!https?://)([^)]+)\)", text)


LINKS = {
    page.relative_to(ROOT).as_posix(): found
    for folder in ("", "docs", "docs/tutorial", "docs/guides", "results")
    for page in sorted((ROOT / folder).glob("*.md"))
    if (found := links(page))
}


@pytest.mark.parametrize("page", LINKS)
def test_everything_that_is_linked_exists(page: str) -> None:
    for target in LINKS[page]:
        path, _, heading = target.partition("#")
        if path.startswith("../reference/"):  # built by `make docs`, which checks its links
            continue
        found = (ROOT / page).parent / path if path else ROOT / page
        assert found.exists(), target
        if heading:
            text = found.read_text(encoding="utf-8").lower()
            heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", head).replace(" ", "-") for head in heads}


def words(svg: str) -> list[str]:
    """The words of a picture and of its tooltips, which name lines of the specs."""
    return sorted(text.strip() for text in re.findall(r">([^<]+)</(?:text|title)>", svg))


def test_pictures_are_what_their_commands_give() -> None:
    """Only words are compared: their positions may differ between versions of Graphviz."""
    svg = (ROOT / "docs" / "danet_c_small.svg").read_text(encoding="utf-8")
    assert words(svg) == words(draw(graph_of(check_file("danet_c_small"))).decode())
    command = re.search(r"danetc draw (.*) -o docs/figure1.svg", README)
    graphs = [graph_of(check_file(name)) for name in command[1].split()]
    svg = (ROOT / "docs" / "figure1.svg").read_text(encoding="utf-8")
    assert words(svg) == words(compare(graphs).decode("utf-8"))


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore::danetc.SpecWarning")  # images too small for the network
def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs on smaller images and on the backend that compiles nothing."""
    monkeypatch.chdir(tmp_path)
    text = PYTHON.replace('"classes": 10}', '"classes": 10, "input": "image(3, 32, 32)"}, **quick')
    text = text.replace('load("build/danet_c_r50"', 'load("build/danet_c_r50", **quick')
    text = text.replace('"recipe.epochs": 1}', '"recipe.epochs": 1, "width": 4}, **quick')
    text = text.replace("steps=[1, 2, 4]", "steps=[1, 2, 4], **quick")
    assert text.count("**quick") == 4
    assert main(["build", "danet_c_r50"]) == 0
    x = torch.rand(2, 3, 32, 32)
    values = {"quick": {"backend": "eager"}, "images": x, "frame": x}
    exec(compile(text, "README.md", "exec"), values)
    assert isinstance(values["logits"], torch.Tensor)
    assert values["logits"].shape == (2, 10)
    found = {each.steps: each.top1 for each in values["found"].results}
    assert list(found) == [1, 2, 4]
    assert found[values["found"].conditions.steps] == values["run"].test_accuracy
    assert {"topology.svg", "weights.safetensors"} <= {each.name for each in tmp_path.iterdir()}
    names = [name for name, _ in values["model"].stages[2].blocks[5].branch.named_children()]
    assert names == ["conv1", "norm1", "spike1", "conv2", "norm2", "spike2", "conv3", "norm3"]


QUICK = {
    "train": "--set recipe.epochs=1 --set image=8 --set width=4 --backend=eager",
    "compare": "--seeds=1 --set recipe.epochs=1 --set width=4 --backend=eager",
    "search": "--set recipe.epochs=1 --backend=eager",
    "eval": "--backend=eager",
    "convert": "--steps=4 --batches=1",
    "import": "--input 3x32x32 --samples 10",
    "measure": "--batches=1",
    "bench": "--set image=32 --batch=1 --rounds=1",
}
"""Options that make a command short; commands run as README has them, with these options added."""


def test_the_first_screen_has_commands_that_are_run() -> None:
    """Commands of the long block run below, and the picture is compared with the output of draw."""
    first, *_ = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    picture, training = (shlex.split(line, comments=True) for line in first.splitlines())
    assert picture == ["danetc", "draw", "danet_c_small", "-o", "docs/danet_c_small.svg"]
    assert README.count(" ".join(training)) >= 2
    assert README.index(first) < README.index("## ")
    assert f"more than {in_file('Makefile', r'--min-accuracy 0.(.)')[0]}0 % right" in first


@pytest.mark.thorough
@pytest.mark.usefixtures("short_samples", "few_digits")
def test_the_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands run in sequence, in a folder with the files that they name."""
    (block,) = (b for b in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) if "danetc check" in b)
    lines = [shlex.split(line, comments=True) for line in block.splitlines()]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").symlink_to(ROOT / "specs")
    small = (ROOT / "specs" / "danet_c_small.danet").read_text(encoding="utf-8")
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets/first.danet").write_text(small.replace("basic(width), 3", "basic(width), 2"))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (8, 8), np.uint8))
    image.save(tmp_path / "digit.png")
    run = {words[1] for words in lines if words[0] == "danetc"}
    assert run == set(COMMANDS)
    for words in lines:
        if words[0] == "pip" or words[1] == "lsp":  # tests/editor has a client for the server
            continue
        name, *arguments = words[1:]
        status = main([name, *arguments, *QUICK.get(name, "").split()])
        assert status == 0, (words, capsys.readouterr().err)
    for made in ("build/danet_c_r50/model.py", "topology.svg", "net.onnx", "report.html"):
        assert (tmp_path / made).is_file(), made
    assert list((tmp_path / "figures").glob("*.svg"))


MEASURED = (
    ("training", "sew_r18 / torchvision resnet18", "SpikingJelly sew_resnet18 / torchvision resnet18"),
    ("training", "origin_r18 / torchvision resnet18", "SpikingJelly spiking_resnet18 / torchvision resnet18"),
    ("training", "danet_c_r50 / torchvision resnet50", None),
    ("saved_bytes", "sew_r18 / torchvision resnet18", "SpikingJelly sew_resnet18 / torchvision resnet18"),
)  # fmt: skip
"""Rows of the benchmarks for README's table of speed: those of danetc and of SpikingJelly."""


def benchmark(name: str) -> dict[str, Any]:
    return json.loads((ROOT / f"benchmarks/results/{name}.json").read_text(encoding="utf-8"))


def values(name: str) -> dict[str, float]:
    return {row["what"]: row["value"] for row in benchmark(name)["rows"]}


def test_its_figures_of_speed_are_those_that_were_measured() -> None:
    _, _, table = README.partition("EPYC | SpikingJelly, AMD |\n|---|---|---|---|---|\n")
    rows = [line.strip("| ").split(" | ") for line in table.partition("\n\n")[0].splitlines()]
    assert len(rows) == len(MEASURED)
    for (what, *shown), (name, *wanted) in zip(rows, MEASURED, strict=True):
        figures = []
        for run in ("training", "training_amd_epyc") if name == "training" else (name,):
            result = benchmark(run)
            assert (result["steps"], result["batch"], result["image"]) == (4, 4, 64)
            figures += [f"{values(run)[each]:.2f}" for each in wanted if each is not None]
        assert " ".join(shown).replace("|", "").split() == figures, what


def accuracy(name: str) -> str:
    text = (ROOT / f"danetc/pretrained/{name}/training.json").read_text(encoding="utf-8")
    return f"{100 * json.loads(text)['test_accuracy']:.1f}"


def in_file(path: str, pattern: str) -> tuple[str, ...]:
    """Return the groups of a pattern in a file; they must be equal at each match."""
    (groups,) = set(re.findall(pattern, (ROOT / path).read_text(encoding="utf-8")))
    return groups if isinstance(groups, tuple) else (groups,)


def trained() -> tuple[object, ...]:
    records = [cell.record for cell in read_cells() if cell.record["recipe"] == "one_step"]
    ((steps, epochs),) = {(record["T"], len(record["epochs"])) for record in records}
    image, width = in_file("results/paper/paper.danet", r"network .*image = (\d+), width = (\d+)")
    return steps, epochs, width, image, image


def slowest() -> str:
    rows = {**values("training"), **values("conditions")}
    ours = {what: value for what, value in rows.items() if "/ torchvision" in what}
    name = max((what for what in ours if "SpikingJelly" not in what), key=ours.__getitem__)
    assert name.startswith(
        "spiking_densenet121: danetc fused, channels last / torchvision densenet121, channels last, compiled"
    )
    return f"{rows[name]:.2f}"


def lines_of_zoo() -> tuple[int, int]:
    texts = [file_of(name).read_text(encoding="utf-8") for name in NAMES]
    return max(map(own_lines, texts)), max(len(text.splitlines()) for text in texts)


FIGURES: dict[str, Callable[[], Iterable[object]]] = {
    r"lists (\d+) published networks": lambda: [len(NAMES)],
    r"at most (\d+) lines of declarations, (\d+) with comments and blank lines": lines_of_zoo,
    r"float64, and (\d+) of them to the code that their": lambda: [
        sum(comparison_of(name).repository is not None for name in NAMES)
    ],
    r"danetc needs Python (\S+) or newer": lambda: in_file("pyproject.toml", r'requires-python = ">=(.+)"'),
    r"are (\S+) real images": lambda: [f"{sum(len(labels) for _, labels in splits()):,}"],
    r"classifies less than (\d+)0 % of the held-out": lambda: in_file("Makefile", r"--min-accuracy 0.(\d)"),
    r"T = (\d), (\d) epochs, ResNets of width (\d) on (\d+)x(\d+) pixels": trained,
    r"T = (\d), images of (\d+)x(\d+) and N = (\d) unless": lambda: [
        benchmark("training")[name] for name in ("steps", "image", "image", "batch")
    ],
    r"(\d) time steps of a folded model's stream with one image take (\S+) times": lambda: [
        benchmark("one_image")["steps"],
        f"{values('one_image')['danetc folded stream / danetc']:.2f}",
    ],
    r"takes (\d) s on two cores .* \(float32, Linux\), and (\S+) s": lambda: [
        f"{values('first_step')['danet_c_r18, cold cache']:.0f}",
        f"{values('first_step')['danet_c_r18, warm cache']:.1f}",
    ],
    r"The slowest of the networks and sizes measured is DenseNet-121, (\S+) of": lambda: [slowest()],
    r"on ResNet-(\d+) to (\d+), spiking DenseNets": lambda: [
        bound({int(name.rpartition("_r")[2]) for name in shipped_specs() if re.fullmatch(r"danet_c_r\d+", name)})
        for bound in (min, max)
    ],
    r"two on digits \((\S+) and (\S+) % test accuracy\) and two on Fashion-MNIST \((\S+) and (\S+) %\)": lambda: [
        accuracy(name)
        for name in ("danet_c_small_digits", "ann_c_small_digits", "sew_small_fashion_mnist", "ann_small_fashion_mnist")
    ],
}  # fmt: skip
"""Figures of README.md by the sentence around them, and their values in the files."""
NAMES_WITH_DIGITS = r"Fig\. 1\b|Apache-2\.0|float32|float64|ResNet-18|DenseNet-121"


def test_each_figure_is_that_of_a_file() -> None:
    """`make results` writes the paragraphs on trained networks; code and tables are tested above."""
    text = re.sub(r"```.*?```|<!-- table: .*?<!-- end -->", "", README, flags=re.DOTALL)
    text = re.sub(r"\]\([^)]*\)|^[|#].*", "", text, flags=re.MULTILINE)
    text = " ".join(text.split())
    for pattern, wanted in FIGURES.items():
        (found,) = re.finditer(pattern, text)
        assert found.groups() == tuple(map(str, wanted())), found[0]
        text = text.replace(found[0], "")
    assert re.findall(r".{0,40}\d.{0,40}", re.sub(NAMES_WITH_DIGITS, "", text)) == []


# -- docs/guides/exchange.md says what benchmarks/exchange.py has measured -------------------------


def shown(found: dict[str, Any]) -> str:
    if "largest" not in found:
        assert not found["failed"]
        return "(100)" if "each of 100 random samples" in found["refused"] else "-"
    differ = found["samples"] - found["agreeing"]
    return f"{found['largest']:.0e}" + (f" ({differ})" if differ else "")


def test_the_table_is_what_was_measured() -> None:
    measured: dict[str, list[str]] = {}
    for found in benchmark("exchange")["results"]:
        measured.setdefault(found["network"], []).append(shown(found))
    page = (ROOT / "docs" / "guides" / "exchange.md").read_text(encoding="utf-8")
    _, _, table = page.partition("| network | onnx | onnx step |")
    rows = re.findall(r"^\| ([\w/]+) \| (.*) \|$", table, re.MULTILINE)
    assert {name: cells.split(" | ") for name, cells in rows} == measured
    assert len(measured) > 20


# -- the examples run and do what they say ---------------------------------------------------------


def example(name: str, shortened: dict[str, str]) -> str:
    """The program of an example, with fewer epochs or a part of the images."""
    program = (ROOT / "examples" / f"{name}_loop.py").read_text("utf-8")
    if name in ("lightning", "accelerate"):
        pytest.importorskip(name)
    for long, short in shortened.items():
        assert program.count(long) == 1
        program = program.replace(long, short)
    return program


FEWER = {"EPOCHS = 4": "EPOCHS = 2", "logger=False,": "logger=False, limit_train_batches=35,"}


@pytest.mark.thorough
@pytest.mark.usefixtures("all_digits")
@pytest.mark.parametrize(
    ("name", "shortened", "least"),
    [("own", {"range(4)": "range(1)"}, 30), ("lightning", FEWER, 35)],
)
def test_a_loop_trains_a_network(
    name: str, shortened: dict[str, str], least: float, capsys: pytest.CaptureFixture[str]
) -> None:
    program = example(name, shortened)
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning warns of the number of workers
        exec(compile(program, f"{name}.py", "exec"), {"__name__": name})
    found = re.fullmatch(r"test accuracy (.*)%\n", capsys.readouterr().out)
    assert float(found[1]) > least  # there are ten classes


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["ddp", "accelerate"])
def test_a_loop_in_two_processes(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop.py").write_text(example(name, {"range(4)": "range(2)"}), "utf-8")
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*start, "loop.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    found = re.search(r"^test accuracy (.*)%$", done.stdout, re.MULTILINE)
    assert found is not None, done.stderr
    assert float(found[1]) > 35


# -- docs/editors.md: settings name what exists, and its Python runs -------------------------------


GUIDE = (ROOT / "docs" / "editors.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", GUIDE, re.DOTALL)


def test_every_editor_starts_the_server_by_its_command() -> None:
    blocks = dict(BLOCKS)
    assert 'cmd = { "danetc", "lsp" }' in blocks["lua"]
    assert '(danet-mode . ("danetc" "lsp"))' in blocks["elisp"]
    helix = tomllib.loads(blocks["toml"])
    server = helix["language-server"]["danetc"]
    assert [server["command"], *server["args"]] == ["danetc", "lsp"]
    assert helix["language"][0]["language-servers"] == ["danetc"]
    for language in ("lua", "elisp"):
        for opening, closing in ("()", "{}", "[]"):
            assert blocks[language].count(opening) == blocks[language].count(closing)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = re.findall(r"danetc\[(\w+)\]", GUIDE)
    assert set() < set(extras) <= project["optional-dependencies"].keys()


def test_the_services_answer_in_python(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = [text for language, text in BLOCKS if language == "python"]
    exec(code, {})
    out = capsys.readouterr().out
    assert "4 x 8 x 8 analog" in out
    assert "untitled.danet:2:71 unknown name `nrom`" in out
