"""Small networks of every kind, as spec texts without ``use std``."""

from functools import cache

from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes import PIPELINE, Pass
from tests.differential.helpers import text


def small(
    stages: str = "tiny via origin by densely_additive",
    *,
    input: str = "image(3, 8, 8)",
    settings: str = "neuron = LIF(tau = 1.5)",
    stem: str = "conv(4) -> norm -> spike",
    head: str = "avgpool -> mean_over_time -> linear(5)",
    more: str = "",
) -> str:
    """The text of a small network with three time steps."""
    return f"""
backbone tiny(block = basic, width = 4) =
  stage(block(width), 2) -> stage(block(2 * width), 3, stride = 2)
{more}
network net {{
  input = {input}; steps = 3; surrogate = sigmoid(alpha = 4); {settings}
  stem = {stem}
  stages = {stages}
  head = {head}
}}
"""


def graph_of_neuron(body: str, stages: str = "stage(basic(4), 2) via origin", **more: str) -> Graph:
    """The graph of a small network whose neurons have these equations."""
    own = f"neuron own {{ {body} }}"
    return text(small(stages, settings="neuron = own", more=own, **more))


ANALOG_STEM = {
    "stem": "conv(4) -> norm -> maxpool(3, stride = 2)",
    "head": "spike -> avgpool -> mean_over_time -> linear(5)",
}
DROPPED = """connection dropped(p) {
  each = conv -> norm -> spike; last = conv -> norm; projection = conv -> norm
  kept = branch -> droppath(p * i / n)
  out = (kept + shortcut) -> spike
}"""
GATED = """connection gated {
  each = conv -> norm -> spike; last = conv -> norm; projection = conv -> norm
  gate = branch -> avgpool -> conv(channels, kernel = 1, bias = true) -> sigmoid
  out = (branch * gate + shortcut) -> spike
}"""
FUNCTIONS = """connection functions {
  each = conv -> norm -> spike; last = conv -> norm; projection = conv -> norm
  a = abs(branch -> tanh)
  b = shortcut -> softplus -> gelu -> softmax -> softmax(over = columns) -> softmax(over = rows)
  out = (max(a, b) - min(a, 0.5 * b) / (1 + b)) -> spike
}"""
ATTENTION = """
block ssa(width, heads = 2) {
  q = in -> conv(width, kernel = 1, bias = true) -> norm -> spike
  k = in -> conv(width, kernel = 1) -> norm -> spike
  v = in -> conv(2 * width, kernel = 1) -> norm -> spike
  a = mix(scores(q, k, heads = heads), v) -> spike
  out = in + ((0.25 * a) -> conv(width, kernel = 1) -> norm -> spike)
}
block cross(width, heads = 2) {
  x = in -> spike
  k = x -> conv(width, kernel = 2, stride = 2, padding = 0) -> norm
  v = x -> conv(width, kernel = 2, stride = 2, padding = 0) -> norm
  a = scores(x, k, heads = heads) / sqrt(channels(x) * (x -> running_mean(groups = heads)) + 0.1)
  b = a -> spike
  o = mix(b, v, like = x) / sqrt(columns(b) * (b -> running_mean(momentum = 0.3)) + 0.1)
  out = in + (o -> conv(width, kernel = 1) -> norm -> spike)
}
block soft(width) {
  q = in -> conv(width, kernel = 1) -> norm
  still = in -> mean_over_time -> conv(width, kernel = 1) -> norm
  a = (scores(q, still) / sqrt(rows(q))) -> softmax(over = columns)
  linear = mix(scores(q, still, heads = 2), q)
  out = (mix(a, q) + 0.1 * linear) -> norm -> spike
}"""
LISTS = """
block head(a, width, scale = 0.2) {
  out = (in -> conv(width) -> norm -> spike) * exp(-learn(scale, per = channel)) + a
}
backbone parted(k) = stage(conv(4, kernel = k) -> norm -> spike, 2) with (neuron = PLIF)
network net(n = 2) {
  input = image(2, 6, 6); steps = 3; neuron = LIF; surrogate = sigmoid(alpha = 4)
  x = in -> conv(4) -> norm -> spike
  y = concat(x, sum(x[0 .. j] -> head(x, 4, scale = j) for j in 1 .. n + 1 if j != 2) for i in 1 .. n)
  z = mean(y -> delay(j) -> parted(2 * j + 1) for j in 1 .. 2)
  h = max(x, h -> conv(4, kernel = 2 * j + 1) -> delay(1) -> spike for j in 0 .. 1)
  q = (z + h) -> stage(conv(6) -> conv(4), 2) via sew
  out = outputs(q -> conv(j + 1) for j in 1 .. n)
}"""
UNET = """
network net {
  input = image(3, 8, 8); steps = 3; neuron = PLIF; surrogate = atan
  d1 = in -> conv(4) -> norm -> spike -> stage(basic(4), 2) via sew
  d2 = d1 -> stage(basic(8), 2, stride = 2) via origin by densely_additive
  up = d2 -> upsample(2) -> conv(4) -> norm -> spike
  joined = concat(up, d1) -> stage(basic(4), 2) via pa_b
  classes = d2 -> avgpool -> mean_over_time -> linear(5)
  map = joined -> spike -> conv(2, kernel = 1)
  out = outputs(classes = classes, map = map, inner = d2)
}
"""
LEARNT_VALUES = """
network net {
  input = image(3, 8, 8); steps = 3; neuron = IF; surrogate = sigmoid(alpha = 4)
  a = (in -> conv(4) -> norm) + learn(0.1, per = neuron)
  g = learn(0.4, above = 0, below = 1)
  b = a -> spike -> conv(4) -> norm
  c = g * b + (1 - g) * a
  d = (learn(1.2, above = 0.5, per = step) * c) -> spike
  out = (max(d, learn(0.3, per = channel)) * learn(0.7)) -> avgpool -> mean_over_time -> linear(5)
}
"""
LEARNT = """neuron leaky = LIF(tau = learn(2.0, above = 1), v_threshold = 0.8)
neuron two_states(g = 0.5) {
  state a = 0.0; state u = 0.25
  k = learn(g, above = 0, below = 1)
  v = (1 - k) * u + x - 0.1 * a
  s = heaviside(v - 0.9)
  u = v - detach(s)
  a = 0.5 * a + s
}"""
INTEGER = """neuron integer_LIF(most = 4) {
  state u = 0.0
  v = 0.5 * u + x
  s = round(min(max(v, 0), most))
  u = v - s
}"""
SIGNED = """neuron signed {
  state u = 0.0
  v = 0.5 * u + x
  s = (heaviside(v - 0.7) - heaviside(-v - 0.7)) / 2
  u = v - s
}"""
MIXED = (
    "tiny[0] via pa_a with (neuron = PLIF) -> spike "
    "-> tiny[1] via origin by densely_additive with (neuron = IF, norm = batchnorm(init = 0.5))"
)

