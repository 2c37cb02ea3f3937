"""Bad specs, each with its one error.

The place that is to be mended is marked by « and » in the text.
"""

from __future__ import annotations

from dataclasses import dataclass

from danetc.compiler import check_text
from danetc.dsl.diagnostics.diagnostic import Diagnostic, SpecError

NET = """use std

network n(classes = 10) {
  input = image(3, 32, 32)
  steps = 2
  neuron = IF
  surrogate = sigmoid
  stem = conv(16) -> norm -> spike
  stages = (stage(basic(16), 2) -> stage(basic(32), 2, stride = 2)) via origin by chain
  head = avgpool -> mean_over_time -> linear(classes)
}
"""
STAGES = "(stage(basic(16), 2) -> stage(basic(32), 2, stride = 2))"
FLOW = """use std

network n {
  input = image(3, 16, 16)
  neuron = IF
  surrogate = sigmoid
  a = in -> conv(8) -> norm -> spike
  b = a -> maxpool(2) -> conv(16) -> norm -> spike
  OUT
}
"""


@dataclass(frozen=True)
class Case:
    """A marked text, the code of its error, and words of its message and of its hint."""

    text: str
    code: str
    words: str
    hint: str = ""


def net(old: str, new: str, code: str, words: str, hint: str = "", after: str = "") -> Case:
    """The network above with a part exchanged."""
    assert NET.count(old) == 1, old
    return Case(NET.replace(old, new) + after, code, words, hint)


def flow(out: str, code: str, words: str, hint: str = "") -> Case:
    """A network that is plain dataflow, by its last lines."""
    return Case(FLOW.replace("OUT", out), code, words, hint)


def connection(body: str, code: str, words: str, hint: str = "", params: str = "") -> Case:
    after = f"connection mine{params} {{ {body} }}\n"
    return net("via origin", "via mine", code, words, hint, after)


def rule(body: str, code: str, words: str, hint: str = "") -> Case:
    return net("by chain", "by mine", code, words, hint, f"rule mine {{ {body} }}\n")


def block(use: str, text: str, code: str, words: str, hint: str = "", via: str = "origin") -> Case:
    case = net("stage(basic(16), 2)", f"stage({use}, 2)", code, words, hint, text + "\n")
    plain = "connection bare { out = branch }\n" if via == "bare" else ""
    return Case(case.text.replace("via origin", f"via {via}") + plain, code, words, hint)


def backbone(text: str, code: str, words: str, hint: str = "", after: str = "") -> Case:
    return net(STAGES, text, code, words, hint, after)


NAMES = {
    "std is not used": Case("rule mine = «chain»\n", "E0210", "`chain`", "add `use std`"),
    "over nothing": flow("out = b -> «sum»", "E0307", "`sum` needs `over`", "sum(over = channels)"),
    "word": flow("out = b -> softmax(over = «rowss»)", "E0210", "`rowss`", "did you mean `rows`"),
    "later parameter": net(
        "classes = 10", "classes = «more», more = 2", "E0210", "`more`", "earlier parameters"
    ),
    "network of a variant": Case(NET + "network m = «nn»\n", "E0210", "`nn`", "did you mean `n`"),
    "base's parameter": Case(
        NET + "network m = n { head = avgpool -> linear(«classes») }\n",
        "E0210",
        "`classes`",
        "is a parameter of `n`",
    ),
    "argument": net("conv(16)", "conv(16, «kernal = 3»)", "E0301", "`kernal`", "`kernel`"),
    "unused definition": net("steps = 2", "«extra» = conv(3)", "E0308", "is not used"),
    "stem beside out": Case(
        NET.replace("head =", "out = in ->")
        .replace("stem", "«stem»")
        .replace("  stages = " + STAGES + " via origin by chain\n", ""),
        "E0308",
        "`stem` has no effect",
        "out = in",
    ),
    "unused part of a connection": connection(
        "each = conv -> norm -> spike; «projektion» = conv; out = branch + shortcut",
        "E0308",
        "`projektion`",
        "`projection`",
    ),
    "defined twice": net("steps = 2", "steps = 2; «steps» = 3", "E0212", "twice in network `n`"),
    "known already": connection(
        "each = conv -> norm; projection = conv -> norm; «branch» = in; out = branch + shortcut",
        "E0212",
        "a connection predefines `branch`",
        "write `each` to wrap the layers of a block",
    ),
    "given twice": net("conv(16)", "conv(16, «width = 3»)", "E0302", "`width` twice"),
    "connection given twice": net("via origin", "via origin via «sew»", "E0302", "two connections"),
}

