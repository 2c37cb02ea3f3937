"""Image files, including formats that only another program could read, and images in tar shards."""

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from danetc.runtime.data.dataset import DataSet
from danetc.runtime.data.images import DECODERS, FORMATS, TORCHVISION_FORMATS, Rows, decode_image
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.errors import DataError, UnreadableError
from danetc.runtime.system.files import replace_file
from tests.danetc.datasets import write_shard

from .conftest import Trap, class_folders, pixels, refused, saved

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def folder(root: Path) -> str:
    for *_, path in class_folders(root, {"train": 1, "val": 1}, ("a", "b")):
        path.with_name("1.png").write_bytes(EPS)
    return f"folder:{root}"


def webdataset(root: Path) -> str:
    root.mkdir()
    for split in ("train", "val"):
        files = {"0.png": EPS, "0.cls": b"0", "1.png": EPS, "1.cls": b"1"}
        write_shard(root / f"{split}-0.tar", files)
    return f"webdataset:{root}"


def huggingface(root: Path) -> str:
    """Images are in the image column, and in another column that is neither read nor decoded."""
    datasets = pytest.importorskip("datasets")
    datasets.utils.logging.disable_progress_bar()
    label, image = datasets.ClassLabel(names=["a", "b"]), datasets.Image()
    kinds = datasets.Features({"image": image, "label": label, "other": image})
    file = {"bytes": EPS, "path": "1.png"}
    rows = {"image": [file] * 4, "label": [0, 1, 0, 1], "other": [file] * 4}
    table = datasets.Dataset.from_dict(rows, features=kinds)
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk(str(root))
    return f"huggingface:{root}"


