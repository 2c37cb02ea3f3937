"""Bad specs with one error each.

The marks « and » enclose the place of the error in the text.
"""

from itertools import starmap
from typing import NamedTuple

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
GATED = """neuron gated(gate, kick = 0.1, tau = 2.0) {
  v = sigmoid(gate) * delay(v, 1) * (1 - delay(s, 1)) + x / tau + kick
  s = heaviside(v - 0.5)
}
"""
UNREAD = GATED.replace(" + kick", "")


LOOP = """use std
network n {
  input = events(2, 8, 8); steps = 3; neuron = LIF; surrogate = atan
  LINES
}
"""


class Case(NamedTuple):
    """A marked text and its error: the code, words of the message | words of the hint."""

    text: str
    said: str


def net(old: str, new: str, said: str, after: str = "") -> Case:
    """The network above with one part replaced."""
    assert NET.count(old) == 1, old
    return Case(f"{NET.replace(old, new)}{after}\n", said)


def flow(out: str, said: str, after: str = "") -> Case:
    """A plain dataflow network with the given last lines."""
    return Case(FLOW.replace("OUT", out) + after, said)


def loop(lines: str, said: str, after: str = "") -> Case:
    """A network whose lines may depend on themselves. Its result is `h`."""
    out = "out = h -> avgpool -> mean_over_time -> linear(3)"
    return Case(LOOP.replace("LINES", f"{lines}\n  {out}") + after, said)


def own(old: str, declared: str, said: str) -> Case:
    """The network with a declaration of its own instead of one from the standard library."""
    return net(old, "mine", said, declared)


