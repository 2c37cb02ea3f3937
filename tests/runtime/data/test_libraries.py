"""Data sets of Hugging Face's `datasets` and of tonic, and events counted in frames."""

from __future__ import annotations

import importlib.util
import re
import sys
from io import BytesIO
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from danetc.runtime.data.recordings import Cutting
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.errors import DataError
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
    whole = recording(100)  # in equal parts, where tonic does not leave the rest out
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
    with pytest.raises(DataError, match="nothing is downloaded here: fetch https://"):
        open_data(f"tonic:NMNIST:{tmp_path / 'data'}", frames=3)
    with pytest.raises(DataError, match="number of frames"):
        open_data(text)


def test_a_cochlea_of_tonic_has_one_polarity(tmp_path: Path) -> None:
    """SHD as it is published: a file of HDF5 for each split, spikes of 700 channels in seconds."""
    tonic = pytest.importorskip("tonic")
    h5py = pytest.importorskip("h5py")
    (tmp_path / "SHD").mkdir()
    for split, count in (("train", 9), ("test", 4)):
        (tmp_path / "SHD" / f"shd_{split}.h5.zip").write_text("unpacked already")
        with h5py.File(tmp_path / "SHD" / f"shd_{split}.h5", "w") as file:
            for name, kind in (("times", "float16"), ("units", "uint16")):
                rows = file.create_dataset(
                    f"spikes/{name}", (count,), dtype=h5py.vlen_dtype(np.dtype(kind))
                )
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
    with pytest.raises(DataError, match="the option `by` of `tonic` is number or time, not `tiem`"):
        open_data(f"tonic:SHD:{tmp_path},by=tiem", frames=5)


@pytest.mark.thorough
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


@pytest.mark.thorough
def test_parquet_files_of_a_folder_and_by_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = pytest.importorskip("datasets")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    saved = SMALL_DATA["huggingface"].make(tmp_path / "saved")
    tables = library.load_from_disk(str(tmp_path / "saved"))
    for folder in ("plain", "several/one", "several/two"):
        for split in ("train", "test"):
            tables[split].to_parquet(str(tmp_path / folder / f"{split}-00000-of-00001.parquet"))
    (tmp_path / "several" / "README.md").write_text(
        "---\nconfigs:\n"
        + "".join(f"- config_name: {name}\n  data_dir: {name}\n" for name in ("one", "two"))
        + "---\n"
    )
    whole, kept = open_data(f"huggingface:{tmp_path / 'plain'}"), open_data(saved)
    file = open_data(f"{tmp_path}/plain/train-00000-of-00001.parquet,test=0.25")
    two = open_data(f"huggingface:{tmp_path / 'several'},config=two")
    assert (len(whole.train), len(whole.test), len(two.train)) == (24, 13, 24)
    assert (len(file.train), len(file.test)) == (18, 6)
    assert whole.fingerprint == kept.fingerprint == two.fingerprint
    for data in (whole, file, two):
        assert data.class_names == ("cat", "dog", "owl")
    assert torch.equal(whole.train[4][0], kept.train[4][0])
    for text, told in (
        (f"{tmp_path}/plain/train-00000-of-00001.parquet", "or on a share: ,test=0.2"),
        (f"{tmp_path}/plain/tarin-00000-of-00001.parquet", "there is no file"),
        (f"huggingface:{tmp_path / 'several'}", "several configurations; add ,config=NAME"),
    ):
        with pytest.raises(DataError, match=re.escape(told)):
            open_data(text)


@pytest.mark.parametrize("form", ["bytes", "bytes and a path"])
def test_files_of_images_in_a_parquet_file_of_others(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written without what the library notes of columns."""
    library = pytest.importorskip("datasets")
    parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    images = [DICE.integers(0, 255, (6, 7, 3), dtype=np.uint8) for _ in range(8)]
    files = []
    for image in images:
        stream = BytesIO()
        Image.fromarray(image).save(stream, "PNG")
        files.append(stream.getvalue())
    column = files if form == "bytes" else [{"bytes": each, "path": "a.png"} for each in files]
    table = arrow.table({"image": column, "label": [n % 2 for n in range(8)]})
    parquet.write_table(table, tmp_path / "own.parquet")
    data = open_data(f"{tmp_path / 'own.parquet'},test=0.5")
    assert (data.shape, data.classes, len(data.train)) == ((3, 6, 7), 2, 4)
    seen = {data.train[n][0].numpy().tobytes() for n in range(4)}
    assert seen < {np.moveaxis(each, -1, 0).tobytes() for each in images}


def test_a_name_of_the_hub_that_is_not_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the library has it without a network, which it tries for half a minute."""
    library = pytest.importorskip("datasets")
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(library.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        open_data("huggingface:somebody/images")
    told = str(caught.value)
    assert told.startswith(
        f"`somebody/images` is not in the cache of the library datasets ({tmp_path}"
    )
    assert "the hub cannot be reached" in told
    assert 'datasets.load_dataset("somebody/images").save_to_disk(DIR)' in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("huggingface:{},test=vaild", "has no split `vaild`; it has train, test (say ,test=NAME"),
        ("huggingface:{},image=imag", "has no column `imag`; did you mean `image`?"),
        ("huggingface:{},lable=x", "`huggingface` has no option `lable`; did you mean `label`?"),
        ("huggingface:", "needs a folder"),
        ("huggingface:/no/where", "there is no folder /no/where"),
        ("tonic:NMNIST:nowhere", "there is no folder nowhere"),
        ("tonic:", "needs a set and a folder"),
        ("tonic:NMIST:{}", "tonic has no data set `NMIST`; did you mean `NMNIST`?"),
    ],
)
def test_what_is_not_there_is_named(text: str, told: str, tmp_path: Path) -> None:
    SMALL_DATA["huggingface"].make(tmp_path / "saved")
    with pytest.raises(DataError, match=re.escape(told)):
        open_data(text.format(tmp_path / "saved"), frames=2)


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
        "import numpy as np\nfrom tonic import DiskCachedDataset, MemoryCachedDataset\n"
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
        f"def kept(): return DiskCachedDataset(Set(), {str(tmp_path / 'kept')!r}), Set()\n"
    )
    data = open_data(f"{tmp_path / 'own.py'}:make", frames=4)
    assert (data.events, data.shape, data.classes) == (True, (4, 2, 5, 6), 2)
    one, other = data.train[3][0], data.test[3][0]
    assert torch.equal(one, other)
    assert one.sum() == 40
    with pytest.raises(DataError, match="its number of frames is unknown; set steps"):
        open_data(f"{tmp_path / 'own.py'}:make")
    kept = open_data(f"{tmp_path / 'own.py'}:kept", frames=4)
    assert len(list((tmp_path / "kept").glob("*.hdf5"))) == 8
    assert torch.equal(kept.train[3][0], one)
    assert kept.train.labels.tolist() == data.train.labels.tolist()


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
        assert torch.equal(data.train[index][0], Cutting(4, (9, 12)).cut(made[name], "it"))
    for options, frames, told in (
        ("", 4, "add ,size=HxW (this one needs "),
        (",size=9", 4, "it is height x width"),
        (",size=9x12", None, "its number of frames is unknown"),
    ):
        with pytest.raises(DataError, match=re.escape(told)):
            open_data(f"events:{tmp_path}{options}", frames=frames)
