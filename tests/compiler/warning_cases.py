"""Texts that build: those of which one warning is given, and those that may be meant.

The place of a warning is marked by « and » in the text.
"""

from __future__ import annotations

from dataclasses import dataclass

from danetc.compiler import check_text
from danetc.compiler.warnings import warnings_of
from danetc.dsl.diagnostics.codes import CODES, severity
from danetc.dsl.diagnostics.diagnostic import Diagnostic

NET = """use std

network n(classes = 10) {
  input = image(3, 32, 32); steps = 4; neuron = IF; surrogate = sigmoid
  stem = conv(16) -> norm -> spike
  stages = (stage(basic(16), 2) -> stage(basic(32), 2, stride = 2)) via origin by chain
  head = avgpool -> mean_over_time -> linear(classes)
}
"""
TRAIN = """recipe r {
  epochs = 30
  warmup = 2
  batch = 128
  optimizer = sgd(lr = 0.1, momentum = 0.9)
  schedule = step(10, 20, factor = 0.1)
}
"""


def net(*changes: tuple[str, str], after: str = "") -> str:
    """The network above with parts exchanged."""
    text = NET
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text + after


def train(old: str, new: str) -> str:
    assert TRAIN.count(old) == 1, old
    return TRAIN.replace(old, new)


def mine(body: str, use: str = "= mine", params: str = "") -> str:
    return net(("= IF", use), after=f"\nneuron mine{params} {{ {body} }}\n")


def connection(body: str) -> str:
    return net(("via origin", "via mine"), after=f"connection mine {{ {body} }}\n")


@dataclass(frozen=True)
class Case:
    """A marked text, the code of its one warning, and words of its message and of its hint."""

    text: str
    code: str
    words: str = ""
    hint: str = ""


