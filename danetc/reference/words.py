"""Entries of words: keywords, declarations, and names that are known in certain places."""

from __future__ import annotations

from collections.abc import Iterator

from danetc.reference.entry import Entry, sentence

_ROWS: tuple[tuple[str, ...], ...] = (
    ("use", "keyword", 'use std; use zoo.tokens; use "blocks.danet"; use std (LIF, resnet50)',
         "imports declarations of the standard library, of a file of the zoo or of another file, all or some",
         "A path is relative to the file that contains it. Imported names are not exported."),
    ("network", "keyword", "network NAME(parameters) { input = ...; steps = ...; out = ... }",
         "declares a network: input, time steps, neuron, surrogate and layers",
         "The layers are `stem`, `stages` and `head` in sequence, or `out`, which is computed from named "
         "lines. `network b = a(...) { lines }` is a variant of `a` that replaces these lines."),
    ("block", "keyword", "block NAME(parameters) = conv(...) -> conv(...)",
         "declares a block: its weighted layers, which a connection wires, or, with a body, all of its "
         "layers",
         "In a body, `in` is the input of the block, and `out = ...` defines its output."),
    ("backbone", "keyword", "backbone NAME(parameters) = stage(BLOCK, N) -> stage(BLOCK, N, stride = 2)",
         "declares a backbone: stages of blocks in sequence, without norms and neurons"),
    ("connection", "keyword", "connection NAME { each = ...; projection = ...; out = branch + shortcut }",
         "declares a connection: the positions of norm, neuron and addition in a block",
         "`each` wraps each weighted layer of the block, and `last` the last one if it differs; "
         "`projection` is the shortcut of a block that changes the shape, `identity` that of other "
         "blocks; `out` joins `branch` and `shortcut`."),
    ("rule", "keyword", "rule NAME { in[i] = ...; result = ... }",
         "declares a rule: the input of block i of a stage of n blocks, and the output of the stage",
         "`in[0]` is the input of the stage, and `out[i]` the output of block i."),
    ("neuron", "keyword", "neuron NAME(parameters) { state u = 0.0; ...; s = ... }",
         "declares a neuron by its equations at one time step",
         "`x` is the input and `s` the output. A state carries its value from one step to the next."),
    ("surrogate", "keyword", "surrogate NAME(parameters) { y = ... } or { dy = ... }",
         "declares a surrogate: the replacement for the derivative of heaviside at x",
         "`y` is a smooth function that is differentiated; `dy` is the derivative itself."),
    ("recipe", "keyword", "recipe NAME { epochs = ...; optimizer = ...; ... }",
         "declares how a network is trained, in one phase or in several, `phase NAME { ... }`",
         "`recipe b = a { ... }` is a variant of `a` with some settings changed."),
    ("via", "keyword", "BACKBONE via CONNECTION", "wires the blocks of a backbone with a connection"),
    ("by", "keyword", "BACKBONE via CONNECTION by RULE",
         "connects the blocks of each stage with a rule; `chain` by default"),
    ("with", "keyword", "STAGES with (neuron = PLIF)",
         "overrides the neuron, surrogate, norm or initial weights of the network for some stages"),
    ("if", "keyword", "a if condition else b", "`a` if the condition is true, otherwise `b`"),
    ("else", "keyword", "a if condition else b", "`a` if the condition is true, otherwise `b`"),
    ("for", "keyword", "sum(VALUE for j in 0 .. n - 1 if CONDITION)",
         "passes a value for each j of a range, both ends included, to `sum`, `mean`, `concat`, `max`, `min` or `outputs`"),
    ("and", "keyword", "a and b", "true if `a` and `b` are true"),
    ("or", "keyword", "a or b", "true if `a` or `b` or both are true"),
    ("not", "keyword", "not a", "true if `a` is false"),
    ("state", "keyword", "state u = 0.0",
         "declares a state of a neuron with its value at the start of each forward pass"),
    ("phase", "keyword", "phase NAME { epochs = ...; ... }",
         "declares a phase of a recipe; phases run in order, with the weights of the phase in `start` or with new ones"),
    ("in", "word", "in -> ...", "input of a network, block or connection; in a rule, `in[i]` is the input of block i, and `in` that of the stage"),
    ("out", "word", "out = ...", "output of a network, block or connection; in a rule, `out[i]` is the output of block i"),
    ("result", "word", "result = out[n-1]", "in a rule: output of the stage"),
    ("branch", "word", "out = branch + shortcut", "in a connection: output of the layers of the block"),
    ("shortcut", "word", "out = branch + shortcut",
         "in a connection: input of the block, passed through `projection` if the shape changes"),
    ("each", "word", "each = conv -> norm -> spike", "in a connection: layers around each weighted layer"),
    ("last", "word", "last = conv -> norm", "in a connection: layers around the last weighted layer; by default `each`"),
    ("projection", "word", "projection = conv -> norm",
         "in a connection: shortcut of a block that changes the shape; its `conv` is 1 x 1 with the stride and width of the block"),
    ("identity", "word", "identity = norm", "in a connection: shortcut of a block that keeps the shape; as a layer, returns its input"),
    ("stride", "word", "projection = avgpool(stride) -> conv(stride = 1) -> norm",
         "in a connection: stride of the block; elsewhere a parameter"),
    ("i", "word", "in[i] = out[i-1]", "in rules, connections and blocks: index of the block in its stage, from 0"),
    ("n", "word", "result = out[n-1]", "in rules, connections and blocks: number of blocks of the stage"),
    ("spike", "word", "conv -> norm -> spike", "layer of the network's neuron; `spike(v_threshold = 0.5)` changes a parameter"),
    ("norm", "word", "norm = batchnorm(eps = 1e-3)", "layer of the network's norm; in a network, the setting that selects it (by default `batchnorm`)"),
    ("none", "word", "augment = none", "in a recipe: leaves a setting unset, or applies no transform"),
    ("true", "word", "bias = true", "true; as a number 1"),
    ("false", "word", "bias = false", "false; as a number 0"),
    ("pi", "word", "cos(pi * x)", "3.14159265..."),
    ("x", "word", "v = u + x", "in a neuron: input of a time step; in a surrogate: argument of `heaviside`, such as `v - v_threshold`"),
    ("s", "word", "s = heaviside(v - v_threshold)", "in a neuron: output of a time step"),
    ("y", "word", "y = sigmoid(alpha * x)", "in a surrogate: smooth function that is differentiated"),
    ("dy", "word", "dy = abs(x) < 0.5", "in a surrogate: derivative of the step function"),
    ("input", "network setting", "input = image(3, 224, 224)", "input of the network; required"),
    ("steps", "network setting", "steps = 4", "number of time steps T, from 1 to 4096; by default 1"),
    ("stem", "network setting", "stem = conv(64, kernel = 7, stride = 2) -> norm -> spike", "layers before the stages"),
    ("stages", "network setting", "stages = resnet18 via origin by chain", "backbone with a connection and a rule"),
    ("head", "network setting", "head = avgpool -> mean_over_time -> linear(10)", "layers after the stages"),
    ("init", "network setting", "init = he_normal(mode = fan_in)", "initialisation of the weights of convolutions and linear layers"),
    ("weight", "network setting", "weight = layernorm", "layer that is applied to the weights of convolutions and linear layers in each pass"),
    ("zero_init", "network setting", "zero_init = true", "if true, the weights of the last norm of each block start at 0, so a branch initially outputs 0"),
    ("channels", "axis", "sum(over = channels)", "first axis of a value; in a connection, number of channels of the branch"),
    ("rows", "axis", "sum(over = rows)", "vertical axis of a map"),
    ("columns", "axis", "softmax(over = columns)", "horizontal axis of a map"),
    ("pixels", "axis", "mean(over = pixels)", "rows and columns together"),
    ("time", "axis", "linear(over = time)", "time steps"),
)  # fmt: skip
"""Name, kind, usage, meaning and, for some, further text."""


def words() -> Iterator[Entry]:
    """Yield the words of the language. Their usage is their example."""
    for name, kind, usage, meaning, *text in _ROWS:
        yield Entry(name, kind, usage, sentence(meaning), text="".join(text))
