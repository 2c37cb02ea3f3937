"""The site: every table has a page, every rule a diagram, and every equation MathML."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from danetc.compiler import check_text, graph_of
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.syntax.grammar import table
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile
from danetc.reference import TOPICS, find, topic

from .documents import PAGES, TUTORIAL, perform

diagrams = pytest.importorskip("docs.site.diagrams", reason="the extra `docs` is not installed")
pytest.importorskip("latex2mathml")
from docs.site import equations, pages, pictures  # noqa: E402
from docs.site.links import ROOT  # noqa: E402


def test_every_topic_has_a_page_and_every_page_a_place_in_the_navigation() -> None:
    listed = {
        (one.name, one.kind) for row in pages.PAGES.values() for t in row.topics for one in topic(t)
    }
    assert listed == {(one.name, one.kind) for name in TOPICS for one in topic(name)}
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    documents = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    documents |= {f"reference/{name}.md" for name in pages.PAGES}
    assert documents <= {*re.findall(r"[\w/-]+\.md", navigation)}


def test_every_rule_of_the_grammar_has_a_sentence_and_a_diagram() -> None:
    rules = diagrams.rules()
    assert set(diagrams.RULES) == set(rules)
    assert {origin for origin, *_ in table().rules} <= set(rules)
    for name, tree in rules.items():
        svg = ElementTree.fromstring(diagrams.diagram(name, tree))
        assert len(list(svg.iter())) > 5, name
    texts = re.findall(r"<text[^>]*>([^<]+)</text>", diagrams.diagram("stmts", rules["stmts"]))
    assert set(texts) == {"stmt", ";"}  # with or without `;`, in a loop of any length
    assert texts.count(";") == 1


@pytest.mark.parametrize("kind", ["neurons", "surrogates", "rules", "connections", "blocks"])
def test_equations_are_mathml(kind: str) -> None:
    for entry in topic(kind):
        (declaration,) = parse(SourceFile(entry.name, entry.declaration), Reporter()).declarations
        shown = ElementTree.fromstring(f"<div>{equations.mathml(declaration)}</div>")
        assert len(shown) == (len(declaration.body or ()) or 1)
        assert "\\" not in "".join(shown.itertext()), entry.name


def latex(name: str, kind: str) -> list[str]:
    (entry,) = (entry for entry in find(name) if entry.kind == kind)
    (declaration,) = parse(SourceFile("", entry.declaration), Reporter()).declarations
    return [*equations.latex(declaration)]


def test_equations_are_written_as_they_stand_with_their_time_steps() -> None:
    joined = r"\left(\mathrm{branch} + \mathrm{shortcut}\right)"
    assert latex("tdbn", "connection")[-1] == rf"\mathrm{{out}} = {joined} \to \mathrm{{spike}}"
    first, second, *_, last = latex("LIF_soft", "neuron")
    assert first == "u[{-1}] = 0.0"
    assert second.startswith("v[t] = ")
    assert "u[t-1]" in second
    assert last == r"u[t] = v[t] - v_{\mathrm{threshold}} \cdot r[t]"


@pytest.mark.parametrize("name", pages.PAGES)
def test_pages_have_their_entries(name: str) -> None:
    text = pages.page(name)
    for each in pages.PAGES[name].topics:
        for entry in topic(each):
            assert entry.summary.rstrip(".") in text or entry.kind in ("error", "warning")
            assert entry.name in text


def test_pretrained_networks_have_model_cards() -> None:
    """Each has a report with its test accuracy, and a link to the report."""
    for entry in topic("pretrained"):
        assert f"](cards/{Path(pages.card_of(entry)).name})" in pages.page("networks")
    card = pages.card(entry)
    assert card.startswith("<!DOCTYPE html>")
    assert f"<td>{entry.summary.partition(' ')[0]}</td>" in card


@pytest.mark.parametrize("name", ["conv", "LIF", "atan", "origin", "chain", "basic"])
def test_pictures_are_drawn(name: str) -> None:
    entry = next(one for one in find(name) if pictures.has_picture(one))
    svg = ElementTree.fromstring(pictures.picture(entry))
    assert svg.tag.endswith("svg")
    assert len(list(svg.iter())) > 8


def test_the_curve_of_a_surrogate_is_its_derivative() -> None:
    """SpikingJelly's triangle is 1 at the threshold, 0.5 at a distance of 0.5, and 0 from 1 on."""
    (entry,) = find("triangle")
    neurons = graph_of(check_text(entry.example)).neurons.values()
    program = next(each.surrogate for each in neurons if each.surrogate is not None)
    assert [pictures.at(program, x) for x in (0.0, 0.5, -0.5, 1.5)] == [1.0, 0.5, 0.5, 0.0]


# -- the tutorial and the guides -------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::danetc.SpecWarning")
@pytest.mark.usefixtures("short_samples")
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=page.stem, marks=[pytest.mark.thorough] * (page not in TUTORIAL[:3]))
        for page in PAGES
    ],
)
def test_the_blocks_of_a_page(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for command, out in perform(page):
        assert command.fits(out), f"{command.words}\n{out}"