WARNINGS = [code for code in CODES if severity(code) == "warning"]
SUSPICIOUS = {
    "a neuron that is taken and not used": Case(
        "use std (IF, «LIF», sigmoid, basic, origin, chain)\n" + NET.removeprefix("use std\n"),
        "W0101",
        "`LIF` is not used",
    ),
    "a neuron nothing names": Case(
        net(after="neuron «mine» = LIF(tau = 4.0)\n"),
        "W0102",
        "neuron `mine` is not used",
        "# allow",
    ),
    "a block that only it names itself": Case(
        net(after="block «mine»(w) { out = (in -> mine(w - 1)) if w > 1 else (in -> conv(w)) }\n"),
        "W0102",
        "block `mine`",
    ),
    "a parameter of a network": Case(
        net(("classes = 10", "classes = 10, «width» = 16")), "W0103", "`width` of network `n`"
    ),
    "a parameter of a neuron": Case(
        mine("s = heaviside(x - v_threshold)", params="(«tau» = 2.0, v_threshold = 1.0)"),
        "W0103",
        "`tau` of neuron `mine`",
    ),
    "a parameter that only a later default names": Case(
        mine(
            "state u = 0.0; u = u + x; s = heaviside(u - 1)",
            params="(tau = 2.0, «decay» = 1 - 1 / tau)",
        ),
        "W0103",
        "`decay`",
    ),
    "a variant's parameter with another value": Case(
        NET + "network m(«classes» = 100) = n { steps = 2 }\n",
        "W0103",
        "parameter `classes` of network `m`",
        "`n(classes = classes)`",
    ),
    "a block's stride": Case(
        net(
            ("stage(basic(32), 2, stride = 2)", "stage(mine(16), 2, stride = 2)"),
            after="block mine(width, «stride» = 1) = conv(width) -> conv(width)\n",
        ),
        "W0103",
        "`stride` of block `mine`",
        "stride = stride",
    ),
    "a state that reads only itself": Case(
        mine("state «n» = 0.0; n = n + 1; s = heaviside(x - 1)"), "W0105", "state `n`"
    ),
    "an equation nothing reads": Case(
        mine("state u = 0.0; «w» = 2 * u; u = u + x; s = heaviside(u - 1)"), "W0105", "equation"
    ),
    "a surrogate's equation": Case(
        net(
            ("= sigmoid", "= mine"),
            after="surrogate mine { «z» = 2 * x; dy = max(1 - abs(x), 0) }\n",
        ),
        "W0105",
        "`z`",
    ),
    "PyTorch's convolution": Case(
        net(("conv(16)", "conv(16) -> «conv(16, 32, 3)»")), "W0201", "kernel 32", "conv(32, kernel"
    ),
    "PyTorch's norm": Case(
        net(("-> norm ->", "-> «batchnorm(16)» ->")),
        "W0201",
        "initial weight of",
        "write `batchnorm`",
    ),
    "an even kernel": Case(
        net(("conv(16)", "«conv(16, kernel = 2)»")), "W0202", "32 x 32 into 33 x 33", "1 or 3"
    ),
    "an even kernel without overlap": Case(
        net(("conv(16)", "«conv(16, kernel = 4, stride = 4)»")), "W0202", "9 x 9", "padding = 0"
    ),
    "a stride that the image is too small for": Case(
        net(
            ("(3, 32, 32)", "(3, 2, 2)"), ("stage(basic(32), 2, stride = 2)", "«resnet18»[1 .. 3]")
        ),
        "W0203",
        "`stages.1.blocks.0.branch.conv2` has a kernel of 3",
    ),
    "a pooling of one pixel": Case(
        net(("head = avgpool", "head = avgpool -> «maxpool(3, stride = 2)»")),
        "W0203",
        "kernel of 3",
    ),
    "a linear layer's bias before a norm": Case(
        net(("-> linear(classes)", "-> «linear(64)» -> norm -> ReLU -> linear(classes)")),
        "W0205",
        "`head.linear1`",
        "bias = false",
    ),
    "a norm behind a block's": Case(
        connection(
            "each = conv -> norm -> spike; last = conv -> norm; out = branch -> «norm» -> spike"
        ),
        "W0206",
        "normalises the output of a norm",
    ),
    "a learnt tau that starts below 1": Case(
        net(("= IF", "= «LIF(tau = learn(0.5, above = 0))»")), "W0301", "multiplied by -1"
    ),
    "a membrane that grows": Case(
        mine("state u = 0.0; v = 1.5 * u + x; s = heaviside(v - 1); u = v * (1 - s)", "= «mine»"),
        "W0301",
        "multiplied by 1.5",
    ),
    "a threshold above all counts": Case(
        net(("-> norm -> spike", "-> norm -> spike -> maxpool(2) -> «spike(v_threshold = 5.0)»")),
        "W0302",
        "`IF` cannot fire within 4 steps: it reads spikes",
    ),
    "a threshold below all counts": Case(
        net(("-> norm -> spike", "-> norm -> spike -> maxpool(2) -> «mine»"))
        + "neuron mine { s = heaviside(x + 0.5) }\n",
        "W0302",
        "returns 1 at every step",
    ),
    "spikes into a neuron": Case(
        net(("-> norm -> spike", "-> norm -> spike -> «spike»")), "W0304", "`stem.spike1`"
    ),
    "spikes into std's connection": Case(
        net(("via origin", "via pa_a"), ("(stage(basic(16), 2) ->", "(«stage(basic(16), 2)» ->")),
        "W0304",
        "`stem.spike`",
    ),
    "an interblock neuron of the network's kind": Case(
        net(("= IF", "= IF(detach_reset = true)"), ("via origin", "via origin(inter = «IF»)")),
        "W0305",
        "this `IF`",
        "`spike`",
    ),
    "no steps": Case(
        net(("network n", "network «n»"), ("steps = 4; ", "")), "W0306", "so it has one time step"
    ),
    "no layer is the norm": Case(
        net(("steps = 4", "steps = 4; norm = «tebn»"), ("-> norm ->", "-> batchnorm ->")).replace(
            "via origin", "via mine"
        )
        + "connection mine { each = conv -> batchnorm -> spike; projection = conv;"
        " out = branch + shortcut }\n",
        "W0308",
        "no layer of network `n` uses its norm",
    ),
    "SGD's rate": Case(
        train("optimizer = sgd(lr = 0.1", "«optimizer» = sgd(lr = 100"), "W0401", "100"
    ),
    "AdamW's rate": Case(
        train("optimizer = sgd(lr = 0.1, momentum = 0.9)", "«optimizer» = adamw(lr = 2)"), "W0401"
    ),
    "new weights in the last of three phases": Case(
        train("  epochs = 30\n  warmup = 2\n", "")
        .replace("  schedule = step(10, 20, factor = 0.1)\n", "")
        .replace(
            "}\n",
            "  phase a { epochs = 3 }\n  phase b { «epochs» = 3; start = a }\n"
            "  phase c { epochs = 3; start = a }\n}\n",
        ),
        "W0402",
        "no phase starts from `b`",
        "start = b",
    ),
    "test images alone are normalised": Case(
        train(
            "  batch = 128\n", "  batch = 128\n  «evaluate» = resize(32) -> normalize(cifar10)\n"
        ),
        "W0403",
        "training images are not normalised",
    ),
    "other statistics": Case(
        train(
            "  batch = 128\n",
            "  batch = 128\n  augment = normalize(cifar10)\n  «evaluate» = normalize(imagenet)\n",
        ),
        "W0403",
        "by cifar10, and test images are normalised by imagenet",
    ),
}


def marked(text: str) -> tuple[str, int, int]:
    """A text without its marks, and where they stood."""
    start, end = text.index("«"), text.index("»") - 1
    return text.replace("«", "").replace("»", ""), start, end


