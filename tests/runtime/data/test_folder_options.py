"""Folders with splits of any names, lists of classes, and a share that is held out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from danetc.runtime.data import DataError, open_data


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, count in (("learn", 4), ("exam", 2)):
        for name in ("ant", "bee", "cow"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "data"


def test_splits_of_other_names_and_a_list_of_classes(root: Path, tmp_path: Path) -> None:
    data = open_data(f"folder:{root},train=learn,test=exam")
    assert (len(data.train), len(data.test), data.class_names) == (12, 6, ("ant", "bee", "cow"))
    (tmp_path / "classes.txt").write_text("cow\nant\n")
    some = open_data(f"folder:{root},train=learn,test=exam,classes={tmp_path / 'classes.txt'}")
    assert some.class_names == ("cow", "ant")
    folders = [Path(some.train.where(number)).parent.name for number in range(8)]
    assert [("cow", "ant")[label] for label in some.train.labels.tolist()] == folders
    assert open_data(f"folder:{root},train=learn,test=exam,classes=cow;ant").fingerprint == some.fingerprint  # fmt: skip


def test_a_share_of_one_folder_is_held_out(root: Path) -> None:
    data = open_data(f"folder:{root / 'learn'},test=0.25")
    assert (len(data.train), len(data.test)) == (9, 3)
    assert data.test.labels.tolist() == [0, 1, 2]
    paths = {source.where(n) for source in (data.train, data.test) for n in range(len(source))}
    assert len(paths) == 12
    other = open_data(f"folder:{root / 'learn'},test=0.5")
    assert other.fingerprint != data.fingerprint
    assert len(open_data(f"folder:{root},train=exam,test=0.5").test) == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("", "has no folder `train` or `training`; it has exam, learn (say ,train=NAME)"),
        (",train=learn", "no folder `val` or `test`"),
        (",train=laern,test=exam", "has no folder `laern`; did you mean `learn`?"),
        (",train=learn,test=exams", "has no folder `exams`; did you mean `exam`?"),
        (",train=learn,test=exam,classes=ant;fox", "has no class folder `fox`"),
        (",train=learn,test=exam,classes=ant;ant", "the class `ant` twice"),
        (",layout=hwc", "`folder` has no option `layout`"),
    ],
)
def test_what_is_not_there_is_said(root: Path, options: str, told: str) -> None:
    with pytest.raises(DataError, match=re.escape(told)):
        open_data(f"folder:{root}{options}")
