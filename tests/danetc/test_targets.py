"""Trainings on pixels, numbers and tokens: comparison with plain torch, resuming and errors."""

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import danetc
import danetc as package
from danetc.dsl.recipe.items import LOSSES as ROWS
from danetc.dsl.recipe.text import read_setting
from danetc.errors import UserError
from danetc.runtime.data.augment import image_transform
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.request import IGNORED, TokenInput
from danetc.runtime.model.weight_files import read_tensors
from danetc.runtime.system.files import read_record
from danetc.runtime.training.losses import LOSSES, Objective

from .conftest import Run
from .datasets import make_folder

PIXELS = """
use std
network tiny(classes = 3) {
  input = image(1, 8, 8); steps = 2; neuron = LIF(v_threshold = 0.2); surrogate = sigmoid
  out = in -> conv(4) -> norm -> spike -> mean_over_time -> conv(classes, kernel = 1)
}
recipe few { epochs = 2; batch = 8; optimizer = adamw(lr = 0.02)
             augment = random_crop(8, padding = 2) -> horizontal_flip }
"""
NUMBERS = """
use std
network tiny(classes = 2) {
  input = image(1, 8, 8); steps = 2; neuron = LIF(v_threshold = 0.2); surrogate = sigmoid
  out = in -> conv(4) -> norm -> spike -> avgpool -> linear(classes)
}
recipe few { epochs = 2; batch = 8; optimizer = adamw(lr = 0.02); loss = mse }
"""
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
TOKENS = "tokens:lines.tsv,test=0.2"


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dice = np.random.default_rng(0)
    x = dice.random((36, 8, 8)).astype(np.float32)
    masks = (x * 3).astype(np.uint8)
    masks[:, 0] = 255  # pixels without a class
    numbers = np.stack([x.mean((1, 2)), x[:, 0, 0]], 1)
    for name, text, y in (("pixels", PIXELS, masks), ("numbers", NUMBERS, numbers)):
        parts = {"x_train": x[:24], "y_train": y[:24], "x_test": x[24:], "y_test": y[24:]}
        np.savez(f"{name}.npz", **parts)
        Path(f"{name}.danet").write_text(text)
    image = LABELLED.replace("tokens(128, length = length)", "image(8, 1, 12)")
    texts = {"lines": LABELLED, "image": image.replace("embedding(8) -> ", "")}
    for name, step in (("cut", "horizontal_flip"), ("mixed", "mixup")):
        texts[name] = LABELLED.replace("batch = 8", f"batch = 8; augment = {step}")
    for name, text in texts.items():
        Path(f"{name}.danet").write_text(text)
    Path("text.txt").write_text("spikes fire, and neurons rest. " * 20)
    lines = [f"up\thigh number {n}\ndown\tlow number {n}" for n in range(30)]
    Path("lines.tsv").write_text("\n".join(lines))


def train(danetc: Run, name: str, *options: object) -> dict[str, Any]:
    asked = ("--data", f"{name}.npz", "--backend", "eager", "-q", "-o", "run", *options)
    found: dict[str, Any] = danetc.json("train", f"{name}.danet", *asked)
    return found


