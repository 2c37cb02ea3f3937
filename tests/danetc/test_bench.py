"""``danetc bench``."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Run

QUICK = ("--rounds", "2", "--batch", "2", "--threads", "1")


@pytest.mark.usefixtures("short_samples")
def test_both_backends_are_measured(danetc: Run, small: Path) -> None:
    record = danetc.json("bench", small, *QUICK)
    assert (record["network"], record["steps"], record["batch"]) == ("small", 2, 2)
    assert (record["size"], record["threads"]) == ([1, 8, 8], 1)
    assert [row["backend"] for row in record["backends"]] == ["eager", "fused"]
    for row in record["backends"]:
        assert 0 < row["forward"] < row["step"]
        assert row["peak"] > 0
        assert row["first"] > 0
    events = danetc.passes("bench", small, *QUICK, "--set", "input=events(2, 12, 12)")
    head, _, heads, _, eager, fused, last = events.out.splitlines()
    assert head == "small, T = 2, N = 2, 2 x 12 x 12, float32, cpu, 1 thread"
    assert "forward s" in heads
    assert (eager.split()[0], fused.split()[0]) == ("eager", "fused")
    assert last.startswith("medians of interleaved rounds; fused / eager: ")


def test_what_cannot_be_measured(danetc: Run, small: Path) -> None:
    assert danetc("bench", small, "--rounds", "0").status == 2
