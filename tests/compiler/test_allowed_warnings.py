"""A comment at a statement allows a warning."""

from __future__ import annotations

import pytest

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.diagnostics.explain import examples
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.printer import format_source
from danetc.dsl.syntax.source import SourceFile
from tests.compiler.warning_cases import WARNINGS, net, warned


def at_end(text: str, line: int, comment: str) -> str:
    lines = text.splitlines()
    lines[line - 1] += f"  {comment}"
    return "\n".join(lines) + "\n"


def above(text: str, line: int, comment: str) -> str:
    lines = text.splitlines()
    return "\n".join([*lines[: line - 1], comment, *lines[line - 1 :]]) + "\n"


@pytest.mark.parametrize("code", WARNINGS)
def test_a_comment_at_the_statement_allows_a_warning(code: str) -> None:
    text = examples(code)[0]
    (found,) = warned(text)
    for place in (at_end, above):
        allowed = place(text, found.span.line, f"# allow {code}: it is meant")
        assert warned(allowed) == ()
        reporter = Reporter()
        assert warned(format_source(parse(SourceFile("<text>", allowed), reporter))) == ()
        assert warned(place(text, found.span.line, f"# allow W9999, {code}")) == ()
        assert len(warned(place(text, found.span.line, "# allow W9999"))) == 1
        assert len(warned(place(text, found.span.line, f"# disallow {code}"))) == 1
    assert len(warned(f"# allow {code}\n\n{text}")) == 1
    assert len(warned(f"{text}# allow {code}\n")) == 1


def test_a_comment_holds_for_all_lines_of_its_statement() -> None:
    flow = "stem = conv(16)\n    -> norm\n    -> norm  # allow W0206\n    -> spike\n    -> spike"
    assert [item.code for item in warned(net(("stem = conv(16) -> norm -> spike", flow)))] == [
        "W0304"
    ]


def test_a_comment_at_the_head_of_a_network_is_not_for_its_body() -> None:
    text = net(("-> norm ->", "-> norm -> norm ->"))
    assert len(warned(text.replace("{\n", "{  # allow W0206\n", 1))) == 1


def test_a_comment_above_a_first_statement_is_not_that_of_the_head() -> None:
    text = "block b(width, unread = 1) {\n  # allow W0103\n  out = in -> conv(width)\n}\n"
    assert [item.code for item in warned(text)] == ["W0103"]
