"""Neuron and surrogate equations: programs, their text, and every error."""

import math
import operator
import re

import pytest

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Reporter
from danetc.dsl.neuron.equations import compile_neuron, compile_surrogate
from danetc.dsl.neuron.kernel_text import kernel_source
from danetc.dsl.neuron.program import Learn, NeuronProgram, SurrogateProgram, parameters_of
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.neuron.ssa import OPERATION, evaluate
from danetc.dsl.syntax.tree import Declaration
from danetc.dsl.work import bounded
from tests.runtime.conftest import SIGMOID, declarations, defaults
from tests.runtime.conftest import compile_text as program
from tests.tables import each_of

Argument = float | bool | Learn


def declare(text: str) -> Declaration:
    return next(iter(declarations(text).values()))


def attempt(text: str, **given: Argument) -> tuple[NeuronProgram | None, list[Diagnostic]]:
    declaration, surrogate = declare(text), declare(SIGMOID)
    reporter = Reporter()
    program = compile_neuron(
        declaration, {**defaults(declaration), **given}, surrogate, {"alpha": 4.0}, reporter
    )
    assert (program is None) == bool(reporter.diagnostics)
    return program, reporter.diagnostics


def surrogate(text: str) -> tuple[SurrogateProgram | None, list[Diagnostic]]:
    declaration, reporter = declare(text), Reporter()
    result = compile_surrogate(declaration, defaults(declaration), reporter)  # type: ignore[arg-type]
    assert (result is None) == bool(reporter.diagnostics)
    return result, reporter.diagnostics


FREE = "neuron n(a = 2.0, b = 1.0, c = 0.0, d = 2.0, e = 3.0, f = true) {{ {} }}"
ORIGINS = {
    # a parameter whose value decides the operations is fixed: its constants are plain numbers
    "s = x * a - tanh(x * d)": "_1 = mul x 2.0; _2 = tanh _1; s = sub _1 _2; out s",
    "s = max(x, a) * e if a > b else x": "_1 = max x 2.0; s = mul _1 3.0[e]; out s",
    "s = max(x * e, x * e) if f else a": "s = mul x 3.0[e]; out s",
    "s = a * x + b * x + (a - 1)": "_1 = mul 2.0[a] x; _2 = add _1 x; s = add _2 1.0[sub(a,1.0)]; out s",
    "s = x / (a * b) + b * x": "_1 = div x 2.0; s = add _1 x; out s",
    "s = x * e + (a if x > 0 else d)": "_1 = mul x 3.0[e]; s = add _1 2.0; out s",
    "s = x * e + (e if x > 0 else a)": "_1 = mul x 3.0[e]; _2 = gt x 0.0; _3 = where _2 3.0[e] 2.0[a]; s = add _1 _3; out s",
    "s = c + x + e": "s = add x 3.0[e]; out s",
    "s = x + (detach(x) if f else x)": "_1 = detach x; s = add x _1; out s",
    "s = x * 2 if not f or 1 > 2 else x / 2": "s = div x 2.0; out s",
    "s = x * 2 if f or 1 > 2 else x / 2": "s = mul x 2.0; out s",
    "s = heaviside(x) * c + e * x": "s = mul 3.0[e] x; out s",
    "s = max(x, c) + e": "_1 = relu x; s = add _1 3.0[e]; out s",
    "s = -(x * e)": "s = mul -3.0[neg(e)] x; out s",
    "s = delay(x, a) + e": "state x_kept1 = 0.0; state x_kept2 = 0.0; s = add x_kept2 3.0[e]; next x_kept1 = x; next x_kept2 = x_kept1; out s",
    "s = x * learn(a, above = b) + e": "learn s_learnt = 0.5413248546129181 above 1.0; _1 = softplus s_learnt_raw; s_learnt = add 1.0 _1; _2 = mul x s_learnt; s = add _2 3.0[e]; out s",
    "s = x * learn(a, below = e) + e": "learn s_learnt = 0.5413248546129181 below 3.0; _1 = softplus s_learnt_raw; s_learnt = sub 3.0 _1; _2 = mul x s_learnt; s = add _2 3.0; out s",
    "state u = e; u = a * u + x; s = u": "state u = 3.0[e]; _1 = mul 2.0[a] u; s = add _1 x; next u = s; out s",
    "s = x * sqrt(e) / exp(-a) + abs(-e) * max(a, e) * sin(e)": "_1 = mul x 1.7320508075688772[sqrt(e)]; _2 = div _1 0.1353352832366127[exp(neg(a))]; s = add _2 1.2700800725388048[mul(mul(abs(neg(e)),max(a,e)),sin(e))]; out s",
    "s = (x > e) + (x > e) * 2 * x": "_1 = gt x 3.0[e]; _2 = number _1; _3 = mul _2 2.0; _4 = mul _3 x; s = add _2 _4; out s",
    "s = x * e + (a - 1 if x > 0 else c)": "_1 = mul x 3.0[e]; _2 = gt x 0.0; _3 = number _2; s = add _1 _3; out s",
}  # fmt: skip


