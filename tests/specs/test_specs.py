"""Each shipped spec parses, finds all its names, and declares the network that its file is named after."""

from pathlib import Path

import pytest

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.frontend.resolved import resolved_spec
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.loading import Module, load_module
from danetc.dsl.reading import ZOO, read_source, shipped_specs
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.printer import format_source
from danetc.dsl.syntax.tree import Name, walk

ROOT = Path(__file__).parents[2]
FOLDERS = [ROOT / folder for folder in ("dsl/std", "specs", "results")]
WRITTEN = [path for folder in FOLDERS for path in sorted(folder.rglob("*.danet"))]
FAMILIES = ("danet_a", "danet_b", "danet_c", "danet_d", "origin", "tdbn", "baa", "sew")
DEPTHS = (18, 34, 50, 101, 152)


def load(name: str) -> Module:
    reporter = Reporter()
    module = load_module(shipped_specs()[name], reporter)
    reporter.raise_if_errors()
    return module


def test_the_networks_of_the_paper_are_there() -> None:
    wanted = {f"spiking_densenet{depth}" for depth in (121, 161, 201)}
    wanted |= {f"ms_resnet{depth}" for depth in (18, 34, 104)}
    wanted |= {"danet_c_small", "averaged_r34", "own_neuron", "own_connection", "own_rule"}
    assert wanted <= set(shipped_specs())


@pytest.mark.parametrize("name", shipped_specs())
def test_a_spec_declares_the_one_network_of_its_name(name: str) -> None:
    module = load(name)
    networks = [item.name for item in module.own.values() if item.kind == "network"]
    assert networks == [name.rpartition("/")[2]]


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_a_file_is_in_the_style_of_fmt(path: Path) -> None:
    source = read_source(str(path))
    assert format_source(parse(source, Reporter())) == source.text


@pytest.mark.parametrize("name", [name for name in shipped_specs() if not name.startswith(ZOO)])
def test_networks_take_what_the_issue_names(name: str) -> None:
    """``classes``, ``image``, ``steps`` and ``width`` are parameters of a network or its bases.

    A spec has at most 30 lines and starts with a comment on what it is.
    """
    text = shipped_specs()[name].read_text("utf-8")
    assert text.startswith("# ")
    assert len(text.splitlines()) <= 30
    module = load(name)
    declaration = module.own[name]
    parameters = {param.name for param in declaration.params}
    while declaration.value is not None:
        found = module.names[declaration.value.function.id]
        declaration, module = found.declaration, found.module
        parameters |= {param.name for param in declaration.params}
    assert {"classes", "image", "steps", "width"} <= parameters


def used(name: str) -> set[str]:
    return {node.id for node in walk(load(name).own[name]) if isinstance(node, Name)}


def test_a_name_says_the_backbone_and_the_rule() -> None:
    for family in FAMILIES:
        for depth in DEPTHS:
            words = {word for word in used(f"{family}_r{depth}") if word.startswith("resnet")}
            assert words == {f"resnet{depth}"}
    for dense, base in (("danet_c", "origin"), ("danet_d", "baa")):
        for depth in DEPTHS:
            assert used(f"{dense}_r{depth}") ^ used(f"{base}_r{depth}") == {"densely_additive"}


@pytest.mark.parametrize(
    "name", [each for each in shipped_specs() if "_r" not in each or "_r18" in each]
)
def test_the_resolved_spec_is_the_same_network(name: str) -> None:
    """All nodes and names are equal: ``danetc.load`` takes the network from the resolved spec."""
    checked = check_file(name)
    resolved = check_text(resolved_spec(checked), "spec.danet")
    assert graph_of(resolved, name.rpartition("/")[2]) == graph_of(checked)
