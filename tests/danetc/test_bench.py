"""``danetc bench``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from danetc.errors import UserError
from danetc.runtime.bench.alone import Alone
from danetc.tasks import benchmark

from .conftest import Run

QUICK = ("--rounds", "2", "--batch", "2", "--threads", "1")


@pytest.mark.thorough
def test_a_network_without_counterparts(
    danetc: Run, small: Path, together: list[Sequence[str]]
) -> None:
    """What would be started measures the network alone."""
    result = danetc("bench", small, "--backends", "eager", *QUICK, "--json")
    assert result.status == 0, result.err
    record = json.loads(result.out)
    assert (record["network"], record["steps"], record["images"]) == ("small", 2, 2)
    assert record["size"] == [1, 8, 8]
    (row,) = record["candidates"]
    assert row["name"] == record["base"] == "danetc eager"
    assert len(row["samples"]) == 2
    assert row["time_ratio"] == row["saved_ratio"] == row["peak_ratio"] == 1.0
    ((*python, _, command),) = [(*each[:2], each[2], each[3:]) for each in together]
    assert python == [sys.executable, "-m"]
    done = danetc(*command)
    alone = Alone(**json.loads(done.out.splitlines()[-1]))
    assert alone.peak is not None
    assert 0 < row["saved_bytes"] <= alone.peak
    assert alone.first > alone.later > 0
    assert [note.split(":")[0] for note in record["notes"]] == [
        "no counterpart in torchvision",
        "no counterpart in SpikingJelly",
    ]


@pytest.mark.thorough
def test_counterparts_get_as_many_images(danetc: Run, together: list[Sequence[str]]) -> None:
    pytest.importorskip("spikingjelly")
    result = danetc(
        "bench", "sew_r18", "--image", "32", "--set", "classes=5", "--set", "steps=2", "--json",
        "--backends", "eager", "--rounds", "1", "--batch", "2", "--threads", "1",
    )  # fmt: skip
    assert result.status == 0, result.err
    record = json.loads(result.out)
    rows = {row["name"]: row for row in record["candidates"]}
    assert {name: row["images"] for name, row in rows.items()} == {
        "torchvision resnet18": 4,
        "SpikingJelly sew_resnet18": 2,
        "danetc eager": 2,
    }
    assert record["base"] == "torchvision resnet18"
    assert record["notes"] == []
    saved = {name: row["saved_bytes"] for name, row in rows.items()}
    assert saved["torchvision resnet18"] < saved["danetc eager"]
    assert saved["danetc eager"] < saved["SpikingJelly sew_resnet18"]
    for command, name in zip(together, rows, strict=True):
        assert list(command[1:4]) == ["-m", "danetc", "bench"]
        assert command[-1] == "sew_r18"
        assert ["--alone", name] == list(command[command.index("--alone") :][:2])
        assert "classes=5" in command


@pytest.mark.thorough
def test_the_table_and_the_figure(danetc: Run, small: Path, together: list[Sequence[str]]) -> None:
    pytest.importorskip("matplotlib")
    figure = small.with_name("figure.svg")
    result = danetc("bench", small, "--backends", "fused,eager,other", *QUICK, "--plot", figure)
    assert result.status == 0, result.err
    assert result.out.startswith("small, T = 2, N = 2, 1 x 8 x 8, float32, cpu, 1 thread;")
    lines = {line.split("  ")[0]: line.split() for line in result.out.splitlines()}
    assert lines["danetc fused"][5] == "1.00"
    assert lines["danetc eager"][-3:-1] == ["2.0", "1.00"]
    assert "ratios to danetc fused" in result.out
    assert "left out: backend other: there is none of this name" in result.out
    assert "<svg" in figure.read_text(encoding="utf-8")


def test_an_image_size_without_a_parameter_for_it(
    danetc: Run, small: Path, together: list[Sequence[str]]
) -> None:
    result = danetc("bench", small, "--image", "12", "--backends", "eager", *QUICK)
    assert result.status == 1
    assert "small.danet has no parameter `image` for the size of its images" in result.err
    other = "input=image(1, 12, 12)"
    assert f"--set '{other}'" in result.err
    result = danetc("bench", small, "--set", other, "--backends", "eager", *QUICK)
    assert result.status == 0, result.err
    assert "1 x 12 x 12" in result.out


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (("--backends", "none"), 1, "backend none: there is none of this name"),
        (("--backends", "eager,,fused"), 2, "name backends with commas"),
        (("--plot", "figure.pdf"), 1, "ends in .svg or .png"),
        (("--plot", "nowhere/figure.svg"), 1, "no such folder"),
        (("--alone", "torchvision resnet18"), 1, "torchvision resnet18 takes no part"),
        (("--rounds", "0"), 2, "--rounds"),
    ],
)
def test_what_cannot_be_measured(
    danetc: Run, small: Path, options: tuple[str, ...], status: int, message: str
) -> None:
    result = danetc("bench", small, *options)
    assert result.status == status
    assert message in result.err


def test_a_process_that_fails_says_why() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('out of luck')"]
    with pytest.raises(UserError, match=r"measures it ended with status 1\nout of luck"):
        benchmark.in_own_process(command, "it")


def test_a_process_of_its_own_has_no_compiled_kernels() -> None:
    program = (
        "import json, os; folder = os.environ['DANETC_CACHE_DIR'];"
        "assert not os.listdir(folder); print('noise');"
        "print(json.dumps({'first': 1.0, 'later': 0.5, 'peak': 2, 'resident': None}))"
    )
    assert benchmark.in_own_process([sys.executable, "-c", program], "it") == Alone(
        1.0, 0.5, 2, None
    )