@each_of(ORIGINS)
def test_constants_that_are_made_of_a_parameter_follow_it(body: str) -> None:
    """Another value of the parameter changes only these constants of the program."""
    text, plain = FREE.format(body), program(FREE.format("s = x")).text()
    found = program(text)
    assert found.text() == plain.removesuffix("out x") + ORIGINS[body]
    assert read_program(found.text()) == found
    for name in parameters_of(found):
        scope = {**vars(math), **vars(operator), "div": operator.truediv, "max": max}
        scope |= dict(found.parameters) | {name: 1.7}
        followed = found.text()
        for origin in {*re.findall(r"\[([^]]+)\]", followed)}:
            value = f"{float(eval(origin, dict(scope)))!r}[{origin}]"
            followed = re.sub(f"[^ ]+{re.escape(f'[{origin}]')}", value, followed)
        followed = re.sub(rf"(param {name}) = [^;]+", r"\1 = 1.7", followed)
        assert program(text, **{name: 1.7}).text() == followed


@each_of(["2.0[b]", "3.0[a]", "2.0[a", "2.0[a]]", "2.0[]", "2.0[mul(a]", "2.0[div(a,0.0)]", "2.0[f(a)]",
     "2.0[where(a,a)]", "2.0[__import__(a)]", "2.0[log(a)]", f"2.0[{'neg(' * 5000}a{')' * 5000}]"])  # fmt: skip
def test_a_constant_has_to_be_what_it_says_it_was_made_of(wrong: str) -> None:
    right = "neuron n; param a = 2.0; s = mul x 2.0[a]; out s"
    assert read_program(right).text() == right
    with pytest.raises(ValueError, match="neuron program"):
        read_program(right.replace("2.0[a]", wrong))


