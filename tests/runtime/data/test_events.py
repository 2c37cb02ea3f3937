"""Frames of events in files, and SpikingJelly's data sets."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import pickle
import re
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from danetc.runtime.data import DataError, UnreadableError, open_data
from danetc.runtime.data.sources.events import SETS

from .conftest import MakeEvents, Trap, pixels, saved


def test_frames_are_what_numpy_reads(make_events: MakeEvents) -> None:
    root = make_events()
    data = open_data(f"events:{root}")
    assert (data.events, data.classes, data.shape) == (True, 2, (4, 2, 6, 6))
    assert data.class_names == ("left", "right")
    assert (len(data.train), len(data.test)) == (10, 4)
    kinds = set()
    for index in range(10):
        path = Path(data.train.where(index))
        loaded = np.load(path)
        frames = loaded["frames"] if path.suffix == ".npz" else loaded
        ours, label = data.train[index]
        kinds.add((path.suffix, ours.dtype))
        assert np.array_equal(ours.numpy(), frames)
        assert data.class_names[label] == path.parent.name
    assert kinds == {(".npz", torch.float32), (".npy", torch.uint8)}


def test_an_array_alone_in_an_npz_may_have_any_name(make_events: MakeEvents) -> None:
    root = make_events()
    frames = pixels(0, 4, 2, 6, 6)
    np.savez(root / "train" / "left" / "0.npz", x=frames)
    data = open_data(f"events:{root}")
    assert np.array_equal(data.train[0][0].numpy(), frames)


@pytest.mark.parametrize("name", ["2.npz", "1.npy"])
@pytest.mark.parametrize(
    ("damaged", "message"),
    [
        ("objects", "Python objects, not numbers (pickles are not read)"),
        ("pickle", "cannot be read: "),
        ("cut", "cannot be read: "),
        (b"", "cannot be read: "),
        (saved(np.savez, t=np.zeros(3), x=np.zeros(3)), "holds no array `frames` (but t, x), and not"),
        (saved(np.save, np.zeros((4, 6, 6))), "has an array of [4, 6, 6] of float64, where frames [T, C"),
        (saved(np.save, np.zeros((4, 2, 6, 6), complex)), "has an array of [4, 2, 6, 6] of complex128"),
        (saved(np.save, np.full((4, 2, 6, 6), np.nan)), "has values that are not finite"),
        (saved(np.save, np.zeros((5, 2, 6, 6))), "of [5, 2, 6, 6], but those of the first recording are [4"),
    ],
)  # fmt: skip
def test_a_wrong_recording_is_named(
    make_events: MakeEvents, name: str, damaged: str | bytes, message: str
) -> None:
    root = make_events()
    path = root / "train" / "left" / name
    trap = Trap(path.with_name("trap"))
    if damaged == "objects":
        damaged = saved(np.save, np.array([trap], dtype=object))
    elif damaged == "pickle":
        damaged = pickle.dumps(trap)
    path.write_bytes(path.read_bytes()[:200] if isinstance(damaged, str) else damaged)
    data = open_data(f"events:{root}")
    index = [data.train.where(each) for each in range(10)].index(str(path))
    kind = DataError if "[5, 2" in message else UnreadableError
    with pytest.raises(kind, match=re.escape(message)) as caught:
        data.train[index]
    assert str(path) in str(caught.value)
    assert not trap.path.exists()


def test_a_wrong_first_recording_stops_or_is_passed_over(make_events: MakeEvents) -> None:
    root = make_events()
    (root / "train" / "left" / "0.npz").write_bytes(b"")
    with pytest.raises(UnreadableError, match=r"left/0.npz cannot be read"):
        open_data(f"events:{root}")
    assert open_data(f"events:{root}", on_unreadable="skip").shape == (4, 2, 6, 6)
    for path in (root / "train").glob("*/*"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 10 recordings"):
        open_data(f"events:{root}", on_unreadable="skip")


_EVENTS = {"t": np.arange(40)} | {
    name: np.arange(40) % n for name, n in (("x", 5), ("y", 5), ("p", 2))
}


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("y", np.arange(13), "is an array of [13] of int64; a recording has one number for each event"),
        ("x", np.zeros((40, 2)), "is an array of [40, 2] of float64"),
        ("x", np.array(3), "is an array of [] of int64"),
        ("p", np.array(["a"] * 40), "is an array of [40] of <U1"),
        ("t", np.zeros(40, complex), "is an array of [40] of complex128"),
        ("t", np.full(40, np.nan), "has values that are not finite or above 2^53"),
        ("y", np.full(40, 1e300), "has values that are not finite or above 2^53"),
    ],
)  # fmt: skip
def test_wrong_columns_of_recordings_are_named(
    name: str, values: np.ndarray, message: str, tmp_path: Path
) -> None:
    for split in ("train", "val"):
        for kind in ("left", "right"):
            (tmp_path / split / kind).mkdir(parents=True)
            np.savez(tmp_path / split / kind / "0.npz", **_EVENTS)
    path = tmp_path / "train" / "right" / "0.npz"
    np.savez(path, **{**_EVENTS, name: values})
    data = open_data(f"events:{tmp_path},size=5x5,by=time", frames=2)
    assert data.train[0][0].sum() == 40
    with pytest.raises(DataError, match=re.escape(message)) as caught:
        data.train[1]
    assert f"`{name}` of {path} " in str(caught.value)


# -- SpikingJelly's data sets ----------------------------------------------------------------------


@pytest.fixture
def library() -> Iterator[ModuleType]:
    """spikingjelly.datasets, also where the torchaudio that its speech sets import is broken."""
    pytest.importorskip("spikingjelly")
    with pytest.MonkeyPatch.context() as patch:
        try:
            import torchaudio  # noqa: F401
        except (ImportError, OSError):
            patch.setitem(sys.modules, "torchaudio", ModuleType("torchaudio"))
        yield importlib.import_module("spikingjelly.datasets")


def recordings(root: Path) -> None:
    """Events of N-MNIST's form, as SpikingJelly keeps them: 2 of each of 3 classes."""
    for split in ("train", "test"):
        for label in range(3):
            folder = root / "events_np" / split / str(label)
            folder.mkdir(parents=True)
            for number in range(2):
                dice = np.random.default_rng(10 * label + number + 100 * (split == "test"))
                most = {"t": 1000, "x": 34, "y": 34, "p": 2}
                events = {name: dice.integers(0, high, 50) for name, high in most.items()}
                np.savez(folder / f"{number}.npz", **events | {"t": np.sort(events["t"])})


