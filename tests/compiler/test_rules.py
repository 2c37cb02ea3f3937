"""Rules: the forms of their equations, and the nodes that are built from them."""

from collections.abc import Callable

import pytest

from danetc.compiler.ir.graph import Graph, Stage
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.rule_forms import Delayed, Form, InputOf, Join, OutputOf, Scaled, StageInput
from danetc.compiler.passes import run
from danetc.dsl.diagnostics.diagnostic import SpecError
from tests.compiler.error_cases import assert_says, errors, unmarked
from tests.differential.helpers import text
from tests.differential.networks import small


def spec(rule: str, use: str = "mine", blocks: int = 5, connection: str = "sew") -> str:
    own = f"rule mine {{ {rule} }}"
    return small(f"stage(basic(4), {blocks}) via {connection} by {use}", more=own)


def stage(rule: str, use: str = "mine", blocks: int = 5, connection: str = "sew") -> Stage:
    (found,) = text(spec(rule, use, blocks, connection), ()).stages
    return found


def outs(low: int, high: int) -> tuple[Form, ...]:
    return tuple(OutputOf(j) for j in range(low, high + 1))


def joined(join: str, parts: tuple[Form, ...]) -> Form:
    return parts[0] if len(parts) == 1 else Join(join, parts)


# The equations of a rule, the feed of block i > 0, and the result of a stage of 5 blocks.
Equations = tuple[str, Callable[[int], Form], Form]
RULES: dict[str, Equations] = {
    "chain": ("in[i] = out[i - 1]; result = out[n - 1]", lambda i: OutputOf(i - 1), OutputOf(4)),
    "Eq. 11": (
        "in[i] = sum(out[0 .. i - 1]); result = out[n - 1]",
        lambda i: joined("sum", outs(0, i - 1)),
        OutputOf(4),
    ),
    "Listing 1": (
        "in[i] = sum(out[0 .. i - 1]); result = sum(out[0 .. n - 1])",
        lambda i: joined("sum", outs(0, i - 1)),
        Join("sum", outs(0, 4)),
    ),
    "Listing 1 after the opening block": (
        "in[i] = out[0] if i == 1 else sum(out[1 .. i - 1]); "
        "result = out[0] if n == 1 else sum(out[1 .. n - 1])",
        lambda i: OutputOf(0) if i == 1 else joined("sum", outs(1, i - 1)),
        Join("sum", outs(1, 4)),
    ),
    "concatenation": (
        "in[i] = concat(in[0], out[0 .. i - 1]); result = out[n - 1]",
        lambda i: Join("concat", (InputOf(0), *outs(0, i - 1))),
        OutputOf(4),
    ),
    "a window": (
        "in[i] = sum(out[max(0, i - 2) .. i - 1]); result = out[n - 1]",
        lambda i: joined("sum", outs(max(0, i - 2), i - 1)),
        OutputOf(4),
    ),
    "a condition in a join": (
        "in[i] = sum(out[j] for j in 0 .. i - 1 if (i - j) == 1 or (i - j) == 2 or (i - j) == 4); "
        "result = out[n - 1]",
        lambda i: joined("sum", tuple(OutputOf(j) for j in range(i) if i - j in (1, 2, 4))),
        OutputOf(4),
    ),
    "a condition between equations": (
        "in[i] = out[i - 1] if i == 1 else out[i - 1] + out[i - 2]; result = out[n - 1]",
        lambda i: OutputOf(0) if i == 1 else Join("sum", (OutputOf(i - 1), OutputOf(i - 2))),
        OutputOf(4),
    ),
    "several indices": (
        "in[i] = sum(out[i - 1, 0 .. i - 1]); result = out[n - 1]",
        lambda i: Join("sum", (OutputOf(i - 1), *outs(0, i - 1))),
        OutputOf(4),
    ),
    "factors": (
        "in[i] = 0.5 * out[i - 1] + in[0] / 4; result = out[n - 1] * 2",
        lambda i: Join("sum", (Scaled(0.5, OutputOf(i - 1)), Scaled(0.25, InputOf(0)))),
        Scaled(2.0, OutputOf(4)),
    ),
    "the largest and the smallest": (
        "in[i] = max(out[0 .. i - 1]); result = min(out[0], out[n - 1])",
        lambda i: joined("max", outs(0, i - 1)),
        Join("min", (OutputOf(0), OutputOf(4))),
    ),
}  # fmt: skip