TEXTS = {
    "s = x * pi": "s = mul x 3.141592653589793; out s",
    "s = 0.1 + x + 0.2 - (x - 0.3) * 2 / 7": "_1 = add 0.1 x; _2 = add _1 0.2; _3 = sub x 0.3; "
    "_4 = mul _3 2.0; _5 = div _4 7.0; s = sub _2 _5; out s",
    "state u = 1.0; a = u + x; u = a * 2; s = u - a": "state u = 1.0; a = add u x; "
    "u_next = mul a 2.0; s = sub u_next a; next u = u_next; out s",
    # equations and states that the output does not need are left out
    "state u = 0.0; state count = 0.0; count = count + x; u = x + 1; y = exp(x); s = x * 2": (
        "s = mul x 2.0; out s"
    ),
    "s = x + random() + random(normal(0, 1))": "input s_random uniform 0.0 1.0 draw step; "
    "input s_random_ normal 0.0 1.0 draw step; _1 = add x s_random; s = add _1 s_random_; out s",
    # an elementwise choice between scalars has the type of the elements
    "w = learn(3); s = x + (2 * w if x > 0 else w / 3)": "learn w = 3.0; _1 = gt x 0.0; "
    "_2 = mul 2.0 w; _3 = div w 3.0; _4 = cast _2; _5 = cast _3; _6 = where _1 _4 _5; "
    "s = add x _6; out s",
    "w = learn(3); s = x + (2 * w if w > 0 else w / 3)": "learn w = 3.0; _1 = gt w 0.0; "
    "_2 = mul 2.0 w; _3 = div w 3.0; _4 = where _1 _2 _3; s = add x _4; out s",
    "w = delay(x, 3); s = 2 * x": "s = mul 2.0 x; out s",
    "s = x * 0.0 + x * -0.0": "_1 = mul x 0.0; _2 = mul x -0.0; s = add _1 _2; out s",
    "s = max(min(x, -1e-300), -1e300) / 3": "_1 = min x -1e-300; _2 = max _1 -1e+300; s = div _2 3.0; out s",
    # each value has one chain, as long as its longest delay; a delay of 0 steps is the value itself
    "s = delay(x, 0) + delay(x, 2) + 2 * delay(x, 1)": "state x_kept1 = 0.0; state x_kept2 = 0.0; "
    "_1 = add x x_kept2; _2 = mul 2.0 x_kept1; s = add _1 _2; next x_kept1 = x; "
    "next x_kept2 = x_kept1; out s",
    "a = delay(v, 1); v = a + x; s = v + delay(v, 2)": "state v_kept1 = 0.0; state v_kept2 = 0.0; "
    "v = add v_kept1 x; s = add v v_kept2; next v_kept1 = v; next v_kept2 = v_kept1; out s",
    # a delayed name may be defined later
    "v = delay(v, 1) * delay(s, 1) + x; s = heaviside(v - 1)": "state v_kept1 = 0.0; "
    "state s_kept1 = 0.0; _1 = mul v_kept1 s_kept1; v = add _1 x; _2 = sub v 1.0; s = heaviside _2; next v_kept1 = v; "
    "next s_kept1 = s; out s; surrogate sigmoid; param alpha = 4.0; _1 = mul 4.0[alpha] x; "
    "_2 = sigmoid _1; _3 = sub 1.0 _2; _4 = mul _2 _3; slope = mul _4 4.0[alpha]; dy slope",
    "s = x if 1 > 0 else delay(v, 1) + delay(s, 1); v = x": "out x",
    "s = x + delay(b, 1); b = x > 0": "state b_kept1 = 0.0; s = add x b_kept1; b = gt x 0.0; "
    "b_kept1_next = number b; next b_kept1 = b_kept1_next; out s",
    **{
        f"s = x * (10 + round({value}))": f"s = mul x {10 + rounded}; out s"  # halves round to even
        for value, rounded in [(0.5, 0.0), (1.5, 2.0), (2.5, 2.0), (-1.5, -2.0), (2.51, 3.0)]
    },
}


@each_of(TEXTS)
def test_texts(body: str) -> None:
    found = program(f"neuron n {{ {body} }}")
    assert found.text() == f"neuron n; {TEXTS[body]}"
    assert found.is_neuron or not found.states
    assert read_program(found.text()) == read_program(found.text().replace("; ", "\n")) == found
    assert found.membrane == ("_2" if "heaviside" in body else None)


def test_parameters_hide_constants() -> None:
    assert "mul x 3.0[pi]" in program("neuron n(pi = 3.0) { s = x * pi }").text()


@each_of(
    [
        (Learn(2.0), 2.0),
        (Learn(2.0, above=1.0), math.log(math.expm1(1.0))),
        (Learn(2.0, below=2.5), math.log(math.expm1(0.5))),
        (Learn(2.0, above=1.0, below=5.0), math.log(1 / 3)),
        (Learn(0.3, above=0.0, below=1.0), math.log(3 / 7)),
        (Learn(1e6, above=1.0), 999_999.0),
    ]
)
def test_learnables_start_where_they_should(learn: Learn, raw: float) -> None:
    (item,) = program("neuron n(tau = 2.0) { s = x / tau }", tau=learn).learnables
    assert item.name == "tau"
    assert item.raw == pytest.approx(raw, rel=1e-12)
    free = learn.above is None and learn.below is None
    assert item.parameter == ("tau" if free else "tau_raw")
    assert (item.above, item.below) == (learn.above, learn.below)
    assert item.start == pytest.approx(learn.init, rel=1e-9)


