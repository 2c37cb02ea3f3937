"""Frames of events in files."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from danetc.runtime.data.registry import open_data
from danetc.runtime.system.errors import DataError, UnreadableError

from .conftest import MakeEvents, Trap, saved


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