CIRCLES = {
    "definitions": net(
        "stem = conv(16)",
        "stem = one -> conv(16)\n  one = «two» -> norm\n  two = one -> norm",
        "E0211",
        "through `",
    ),
    "setting": net("steps = 2", "steps = «steps»", "E0211", "`steps`", "declare a parameter"),
    "block": block(
        "mine", "block «mine» { out = in -> mine }", "E0211", "refers to itself", "", "bare"
    ),
    "backbone": backbone(
        "mine",
        "E0211",
        "backbone `mine` refers to itself",
        "stage(BLOCK, N)",
        "backbone «mine» = mine -> stage(basic(3), 2)\n",
    ),
    "network": Case("use std\nnetwork «a» = a { steps = 2 }\n", "E0211", "variant of itself"),
}

NUMBERS = {
    "quoted word": flow(
        'out = b -> softmax(over = «"rows"»)', "E0304", "of `channels`, `rows`", "without quotes"
    ),
    "sum of one value": flow(
        "out = sum(«b»)", "E0304", "`over` of `sum` must be one of", "joined by `a + b`"
    ),
    "groups of pixels": flow(
        "out = b -> «mean(over = pixels, groups = 2)»", "E0501", "groups divide channels"
    ),
    "groups that do not divide": flow(
        "out = b -> «sum(over = channels, groups = 5)»", "E0501", "5 groups do not divide the"
    ),
    "like a vector": flow(
        "v = b -> flatten; out = b -> upsample(like = «v»)", "E0304", "must be a map, not a vector"
    ),
    "nothing left": flow(
        "out = b -> «conv_transposed(4, padding = 4096)»", "E0501", "no output remains of"
    ),
    "the greatest of one": flow(
        "out = «max(2 * b)»", "E0303", "`max` takes two values or more, not 1", "over = channels"
    ),
    "conv over channels": flow(
        "out = b -> «conv(8, over = channels)»", "E0501", "over channels", "swap(channels, rows)"
    ),
    "queries and keys of other widths": flow(
        "out = «scores(a, b)»", "E0501", "8 x 16 x 16 have 8 channels, and keys 16 x 8 x 8 16"
    ),
    "scores as a layer": flow("out = b -> «scores»", "E0405", "function of values", "scores(q, k)"),
    "scores behind an arrow": flow("out = b -> «scores(b)»", "E0307", "needs `k`", "scores(q, k)"),
    "rows of a vector": flow("out = rows(b) * b + «rows(b -> flatten)»", "E0501", "no rows"),
    "stride over time": flow("out = b -> «conv(8, over = time, stride = 2)»", "E0501", "no stride"),
    "padding over time": flow(
        "out = b -> «conv(8, over = time, padding = 1)»",
        "E0501",
        "keeps the number of steps",
        "padding = same",
    ),
    "stride and same": flow(
        "out = b -> «conv(8, kernel = 4, stride = 2, padding = same)»", "E0501", "keeps the size"
    ),
    "more than the whole mask": flow(
        "out = b -> linear(over = time, window = 2, masked = «scheduled(1.5)»)",
        "E0305",
        "`masked` of `linear` must be between 0 and 1, not 1.5",
    ),
    "no width over rows": flow("out = b -> «linear(over = rows)»", "E0501", "needs `width`"),
    "swap of time": flow(
        "out = b -> «swap(time, channels)»", "E0501", "cannot be swapped", "mean(over = channels)"
    ),
    "no channels": flow("out = b[«3 .. 2»]", "E0409", "is empty"),
    "layer": net("linear(classes)", "linear(«conv(3)»)", "E0304", "not the layer `conv`"),
    "quotient": net("conv(16)", "conv(«16 / 3»)", "E0304", "not 5.33", "floor"),
    "large constant": net(
        "conv(16)", f"conv(«{'*'.join(['9'] * 40)}»)", "E0306", "larger than 1e+15"
    ),
    "infinite": net("conv(16)", "conv(«1e400»)", "E0306", "larger than 1e+15"),
    "by zero": net("conv(16)", "conv(16 / («4 - 4»))", "E0306", "division by zero"),
    "no logarithm": net("conv(16)", "conv(«log(0)»)", "E0306", "`log(0)` has no value"),
    "compares a layer": net("conv(16)", "conv(1 if «IF» else 2)", "E0304", "compares numbers"),
    "where std was given it": backbone("resnet18(width = «0»)", "E0305", "`width` of `conv`"),
    "neuron's constant": net("= IF", "= LIF(tau = «0»)", "E0710", "division by zero"),
    "neuron's argument": net("= IF", '= IF(v_threshold = «"a"»)', "E0304", "`v_threshold`"),
    "learnable out of bounds": net(
        "= IF", "= LIF(tau = «learn(0.5, above = 1)»)", "E0305", "is 0.5, which is not above 1"
    ),
}