def test_sums_over_a_range_fold_from_the_left() -> None:
    pairs = {
        "sum(x / j for j in 1 .. k)": "sum(x / 1, x / 2, x / 3)",
        "sum(x, 2, x)": "(x + 2 + x)",
        "max(x * j for j in 0 .. k if j != 1)": "max(x * 0, x * 2, x * 3)",
        "sum(sum(i + j * x for i in 1 .. 2) for j in 2 .. 2)": "sum(1 + 2 * x, 2 + 2 * x)",
        "sum(exp(x), x for j in 1 .. 2, 1)": "sum(exp(x), x, x, 1)",
        "x * sum(j for j in 1 .. 0)": "x * 0",
        "(x if k > 2 else sum(1 / j for j in 0 .. 1))": "x",
    }
    for pair in pairs.items():
        one, two = (program(f"neuron n(k = 3) {{ s = {body} + x }}").text() for body in pair)
        assert one == two


def test_what_is_learnt_for_each_number_is_called_by_it() -> None:
    text = "neuron n(k = 2) { s = sum(learn(1 / (j + 2)) * x + learn(0) for j in -1 .. k) }"
    names = [[item.name for item in program(text, k=k).learnables] for k in (0, 1)]
    assert names[0] == ["s_learnt_m1", "s_learnt_m1_", "s_learnt_0", "s_learnt_0_"]
    assert names[1][:4] == names[0]
    assert [item.raw for item in program(text, k=0).learnables] == [1.0, 0.0, 0.5, 0.0]


def test_names_of_learnables() -> None:
    learnt = "w = learn(2, above = 1); s = x * w * learn(3) * learn(3) + w_raw"
    text = f"neuron n {{ w_raw = x + 1; {learnt} }}"
    names = [item.parameter for item in program(text).learnables]
    assert names[1:] == ["s_learnt", "s_learnt_"]
    assert names[0] not in ("w_raw", "w")
    assert read_program(program(text).text()) == program(text)
    found = program("neuron n { state a = 0; s = heaviside(x - a); a = learn(2.0, above = 1) }")
    assert [item.name for item in found.learnables] == ["a_learnt"]
    assert read_program(found.text()) == found


REFUSED = [
    "out x; out x", "out 1.0", "out y", "y = __import__ x; out y", "y = total x x; out y",
    "y = add x; out y", "y = add x z; out y", "y = add x nan; out y", "y = add x 1e999; out y",
    "y = add x 1); out y", "x = add x x; out x", "y = exp x; y = exp x; out y",
    "y = lt x 1.0; z = add y x; out z", "y = not x; out x", "state u = 0.0; out u",
    "state u = 0.0; next w = x; out u", "out x; surrogate a; dy y",
    "".join(f"y{i} = exp x; " for i in range(1001)) + "out x",
]  # fmt: skip


@each_of(["", "neuron n", "neuron n(); out x", *(f"neuron n; {body}" for body in REFUSED)])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neuron program"):
        read_program(text)


def test_kernels_hold_no_text_of_the_user() -> None:
    names = ("torch", "step", "spread", "v0", "evil")
    body = "; ".join(f"{b} = {a} + 1" for a, b in zip(("x", *names), names, strict=False))
    source = kernel_source(program(f"neuron exec {{ {body}; s = evil * 2 }}"))
    assert "evil" not in source
    assert "exec" not in source


LOGISTIC = [
    *["1 / (1 + exp(-alpha * x))", "1 / (exp(-(alpha * x)) + 1)", "1 / (1 + exp(x * -alpha))"],
    *["exp(alpha * x) / (1 + exp(alpha * x))", "sigmoid(alpha * x)"],
]
OTHERS = [
    *["1 / (2 + exp(-x))", "2 / (1 + exp(-x))", "exp(x) / (1 + exp(-x))", "1 / (1 + abs(x))"],
    *["1 / (1 + x * x)", "0.5 * x / (1 + exp(-x))", "1 / (1 + exp(x * x))"],
]


