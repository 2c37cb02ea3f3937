"""``danetc measure`` and ``danetc bench``."""

import csv
import io
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Linear

import danetc as package
from danetc.dsl.recipe.text import read_setting
from danetc.pretrained import directory_of
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.files import digest, save_record
from danetc.runtime.system.seeds import epoch_order
from danetc.runtime.training.evaluation import Evaluation
from danetc.tasks.benchmark import bench
from danetc.tasks.measuring.data import Subject
from danetc.tasks.measuring.measure import measure
from danetc.tasks.model_directory import Trained

from .conftest import SMALL, Run
from .datasets import make_folder
from .test_eval import TWO

QUICK = ("--data", "digits", "--batches", "2", "--batch", "16")


def test_a_file_is_measured_untrained(danetc: Run, small: Path) -> None:
    done = danetc.passes("measure", small, *QUICK)
    assert "note: small is untrained: its weights are the initial ones of seed 0" in done.err
    assert "images as they are" in done.out
    assert "small: 32 images of digits (test), norms by batch statistics" in done.out
    assert re.search(r"firing rate +gradient stability +a layer +additions +MACs +energy", done.out)
    assert re.search(r"layer +\|dL/dW\| +spatial +temporal +direct +input", done.out)
    for layer in ("stem.spike", "stages.0.blocks.1.branch.conv2", "head.linear"):
        assert layer in done.out
    pytest.importorskip("matplotlib")
    only = ("--only", "firing-rate,operations")
    record = danetc.json("measure", small, *QUICK, *only, "-o", "out")
    assert record == json.loads(Path("out/measures.json").read_text())
    assert record["data"]["text"] == "digits"
    (measured,) = record["measured"]
    assert (measured["trained"], measured["images"]) == (False, 32)
    assert measured["firing_rate"]["layers"][0]["layer"] == "stem.spike"
    assert "gradients" not in measured
    files = {path.name for path in Path("out").iterdir()}
    assert files == {"measures.json", "firing_rate.svg", "operations.svg"}


def test_a_run_is_measured_with_its_weights(danetc: Run, small: Path) -> None:
    run = Path("run")
    quick = ("--data", "digits", "--set", "recipe.epochs=1", "--backend", "eager")
    danetc.passes("train", small, *quick, "-o", run)
    done = danetc.passes("measure", run, *QUICK, "--json")
    assert "untrained" not in done.err
    (measured,) = json.loads(done.out)["measured"]
    assert (measured["trained"], measured["statistics"]) == (True, "running")
    test: Any = open_data("digits").test
    order = epoch_order(len(test), 0, 0)[:32]
    halves = [(test.images[part], test.labels[part]) for part in (order[:16], order[16:])]
    expected = measure(package.load(run), halves).as_dict()
    assert measured["firing_rate"] == json.loads(json.dumps(expected["firing_rate"]))
    # From Python: measure the directory on its training data, or the model on a named data set.
    only = ["firing-rate", "operations"]
    model = package.load(run, backend="eager")
    for found in (
        package.measure(run, batches=2, batch=16, only=only),
        package.measure(model, "digits", batches=2, batch=16, only=only),
    ):
        for name in ("firing_rate", "operations"):
            assert json.loads(json.dumps(found.as_dict()[name])) == measured[name]
        row = found.frame().iloc[0]
        assert row["firing rate"] == found.firing_rate.mean_of_layers
        assert (row["network"], row["MACs"]) == ("small", found.operations.macs)
        assert repr(found) == "<Measurement: small on 32 images: firing-rate, operations>"
    for wrong in (model, small):
        with pytest.raises(package.UserError, match="records no training data"):
            package.measure(wrong)
    with pytest.raises(package.UserError, match="only a model that danetc built"):
        package.measure(Linear(2, 2), "digits")  # type: ignore[arg-type]


def rows(danetc: Run, *arguments: object) -> list[dict[str, str]]:
    said = danetc.passes("measure", *arguments, "--format", "csv").out
    return list(csv.DictReader(io.StringIO(said)))


