"""Data sets of Hugging Face's `datasets` and of tonic, and event files that are counted into frames."""

import pickle
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from danetc.runtime.data.recordings import Cutting
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.sources.python import in_memory
from danetc.runtime.system.errors import DataError, UnreadableError
from tests.danetc.datasets import SMALL_DATA

from .conftest import Trap, class_folders, refused, saved

DICE = np.random.default_rng(0)
EVENT = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])


def recording(count: int = 103, dice: np.random.Generator = DICE) -> np.ndarray:
    events = np.zeros(count, EVENT)
    events["x"], events["y"] = dice.integers(0, 12, count), dice.integers(0, 9, count)
    events["t"], events["p"] = np.sort(dice.integers(0, 1000, count)), dice.integers(0, 2, count)
    return events


def test_frames_are_those_of_spikingjelly_and_tonic(monkeypatch: pytest.MonkeyPatch) -> None:
    # SpikingJelly imports torchaudio for its speech sets; the installed one may be for another torch.
    monkeypatch.setitem(sys.modules, "torchaudio", ModuleType("torchaudio"))
    utils = pytest.importorskip("spikingjelly.datasets.utils")
    events = recording()
    columns = {name: events[name] for name in ("t", "x", "y", "p")}
    ours, by_time = (Cutting(4, (9, 12), by=by).cut(events, "it") for by in ("number", "time"))
    for by, found in (("number", ours), ("time", by_time)):
        theirs = utils.integrate_events_by_fixed_frames_number(columns, by, 4, 9, 12)
        assert np.array_equal(found, theirs)
    assert ours.sum() == len(events)
    assert not torch.equal(by_time, ours)
    seconds = {**columns, "t": events["t"] / 1e6}
    assert torch.equal(Cutting(4, (9, 12), by="time").cut(seconds, "it"), by_time)
    line = Cutting(4, (9, 12), polarities=1).cut(events, "it")
    assert torch.equal(line, ours.sum(1, keepdim=True))
    whole = recording(100)  # divides into equal parts, so tonic drops no remainder
    transforms = pytest.importorskip("tonic.transforms")
    tonic = transforms.ToFrame(sensor_size=(12, 9, 2), n_event_bins=4)(whole)
    assert np.array_equal(Cutting(4, (9, 12)).cut(whole, "it"), tonic)
    for frames, size, told in ((200, (9, 12), "too few for 200"), (4, (9, 4), "outside of 9x4")):
        with pytest.raises(DataError, match=told):
            Cutting(frames, size).cut(events, "it")


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
    told = "nothing is downloaded here: fetch https://"
    refused(told, f"tonic:NMNIST:{tmp_path / 'data'}", frames=3)
    refused("number of frames", text)