@each_of(LOGISTIC + OTHERS)
def test_the_logistic_function_is_recognised(y: str) -> None:
    """All its forms are recognised: the derivative of the text itself would be inf / inf for large -x."""
    result, _ = surrogate(f"surrogate a(alpha = 4.0) {{ y = {y} }}")
    text = "; ".join(f"{op.name} = {op.opcode} {' '.join(map(str, op.args))}" for op in result.ops)
    start = "_1 = mul 4.0 x; _2 = sigmoid _1"
    whole = f"{start}; _3 = sub 1.0 _2; _4 = mul _2 _3; slope = mul _4 4.0"
    assert (text == whole) == (y in LOGISTIC)
    assert ("sigmoid" in text) == (y in [*LOGISTIC, "1 / (1 + exp(x * x))"])
    given = {"alpha": 4.0, "exp": math.exp, "sigmoid": lambda v: 1 / (1 + math.exp(-v))}
    for x in (-1.5, -0.4, 0.3, 1.7):  # against central differences
        slope = evaluate(result.ops, {"x": x})[result.derivative]
        above, below = (float(eval(y, {**given, "x": x + off})) for off in (1e-6, -1e-6))
        assert slope == pytest.approx((above - below) / 2e-6, rel=1e-6)


def test_the_derivative_of_a_straight_line() -> None:
    steep, _ = surrogate("surrogate a(b = 3) { y = b * x + 1 }")
    assert (steep.derivative, parameters_of(steep)) == (3.0, {"b"})


