"""The texts of pictures: layers, stages, connections as in Fig. 1, neurons as in Fig. 2."""

import re
from collections.abc import Sequence

import pytest

from danetc.compiler import check_file, graph_of
from danetc.compiler.draw import LEVELS
from danetc.compiler.draw.block import comparison
from danetc.compiler.draw.formula import Formula, word
from danetc.compiler.draw.notation import WIDEST, Notation, equations, symbol
from danetc.compiler.draw.sheet import Sheet
from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.ssa import Instruction
from tests.differential.helpers import text
from tests.differential.networks import graph_of_neuron, small


def said(sheet: Sheet) -> list[str]:
    """The text of each box as one line, in the order of the picture."""
    cells = (" ".join(c.text for row in box.rows for c in row if c.text) for box in sheet.boxes)
    lines = [
        line if box.formula is None else box.formula.text
        for box, line in zip(sheet.boxes, cells, strict=True)
    ]
    return [line for line in lines if line]


def assert_in_order(lines: Sequence[str], wanted: Sequence[str]) -> None:
    """Assert that ``lines`` contains ``wanted`` in this order, with any lines in between."""
    left = iter(lines)
    for line in wanted:
        assert line in left, line


SAYS = {
    ("danet_c_small", "network"): [
        "danet_c_small",
        "T = 4 · input 1×8×8",
        "input 1×8×8",
        "stem conv 3×3, 16 BN IF",
        "stages.0 3 blocks of conv 3×3, 16 → 3×3, 16 via origin by densely_additive "
        "interblock neurons",
        "stages.1 1 block of conv 3×3, 32 /2 → 3×3, 32 2 blocks of conv 3×3, 32 → 3×3, 32 "
        "via origin by densely_additive interblock neurons",
        "stages.2 1 block of conv 3×3, 64 /2 → 3×3, 64 2 blocks of conv 3×3, 64 → 3×3, 64 "
        "via origin by densely_additive interblock neurons",
        "head avgpool mean over T flatten linear 10",
        "out",
        "1×8×8", "16×8×8", "16×8×8", "32×4×4", "64×2×2", "10",
    ],
    ("own_rule", "stage"): [
        "18 blocks · via origin · by powers_of_two",
        "block 0 conv 3×3, 16 BN IF conv 3×3, 16 BN (branch + shortcut) → IF",
        "blocks 2 – 16 15 more like 1",
        "of 9, 13, 15, 16",
    ],
    ("spiking_densenet121", "stage"): [
        "stem conv 7×7, 64 /2 BN IF maxpool 3×3 /2",
        "6 blocks · via dense_layer · by densely_concatenated",
        "cat",
        "block 1 BN IF conv 1×1, 128 BN IF conv 3×3, 32",
        "stages.transition BN IF conv 1×1, 128 avgpool 2×2 /2",
        "12 blocks · via dense_layer · by densely_concatenated",
        "blocks 2 – 10 9 more like 1",
    ],
    ("danet_c_small", "block"): [
        "stages.0 blocks 0 – 2; also stages 1, 2",
        "origin: opening block",
        "stages.1 block 0; also stage 2",
        "in  16×8×8",
        "conv 3×3, 32 /2", "BN", "IF", "conv 3×3, 32", "BN", "conv 1×1, 32 /2", "BN", "+", "IF",
        "out  32×4×4",
    ],
    ("danet_c_small", "neuron"): [
        "the neuron over T = 4 steps",
        "IF(v_threshold=1, v_rest=0, detach_reset=false)",
        "H′ is that of the surrogate sigmoid(alpha=4)",
        "V_th = 1", "H′(x) = σ(α · x) · (1 − σ(α · x)) · α", "α = 4", "v_threshold", "alpha",
        "t = 1", "u[0] = 0", "x[1]", "v[1] = u[0] + x[1]", "s[1] = H(v[1] − V_th)",
        "u[1] = v[1] · (1 − s[1])", "out",
        "…",
        "t = 4", "u[3]", "x[4]", "v[4] = u[3] + x[4]", "s[4] = H(v[4] − V_th)",
        "u[4] = v[4] · (1 − s[4])", "out",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "level"), SAYS, ids=map("-".join, SAYS))
