"""Specs that are refused, each with its code and a part of its message or hint."""

import re
from collections.abc import Mapping

import pytest

from danetc.compiler import check_text
from danetc.dsl.diagnostics.diagnostic import SpecError

DECLARED = """neuron per_sample { s = learn(1.0, per = sample) * x }
block own(w) { out = in -> conv(w) -> spike }
rule added { in[i] = learn(1.0) + out[i - 1]; result = out[n - 1] }
rule less { in[i] = (1 - learn(0.5)) * out[i - 1]; result = out[n - 1] }
rule short { in[i] = out[i - 1]; shortcut[i] = out[i - 1]; result = out[n - 1] }
rule drawn { in[i] = random() * out[i - 1]; result = out[n - 1] }"""
LEARNT = "input = image(2, 6, 6); a = in -> conv(4) -> norm -> spike"
SHARED = """input = image(4, 8, 8); f = shared(conv(4) -> norm -> spike); a = in -> f
  out = (a + b) -> avgpool -> linear(2)"""
INPUTS = "first = in -> conv(2) -> spike; out = first -> avgpool -> linear(2)"
IN_PYTHON = "input = image(2, 6, 6); out = in -> layer -> spike -> conv(4)"
TWICE = "g = learn(1.0, per = channel); b = (g * a) -> conv(8); out = b * g"
AGAIN = "z = random(); a = in + z; b = (a -> conv(4)) + z; out = b"
NUMBERS = '"f8:3x1x1:AAAAAAAA8D8AAAAAAADwPwAAAAAAAPA/"'
PAIR = "a = image(1, 8, 8), b = image(1, 8, 8)"
SEVERAL = "the network has several inputs: name one, as in `a -> ...`"