KINDS = {
    "via a rule": net("via origin", "via «chain»", "E0403", "takes a connection, not the rule"),
    "via on a block": net(STAGES, "«basic(16)»", "E0403", "is a block", "stage(basic(...), 1)"),
    "a neuron in quotes": net(
        "= IF", '= «"IF"»', "E0403", "is not a neuron", "write the name without quotes: `IF`"
    ),
    "norm": net("steps = 2", "norm = «IF»", "E0403", "not a norm", "batchnorm"),
    "with a setting of networks": net(
        "by chain", "by chain with («steps = 3»)", "E0301", "cannot change `steps`"
    ),
    "stage of a neuron": net(
        "stage(basic(16), 2)", "stage(«IF», 2)", "E0403", "consists of blocks"
    ),
    "stride of a flow": net(
        STAGES,
        "(«stage(conv(16) -> norm, 2, stride = 2)»)",
        "E0307",
        "a flow has no parameter `stride`",
    ),
    "flow without weights at its end": net(
        "stage(basic(16), 2)", "stage(«conv(16) -> norm», 2)", "E0408", "end with a weighted layer"
    ),
    "variant of a neuron": Case(NET + "network m = «IF»\n", "E0403", "not of the neuron `IF`"),
    "recipe as a layer": net("conv(16)", "«digits»", "E0403", "the recipe `digits`"),
    "connection as a layer": net("conv(16)", "«origin»", "E0401", "not a layer", "via origin"),
    "value as a layer": flow("out = a -> «b»", "E0401", "a value is not a layer", "join values"),
    "head as a value": net(
        "avgpool -> mean_over_time -> linear(classes)", "«in -> conv(3)»", "E0401", "not a layer"
    ),
    "network without a value": flow(
        "c = b\n  out = «3 if 1 else c»",
        "E0402",
        "is the number 3, not a value",
        "starts with `in`",
    ),
    "value called": flow(
        "out = b + «a(3)»", "E0402", "`a` is a value and takes no arguments", "`*`"
    ),
    "concat of layers": flow("out = concat(a, b, «conv(1)»)", "E0402", "not the layer `conv`"),
    "sum of layers": flow("out = «b + conv(1)»", "E0406", "not the layer `conv`", "flows into it"),
    "comparison of values": flow("out = «a > b»", "E0406", "compares numbers"),
    "divided by a value": flow("out = b + («1 / a»)", "E0406", "cannot be divided"),
    "function behind an arrow": flow(
        "out = b -> «log»", "E0405", "a function of numbers", "`neuron NAME { s = log(x) }`"
    ),
    "function of a value": flow(
        "out = log(«b»)", "E0304", "takes numbers here", "`neuron NAME { s = log(x) }`"
    ),
    "number as a weight": flow(
        "out = b -> conv(8, weight = «3»)", "E0401", "takes a layer", "a block"
    ),
    "value as a weight": flow("out = b -> conv(8, weight = «a»)", "E0401", "not a value"),
    "spikes of weights": flow("out = b -> «conv(8, weight = IF)»", "E0510", "no time steps"),
    "delayed weights": flow("out = b -> «linear(8, weight = delay(1))»", "E0510", "no time steps"),
    "norm of weights": flow("out = b -> «conv(8, weight = batchnorm)»", "E0510", "no statistics"),
    "dropped weights": flow("out = b -> «linear(8, weight = dropout(0.1))»", "E0510", "no noise"),
    "weights of a value": flow(
        "out = b -> «conv(8, weight = f(a))»\n}\nblock f(v) {\n  out = in * (v -> avgpool)",
        "E0510",
        "values of the network",
    ),
    "small weights": flow(
        "out = b -> «linear(8, weight = mean(over = rows))»",
        "E0501",
        "8 x 1024 x 1",
        "multiply `in`",
    ),
    "constant weights": flow(
        "out = b -> «conv(8, weight = relu -> detach)»",
        "E0504",
        "to the weights of `conv`",
        "gradients",
    ),
    "weight of no layer": flow("out = b -> maxpool(2, «weight = relu»)", "E0301", "no parameter"),
    "for outside of a list": net(
        "conv(16)", "conv(«j for j in 0 .. 3»)", "E0405", "in a list of values", "`concat`"
    ),
    "empty range": flow(
        "out = concat(«b -> conv(8) for j in 3 .. 0»)",
        "E0303",
        "`for j` gives no value",
        "lower to",
    ),
    "empty by its condition": flow(
        "out = sum(«b for j in 0 .. 3 if j > 3»)", "E0303", "gives no value", "condition must hold"
    ),
    "variable with the name of a line": flow(
        "c = b\n  out = sum(c for «c» in 0 .. 3)", "E0212", "already has a meaning", "another name"
    ),
    "variable of an outer for": flow(
        "out = sum(sum(b for «j» in 0 .. 1) for j in 0 .. 3)", "E0212", "`j` already has a meaning"
    ),
    "variable with the name of an operation": flow(
        "out = sum(b for «conv» in 0 .. 3)", "E0212", "`conv` already has a meaning"
    ),
    "range of a fraction": flow(
        "out = sum(b for j in 0 .. «1.5»)", "E0304", "the end of `for` must be a whole number"
    ),
    "for of layers": flow(
        "out = b + «sum(conv(8) for j in 0 .. 1)»", "E0406", "not the layer `conv`", "flows into it"
    ),
    "long range": flow("out = sum(«b for j in 0 .. 1000000»)", "E0906", "steps"),
    "logarithm of a learnt number": flow(
        "out = log(«learn(1.0)») * b", "E0304", "not a number to be learnt"
    ),
    "identity with arguments": flow("out = b -> «identity»(3)", "E0303", "takes no arguments"),
    "many arguments": net("via origin", "via baa(«LIF»)", "E0303", "takes no arguments"),
    "missing height": net("image(3, 32, 32)", "«image(3, 32)»", "E0307", "needs `width`"),
    "block's missing width": net(
        "stage(basic(16), 2)", "stage(«basic», 2)", "E0307", "needs `width`"
    ),
    "two inputs": flow("out = b + «image(3, 3, 3)»", "E0502", "one input"),
    "no image": net("image(3, 32, 32)", "«conv(3)»", "E0502", "not an image"),
}

