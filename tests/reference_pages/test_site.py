"""The site: every table has its page, every rule its diagram, every equation its MathML."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.syntax.grammar import table
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from danetc.reference import TOPICS, find, topic

diagrams = pytest.importorskip("docs.site.diagrams", reason="the extra `docs` is not installed")
pytest.importorskip("latex2mathml")
from docs.site import equations, pages, pictures  # noqa: E402
from docs.site.links import ROOT, place_in_repository, place_in_site  # noqa: E402

NAVIGATION = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


def leaves(item: object) -> list[str]:
    if isinstance(item, str):
        return [item]
    inner = item.values() if isinstance(item, dict) else item
    assert not isinstance(inner, str)
    return [leaf for each in inner for leaf in leaves(each)]  # type: ignore[union-attr]


def test_every_topic_has_a_page_and_every_page_a_place_in_the_navigation() -> None:
    listed = {
        (one.name, one.kind) for row in pages.PAGES.values() for t in row.topics for one in topic(t)
    }
    assert listed == {(one.name, one.kind) for name in TOPICS for one in topic(name)}
    found = leaves(yaml.safe_load(NAVIGATION)["nav"])
    assert {f"reference/{name}.md" for name in pages.PAGES} <= set(found)
    documents = {
        path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")
    }
    assert documents <= set(found)


def test_every_rule_of_the_grammar_has_a_sentence_and_a_diagram() -> None:
    rules = diagrams.rules()
    assert set(diagrams.RULES) == set(rules)
    assert {origin for origin, *_ in table().rules} <= set(rules)
    for name, tree in rules.items():
        svg = ElementTree.fromstring(diagrams.diagram(name, tree))
        assert len(list(svg.iter())) > 5, name
    stmts = diagrams.diagram("stmts", rules["stmts"])
    texts = [
        each.text for each in ElementTree.fromstring(stmts).iter() if each.tag.endswith("text")
    ]
    assert set(texts) == {"stmt", ";"}  # with `;` and without, in a loop of any number
    assert texts.count(";") == 1
    assert ">stmts<" not in stmts


@pytest.mark.parametrize("kind", ["neurons", "surrogates", "rules", "connections", "blocks"])
def test_equations_are_mathml(kind: str) -> None:
    for entry in topic(kind):
        (declaration,) = parse(SourceFile(entry.name, entry.declaration), Reporter()).declarations
        shown = ElementTree.fromstring(f"<div>{equations.mathml(declaration)}</div>")
        assert len(shown) == (len(declaration.body or ()) or 1)
        assert "\\" not in "".join(shown.itertext()), entry.name


def test_a_connection_is_written_as_it_stands() -> None:
    entry = next(entry for entry in find("tdbn") if entry.kind == "connection")
    (declaration,) = parse(SourceFile("", entry.declaration), Reporter()).declarations
    *_, last = equations.latex(declaration)
    joined = r"\left(\mathrm{branch} + \mathrm{shortcut}\right)"
    assert last == rf"\mathrm{{out}} = {joined} \to \mathrm{{spike}}"


def test_states_have_their_time_steps() -> None:
    (entry,) = find("LIF_soft")
    (declaration,) = parse(SourceFile("", entry.declaration), Reporter()).declarations
    lines = list(equations.latex(declaration))
    assert lines[0] == "u[{-1}] = 0.0"
    assert lines[1].startswith("v[t] = ")
    assert "u[t-1]" in lines[1]
    assert lines[-1] == r"u[t] = v[t] - v_{\mathrm{threshold}} \cdot r[t]"


@pytest.mark.parametrize("name", pages.PAGES)
def test_pages_have_their_entries(name: str) -> None:
    text = pages.page(name)
    for each in pages.PAGES[name].topics:
        for entry in topic(each):
            assert entry.summary.rstrip(".") in text or entry.kind in ("error", "warning")
            assert entry.name in text


@pytest.mark.parametrize("name", ["conv", "LIF", "atan", "origin", "chain", "basic"])
def test_pictures_are_drawn(name: str) -> None:
    entry = next(one for one in find(name) if pictures.has_picture(one))
    svg = ElementTree.fromstring(pictures.picture(entry))
    assert svg.tag.endswith("svg")
    assert len(list(svg.iter())) > 8


def test_the_curve_of_a_surrogate_is_its_derivative() -> None:
    """SpikingJelly's triangle: 1 at the threshold, a half of it at a half, 0 from 1 on."""
    from danetc.compiler import check_text, graph_of

    (entry,) = find("triangle")
    assert entry.example is not None
    neurons = graph_of(check_text(entry.example)).neurons.values()
    program = next(each.surrogate for each in neurons if each.surrogate is not None)
    assert [pictures.at(program, x) for x in (0.0, 0.5, -0.5, 1.5)] == [1.0, 0.5, 0.5, 0.0]


def test_documents_are_found_again() -> None:
    for path in ("README.md", "CONTRIBUTING.md", "docs/zoo.md", "results/README.md"):
        assert place_in_repository(place_in_site(path)) == path
    assert Path(ROOT / "mkdocs.yml").is_file()
