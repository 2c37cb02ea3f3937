"""What builds and is suspicious is warned of, at its place, and nothing else is.

The page of each warning has one more example.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from danetc.compiler import check_file, check_text, lowered_network
from danetc.compiler.frontend.resolved import resolved_spec
from danetc.compiler.warnings import warnings_of, warnings_of_network
from danetc.dsl.loading import is_library
from danetc.dsl.reading import shipped_specs
from tests.compiler.warning_cases import (
    NET,
    PLAIN,
    SUSPICIOUS,
    TRAIN,
    WARNINGS,
    marked,
    net,
    warned,
)

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("title", SUSPICIOUS)
def test_what_is_suspicious_is_warned_of_at_its_place(title: str) -> None:
    case = SUSPICIOUS[title]
    text, start, end = marked(case.text)
    (found,) = warned(text)
    assert (found.code, found.severity) == (case.code, "warning")
    assert (found.span.start, found.span.end) == (start, end)
    assert not is_library(found.span.source)
    assert case.words in found.message
    assert case.hint in (found.hint or "")


def test_every_rule_has_a_case() -> None:
    assert {case.code for case in SUSPICIOUS.values()} == set(WARNINGS)


@pytest.mark.parametrize("title", PLAIN)
def test_what_may_be_meant_is_left_alone(title: str) -> None:
    assert warned(PLAIN[title]) == ()


# -- what is there already -------------------------------------------------------------------------

WRITTEN = sorted((ROOT / "specs" / "lib").glob("*.danet"))
WRITTEN += sorted((ROOT / "dsl" / "std").glob("*.danet"))
WRITTEN += sorted(
    path for room in ("results", "examples", "docs") for path in (ROOT / room).rglob("*.danet")
)
PAGES = [
    ROOT / "README.md",
    *(path for room in ("docs", "results") for path in (ROOT / room).rglob("*.md")),
]


@pytest.mark.parametrize("name", shipped_specs())
def test_no_shipped_spec_is_warned_of(name: str) -> None:
    assert warnings_of(check_file(name)) == ()


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.name)
def test_no_file_beside_them_is_warned_of(path: Path) -> None:
    assert warnings_of(check_file(str(path))) == ()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_network_of_a_page_is_warned_of(path: Path) -> None:
    for text in re.findall(
        r"^```danet\n(.*?)^```", path.read_text("utf-8"), re.MULTILINE | re.DOTALL
    ):
        if re.search(r"^(network|recipe) ", text, re.MULTILINE):
            assert warned(text) == ()


@pytest.mark.parametrize("name", ["danet_c_small", "own_connection", "own_neuron", "own_rule"])
def test_a_network_in_one_file_is_not_warned_of_more(name: str) -> None:
    assert warned(resolved_spec(check_file(name))) == ()


def test_a_phase_that_starts_from_another_has_no_new_weights() -> None:
    text = SUSPICIOUS["new weights in the last of three phases"].text
    (found,) = warned(re.sub("[«»]", "", text))
    assert [label.text for label in found.labels] == ["`c` starts from `a`"]


# -- settings, used files --------------------------------------------------------------------------


def test_settings_from_outside_are_seen() -> None:
    checked = check_text(NET)
    lowered = lowered_network(checked, None, {"neuron": "LIF(tau = 0.5)"})
    (found,) = warnings_of_network(checked, lowered)
    assert (found.code, found.span.source.name) == ("W0301", "--set")
    mended = check_text(net(("= IF", "= LIF(tau = 0.5)")))
    assert warnings_of_network(mended, lowered_network(mended, None, {"neuron": "IF"})) == ()


def test_what_a_setting_names_is_used() -> None:
    text = "use std (IF, PLIF, sigmoid, basic, origin, chain)\n" + NET.removeprefix("use std\n")
    checked = check_text(text + "rule mine { in[i] = out[i-1]; result = out[n-1] }\n")
    assert [item.code for item in warnings_of(checked)] == ["W0101", "W0102"]
    stages = "stage(basic(16), 2) via origin by mine"
    lowered = lowered_network(checked, None, {"neuron": "PLIF", "stages": stages})
    assert warnings_of_network(checked, lowered) == ()
    lowered = lowered_network(checked, None, {"steps": 2})
    assert len(warnings_of_network(checked, lowered)) == 2


def test_one_network_of_a_file_is_seen_alone() -> None:
    checked = check_text(NET + "network m = n { neuron = LIF(tau = 0.5) }\n")
    assert warnings_of_network(checked, lowered_network(checked, "n")) == ()
    (found,) = warnings_of_network(checked, lowered_network(checked, "m"))
    assert (found.code, warnings_of(checked)) == ("W0301", (found,))


def test_used_files(tmp_path: Path) -> None:
    (tmp_path / "lib.danet").write_text(
        "use std\nconnection twice { each = conv -> norm -> norm -> spike; out = branch }\n"
        "neuron other = IF\n"
    )
    (tmp_path / "recipes.danet").write_text(TRAIN)
    main = tmp_path / "main.danet"
    main.write_text('use "lib.danet"\nuse "recipes.danet"\n' + NET)
    (found,) = warnings_of(check_file(str(main)))
    assert (found.code, found.span.text) == ("W0101", 'use "lib.danet"')
    main.write_text('use "lib.danet"\n' + net(("via origin", "via twice")))
    (found,) = warnings_of(check_file(str(main)))
    assert found.code == "W0206"
    assert found.span.source.name == str(tmp_path / "lib.danet")
    (tmp_path / "lib.danet").write_text(
        "use std\nconnection twice {\n"
        "  each = conv -> norm -> norm -> spike  # allow W0206\n  out = branch\n}\n"
    )
    assert warnings_of(check_file(str(main))) == ()