MISSING = {
    "input": Case(
        NET.replace("  input = image(3, 32, 32)\n", "").replace("network n", "network «n»"),
        "E0404",
        "does not define its input",
        "input = image",
    ),
    "neuron": Case(
        NET.replace("  neuron = IF\n", "").replace("spike", "«spike»"),
        "E0404",
        "does not define its neuron",
        "neuron = IF",
    ),
    "everything": Case(
        "network «n» {\n  input = image(3, 8, 8)\n}\n", "E0404", "not define its layers", "stem"
    ),
    "threshold for tdbn": Case(
        NET.replace("= IF", "= ReLU").replace("-> norm", "-> «tdbn»"), "E0404", "`v_threshold`"
    ),
    "connection": net(
        f"{STAGES} via origin by chain", "«stage(basic(16), 2)»", "E0605", "no connection", "via"
    ),
    "parentheses before via": net(
        f"{STAGES} via",
        "«stage(basic(16), 2)» -> stage(basic(32), 2) via",
        "E0605",
        "has no connection",
        "parentheses",
    ),
    "projection": Case(
        NET.replace("via origin", "via mine")
        + "connection mine {\n  each = conv -> norm -> spike\n  «out = branch + shortcut»\n}\n",
        "E0602",
        "from 16 x 32 x 32 to 32 x 16 x 16",
        "projection = conv",
    ),
    "out of a connection": Case(
        NET.replace("via origin", "via mine") + "connection «mine» { each = conv -> norm }\n",
        "E0601",
        "does not define `out`",
        "branch",
    ),
    "each of a connection": Case(
        NET.replace("via origin", "via mine") + "connection «mine» { out = branch }\n",
        "E0606",
        "does not define `each`",
        "each = conv",
    ),
    "out of a block": block(
        "mine", "block «mine» { a = in -> conv(3) }", "E0408", "`out`", "", "bare"
    ),
    "stride of a block": net(
        "stage(basic(32), 2, stride = 2)",
        "«stage(mine, 2, stride = 2)»",
        "E0307",
        "no parameter `stride`",
        "stride = 1",
        "block mine = conv(32)\n",
    ),
}

