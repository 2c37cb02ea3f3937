"""Every published network of specs/zoo: short, with its reference, and equal to another's."""

from __future__ import annotations

import pytest
import torch

from danetc.compiler.analysis.summary import summarise
from danetc.compiler.emit.fx import emit
from tests.zoo.harness import NAMES, case_of, compare, file_of, graph
from tests.zoo.page import PAGE, entry_of, own_lines, write_table

MAX_LINES = 30
CASES = [
    pytest.param(name, settings, id=f"{name}-{number}", marks=[pytest.mark.thorough] * (number > 1))
    for name in NAMES
    for number, settings in enumerate(case_of(name).small, 1)
]


@pytest.mark.parametrize(("name", "settings"), CASES)
def test_a_network_is_what_its_reference_is(name: str, settings: dict[str, object]) -> None:
    compare(name, settings)


@pytest.mark.parametrize("name", NAMES)
def test_two_widths_and_two_lengths_are_run(name: str) -> None:
    small = case_of(name).small
    assert len({settings["width"] for settings in small}) >= 2
    assert len({settings["steps"] for settings in small}) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_short_and_says_whose_network_it_is(name: str) -> None:
    assert own_lines(file_of(name).read_text("utf-8")) <= MAX_LINES
    entry = entry_of(name)
    assert entry.paper
    assert entry.differs


@pytest.mark.parametrize("name", NAMES)
def test_the_parameters_are_the_references_and_the_papers(name: str) -> None:
    """At the paper's full size, from the graph alone; the reference is made without memory."""
    case = case_of(name)
    for settings in ({}, *case.published.values()):
        with torch.device("meta"):
            reference = case.network(**settings)
        count = sum(parameter.numel() for parameter in reference.parameters())
        assert summarise(graph(name, settings)).parameters == count
    for said, settings in case.published.items():
        number, _, unit = said.partition(" ")
        count = summarise(graph(name, settings)).parameters
        digits = len(number.partition(".")[2])
        assert f"{count / {'M': 1e6, 'k': 1e3, '': 1}[unit]:.{digits}f}" == number


STARTS = [
    ("diet_snn", "u_learnt", 1.0),
    ("glif", "lost_learnt_raw", -2.70805020110221),  # the logit of 0.0625
    ("masked_psn", "PSN.linear.bias", 0.0),
    ("psn", "PSN.linear.bias", 0.0),
    ("tdbn_resnet19", "norm1.weight", 0.2),
]


@pytest.mark.parametrize(("name", "end", "value"), STARTS, ids=[start[0] for start in STARTS])
def test_numbers_start_as_in_the_authors_code(name: str, end: str, value: float) -> None:
    """A comparison draws all weights, and so does not see where they start."""
    steps = {"steps": 3} if name == "glif" else {}
    model = emit(graph(name, {"width": 2, **steps}), 0)
    found = [start for key, start in model.named_parameters() if key.endswith(end)]
    assert found
    for start in found:
        torch.testing.assert_close(start, torch.full_like(start, value))


def test_the_page_is_up_to_date() -> None:
    """``python -m tests.zoo.page`` writes it."""
    text = PAGE.read_text("utf-8")
    assert write_table(text) == text


def test_the_readme_counts_the_networks() -> None:
    text = PAGE.parents[1].joinpath("README.md").read_text("utf-8")
    assert f"has {len(NAMES)} published networks" in text
