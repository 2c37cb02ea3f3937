"""Images in tar shards, against the webdataset library, which writes and reads them."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from danetc.runtime.data.dataset import DataSet
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.errors import DataError, UnreadableError
from danetc.runtime.system.files import replace_file
from tests.danetc.datasets import write_shard

from .conftest import Trap, pixels

webdataset = pytest.importorskip("webdataset")


def encoded(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(seed, 12, 10 + seed % 3, 3)).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """3 + 1 shards of 4 samples of 4 classes; one has more files a sample, deep names, folders."""
    for split, numbers in (("train", range(3)), ("val", range(1))):
        for number in numbers:
            with webdataset.TarWriter(str(tmp_path / f"{split}-{number:02}.tar")) as writer:
                for each in range(4):
                    seed = 100 * (split == "val") + 10 * number + each
                    sample: dict[str, Any] = {
                        "__key__": f"part.{number}/n{'x' * 120}/{seed:04}",
                        "png": encoded(seed),
                        "cls": each,
                    }
                    if number == 1:
                        sample["json"] = {"label": 99}
                    writer.write(sample)
    return tmp_path


def test_shards_are_read_as_the_library_reads_them(shards: Path) -> None:
    data = open_data(f"webdataset:{shards}")
    assert (data.classes, len(data.train), len(data.test)) == (4, 12, 4)
    for split, source in (("train-{00..02}", data.train), ("val-00", data.test)):
        stream = webdataset.WebDataset(f"{shards}/{split}.tar", shardshuffle=False)
        found = list(stream.decode("torchrgb").to_tuple("png", "cls", "__key__"))
        assert len(found) == len(source)
        for index, (image, label, key) in enumerate(found):
            ours, our_label = source[index]
            assert torch.equal(ours.float() / 255, image)
            assert our_label == label
            assert key in source.where(index)
            assert ".tar" in source.where(index)


def test_without_shards_of_a_split(shards: Path) -> None:
    (shards / "val-00.tar").unlink()
    with pytest.raises(DataError, match="none of the 3 shards is for testing"):
        open_data(f"webdataset:{shards}")


def test_a_folder_without_shards_and_a_name_without_a_split(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    with pytest.raises(DataError, match=r"holds no shards \(\*.tar\)"):
        open_data(f"webdataset:{tmp_path}")
    (tmp_path / "shards" / "constraint-00.tar").write_bytes(b"")  # neither train nor test
    with pytest.raises(DataError, match="does not say whether it is for training or testing"):
        open_data(f"webdataset:{tmp_path / 'shards'}")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.png": b"", "b.png": b"", "b.cls": b"0"}, r"the sample a in .* has no label \(.cls\)"),
        ({"a.cls": b"0", "a.txt": b""}, "the sample a in .* has no image"),
        ({"a.png": b"", "a.cls": b"dog"}, "is `dog`; it must be a class number"),
        ({"a.png": b"", "a.cls": b"-1"}, "is `-1`; it must be"),
        ({"a.png": b"", "a.cls": b"1"}, "labels up to 1, but none of class 0"),
        ({}, "holds no samples"),
    ],
)
def test_wrong_samples_are_explained(shards: Path, files: dict[str, bytes], message: str) -> None:
    for number in range(3):
        (shards / f"train-0{number}.tar").unlink()
    write_shard(shards / "train-00.tar", files)
    with pytest.raises(DataError, match=message):
        open_data(f"webdataset:{shards}")


def test_a_class_that_only_the_tests_have_is_an_error(shards: Path) -> None:
    write_shard(shards / "val-00.tar", {"a.png": encoded(0), "a.cls": b"4"})
    with pytest.raises(DataError, match=r"testing have the class 4, .* have 4 classes \(0 to 3\)"):
        open_data(f"webdataset:{shards}")


def test_damaged_and_packed_shards_are_named(shards: Path) -> None:
    path = shards / "train-01.tar"
    for content in (b"\xff" * 2048, gzip.compress(path.read_bytes())):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"train-01.tar cannot be read .*damaged, or not a"):
            open_data(f"webdataset:{shards}")


def test_an_unreadable_image_names_its_place_and_nothing_is_unpickled(shards: Path) -> None:
    trap = Trap(shards / "trap")
    files = {"a.cls": b"0", "a.pyd": pickle.dumps(trap), "a.png": b"no image"}
    write_shard(shards / "train-00.tar", files)
    data = open_data(f"webdataset:{shards}")
    with pytest.raises(UnreadableError, match=r"a.png in .*train-00.tar cannot be read: it is no"):
        data.train[0]
    assert not trap.path.exists()


# -- the saved index -------------------------------------------------------------------------------


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The shards whose headers are read."""
    found: list[str] = []
    whole = tarfile.open

    def opened(path: Path, mode: str) -> Any:
        found.append(path.name)
        return whole(path, mode)

    monkeypatch.setattr(tarfile, "open", opened)
    return found