def test_what_a_picture_says(name: str, level: str) -> None:
    lines = said(LEVELS[level](graph_of(check_file(name))))
    assert_in_order(lines, SAYS[name, level])


BRANCHES = {  # the opening block of a stage in Fig. 1: the branch, the shortcut and the join
    "origin_r18": "conv BN IF conv BN conv BN + IF",
    "tdbn_r18": "conv BN IF conv BN×0.707 conv BN×0.707 + IF",
    "baa_r18": "conv BN IF conv conv BN + BN IF",
    "sew_r18": "conv BN IF conv BN IF conv BN IF +",
    "danet_a_r18": "IF conv BN IF conv BN conv BN +",
    "danet_b_r18": "BN IF conv BN IF conv conv BN +",
}


def test_connections_are_those_of_figure_1() -> None:
    sheet = comparison([graph_of(check_file(name)) for name in BRANCHES])
    texts = {box.key: " ".join(c.text for row in box.rows for c in row) for box in sheet.boxes}
    for column, name in enumerate(BRANCHES):
        assert texts[f"c{column}name"] == f"({'abcdef'[column]}) {name}"
        keys = [key for key in texts if re.fullmatch(rf"c{column}r0\d+", key)]
        short = [re.sub(r" \d+×\d+, \d+( /\d)?| (?=×)", "", texts[key]) for key in keys]
        assert " ".join(short) == BRANCHES[name], name


WRITTEN = {  # the line `out` of a connection, and its equation in a picture
    "branch * 0.5 + (shortcut -> spike)": "0.5 × branch + (shortcut → IF)",
    "(branch + shortcut) -> spike": "(branch + shortcut) → IF",
    "(1 - branch) * shortcut": "(1 − branch) × shortcut",
    "branch - (shortcut - branch)": "branch − (shortcut − branch)",
    "(branch - shortcut) - branch": "branch − shortcut − branch",
    "max(branch, shortcut) / (1 + shortcut)": "max(branch, shortcut) / (shortcut + 1)",
    "(branch + shortcut) -> norm -> spike": "(branch + shortcut) → BN → IF",
    "(branch + shortcut) -> gate -> spike": "(branch + shortcut) → gate → IF",
    "half + shortcut; half = (branch * shortcut) -> relu": "half + shortcut",
    "learn(0.5) * branch + shortcut": "learn × branch + shortcut",
}


@pytest.mark.parametrize("out", WRITTEN)
def test_a_block_says_the_equation_of_its_connection(out: str) -> None:
    own = f"""block gate(beta = learn(0.5)) {{ out = in - in * beta }}
    connection own {{
      each = conv -> norm -> spike; last = conv -> norm; projection = conv -> norm; out = {out}
    }}"""
    graph = text(small("stage(basic(4), 2) via own", settings="neuron = IF", more=own))
    sheet = LEVELS["stage"](graph)
    for key in ("s0b0", "s0b1"):
        assert sheet.box(key).rows[-1][0].text == WRITTEN[out]


@pytest.mark.parametrize("level", ["network", "stage", "block", "op"])
@pytest.mark.parametrize("name", ["danet_c_small", "sew_r18", "spiking_densenet121"])
def test_the_legend_names_the_kinds_that_are_drawn(name: str, level: str) -> None:
    sheet = LEVELS[level](graph_of(check_file(name)))
    drawn = {wire.look.colour for wire in sheet.wires if not wire.tail.startswith("legend")}
    assert drawn <= {line.partition(" (")[0] for line in said(sheet)}


def test_a_state_goes_from_each_step_to_the_next() -> None:
    sheet = LEVELS["neuron"](graph_of(check_file("danet_c_small")))
    wires = {(wire.tail, wire.head) for wire in sheet.wires}
    for step in ("1", "2", "4"):
        for reads in ("ugiven", "xat"):
            assert (f"n0{reads}{step}", f"n0vat{step}") in wires
        assert {(f"n0vat{step}", f"n0sat{step}"), (f"n0sat{step}", f"n0uat{step}")} <= wires
        assert (f"n0sat{step}", f"n0-out{step}") in wires
    assert {("n0uat1", "n0ugiven2"), ("n0uat2", "n0ugiven4")} <= wires