def warned(text: str) -> tuple[Diagnostic, ...]:
    return warnings_of(check_text(text))


PLAIN = {
    "the network that the cases change": NET,
    "the recipe that the cases change": TRAIN,
    "the largest learning rate": TRAIN.replace("lr = 0.1", "lr = 30"),
    "a file without a network is for others": "use std\nneuron mine = LIF(tau = 4.0)\n",
    "a recipe is named on the command line": NET + TRAIN,
    "taken recipes": "use std (digits)\n",
    "a threshold that tdBN reads": mine("s = heaviside(x - 1)", params="(v_threshold = 1.0)"),
    "a variant that repeats its base's parameters": NET
    + "network m(classes = 10) = n { steps = 2 }\n",
    "a variant that hands its parameters on": NET
    + "network m(classes = 100) = n(classes) { steps = 2 }\n",
    "patches as wide as the input": net(("conv(16)", "conv(16) -> conv(16, 8, 8, 0)")),
    "a norm's initial weight": net(("-> norm ->", "-> norm(0.5) ->")),
    "a norm's initial weight by name": net(("-> norm ->", "-> batchnorm(init = 16) ->")),
    "an even kernel and its padding": net(
        ("conv(16)", "conv(16, kernel = 4, stride = 4, padding = 0)")
    ),
    "a gate of one pixel": net(
        ("head = avgpool", "head = avgpool -> conv(8, kernel = 1) -> norm -> spike")
    ),
    "a bias before a neuron": net(("conv(16) -> norm", "conv(16, bias = true)")),
    "a bias before a group norm": net(
        ("conv(16) -> norm", "conv(16, bias = true) -> groupnorm(4)")
    ),
    "a norm that the shortcut needs too": net(
        ("-> norm -> spike", "-> norm"), ("via origin", "via pa_b"), ("head = ", "head = spike -> ")
    ),
    "a tau of 1": net(("= IF", "= LIF(tau = 1.0)")),
    "a learnt tau": net(("= IF", "= LIF(tau = learn(2.0, above = 1))")),
    "a threshold that adapts": net(("= IF", "= ALIF")),
    "states that turn": mine(
        "state u = 0.0; state w = 0.0; v = -0.5 * u - w + x; w = u - 0.5 * w; s = heaviside(v - 1);"
        " u = v"
    ),
    "a state that alternates by itself": mine(
        "state p = 0.0; state u = 0.0; v = 0.5 * u + x; s = heaviside(v - 1 - p); p = 1 - p; u = v"
    ),
    "a reset of more than the potential": mine(
        "state u = 0.0; v = 0.5 * u + x; s = heaviside(v - 1); u = v * (1 - 4 * s)"
    ),
    "a neuron that learns its threshold": net(
        ("-> norm -> spike", "-> norm -> spike -> maxpool(2) -> spike(v_threshold = learn(5.0))")
    ),
    "a bias that the last block needs": net(
        ("stages = ", "stages = stage(biased, 2) -> "),
        after="block biased { out = in -> norm -> spike -> conv(16, bias = true) }\n",
    ),
    "a norm that only the second block has behind a norm": net(
        ("stages = ", "stages = stage(normed, 2) -> "),
        after="block normed { out = in -> norm -> spike -> conv(16) -> norm }\n",
    ),
    "an activation before a neuron": net(("-> norm -> spike", "-> norm -> ReLU -> spike")),
    "another neuron as interblock neuron": net(
        ("= IF", "= IF(detach_reset = true)"), ("via origin", "via origin(inter = LIF)")
    ),
    "the network's neuron with a setting changed": net(
        ("= IF", "= LIF(tau = 4.0)"), ("via origin", "via origin(inter = spike(v_threshold = 0.5))")
    ),
    "the network's neuron with the same settings": net(
        ("= IF", "= LIF(tau = 4.0)"), ("via origin", "via origin(inter = LIF(tau = 4.0))")
    ),
    "one step that is meant": net(("steps = 4", "steps = 1")),
    "an ANN without steps": net(("steps = 4; ", ""), ("= IF", "= ReLU")),
    "events without steps": net(("steps = 4; ", ""), ("image(3", "events(3")),
    "a norm that only a variant has no use for": net(("steps = 4", "steps = 4; norm = tebn"))
    + "network m = n { stem = conv(16) -> spike; stages = stage(basic(16), 2) via bare }\n"
    "connection bare { each = conv -> spike; out = branch }\n",
    "a large batch's rate": train("lr = 0.1", "lr = 0.1 * 65536 / 256"),
    "both normalised": train(
        "  batch = 128\n",
        "  batch = 128\n  augment = normalize(cifar10)\n  evaluate = normalize(cifar10)\n",
    ),
}