SHARED = small(
    "stage(twice(4), 2)",
    more="""block twice(w) {
      f = shared(conv(w) -> norm -> spike)
      g = shared(conv(w, kernel = 1, bias = true))
      big = in -> f
      small = big -> avgpool(2) -> f -> g
      out = (big + (small -> upsample(2)) + (in -> g)) -> spike
    }""",
)
TWO_INPUTS = """
network net {
  input = inputs(left = image(2, 8, 8), right = image(1, 8, 8))
  steps = 3; neuron = LIF(tau = 1.5); surrogate = sigmoid(alpha = 4)
  a = left -> conv(4) -> norm -> spike
  b = right -> conv(4) -> norm -> spike
  c = concat(a, b, right) -> conv(4) -> norm -> spike
  out = (c + a * b) -> avgpool -> mean_over_time -> linear(5)
}
"""
WEIGHTS = """
block standardised(eps = 0.01, gain = learn(1.5, per = channel)) {
  m = in - (in -> mean(over = pixels))
  out = gain * m / sqrt(((m * m) -> mean(over = pixels)) + eps)
}
neuron clipped(b) { s = round(min(max(x, -b), b)) }
neuron sign { s = 2 * heaviside(x) - 1 }
block quantised(bits = 3) { a = learn(0.1, above = 0); out = a * ((in / a) -> clipped(2 * bits + 1)) }
block binary { out = (in -> sign) * (abs(in) -> mean(over = pixels)) }
block grown { out = in + (in -> swap(channels, columns) -> conv(channels(in -> swap(channels, columns)), kernel = 1)
  -> swap(channels, columns)) }
network net {
  input = image(2, 6, 6); steps = 3; neuron = LIF; surrogate = sigmoid(alpha = 4)
  weight = standardised
  both = shared(conv(4, groups = 2, weight = binary) -> norm -> spike)
  a = in -> conv(4, bias = true) -> norm -> spike -> both -> both
  b = a -> (stage(basic(4), 1) via sew with (weight = quantised(bits = 2))) -> conv(over = time, weight = quantised)
  c = b -> linear(5, over = rows, weight = softmax(over = rows)) -> linear(over = time, weight = in_turn(2))
  d = c -> conv_transposed(4, groups = 2, kernel = 3) -> norm -> spike
  h = (d + (h -> conv(4, weight = grown) -> delay(1))) -> spike
  m = h -> conv(4, weight = kept) -> mask(0.8)
  e = m -> linear(over = time, window = 2, weight = abs_of) -> conv(3, over = columns) -> conv(3, weight = none)
  out = e -> avgpool -> mean_over_time -> linear(5, weight = layernorm)
}
block kept { out = (in -> mask(0.7)) - (in -> mask(parts = 2)) }
block in_turn(n) { out = n * in - (in -> relu) }
block abs_of { out = abs(in) }
"""
VARIETY = {
    **{
        f"{name}_{rule}": small(f"tiny via {name} by {rule}")
        for name in ("origin", "baa", "sew")
        for rule in ("chain", "densely_additive", "densely_additive_all")
    },
    **{name: small(f"tiny via {name}", **ANALOG_STEM) for name in ("pa_a", "pa_b_spike", "ms")},
    "after_opening": small("tiny via origin by densely_additive_after_opening"),
    "tdbn": small("tiny via tdbn_identity", settings="neuron = IF; norm = tdbn"),
    "sew_and": small("tiny via sew_and"),
    "sew_iand": small("tiny via sew_iand"),
    "lists": LISTS,
    "weights": WEIGHTS,
    "bottleneck": small("tiny(block = bottleneck) via origin by densely_additive"),
    "groups": small(
        "tiny(block = pair) via sew",
        more="block pair(width, stride = 1) = conv(width, kernel = 1) -> "
        "conv(width, stride = stride, groups = 2)",
    ),
    "densenet": small(
        "layers via dense_layer by densely_concatenated",
        more="backbone layers = stage(dense(2), 3) -> transition -> stage(dense(2), 3)",
    ),
    "static_part": small(
        "stage(both(4), 2)",
        more="""block both(w) {
          m = in -> mean_over_time
          y = in -> conv(w) -> norm -> spike
          out = concat(m, y)
        }""",
    ),
    "inception": small(
        "stage(inception(3), 3) via residual by densely_additive",
        more="""block inception(w, stride = 1) {
          a = in -> conv(w, kernel = 1, stride = stride) -> norm -> spike
          b = in -> conv(w, kernel = 3, stride = stride) -> norm -> spike
          out = concat(a, b)
        }
        connection residual { projection = conv -> norm -> spike; out = branch + shortcut }""",
    ),
    "several_inputs": small(
        "stage(paths(4), 2)",
        more="""neuron leaking(gate, kick = 0.1, tau = 2.0) {
          v = sigmoid(gate) * delay(v, 1) * (1 - delay(s, 1)) + learn(1.0) * x / tau + kick
          s = heaviside(v - 0.5)
        }
        neuron product(other) { s = x * tanh(other) * learn(1.0, per = channel) }
        block paths(w) {
          a = in -> conv(w) -> norm
          fired = a -> spike
          b = fired -> conv(w) -> norm
          one = a -> avgpool -> sigmoid
          c = (a -> leaking(gate = b)) + (b -> leaking(gate = one, kick = fired))
          d = c -> conv(w) -> norm -> product(other = one)
          out = d -> leaking(tau = 3, gate = (d -> avgpool -> flatten -> linear(w)))
        }""",
    ),
    "window": small(
        "tiny via origin by window(k = 2)",
        more="rule window(k = 3) { in[i] = sum(out[max(0, i - k) .. i - 1]); result = out[n - 1] }",
    ),
    "gated": small("tiny via gated by densely_additive", more=GATED),
    "attention": small(
        "stage(ssa(4), 2) -> maxpool(2) -> stage(cross(4), 1) -> soft(4)", more=ATTENTION
    ),
    "functions": small("tiny via functions by densely_additive", more=FUNCTIONS),
    "axes": small(
        "stage(reduced(4), 2)",
        more="""block reduced(w) {
          a = in -> conv(w) -> norm
          b = a -> spike
          heads = b -> sum(over = channels, groups = 2)
          wide = heads -> upsample(2, over = channels)
          rows = (a -> mean(over = rows)) + (a -> max(over = columns)) + (b -> mean(over = pixels))
          most = (a -> max(over = channels)) + (a -> sum(over = pixels)) + (a -> max(over = pixels))
          part = concat(a[2 .. 3], b[1], b[0]) -> shuffle(2)
          tokens = a -> reshape(w, columns(a) * columns(a)) -> swap(channels, rows) -> reshape(w, columns(a), columns(a))
          still = (a -> mean(over = time)) + (a -> max(over = time)) - (b -> sum(over = time))
          gate = a -> avgpool -> flatten -> linear(w) -> sigmoid
          turned = a -> swap(rows, columns) -> mean(over = channels, groups = 2) -> upsample(2, over = channels)
          out = (wide * 0.3 + (heads -> conv(w, kernel = 1)) + rows + 0.1 * most * part + 0.2 * still + a * gate + turned + 0.2 * tokens) -> spike
        }""",
    ),
    "constants": small(
        "stage(fixed(4), 2)",
        more="""block fixed(w) {
          a = in -> conv(w) -> norm
          b = a -> transform(dct, over = rows) -> transform(haar, over = channels, inverse = true)
          gains = table("f8:4x1x1:AAAAAAAA8D8AAAAAAADgvwAAAAAAAABAAAAAAAAA0D8=")
          scale = a -> avgpool -> flatten -> transform(dct, over = channels) -> linear(w)
          out = (b * gains + (a -> sinusoidal(over = rows)) + a * scale) -> spike
        }""",
    ),
    "swapped": small(
        "stage(gac(3), 2)",
        more="""block gac(w) {
          a = in -> conv(w) -> norm
          squeezed = a -> mean(over = pixels) -> mean(over = channels) -> swap(time, channels) -> conv(3, kernel = 1)
          gate = squeezed -> sigmoid -> swap(time, channels)
          both = a -> swap(time, channels) -> tanh -> swap(channels, time)
          rows = a -> max(over = rows) -> swap(rows, time) -> swap(time, rows)
          out = (a * gate + both + rows) -> spike
        }""",
    ),
    "along": small(
        "stage(mixed(4), 2)",
        more="""block mixed(w) {
          a = in -> conv(w, kernel = 4, padding = same) -> norm -> spike
          b = a -> conv(w, kernel = 2, over = time, groups = 2, bias = true) -> norm -> spike
          c = b -> conv(kernel = 3, over = time, dilation = 2) -> conv(kernel = 2, over = time, padding = same)
          d = a -> conv(w, kernel = 3, over = rows) -> conv(w, kernel = 2, over = columns, padding = same, bias = true)
          e = b -> linear(over = time) -> norm -> spike -> linear(over = time, bias = false)
          f = a -> linear(8, over = rows) -> linear(w, over = channels, bias = false)
          g = a -> avgpool -> flatten -> conv(kernel = 2, over = time)
          out = (c + d + e + f + g) -> spike
        }""",
    ),
    "causal": small(
        "stage(pair(4), 2) via sew",
        more="block pair(w) = conv(kernel = 2, over = time) -> conv(w, kernel = 2, over = time)",
    ),
    "windows": small(
        "stage(seen(4), 2)",
        more="""block seen(w) {
          a = in -> conv(w) -> norm -> linear(over = time, window = 2) -> spike
          b = a -> linear(over = time, window = 2, masked = scheduled(0.6)) -> linear(over = time, window = 1, masked = 0.3, bias = false)
          out = b + (a -> linear(over = time, window = 1, bias = false)) + (a -> flatten -> linear(over = time, window = 2) -> mean(over = channels))
        }""",
    ),
    "ordinary": small(
        "stage(parts(4), 2)",
        head="avgpool -> layernorm -> mean_over_time -> linear(5)",
        more="""block parts(w) {
          a = in -> conv(w) -> layernorm(eps = 0.01) -> spike
          b = a -> conv_transposed(w, groups = 2, bias = true) -> relu
          c = b -> maxpool(2) -> conv_transposed(w, kernel = 3, padding = 1, output_padding = 1) -> maxpool(2) -> conv_transposed(w, kernel = 3, stride = 1, padding = 1) -> norm
          d = a -> maxpool(3, stride = 3) -> upsample(like = a) -> dropout(0.4, per = sample)
          e = c -> avgpool(3, stride = 3) -> upsample(mode = bilinear, like = a)
          f = c -> avgpool(2) -> upsample(2, mode = bilinear) -> batchnorm(bias = false)
          g = a -> conv(w, kernel = 1) -> batchnorm(pad = 1, eps = 0.001) -> conv(w, padding = 0) -> batchnorm(eps = 0.1) -> spike
          out = ((b -> avgpool(2)) + c + d * (c -> detach -> sigmoid) + e + f + g) -> spike
        }""",
    ),
    "over_time": small(
        "stage(attentive(4), 2)",
        more="""block attentive(w) {
          a = in -> conv(w) -> norm
          still = in -> mean_over_time -> softmax(over = time)
          all = in -> mean_over_time -> sum(over = time)
          out = (a * ((a -> avgpool -> softmax(over = time)) + still) + 0.1 * all) -> spike
        }""",
    ),
    "loops": small(
        "stage(looped(4), 2)",
        more="""block looped(w) {
          h = (in + (h -> delay(1) -> conv(w) -> batchnorm(statistics = step))) -> spike
          c = max(h, c -> delay(2))
          out = h + 0.5 * c + (in -> delay(1))
        }""",
    ),
    "dropped": small("tiny via dropped(0.5)", more=DROPPED),
    "dropout": small(head="avgpool -> mean_over_time -> dropout(0.5) -> linear(5)"),
    "per_step": small(
        settings="neuron = IF; norm = batchnorm(per_step = true)",
        stem="conv(4) -> batchnorm(per_step = true, eps = 0.01, bias = false) -> spike",
        head="avgpool -> batchnorm(per_step = true, bias = false) -> mean_over_time -> linear(5)",
    ),
    "by_step": small(
        "tiny via origin(inter = early)",
        more="""neuron early {
          state u = 0.0
          v = learn(0.6, above = 0, per = step) * u + x
          s = heaviside(v - learn(0.8, per = channel, per_step = true))
          u = v * (1 - s)
        }""",
    ),
    "scheduled": small(settings="neuron = LIF(tau = scheduled(1.5))").replace(
        "sigmoid(alpha = 4)", "sigmoid(alpha = scheduled(3.0))"
    ),
    "cumulative": small(settings="neuron = IF; norm = batchnorm(statistics = cumulative)"),
    "tebn": small(settings="neuron = IF; norm = tebn"),
    "groupnorm": small(settings="neuron = IF; norm = groupnorm(groups = 2)"),
    "no_norm": small(settings="neuron = IF; norm = none"),
    "own_neurons": small(
        "tiny via origin(inter = two_states)", settings="neuron = leaky", more=LEARNT
    ),
    "mixed": small(MIXED, stem="conv(4) -> norm"),
    "integer": small(settings="neuron = integer_LIF", more=INTEGER),
    "signed": small("tiny via sew", settings="neuron = signed", more=SIGNED),
    "readout": small(head="avgpool -> linear(5) -> readout(tau = 2.0)"),
    "every_step": small(head="avgpool -> linear(5)"),
    "analog": small(settings="neuron = ReLU"),
    "vgg": small(
        "layers via plain",
        more="backbone layers = stage(single(4), 2) -> maxpool(2) -> stage(single(8), 1)",
    ),
    "events": small(input="events(3, 8, 8)"),
    "two_inputs": TWO_INPUTS,
    "shared": SHARED,
    "learnt_values": LEARNT_VALUES,
    "learnt_in_blocks": small(
        "stage(mixed(4), 2) via joined",
        more="""block mixed(w, g = learn(0.4, above = 0, below = 1)) {
          a = in -> conv(w) -> norm -> LIF(tau = learn(2.0, above = 1, per = channel))
          out = g * a + (1 - g) * in
        }
        connection joined { out = branch + shortcut }""",
    ),
    "unet": UNET,
    "latency": small(input="image(3, 8, 8) -> latency(tau = 2)"),
    "poisson": small(input="image(3, 8, 8) -> poisson"),
    "random": small(
        settings="neuron = fires_at_random",
        stages="tiny via origin_at_random by densely_additive",
        more="""neuron fires_at_random(sigma = 0.5) {
          state v = 0.0
          h = 0.5 * v + x + sigma * random(normal, evaluate = mean)
          s = heaviside(1 / (1 + exp(1 - h)) - random())
          v = h * (1 - s)
        }
        connection origin_at_random {
          each = conv -> norm -> spike; last = conv -> norm; projection = conv -> norm
          out = (branch + 0.1 * random(uniform(-1, 1), per = sample) + shortcut) -> spike
        }""",
    ),
}
"""Small networks (without ``use std``). Together with ``TOKENS`` they use every operation."""