def written(program: NeuronProgram) -> str:
    """The equations at step 2, one per line."""
    return "\n".join(made.formula.text for made in equations(program, "2", "1"))


NEURONS = {
    "LIF(tau = 4.0, detach_reset = true)": """v[2] = (1 − 1 / τ) · u[1] + 1 / τ · x[2]
s[2] = H(v[2] − V_th)
r[2] = detach(s[2])
u[2] = v[2] · (1 − r[2])""",
    "PLIF": """v[2] = u[1] + σ(w) · (x[2] − u[1])
s[2] = H(v[2] − V_th)
u[2] = v[2] · (1 − s[2])""",
}


@pytest.mark.parametrize("neuron", NEURONS)
def test_equations_in_the_notation_of_papers(neuron: str) -> None:
    graph = graph_of(check_file("danet_c_small"), settings={"neuron": neuron})
    assert written(next(iter(graph.neurons.values()))) == NEURONS[neuron]


def test_equations_with_brackets_and_conditions() -> None:
    graph = graph_of_neuron("""state u = 0.5
      a = x - (u - (x - 2))
      b = -(a + 1) / (a * (a / 3))
      c = (a if a < b else b) * 2
      k = abs(a) + sqrt(a * a + 1) + (a <= b) * -0.5
      s = heaviside(c + k)
      u = max(a, b) - detach(s)""")
    (program,) = graph.neurons.values()
    assert (
        written(program)
        == """a[2] = x[2] − (u[1] − (x[2] − 2))
b[2] = (−(a[2] + 1)) / (a[2] · a[2] / 3)
c[2] = (a[2] if a[2] < b[2], else b[2]) · 2
k[2] = |a[2]| + √(a[2] · a[2] + 1) + (1 if a[2] ≤ b[2], else 0) · (−0.5)
s[2] = H(c[2] + k[2])
u[2] = max(a[2], b[2]) − detach(s[2])"""
    )
    made = {each.name: each for each in equations(program)}
    detached = {read.name: read.detached for read in made["u"].reads}
    assert detached == {"a": False, "b": False, "s": True}
    assert [name for name, each in made.items() if each.fires] == ["s"]


def formula_of(ops: Sequence[Instruction], always: Sequence[str] = ()) -> Formula:
    """The formula of ``y``, the result of the last operation; other results have no names."""
    return Notation(ops, always).equation(word("y"), ops[-1].name)


@pytest.mark.parametrize("opcode", OPCODES)
def test_every_operation_of_neurons_is_written(opcode: str) -> None:
    """The formula contains all operands, and is longer if each operand is a difference."""
    names = [f"p{i}" for i in range(OPCODES[opcode].arity)]
    text = formula_of([Instruction("y", opcode, tuple(names))], names).text
    assert all(f"p_{i}" in text for i in range(len(names))), text
    sums = [Instruction(f"_{i}", "sub", (name, 1.0)) for i, name in enumerate(names)]
    last = Instruction("y", opcode, tuple(op.name for op in sums))
    assert len(formula_of([*sums, last], names).text) > len(text.removeprefix("y = "))


def test_a_long_equation_goes_on_in_further_lines() -> None:
    ops = [Instruction("_0", "add", ("x", 0.5))]
    for i in range(1, 80, 2):
        ops.append(Instruction(f"_{i}", "mul", (f"w{i}", "x")))
        ops.append(Instruction(f"_{i + 1}", "add", (f"_{i - 1}", f"_{i}")))
    formula = formula_of(ops, [f"w{i}" for i in range(80)])
    assert formula.width <= 1.2 * WIDEST
    assert len({piece.y for piece in formula.pieces if piece.text == "x"}) > 3


SYMBOLS = {
    "tau": "τ", "v_threshold": "V_th", "v_rest": "V_rest", "tau_adaptation": "τ_a", "v_learnt": "v_learnt",
    "w2": "w_2", "threshold": "threshold", "beta_2": "β_2", "x": "x", "kept_learnt_1": "kept_learnt, 1",
}  # fmt: skip


@pytest.mark.parametrize("name", SYMBOLS)
def test_symbols(name: str) -> None:
    assert symbol(name).text == SYMBOLS[name]
