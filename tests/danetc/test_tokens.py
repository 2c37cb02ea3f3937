"""Trainings on tokens: figures against plain torch, resumption, and the commands that read texts."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import danetc
import danetc as package
from danetc.dsl.recipe.text import read_setting
from danetc.errors import UserError
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.request import TokenInput
from danetc.runtime.model.weight_files import read_tensors
from danetc.runtime.training.losses import Objective

from .conftest import Run
from .datasets import make_folder

MODEL = """
use std
network tiny(vocabulary = 256, classes = 256) {
  input = tokens(vocabulary); steps = 8; neuron = LIF(v_threshold = 0.3); surrogate = atan
  e = in -> embedding(8)
  out = (e + (e -> delay(1))) -> spike -> dropout(0.1) -> linear(classes)
}
recipe few { epochs = 2; batch = 8; optimizer = adamw(lr = 0.02); %s }
"""
LABELLED = """
use std
network lines(length = 12) {
  input = tokens(128, length = length); steps = 2; neuron = LIF(v_threshold = 0.3); surrogate = atan
  out = in -> embedding(8) -> conv(8, over = columns) -> norm -> spike -> avgpool -> flatten -> linear(2)
}
recipe few { epochs = 12; batch = 8; optimizer = adamw(lr = 0.03) }
"""


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("spikes fire, and neurons rest. " * 20)
    lines = [f"{label}\t{word} number {n}" for n in range(30) for label, word in (("up", "high"), ("down", "low"))]  # fmt: skip
    (tmp_path / "lines.tsv").write_text("\n".join(lines))


def trained(output: str, more: str = "", *callbacks: Any) -> Any:
    return danetc.train(
        text=MODEL % more, data="tokens:text.txt,test=0.2", output=output, backend="eager",
        callbacks=callbacks,
    )  # fmt: skip


def test_a_language_model_has_the_figures_of_plain_torch(danetc: Run) -> None:
    trained("run")
    test = open_data("tokens:text.txt,test=0.2", frames=8, tokens=TokenInput(256, 1)).test
    model = package.load("run", backend="eager").eval()
    with torch.inference_mode():
        y = model(test.images.transpose(0, 1))  # type: ignore[union-attr]
    wanted = test.labels.T
    loss = float(F.cross_entropy(y.flatten(0, 1), wanted.flatten()))
    (found,) = danetc.json("eval", "run")["evaluated"][0]["results"]
    assert found["loss"] == pytest.approx(loss, rel=1e-5)
    assert found["top1"] == pytest.approx(float((y.argmax(2) == wanted).float().mean()))
    assert found["scores"]["perplexity"] == pytest.approx(math.exp(loss), rel=1e-5)
    header, *rows = Path("run/metrics.csv").read_text().splitlines()
    assert "test_perplexity" in header.split(",")
    assert len(rows) == 2
    loss_of_measure = danetc.json("measure", "run", "--batch", "99")["measured"][0]
    assert loss_of_measure["gradients"]["loss"] == pytest.approx(loss, rel=1e-4)
    line = danetc.json("eval", "run", "--over-time")["evaluated"][0]["over_time"]
    half = F.cross_entropy(y[:4].flatten(0, 1), wanted[:4].flatten())
    assert line[3]["loss"] == pytest.approx(float(half), rel=1e-4)
    assert "which predict does not show" in danetc("predict", "run", "text.txt").err


class Stops(danetc.Callback):
    def on_step_end(self, report: Any) -> None:
        if report.global_step == 5:
            raise danetc.StopTraining


@pytest.mark.parametrize("more", ["precision = bf16", "gradient = truncated(3)"])
def test_a_training_that_is_stopped_resumes_with_the_same_bits(more: str) -> None:
    trained("whole", more)
    assert trained("stopped", more, Stops()).stopped
    trained("stopped", more)
    one, two = (read_tensors(Path(name) / "weights.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_loss_in_groups_of_steps_is_that_of_all_steps() -> None:
    model = danetc.build(text=MODEL % "", backend="eager")
    loss = Objective(read_setting("loss", "cross_entropy", "it"), model.signature, target="steps")
    y, labels = torch.randn(8, 3, 256), torch.randint(256, (3, 8))
    whole = loss(y, labels)
    parts = [loss(y[i : i + 3], labels, share=len(y[i : i + 3]) / 8, first=i) for i in (0, 3, 6)]
    assert torch.allclose(sum(parts), whole)
    labels[:, 5:] = -100
    ignored = F.cross_entropy(y[:5].flatten(0, 1), labels[:, :5].T.flatten())
    assert torch.allclose(loss(y, labels), ignored)
    with pytest.raises(UserError, match="the network's head averages over time"):
        loss(y.mean(0), labels)


def test_labelled_lines_are_learnt_and_predicted(danetc: Run, tmp_path: Path) -> None:
    Path("lines.danet").write_text(LABELLED)
    danetc.passes("train", "lines.danet", "--data", "tokens:lines.tsv,test=0.2", "-o", "run", "-q")
    (tmp_path / "new.txt").write_text("high number 70\nlow number 71\n")
    found = danetc.json("predict", "run", "new.txt")["predictions"]
    assert [each["image"] for each in found] == ["new.txt[0]", "new.txt[1]"]
    assert [each["classes"][0]["class"] for each in found] == ["up", "down"]
    rows = np.zeros((2, 12), np.uint8)
    for row, line in zip(rows, ("high number 70", "low number 71"), strict=True):
        row[:] = list(line.encode())[:12] + [0] * (12 - len(line[:12]))
    np.save("new.npy", rows)
    again = danetc.json("predict", "run", "new.npy")["predictions"]
    assert [each["classes"] for each in again] == [each["classes"] for each in found]
    measured = danetc.json("measure", "run", "--only", "firing-rate", "--batches", "1")
    assert measured["measured"][0]["firing_rate"]
    report = danetc.passes("data", "tokens:lines.tsv,test=0.2", "--recipe", "lines.danet")
    assert "tokens = 12, int64" in report.out
    assert "lines can learn them" in report.out
    assert (
        "tokens, which have no picture"
        in danetc("data", "tokens:lines.tsv,test=0.2", "--recipe", "lines.danet", "-o", "a.png").err
    )


@pytest.mark.parametrize(
    ("spec", "data", "words"),
    [
        ("lines.danet", "digits", "the type float32, but the network takes tokens: whole numbers [N, L]"),
        ("lines.danet", "folder:images", "folder holds numbers, but the network takes tokens"),
        ("image.danet", "tokens:lines.tsv,test=0.2", "lines.tsv holds tokens, but the network takes numbers"),
        ("cut.danet", "tokens:lines.tsv,test=0.2", "`horizontal_flip` of `augment` changes images"),
        ("mixed.danet", "tokens:lines.tsv,test=0.2", "the samples of lines.tsv are tokens"),
    ],
)  # fmt: skip
def test_data_that_do_not_fit_are_refused(danetc: Run, spec: str, data: str, words: str) -> None:
    Path("lines.danet").write_text(LABELLED)
    image = LABELLED.replace("tokens(128, length = length)", "image(8, 1, 12)").replace(
        "embedding(8) -> ", ""
    )
    Path("image.danet").write_text(image)
    make_folder(Path("images"))
    for name, step in (("cut", "horizontal_flip"), ("mixed", "mixup")):
        Path(f"{name}.danet").write_text(
            LABELLED.replace("batch = 8", f"batch = 8; augment = {step}")
        )
    done = danetc("train", spec, "--data", data, "-o", "run", "-q")
    assert done.status == 1
    assert words in done.err