FORMS = [
    *(("mine", name) for name in RULES),
    ("chain", "chain"),
    ("densely_additive", "Eq. 11"),
    ("densely_additive_all", "Listing 1"),
    ("densely_additive_after_opening", "Listing 1 after the opening block"),
]


@pytest.mark.parametrize(("use", "name"), FORMS)
def test_forms(use: str, name: str) -> None:
    """The rules of std match the equations of the paper."""
    rule, feed, result = RULES[name]
    found = stage(rule, use)
    assert [block.feed for block in found.blocks] == [StageInput(), *(feed(i) for i in range(1, 5))]
    assert found.result_form == result


def test_parameters_given_and_by_default() -> None:
    own = "rule mine(k = 3) { in[i] = sum(out[max(0, i - k) .. i - 1]); result = out[n - 1] }"
    for use, feed in (("mine", Join("sum", outs(1, 3))), ("mine(k = 1)", OutputOf(3))):
        (found,) = text(small(f"stage(basic(4), 5) via sew by {use}", more=own)).stages
        assert found.blocks[4].feed == feed


def test_a_rule_for_long_stages_alone_is_right_where_they_are_long() -> None:
    rule = "in[i] = out[i - 1]; result = out[n - 1] + out[n - 3]"
    assert stage(rule).result_form == Join("sum", (OutputOf(4), OutputOf(2)))
    with pytest.raises(SpecError, match="E0609"):
        stage(rule, blocks=2)


LATE = """
  in[0]  = in + (out[n-1] -> delay(2))
  in[i]  = out[i-1] + (sum(out[0 .. n-1]) -> delay(1)) if i == 1 else out[i-1] + (in[0] -> delay(1))
  result = out[n-1] + (in -> delay(1) -> delay(2))
"""


def late(rule: str, connection: str = "pa_a", width: int = 4) -> Graph:
    """A network with a stage of three blocks, whose norms use the statistics of one step."""
    settings = "neuron = IF; norm = batchnorm(statistics = step)"
    stages = f"stage(single({width}), 3) via {connection} by mine"
    return text(small(stages, settings=settings, more=f"rule mine {{ {rule} }}"), ())


def test_a_rule_reads_values_of_earlier_steps() -> None:
    lowered = late(LATE)
    (found,) = lowered.stages
    last, total = Delayed(2, OutputOf(2)), Delayed(1, Join("sum", outs(0, 2)))
    first, entry = Delayed(1, InputOf(0)), Delayed(3, StageInput())
    assert [block.feed for block in found.blocks] == [
        Join("sum", (StageInput(), last)),
        Join("sum", (OutputOf(0), total)),
        Join("sum", (OutputOf(1), first)),
    ]
    assert found.result_form == Join("sum", (OutputOf(2), entry))
    nodes = {node.attrs["steps"]: node for node in lowered.nodes.values() if OPS[node.op].cuts}
    assert len(lowered.carries) == 3
    assert lowered.carries[nodes[2].id] == found.blocks[2].output
    assert (nodes[3].op, nodes[3].inputs) == ("delay", (found.entry,))
    run(lowered)  # verified after each pass


@pytest.mark.parametrize(("connection", "kind"), [("origin", "spike"), ("sew", "analog")])
def test_kinds_of_a_rule_in_a_loop(connection: str, kind: str) -> None:
    """A sum that grows from step to step has no bound."""
    lowered = late("in[i] = out[i-1] + (out[n-1] -> delay(1)); result = out[n-1]", connection)
    assert [str(lowered[id].value.kind) for id in lowered.carries] == [kind]


def test_a_rule_says_of_its_first_block_what_it_says_of_others() -> None:
    found = stage("in[0] = 2 * in; shortcut[0] = in; in[i] = in[0]; result = sum(out[0 .. n - 1])")
    assert found.blocks[0].feed == Scaled(2.0, StageInput())
    assert found.blocks[0].shortcut == (found.entry, StageInput())
    assert found.blocks[1].feed == InputOf(0)


DELAYED = [
    ("in[0] = in + (out[n-1] -> delay(1)); in[i] = out[i-1]", "E0501 4 x 8 x 8 and 6 x 8 x 8 | add"),
    ("in[i] = out[n-1] -> delay(1)", "E0507 is unknown | join it with a value"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "said"), DELAYED)
