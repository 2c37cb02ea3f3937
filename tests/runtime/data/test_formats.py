"""Image files of formats that another program would have to read."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, Image

from danetc.runtime.data.images import DECODERS, FORMATS, TORCHVISION_FORMATS, Rows, decode_image
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.errors import DataError, UnreadableError
from tests.danetc.datasets import write_shard

from .conftest import pixels

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Is there once Ghostscript was started."""
    marker = tmp_path / "marker"
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "gs"
    program.write_text(f"#!/bin/sh\necho ran >> '{marker}'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    return marker


def folder(root: Path) -> str:
    for split in ("train", "val"):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            (root / split / name / "1.png").write_bytes(EPS)
    return f"folder:{root}"


def webdataset(root: Path) -> str:
    root.mkdir()
    for split in ("train", "val"):
        files = {"0.png": EPS, "0.cls": b"0", "1.png": EPS, "1.cls": b"1"}
        write_shard(root / f"{split}-0.tar", files)
    return f"webdataset:{root}"


def huggingface(root: Path) -> str:
    """Pictures in the column of images; and in one that nothing reads, which is not decoded."""
    datasets = pytest.importorskip("datasets")
    datasets.utils.logging.disable_progress_bar()
    kinds = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["a", "b"]),
            "other": datasets.Image(),
        }
    )
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
    tmp_path: Path, marker: Path, make: Callable[[Path], str]
) -> None:
    text = make(tmp_path / "data")
    with pytest.raises(DataError, match=r"(1\.png|0\.png|row 0).* it is not an image"):
        _ = open_data(text).train[0]
    assert not marker.exists()
    with suppress(OSError, subprocess.CalledProcessError), Image.open(io.BytesIO(EPS)) as image:
        image.load()
    assert marker.exists(), "Pillow would have started it"


def picture(mode: str) -> Image.Image:
    """A smooth picture with a few large fields, whose alpha varies."""
    rows, columns = np.mgrid[:53, :71] / 71
    waves = [np.sin((3 + n) * rows + (5 - n) * columns) * 90 + 128 for n in range(4)]
    image = Image.fromarray(np.stack(waves, 2).astype(np.uint8), "RGBA")
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def encoded(mode: str, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture(mode).save(stream, kind, **options)
    return stream.getvalue()


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
    """Within 1/255 on average; both are equal if their libraries for JPEG and WebP are."""
    data = encoded(mode, kind, **options)
    with Image.open(io.BytesIO(data)) as image:
        expected = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    found = decode_image(data, "1.xyz")
    assert found.dtype == torch.uint8
    assert found.shape == expected.shape
    assert (found.float() - expected).abs().mean() <= 1


def test_images_of_tables_are_those_of_the_library() -> None:
    """Turned by their EXIF data, in their own modes, by whichever decoder."""
    datasets = pytest.importorskip("datasets")
    files = [
        {"bytes": encoded(mode, kind, **options), "path": None} for mode, kind, options in ENCODED
    ]
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


def sixteen_bits() -> bytes:
    """A PNG with colours of 16 bits, whose high bytes are ``pixels``."""
    values = (pixels(0, 8, 8, 3) * np.uint16(256) + 77).astype(">u2")

    def chunk(kind: bytes, content: bytes) -> bytes:
        length, check = (struct.pack(">I", n) for n in (len(content), zlib.crc32(kind + content)))
        return length + kind + content + check

    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in values))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_colours_of_16_bits_keep_their_high_bytes() -> None:
    expected = torch.from_numpy(pixels(0, 8, 8, 3)).permute(2, 0, 1)
    assert torch.equal(decode_image(sixteen_bits(), "1.png"), expected)


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
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (255, 255, 255)).save(stream, name)
    assert decode_image(stream.getvalue(), "1.xyz").float().mean() == 255
