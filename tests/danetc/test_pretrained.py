"""The trained networks that come with danetc: each gives what is stated of it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from danetc.pretrained import PREFIX, directory_of, pretrained_names
from danetc.reference import topic

from .conftest import Run

NAMES = pretrained_names()
ALL_DIGITS = True
FOLDER = Path(sys.modules["danetc.pretrained"].__file__ or "").parent
LEFT_OUT = {"checkpoints", "tensorboard", "tensorboard.json", ".lock"}
MOST_BYTES = 5_000_000


def stated_of(name: str) -> Any:
    """What stands in its training.json."""
    return json.loads((directory_of(PREFIX + name) / "training.json").read_text("utf-8"))


BUILT_IN = [name for name in NAMES if stated_of(name)["data"] == "digits"]
"""Those whose data come with danetc, too."""


@pytest.mark.parametrize("name", BUILT_IN)
def test_it_classifies_as_well_as_is_stated(danetc: Run, name: str) -> None:
    """To two images: a machine may round otherwise than the one that trained it."""
    stated = stated_of(name)
    (found,) = danetc.json("eval", PREFIX + name)["evaluated"]
    (figures,) = found["results"]
    assert found["data"] == stated["data"]
    assert abs(figures["top1"] - stated["test_accuracy"]) <= 2 / figures["images"]
    assert stated["test_accuracy"] > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_its_folder_is_small_and_names_no_machine(name: str) -> None:
    files = list(directory_of(PREFIX + name).rglob("*"))
    assert not {each.name for each in files} & LEFT_OUT
    assert sum(each.stat().st_size for each in files) < MOST_BYTES
    facts = json.loads((directory_of(PREFIX + name) / "run.json").read_text())["facts"]
    assert facts["command"][0] == "danetc"
    assert not [word for word in facts["command"] if Path(word).is_absolute()]
    for path in files:
        if path.suffix in (".json", ".py", ".danet", ".graph", ".csv", ".svg"):
            assert not re.search(r"/(home|root|work|Users)/", path.read_text(encoding="utf-8"))


def test_they_are_the_folders_and_listed(danetc: Run) -> None:
    assert {each.name for each in FOLDER.iterdir() if each.is_dir()} - {"__pycache__"} == {*NAMES}
    listed = danetc("list", "pretrained").out
    for entry, name in zip(topic("pretrained"), NAMES, strict=True):
        stated = stated_of(name)
        assert entry.name == PREFIX + name
        assert f"{stated['test_accuracy']:.2%}" in entry.summary
        assert entry.summary in listed
    assert tuple(PREFIX + name for name in pretrained_names()) == tuple(
        entry.name for entry in topic("pretrained")
    )


def test_a_name_that_is_not_there_gets_a_hint(danetc: Run) -> None:
    wrong = PREFIX + NAMES[0][:-1]
    for line in (
        f"eval {wrong}",
        f"export {wrong} -o w.safetensors",
        f"measure {wrong} --data digits",
        f"build danet_c_small --init {wrong}",
        f"train danet_c_small --data digits --init {wrong}",
    ):
        danetc.fails(f"did you mean `{NAMES[0]}`", *line.split())
