"""`danetc eval`: comparison with the training and with plain PyTorch, other T, and errors."""

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import confusion_matrix
from torch.nn import functional as F

import danetc as package
from danetc.errors import UserError
from danetc.requests import EvaluationRequest
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.files import read_record
from danetc.tasks.evaluate import DirectoryEvaluator, Figures, accuracy_figure
from danetc.tasks.model_directory import Trained, data_of, open_trained

from .conftest import QUICK, SMALL, Run

EVENTS = """
use std
network flashes {
  input = events(1, 8, 8); steps = 4; neuron = LIF; surrogate = sigmoid
  stem = conv(4) -> norm -> spike
  head = avgpool -> mean_over_time -> linear(3)
}
"""
FLASHES = "synthetic:classes=3,size=8,channels=1,count=8,test=30,frames="
TWO = """
use std
network two {
  input = image(1, 8, 8); steps = 2; neuron = LIF(v_threshold = 0.2); surrogate = sigmoid
  d = in -> conv(4) -> norm -> spike
  e = d -> avgpool -> mean_over_time -> linear(7)
  l = d -> conv(4) -> norm -> spike -> avgpool -> mean_over_time -> linear(10)
  out = outputs(early = e, late = l)
}
"""
SHIPPED = "pretrained:danet_c_small_digits"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("trained") / "run"
    package.train(text=SMALL + QUICK, seeds=2, output=output, backend="eager", progress=False)
    return output


def build(danetc: Run, **specs: str) -> None:
    for name, text in specs.items():
        Path(f"{name}.danet").write_text(text)
        danetc.passes("build", f"{name}.danet", "-o", name)


def evaluate(danetc: Run, *arguments: Any) -> Any:
    (found,) = danetc.json("eval", *arguments, "--backend", "eager")["evaluated"]
    return found


def plain(directory: Path, steps: int) -> tuple[float, ...]:
    """Return loss, top-1 and top-5 of a network that is rebuilt with this T, in plain PyTorch."""
    model = package.build(directory / "spec.danet", set={"steps": steps})
    model.load_state_dict(package.load(directory).state_dict())
    test: Any = open_data("digits").test
    output = model.eval()(test.images).detach()
    right = output.argsort(dim=-1, descending=True) == test.labels[:, None]
    shares = (float(right[:, :count].sum(1).double().mean()) for count in (1, 5))
    return float(F.cross_entropy(output, test.labels)), *shares


def test_other_t_equal_networks_built_for_them(danetc: Run, trained: Path) -> None:
    run = trained / "seed-0"
    found = evaluate(danetc, run, "--steps", "1,4", "--over-time", "--batch", "100")
    assert [item["steps"] for item in found["results"]] == [1, 4]
    assert [item["steps"] for item in found["over_time"]] == [1, 2, 3, 4]
    assert "T = 1, 4, 1 .. 4 (was: T = 2)" in found["unlike_training"]
    for item in [*found["results"], *found["over_time"]]:
        loss, *shares = plain(run, item["steps"])
        assert item["loss"] == pytest.approx(loss, abs=1e-5)
        assert [item["top1"], item["top5"]] == pytest.approx(shares, abs=0.003)  # one tie


def test_trials_are_evaluated_together(danetc: Run, trained: Path) -> None:
    pytest.importorskip("matplotlib")
    asked = ("eval", trained, "--over-time", "--backend", "eager", "-o", "line.svg")
    rows = [line.split()[:3] for line in danetc.passes(*asked).out.splitlines()]
    record = read_record(trained / "trials.json")
    assert ["mean", "2", f"{record['test_accuracy']:.2%}"] in rows
    assert ["deviation", "2", f"{record['deviation']:.2%}"] in rows
    assert "seed-1, mean of the first T steps" in Path("line.svg").read_text()