def test_several_in_a_table_as_in_tables_4_and_5(danetc: Run, small: Path) -> None:
    Path("other.danet").write_text(small.read_text().replace("origin by densely_additive", "sew"))
    kinds = "gradient-stability,firing-rate,operations"
    asked = (small, "other.danet", *QUICK, "--only", kinds)
    measured = danetc.json("measure", *asked)["measured"]
    table = rows(danetc, *asked)
    names = ("network", "connection", "rule", "depth")
    assert [tuple(row[name] for name in names) for row in table] == [
        ("small", "origin", "densely_additive", "6"),  # stem, 2 blocks of 2 layers, linear
        ("other", "sew", "chain", "6"),
    ]
    for row, found in zip(table, measured, strict=True):
        layers = [each for each in found["gradient_stability"]["layers"] if each["main"]]
        product = math.prod(each["stability"] for each in layers)
        rates = [each["rate"] for each in found["firing_rate"]["layers"] if each["main"]]
        expected = {
            "gradient stability": product,
            "a layer": product ** (1 / len(layers)),
            "firing rate": sum(rates) / len(rates),
            "energy, uJ": 1e6 * found["operations"]["energy"],
        }
        assert {key: float(row[key]) for key in expected} == pytest.approx(expected, rel=1e-6)


def test_what_cannot_be_measured(danetc: Run, small: Path, written: Path) -> None:
    shutil.copytree(written, "built")
    shutil.copytree(written, "damaged")
    Path("damaged/training.json").write_text("{")
    Path("empty").mkdir()
    Path("large.danet").write_text(SMALL.replace("8, 8", "12, 12"))
    danetc.fails("records no training data; name a data set by --data", "measure", small)
    for line, told in {
        "small.danet --data digit": "there is no data set `digit`; did you mean `digits`?",
        "built --only firing-rte": "there is no measure firing-rte; did you mean `firing-rate`?",
        "small.danet --set classes=3": "set the network's classes to 10",
        "small.danet --batch 1": "norms need more than one image",
        "large.danet": "set the network's input to image(1, 8, 8)",
        "small.danet -n tiny": "tiny",
        "built --set steps=3": "whose network is fixed",
        "damaged": "training.json is damaged",
        "empty": "is not a model directory",
    }.items():
        assert not danetc.fails(told, "measure", "--data", "digits", *line.split()).out


def test_a_run_is_measured_on_what_it_was_trained_on(danetc: Run, small: Path) -> None:
    run, few = "pretrained:danet_c_small_digits", ("--batches", 1, "--only", "firing-rate")
    said = danetc.passes("measure", run, *few).out
    assert said == danetc.passes("measure", run, *few, "--data", "digits").out
    record = json.loads((directory_of(run) / "training.json").read_text())
    first, second = rows(danetc, run, small, *few)
    assert float(first["test top-1 %"]) == 100 * record["test_accuracy"]
    assert second["test top-1 %"] == "-"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, ""),
        ({"evaluate": "os.system(1)"}, "`evaluate` is wrong: "),
        ({"evaluate": "flip(8)"}, "`evaluate` is wrong: `evaluate` cannot be `flip`"),
        ({"evaluate": ["center_crop(8)"]}, "`evaluate` is wrong: "),
        ({"precision": "float8"}, "`precision` is wrong: `precision` must be"),
        ({"batch": 0}, "`batch` is 0"),
        ({"processes": 10**9}, "`processes` is 1000000000"),
        ({"processes": True}, "`processes` is True"),
        ({"data": {"subset": {"indices": 3}}}, "is damaged"),
        ({"threads": "two"}, "`threads` is 'two'"),
        (None, "it does not say how the network was tested"),
    ],
)
def test_a_damaged_record_of_a_training_is_told(
    danetc: Run, written: Path, change: dict[str, object] | None, told: str
) -> None:
    built = shutil.copytree(written, "built")
    evaluation = None if change is None else {**Evaluation(steps=2).as_dict(), **change}
    weights = digest(Path("built/weights.safetensors").read_bytes())
    save_record({"evaluation": evaluation, "weights": weights}, Path("built/training.json"))
    for command in ("measure", "eval"):
        done = danetc(command, built, "--data", "digits")
        assert done.status == (change != {})
        assert told in done.err
        assert ("built/training.json is damaged" in done.err) == (change != {})