def test_shapes_of_what_is_delayed(rule: str, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        late(f"{rule}; result = out[n-1]", "pa_a", 6)
    (error,) = caught.value.diagnostics
    assert error.span.text == "mine"
    assert_says(error, said)


def test_a_norm_of_all_steps_stands_in_no_loop() -> None:
    with pytest.raises(SpecError, match="E0506"):
        stage("", "feedback")


WRONG = {
    "in[i] = out[«i»]; result = out[n - 1]": "E0603 computed later",
    "in[i] = out[«i + 1»]; result = out[n - 1]": "E0603 block 1 reads `out[2]`",
    "in[i] = sum(out[0 .. «n - 1»]); result = out[n - 1]": "E0603 computed later",
    "in[i] = out[«i - 2»]; result = out[n - 1]": "E0609 `out[-1]` does not exist",
    "in[i] = out[i - 1]; result = out[«n»]": "E0609 `out[5]` does not exist",
    "in[i] = out[«i / 2»]; result = out[n - 1]": "E0304 whole number, not 0.5",
    "in[i] = out[«IF»]; result = out[n - 1]": "E0304 not the neuron `IF`",
    "in[i] = «out[0 .. i - 1]»; result = out[n - 1]": "E0608 2 values, but expected one",
    "in[i] = «sum(out[j] for j in 0 .. i - 1 if j > 90)»; result = out[n - 1]":
        "E0608 `sum` has no operands for block 1",
    "in[i] = «out[i - 1] * out[i - 1]»; result = out[n - 1]": "E0608 unsupported expression",
    "in[i] = «out[i - 1] - in[0]»; result = out[n - 1]": "E0608 unsupported expression",
    "in[i] = out[i - 1] -> «norm»; result = out[n - 1]": "E0608 only layer",
    "in[i] = out[i] -> delay(«0»); result = out[n - 1]": "E0305 between 1 and 4,096, not 0",
    "in[i] = out[i] -> delay(1, like = «in»); result = out[n - 1]": "E0210 `in`",
    "in[i] = «average(out[0 .. i - 1])»; result = out[n - 1]": "E0608 no join `average`",
    "in[i] = sum(«ot»[0 .. i - 1]); result = out[n - 1]": "E0608 have an index",
    "in[i] = «out»; result = out[n - 1]": "E0608 `out` is not a value",
    "in[i] = «3»; result = out[n - 1]": "E0608 unsupported expression",
    "in[i] = out[i - 1] / («i - i»); result = out[n - 1]": "E0306 division by zero",
    "in[i] = sum(out[0 .. «k» - 1]); result = out[n - 1]": "E0210 `k`",
    "in[i] = sum(out[j] for j in 0 .. i - 1 if «IF»); result = out[n - 1]": "E0304 condition",
    "in[i] = sum(«x = out[0]»); result = out[n - 1]": "E0301 no parameter `x`",
    "in[i] = out[i - 1]; result = out[n - 1]; «rest» = 3": "E0607 not an equation of a rule",
    "in[i] = out[i - 1]; result = out[n - 1]; «out»[i] = 3": "E0607 not an equation",
    "in[i] = out[i - 1]; «result»[i] = out[n - 1]": "E0607 takes no index",
    "«in» = out[0]; result = out[n - 1]": "E0607 takes the index",
    "«state in = 3»; result = out[n - 1]": "E0607 not an equation",
}  # fmt: skip


@pytest.mark.parametrize("marked", WRONG)
def test_what_a_rule_cannot_say(marked: str) -> None:
    """The error is found in a library without a network, and only once if a network uses the rule."""
    rule, start, end = unmarked(marked)
    for whole in (f"rule mine {{ {rule} }}", spec(rule)):
        (error,) = errors(f"use std\n{whole}")
        place = error.span.source.text.index(rule)
        assert (error.span.start - place, error.span.end - place) == (start, end)
        assert_says(error, WRONG[marked])


def test_terms_are_counted_before_they_are_made() -> None:
    nested = "sum(" * 4 + "out[0]" + "".join(f" for {v} in 0 .. 300)" for v in "abcd")
    for feed in ("sum(out[0] for j in 0 .. 1000000000 if j < 1)", nested):
        (error,) = errors(f"rule mine {{ in[i] = {feed}; result = out[n - 1] }}")
        assert error.code == "E0906"
