"""Data sets of Hugging Face's `datasets` and of tonic, and events counted in frames."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from danetc.runtime.data import DataError, open_data
from danetc.runtime.data.recordings import frames_of
from tests.danetc.datasets import SMALL_DATA

DICE = np.random.default_rng(0)
EVENT = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])


def recording(count: int = 103) -> np.ndarray:
    events = np.zeros(count, EVENT)
    events["x"], events["y"] = DICE.integers(0, 12, count), DICE.integers(0, 9, count)
    events["t"], events["p"] = np.sort(DICE.integers(0, 1000, count)), DICE.integers(0, 2, count)
    return events


def test_frames_of_events_are_those_of_spikingjelly_and_of_tonic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if importlib.util.find_spec("torchaudio") is not None:
        try:
            import torchaudio  # noqa: F401
        except OSError:  # one for another torch, which SpikingJelly imports for its speech sets
            monkeypatch.setitem(sys.modules, "torchaudio", ModuleType("torchaudio"))
    utils = pytest.importorskip("spikingjelly.datasets.utils")
    events = recording()
    ours = frames_of(events, 4, (9, 12), "it")
    theirs = utils.integrate_events_by_fixed_frames_number(
        {name: events[name] for name in ("t", "x", "y", "p")}, "number", 4, 9, 12
    )
    assert np.array_equal(ours, theirs)
    assert ours.sum() == len(events)
    whole = recording(100)  # in equal parts, where tonic does not leave the rest out
    transforms = pytest.importorskip("tonic.transforms")
    tonic = transforms.ToFrame(sensor_size=(12, 9, 2), n_event_bins=4)(whole)
    assert np.array_equal(frames_of(whole, 4, (9, 12), "it"), tonic)
    for frames, size, told in ((200, (9, 12), "too few for 200"), (4, (9, 4), "outside of 9x4")):
        with pytest.raises(DataError, match=told):
            frames_of(events, frames, size, "it")


def test_tonic_reads_what_is_there_and_downloads_nothing(tmp_path: Path) -> None:
    tonic = pytest.importorskip("tonic")
    text = SMALL_DATA["tonic"].make(tmp_path / "data")
    data = open_data(text, frames=3)
    assert (data.shape, data.class_names) == ((3, 2, 35, 35), ("cl", "he", "di", "sp"))
    there = tonic.datasets.POKERDVS(save_to=str(tmp_path / "data"), train=False)
    assert data.test.labels.tolist() == there.targets
    events, label = there[7]
    frames, own = data.test[7]
    assert own == label
    assert frames.sum() == len(events)
    with pytest.raises(DataError, match="nothing is downloaded here: fetch https://"):
        open_data(f"tonic:NMNIST:{tmp_path / 'data'}", frames=3)
    with pytest.raises(DataError, match="how many frames"):
        open_data(text)


def test_datasets_from_a_folder_and_from_tables(tmp_path: Path) -> None:
    library = pytest.importorskip("datasets")
    text = SMALL_DATA["huggingface"].make(tmp_path / "saved")
    data = open_data(text)
    assert (data.classes, data.class_names, data.shape) == (3, ("cat", "dog", "owl"), (3, 8, 8))
    table = library.load_from_disk(str(tmp_path / "saved"))
    image, label = data.train[5]
    assert np.array_equal(image.permute(1, 2, 0), np.asarray(table["train"][5]["image"]))
    assert label == table["train"][5]["label"]
    moved = tmp_path / "elsewhere"
    (tmp_path / "saved").rename(moved)
    assert open_data(f"huggingface:{moved}").fingerprint == data.fingerprint
    held = open_data(f"huggingface:{moved},test=0.25")
    assert (len(held.train), len(held.test)) == (18, 6)
    numbers = library.Dataset.from_dict(
        {"x": DICE.random((8, 1, 4, 4)).tolist(), "y": DICE.random((8, 2)).tolist()}
    )
    numbers.save_to_disk(str(tmp_path / "numbers"))
    learned = open_data(f"huggingface:{tmp_path / 'numbers'},test=0.25")
    assert (learned.target, learned.classes, learned.shape) == ("numbers", 2, (1, 4, 4))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (",test=vaild", "there is no split `vaild`; its splits are train, test"),
        (",image=imag", "there is no column `imag`; did you mean `image`?"),
        (",lable=x", "`huggingface` has no option `lable`; did you mean `label`?"),
    ],
)
def test_what_a_data_set_does_not_have(options: str, told: str, tmp_path: Path) -> None:
    text = SMALL_DATA["huggingface"].make(tmp_path / "saved")
    with pytest.raises(DataError, match=re.escape(told)):
        open_data(text + options)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("huggingface:", "needs a place"),
        ("huggingface:/no/where", "there is no folder /no/where"),
        ("tonic:NMNIST:nowhere", "there is no folder nowhere"),
        ("tonic:", "needs a set and a folder"),
        ("tonic:NMIST:{}", "tonic has no data set `NMIST`; did you mean `NMNIST`?"),
    ],
)
def test_places_that_are_not_there(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=re.escape(told)):
        open_data(text.format(tmp_path), frames=2)


def test_a_library_that_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    for name, text in (
        ("datasets", f"huggingface:{tmp_path}"),
        ("tonic", f"tonic:NMNIST:{tmp_path}"),
    ):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(DataError, match=re.escape("pip install 'danetc[")):
            open_data(text, frames=2)


def test_recordings_of_own_code_are_cut_into_frames(tmp_path: Path) -> None:
    """As tonic's cached data sets give them."""
    pytest.importorskip("tonic")
    (tmp_path / "own.py").write_text(
        "import numpy as np\nfrom tonic import MemoryCachedDataset\n"
        "EVENT = np.dtype([('x', int), ('y', int), ('t', int), ('p', int)])\n"
        "class Set:\n"
        "    sensor_size = (6, 5, 2)\n"
        "    def __len__(self): return 8\n"
        "    def __getitem__(self, index):\n"
        "        if index >= 8: raise IndexError\n"
        "        dice = np.random.default_rng(index)\n"
        "        events = np.zeros(40, EVENT)\n"
        "        events['x'], events['y'] = dice.integers(0, 6, 40), dice.integers(0, 5, 40)\n"
        "        events['p'] = dice.integers(0, 2, 40)\n"
        "        return events, index % 2\n"
        "def make(): return MemoryCachedDataset(Set()), Set()\n"
    )
    data = open_data(f"{tmp_path / 'own.py'}:make", frames=4)
    assert (data.events, data.shape, data.classes) == (True, (4, 2, 5, 6), 2)
    one, other = data.train[3][0], data.test[3][0]
    assert torch.equal(one, other)
    assert one.sum() == 40
    with pytest.raises(DataError, match="how many frames to make of one is not known; set steps"):
        open_data(f"{tmp_path / 'own.py'}:make")