REFUSED: Mapping[str, list[tuple[str, str, str]]] = {
    LEARNT: [
        ("out = learn(1.0) * learn(0.5) * a", "E0410", "`*` of two learnable parameters"),
        ("out = (1 / learn(1.0)) * a", "E0410", "`/` cannot be applied"),
        (TWICE, "E0410", "`g` is learnt as 4 x 1 x 1, and 8 x 1 x 1 are required here"),
        ("out = a * learn(1.0, per = sample)", "E0304", "`neuron`, not the word `sample`"),
        ("out = a * learn(2.0, below = 1)", "E0305", "is 2, which is not below 1"),
        ("out = a + learn", "E0405", "`learn` is called with arguments"),
        ("out = a -> per_sample", "E0711", "a neuron cannot have parameters per sample"),
        ("out = a * learn(uniform(2, 1))", "E0305", "its `low` is not below its `high`"),
        ("out = a * learn(normal(1, 0))", "E0305", "its `std` is not above 0"),
        ("out = a * learn(uniform(0, 2), below = 1)", "E0305", "uniform(0, 2), which is not"),
        ("out = a * learn(normal(2, 1), below = 1)", "E0305", "normal(2, 1), which is not"),
        ("out = a * learn(normal(2))", "E0307", "takes two numbers, `mean` and `std`"),
        ("out = a * learn(uniform(0, 1, 2))", "E0303", "takes at most 2 arguments"),
        ("out = a * learn(uniform(0, hi = 1))", "E0301", "has no parameter `hi`"),
        ("out = a -> LIF(tau = uniform(1))", "E0304", "not the initialization `uniform`"),
        ("out = a -> (stage(basic(4), 3) via sew by added)", "E0608", "must be factors"),
        ("out = a -> (stage(basic(4), 3) via sew by less)", "E0608", "can only be factors"),
        ("out = a -> (stage(own(4), 3) by short)", "E0610", "has no `shortcut`"),
    ],
    "input = events(2, 6, 6)": [
        ("out = in + random(0.5)", "E0304", "`0.5` is not a distribution"),
        ("out = in + random(gamma)", "E0304", "`gamma` is not a distribution"),
        ("out = in + random(normal(0))", "E0307", "`normal` in `random` takes two numbers"),
        ("out = in + random(normal(0, 0))", "E0305", "its `std` is not above 0"),
        ("out = in + random(uniform(1, 0))", "E0305", "its `low` is not below its `high`"),
        ("out = in + random(evaluate = sometimes)", "E0210", "expected one of `draw`, `mean`"),
        ("out = in + random(seed = 1)", "E0301", "has no parameter `seed`"),
        ("out = in + random", "E0405", "`random` is called with arguments"),
        ("out = in + random() * random()", "E0410", "two learnable parameters or random numbers"),
        ("out = in + 1 / random()", "E0410", "`/` cannot be applied to random numbers"),
        (AGAIN, "E0410", "`z` is drawn as 2"),
        ("out = in -> LIF(tau = random())", "E0304", "must be a number, not random numbers"),
        ("out = in -> dropout(random())", "E0304", "not random numbers"),
        ("out = in -> (stage(basic(2), 2) via sew by drawn)", "E0608", "has no random numbers"),
    ],
    "input = events(12, 1, 1)": [
        (f"out = in * table({NUMBERS})", "E0501", ""),
        ("out = in -> transform(haar, over = channels)", "E0501", "power of two, but there are 12"),
        ("out = in -> flatten -> transform(dct, over = rows)", "E0501", "is a vector of 12"),
        ("out = in -> flatten -> sinusoidal", "E0501", "its input is a vector of 12"),
        ("out = in -> transform(fourier, over = rows)", "E0210", "unknown name `fourier`"),
        ("out = in -> transform(haar, over = time)", "E0304", "`channels`, `rows`"),
    ],
    SHARED: [
        ("b = (concat(a, a) -> f)", "E0411", "of a shared layer differ here"),
        ("b = (in -> avgpool -> shared(3))", "E0401", "takes a layer, not the number 3"),
    ],
    INPUTS: [
        (f"input = inputs({PAIR.replace('b', 'a')})", "E0302", "two inputs are called `a`"),
        ("input = inputs(a = image(1, 8, 8))", "E0303", "two inputs or more"),
        ("input = inputs(image(1, 8, 8), b = image(1, 8, 8))", "E0307", "needs a name"),
        ("input = inputs(a = conv(3), b = image(1, 8, 8))", "E0502", "is the layer `conv`"),
        ("input = inputs(first = image(1, 8, 8), b = image(1, 8, 8))", "E0212", "`first`"),
        (f"input = inputs({PAIR})", "E0210", SEVERAL),
    ],
    "head = linear(2)": [
        (f"input = inputs({PAIR})", "E0404", "add `out = ...` that reads `a`, `b`"),
    ],
    "input = tokens(9)": [
        ("out = in -> linear(4)", "E0501", "linear computes with numbers, but its input is tokens"),
        ("out = in + in", "E0501", "add computes with numbers"),
        ("out = in -> spike", "E0501", "neuron computes with numbers"),
        ("out = in -> embedding(4) -> embedding(4)", "E0501", "tokens, but its input is analog"),
        ("out = in -> embedding(4) -> embedding(5, vocabulary = 9)", "E0501", "with 4 channels"),
        ("out = in -> embedding(4, vocabulary = 8)", "E0501", "of 8 tokens, but its input has 9"),
        ("out = in", "E0502", "network `net` returns its tokens"),
    ],
    IN_PYTHON: [
        ('layer = python("mine.Mixer")', "E0508", "a file and a class"),
        ("layer = python(3)", "E0508", "not the number 3"),
        ("layer = python()", "E0307", "needs `place`"),
        ('layer = python("mine.py:Mixer", like = 3)', "E0402", "`like` of `python` is a value"),
        ('layer = python("mine.py:Mixer", gives = counts)', "E0210", "unknown name `counts`"),
        ('layer = python("mine.py:Mixer", gives = spikes, width = 0)', "E0305", "between 1 and"),
        ('layer = python("mine.py:Mixer", hidden = in)', "E0304", "`hidden` of `mine.py:Mixer`"),
        ('layer = python("mine.py:Mixer", hidden = 1, hidden = 2)', "E0302", "twice"),
        ('layer = flatten -> python("a.py:A", rows = 2)', "E0501", "`rows` and `columns`"),
    ],
}


@pytest.mark.parametrize(
    ("lines", "line", "code", "words"), [(at, *row) for at, rows in REFUSED.items() for row in rows]
)
def test_what_is_wrong_is_said(lines: str, line: str, code: str, words: str) -> None:
    network = f"network net {{ steps = 2; neuron = IF; surrogate = atan; {lines}; {line} }}"
    named = [each for each in DECLARED.splitlines() if re.split(r"\W", each)[1] in line]
    with pytest.raises(SpecError) as caught:
        check_text("\n".join(["use std", *named, network]))
    (found,) = caught.value.diagnostics
    assert found.code == code
    assert words in f"{found.message} {found.hint}"