DOUBLED = "backbone b0 = stage(basic(3), 2)\n" + "".join(
    f"backbone b{i + 1} = {f'«b{i} -> b{i}»' if i == 10 else f'b{i} -> b{i}'}\n" for i in range(40)
)
WRITTEN = [
    ("rule mine = «chain»\n", "E0210 `chain` | add `use std`"),
    (NET + "network m = «nn»\n", "E0210 `nn` | did you mean `n`"),
    ("use std\nnetwork «a» = a { steps = 2 }\n", "E0211 variant of itself"),
    (NET + "network m = «IF»\n", "E0403 not of the neuron `IF`"),
    ("network «n» {\n  input = image(3, 8, 8)\n}\n", "E0404 not define its layers | stem"),
    (NET.replace("= IF", "= ReLU").replace("-> norm", "-> «tdbn»"), "E0404 `v_threshold`"),
    (NET + "network m = n { head = conv(«classes») }\n", "E0210 `classes` | is a parameter of `n`"),
]
FLOWS = [
    ("out = b -> «sum»", "E0307 `sum` needs `over` | sum(over = channels)"),
    ("out = b -> softmax(over = «rowss»)", "E0210 `rowss` | did you mean `rows`"),
    ('out = b -> softmax(over = «"rows"»)', "E0304 of `channels`, `rows` | without quotes"),
    ("out = sum(«b»)", "E0304 `over` of `sum` must be one of | joined by `a + b`"),
    ("out = b -> «mean(over = pixels, groups = 2)»", "E0501 groups divide channels"),
    ("out = b -> «sum(over = channels, groups = 5)»", "E0501 5 groups do not divide the"),
    ("v = b -> flatten; out = b -> upsample(like = «v»)", "E0304 must be a map, not a vector"),
    ("out = b -> «conv_transposed(4, padding = 4096)»", "E0501 no output remains of"),
    ("out = «max(2 * b)»", "E0303 `max` takes two values or more, not 1 | over = channels"),
    ("out = b -> «conv(8, over = channels)»", "E0501 over channels | swap(channels, rows)"),
    ("out = «scores(a, b)»", "E0501 8 x 16 x 16 have 8 channels, and keys 16 x 8 x 8 16"),
    ("out = b -> «scores»", "E0405 function of values | scores(q, k)"),
    ("out = b -> «scores(b)»", "E0307 needs `k` | scores(q, k)"),
    ("out = rows(b) * b + «rows(b -> flatten)»", "E0501 no rows"),
    ("out = b -> «conv(8, over = time, stride = 2)»", "E0501 no stride"),
    ("out = b -> «conv(8, kernel = 4, stride = 2, padding = same)»", "E0501 keeps the size"),
    ("out = b -> «linear(over = rows)»", "E0501 needs `width`"),
    ("out = b -> «swap(time, channels)»", "E0501 cannot be swapped | mean(over = channels)"),
    ("out = b[«3 .. 2»]", "E0409 is empty"),
    ("out = a -> «b»", "E0401 a value is not a layer | join values"),
    ("c = b\n  out = «3 if 1 else c»", "E0402 is the number 3, not a value | starts with `in`"),
    ("out = b + «a(3)»", "E0402 `a` is a value and takes no arguments | `*`"),
    ("out = concat(a, b, «conv(1)»)", "E0402 not the layer `conv`"),
    ("out = «b + conv(1)»", "E0406 not the layer `conv` | flows into it"),
    ("out = «a > b»", "E0406 compares numbers"),
    ("out = b + («1 / a»)", "E0406 cannot be divided"),
    ("out = b -> «log»", "E0405 a function of numbers | `neuron NAME { s = log(x) }`"),
    ("out = log(«b»)", "E0304 takes numbers here | `neuron NAME { s = log(x) }`"),
    ("out = b -> conv(8, weight = «3»)", "E0401 takes a layer | a block"),
    ("out = b -> conv(8, weight = «a»)", "E0401 not a value"),
    ("out = b -> «conv(8, weight = IF)»", "E0510 no time steps"),
    ("out = b -> «linear(8, weight = delay(1))»", "E0510 no time steps"),
    ("out = b -> «conv(8, weight = batchnorm)»", "E0510 no statistics"),
    ("out = b -> «linear(8, weight = dropout(0.1))»", "E0510 no noise"),
    ("out = b -> maxpool(2, «weight = relu»)", "E0301 no parameter"),
    ("out = concat(«b -> conv(8) for j in 3 .. 0»)", "E0303 `for j` gives no value | lower to"),
    ("out = sum(«b for j in 0 .. 3 if j > 3»)", "E0303 gives no value | condition must hold"),
    ("c = b\n  out = sum(c for «c» in 0 .. 3)", "E0212 already has a meaning | another name"),
    ("out = sum(sum(b for «j» in 0 .. 1) for j in 0 .. 3)", "E0212 `j` already has a meaning"),
    ("out = sum(b for «conv» in 0 .. 3)", "E0212 `conv` already has a meaning"),
    ("out = sum(b for j in 0 .. «1.5»)", "E0304 the end of `for` must be a whole number"),
    ("out = b + «sum(conv(8) for j in 0 .. 1)»", "E0406 not the layer `conv` | flows into it"),
    ("out = sum(«b for j in 0 .. 1000000»)", "E0906 steps"),
    ("out = log(«learn(1.0)») * b", "E0304 not a number to be learnt"),
    ("out = b -> «identity»(3)", "E0303 takes no arguments"),
    ("out = b + «image(3, 3, 3)»", "E0502 one input"),
    ("out = b -> «maxpool(3, padding = 2)»", "E0501 more than half"),
    ("out = «a + b»", "E0501 8 x 16 x 16 and 16 x 8 x 8 | projection"),
    ("out = «concat(a, b)»", "E0501 sizes do not agree | channels"),
    ("c = in -> «conv(8)»; out = b -> conv(channels(c))", "E0504 `c.conv`"),
    ("c = in -> «PLIF»; out = b -> conv(channels(c))", "E0504 `c.spike`"),
    ("out = b -> «poisson»", "E0504 no gradient flows | encoder"),
    ("out = b -> LIF(«a»)", "E0304 must be a number, not a value | with `->`"),
    ("out = b -> gated(gate = «conv(4)»)", "E0304 not the layer `conv`", GATED),
    ("out = b -> «gated»", "E0307 neuron `gated` needs `gate` | `gated(gate = ...)`", GATED),
    (
        "out = b -> gated(«a»)",
        "E0304 must be a number, not a value | inputs are given by name: `gated(gate = ...)`",
        GATED,
    ),
    ("out = b -> gated(gate = b, tau = learn(«a»))", "E0304 must be a number, not a value", GATED),
    ("out = b -> gated(gate = b, kick = «b»)", "E0712 not depend on `kick`", UNREAD),
    ("out = b -> stage(mine, 2)", "E0211 refers to itself", "block «mine» { out = in -> mine }"),
    ("out = b -> stage(mine, 2)", "E0408 `out`", "block «mine» { a = in -> conv(3) }"),
    ("out = b -> stage(mine, 2)", "E0308 `mine`", "block mine { out = in; «a» = in -> relu }"),
    ("out = b -> «gated(gate = (b -> conv(3)))»", "E0501 16 x 8 x 8 and 3 x 8 x 8", GATED),
    ("out = b -> «linear(8, weight = mean(over = rows))»", "E0501 8 x 1024 x 1 | multiply `in`"),
    ("out = b -> «conv(8, weight = relu -> detach)»", "E0504 to the weights of `conv` | gradients"),
]
CHANGES = [
    ("classes = 10", "classes = «more», more = 2", "E0210 `more` | earlier parameters"),
    ("conv(16)", "conv(16, «kernal = 3»)", "E0301 `kernal` | `kernel`"),
    ("steps = 2", "«extra» = conv(3)", "E0308 is not used"),
    ("steps = 2", "steps = 2; «steps» = 3", "E0212 twice in network `n`"),
    ("conv(16)", "conv(16, «width = 3»)", "E0302 `width` twice"),
    ("via origin", "via origin via «sew»", "E0302 two connections"),
    ("steps = 2", "steps = «steps»", "E0211 `steps` | declare a parameter"),
    ("linear(classes)", "linear(«conv(3)»)", "E0304 not the layer `conv`"),
    ("conv(16)", "conv(«16 / 3»)", "E0304 not 5.33 | floor"),
    ("conv(16)", f"conv(«{'*'.join(['9'] * 40)}»)", "E0306 larger than 1e+15"),
    ("conv(16)", "conv(«1e400»)", "E0306 larger than 1e+15"),
    ("conv(16)", "conv(16 / («4 - 4»))", "E0306 division by zero"),
    ("conv(16)", "conv(«log(0)»)", "E0306 `log(0)` has no value"),
    ("conv(16)", "conv(1 if «IF» else 2)", "E0304 compares numbers"),
    ("= IF", "= LIF(tau = «0»)", "E0710 division by zero"),
    ("= IF", '= IF(v_threshold = «"a"»)', "E0304 `v_threshold`"),
    ("= IF", "= LIF(tau = «learn(0.5, above = 1)»)", "E0305 is 0.5, which is not above 1"),
    ("via origin", "via «chain»", "E0403 takes a connection, not the rule"),
    (STAGES, "«basic(16)»", "E0403 is a block | stage(basic(...), 1)"),
    ("= IF", '= «"IF"»', "E0403 is not a neuron | write the name without quotes: `IF`"),
    ("steps = 2", "norm = «IF»", "E0403 not a norm | batchnorm"),
    ("by chain", "by chain with («steps = 3»)", "E0301 cannot change `steps`"),
    ("stage(basic(16), 2)", "stage(«IF», 2)", "E0403 consists of blocks"),
    ("stage(basic(16), 2)", "stage(«conv(16) -> norm», 2)", "E0408 end with a weighted layer"),
    ("conv(16)", "«digits»", "E0403 the recipe `digits`"),
    ("conv(16)", "«origin»", "E0401 not a layer | via origin"),
    ("avgpool -> mean_over_time -> linear(classes)", "«in -> conv(3)»", "E0401 not a layer"),
    ("conv(16)", "conv(«j for j in 0 .. 3»)", "E0405 in a list of values | `concat`"),
    ("via origin", "via baa(«LIF»)", "E0303 takes no arguments"),
    ("image(3, 32, 32)", "«image(3, 32)»", "E0307 needs `width`"),
    ("stage(basic(16), 2)", "stage(«basic», 2)", "E0307 needs `width`"),
    ("image(3, 32, 32)", "«conv(3)»", "E0502 not an image"),
    (f"{STAGES} via origin by chain", "«stage(basic(16), 2)»", "E0605 no connection | via"),
    ("conv(16)", "«conv(16, groups = 16)»", "E0501 3 input channels"),
    ("conv(16) -> norm", "conv(16) -> «groupnorm(5)»", "E0501 5 groups"),
    ("conv(16)", "conv(16, init = «normal»)", "E0307 `normal` needs `std`"),
    ("conv(16)", "conv(16, init = he_normal(mode = «bilinear»))", "E0304 `fan_in`"),
    ("steps = 2", "init = «0.1»", "E0304 `init` cannot be the number 0.1"),
    ("steps = 2", "init = normal(0.1, 0.2, «0.3»)", "E0303 at most 2 arguments"),
    ("linear(classes)", "linear(classes) -> «conv(3)»", "E0501 a vector of 10"),
    ("image(3, 32, 32)", "«image(60000,60000,60000)»", "E0905 activations"),
    ("stage(basic(16), 2)", "«stage(basic(100000), 99999)»", "E0903 operations"),
    ("conv(16) -> norm -> spike", f"«conv({'1 + ' * 3000}1) -> norm -> spike»", "E0902 nested"),
    (STAGES, "resnet18(width = «0»)", "E0305 `width` of `conv`"),
    (STAGES, "resnet18[«9»]", "E0409 has stages 0 .. 3"),
    (STAGES, "resnet18[«3 .. 1»]", "E0409 is empty | lower to the higher"),
    (STAGES, "«resnet18[0, 1]»", "E0409 one stage or one range"),
    ("head =", "head = «cut» ->", "E0504 no gradient", "neuron cut { s = heaviside(detach(x)) }"),
    (STAGES, "b40", "E0903 2,000 stages", DOUBLED),
]
LOOPS = [
    ("h = (h -> «delay(1)») -> spike", "E0507 is unknown | `delay(1, like = a)`"),
    ("h = «(in -> conv(4)) + (h -> delay(1) -> conv(3))»", "E0501 4 x 8 x 8 and 3 x ? x ? | add"),
    ("h = concat(in, h -> «delay(1, like = in)»)", "E0507 4 x 8 x 8, but | the same value at"),
    ("h = (in + (h -> delay(1))) -> conv(2) -> «norm»", "E0506 has the statistics | statistics ="),
    ("h = (in + (h -> delay(1))) -> «tebn»", "E0506 has the statistics | statistics = step"),
    ("h = in + (h -> delay(1) -> «mean_over_time»)", "E0506 needs all steps at once | move it"),
    ("h = in + (h -> delay(1) -> «droppath(0.2)»)", "E0506 one mask for all steps | move it"),
    ("h = in + (h -> delay(1) -> «conv(over = time)»)", "E0506 needs all steps at once | move it"),
    ("h = in + (h -> delay(1) -> «poisson»)", "E0506 computes all steps | move it before"),
    ("h = in + (h -> delay(«0»))", "E0305 between 1 and 4,096, not 0"),
    ("h = in -> delay(1, like = «3»)", "E0304 must be a value, not the number 3"),
    ("h = in -> «delay(1, like = in -> avgpool)»", "E0501 `like` is 2 x 1 x 1 | leave out `like`"),
    ("«g» = g -> delay(1); h = in", "E0308 is not used | settings are"),
    ("h = conv(2) -> («h -> delay(1)»)", "E0401 a value is not a layer | join values"),
    (
        "h = (in + («h» -> conv(2))) -> spike",
        "E0211 in terms of itself | use a delay: `h -> delay(1)`",
    ),
    ("h = (in + («h» -> late))", "E0211 itself | delay(1)", "block late { out = in -> delay(1) }"),
    (
        "g = (g -> «delay(1, like = in)») -> conv(2); h = g + in",
        "E0506 reads only itself | read the",
    ),
    # an error in two networks is reported once
    (
        "a = in -> conv(1); b = h -> conv(2); h = a + (b -> «delay(1, like = a)»)",
        "E0507 2 x 8 x 8, but the output of the delay 1 x 8 x 8 | both",
        "network two = n { steps = 4 }",
    ),
]
OWN = [
    ("chain", "rule «mine» { in[i] = out[i - 1] }", "E0607 does not define `result`"),
    ("chain", "rule «mine» { result = out[n - 1] }", "E0607 does not define `in[i]`"),
    ("origin", "connection «mine» { each = conv -> norm }", "E0601 does not define `out` | branch"),
    ("origin", "connection «mine» { out = branch }", "E0606 does not define `each` | each = conv"),
    ("basic(16)", "block mine = «norm -> spike»", "E0408 weighted layer | a body"),
    (STAGES, "backbone mine = «3»", "E0403 is the number 3, not stages"),
]
CASES = [
    *starmap(Case, WRITTEN),
    *starmap(flow, FLOWS),
    *starmap(net, CHANGES),
    *starmap(own, OWN),
    *starmap(loop, LOOPS),
    Case(
        NET.replace("stem", "«stem»").replace(
            f"stages = {STAGES} via origin by chain\n  head =", "out = in ->"
        ),
        "E0308 `stem` has no effect | out = in",
    ),
    Case(
        NET.replace("neuron = IF\n", "").replace("spike", "«spike»"),
        "E0404 does not define its neuron | neuron = IF",
    ),
    Case(
        NET.replace(STAGES, "«vgg11»").replace("via origin", "via plain").replace("32, 32", "4, 4"),
        "E0501 pooling: a window of 2 does not fit into 1",
    ),
    Case(
        NET.replace("origin", "«baa»").replace("steps = 2", "zero_init = true"),
        "E0503 does not end with a norm | leave `zero_init` out",
    ),
    flow(
        "out = b -> «conv(8, over = time, padding = 1)»",
        "E0501 keeps the number of steps | padding = same",
    ),
    flow(
        "out = b -> linear(over = time, window = 2, masked = «scheduled(1.5)»)",
        "E0305 `masked` of `linear` must be between 0 and 1, not 1.5",
    ),
    flow(
        "out = b -> «conv(8, weight = f(a))»",
        "E0510 values of the network",
        "block f(v) { out = in * (v -> avgpool) }",
    ),
    flow(
        "out = b -> (stage(mine, 2) via «origin»)",
        "E0604 would have no effect | without `each`",
        "block mine { out = in -> conv(16) }",
    ),
    net(
        "stem = conv(16)",
        "stem = one -> conv(16)\n  one = «two» -> norm\n  two = one -> norm",
        "E0211 through `",
    ),
    net(
        STAGES,
        "(«stage(conv(16) -> norm, 2, stride = 2)»)",
        "E0307 a flow has no parameter `stride`",
    ),
    net(
        f"{STAGES} via",
        "«stage(basic(16), 2)» -> stage(basic(32), 2) via",
        "E0605 has no connection | parentheses",
    ),
    net(
        "stage(basic(32), 2, stride = 2)",
        "«stage(mine, 2, stride = 2)»",
        "E0307 no parameter `stride` | stride = 1",
        "block mine = conv(32)",
    ),
    net(
        "head = avgpool",
        "head = avgpool -> «conv(16, kernel = 7, padding = 0)»",
        "E0501 a window of 7 does not fit into 1 | reduce the kernel",
    ),
    net(
        "by chain",
        "by «mine»",
        "E0501 16 x 32 x 32 and 32 x 16 x 16",
        "rule mine { in[i] = in[0] + out[i - 1]; result = out[n - 1] }",
    ),
    net(
        "n(classes = 10) {\n  input = image(3, 32, 32)",
        "«n»(classes = 10) {",
        "E0404 does not define its input | input = image",
    ),
    own(
        "origin",
        "connection mine { each = conv -> norm; out = «conv(3)» }",
        "E0402 not a value | branch",
    ),
    own(
        "chain",
        "rule mine { in[i] = sum(«out[0] for j in 0 .. 1000000000»); result = out[n - 1] }",
        "E0906 steps",
    ),
    own(
        STAGES,
        "backbone «mine» = mine -> stage(basic(3), 2)",
        "E0211 backbone `mine` refers to itself | stage(BLOCK, N)",
    ),
    own(
        "origin",
        "connection mine { each = conv -> norm; «projektion» = conv; out = branch + shortcut }",
        "E0308 `projektion` | `projection`",
    ),
    own(
        "origin",
        "connection mine { each = conv; projection = conv; «branch» = in; out = branch + shortcut }",
        "E0212 a connection predefines `branch` | write `each` to wrap the layers of a block",
    ),
    own(
        "origin",
        "connection mine { each = conv -> norm; «projection = norm»; out = branch + shortcut }",
        "E0602 returns 16 x 32 x 32, but the branch 32 x 16 x 16 | shape of the branch",
    ),
    own(
        "origin",
        "connection mine { each = conv; projection = «branch -> norm»; out = branch + shortcut }",
        "E0401 a value",
    ),
    own(
        "origin",
        "connection mine { each = conv -> norm -> spike; «out = branch + shortcut» }",
        "E0602 from 16 x 32 x 32 to 32 x 16 x 16 | projection = conv",
    ),
    own(
        "origin",
        "connection mine { each = «conv -> conv -> norm»; out = branch }",
        "E0606 not 2 times | without a width once",
    ),
]


def errors(text: str) -> tuple[Diagnostic, ...]:
    """All errors of a text. Any exception other than SpecError fails the test."""
    try:
        check_text(text)
    except SpecError as error:
        return error.diagnostics
    return ()


def assert_says(found: Diagnostic, said: str) -> None:
    """Assert that a diagnostic has this code, and these words in its message and its hint."""
    code, _, words = said.partition(" ")
    message, _, hint = words.partition(" | ")
    assert found.code == code
    assert message in found.message
    assert hint in (found.hint or "")


def unmarked(marked: str) -> tuple[str, int, int]:
    """The text without its marks, and the start and end of the marked place."""
    before, rest = marked.split("«")
    wrong, after = rest.split("»")
    return before + wrong + after, len(before), len(before) + len(wrong)