def outputs(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    test = open_data(f"{name}.npz").test
    model = danetc.load("run", backend="eager").eval()
    with torch.inference_mode():
        return model(test.images), test.labels  # type: ignore[attr-defined]


def test_pixels_have_their_accuracy_and_miou(danetc: Run) -> None:
    """Plain torch gives the same figures on the whole test set."""
    last = train(danetc, "pixels")["epochs"][-1]
    found, wanted = outputs("pixels")
    counted = wanted != IGNORED
    answers = found.argmax(1)[counted]
    accuracy = (answers == wanted[counted]).float().mean().item()
    assert last["test_accuracy"] == pytest.approx(accuracy)
    loss = F.cross_entropy(found, wanted, ignore_index=IGNORED).item()
    assert last["test_loss"] == pytest.approx(loss, abs=1e-6)
    shares = []
    for number in range(3):
        own, right = answers == number, wanted[counted] == number
        shares.append(((own & right).sum() / (own | right).sum()).item())
    assert last["scores"]["miou"] == pytest.approx(sum(shares) / 3)
    assert found.std() > 0.01
    danetc.fails("run gives a class for each pixel", "predict", "run", "pixels.npz")


def test_numbers_have_their_rmse_and_no_accuracy(danetc: Run) -> None:
    record = train(danetc, "numbers")
    last = record["epochs"][-1]
    found, wanted = outputs("numbers")
    distance = F.mse_loss(found.mean(0), wanted)
    assert last["test_loss"] == pytest.approx(distance.item())
    assert last["scores"]["rmse"] == pytest.approx(distance.sqrt().item())
    assert record["test_accuracy"] is last["test_accuracy"] is last["test_top5"] is None
    with Path("run/metrics.csv").open() as stream:
        row = list(csv.DictReader(stream))[-1]
    assert (row["test_accuracy"], row["test_miou"]) == ("", "")
    assert float(row["test_rmse"]) == last["scores"]["rmse"]
    (best,) = danetc.json("eval", "run", "--checkpoint", "best")["evaluated"]
    losses = [epoch["test_loss"] for epoch in record["epochs"]]
    assert best["results"][0]["loss"] == min(losses)
    np.save("one.npy", open_data("numbers.npz").test[0][0][0])
    (image,) = danetc.json("predict", "run", "one.npy")["predictions"]
    assert [each["logit"] for each in image["classes"]] == pytest.approx(found.mean(0)[0].tolist())
    assert [each["probability"] for each in image["classes"]] == [None, None]
    trials = train(danetc, "numbers", "--seeds", "2", "-o", "trials")
    assert (trials["seeds"], trials["test_accuracy"], trials["deviation"]) == ([0, 1], None, None)
    one = {"seed": 1, "directory": "seed-1", "test_accuracy": None}
    assert (len(trials["trials"]), trials["trials"][1]) == (2, one)


@pytest.mark.parametrize(
    ("name", "source", "change", "told"),
    [
        ("lines", "digits", "epochs=1", "the type float32, but the network takes tokens: whole numbers [N, L]"),
        ("lines", "folder:images", "epochs=1", "folder holds numbers, but the network takes tokens"),
        ("image", TOKENS, "epochs=1", "lines.tsv holds tokens, but the network takes numbers"),
        ("cut", TOKENS, "epochs=1", "`horizontal_flip` of `augment` changes images"),
        ("mixed", TOKENS, "epochs=1", "the samples of lines.tsv are tokens"),
        ("pixels", "pixels.npz", "loss=mse", "`mse` does not fit labels that are pixels; take `cross_entropy`"),
        ("numbers", "numbers.npz", "loss=cross_entropy", "`cross_entropy` does not fit labels that are numbers; take `mse`"),
        ("pixels", "pixels.npz", "augment=mixup", "share the classes of images, and the labels of pixels.npz are pixels"),
        ("pixels", "pixels.npz", "augment=auto_augment", "`auto_augment` cannot be applied"),
        ("pixels", "pixels.npz", "evaluate=center_crop(4)", "but the network takes 1 x 8 x 8"),
        ("numbers", "pixels.npz", "loss=cross_entropy", "is a vector of 2, not a map of classes"),
        ("pixels", "numbers.npz", "loss=mse", "is a map of 3 x 8 x 8, not a vector of numbers; end the head with `linear"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(
    danetc: Run, name: str, source: str, change: str, told: str
) -> None:
    make_folder(Path("images"))
    asked = (f"{name}.danet", "--data", source, "--set", f"recipe.{change}")
    danetc.fails(told, "train", *asked, "--backend", "eager")


def test_numbers_are_no_classes(danetc: Run) -> None:
    asked = ("train", "numbers.danet", "--data", "numbers.npz", "--backend", "eager", "-o", "run")
    danetc.fails("classes cannot be drawn from numbers.npz", *asked, "--classes", "2")
    told = "--min-accuracy is for classes"
    danetc.fails(told, *asked, "--set", "recipe.epochs=1", "--min-accuracy", "0.5")


@pytest.mark.thorough
@pytest.mark.usefixtures("grid_in_process")
def test_networks_compared_by_the_least_rmse(danetc: Run) -> None:
    asked = ("compare", "numbers.danet", "--data", "numbers.npz", "--backend", "eager", "-q")
    grid = ("--grid", "recipe.optimizer.lr=0.2,0.0001", "--seeds", "2", "-o", "grid")
    assert "test RMSE" in danetc.passes(*asked, *grid).out
    found = danetc.json("compare", "-o", "grid", "--only-report")
    assert found["measure"] == "rmse"
    for cell in found["cells"]:
        for seed, score in enumerate(cell["scores"].values()):
            run = Path("grid", cell["name"], f"seed-{seed}")
            last = read_record(run / "training.json")["epochs"][-1]
            assert score == last["scores"]["rmse"]
    means = [cell["mean"] for cell in found["cells"]]
    assert [cell["best"] for cell in found["cells"]] == [mean == min(means) for mean in means]
    assert len({*means}) == 2


def test_masks_go_where_their_images_go() -> None:
    """An image made from its mask still matches the mask after steps that move pixels."""
    steps = read_setting("augment", "random_crop(10, padding = 2) -> horizontal_flip", "")
    mask = torch.arange(64).reshape(8, 8)
    way = image_transform(steps)
    torch.manual_seed(0)
    for _ in range(5):
        image, moved = way.change((mask + 1).float()[None], mask)
        inside = moved != IGNORED
        assert torch.equal(image[0][inside], moved[inside] + 1.0)
        assert (image[0][~inside] == 0).all()  # the padding has no class
        assert not inside.all()
    (resize,) = read_setting("evaluate", "resize(16)", "")
    _, larger = image_transform((resize,)).change(torch.zeros(1, 8, 8), mask)
    assert torch.equal(larger, mask.repeat_interleave(2, 0).repeat_interleave(2, 1))


@pytest.mark.parametrize("name", ["cross_entropy", "tet"])
def test_losses_of_pixels_count_each_image_by_its_pixels_with_a_class(name: str) -> None:
    torch.manual_seed(0)
    output, labels = torch.randn(2, 4, 3, 5, 5), torch.randint(0, 3, (4, 5, 5))
    labels[0, :3] = IGNORED
    labels[3] = IGNORED
    arguments = {each.name: each.default for each in ROWS[name].arguments if each.name != "output"}
    value = LOSSES[name](output, labels, **arguments)
    of = [output.mean(0)] if name == "cross_entropy" else list(output)
    each = [
        F.cross_entropy(step[n, None], labels[n, None], ignore_index=IGNORED)
        for step in of
        for n in range(3)
    ]
    expected = torch.stack(each).sum() / 4 / len(of)
    if name == "tet":
        expected = 0.95 * expected + 0.05 * (output - 1).square().mean()
    torch.testing.assert_close(value, expected)


# -- tokens -----------------------------------------------------------------------------------------


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


def test_labelled_lines_are_learnt_and_predicted(danetc: Run) -> None:
    danetc.passes("train", "lines.danet", "--data", TOKENS, "-o", "run", "-q")
    lines = ("high number 70", "low number 71")
    Path("new.txt").write_text("\n".join(lines))
    found = danetc.json("predict", "run", "new.txt")["predictions"]
    assert [each["image"] for each in found] == ["new.txt[0]", "new.txt[1]"]
    assert [each["classes"][0]["class"] for each in found] == ["up", "down"]
    np.save("new.npy", np.array([list(line.encode())[:12] for line in lines], np.uint8))
    again = danetc.json("predict", "run", "new.npy")["predictions"]
    assert [each["classes"] for each in again] == [each["classes"] for each in found]
    measured = danetc.json("measure", "run", "--only", "firing-rate", "--batches", "1")
    assert measured["measured"][0]["firing_rate"]
    asked = ("data", TOKENS, "--recipe", "lines.danet")
    report = danetc.passes(*asked).out
    assert "tokens = 12, int64" in report
    assert "lines can learn them" in report
    assert "tokens, which have no picture" in danetc(*asked, "-o", "a.png").err