# Body, code, marked text, part of the message or hint, first 70 letters of label, hint and other places.
ERRORS = [
    ("s = y", "E0701", "y", "there is no `y`", "names here are `x`, `p`"),
    ("vth = 1; s = x - vht", "E0701", "vht", "there is no `vht`", "did you mean `vth`?"),
    ("s = exp + x", "E0701", "exp", "is a function", "`exp(...)`"),
    ("s = v; v = x", "E0702", "v", "before it has a value", "equations are evaluated from top to bottom; for the value of the previ"),
    ("v = x; v = 2; s = v", "E0703", "v", "twice", "each name has one equation; declare a `state` to carry a value to the "),
    ("state u = 0.0; u = x; s = u; u = 1", "E0703", "u", "one equation", "a state has one equation, its next value; rename intermediate values; "),
    ("state u = 0.0; state u = 1.0; u = x; s = u", "E0703", "u", "declared twice", "u: first here"),
    ("x = 1; s = x", "E0703", "x", "is the input", ""),
    ("p = x; s = p", "E0703", "p", "is a parameter", ""),
    ("exp = x; s = x", "E0703", "exp", "is a function", ""),
    ("state s = 0.0; s = s + x", "E0704", "s", "is the output", ""),
    ("state x = 0.0; s = x", "E0704", "x", "is the input", ""),
    ("v = x", "E0705", "n", "does not define its output `s`", "add an equation `s = ...`"),
    ("state u = 0.0; s = u + x", "E0706", "u", "never changes", "give its value for the next step, `u = ...`, or make it a parameter"),
    ("state u = 0.0; u = x (1 - u); s = u", "E0707", "x", "is a `*` missing?", ""),
    ("s = later (x); later = 1", "E0707", "later", "is a `*` missing?", ""),
    ("s = sine(x)", "E0707", "sine", "no function `sine`", "did you mean `sin`?"),
    ("s = exp(x, 2)", "E0708", "exp(x, 2)", "takes one value, not 2", ""),
    ("s = max(x)", "E0708", "max(x)", "takes 2 values or more, not 1", ""),
    ("s = exp()", "E0708", "exp()", "takes one value, not 0", ""),
    ("s = exp(base = x)", "E0708", "base = x", "no parameter `base`", ""),
    ("s = x * learn(1, over = 2)", "E0708", "over = 2", "no parameter `over`", "it takes `above`, `below`, `per`, `per_step`"),
    ("s = x -> exp", "E0709", "x -> exp", "not allowed", "equations are arithmetic on single numbers"),
    ('s = "x"', "E0709", '"x"', "not allowed", "equations are arithmetic on single numbers"),
    ("s = x[0]", "E0709", "x[0]", "`x[0]` is not allowed", "equations are arithmetic on single numbers"),
    ("s[0] = x", "E0709", "s", "an index", ""),
    ("s = exp(x for i in 0 .. 2)", "E0709", "x for i in 0 .. 2", "not allowed", "equations are arithmetic on single numbers"),
    ("s = x + max(i for i in 2 .. 1)", "E0708", "max(i for i in 2 .. 1)", "no values", ""),
    ("s = sum(x for p in 0 .. 1)", "E0703", "x for p in 0 .. 1", "`p` is already a name", "choose another name than `p`"),
    ("s = sum(sum(x for i in 0 .. 1) for i in 0 .. 1)", "E0703", "x for i in 0 .. 1", "`i` is a", "choose another name than `i`"),
    ("s = sum(x for i in 0 .. 1) + i", "E0701", "i", "no `i`", "names here are `x`, `p`"),
    ("s = sum(x for i in 0 .. 9999)", "E0716", "x for i in 0 .. 9999", "10000 numbers; the limit is 1000", ""),
    ("s = sum(x for i in 0 .. x)", "E0717", "x", "its end is not constant", "a constant consists of numbers and of parameters that are not learnt"),
    ("s = sum(x for i in 0.5 .. 2)", "E0717", "0.5", "the start of `for` is 0.5", ""),
    ("s = sum(x for i in 0 .. 2 if x > i)", "E0717", "x > i", "not constant", "move it into the value: `(a if condition else 0) for ...`"),
    ("s = delay(x, p / 2)", "E0717", "p / 2", "is 0.5, not a whole number", ""),
    ("s = delay(x, x)", "E0717", "x", "not constant", "a constant consists of numbers and of parameters that are not learnt"),
    ("s = delay(x, -1)", "E0717", "-1", "not -1", ""),
    ("s = delay(x, 101)", "E0717", "101", "must be 0 to 100 time steps", ""),
    ("s = delay(x)", "E0708", "delay(x)", "takes 2 values, not 1", ""),
    ("s = v; v = delay(s, 0) + x", "E0702", "v", "before it has a value", "equations are evaluated from top to bottom; for the value of the previ"),
    ("s = delay(1, 1) + 0 * delay(y, 1)", "E0701", "y", "no `y`", "names here are `x`, `p`"),
    ("s = delay(s, 1)", "E0712", "n", "does not depend on `x`", "s: the output"),
    ("s = x via y", "E0709", "x via y", "not allowed", "equations are arithmetic on single numbers"),
    ("s = x / (2 - 2)", "E0710", None, "division by zero", ""),
    ("s = x * (1 / (2 - 2))", "E0710", "1 / (2 - 2)", "division by zero", ""),
    ("s = x * log(0)", "E0710", "log(0)", "the logarithm of 0", ""),
    ("s = x * log(-1)", "E0710", "log(-1)", "the logarithm of -1", ""),
    ("s = x * sqrt(-1)", "E0710", "sqrt(-1)", "the square root of -1", ""),
    ("s = x * exp(1000)", "E0710", "exp(1000)", "too large", ""),
    ("s = x * (1e300 * 1e300)", "E0710", "1e300 * 1e300", "too large", ""),
    ("s = x * 1e999", "E0710", "1e999", "too large", ""),
    ("s = x * 1" + "0" * 400, "E0710", None, "too large", ""),
    ("s = x * learn(1, above = 1)", "E0711", "learn(1, above = 1)", "value of `learn` is 1", "the initial value must lie strictly between the bounds"),
    ("s = x * learn(1, below = 1)", "E0711", "learn(1, below = 1)", "value of `learn` is 1", "the initial value must lie strictly between the bounds"),
    ("s = x * learn(1, above = 3, below = 2)", "E0711", None, "above 3 and below 2", "the initial value must lie strictly between the bounds"),
    ("s = x * learn(x)", "E0711", "x", "not constant", "a constant consists of numbers and of parameters that are not learnt"),
    ("s = x * learn(1, above = x)", "E0711", "x", "not constant", "a constant consists of numbers and of parameters that are not learnt"),
    ("s = x * learn(uniform(2, 1))", "E0711", "learn(uniform(2, 1))", "its `low` is not below", "write `uniform(low, high)` or `normal(mean, std)`"),
    ("s = x * learn(normal(2, 1), below = 1)", "E0711", None, "normal(2, 1), which is not below 1", "the mean must lie strictly between the bounds, which truncate the dist"),
    ("s = x * learn(normal(2))", "E0711", "normal(2)", "takes two numbers, `mean` and `std`", "write `learn(normal(mean, std))`"),
    ("s = x * learn(uniform(0, x))", "E0711", "x", "is not constant", "a constant consists of numbers and of parameters that are not learnt"),
    ("s = x * uniform(0, 1)", "E0707", "uniform", "no function `uniform`", "random numbers are initial values of learnable parameters: `learn(unif"),
    ("s = x + random(1)", "E0718", "1", "`1` is not a distribution", "write `random(uniform(low, high))` or `random(normal(mean, std))`"),
    ("s = x + random(normal(0, x))", "E0718", "x", "is not constant", "a constant consists of numbers and of parameters that are not learnt"),
    ("s = x + random(normal(0))", "E0718", "normal(0)", "takes two numbers, `mean` and `std`", "write `random(normal(mean, std))`"),
    ("s = x + random(uniform(1, 1))", "E0718", None, "its `low` is not below its `high`", ""),
    ("s = x + random(evaluate = 1)", "E0718", "evaluate = 1", "must be `draw` or `mean`", ""),
    ("s = x + random(per = neuron)", "E0718", "per = neuron", "must be `step` or `sample`", ""),
    ("s = x + random(seed = 1)", "E0708", "seed = 1", "has no parameter `seed`", "it takes `evaluate`, `per`"),
    ("s = x + random(normal, normal)", "E0708", None, "takes one distribution, or none, not 2", ""),
    ("s = x + random", "E0701", "random", "needs arguments", "`random(...)`"),
    ("s = random()", "E0712", "n", "does not depend on `x`", "s: the output"),
    ("state u = random(); u = x; s = u", "E0715", "random()", "not constant", "a constant consists of numbers and of parameters that are not learnt"),
    ("w = learn(1); s = x", "E0711", "learn(1)", "has no influence on", ""),
    ("w = learn(1); s = x * detach(w)", "E0711", "learn(1)", "gets no gradient from", ""),
    ("s = 1", "E0712", "n", "does not depend on `x`", "s: the output"),
    ("state u = 0.0; u = u + 1; s = heaviside(u - 2)", "E0712", "n", "does not depend on", "s: the output"),
    ("s = x >= 1", "E0712", "n", "no gradient", "a comparison has derivative 0; `heaviside(v - v_threshold)` has the su"),
    ("state u = x; u = x; s = u", "E0715", "x", "not constant", "a constant consists of numbers and of parameters that are not learnt"),
    ("; ".join(f"a{i} = exp(a{i - 1})" for i in range(1, 1100)).replace("a0", "x") + "; s = a1099",
     "E0716", "n", "too long", ""),
    ("s = x - thershold; threshold = 1", "E0701", "thershold", "did you mean `threshold`?", "did you mean `threshold`?"),
    ("v = 0.5 * v + x; s = v", "E0701", "v", "add `state v = 0`", "add `state v = 0` to read `v` of the previous step"),
]  # fmt: skip
OF_SURROGATES = [
    ("z = x", "E0713", None, "neither `y` nor `dy`", "a surrogate defines `y`, a smooth step, or `dy`, its derivative"),
    ("y = sigmoid(x); dy = y", "E0713", None, "both `y` and `dy`", "a surrogate defines `y`, a smooth step, or `dy`, its derivative"),
    ("y = heaviside(x)", "E0714", None, "`heaviside`", "a surrogate is a smooth function of `x`, or its derivative"),
    ("y = round(x)", "E0714", None, "`round`", "a surrogate is a smooth function of `x`, or its derivative"),
    ("y = x * learn(1)", "E0714", None, "`learn`", "a surrogate is a smooth function of `x`, or its derivative"),
    ("y = x * random()", "E0714", None, "`random`", "a surrogate is a smooth function of `x`, or its derivative"),
    ("y = delay(x, 1)", "E0714", None, "`delay`", "a surrogate is a smooth function of `x`, or its derivative"),
    ("state u = 0.0; y = x", "E0714", None, "no states", ""),
    ("y = x > 0", "E0714", None, "0 everywhere", "`y` must be smooth: the derivative of a comparison is 0"),
    ("dy = 0", "E0714", None, "0 everywhere", "`y` must be smooth: the derivative of a comparison is 0"),
    ("y = sigmod(x)", "E0707", None, "no function `sigmod`", "did you mean `sigmoid`?"),
    ("y = z", "E0701", None, "no `z`", "names here are `x`, `p`"),
]  # fmt: skip


