"""`danetc eval`: the numbers of the training, those of plain PyTorch, other T, what is wrong."""

from __future__ import annotations

import json
import shutil
import statistics
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

import danetc as package
from danetc.errors import UserError
from danetc.main import main
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of two short trainings."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "a.danet").write_text(SMALL + QUICK)
    command = [
        "train", str(folder / "a.danet"), "--data", "digits", "--seeds", "2",
        "--backend", "eager", "-q", "-o", str(folder / "run"),
    ]  # fmt: skip
    assert main(command) == 0
    return folder / "run"


def evaluate(danetc: Run, *arguments: Any) -> list[dict[str, Any]]:
    result = danetc.passes("eval", *arguments, "--backend", "eager", "--json")
    found: list[dict[str, Any]] = json.loads(result.out)["evaluated"]
    return found


def plain(directory: Path, steps: int) -> tuple[float, float, float]:
    """Loss, top-1 and top-5 by a network built anew with this T, in plain PyTorch."""
    model = package.build(directory / "spec.danet", set={"steps": steps})
    model.load_state_dict(package.load(directory).state_dict())
    test = open_data("digits").test
    images = torch.stack([test[i][0] for i in range(len(test))]).float()
    images = images / 255 if open_data("digits").test[0][0].dtype == torch.uint8 else images
    with torch.no_grad():
        output: Tensor = model.eval()(images)
    order = output.argsort(dim=-1, descending=True)
    right = (order == test.labels[:, None]).float()
    loss = F.cross_entropy(output, test.labels)
    return float(loss), float(right[:, 0].mean()), float(right[:, :5].sum(1).mean())


def test_other_t_equal_networks_built_for_them(danetc: Run, trained: Path) -> None:
    run = trained / "seed-0"
    (found,) = evaluate(danetc, run, "--steps", "1,4", "--over-time", "--batch", "100")
    assert [item["steps"] for item in found["results"]] == [1, 4]
    assert [item["steps"] for item in found["over_time"]] == [1, 2, 3, 4]
    assert "T = 1, 4, 1 .. 4 (was: T = 2)" in found["unlike_training"]
    line = {item["steps"]: item for item in found["over_time"]}
    for item in found["results"]:
        loss, top1, top5 = plain(run, item["steps"])
        for figures in (item, line[item["steps"]]):
            assert figures["loss"] == pytest.approx(loss, abs=1e-5)
            assert figures["top1"] == pytest.approx(top1, abs=0.003)  # one image of a tie
            assert figures["top5"] == pytest.approx(top5, abs=0.003)


