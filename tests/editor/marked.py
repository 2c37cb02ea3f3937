"""Specs with marks: ``|`` is the position of the cursor."""

from danetc.editor import Analysis, analyse

HEAD = """use std

network small(classes = 10) {
  input = image(3, 32, 32)
  steps = 2
  neuron = LIF
  surrogate = atan
"""


def at_cursor(text: str, name: str = "small.danet") -> tuple[Analysis, int]:
    """The analysis of a text without its one mark, and the offset of the mark."""
    before, mark, after = text.partition("|")
    assert mark
    assert "|" not in after
    return analyse(before + after, name), len(before)


def network(*lines: str) -> str:
    return HEAD + "".join(f"  {line}\n" for line in lines) + "}\n"