def test_a_cochlea_of_tonic_has_one_polarity(tmp_path: Path) -> None:
    """SHD as published: an HDF5 file for each split, with spikes of 700 channels and times in seconds."""
    tonic = pytest.importorskip("tonic")
    h5py = pytest.importorskip("h5py")
    (tmp_path / "SHD").mkdir()
    for split, count in (("train", 9), ("test", 4)):
        (tmp_path / "SHD" / f"shd_{split}.h5.zip").write_text("unpacked already")
        with h5py.File(tmp_path / "SHD" / f"shd_{split}.h5", "w") as file:
            for name, kind in (("times", "float16"), ("units", "uint16")):
                lists = h5py.vlen_dtype(np.dtype(kind))
                rows = file.create_dataset(f"spikes/{name}", (count,), dtype=lists)
                for index in range(count):
                    scale = 1 if name == "times" else 700
                    rows[index] = np.sort(scale * DICE.random(50 + index)).astype(kind)
            file["labels"] = np.arange(count) % 3
            file["extra/keys"] = np.array([b"zero", b"one", b"two"])
            file["extra/speaker"] = np.arange(count)
    data = open_data(f"tonic:SHD:{tmp_path}", frames=5)
    assert (data.shape, data.class_names) == ((5, 1, 1, 700), ("zero", "one", "two"))
    assert data.test.labels.tolist() == [0, 1, 2, 0]
    by_time = open_data(f"tonic:SHD:{tmp_path},by=time", frames=5)
    there = tonic.datasets.SHD(save_to=str(tmp_path), train=True)
    for index in (0, 8):
        events, _ = there[index]
        counted = np.bincount(events["x"], minlength=700)
        assert np.array_equal(data.train[index][0].sum((0, 1, 2)), counted)
        t = events["t"] - events["t"].min()
        frames = np.minimum(t // (t.max() // 5), 4)
        found = by_time.train[index][0].sum((1, 2, 3))
        assert np.array_equal(found, np.bincount(frames, minlength=5))
    told = "the option `by` of `tonic` is number or time, not `tiem`"
    refused(told, f"tonic:SHD:{tmp_path},by=tiem", frames=5)


@pytest.mark.thorough
def test_tables_and_parquet_files(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", str(here / "cache"))
    data = open_data(SMALL_DATA["huggingface"].make(here / "saved"))
    assert (data.classes, data.class_names, data.shape) == (3, ("cat", "dog", "owl"), (3, 8, 8))
    tables = library.load_from_disk("saved")
    image, label = data.train[5]
    assert np.array_equal(image.permute(1, 2, 0), np.asarray(tables["train"][5]["image"]))
    assert label == tables["train"][5]["label"]
    for folder in ("plain", "several/one", "several/two"):
        for split in ("train", "test"):
            tables[split].to_parquet(f"{folder}/{split}-00000-of-00001.parquet")
    configs = (f"- config_name: {name}\n  data_dir: {name}\n" for name in ("one", "two"))
    Path("several", "README.md").write_text("".join(["---\nconfigs:\n", *configs, "---\n"]))
    Path("saved").rename("moved")
    for text in ("huggingface:moved", "huggingface:plain", "huggingface:several,config=two"):
        whole = open_data(text)
        assert whole.fingerprint == data.fingerprint
        assert (len(whole.train), len(whole.test), whole.class_names) == (24, 13, data.class_names)
        assert torch.equal(whole.train[4][0], data.train[4][0])
    for text in ("huggingface:moved", "plain/train-00000-of-00001.parquet"):
        held = open_data(f"{text},test=0.25")
        assert (len(held.train), len(held.test), held.class_names) == (18, 6, data.class_names)
    refused("or on a share: ,test=0.2", "plain/train-00000-of-00001.parquet")
    refused("there is no file", "plain/tarin-00000-of-00001.parquet")
    refused("several configurations; add ,config=NAME", "huggingface:several")
    columns = {"x": DICE.random((8, 1, 4, 4)).tolist(), "y": DICE.random((8, 2)).tolist()}
    library.Dataset.from_dict(columns).save_to_disk("numbers")
    learned = open_data("huggingface:numbers,test=0.25")
    assert (learned.target, learned.classes, learned.shape) == ("numbers", 2, (1, 4, 4))


def test_images_in_a_parquet_file_of_others(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The column holds bytes, or bytes and a path, without the library's metadata."""
    library = pytest.importorskip("datasets")
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", str(here / "cache"))
    images = [DICE.integers(0, 255, (6, 7, 3), dtype=np.uint8) for _ in range(8)]
    files = [saved(Image.fromarray(each).save, "PNG") for each in images]
    for column in (files, [{"bytes": each, "path": "a.png"} for each in files]):
        table = arrow.table({"image": column, "label": [n % 2 for n in range(8)]})
        parquet.write_table(table, "own.parquet")
        data = open_data("own.parquet,test=0.5")
        assert (data.shape, data.classes, len(data.train)) == ((3, 6, 7), 2, 4)
        seen = {data.train[n][0].numpy().tobytes() for n in range(4)}
        assert seen < {np.moveaxis(each, -1, 0).tobytes() for each in images}


def test_a_name_of_the_hub_not_here(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library is set offline, since it would try to connect for half a minute."""
    library = pytest.importorskip("datasets")
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", str(here / "cache"))
    told = f"`somebody/images` is not in the cache of the library datasets ({here}"
    with pytest.raises(DataError, match=f"^{re.escape(told)}.*the hub cannot be reached") as caught:
        open_data("huggingface:somebody/images")
    told = 'datasets.load_dataset("somebody/images").save_to_disk(DIR)'
    assert told in str(caught.value)


def test_what_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = SMALL_DATA["huggingface"].make(tmp_path)
    for text, told in (
        (f"{saved},test=vaild", "has no split `vaild`; it has train, test (say ,test=NAME"),
        (f"{saved},image=imag", "has no column `imag`; did you mean `image`?"),
        (f"{saved},lable=x", "`huggingface` has no option `lable`; did you mean `label`?"),
        ("huggingface:", "needs a folder"),
        ("huggingface:/no/where", "there is no folder /no/where"),
        ("tonic:NMNIST:nowhere", "there is no folder nowhere"),
        ("tonic:", "needs a set and a folder"),
        (f"tonic:NMIST:{tmp_path}", "tonic has no data set `NMIST`; did you mean `NMNIST`?"),
    ):
        refused(told, text, frames=2)
    for library, text in (("datasets", saved), ("tonic", f"tonic:NMNIST:{tmp_path}")):
        monkeypatch.setitem(sys.modules, library, None)
        refused("pip install 'danetc[", text, frames=2)


class Recordings:
    sensor_size = (12, 9, 2)

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if index >= 8:
            raise IndexError
        return recording(40, np.random.default_rng(index)), index % 2


def test_recordings_of_own_code_are_cut_into_frames(tmp_path: Path) -> None:
    tonic = pytest.importorskip("tonic")
    cached = in_memory((tonic.MemoryCachedDataset(Recordings()), Recordings()))
    data = open_data(cached, frames=4)
    assert (data.events, data.shape, data.classes) == (True, (4, 2, 9, 12), 2)
    one, other = data.train[3][0], data.test[3][0]
    assert torch.equal(one, other)
    assert one.sum() == 40
    refused("its number of frames is unknown; set steps", cached)
    on_disk = tonic.DiskCachedDataset(Recordings(), str(tmp_path / "kept"))
    kept = open_data(in_memory((on_disk, Recordings())), frames=4)
    assert len(list((tmp_path / "kept").glob("*.hdf5"))) == 8
    assert torch.equal(kept.train[3][0], one)
    assert kept.train.labels.tolist() == data.train.labels.tolist()


# -- files of events ----------------------------------------------------------------------------


def test_files_of_events_are_cut_into_frames(tmp_path: Path) -> None:
    """SpikingJelly's npz with t, x, y and p, and tonic's arrays with fields in npy."""
    made: dict[Path, np.ndarray] = {}
    for *_, number, path in class_folders(tmp_path, {"train": 3, "test": 3}, ("left", "right")):
        made[path] = events = recording(50 + number)
        if number:
            np.save(path, events)
        else:
            np.savez(path, **{key: events[key] for key in ("t", "x", "y", "p")})
    data = open_data(f"events:{tmp_path},size=9x12", frames=4)
    assert (data.events, data.shape, len(data.train), data.classes) == (True, (4, 2, 9, 12), 6, 2)
    for index in range(6):
        events = made[Path(data.train.where(index)).with_suffix("")]
        assert torch.equal(data.train[index][0], Cutting(4, (9, 12)).cut(events, "it"))
    refused("add ,size=HxW (this one needs ", f"events:{tmp_path}", frames=4)
    refused("it is height x width", f"events:{tmp_path},size=9", frames=4)
    refused("its number of frames is unknown", f"events:{tmp_path},size=9x12")


def test_frames_in_files_are_what_numpy_reads(tmp_path: Path) -> None:
    data = open_data(SMALL_DATA["events"].make(tmp_path))
    assert (data.events, data.classes, data.shape) == (True, 2, (3, 2, 8, 8))
    assert data.class_names == ("left", "right")
    assert (len(data.train), len(data.test)) == (16, 10)
    kinds = set()
    for index in range(16):
        path = Path(data.train.where(index))
        loaded = np.load(path)
        frames = loaded["frames"] if path.suffix == ".npz" else loaded
        ours, label = data.train[index]
        kinds.add((path.suffix, ours.dtype))
        assert np.array_equal(ours.numpy(), frames)
        assert data.class_names[label] == path.parent.name
    assert kinds == {(".npz", torch.float32), (".npy", torch.uint8)}


@pytest.mark.parametrize("name", ["2.npz", "1.npy"])
@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ("objects", "Python objects, not numbers (pickles are not read)"),
        ("pickle", "cannot be read: "),
        ("cut", "cannot be read: "),
        (b"", "cannot be read: "),
        (saved(np.savez, t=np.zeros(3), x=np.zeros(3)), "holds no array `frames` (but t, x), and not"),
        (saved(np.save, np.zeros((3, 8, 8))), "has an array of [3, 8, 8] of float64, where frames [T, C"),
        (saved(np.save, np.zeros((3, 2, 8, 8), complex)), "has an array of [3, 2, 8, 8] of complex128"),
        (saved(np.save, np.full((3, 2, 8, 8), np.nan)), "has values that are not finite"),
        (saved(np.save, np.zeros((5, 2, 8, 8))), "of [5, 2, 8, 8], but those of the first recording are [3"),
    ],
)  # fmt: skip
def test_a_wrong_recording_is_named(tmp_path: Path, name: str, damaged: Any, message: str) -> None:
    text = SMALL_DATA["events"].make(tmp_path)
    path = tmp_path / "train" / "left" / name
    trap = Trap(path.with_name("trap"))
    if damaged == "objects":
        damaged = saved(np.save, np.array([trap], dtype=object))
    elif damaged == "pickle":
        damaged = pickle.dumps(trap)
    path.write_bytes(path.read_bytes()[:200] if isinstance(damaged, str) else damaged)
    data = open_data(text)
    index = [data.train.where(each) for each in range(16)].index(str(path))
    kind = DataError if "[5, 2" in message else UnreadableError
    with pytest.raises(kind, match=re.escape(message)) as caught:
        data.train[index]
    assert str(path) in str(caught.value)
    assert not trap.path.exists()


def test_a_wrong_first_recording_stops_or_is_passed_over(tmp_path: Path) -> None:
    text = SMALL_DATA["events"].make(tmp_path)
    (tmp_path / "train" / "left" / "0.npz").write_bytes(b"")
    with pytest.raises(UnreadableError, match=r"left/0.npz cannot be read"):
        open_data(text)
    assert open_data(text, on_unreadable="skip").shape == (3, 2, 8, 8)
    for path in (tmp_path / "train").glob("*/*"):
        path.write_bytes(b"")
    refused("none of the 16 recordings", text, on_unreadable="skip")


_EVENTS = {name: np.arange(40) % n for name, n in (("t", 40), ("x", 5), ("y", 5), ("p", 2))}


def test_wrong_columns_of_recordings_are_named(tmp_path: Path) -> None:
    for *_, path in class_folders(tmp_path, {"train": 1, "val": 1}, ("left", "right")):
        np.savez(path, **_EVENTS)
    path = tmp_path / "train" / "right" / "0.npz"
    for name, values, told in (
        (
            "y",
            np.arange(13),
            "an array of [13] of int64; a recording has one number for each event",
        ),
        ("x", np.zeros((40, 2)), "an array of [40, 2] of float64"),
        ("x", np.array(3), "an array of [] of int64"),
        ("p", np.array(["a"] * 40), "an array of [40] of <U1"),
        ("t", np.zeros(40, complex), "an array of [40] of complex128"),
        ("t", np.full(40, np.nan), "values that are not finite or above 2^53"),
        ("y", np.full(40, 1e300), "values that are not finite or above 2^53"),
    ):
        np.savez(path, **{**_EVENTS, name: values})
        data = open_data(f"events:{tmp_path},size=5x5,by=time", frames=2)
        assert data.train[0][0].sum() == 40
        verb = "is" if told.startswith("an") else "has"
        with pytest.raises(DataError, match=re.escape(f"`{name}` of {path} {verb} {told}")):
            data.train[1]