def test_trials_are_evaluated_together(danetc: Run, trained: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = danetc.passes(
        "eval", trained, "--over-time", "--backend", "eager", "-o", tmp_path / "line.svg"
    )
    record = read_record(trained / "trials.json")
    found = [
        read_record(trained / each["directory"] / "training.json")["test_accuracy"]
        for each in record["trials"]
    ]
    assert found == [each["test_accuracy"] for each in record["trials"]]
    assert record["test_accuracy"] == pytest.approx(statistics.mean(found))
    assert record["deviation"] == pytest.approx(statistics.stdev(found))
    rows = [line.split() for line in result.out.splitlines()]
    assert ["mean", "2", f"{record['test_accuracy']:.2%}"] in [row[:3] for row in rows]
    assert ["deviation", "2", f"{record['deviation']:.2%}"] in [row[:3] for row in rows]
    assert "seed-1, mean of the first T steps" in (tmp_path / "line.svg").read_text()


def test_a_checkpoint_in_place_of_the_last_weights(danetc: Run, trained: Path) -> None:
    run = shutil.copytree(trained / "seed-0", Path("run"))
    (last,) = evaluate(danetc, run)
    (best,) = evaluate(danetc, run, "--checkpoint", "best")
    assert best["results"][0]["loss"] == last["results"][0]["loss"]
    (other,) = evaluate(danetc, run, "--checkpoint", "best", "--steps", "3")
    assert other["results"][0]["loss"] == pytest.approx(plain(trained / "seed-0", 3)[0], abs=1e-5)
    assert danetc("export", run, "-o", "w.safetensors", "--checkpoint", "best").status == 0
    before = load_file(trained / "seed-0" / "weights.safetensors")
    after = load_file(Path("w.safetensors"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    asked = ("--checkpoint", "best", "--backend", "eager")
    selected = "note: the best epoch was selected on test images, so its accuracy is optimistic\n"
    assert danetc.passes("eval", run, *asked).err == selected
    assert danetc.passes("eval", run, *asked, "--split", "train").err == ""
    Path("a.danet").write_text(SMALL + QUICK)
    danetc.passes("train", "a.danet", "--data", "digits,val=0.2", "-q", "-o", "v", *asked[2:])
    assert danetc.passes("eval", "v", *asked).err == ""
    missing = danetc("eval", run, "--checkpoint", "bets")
    assert "has no checkpoint `bets`; there are best, last" in missing.err
    state = run / "checkpoints" / "best" / "model.safetensors"
    state.write_bytes(state.read_bytes()[:-1] + b"x")
    danetc.fails(
        "is not as it was written", "export", run, "-o", "x.safetensors", "--checkpoint", "best"
    )


def test_weights_of_another_epoch_than_the_figures(danetc: Run, trained: Path) -> None:
    """A training that was killed between the two files leaves such."""
    run = Path("run")
    shutil.copytree(trained / "seed-0", run)
    shutil.copy(trained / "seed-1" / "weights.safetensors", run)
    told = "weights.safetensors is not of the last epoch in training.json"
    danetc.fails(told, "eval", run, "--data", "digits")


def test_progress_is_shown_on_request(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars: list[str] = []
    counts: list[int] = []

    def bar(label: str, images: int, *, silent: bool) -> Any:
        bars.extend([label] * (not silent))
        return nullcontext((lambda count: None) if silent else counts.append)

    monkeypatch.setattr("danetc.tasks.evaluate.image_bar", bar)
    for progress in (None, True, False):
        package.evaluate(trained / "seed-0", progress=progress, backend="eager")
        assert bars == ["small, T = 2"] * bool(progress)
        assert sum(counts) == 72 * len(bars)
        bars.clear(), counts.clear()
    with pytest.raises(UserError, match="holds trials; choose one of"):
        package.evaluate(trained)


def test_conditions_are_those_of_the_training_unless_asked(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = open_trained(str(trained / "seed-0"))

    def evaluator(change: dict[str, Any], **asked: Any) -> DirectoryEvaluator:
        assert run.evaluation is not None
        recorded = replace(run, evaluation=replace(run.evaluation, **change))
        return DirectoryEvaluator(recorded, EvaluationRequest(trained / "seed-0", **asked))

    found = evaluator({"processes": 2, "seed": 5, "epoch": 1, "precision": "bfloat16"}).conditions
    assert (found.backend, found.processes, found.seed) == ("eager", 2, 5)
    assert (found.epoch, found.precision, found.batch) == (1, "bfloat16", 300)
    found = evaluator({"processes": 2, "epoch": 1}, batch=7, seed=3, precision="tf32").conditions
    assert (found.batch, found.processes, found.precision) == (7, 1, "tf32")
    assert (found.seed, found.phase_index, found.epoch) == (3, 0, 0)
    for last in (False, True):
        one = evaluator({"channels_last": last})
        for model in (one.model, one.at_steps(3)):
            weight = model.get_parameter("stages.0.blocks.0.branch.conv1.weight")
            assert weight.is_contiguous(memory_format=torch.channels_last) == last
    real = torch.get_num_threads
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr("danetc.tasks.evaluate.usable_cores", lambda: 4)
    for recorded, variable, threads in (
        (3, True, 7), (3, False, 3), (4, False, 4), (5, False, 7), (None, False, 7),
    ):  # fmt: skip
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        if not variable:
            monkeypatch.delenv("OMP_NUM_THREADS")
        assert evaluator({"threads": recorded}).conditions.threads == threads
    monkeypatch.setattr(torch, "get_num_threads", real)
    one, before = evaluator({"threads": 2 + (real() == 2)}), real()
    used: list[int] = []
    bar = lambda *_, silent: nullcontext(lambda count: used.append(real()))  # noqa: E731
    monkeypatch.setattr("danetc.tasks.evaluate.image_bar", bar)
    one.at(2)
    assert ({*used}, real()) == ({one.conditions.threads}, before)


def test_data_that_is_not_there_is_told_with_the_training(tmp_path: Path) -> None:
    trained = Trained(tmp_path, SimpleNamespace(data={"text": "folder:gone"}))  # type: ignore[arg-type]
    with pytest.raises(UserError, match="was trained on folder:gone; name it with --data"):
        data_of(trained)


def test_recordings_set_the_number_of_steps(danetc: Run) -> None:
    Path("e.danet").write_text(EVENTS)
    assert danetc("build", "e.danet", "-o", "e").status == 0
    (found,) = evaluate(danetc, "e", "--data", f"{FLASHES}4", "--over-time")
    assert [item["steps"] for item in found["over_time"]] == [1, 2, 3, 4]
    assert found["results"] == []
    (again,) = evaluate(danetc, "e", "--data", f"{FLASHES}4")
    assert again["results"][0]["loss"] == pytest.approx(found["over_time"][-1]["loss"], abs=1e-6)
    (other,) = evaluate(danetc, "e", "--data", f"{FLASHES}6", "--steps", "6")
    assert other["results"][0]["steps"] == 6
    danetc.fails("have T = 4 frames", "eval", "e", "--data", f"{FLASHES}4", "--steps", "8")


def test_one_of_several_outputs(danetc: Run, tmp_path: Path) -> None:
    (tmp_path / "two.danet").write_text(
        "use std\nnetwork two { input = image(1, 8, 8); steps = 2; neuron = LIF\n"
        "surrogate = sigmoid; d = in -> conv(4) -> norm -> spike\n"
        "e = d -> avgpool -> mean_over_time -> linear(7)\n"
        "l = d -> conv(4) -> norm -> spike -> avgpool -> mean_over_time -> linear(10)\n"
        "out = outputs(early = e, late = l) }\n"
    )
    assert danetc("build", "two.danet", "-o", "two").status == 0
    (found,) = evaluate(danetc, "two", "--data", "digits", "--train-output", "late", "--over-time")
    assert [item["images"] for item in found["over_time"]] == [72, 72]
    danetc.fails("--train-output NAME", "eval", "two", "--data", "digits")
    wrong = danetc("eval", "two", "--data", "digits", "--train-output", "early")
    assert "has 10 classes, but the network has 7 outputs" in wrong.err


def test_what_cannot_be_evaluated_is_a_clear_error(danetc: Run, trained: Path) -> None:
    run = trained / "seed-0"
    bent = SMALL.replace("linear(classes)", "linear(9) -> sigmoid -> linear(classes)")
    Path("bent.danet").write_text(bent)
    timed = SMALL.replace("neuron = LIF", "neuron = LIF; norm = tebn")
    Path("timed.danet").write_text(timed)
    for name in ("bent", "timed"):
        assert danetc("build", f"{name}.danet", "-o", name).status == 0
    assert danetc("build", "bent.danet", "-o", "damaged").status == 0
    weights = Path("damaged/weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    Path("empty").mkdir()
    for arguments, message in (
        ((run, "--data", "synthetic:size=8,channels=1,classes=7,count=20"), "has 7 classes"),
        ((run, "--data", "synthetic:size=16,channels=1,count=20"), "takes 1 x 8 x 8"),
        ((run, "--data", f"{FLASHES}4"), "takes single images"),
        ((run, "--data", "digit"), "did you mean `digits`?"),
        (("missing",), "missing does not exist"),
        (("empty",), "is not the directory of a trained network"),
        (("bent",), "records no training data; name a data set by --data"),
        (("damaged", "--data", "digits"), "weights.safetensors is damaged"),
        (("bent", "--data", "digits", "--over-time"), "(sigmoid) follows a mean over time"),
        (("timed", "--data", "digits", "--steps", "3"), "runs at T = 2 alone, not 3"),
        ((run, "--over-time", "-o", Path("no/x.svg")), "there is no folder no"),
    ):
        result = danetc("eval", *arguments, "--backend", "eager")
        assert (result.status, result.out) == (1, "")
        assert message in result.err
    assert danetc("eval", run, "--steps", "2", "-o", "x.svg").status == 2


def test_classes_are_counted(danetc: Run) -> None:
    """Against a loop over the predictions of plain PyTorch."""
    run, test = "pretrained:danet_c_small_digits", open_data("digits").test
    images = torch.stack([test[i][0] for i in range(len(test))]).float()
    with torch.no_grad():
        predicted = package.load(run).eval()(images).argmax(1).tolist()
    counts = [[0] * 10 for _ in range(10)]
    for label, answer in zip(test.labels.tolist(), predicted, strict=True):
        counts[label][answer] += 1
    (found,) = evaluate(danetc, run, "--per-class")
    assert found["results"][0]["confusion"] == counts
    assert found["class_names"] == [*"0123456789"]
    result = package.evaluate(run, per_class=True, backend="eager")
    for number, each in enumerate(result.per_class()):
        wrong = [n * (i != number) for i, n in enumerate(counts[number])]
        total = sum(counts[number])
        assert (each["class"], each["images"]) == (str(number), total)
        assert each["accuracy"] == counts[number][number] / total
        assert each["share"] == max(wrong) / total
        assert each["taken_for"] == (str(wrong.index(max(wrong))) if any(wrong) else None)
    assert "confusion" not in result.frame().columns
    share = sum(counts[n][n] for n in range(10)) / len(test)
    assert result.frame()["top1"].tolist() == [pytest.approx(share)]
    assert repr(result).endswith(f"digits (test): T = {result.conditions.steps}: {share:.2%}>")
    shown = danetc.passes("eval", run, "--per-class", "--backend", "eager").out
    assert any(line.split()[2:] == [*map(str, counts[3])] for line in shown.splitlines())
    assert sum(counts[n][n] for n in range(10)) < len(test)
    pytest.importorskip("matplotlib")
    (axes,) = result.confusion_figure().axes
    shares = axes.images[0].get_array()
    assert shares[3].tolist() == pytest.approx([100 * n / sum(counts[3]) for n in counts[3]])
    assert danetc("eval", run, "--confusion", "a.svg").status == 2
    danetc.passes("eval", run, "--per-class", "--confusion", "a.svg", "--backend", "eager")
    assert Path("a.svg").read_text().startswith("<?xml")
    for uncounted in (package.evaluate(run, backend="eager"), replace(result, results=())):
        with pytest.raises(UserError, match="per_class=True"):
            uncounted.per_class()


def test_figures_for_papers(danetc: Run) -> None:
    """Text that a program for drawing can change, and an axis that shows the differences."""
    pytest.importorskip("matplotlib")
    run = "pretrained:danet_c_small_digits"
    for place in ("a.svg", "a.pdf"):
        danetc.passes("eval", run, "--over-time", "-o", place)
    for drawn in (">top-1 accuracy [%]</text>", ">mean of the first T steps</text>"):
        assert drawn in Path("a.svg").read_text()
    pdf = Path("a.pdf").read_bytes()
    assert b"/CIDFontType2" in pdf
    assert b"/Type3" not in pdf
    lines = {"run": [Figures(steps, 10, 0.1, 0.9 + steps / 100, 1, 0, 1) for steps in (4, 8)]}
    low, high = accuracy_figure(lines, "net").axes[0].get_ylim()
    assert (93 < low < 94, 98 < high < 99) == (True, True)
    numbers = Figures(4, 10, 0.125, None, None, 0, 1, {"rmse": 0.25})
    assert numbers.text == "RMSE 0.25"
    axes = accuracy_figure({"run": [numbers], "none": []}, "net").axes[0]
    assert (axes.get_ylabel(), list(axes.lines[0].get_ydata())) == ("loss", [0.125])
    danetc.fails("ends in .svg, .png or .pdf", "eval", run, "--over-time", "-o", "a.jpg", status=2)