SHAPES = {
    "kernel": net(
        "head = avgpool",
        "head = avgpool -> «conv(16, kernel = 7, padding = 0)»",
        "E0501",
        "a window of 7 does not fit into 1",
        "reduce the kernel",
    ),
    "pooling of std": Case(
        NET.replace(STAGES, "«vgg11»").replace("via origin", "via plain").replace("32, 32", "4, 4"),
        "E0501",
        "pooling: a window of 2 does not fit into 1",
    ),
    "padding": flow("out = b -> «maxpool(3, padding = 2)»", "E0501", "more than half"),
    "groups of the input": net("conv(16)", "«conv(16, groups = 16)»", "E0501", "3 input channels"),
    "groups of a norm": net("conv(16) -> norm", "conv(16) -> «groupnorm(5)»", "E0501", "5 groups"),
    "first weights without a number": net(
        "conv(16)", "conv(16, init = «normal»)", "E0307", "`normal` needs `std`"
    ),
    "fans of first weights": net(
        "conv(16)", "conv(16, init = he_normal(mode = «bilinear»))", "E0304", "`fan_in`"
    ),
    "first weights of a network": net(
        "steps = 2", "init = «0.1»", "E0304", "`init` cannot be the number 0.1"
    ),
    "many numbers of first weights": net(
        "steps = 2", "init = normal(0.1, 0.2, «0.3»)", "E0303", "at most 2 arguments"
    ),
    "vector": net("linear(classes)", "linear(classes) -> «conv(3)»", "E0501", "a vector of 10"),
    "sum": flow("out = «a + b»", "E0501", "8 x 16 x 16 and 16 x 8 x 8", "projection"),
    "concat": flow("out = «concat(a, b)»", "E0501", "sizes do not agree", "channels"),
    "sum of a rule": net(
        "by chain",
        "by «mine»",
        "E0501",
        "16 x 32 x 32 and 32 x 16 x 16",
        "",
        "rule mine { in[i] = in[0] + out[i - 1]; result = out[n - 1] }\n",
    ),
    "projection": connection(
        "each = conv -> norm -> spike; «projection = norm»; out = branch + shortcut",
        "E0602",
        "returns 16 x 32 x 32, but the branch 32 x 16 x 16",
        "shape of the branch",
    ),
    "baa starts at zero": Case(
        NET.replace("via origin", "via «baa»").replace("steps = 2", "zero_init = true"),
        "E0503",
        "does not end with a norm",
        "leave `zero_init` out",
    ),
    "a neuron that no gradient passes": Case(
        NET.replace("head =", "head = «cut» ->") + "neuron cut { s = heaviside(detach(x)) }\n",
        "E0504",
        "no gradient",
    ),
    "unused layer": flow("c = in -> «conv(8)»; out = b -> conv(channels(c))", "E0504", "`c.conv`"),
    "unused neuron that learns": flow(
        "c = in -> «PLIF»; out = b -> conv(channels(c))", "E0504", "`c.spike`"
    ),
    "encoder after weights": flow("out = b -> «poisson»", "E0504", "no gradient flows", "encoder"),
}