def test_a_checkpoint_in_place_of_the_last_weights(danetc: Run, trained: Path) -> None:
    run = shutil.copytree(trained / "seed-0", Path("run"))
    losses = [
        evaluate(danetc, run, *more)["results"][0]["loss"]
        for more in ((), ("--checkpoint", "best"), ("--checkpoint", "best", "--steps", "3"))
    ]
    assert losses[0] == losses[1]
    assert losses[2] == pytest.approx(plain(run, 3)[0], abs=1e-5)
    export = ("export", run, "--checkpoint", "best", "-o")
    danetc.passes(*export, "w.safetensors")
    before, after = load_file(run / "weights.safetensors"), load_file("w.safetensors")
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    asked = ("--checkpoint", "best", "--backend", "eager")
    selected = "note: the best epoch was selected on test images, so its accuracy is optimistic\n"
    assert danetc.passes("eval", run, *asked).err == selected
    assert danetc.passes("eval", run, *asked, "--split", "train").err == ""
    Path("a.danet").write_text(SMALL + QUICK)
    danetc.passes("train", "a.danet", "--data", "digits,val=0.2", "-q", "-o", "v", *asked[2:])
    assert danetc.passes("eval", "v", *asked).err == ""
    told = "has no checkpoint `bets`; there are best, last"
    danetc.fails(told, "eval", run, "--checkpoint", "bets")
    state = run / "checkpoints" / "best" / "model.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"x")
    danetc.fails("is not as it was written", *export, "x.safetensors")