@pytest.mark.skipif(sys.platform == "win32", reason="the program is a shell script")
@pytest.mark.parametrize(
    "make", [folder, webdataset, pytest.param(huggingface, marks=pytest.mark.thorough)]
)
def test_no_image_starts_a_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], str]
) -> None:
    """This includes a program with the name of Ghostscript, which Pillow would start."""
    marker, program = tmp_path / "marker", tmp_path / "gs"
    program.write_text(f"#!/bin/sh\necho ran >> '{marker}'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    text = make(tmp_path / "data")
    with pytest.raises(DataError, match=r"(1\.png|0\.png|row 0).* it is not an image"):
        _ = open_data(text).train[0]
    assert not marker.exists()
    with suppress(OSError, subprocess.CalledProcessError), Image.open(io.BytesIO(EPS)) as image:
        image.load()
    assert marker.exists(), "Pillow would have started it"


def picture(mode: str) -> Image.Image:
    """A smooth picture with a few large fields and varying alpha."""
    rows, columns = np.mgrid[:53, :71] / 71
    waves = [np.sin((3 + n) * rows + (5 - n) * columns) * 90 + 128 for n in range(4)]
    image = Image.fromarray(np.stack(waves, 2).astype(np.uint8), "RGBA")
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def encoded(mode: str, kind: str, **options: Any) -> bytes:
    return saved(picture(mode).save, kind, **options)


ROTATED = Image.Exif()
ROTATED[0x112] = 6
ENCODED: list[tuple[str, str, dict[str, Any]]] = [
    *(("RGB", "JPEG", {"quality": 90, "subsampling": each}) for each in range(3)),
    ("RGB", "JPEG", {"quality": 30, "progressive": True}),
    ("RGB", "JPEG", {"keep_rgb": True}),
    ("RGB", "JPEG", {"exif": ROTATED}),
    ("RGB", "MPO", {"save_all": True, "append_images": [picture("RGB")]}),
    *((mode, "JPEG", {}) for mode in ("L", "CMYK")),
    *((mode, "PNG", {}) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
    *(("P", "PNG", {"bits": bits, "transparency": 1}) for bits in (1, 2, 4, 8)),
    ("RGB", "PNG", {"transparency": (128, 128, 128)}),
    *((mode, "WEBP", {"lossless": each}) for mode in ("RGB", "RGBA") for each in (True, False)),
    ("RGB", "WEBP", {"save_all": True, "append_images": [picture("RGB").rotate(90)]}),
    *((mode, "GIF", {}) for mode in ("L", "P")),
    *(("RGB", kind, {}) for kind in ("BMP", "PPM", "TIFF")),
]


@pytest.mark.parametrize(("mode", "kind", "options"), ENCODED)
def test_pixels_are_those_of_pillow(mode: str, kind: str, options: dict[str, Any]) -> None:
    """Pixels agree within 1/255 on average, and are equal if the JPEG and WebP libraries are."""
    data = encoded(mode, kind, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    found = decode_image(data, "1.xyz")
    assert found.dtype == torch.uint8
    assert found.shape == expected.shape
    assert (found.float() - expected).abs().mean() <= 1


def test_images_of_tables_are_those_of_the_library() -> None:
    """Images are rotated by their EXIF data and keep their modes, with either decoder."""
    datasets = pytest.importorskip("datasets")
    files = [{"bytes": encoded(mode, kind, **more), "path": None} for mode, kind, more in ENCODED]
    kinds = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    rows = {"image": files, "label": [0] * len(files)}
    table = datasets.Dataset.from_dict(rows, features=kinds)
    ours = Rows(table, "image", "label")
    tensors = 0
    for number in range(len(files)):
        found, expected = ours[number][0], np.asarray(table[number]["image"])
        if isinstance(found, torch.Tensor):
            tensors += 1
            found = found.permute(1, 2, 0)
        assert np.array_equal(np.asarray(found), expected)
    assert tensors > 10


def test_colours_of_16_bits_keep_their_high_bytes() -> None:
    colours = pixels(0, 8, 8, 3)
    values = (colours * np.uint16(256) + 77).astype(">u2")

    def chunk(kind: bytes, content: bytes) -> bytes:
        length, check = (struct.pack(">I", n) for n in (len(content), zlib.crc32(kind + content)))
        return length + kind + content + check

    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in values))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    expected = torch.from_numpy(colours).permute(2, 0, 1)
    assert torch.equal(decode_image(data, "1.png"), expected)


@pytest.mark.parametrize("kind", TORCHVISION_FORMATS)
def test_what_is_decoded_is_whole_and_not_too_large(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = encoded("RGB", kind)
    with pytest.raises(UnreadableError, match=r"^a\.jpg cannot be read: .*\w"):
        decode_image(data[: len(data) // 2], "a.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 53 * 71 // 2 - 1)
    with pytest.raises(UnreadableError, match=r"exceeds limit of .* pixels"):
        decode_image(data, "a.jpg")


def test_torchvision_decodes_and_its_version_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    jpeg, bmp = (encoded("RGB", kind) for kind in ("JPEG", "BMP"))
    monkeypatch.setattr(Image.Image, "convert", None)
    assert decode_image(jpeg, "a.jpg").shape == (3, 53, 71)
    with pytest.raises(UnreadableError):
        decode_image(bmp, "a.bmp")
    assert f"torchvision {version('torchvision')}, Pillow {version('pillow')}" == DECODERS


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_whatever_its_file_is_called(name: str) -> None:
    white = saved(Image.new("RGB", (8, 8), (255, 255, 255)).save, name)
    assert decode_image(white, "1.xyz").float().mean() == 255


# -- tar shards, against the webdataset library, which writes and reads them ---------------------------


def png(seed: int) -> bytes:
    image = Image.fromarray(pixels(seed, 12, 10 + seed % 3, 3))
    return saved(image.save, format="PNG")


@pytest.fixture
def shards(here: Path) -> Path:
    """3 + 1 shards of 4 samples in 4 classes, with long nested names. One has an extra file per sample."""
    webdataset = pytest.importorskip("webdataset")
    for split, number in (("train", 0), ("train", 1), ("train", 2), ("val", 0)):
        more = {"json": {"label": 99}} if number == 1 else {}
        with webdataset.TarWriter(f"{split}-{number:02}.tar") as writer:
            for each in range(4):
                seed = 100 * (split == "val") + 10 * number + each
                key = f"part.{number}/n{'x' * 120}/{seed:04}"
                writer.write({"__key__": key, "png": png(seed), "cls": each, **more})
    return here


def test_shards_are_read_as_the_library_reads_them(shards: Path) -> None:
    import webdataset

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


def test_wrong_shards_are_explained(shards: Path) -> None:
    text, val, path = f"webdataset:{shards}", shards / "val-00.tar", shards / "train-01.tar"
    whole = path.read_bytes()
    for content in (b"\xff" * 2048, gzip.compress(whole)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"train-01.tar cannot be read .*damaged, or not a"):
            open_data(text)
    path.write_bytes(whole)
    val.unlink()
    refused("none of the 3 shards is for testing", text)
    write_shard(val, {"a.png": png(0), "a.cls": b"4"})
    with pytest.raises(DataError, match=r"testing have the class 4, .* have 4 classes \(0 to 3\)"):
        open_data(text)
    for number in range(3):
        (shards / f"train-0{number}.tar").unlink()
    path = shards / "train-00.tar"
    lacks = f"the sample a in {path} has no"
    for files, told in (
        ({"a.png": b"", "b.png": b"", "b.cls": b"0"}, f"{lacks} label (.cls)"),
        ({"a.cls": b"0", "a.txt": b""}, f"{lacks} image"),
        ({"a.png": b"", "a.cls": b"dog"}, "is `dog`; it must be a class number"),
        ({"a.png": b"", "a.cls": b"-1"}, "is `-1`; it must be"),
        ({"a.png": b"", "a.cls": b"1"}, "labels up to 1, but none of class 0"),
        ({}, "holds no samples"),
    ):
        write_shard(path, files)
        refused(told, text)
    val.unlink()
    path.unlink()
    other = shards / "other"
    other.mkdir()
    refused("holds no shards (*.tar)", text)
    (other / "constraint-00.tar").write_bytes(b"")  # neither train nor test
    refused("does not say whether it is for training or testing", f"webdataset:{other}")


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
        changed("places", np.zeros((16, 3), np.int64)),  # no sample in the last shards
        changed("places", np.arange(48).reshape(16, 3)),
        changed("names", 1),
        lambda file: np.save(file.open("wb"), np.arange(3)),
        changed("names", np.array([Trap(Path("ran"))], object)),
    ],
)
def test_a_damaged_index_is_made_anew(shards: Path, reads: list[str], damage: Any) -> None:
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
