"""Segmentation and regression: losses, metrics and errors."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import danetc
from danetc.dsl.recipe.items import LOSSES as ROWS
from danetc.dsl.recipe.text import read_setting
from danetc.runtime.data.augment import image_transform
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.request import IGNORED
from danetc.runtime.training.losses import LOSSES

from .conftest import Run

PIXELS = """
use std
network tiny(classes = 3) {
  input = image(1, 8, 8); steps = 2
  neuron = LIF(v_threshold = 0.2); surrogate = sigmoid
  out = in -> conv(4) -> norm -> spike -> mean_over_time -> conv(classes, kernel = 1)
}
recipe few { epochs = 2; batch = 8; optimizer = adamw(lr = 0.02)
             augment = random_crop(8, padding = 2) -> horizontal_flip }
"""
NUMBERS = """
use std
network tiny(classes = 2) {
  input = image(1, 8, 8); steps = 2
  neuron = LIF(v_threshold = 0.2); surrogate = sigmoid
  out = in -> conv(4) -> norm -> spike -> avgpool -> linear(classes)
}
recipe few { epochs = 2; batch = 8; optimizer = adamw(lr = 0.02); loss = mse }
"""


@pytest.fixture(autouse=True)
def data(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    x = dice.random((36, 8, 8)).astype(np.float32)
    masks = (x * 3).astype(np.uint8)
    masks[:, 0] = 255  # of no class
    numbers = np.stack([x.mean((1, 2)), x[:, 0, 0]], 1)
    for name, y in (("pixels", masks), ("numbers", numbers)):
        np.savez(
            tmp_path / f"{name}.npz", x_train=x[:24], y_train=y[:24], x_test=x[24:], y_test=y[24:]
        )
    (tmp_path / "pixels.danet").write_text(PIXELS)
    (tmp_path / "numbers.danet").write_text(NUMBERS)


def train(danetc: Run, name: str, *options: object) -> dict[str, Any]:
    asked = ("--data", f"{name}.npz", "--backend", "eager", "-q", "--json", "-o", "run", *options)
    done = danetc.passes("train", f"{name}.danet", *asked)
    found: dict[str, Any] = json.loads(done.out)
    return found


def outputs(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    """What the trained network gives of the test images, and what was wanted."""
    test = open_data(f"{name}.npz").test
    model = danetc.load("run", backend="eager").eval()
    with torch.inference_mode():
        return model(test.images), test.labels  # type: ignore[attr-defined]


def test_pixels_have_their_accuracy_and_miou(danetc: Run) -> None:
    """Against plain torch on the whole test set."""
    last = train(danetc, "pixels")["epochs"][-1]
    found, wanted = outputs("pixels")
    counted = wanted != IGNORED
    answers = found.argmax(1)[counted]
    assert last["test_accuracy"] == pytest.approx(
        (answers == wanted[counted]).float().mean().item()
    )
    assert last["test_loss"] == pytest.approx(
        F.cross_entropy(found, wanted, ignore_index=IGNORED).item(), abs=1e-6
    )
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
    best = json.loads(danetc("eval", "run", "--checkpoint", "best", "--json").out)["evaluated"][0]
    losses = [epoch["test_loss"] for epoch in record["epochs"]]
    assert best["results"][0]["loss"] == min(losses)
    np.save("one.npy", open_data("numbers.npz").test[0][0][0])
    (image,) = danetc.json("predict", "run", "one.npy")["predictions"]
    assert [each["logit"] for each in image["classes"]] == pytest.approx(found.mean(0)[0].tolist())
    assert [each["probability"] for each in image["classes"]] == [None, None]


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("pixels", ("loss=mse",), "`mse` does not fit labels that are pixels; take `cross_entropy`"),
        ("numbers", ("loss=cross_entropy",), "`cross_entropy` does not fit labels that are numbers; take `mse`"),
        ("pixels", ("augment=mixup",), "share the classes of images, and the labels of pixels.npz are pixels"),
        ("pixels", ("augment=auto_augment",), "`auto_augment` cannot be applied"),
        ("pixels", ("evaluate=center_crop(4)",), "but the network takes 1 x 8 x 8"),
    ],
)  # fmt: skip
def test_losses_and_augmentation_that_do_not_fit_the_labels(
    danetc: Run, name: str, changes: tuple[str, ...], told: str
) -> None:
    sets = [part for change in changes for part in ("--set", f"recipe.{change}")]
    danetc.fails(
        told, "train", f"{name}.danet", "--data", f"{name}.npz", "--backend", "eager", *sets
    )


def test_networks_of_another_form_are_told_what_to_end_with(danetc: Run) -> None:
    done = danetc("train", "numbers.danet", "--data", "pixels.npz", "--set",
                  "recipe.loss=cross_entropy", "--backend", "eager")  # fmt: skip
    assert "is a vector of 2, not a map of classes" in done.err
    done = danetc("train", "pixels.danet", "--data", "numbers.npz", "--set", "recipe.loss=mse",
                  "--backend", "eager")  # fmt: skip
    assert "is a map of 3 x 8 x 8, not a vector of numbers; end the head with `linear" in done.err
    asked = ("train", "numbers.danet", "--data", "numbers.npz", "--classes", "2")
    danetc.fails("classes cannot be drawn from numbers.npz", *asked)
    train(danetc, "numbers", "--set", "recipe.epochs=1")
    done = danetc("train", "numbers.danet", "--data", "numbers.npz", "--backend", "eager", "-o",
                  "run", "--min-accuracy", "0.5", "--set", "recipe.epochs=1")  # fmt: skip
    assert "--min-accuracy is for classes" in done.err


@pytest.mark.thorough
@pytest.mark.usefixtures("grid_in_process")
@pytest.mark.parametrize(
    ("name", "head", "measure"), [("numbers", "test RMSE", "rmse"), ("pixels", "test pixel accuracy %", "pixel accuracy")]
)  # fmt: skip
def test_networks_compared_by_target(danetc: Run, name: str, head: str, measure: str) -> None:
    """Of numbers the best is the least."""
    asked = ("compare", f"{name}.danet", "--data", f"{name}.npz", "--backend", "eager", "-q")
    grid = ("--grid", "recipe.optimizer.lr=0.2,0.0001", "--seeds", "2", "-o", "grid")
    done = danetc.passes(*asked, *grid)
    assert head in done.out
    found = json.loads(danetc("compare", "-o", "grid", "--only-report", "--json").out)
    assert found["measure"] == measure
    for cell in found["cells"]:
        for seed, score in enumerate(cell["scores"].values()):
            run = Path("grid", cell["name"], f"seed-{seed}", "training.json")
            last = json.loads(run.read_text())["epochs"][-1]
            assert score == (last["scores"]["rmse"] if name == "numbers" else last["test_accuracy"])
    means = [cell["mean"] for cell in found["cells"]]
    best = min(means) if name == "numbers" else max(means)
    assert [cell["best"] for cell in found["cells"]] == [mean == best for mean in means]
    assert len({*means}) == 2


def test_masks_go_where_their_images_go() -> None:
    """A mask that is the image itself stays so under every step that moves pixels."""
    steps = read_setting("augment", "random_crop(10, padding = 2) -> horizontal_flip", "")
    mask = torch.arange(64).reshape(8, 8)
    way = image_transform(steps)
    torch.manual_seed(0)
    for _ in range(5):
        image, moved = way.change((mask + 1).float()[None], mask)
        inside = moved != IGNORED
        assert torch.equal(image[0][inside], moved[inside] + 1.0)
        assert (image[0][~inside] == 0).all()  # the padding is of no class
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
        [F.cross_entropy(step[n, None], labels[n, None], ignore_index=IGNORED) for n in range(3)]
        for step in of
    ]
    expected = torch.stack([torch.stack(step).sum() / 4 for step in each]).mean()
    if name == "tet":
        expected = 0.95 * expected + 0.05 * (output - 1).square().mean()
    torch.testing.assert_close(value, expected)
