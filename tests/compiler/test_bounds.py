"""The cost of a check: every spec of ``tests/adversarial/`` is checked or refused within bounds.

The bounds are counts, which are the same on every machine. ``benchmarks/adversarial.py`` measures the time.
"""

from functools import partial
from pathlib import Path

import pytest

from danetc.compiler.frontend.program import MAX_ERRORS, Checked, check_file, check_text
from danetc.compiler.lowering.stages import StageBuilder
from danetc.compiler.lowering.values import Joined, Wire
from danetc.compiler.warnings import warnings_of
from danetc.dsl import work
from danetc.dsl.diagnostics.suggestions import nearest
from danetc.main import main
from tests.adversarial import SPECS, staged, wild
from tests.compiler.error_cases import errors

PART = 40
SIZE = 100_000 // PART  # a fraction of the benchmark's size, with the same fraction of the bound


@pytest.fixture
def scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "BASE", work.BASE // PART)


AT_RANDOM = {f"wild {seed}": partial(wild, seed) for seed in range(20)}


ACCEPTED = [
    "a_long_flow", "a_long_concatenation", "values_that_double", "a_long_chain_of_values",
    "a_long_chain_backwards", "a_network_of_10000_blocks", "a_dense_network_of_10000_blocks",
    "a_network_of_10000_lines", "many_small_networks", "many_outputs",
    "many_neurons", "many_recipes", "a_recipe_of_many_phases", "files_that_use_all_others", "one_file_used_often",
    "the_library_used_often",
]  # fmt: skip
"""Long files and deep networks are accepted."""


@pytest.mark.usefixtures("scaled")
@pytest.mark.parametrize("name", [*SPECS, *AT_RANDOM])
def test_a_check_stays_within_its_bounds(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {**SPECS, **AT_RANDOM}[name](SIZE)
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    with work.bounded() as spent:
        status = main(["check", "main.danet"])
    out, err = capsys.readouterr()
    assert status in ([0] if name in ACCEPTED else [0, 1])
    assert "internal error" not in err
    assert len(out) + len(err) < 100_000
    characters = sum(map(len, files.values()))
    # twice, because warnings have their own bound; the last operation may take many steps
    assert spent.steps < 2 * (work.BASE + 3 * work.PER_CHARACTER * characters) + 50_000
    assert err.count("\nerror[") <= MAX_ERRORS + 2


@pytest.mark.parametrize("name", ["a_network_of_10000_blocks", "a_network_of_10000_lines"])
def test_steps_grow_with_what_a_spec_says(name: str) -> None:
    def steps(size: int) -> int:
        with work.bounded() as spent:
            check_text(SPECS[name](size)["main.danet"])
        return spent.steps

    small, large = steps(2_500), steps(5_000)
    assert large < 2.1 * small


def test_a_check_that_comes_to_its_bound_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "BASE", 1000)
    text = "use std\n" + staged("stage(basic(4), 50) via origin")
    (error,) = errors(text)
    assert error.code == "E0906"
    assert f"{1000 + work.PER_CHARACTER * len(text):,} steps" in error.message
    assert error.span.source.text == text


def test_names_are_compared_so_often_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "MAX_COMPARED", 6000)
    known = [f"name_{number}" for number in range(100)]
    with work.bounded():
        often = work.MAX_COMPARED // (len(known) * len("nmae_7"))
        assert all(nearest("nmae_7", known) for _ in range(often))
        assert nearest("nmae_7", known) == ()
    assert nearest("nmae_7", known)


WIRINGS = [
    f"stage({block}, 5) via {connection} by {rule}"
    for connection, block in [
        ("origin", "basic(4)"), ("sew", "basic(4)"), ("sew_iand", "bottleneck(1)"),
        ("pa_b", "bottleneck(2)"), ("ms", "basic(4)"),
    ]
    for rule in ("chain", "densely_additive", "densely_additive_all")
]  # fmt: skip
WIRINGS += [
    "stage(dense(4), 5) via dense_layer by densely_concatenated",
    "(stage(basic(4), 3) -> stage(basic(8), 3, stride = 2) -> stage(basic(8), 3)) via origin",
    "stage(basic(4), 3) via origin -> stage(basic(4), 3) via origin with (neuron = LIF)",
    "stage(by_index, 4)",
    "stage(with_drops(0.2), 4) via origin",
]
BLOCKS = """
block by_index { out = in -> conv(4 if i == 0 else 4, kernel = 2 * i + 1) -> norm -> spike }
block with_drops(p) = conv(4) -> dropout(p) -> conv(4)
"""


SHIPPED = ["danet_c_r34", "sew_r18", "ms_resnet18", "spiking_densenet121", "danet_a_dense_r34"]


@pytest.mark.parametrize("text", [*WIRINGS, *SHIPPED])
def test_a_copied_block_equals_a_lowered_one(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def checked() -> Checked:
        if text in SHIPPED:
            return check_file(text)
        return check_text(f"use std\n{BLOCKS}{staged(text)}")

    def lowered_again(stage: StageBuilder, feed: Wire, i: int, start: Wire | None) -> Joined:
        return stage.lowering.build_block(stage.stage, feed, i, start)

    copied = checked()
    monkeypatch.setattr(StageBuilder, "_joined", lowered_again)
    for name, worked_out in checked().lowered.items():
        graph = worked_out.graph
        other = copied.lowered[name]
        assert other.graph == graph
        places = [str(node.origin) for node in graph.nodes.values()]
        assert [str(node.origin) for node in other.graph.nodes.values()] == places
        for notes in ("used", "written_at"):
            now, then = (getattr(each, notes).items() for each in (other, worked_out))
            assert {id: str(span) for id, span in now} == {id: str(span) for id, span in then}
        assert other.resets.keys() == worked_out.resets.keys()
    assert [*map(str, warnings_of(copied))] == [*map(str, warnings_of(checked()))]


def test_a_body_is_searched_for_delays_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search is not repeated for each of the definitions, which may be thousands."""
    asked: list[str] = []
    monkeypatch.setattr("danetc.compiler.lowering.loops.cuts", asked.append)
    text = SPECS["a_network_of_10000_lines"](3_000)["main.danet"]
    check_text(text)
    assert 0 < len(asked) < 10 * text.count("=")