TOKENS = {
    "tokens_in_time": """
        block mixing(width) {
          old = in -> delay(1)
          out = in + ((in + old) -> layernorm -> spike -> linear(width))
        }
        network net {
          input = tokens(9); steps = 4; neuron = LIF; surrogate = atan
          table = shared(embedding(6, vocabulary = 9))
          stem = table; stages = stage(mixing(6), 2); head = layernorm -> table
        }""",
    "tokens_in_places": """
        network net {
          input = tokens(9, length = 5); steps = 3; neuron = LIF; surrogate = atan
          e = in -> embedding(4, init = normal(0.5))
          x = e + (e -> sinusoidal(over = columns)) + learn(0.1, per = neuron)
          s = x -> conv(4, kernel = 1) -> spike
          y = mix(scores(s, s, heads = 2), x -> spike)
          out = outputs(y -> avgpool -> flatten -> linear(3), y -> embedding(4, vocabulary = 9))
        }""",
}
"""Networks that take tokens, as int64 indices."""

TWINS = """
network net {
  input = inputs(a = image(2, 6, 6), b = image(2, 6, 6))
  steps = 3; neuron = IF; surrogate = sigmoid(alpha = 4)
  f = shared(conv(4) -> norm -> spike)
  g = shared(conv(4, kernel = 1) -> norm -> spike)
  x = a -> f -> g -> g
  y = b -> f -> g
  out = concat(x -> avgpool, y -> avgpool) -> linear(5)
}
"""
SIAMESE = {
    "siamese": TWINS.replace("-> norm -> spike)", "-> norm -> PLIF)"),
    "siamese, scheduled": TWINS.replace("alpha = 4", "alpha = scheduled(4.0)"),
}
"""Networks that use shared layers at several places."""

ENCODED = ("latency", "poisson")


@cache
def variety(name: str, passes: tuple[Pass, ...] = PIPELINE) -> Graph:
    """The graph of a network in ``VARIETY``, cached because many tests use it."""
    return text(VARIETY[name], passes)
