"""Image files of formats that another program would have to read."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import EpsImagePlugin, Image

from danetc.runtime.data import DataError, open_data
from danetc.runtime.data.images import FORMATS, decode_image

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


def png(value: int = 0, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (8, 8), value).save(stream, "PNG")
    return stream.getvalue()


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
        with tarfile.open(root / f"{split}-0.tar", "w") as shard:
            for number in range(2):
                for ending, data in (("png", EPS), ("cls", str(number).encode())):
                    entry = tarfile.TarInfo(f"{number}.{ending}")
                    entry.size = len(data)
                    shard.addfile(entry, io.BytesIO(data))
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


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_read_whatever_its_file_is_called(name: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (255, 255, 255)).save(stream, name)
    assert decode_image(stream.getvalue(), "1.xyz").float().mean() == 255
