"""Entries of words: keywords, declarations, and names that are known in certain places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from danetc.dsl.syntax.source import SourceFile
from danetc.reference import examples
from danetc.reference.entry import Entry, sentence


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    kind: str
    usage: str
    meaning: str
    text: str = ""


_ROWS = (
    # what a file is made of
    _Row("use", "keyword", 'use std; use "blocks.danet"; use std (LIF, resnet50)',
         "takes the declarations of the standard library or of another file, all or some",
         "A path is relative to the file that names it. What a file has taken itself is not passed on."),
    _Row("network", "keyword", "network NAME(parameters) { input = ...; steps = ...; out = ... }",
         "declares a network: its input, time steps, neuron, surrogate, and what it computes",
         "`stem`, `stages` and `head` follow each other; or `out` says what comes out of lines with "
         "names. `network b = a(...) { lines }` is a variant: `a` with these lines in place of its own."),
    _Row("block", "keyword", "block NAME(parameters) = conv(...) -> conv(...)",
         "declares the layers of weights of a block, which a connection wires; or, with a body, a "
         "block that wires itself",
         "In a body `in` is what the block takes, and `out = ...` says what it gives."),
    _Row("backbone", "keyword", "backbone NAME(parameters) = stage(BLOCK, N) -> stage(BLOCK, N, stride = 2)",
         "declares stages of blocks in sequence: which weights a network has"),
    _Row("connection", "keyword", "connection NAME { each = ...; projection = ...; out = branch + shortcut }",
         "declares how a block is wired: where norm, neuron and addition stand",
         "`each` is what stands around each layer of weights of the block, `last` around its last "
         "where that differs, `projection` the shortcut where the shape changes, `identity` the "
         "shortcut where it does not, and `out` joins `branch` and `shortcut`."),
    _Row("rule", "keyword", "rule NAME { in[i] = ...; result = ... }",
         "declares what feeds block i of a stage of n blocks, and what the stage gives",
         "`in[0]` is the input of the stage, `out[i]` what block i gives."),
    _Row("neuron", "keyword", "neuron NAME(parameters) { state u = 0.0; ...; s = ... }",
         "declares a neuron by its equations at one time step",
         "`x` is its input and `s` its output. A state holds its value from one step to the next."),
    _Row("surrogate", "keyword", "surrogate NAME(parameters) { y = ... } or { dy = ... }",
         "declares what stands for the derivative of heaviside at x",
         "`y` is a smooth function whose derivative is taken, `dy` the derivative itself."),
    _Row("recipe", "keyword", "recipe NAME { epochs = ...; optimizer = ...; ... }",
         "declares how a network is trained; `phase NAME { ... }` in it is one of several parts, which follow each other",
         "A variant, `recipe b = a { ... }`, changes the settings that it names."),
    # words of values
    _Row("via", "keyword", "BACKBONE via CONNECTION", "wires the blocks of a backbone by a connection"),
    _Row("by", "keyword", "BACKBONE via CONNECTION by RULE",
         "feeds the blocks of each stage by a rule; `chain` where nothing is said"),
    _Row("with", "keyword", "STAGES with (neuron = PLIF)",
         "sets the neuron, surrogate, norm or first weights of some stages, in place of the network's"),
    _Row("if", "keyword", "a if condition else b", "`a` where the condition is true, else `b`"),
    _Row("else", "keyword", "a if condition else b", "`a` where the condition is true, else `b`"),
    _Row("for", "keyword", "sum(VALUE for j in 0 .. n - 1 if CONDITION)",
         "gives a value for each j of a range, both ends included, to `sum`, `concat`, `max` or `min`"),
    _Row("and", "keyword", "a and b", "true where both `a` and `b` are"),
    _Row("or", "keyword", "a or b", "true where `a` or `b` is, or both"),
    _Row("not", "keyword", "not a", "true where `a` is false"),
    _Row("state", "keyword", "state u = 0.0",
         "declares a state of a neuron with the value that it starts at, anew in each forward pass"),
    _Row("phase", "keyword", "phase NAME { epochs = ...; ... }",
         "one part of a recipe; phases run in order, each with the weights of the one that its `start` names, or with new ones"),
    _Row("in", "word", "in -> ...", "what a network, a block or a connection takes; of a rule `in[i]`, what block i takes, and alone what the stage takes"),
    _Row("out", "word", "out = ...", "what a network, a block or a connection gives; of a rule `out[i]`, what block i gives"),
    # names of places
    _Row("result", "word", "result = out[n-1]", "of a rule: what the stage gives"),
    _Row("branch", "word", "out = branch + shortcut", "of a connection: what the block's layers of weights give"),
    _Row("shortcut", "word", "out = branch + shortcut",
         "of a connection: the block's input, through `projection` where the shape changes"),
    _Row("each", "word", "each = conv -> norm -> spike", "of a connection: what stands around each layer of weights"),
    _Row("last", "word", "last = conv -> norm", "of a connection: the same around the last layer, where that differs"),
    _Row("projection", "word", "projection = conv -> norm",
         "of a connection: the shortcut where the shape changes; its `conv` is 1 x 1 with the block's stride and width"),
    _Row("identity", "word", "identity = norm", "of a connection: the shortcut where the shape does not change; as a value, what changes nothing"),
    _Row("stride", "word", "projection = avgpool(stride) -> conv(stride = 1) -> norm",
         "of a connection: the stride of the block; elsewhere a parameter"),
    _Row("i", "word", "in[i] = out[i-1]", "of rules, connections and blocks: the place of the block in its stage, from 0"),
    _Row("n", "word", "result = out[n-1]", "of rules, connections and blocks: how many blocks the stage has"),
    _Row("spike", "word", "conv -> norm -> spike", "a layer of the network's neuron; `spike(v_threshold = 0.5)` changes an argument"),
    _Row("norm", "word", "norm = batchnorm(eps = 1e-3)", "a layer of the network's norm; in a network, the setting that says which (batchnorm by default)"),
    _Row("none", "word", "augment = none", "in a recipe: the setting is not set, or no step is taken"),
    _Row("true", "word", "bias = true", "true; as a number 1"),
    _Row("false", "word", "bias = false", "false; as a number 0"),
    _Row("pi", "word", "cos(pi * x)", "3.14159265..."),
    _Row("x", "word", "v = u + x", "of a neuron: its input at a time step; of a surrogate: the argument of `heaviside`, as in `v - v_threshold`"),
    _Row("s", "word", "s = heaviside(v - v_threshold)", "of a neuron: its output at a time step"),
    _Row("y", "word", "y = sigmoid(alpha * x)", "of a surrogate: a smooth function whose derivative is taken"),
    _Row("dy", "word", "dy = abs(x) < 0.5", "of a surrogate: the derivative itself"),
    # what a network sets
    _Row("input", "network setting", "input = image(3, 224, 224)", "what the network takes; it must be given"),
    _Row("steps", "network setting", "steps = 4", "the number of time steps T, from 1 to 4096; 1 by default"),
    _Row("stem", "network setting", "stem = conv(64, kernel = 7, stride = 2) -> norm -> spike", "layers before the stages"),
    _Row("stages", "network setting", "stages = resnet18 via origin by chain", "a backbone, wired by a connection and fed by a rule"),
    _Row("head", "network setting", "head = avgpool -> mean_over_time -> linear(10)", "layers behind the stages"),
    _Row("init", "network setting", "init = he_normal(mode = fan_in)", "what the weights of convolutions and linear layers start from"),
    _Row("zero_init", "network setting", "zero_init = true", "the weight of each block's last norm starts at 0, so that a branch gives 0 at first"),
    # axes
    _Row("channels", "axis", "sum(over = channels)", "the first axis of a value; in a connection, how many channels its branch gives"),
    _Row("rows", "axis", "sum(over = rows)", "the axis of a map's height"),
    _Row("columns", "axis", "softmax(over = columns)", "the axis of a map's width"),
    _Row("pixels", "axis", "mean(over = pixels)", "rows and columns together"),
    _Row("time", "axis", "linear(over = time)", "the time steps"),
)  # fmt: skip


_NETWORKS = """\
use std