def test_recordings_are_cut_into_frames_by_spikingjelly(
    library: ModuleType, tmp_path: Path
) -> None:
    recordings(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    data = open_data(f"events:nmnist:{tmp_path / 'a'}", frames=5)
    assert (data.shape, data.classes, data.events) == ((5, 2, 34, 34), 3, True)
    for train, source in ((True, data.train), (False, data.test)):
        theirs = library.NMNIST(
            str(tmp_path / "b"), train=train, data_type="frame", frames_number=5, split_by="number"
        )
        assert len(source) == len(theirs) == 6
        for index in range(6):
            frames, label = theirs[index]
            ours, our_label = source[index]
            assert np.array_equal(ours.numpy(), frames)
            assert our_label == label
            assert ours.sum() == 50, "every event is counted once"
    assert open_data(f"events:nmnist:{tmp_path / 'a'}", frames=2).shape == (2, 2, 34, 34)


def test_of_two_that_open_a_set_at_once_one_waits(library: ModuleType, tmp_path: Path) -> None:
    """As the processes of a training do."""
    recordings(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        opened = list(
            pool.map(lambda _: open_data(f"events:nmnist:{tmp_path}", frames=3), range(2))
        )
    assert opened[0].fingerprint == opened[1].fingerprint
    assert all(torch.equal(opened[0].train[i][0], opened[1].train[i][0]) for i in range(6))


def test_every_set_by_name_is_a_class_of_spikingjelly(library: ModuleType) -> None:
    for row in SETS.values():
        parameters = inspect.signature(getattr(library, row.kind)).parameters
        assert {row.split, "data_type", "frames_number", "split_by"} <= set(parameters)


def test_wrong_names_places_and_frames_of_recordings(library: ModuleType, tmp_path: Path) -> None:
    recordings(tmp_path)
    with pytest.raises(DataError, match="set steps in the recipe or the network"):
        open_data(f"events:nmnist:{tmp_path}")
    with pytest.raises(DataError, match="no set of event data `nmist`; did you mean `nmnist`"):
        open_data(f"events:nmist:{tmp_path}", frames=4)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    with pytest.raises(DataError, match=r"lacks .*download.*nothing is downloaded here: fetch it"):
        open_data(f"events:dvs128gesture:{tmp_path / 'other'}", frames=4)
    assert {path.name for path in (tmp_path / "other").iterdir()} == {"file", ".frames.lock"}


def test_a_damaged_download_is_kept_and_named(library: ModuleType, tmp_path: Path) -> None:
    """(SpikingJelly itself would delete it and fetch it again.)"""
    (tmp_path / "download").mkdir()
    for file, _, _ in library.NMNIST.resource_url_md5():
        (tmp_path / "download" / file).write_text("damaged")
    with pytest.raises(DataError, match="is damaged"):
        open_data(f"events:nmnist:{tmp_path}", frames=4)
    assert {path.read_text() for path in (tmp_path / "download").iterdir()} == {"damaged"}


def test_an_intact_download_is_unpacked(
    library: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive with the right MD5 reaches SpikingJelly, which makes the frames."""
    recordings(tmp_path)
    (tmp_path / "events_np").rename(tmp_path / "made")
    (tmp_path / "download").mkdir()
    (tmp_path / "download" / "all.zip").write_bytes(b"intact")
    md5 = hashlib.md5(b"intact").hexdigest()
    files = [("all.zip", "https://example.org/all.zip", md5)]
    monkeypatch.setattr(library.NMNIST, "resource_url_md5", staticmethod(lambda: files))
    for name, made in (
        ("extract_downloaded_files", lambda download, extract: None),
        ("create_raw_from_extracted",
         lambda extract, raw: shutil.copytree(tmp_path / "made", raw, dirs_exist_ok=True)),
    ):  # fmt: skip
        monkeypatch.setattr(library.NMNIST, name, staticmethod(made))
    data = open_data(f"events:nmnist:{tmp_path}", frames=4)
    assert data.shape[0] == 4
    assert len(data.train) > 0


def test_frames_that_another_process_makes_are_not_touched(
    library: ModuleType, tmp_path: Path
) -> None:
    recordings(tmp_path)
    (tmp_path / "frames_number_4_split_by_number.building").touch()
    with pytest.raises(DataError, match="cannot be opened: Found unfinished"):
        open_data(f"events:nmnist:{tmp_path}", frames=4)


def test_without_spikingjelly_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setitem(sys.modules, "spikingjelly.datasets", None)
    with pytest.raises(DataError, match=r"pip install 'danetc\[spikingjelly\]'"):
        open_data(f"events:nmnist:{tmp_path}", frames=4)