def test_images_are_prepared_by_the_recipe_train_would_take(danetc: Run, small: Path) -> None:
    data = "synthetic:size=12,channels=1,count=64"
    asked = ("measure", small, "--data", data, "--only", "firing-rate")
    danetc.fails("are 1 x 12 x 12, but the network takes 1 x 8 x 8", *asked)
    recipe = "recipe own { epochs = 1; optimizer = sgd(lr = 1); evaluate = center_crop(8) }"
    small.write_text(SMALL + recipe)
    (measured,) = danetc.json(*asked)["measured"]
    assert measured["evaluate"] == "center_crop(size = 8)"
    (other,) = danetc.json(*asked, "--evaluate", "resize(8)")["measured"]
    assert other["evaluate"] == "resize(size = 8)"
    assert other["firing_rate"] != measured["firing_rate"]


def test_images_of_all_sizes_are_resized(danetc: Run, tmp_path: Path) -> None:
    Path("colour.danet").write_text(SMALL.replace("image(1", "image(3"))
    data = ("--data", make_folder(tmp_path / "images"), "--split", "train", "--set", "classes=3")
    done = danetc.passes("measure", "colour.danet", *data, "--only", "firing-rate", "--json")
    told = "no recipe says how images are prepared: resize(size = 9) -> center_crop(size = 8)"
    assert told in done.err
    (measured,) = json.loads(done.out)["measured"]
    assert measured["images"] == 36


def test_files_are_prepared_as_in_the_tests_of_the_training(danetc: Run, small: Path) -> None:
    pixels = np.random.default_rng(0).random((1, 12, 12), np.float32)
    np.save("x.npy", pixels)
    crop = read_setting("evaluate", "center_crop(8)", "")
    model = package.build(small, backend="eager")
    subject = Subject("x", model, Trained(small, Evaluation(steps=2, evaluate=crop)))
    (image,) = subject.images(["x.npy"], None, None)
    assert torch.equal(image, torch.from_numpy(pixels[:, 2:10, 2:10]))
    (resized,) = subject.images(["x.npy"], None, "resize(8)")
    assert resized.shape == image.shape
    assert not torch.equal(resized, image)
    recorded, same = (
        package.record(each, image[None], statistics="batch") for each in (small, model)
    )
    torch.testing.assert_close(recorded["stem.spike"].current, same["stem.spike"].current)


def test_of_several_outputs_the_first_is_measured(danetc: Run) -> None:
    Path("two.danet").write_text(TWO)
    asked = ("measure", "two.danet", "--only", "gradients", "--data")
    danetc.passes(*asked, "synthetic:size=8,channels=1,classes=7,count=64")
    danetc.fails("has 10 classes, but the network has 7 outputs", *asked, "digits")


# -- bench -----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("short_samples")
def test_both_backends_are_measured(danetc: Run, small: Path) -> None:
    quick = ("--rounds", "2", "--batch", "2", "--threads", "1")
    record = danetc.json("bench", small, *quick)
    assert (record["network"], record["steps"], record["batch"]) == ("small", 2, 2)
    assert (record["size"], record["threads"]) == ([1, 8, 8], 1)
    assert [row["backend"] for row in record["backends"]] == ["eager", "fused"]
    said: list[str] = []
    bench(package.build(small).topology, 2, "none", 1, None, torch.device("cpu"), said.append)
    assert said == ["eager, first step", "fused, first step", "round 1 of 1"]
    for row in record["backends"]:
        assert 0 < row["forward"] < row["step"]
        assert row["peak"] > 0
        assert row["first"] > 0
    events = danetc.passes("bench", small, *quick, "--set", "input=events(2, 12, 12)")
    head, _, heads, _, eager, fused, last = events.out.splitlines()
    assert head == "small, T = 2, N = 2, 2 x 12 x 12, float32, cpu, 1 thread"
    assert "forward s" in heads
    assert (eager.split()[0], fused.split()[0]) == ("eager", "fused")
    assert last.startswith("medians of interleaved rounds; fused / eager: ")
