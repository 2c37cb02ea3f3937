"""Networks with loops over time, as spec texts without ``use std``."""

HEAD = "avgpool -> mean_over_time -> linear(3)"


def network(lines: str, blocks: str = "") -> str:
    return f"""{blocks}
network net {{
  input = events(2, 6, 6); steps = 5; neuron = LIF; surrogate = atan
  {lines}
}}"""


def fed_back(rule: str) -> str:
    """A network whose last block feeds an earlier one."""
    return network(f"""norm = batchnorm(statistics = step)
  stem = in -> conv(4)
  x = stem -> (stage(single(4), 3) via sew by {rule})
  out = x -> {HEAD}""")


LOOPED = {
    "one loop": network(f"""a = 3 * (in -> conv(4))
  h = (a + (h -> delay(1) -> conv(4))) -> spike
  out = h -> {HEAD}"""),
    "at random": network(
        f"""a = 3 * (in -> conv(4))
  h = (a + (h -> delay(1) -> conv(4)) + random(normal(0, 0.5))) -> fires
  out = h -> {HEAD}""",
        "neuron fires { state u = 0.0; v = 0.5 * u + x; s = heaviside(v - random()); u = v * (1 - s) }",
    ),
    "two lines": network(f"""a = in + (b -> delay(2) -> conv(2))
  b = (2 * (a -> conv(2))) -> spike
  out = (a + b) -> {HEAD}"""),
    # one loop feeds another loop, which contains a block with its own loop
    "several": network(
        f"""p = (3 * (in -> conv(3)) + (p -> delay(1) -> conv(3))) -> spike
  q = (4 * ((p + (q -> delay(1))) -> cell -> conv(3))) -> spike
  out = (p + q) -> {HEAD}""",
        "block cell { c = (3 * in + (c -> delay(1) -> conv(channels(in)))) -> spike; out = c }",
    ),
    "convlstm": network(
        f"stem = convlstm(4)\n  head = {HEAD}",
        """block convlstm(width) {
  both = 4 * concat(in, h -> delay(1))
  ig   = both -> conv(width, bias = true) -> spike
  f    = both -> conv(width, bias = true) -> spike
  o    = both -> conv(width, bias = true) -> spike
  g    = both -> conv(width, bias = true) -> spike
  c    = f * (c -> delay(1)) + ig * g
  h    = o * c
  out  = h
}""",
    ),
    # the norm in the loop has statistics per step, the norms before and after it span all steps
    "norms": network(f"""a = in -> conv(4) -> norm
  h = (a + (h -> delay(1) -> conv(4) -> batchnorm(statistics = step))) -> tanh
  b = h -> norm
  out = b -> {HEAD}"""),
    "stages": network(
        f"""a = 2 * (in -> conv(4))
  b = a -> stage(cell, 2)
  top = (b + (top -> delay(1))) -> stage(single(4), 2) via sewn
  out = top -> {HEAD}""",
        """block cell { h = (in + (h -> delay(1) -> conv(channels(in)))) -> spike; out = in + h }
connection sewn { each = conv -> spike; out = shortcut + branch }""",
    ),
    "feedback": fed_back("feedback(steps = 2)"),
    "feedback after opening": fed_back("feedback_after_opening"),
    "earlier values": network(
        f"""a = 3 * (in -> conv(4))
  h = a -> stage(single(4), 3) via joined by held
  out = h -> {HEAD}""",
        """connection joined { each = conv; out = (branch + shortcut) -> spike }
rule held {
  in[i] = sum(
    out[i-1],
    (0.25 * sum(out[0 .. n-1])) -> delay(1),
    learn(0.5) * (in[i] -> delay(1)),
    out[0] -> delay(1) -> delay(1)
  )
  shortcut[i] = in[0] -> delay(1)
  result = concat(out[n-1], out[0])
}""",
    ),
    "vectors": network("""s = (2 * (in -> linear(8)) + (s -> delay(1) -> linear(8))) -> spike
  out = s -> mean_over_time -> linear(3)"""),
    # the delay follows a convolution with a bias, so its first output is 0 and not the bias
    "more than a name": network(f"""h = (in - 0.5 * (h -> conv(2, bias = true) -> delay(1))) -> sigmoid
  out = h -> {HEAD}"""),
    "delays": network(f"""a = in -> conv(4, bias = true)
  out = (a + 2 * (a -> delay(1)) - (a -> delay(3))) -> spike -> {HEAD}"""),
    # stages in loops of lines, whose shapes are unknown when they are first read
    "stages in loops": network(
        f"""a = in -> conv(3)
  h = a * (h -> delay(1) -> inner -> avgpool -> sigmoid) + (h -> delay(2))
  g = ((g -> delay(1) -> (stage(single(3), 2) via sewn by feedback)) + a) -> spike
  out = (h + g) -> {HEAD}""",
        """connection sewn { each = conv -> spike; out = shortcut + branch }
block inner { out = in -> (stage(single(3), 2) via sewn by feedback) }""",
    ),
}