def test_files_of_events_are_cut_into_frames(tmp_path: Path) -> None:
    """SpikingJelly's npz with t, x, y and p, and tonic's arrays with fields in npy."""
    made: dict[str, np.ndarray] = {}
    for split in ("train", "test"):
        for name in ("left", "right"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                events = recording(50 + number)
                made[f"{split}/{name}/{number}"] = events
                if number:
                    np.save(folder / f"{number}.npy", events)
                else:
                    np.savez(folder / "0.npz", **{key: events[key] for key in ("t", "x", "y", "p")})
    data = open_data(f"events:{tmp_path},size=9x12", frames=4)
    assert (data.events, data.shape, len(data.train), data.classes) == (True, (4, 2, 9, 12), 6, 2)
    for index in range(6):
        name = str(Path(data.train.where(index)).relative_to(tmp_path).with_suffix(""))
        assert torch.equal(data.train[index][0], frames_of(made[name], 4, (9, 12), "it"))
    for options, frames, told in (
        ("", 4, "say it: ,size=HxW (this one needs "),
        (",size=9", 4, "it is height x width"),
        (",size=9x12", None, "how many frames to make of one is not known"),
    ):
        with pytest.raises(DataError, match=re.escape(told)):
            open_data(f"events:{tmp_path}{options}", frames=frames)