network example(classes = 10) {
  input     = image(3, 32, 32)
  steps     = 4
  neuron    = LIF(tau = 2.0)
  surrogate = atan
  norm      = batchnorm(eps = 1e-3)
  init      = he_normal(mode = fan_in)
  zero_init = true

  stem   = conv(8) -> norm -> spike
  stages = stage(basic(8), 4) via origin by densely_additive
    -> stage(basic(16), 2, stride = 2) via sew with (neuron = PLIF)
  head   = avgpool -> mean_over_time -> linear(classes, bias = false)
}

network example_sew = example {
  stages = stage(basic(8), 4) via sew
}
"""

_DECLARATIONS = """\
use std (basic)

neuron own(tau = 2.0, soft = true) {
  state u = 0.0
  v = u + (x - u) / tau
  s = heaviside(v - 1)
  u = v - s if soft else v * (1 - s)
}

surrogate cosine {
  dy = pi / 4 * cos(pi / 2 * x) if x > -1 and not x > 1 or x == 0 else 0
}

surrogate smooth(alpha = 4.0) {
  y = 1 / (1 + exp(-alpha * x))
}

connection own_wiring {
  each       = conv -> norm -> spike
  last       = conv -> norm
  projection = conv -> norm
  identity   = norm
  out        = (branch + shortcut) -> spike
}

rule every_second {
  in[i]  = sum(out[j] for j in 0 .. i - 1 if i - j == 1 or i - j == 3)
  result = out[n-1]
}

block two_ways(width) {
  a   = in -> conv(width, kernel = 1) -> norm -> spike
  b   = in -> conv(width, kernel = 3) -> norm -> spike
  out = a + b
}

backbone own_backbone(width = 8) =
  stage(basic(width), 4) via own_wiring by every_second -> stage(two_ways(2 * width), 2)

network example {
  input     = image(3, 16, 16)
  steps     = 2
  neuron    = own(tau = 4.0)
  surrogate = smooth

  stem   = conv(8) -> norm -> spike
  stages = own_backbone with (surrogate = cosine)
  head   = avgpool -> mean_over_time -> linear(10)
}
"""

_RECIPE = """\
recipe example {
  optimizer = adamw(lr = 0.01)
  augment   = none
  phase one_step {
    steps  = 1
    epochs = 20
  }
  phase full {
    steps  = 4
    epochs = 5
    start  = one_step
  }
}
"""

_AXES = examples.network(
    [
        "a = in -> conv(8) -> norm -> spike",
        "b = a -> sum(over = channels)",
        "c = a -> mean(over = rows) -> max(over = columns)",
        "d = a -> linear(over = time) -> mean(over = pixels)",
        "out = b * c * d",
    ]
)

_EXAMPLES = (_NETWORKS, _DECLARATIONS, _RECIPE, _AXES)


def _example(name: str) -> str | None:
    """Return the first example that contains a word."""
    return next((text for text in _EXAMPLES if name in SourceFile("", text).words), None)


def words() -> Iterator[Entry]:
    """Yield the words of the language."""
    for row in _ROWS:
        yield Entry(
            row.name, row.kind, row.usage, sentence(row.meaning), (), row.text, _example(row.name)
        )