def test_progress_is_shown_on_request(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []
    bar = Mock(return_value=nullcontext(counts.append))
    monkeypatch.setattr("danetc.tasks.evaluate.image_bar", bar)
    for progress in (None, True, False):
        package.evaluate(trained / "seed-0", progress=progress, backend="eager")
        bar.assert_called_once_with("small, T = 2", 72, silent=not progress)
        bar.reset_mock()
    assert sum(counts) == 3 * 72
    with pytest.raises(UserError, match="holds trials; choose one of"):
        package.evaluate(trained)


def test_threads_and_layout_of_the_training(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_trained(str(trained / "seed-0"))

    def evaluator(**recorded: Any) -> DirectoryEvaluator:
        assert run.evaluation is not None
        changed = replace(run, evaluation=replace(run.evaluation, **recorded))
        return DirectoryEvaluator(changed, EvaluationRequest(trained / "seed-0"))

    for last in (False, True):
        one = evaluator(channels_last=last)
        for model in (one.model, one.at_steps(3)):
            weight = model.get_parameter("stages.0.blocks.0.branch.conv1.weight")
            assert weight.is_contiguous(memory_format=torch.channels_last) == last
    real = torch.get_num_threads
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr("danetc.tasks.evaluate.usable_cores", lambda: 4)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert evaluator(threads=3).conditions.threads == 7
    monkeypatch.delenv("OMP_NUM_THREADS")
    for recorded, threads in ((3, 3), (4, 4), (5, 7), (None, 7)):
        assert evaluator(threads=recorded).conditions.threads == threads
    monkeypatch.setattr(torch, "get_num_threads", real)
    one, before = evaluator(threads=2 + (real() == 2)), real()
    used: list[int] = []
    bar = Mock(return_value=nullcontext(lambda count: used.append(real())))
    monkeypatch.setattr("danetc.tasks.evaluate.image_bar", bar)
    one.at(2)
    assert ({*used}, real()) == ({one.conditions.threads}, before)
    gone: Any = SimpleNamespace(data={"text": "folder:gone"})
    with pytest.raises(UserError, match="was trained on folder:gone; name it with --data"):
        data_of(Trained(trained, gone))


def test_recordings_set_the_number_of_steps(danetc: Run) -> None:
    build(danetc, e=EVENTS)
    found = evaluate(danetc, "e", "--data", f"{FLASHES}4", "--over-time")
    assert [item["steps"] for item in found["over_time"]] == [1, 2, 3, 4]
    assert found["results"] == []
    again = evaluate(danetc, "e", "--data", f"{FLASHES}4")
    assert again["results"][0]["loss"] == pytest.approx(found["over_time"][-1]["loss"], abs=1e-6)
    other = evaluate(danetc, "e", "--data", f"{FLASHES}6", "--steps", "6")
    assert other["results"][0]["steps"] == 6


def test_what_cannot_be_evaluated_is_a_clear_error(danetc: Run, trained: Path) -> None:
    """One case has the weights of another epoch, as if a training was killed between two files."""
    bent = SMALL.replace("linear(classes)", "linear(9) -> sigmoid -> linear(classes)")
    timed = SMALL.replace("neuron = LIF", "neuron = LIF; norm = tebn")
    build(danetc, bent=bent, timed=timed, damaged=bent, events=EVENTS, two=TWO)
    weights = Path("damaged/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    Path("empty").mkdir()
    shutil.copytree(trained / "seed-0", "run")
    shutil.copytree(trained / "seed-0", "mixed")
    shutil.copy(trained / "seed-1" / "weights.safetensors", "mixed")
    for line, message in {
        "run --data synthetic:size=8,channels=1,classes=7,count=20": "has 7 classes",
        "run --data synthetic:size=16,channels=1,count=20": "takes 1 x 8 x 8",
        f"run --data {FLASHES}4": "takes single images",
        "run --data digit": "did you mean `digits`?",
        "run --over-time -o no/x.svg": "there is no folder no",
        "missing": "missing does not exist",
        "empty": "is not the directory of a trained network",
        "mixed --data digits": "weights.safetensors is not of the last epoch in training.json",
        "bent": "records no training data; name a data set by --data",
        "bent --data digits --over-time": "(sigmoid) follows a mean over time",
        "damaged --data digits": "weights.safetensors is damaged",
        "timed --data digits --steps 3": "runs at T = 2 alone, not 3",
        f"events --data {FLASHES}4 --steps 8": "have T = 4 frames",
        "two --data digits": "--train-output NAME",
        "two --data digits --train-output early": "has 10 classes, but the network has 7 outputs",
    }.items():
        assert danetc.fails(message, "eval", *line.split(), "--backend", "eager").out == ""
    found = evaluate(danetc, "two", "--data", "digits", "--train-output", "late", "--over-time")
    assert [item["images"] for item in found["over_time"]] == [72, 72]


def test_classes_are_counted(danetc: Run) -> None:
    """The counts are compared with scikit-learn."""
    run = SHIPPED
    test: Any = open_data("digits").test
    predicted = package.load(run).eval()(test.images).argmax(1)
    counts = confusion_matrix(test.labels, predicted).tolist()
    found = evaluate(danetc, run, "--per-class")
    assert found["results"][0]["confusion"] == counts
    assert found["class_names"] == [*"0123456789"]
    result = package.evaluate(run, per_class=True, backend="eager")
    for number, each in enumerate(result.per_class()):
        wrong = [n * (i != number) for i, n in enumerate(counts[number])]
        total = sum(counts[number])
        assert each == {
            "class": str(number), "images": total, "accuracy": counts[number][number] / total,
            "taken_for": str(wrong.index(max(wrong))) if any(wrong) else None,
            "share": max(wrong) / total,
        }  # fmt: skip
    assert "confusion" not in result.frame().columns
    share = sum(counts[n][n] for n in range(10)) / len(test)
    assert result.frame()["top1"].tolist() == [pytest.approx(share)]
    assert repr(result).endswith(f"digits (test): T = {result.conditions.steps}: {share:.2%}>")
    assert share < 1
    pytest.importorskip("matplotlib")
    (axes,) = result.confusion_figure().axes
    shares = axes.images[0].get_array()
    assert shares[3].tolist() == pytest.approx([100 * n / sum(counts[3]) for n in counts[3]])
    asked = ("eval", run, "--per-class", "--confusion", "a.svg", "--backend", "eager")
    shown = danetc.passes(*asked).out.splitlines()
    assert [*map(str, counts[3])] in [line.split()[2:] for line in shown]
    assert Path("a.svg").read_text().startswith("<?xml")
    for uncounted in (package.evaluate(run, backend="eager"), replace(result, results=())):
        with pytest.raises(UserError, match="per_class=True"):
            uncounted.per_class()


def test_figures_for_papers(danetc: Run) -> None:
    """Drawing programs can edit the text, and the axis shows small differences."""
    pytest.importorskip("matplotlib")
    for place in ("a.svg", "a.pdf"):
        danetc.passes("eval", SHIPPED, "--over-time", "-o", place)
    for drawn in (">top-1 accuracy [%]</text>", ">mean of the first T steps</text>"):
        assert drawn in Path("a.svg").read_text()
    pdf = Path("a.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf
    assert b"/Type3" not in pdf
    lines = {"run": [Figures(steps, 10, 0.1, 0.9 + steps / 100, 1, 0, 1) for steps in (4, 8)]}
    low, high = accuracy_figure(lines, "net").axes[0].get_ylim()
    assert (93 < low < 94, 98 < high < 99) == (True, True)
    # For numbers the axis shows the loss, also beside a run without results.
    numbers = Figures(4, 10, 0.125, None, None, 0, 1, {"rmse": 0.25})
    axes = accuracy_figure({"run": [numbers], "none": []}, "net").axes[0]
    assert (axes.get_ylabel(), list(axes.lines[0].get_ydata())) == ("loss", [0.125])