@each_of([("neuron", *row) for row in ERRORS] + [("surrogate", *row) for row in OF_SURROGATES])
def test_errors(
    kind: str, body: str, code: str, marked: str | None, message: str, more: str
) -> None:
    text = f"{kind} n(p = 1.0) {{ {body} }}"
    _, diagnostics = attempt(text) if kind == "neuron" else surrogate(text)
    assert [item.code for item in diagnostics] == [code], diagnostics
    assert message in f"{diagnostics[0].message} {diagnostics[0].hint}"
    if marked is not None:
        assert diagnostics[0].span.text == marked
    places = (f"{label.span.text}: {label.text}" for label in diagnostics[0].labels)
    shown = "; ".join(filter(None, [diagnostics[0].label, diagnostics[0].hint, *places]))
    assert shown[:70] == more


def test_all_errors_at_once_and_no_follow_ups() -> None:
    text = "neuron n { a = y + z; b = a * 2; c = b + exp(1, 2); s = c + x; s = 1 }"
    _, diagnostics = attempt(text)
    expected = [("E0701", "y"), ("E0701", "z"), ("E0708", "exp(1, 2)"), ("E0703", "s")]
    assert [(item.code, item.span.text) for item in diagnostics] == expected


def test_an_argument_is_blamed_where_it_was_given() -> None:
    span = declare("neuron m = n(tau = 0)").value.args[0].span  # type: ignore[union-attr]
    state = "neuron n(tau = 2.0) { state u = tau; u = u + x; s = u }"
    for text, value, code, label, places in (
        (
            "neuron n(tau = 2.0) { s = x * (1 / tau) }",
            0,
            "E0710",
            "`tau` is given here",
            ["1 / tau"],
        ),
        (state, Learn(1.0), "E0715", "`tau` is given here", None),
        ("neuron n(tau = 2.0) { s = x / tau }", Learn(1.0, 1.0), "E0711", "", []),
    ):
        reporter, spans = Reporter(), {"tau": span}
        assert not compile_neuron(
            declare(text), {"tau": value}, None, {}, reporter, argument_spans=spans
        )
        (error,) = reporter.diagnostics
        assert (error.code, error.span.text, error.label) == (code, "tau = 0", label)
        assert places in ([label.span.text for label in error.labels], None)


def test_a_wrong_surrogate_spoils_the_neuron() -> None:
    reporter = Reporter()
    bad = declare("surrogate a { y = z }")
    good = declare("neuron n { s = heaviside(x) }")
    for _ in range(2):  # the second time, the error is already reported
        assert compile_neuron(good, {}, bad, {}, reporter) is None
    assert [item.code for item in reporter.diagnostics] == ["E0701"]


def test_each_operation_is_work() -> None:
    spent = []
    for functions in (1, 21):
        text = "x" + "".join(f" + exp({i}.5 * x)" for i in range(functions))
        with bounded() as work:
            found = program(f"neuron n {{ s = {text} }}")
        spent.append((len(found.ops), work.steps))
    (few, before), (many, after) = spent
    assert after - before >= OPERATION * (many - few) > 0
