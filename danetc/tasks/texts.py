"""Texts of specs: those that a name or an error refers to, and the first one. Never imports torch."""

from __future__ import annotations

import re
from pathlib import Path

from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.dsl.loading import std_files
from danetc.dsl.reading import find_spec, read_source
from danetc.dsl.syntax.source import SourceFile
from danetc.errors import UserError
from danetc.pretrained import directory_of
from danetc.reference import section
from danetc.runtime.system.files import replace_file

FIRST_SPEC = """\
# A spiking ResNet. `danetc check FILE` checks it, `danetc draw FILE` draws it, and
# `danetc train FILE --data digits` trains it on the 1,797 images of digits that come with danetc.
# `danetc explain conv` explains a name; `danetc list` lists all names.

use std  # the standard library: neurons, surrogates, connections, rules, backbones

network NAME(classes = 10, width = 16) {
  # Grey images of 8 x 8 pixels, repeated at each of the two time steps.
  input = image(1, 8, 8)
  steps = 2

  # The neuron behind every `spike`, and the surrogate gradient of its spikes.
  neuron    = IF
  surrogate = atan

  # The layers before the stages.
  stem = conv(width) -> norm -> spike

  # Two stages of residual blocks. `via` selects the wiring inside a block (try `sew`, `pa_a`, `tdbn`),
  # `by` the input of each block in a stage (try `chain`). The second stage halves the resolution.
  stages = stage(basic(width), 2) via origin by densely_additive
    -> stage(basic(2 * width), 2, stride = 2) via origin by densely_additive

  # Class scores, averaged over the time steps.
  head = avgpool -> mean_over_time -> linear(classes)
}

# The training. `danetc list settings` lists all settings.
recipe quick {
  epochs    = 8
  batch     = 64
  optimizer = adamw(lr = 0.01, weight_decay = 0.05)
  schedule  = cosine
}
"""


def write_first_spec(path: Path) -> None:
    """Write a first spec, with a network of the file's name.

    Raises UserError if there is a file of this name, or if it cannot name a network.
    """
    name = path.name.removesuffix(".danet")
    if not (name.isascii() and name.isidentifier()):
        raise UserError(
            f"{name!r} cannot name a network: use letters, digits and _, starting with a letter"
        )
    if path.exists():
        raise UserError(f"{path} exists already; choose another name")
    replace_file(path, FIRST_SPEC.replace("NAME", name).encode(), follow=True)


def find_text(place: str) -> tuple[SourceFile, int | None, str]:
    """Find the text at ``FILE``, ``NAME``, ``std/FILE.danet`` or a declaration of std, or a line of it.

    A line is given as ``:LINE``; a column after it, as in errors, is ignored. Return the source, the
    line (None for all), and the text. Raises SpecError if there is no such file, UserError if the file
    has no such line.
    """
    found = re.fullmatch(r"(.+?)(?::(\d+))?(?::\d+)?", place, re.DOTALL)
    name, line = found.groups() if found else (place, None)
    library = {source.name: source for source in std_files()}
    declared = next((entry for entry in section("std") if entry.name == name), None)
    if declared is not None and line is None:
        return library[declared.place.partition(":")[0]], None, declared.declaration
    if name.startswith("std/") and name not in library:
        close = did_you_mean(name, library)
        raise UserError(f"std has no file {name}; {close or 'it has ' + ', '.join(library)}")
    source = library.get(name) or read_source(find_spec(str(directory_of(name))))
    if line is None:
        return source, None, source.text
    count = len(source.text.splitlines())
    if not 1 <= int(line) <= count:
        raise UserError(f"{name} has lines 1 to {count}, not {line}")
    return source, int(line), source.line(int(line))
