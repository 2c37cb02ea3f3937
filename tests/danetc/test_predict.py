"""`danetc predict` and `danetc record` on files: images are prepared, run and shown as by hand."""

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torchvision.transforms.v2 import functional as F

import danetc as package
from danetc.errors import UserError

from .conftest import Run
from .datasets import make_folder

DIGITS = "pretrained:danet_c_small_digits"
FASHION = "pretrained:sew_small_fashion_mnist"
SEED = np.random.default_rng(0)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grey PNG, the same image in colour and in two arrays, and a photograph."""
    folder = tmp_path_factory.mktemp("images")
    pixels = SEED.integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "grey.png")
    Image.fromarray(pixels).convert("RGB").save(folder / "colour.png")
    np.save(folder / "one.npy", pixels)
    np.save(folder / "two.npy", np.stack([pixels, pixels // 2])[:, None] / np.float32(255))
    photo = SEED.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    Image.fromarray(photo).save(folder / "photo.png")
    return folder


def by_hand(source: str, pixels: np.ndarray) -> torch.Tensor:
    model = package.load(source).eval()
    with torch.no_grad():
        out: torch.Tensor = model(torch.from_numpy(pixels).float()[None, None] / 255)
    return out.softmax(1)[0]


def test_each_kind_of_file_is_read(danetc: Run, images: Path) -> None:
    with pytest.raises(UserError, match="no images"):
        package.predict(DIGITS, [])
    single = ["grey.png", "colour.png", "one.npy"]
    files = [images / name for name in (*single, "two.npy")]
    found = danetc.json("predict", DIGITS, *files, "--top", 10)["predictions"]
    assert [Path(each["image"]).name for each in found] == [*single, "two.npy[0]", "two.npy[1]"]
    pixels = np.load(images / "one.npy")
    for each, x in zip(found, [pixels] * 4 + [pixels // 2], strict=True):
        expected = by_hand(DIGITS, x)
        order = expected.argsort(descending=True).tolist()
        assert [one["class"] for one in each["classes"]] == [str(n) for n in order]
        shares = torch.tensor([one["probability"] for one in each["classes"]])
        assert torch.allclose(shares, expected[order], atol=1e-5)


def test_images_are_prepared_and_classes_named(danetc: Run, images: Path) -> None:
    photo, steps = images / "photo.png", "resize(28) -> center_crop(28)"
    told = "1 x 40 x 60 after `evaluate`, but the network takes 1 x 28 x 28"
    danetc.fails(told, "predict", FASHION, photo)
    asked = (FASHION, photo, "--evaluate", steps)
    (found,) = danetc.json("predict", *asked, "--top", 1)["predictions"]
    danetc.passes("record", *asked, "--layers", "stem.spike")
    names = package.predict(FASHION, [photo], prepare=steps)
    assert names.classes == [found["classes"][0]["class"]]
    assert names.class_names[0] == "T-shirt/top"
    assert len(names.as_dict()["predictions"][0]["classes"]) == 5
    assert repr(names) == f"<Predictions: {names.classes[0]}>"
    other = package.predict(FASHION, [photo], prepare=steps, steps=1)
    assert not torch.equal(other.logits, names.logits)
    assert names.frame().columns.tolist() == ["image", *names.class_names]
    shown = danetc.passes("predict", *asked, "--logits", "--top", 2).out
    assert f"{names.classes[0]} {float(names.logits.max()):.4f}" in shown
    with Image.open(photo) as opened:
        rgb = torch.from_numpy(np.array(opened)).permute(2, 0, 1)
    grey = F.resize(F.rgb_to_grayscale(rgb), [28, 42])[0, :, 7:35]
    assert torch.allclose(names.probabilities[0], by_hand(FASHION, grey.numpy()), atol=1e-5)


def of_program(path: str) -> str:
    found = {"class_names": ""}
    torch.export.load(path, extra_files=found)
    return found["class_names"]


def of_onnx(path: str) -> str:
    found = importlib.import_module("onnx").load(path).metadata_props
    return {item.key: item.value for item in found}["class_names"]


EXPORTS: dict[str, Callable[[str], str]] = {
    ".safetensors": lambda path: safe_open(path, "pt").metadata()["class_names"],
    ".pt2": of_program,
    ".onnx": of_onnx,
    ".nir": lambda path: importlib.import_module("nir").read(path).metadata["class_names"],
}
"""Functions that read the class names of a file, as JSON."""


def test_training_records_the_names_of_classes(danetc: Run, quick: Path, images: Path) -> None:
    data = make_folder(Path("data"))
    sized = ("--set", "recipe.evaluate=resize(8) -> center_crop(8)")
    sized += ("--set", "recipe.augment=random_resized_crop(8)", "--set", "recipe.batch=4")
    danetc.passes("train", quick, "--data", data, "--set", "classes=3", *sized, "-o", "run", "-q")
    found = package.predict("run", [images / "grey.png"])
    assert found.class_names == ("cat", "dog", "owl")
    assert found.classes[0] in found.class_names
    for ending, read in EXPORTS.items():
        danetc.passes("export", "run", "-o", f"a{ending}")
        assert json.loads(read(f"a{ending}")) == ["cat", "dog", "owl"], ending


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("gone.png cannot be read", ["predict", DIGITS, "gone.png"]),
        ("gone is not the directory of a trained network", ["predict", "gone", "a.png"]),
        ("did you mean `resize`?", ["predict", DIGITS, "a.png", "--evaluate", "resiz(3)"]),
        ("files or those of --data, not both", ["record", DIGITS, "a.png", "--data", "digits"]),
        ("records no training data", ["record", "danet_c_small"]),
        ("did you mean `stem.spike`?", ["record", DIGITS, "--layers", "stem.spik"]),
    ],
)
def test_what_is_wrong_is_said(danetc: Run, message: str, arguments: list[str]) -> None:
    Path("gone").mkdir()
    danetc.fails(message, *arguments)


def test_a_built_network_gets_images_as_they_are(danetc: Run, written: Path, images: Path) -> None:
    done = danetc.passes("predict", written, images / "grey.png", "--json")
    assert "no recipe says how images are prepared: nothing is done to them" in done.err
    (found,) = json.loads(done.out)["predictions"]
    assert {each["class"] for each in found["classes"]} < {*map(str, range(10))}


def test_a_recording_of_files_and_of_data(danetc: Run, images: Path) -> None:
    pytest.importorskip("matplotlib")
    command = ("record", DIGITS, images / "two.npy", "--layers", "stem,stages.0.blocks.0.*")
    files = ("-o", "a.npz", "--raster", "r.svg", "--traces", "t.png")
    found = danetc.json(*command, *files)["layers"]
    model = package.load(DIGITS)
    expected = package.record(model, torch.from_numpy(np.load(images / "two.npy")))
    assert [each["layer"] for each in found] == [*expected][:3]
    with np.load("a.npz") as saved:
        for each in found:
            assert each["shape"] == [4, 2, 16, 8, 8]
            assert each["rate"] == float(expected[each["layer"]].spikes.double().mean())
            assert np.array_equal(saved[f"{each['layer']}/spikes"], expected[each["layer"]].spikes)
    assert Path("r.svg").read_text().startswith("<?xml")
    assert Path("t.png").read_bytes().startswith(b"\x89PNG")
    shown = danetc.passes("record", "danet_c_small", "--data", "digits", "--batch", 3, "--stream")
    assert "stem.spike                      4 x 3 x 16 x 8 x 8" in shown.out
    assert "is untrained" in shown.err