CONNECTIONS = {
    "each on a block that wires itself": block(
        "mine",
        "block mine { out = in -> conv(16) }",
        "E0604",
        "would have no effect",
        "without `each`",
        "«origin»",
    ),
    "two places": connection(
        "each = «conv -> conv -> norm»; out = branch",
        "E0606",
        "not 2 times",
        "without a width once",
    ),
    "no value": connection(
        "each = conv -> norm; out = «conv(3)»", "E0402", "not a value", "branch"
    ),
    "value as projection": connection(
        "each = conv; projection = «branch -> norm»; out = branch + shortcut", "E0401", "a value"
    ),
    "block of layers": block(
        "mine", "block mine = «norm -> spike»", "E0408", "weighted layer", "a body"
    ),
    "backbone is a number": backbone(
        "mine", "E0403", "is the number 3, not stages", "", "backbone mine = «3»\n"
    ),
    "stage that is not there": backbone("resnet18[«9»]", "E0409", "has stages 0 .. 3"),
    "no stages": backbone("resnet18[«3 .. 1»]", "E0409", "is empty", "lower to the higher"),
    "two indices": backbone("«resnet18[0, 1]»", "E0409", "one stage or one range"),
}

LARGE = {
    "image": net("image(3, 32, 32)", "«image(60000,60000,60000)»", "E0905", "activations"),
    "stage": net("stage(basic(16), 2)", "«stage(basic(100000), 99999)»", "E0903", "operations"),
    "range": rule("in[i] = sum(«out[0] for j in 0 .. 1000000000»); result = out[n - 1]", "E0906", "steps"),
    "long sum": net(
        "conv(16) -> norm -> spike", f"«conv({'1 + ' * 3000}1) -> norm -> spike»", "E0902", "nested"
    ),
    "backbones of backbones": backbone(
        "b40", "E0903", "2,000 stages", "",
        "backbone b0 = stage(basic(3), 2)\n"
        + "".join(
            f"backbone b{i + 1} = {f'«b{i} -> b{i}»' if i == 10 else f'b{i} -> b{i}'}\n"
            for i in range(40)
        ),
    ),
}  # fmt: skip

CASES = {
    f"{name}: {key}": case
    for name, group in (
        ("name", NAMES), ("circle", CIRCLES), ("number", NUMBERS), ("kind", KINDS),
        ("missing", MISSING), ("shape", SHAPES), ("connection", CONNECTIONS),
        ("large", LARGE),
    )
    for key, case in group.items()
}  # fmt: skip


def errors(text: str) -> tuple[Diagnostic, ...]:
    """All errors of a text; anything but a SpecError fails the test."""
    try:
        check_text(text)
    except SpecError as error:
        return error.diagnostics
    return ()


def unmarked(marked: str) -> tuple[str, int, int]:
    """A marked text without its marks, and where the place begins and ends."""
    before, rest = marked.split("«")
    wrong, after = rest.split("»")
    return before + wrong + after, len(before), len(before) + len(wrong)