ALL = ["train-00.tar", "train-01.tar", "train-02.tar", "val-00.tar"]


def the_index(folder: Path) -> Path:
    (found,) = folder.glob(".danetc-index-*.npz")
    return found


def contents(data: DataSet) -> list[Any]:
    sides = [
        [(source.where(n), source[n][0].tolist(), source[n][1]) for n in range(len(source))]
        for source in (data.train, data.test)
    ]
    return [data.fingerprint, data.describe(), *sides]


def test_the_headers_are_read_once(shards: Path, reads: list[str]) -> None:
    first = contents(open_data(f"webdataset:{shards}"))
    assert reads == ALL
    assert contents(open_data(f"webdataset:{shards}")) == first
    assert reads == ALL
    os.utime(shards / "train-01.tar", (1, 1))
    assert contents(open_data(f"webdataset:{shards}")) == first
    assert reads == [*ALL, *ALL]


def test_of_several_processes_one_reads_the_headers(
    shards: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []
    save = "danetc.runtime.data.files.replace_file"
    monkeypatch.setattr(save, lambda *given: (written.append(given[0]), replace_file(*given)))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(open_data, [f"webdataset:{shards}"] * 4))
    assert written == [the_index(shards)]
    assert len({each.fingerprint for each in found}) == 1
    assert reads == ALL


def changed(place: str, value: object) -> Callable[[Path], object]:
    """A file whose arrays have been changed, as somebody could do it."""

    def change(file: Path) -> None:
        with np.load(file) as loaded:
            arrays = dict(loaded)
        arrays[place] = np.asarray(value)
        np.savez(file, **arrays)

    return change


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(file.read_bytes()[:-300]),
        lambda file: file.write_bytes(file.read_bytes().replace(b"part.1/", b"part.7/", 1)),
        lambda file: np.savez(file, names=np.zeros(3)),
        changed("labels", np.full(16, -1)),
        changed("labels", np.full(16, 10**9)),
        changed("labels", np.zeros(15, np.int64)),
        changed("places", np.zeros((16, 3), np.int64)),  # none in the last shards
        changed("places", np.arange(48).reshape(16, 3)),
        changed("names", 1),
        lambda file: np.save(file.open("wb"), np.arange(3)),
        changed("names", np.array([Trap(Path("ran"))], object)),
    ],
)
def test_a_damaged_index_is_made_anew(
    shards: Path, reads: list[str], damage: Callable[[Path], object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(shards)
    first = contents(open_data(f"webdataset:{shards}"))
    whole = the_index(shards).read_bytes()
    damage(the_index(shards))
    assert contents(open_data(f"webdataset:{shards}")) == first
    assert reads == [*ALL, *ALL]
    assert the_index(shards).read_bytes() == whole
    assert not Path("ran").exists()


def test_a_folder_that_cannot_be_written_to(
    shards: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DANETC_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != shards)
    first = contents(open_data(f"webdataset:{shards}"))
    assert contents(open_data(f"webdataset:{shards}")) == first
    assert reads == ALL
    assert the_index(tmp_path / "cache" / "kernels").is_file()
    assert not list(shards.glob(".danetc*"))
