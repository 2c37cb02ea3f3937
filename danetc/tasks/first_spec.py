"""A first spec, with comments: what ``danetc new`` writes."""

from __future__ import annotations

from pathlib import Path

from danetc.errors import UserError
from danetc.output.echo import replace_text

FIRST_SPEC = """\
# A spiking ResNet. `danetc check FILE` checks it, `danetc draw FILE` draws it, and
# `danetc train FILE --data digits` trains it on 1,797 images of digits that danetc brings.
# `danetc explain conv` explains a name, `danetc list` says which names there are.

use std  # the standard library: neurons, surrogates, connections, rules, backbones

network NAME(classes = 10, width = 16) {
  # What goes in: grey images of 8 x 8 pixels, the same at each of the time steps.
  input = image(1, 8, 8)
  steps = 2

  # The neuron that `spike` stands for, and what stands for its derivative in training.
  neuron    = IF
  surrogate = atan

  # Layers before the stages: a convolution, a norm, a neuron.
  stem = conv(width) -> norm -> spike

  # Two stages of residual blocks. `via` says how a block is wired (try `sew`, `pa_a`, `tdbn`), `by` what
  # feeds each block of a stage (try `chain`). The second stage halves the size of its maps.
  stages = stage(basic(width), 2) via origin by densely_additive
    -> stage(basic(2 * width), 2, stride = 2) via origin by densely_additive

  # One number for each class, the mean over the time steps.
  head = avgpool -> mean_over_time -> linear(classes)
}

# How it is trained. `danetc list settings` has all settings.
recipe quick {
  epochs    = 8
  batch     = 64
  optimizer = adamw(lr = 0.01, weight_decay = 0.05)
  schedule  = cosine
}
"""


def write_first_spec(path: Path) -> None:
    """Write a first spec, whose network is called as the file.

    Raises UserError where there is a file of this name, or where it is no name of a network.
    """
    name = path.name.removesuffix(".danet")
    if not (name.isascii() and name.isidentifier()):
        raise UserError(
            f"{name!r} cannot name a network: letters, digits and _ can, a letter first"
        )
    if path.exists():
        raise UserError(f"there is a file {path} already; choose another name")
    replace_text(path, FIRST_SPEC.replace("NAME", name))
