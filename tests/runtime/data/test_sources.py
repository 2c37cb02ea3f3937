"""What is said of data before they are opened: names, places, what lies there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from torchvision.datasets.folder import IMG_EXTENSIONS

from danetc.runtime.data.registry import open_data
from danetc.runtime.data.request import EXTENSIONS
from danetc.runtime.data.sources import SOURCES, look_at
from danetc.runtime.system.errors import DataError
from tests.danetc.datasets import SMALL_DATA, make_folder

FILES = ("npz", "python")
"""Sources that are one file."""
OTHERS = ("huggingface", "tonic")
"""Sources of libraries, which say themselves what is missing."""


@pytest.mark.parametrize("name", FILES)
def test_a_look_sees_whether_a_file_is_there(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SMALL_DATA[name].make(tmp_path / "data")
    _, _, place = text.partition(":")
    look_at(text)
    look_at(place)  # its ending, or its form, says what it is
    assert open_data(place).text == text
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"there is no file `?nowhere"):
        look_at(f"{name}:nowhere.py:make" if name == "python" else f"{name}:nowhere")
    with pytest.raises(DataError, match="has no option `tset`; did you mean `test`"):
        look_at(f"{text},tset=0.2")


@pytest.mark.parametrize("name", SOURCES)
def test_a_look_sees_what_is_there_and_what_is_not(name: str, tmp_path: Path) -> None:
    text = SMALL_DATA[name].make(tmp_path / "data")
    look_at(text)
    if str(tmp_path) not in text:
        return
    assert open_data(text, frames=3).text == text
    if name in (*FILES, *OTHERS):
        return  # below
    for place in (tmp_path / "daat", tmp_path / "data" / "missing"):
        with pytest.raises(DataError) as caught:
            look_at(f"{name}:{place}")
        assert str(place) in str(caught.value)
    for path in sorted((tmp_path / "data").rglob("*"), reverse=True):
        if path.is_file():
            path.rename(path.with_suffix(".old"))
    with pytest.raises(DataError):
        look_at(text)
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match=r"is empty|holds no shards"):
        look_at(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("digits.npz", "there is no data set `digits.npz`; did you mean `digits`?"),
        (
            "csv:t.csv,label=a",
            "no data set `csv:t.csv,label=a`; tables are not read: save their columns",
        ),
        ("a/table.csv", "no data set `a/table.csv`; tables are not read"),
        (
            "masks:data",
            "no data set `masks:data`; folders of masks are not read: write a Dataset, ",
        ),
        ("", "there is no data set ``. Data sets are digits, fashion-mnist:DIR"),
        (":x", "there is no data set `:x`. Data sets are digits, fashion-mnist:DIR"),
        (
            "folder:notes.txt",
            "notes.txt is not a folder; folder:DIR takes one that holds train/CLASS/",
        ),
        (
            "cifar10:nowhere",
            "there is no folder nowhere; cifar10:DIR takes one that holds cifar-10-batches-py/",
        ),
        (
            "webdataset:a/{train,val}.tar",
            "there is no folder a/{train,val}.tar; webdataset:DIR takes",
        ),
        ("digit", "there is no data set `digit`; did you mean `digits`?"),
        ("fashionmnist:x", "did you mean `fashion-mnist`?"),
        ("zzz", "there is no data set `zzz`. Data sets are digits, fashion-mnist:DIR, cifar10:DIR"),
        ("digits:x", "`digits` takes no argument"),
        ("folder:data/images,test=", "the option `test` of `folder` is empty; write test=VALUE"),
        ("folder:data/images,test=a,test=b", "`folder` has the option `test` twice; leave one out"),
        ("folder:data/images,classes=notes.txt", "notes.txt must name 2 or more different classes"),
        (
            "folder:data/images,classes=data/images",
            "data/images is not a file; classes:FILE takes one",
        ),
        ("events:data/images", "data/images/val/cat holds no recordings (.npz, .npy)"),
        ("synthetic:sise=3", "no option `sise`; did you mean `size`?"),
        ("synthetic:size=0", "`0`; it must be a whole number from 1"),
        ("synthetic:size=big", "`big`; it must be a whole number from 1"),
        ("synthetic:count", "must be a whole number from 2"),
        ("synthetic:count=10000000,size=500", "GiB do not fit the limit of 8 GiB"),
        ("folder", "`folder` needs a folder: folder:DIR"),
        ("fashion-mnist", "`fashion-mnist` needs a folder"),
        ("cifar100:", "`cifar100` needs a folder"),
        ("events", "`events` needs a folder"),
        ("webdataset", "`webdataset` needs a folder: webdataset:DIR"),
        ("nothing\x1b[2J", "there is no data set `nothing\\x1b[2J`"),
    ],
)
def test_what_names_no_data_is_told_what_it_may_mean(
    text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "data" / "images")
    (tmp_path / "notes.txt").write_text("")
    for looking in (look_at, open_data):
        with pytest.raises(DataError) as caught:
            looking(text)
        assert told in str(caught.value)


@pytest.mark.parametrize("name", ["folder:", "events:", "cifar10:", "webdataset:", ""])
@pytest.mark.parametrize("place", ["x" * 5000, "a/b\0c"])
def test_names_that_no_file_can_have(name: str, place: str) -> None:
    with pytest.raises(DataError) as caught:
        look_at(name + place)
    assert len(str(caught.value)) < 11000


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(DataError, match="Permission denied"):
        look_at(f"folder:{tmp_path}")


def test_images_end_as_torchvision_has_them() -> None:
    assert set(EXTENSIONS["images"]) == set(IMG_EXTENSIONS)
