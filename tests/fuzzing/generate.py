"""Random specs over the whole language, most of which the checker accepts."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from danetc.dsl.loading import standard
from tests.fuzzing import equations, recipes
from tests.fuzzing.dice import Dice

LINES = ["a", "b", "left", "gate", "conv1", "training", "norm2", "feat", "class", "state"]
STD_NEURONS = {
    "IF": "IF",
    "LIF": "LIF(tau = 1.6)",
    "PLIF": "PLIF",
    "IF_soft": "IF_soft(detach_reset = true)",
    "LIF_soft": "LIF_soft(tau = 3.0, v_threshold = 0.7)",
    "PLIF_soft": "PLIF_soft(tau = 1.5)",
    "ALIF": "ALIF(beta = 0.5)",
    "MSLIF": "MSLIF",
    "SlidingPSN": "SlidingPSN(k = 3)",
    "readout": "readout",
    "threshold": "threshold(0.7)",
    "ReLU": "ReLU",
    "by_channel": "LIF(tau = learn(2.0, above = 1, per = channel), v_threshold = learn(0.8, per = channel))",
    "by_step": "LIF(tau = learn(2.0, above = 1, per = step), v_threshold = learn(0.8, per = channel, per_step = true))",
    "learnt": "LIF(tau = learn(2.0, above = 1), v_threshold = learn(0.8))",
    "scheduled": "LIF(tau = scheduled(1.6), v_threshold = learn(0.8))",
}
SURROGATES = [
    "sigmoid", "sigmoid(alpha = 3)", "sigmoid(alpha = scheduled(3))", "atan", "triangle(0.8)",
    "rectangle(width = 2)", "dspike(2)", "multi_gaussian", "s2nn", "leaky_k_relu(leak = 0.1)",
]  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """Channels, and the height and width of a map; None for a vector."""

    channels: int
    size: int | None


@dataclass
class Maker:
    """Makes one spec. ``neurons`` and so on are the names that it has declared."""

    dice: Dice
    texts: list[str] = field(default_factory=list)
    neurons: list[str] = field(default_factory=lambda: [*STD_NEURONS])
    surrogates: list[str] = field(default_factory=lambda: [*SURROGATES])
    steps: int = 0  # of the network being made
    threshold: bool = True  # whether the network's neuron has a threshold, for tdbn
    count: int = 0
    names: Sequence[str] = ("in",)  # of the network's inputs

    def fresh(self, base: str) -> str:
        self.count += 1
        return f"{base}_{self.count}"

    # -- layers, flows and values, with shapes that are tracked ----

    def neuron(self) -> str:
        name = self.dice.choice(self.neurons)
        return STD_NEURONS.get(name, name)

    def norm(self, channels: int) -> str:
        groups = "|".join(str(g) for g in (1, 2, channels) if channels % g == 0)
        forms = f"""
            2 × norm
            2 × «batchnorm|batchnorm(«init = 0.5|per_step = true|statistics = «step|cumulative»»)»
            tebn
            groupnorm(groups = «{groups}»)
        """
        if self.threshold:
            forms += f"tdbn«|({self.dice.real(0.5, 1)})»"
        return self.dice.text(forms)

    def conv(self, shape: Shape, width: int | None = None, keep: bool = False) -> tuple[str, Shape]:
        dice = self.dice
        assert shape.size is not None
        width = width or dice.choice([2, 3, 4])
        kernel = dice.choice([1, 3, 3, 3, 5])
        args, size = [dice.number(width)], shape.size
        if kernel != 3:
            args.append(f"kernel = {dice.number(kernel)}")
        if not keep and dice.maybe(0.2) and size > 2:
            args.append("stride = 2")
            size = (size - 1) // 2 + 1
        if dice.maybe(0.15):
            args.append(f"padding = {kernel // 2}")
        groups = dice.choice([g for g in (1, 1, 2, 3, 4) if width % g == shape.channels % g == 0])
        if groups > 1:
            args.append(f"groups = {groups}")
        if dice.maybe(0.15) and kernel == 3 and "padding" not in str(args):
            args.append("dilation = 2")
        if dice.maybe(0.1):
            args.append(f"init = {dice.start()}")
        if dice.maybe(0.3):
            args.append(f"bias = {dice.choice(['true', 'false', '2 > 1'])}")
        if dice.maybe(0.12):
            args.append(f"weight = {self.of_weights()}")
        return f"conv({', '.join(args)})", Shape(width, size)

    def of_weights(self) -> str:
        return self.dice.text(f"""
            «tanh|gelu|layernorm|none|identity|mask(0.7)|mask(parts = 1)»
            «tanh -> mask(0.5)|tanh -> tanh»
            {self.declare_of_weights()}
        """)

    def declare_of_weights(self) -> str:
        """A block that keeps the shape of the weights of any layer."""
        name, dice = self.fresh("weights"), self.dice
        out = dice.text("""
            gain * in / sqrt(0.1 + ((in * in) -> mean(over = channels)))
            in - gain * (in -> mean(over = «channels|pixels»))
            ((in / gain) -> «quantised|tanh») * gain
            gain * (in -> sign) * (abs(in) -> mean(over = channels))
        """)
        for neuron in ("sign { s = 2 * heaviside(x) - 1 }", "quantised { s = round(4 * x) / 4 }"):
            if neuron.split()[0] in out and f"neuron {neuron}\n" not in self.texts:
                self.texts.append(f"neuron {neuron}\n")
        gain = dice.text("«0.5|learn(0.8)|learn(1.0, per = channel)|learn(0.5, above = 0.1)»")
        self.texts.append(f"block {name}() {{ gain = {gain}; out = {out} }}\n")
        return name

    def layer(self, shape: Shape, keep: bool = False) -> tuple[str, Shape]:
        """One layer; with ``keep`` one that keeps the shape."""
        dice, size = self.dice, shape.size
        if size is None:
            width = shape.channels if keep else dice.choice([2, 3, 5])
            if dice.maybe(0.2):
                of_weights = f"«|||, weight = {self.of_weights()}»"
                text = dice.text(f"linear({width}«|, bias = false»{of_weights})")
                return text, Shape(width, None)
            return dice.text(f"«{self.neuron()}|{self.norm(shape.channels)}|tanh|flatten»"), shape
        channels = shape.channels
        axis = "«time|channels»" if channels == 1 else "time"
        same = f"""
            {self.conv(shape, channels, keep=True)[0]}
            {self.norm(channels)}
            {self.norm(channels)}
            2 × spike
            {self.neuron()}
            «tanh|softplus|sigmoid|gelu|gelu|softmax|softmax(over = rows)»
            «softmax(over = time)|shuffle({channels})|swap(rows, columns)»
            «sum|mean|max»(over = {axis})
            «transform(dct, over = «channels|rows«|, inverse = true»»)|sinusoidal«|(over = rows)»»
            transform({"haar" if size & (size - 1) == 0 else "dct"}, over = columns)
            conv(«kernel = 2, over = time|{channels}, over = «rows|columns»»)
            conv({channels}, kernel = «2, over = time, padding = same, bias = true|«2|4», padding = same»)
            linear(«over = time«|{self.window()}»|{size}, over = rows, bias = false»)
            «layernorm|batchnorm(eps = 0.01)|batchnorm(bias = false)|relu»
            «dropout(0.3, per = sample)|batchnorm(pad = 1) -> avgpool(3, stride = 1)»
            mask(«0.7|parts = {channels}|parts = 1»)
            {self.other_size(channels, size)}
            {self.other_size(channels, size)}
            «dropout(0.3)|droppath(0.4)|dropout(0)|droppath|dropout»
            «identity|none|maxpool(1)|upsample(1)|avgpool(1)»
            delay«|(1)|(2)»
            «maxpool(3, stride = 1)|avgpool(3, stride = 1, padding = 1)»
        """
        if dice.maybe(0.08):
            same = f"{self.declare_layer()}(«|width = »{channels})"
        elif dice.maybe(0.06):
            same = f"""
                ({self.norm(channels)} if steps «>|<=|==» 2 else none)
                («spike|tanh» if {dice.condition()} else identity)
            """
        if keep or dice.maybe(0.6):
            text = dice.text(same)
            if text.startswith("spike") and self.threshold and dice.maybe(0.1):
                text = "spike(v_threshold = 0.6)"
            if text == "norm" and dice.maybe(0.15):
                text = "norm(init = 0.7)"
            return text, shape
        if size >= 4 and dice.maybe(0.5):
            pooled = "«maxpool(2)|avgpool(2)|maxpool(«3, stride = 2|2, stride = 2, padding = 1»)»"
            text = dice.text(pooled)
            new = {"maxpool(3, stride = 2)": (size - 1) // 2 + 1}.get(text, size // 2)
            new = size // 2 + 1 if "padding" in text else new
            return text, Shape(shape.channels, new)
        if size <= 4 and dice.maybe(0.3):
            wider = f"conv_transposed({channels}«|, kernel = 3, padding = 1, output_padding = 1»)"
            text = dice.text(f"«upsample|upsample(2)|upsample(mode = bilinear)|{wider}»")
            return text, Shape(channels, 2 * size)
        return self.conv(shape)

    def other_size(self, channels: int, size: int) -> str:
        """A flow through maps of another size, or other channels; its output has the shape of its input."""
        dice = self.dice
        given = f"rows = {size}, columns = {size}"
        forms = f"""
            pad(1) -> maxpool(3, stride = 1, padding = 0)
            pad(1, 2) -> upsample({given})
            pad(1, 0, over = rows) -> conv({channels}, kernel = 2, over = rows)
            2 × upsample(2, over = channels) -> sum(over = channels, groups = {channels})
            conv({channels}, stride = 2) -> upsample({given}«|, mode = bilinear»)
        """
        if size % 2 == 0:
            even = f"avgpool(2) -> «conv_transposed({channels})|upsample(2, mode = bilinear)»\n"
            forms += "4 × " + even
        if channels == self.steps:
            forms += "6 × swap(time, channels)\n"
        return dice.text(forms)

    def flow(self, shape: Shape, least: int, most: int, keep: bool = False) -> tuple[str, Shape]:
        steps = []
        for _ in range(self.dice.randint(least, most)):
            text, shape = self.layer(shape, keep)
            steps.append(text)
        return " -> ".join(steps), shape

    def in_loop(self, shape: Shape) -> str:
        """A flow that keeps the shape and can run step by step."""
        dice = self.dice
        layers = [
            self.conv(shape, shape.channels, keep=True)[0],
            self.conv(shape, shape.channels, keep=True)[0],
            "batchnorm(statistics = step)",
            "batchnorm(per_step = true, eps = 0.01, bias = false)",
            "groupnorm(groups = 1)",
            "spike",
            self.neuron(),
            dice.text("«tanh|sigmoid|dropout(0.3)|delay(1)|delay(2)»"),
            "maxpool(3, stride = 1)",
        ]
        return " -> ".join(dice.some(layers, 3) or ["conv(" + dice.number(shape.channels) + ")"])

    def loop(self, source: str, shape: Shape) -> tuple[list[str], str]:
        """Lines of a loop over time with ``source`` as its input, and the name of its output."""
        dice = self.dice
        a, b = self.fresh("loop"), self.fresh("back")
        join = dice.text("«({} + {})|({} - {})|max({}, {})|({} + 0.5 * {})»")
        steps = dice.text(f"«|(1)|(1)|(2)|(3)|(1, like = {source})»")
        back = dice.text(f"({{}} -> delay{steps}«| -> {self.in_loop(shape)}»)")
        end = dice.text(f" -> «spike|{self.in_loop(shape)}|tanh»")
        match dice.choice(["self", "self", "two", "far", "both"]):
            case "self":
                return [f"{a} = {join.format(source, back.format(a))}{end}"], a
            case "two":
                lines = [f"{a} = {join.format(source, back.format(b))}{end}"]
                lines.append(f"{b} = {a} -> {self.in_loop(shape)}")
                dice.shuffle(lines)
                return lines, dice.choice([a, b])
            case "far":  # the delayed value is more than a name
                far = f"({a} -> {self.in_loop(shape)} -> delay{steps})"
                return [f"{a} = {join.format(source, far)}{end}"], a
        inner = f"({join.format(back.format(a), f'({b} -> delay(2))')})"
        lines = [f"{a} = ({source} + {inner}){end}", f"{b} = ({a} + ({b} -> delay(1))) -> tanh"]
        return lines, dice.choice([a, b])

    def window(self) -> str:
        """A window of time steps that also fits a variant with fewer steps."""
        masked = "«|, masked = 0.3|, masked = scheduled(0.6)»"
        return self.dice.text(f", window = «1|(2 if steps > 1 else 1)|steps»{masked}")

    def value(self, names: list[str], depth: int = 2) -> str:
        dice = self.dice
        if depth == 0 or (len(names) == 1 and dice.maybe(0.3)):
            return dice.choice(names)
        a, b = self.value(names, depth - 1), self.value(names, depth - 1)
        if dice.maybe(0.1):
            more = dice.text(f"«|||, other = {dice.choice(names)}|, other = 0.3»")
            return f"(({a}) -> {self.declare_gated()}(gate = {b}{more}))"
        bare = dice.choice(names)
        axis = "«channels|rows|columns|pixels|time»"
        return dice.text(f"""
            2 × ({a} «+|+|-» {b})
            {a} * {b}
            (1 - {a}) * {b}
            2 × «max({a}, {b})|min({a}, {b}, {a})»
            ({a} «+ 0.5|- 1»)
            «{dice.real(0.3, 2)}|2|3|1.0|0.5|-1» * {a}
            «{dice.real(0.3, 2)}|2|3|1.0|0.5|-1» * {a}
            {a} / «2|3|0.5»
            (-{a})
            ({bare} -> tanh) / (2 + (({b}) -> sigmoid))
            {a} * (({b}) -> avgpool -> «sigmoid|flatten -> tanh»)
            {a} * (({b}) -> «sum|mean|max»(over = {axis}) -> tanh)
            ({a} - (({b}) -> «mean|max»(over = {axis})))
            ({a} + (({b}) -> detach))
            {a} * ({bare}[0 .. 0] -> tanh)
            {a} * ({bare} -> sum(over = channels) -> swap(time, channels) -> tanh -> swap(time, channels))
            ({a} if {dice.condition()} else {b})
            ({a} «+|-» 0.3 * {dice.drawn()})
            {dice.learn()} * {a}
            ({a} + {dice.learn()})
            ({a} - (1 - {dice.learn()}) * {b})
            max({a}, {dice.learn()})
        """)

    # -- declarations: each is added to ``texts`` under a new name -----------------

    def declare_neuron(self) -> None:
        name = self.fresh("neuron")
        if self.dice.maybe(0.25):
            changes = "«v_threshold = «0.6|learn(0.7, above = 0.1)»|detach_reset = true»"
            base = self.dice.text(f"«IF|LIF|PLIF|LIF_soft»({changes})")
            self.texts.append(f"neuron {name} = {base}\n")
        else:
            self.texts.append(equations.neuron(self.dice, name))
        self.neurons += [name] * 3

    def declare_surrogate(self) -> None:
        name = self.fresh("slope")
        self.texts.append(equations.surrogate(self.dice, name))
        self.surrogates += [name] * 3

    def declare_block(self) -> str:
        """A flow of weight layers, or a block that wires itself; both take a width and a stride."""
        dice, name = self.dice, self.fresh("block")
        if dice.maybe(0.15):
            other = f"{self.declare_block()}(width, stride = stride)"
            self.texts.append(f"block {name}(width, stride = 1) = {other}\n")
            return name
        if dice.maybe(0.6):
            middle = [dice.text("conv(width, kernel = «1|3|k»)") for _ in range(dice.randint(0, 2))]
            middle += dice.some(["tanh", "dropout(0.2)"], 1)
            first = dice.text("conv(width, kernel = k, stride = stride«|, bias = true»)")
            steps = [first, *middle, "conv(width, kernel = 1)"]
            self.texts.append(f"block {name}(width, stride = 1, k = 3) = {' -> '.join(steps)}\n")
            return name
        lines = [f"a = in -> conv(width, stride = stride) -> {self.norm(2)} -> spike"]
        flow = self.flow(Shape(2, 4), 1, 2, keep=True)[0].replace("conv(2", "conv(width")
        lines = [each.replace("groups = 2", "groups = 1") for each in (*lines, f"b = a -> {flow}")]
        names = ["a", "b"]
        if dice.maybe(0.4):
            lines.append("c = (in if i == 0 else in) -> conv(width, kernel = 1, stride = stride)")
            names.append("c")
        out = self.value(names)
        if dice.maybe(0.25):
            out = f"concat({out}, a) -> conv(channels(a), kernel = 1)"
        lines.append(f"out = {out}")
        if not all(n in " ".join(lines[i + 1 :]) for i, n in enumerate(names)):
            lines[-1] = f"out = {' + '.join(names)}"
        self.texts.append(f"block {name}(width, stride = 1) {{\n  " + "\n  ".join(lines) + "\n}\n")
        return name

    def declare_gated(self) -> str:
        name = self.fresh("gated")
        self.texts.append(equations.gated(self.dice, name))
        return name

    def declare_layer(self) -> str:
        """A block that is used as a layer: it keeps the size of its input."""
        dice, name = self.dice, self.fresh("layer")
        lines = ["most = 2 * width", "wide = in -> conv(most / 2) -> norm"]
        again = dice.text("«norm -> spike|tanh|conv(width, kernel = 1)»")
        out = dice.text(f"""
            (wide -> again) + (wide -> again)
            concat(wide, in) -> conv(width, kernel = 1) -> again
            wide -> again -> conv(channels(wide))
            (wide * (wide -> avgpool -> conv(channels(wide), kernel = 1) -> sigmoid)) -> again
            max(wide, (wide -> again))
            «sum|mean|max|min»(exp(-learn(0.5)) * ((j * wide) -> again) for j in 1 .. 3 if j != «2|4»)
            concat(wide[j - 1] -> again for j in 1 .. width) -> stage(again -> conv(width, kernel = 1), 2) -> again
            {self.attention()}
            {self.attention()}
            {self.attention()}
            {self.attention()}
        """)
        lines += [f"again = {again}", f"out = {out}"]
        body = "\n  ".join(lines)
        self.texts.append(f"block {name}(width) {{\n  {body}\n}}\n")
        return name

    def attention(self) -> str:
        """A value of the size of ``wide``, from which queries, keys and values are made."""
        dice = self.dice
        layer = "«spike|spike|norm|norm -> spike|tanh»"
        part = f"«(wide -> {layer})|wide|in|(in -> again)|(wide -> mean_over_time)»"
        scores = f"scores(«(wide -> spike)|wide|(wide -> norm)», {part}«|, heads = width»)"
        between = dice.text(f"""
            2 × {scores}
            2 × ({scores} -> «softmax(over = columns)|spike»)
            3 × ({scores} / sqrt(1 + «rows|columns»(in)))
            2 × ({scores} / sqrt(1 + (in -> sigmoid -> running_mean)))
        """)
        mixed = f"mix({between}, {part}«|, like = wide»)"
        return dice.text(f"(0.1 * {mixed}) -> «again|norm|spike|again»")

    def declare_connection(self) -> str:
        dice, name = self.dice, self.fresh("wired")
        after = dice.some(["norm", "spike", "tanh"], 2)
        conv = dice.text("«||||conv(bias = true)|conv(dilation = 1)»") or "conv"
        around = [*dice.some(["norm", "spike"], 2), conv, *after]
        lines = [f"each = {' -> '.join(around)}"]
        if dice.maybe(0.5):
            last = "«conv|conv -> norm|spike -> conv«| -> norm(init = 0.6)»|conv(bias = true)»"
            lines.append(f"last = {last}")
        lines.append(
            "projection = «conv«| -> norm| -> norm -> spike»|norm -> conv(bias = true)|"
            "avgpool(stride) -> conv(stride = 1) -> norm»"
        )
        if dice.maybe(0.25):
            lines.append("identity = «norm|none|spike|tanh»")
        names = ["branch", "shortcut"]
        if dice.maybe(0.3):
            squeeze = "avgpool -> conv(channels, kernel = 1, bias = true) -> sigmoid"
            lines.append(f"gate = branch -> «{squeeze}|sigmoid|droppath(p * i / n)»")
            names.append("gate")
        plain = "branch + shortcut"
        product = "branch * shortcut|(1 - branch) * shortcut"
        join = dice.text(f"«{plain}|{plain}|{plain}|{product}|branch|{self.value(names)}»")
        if "gate" in names and "gate" not in join:
            join = f"gate * ({join})"
        join = dice.text(f"«{join}|({join}) -> «inter|norm -> inter|spike»»")
        if dice.maybe(0.15):
            join = f"(({join}) if i < n - 1 or stride > 1 else branch)"
        lines = [dice.text(line) for line in [*lines, f"out = {join}"]]
        used = "inter" in join or "p *" in str(lines)
        params = dice.text(f"(inter = «spike|spike|{self.neuron()}|norm», p = 0.3)") if used else ""
        body = "\n  ".join(lines)
        self.texts.append(f"connection {name}{params} {{\n  {body}\n}}\n")
        return name

    def declare_loop(self) -> str:
        """A rule that reads values of earlier steps, also from later blocks."""
        dice, name = self.dice, self.fresh("back")
        late = dice.text("«out[n - 1]|sum(out[0 .. n - 1])|in[i]|out[i]|(out[0] / 2)»")
        late = dice.text(f"«{late}|{late}|{late}|({dice.learn()} * {late})»")
        feed = dice.text(f"""
            out[i - 1] + ({late} -> delay(«1|2»))
            max(out[i - 1], {late} -> delay(1))
            out[i - 1] + sum(0.5 * (out[j] -> delay(j - i + 1)) for j in i .. n - 1)
            out[i - 1] + 0.5 * ({late} -> delay(1) -> delay(1))
        """)
        first = dice.text("«||in[0] = in + 0.5 * (in -> delay(1)); »")
        result = dice.text("out[n - 1]«| + (out[0] -> delay(1))»")
        self.texts.append(f"rule {name} {{ {first}in[i] = {feed}; result = {result} }}\n")
        return name

    def declare_rule(self) -> str:
        dice, name = self.dice, self.fresh("fed")
        i = dice.choice(["i", "k"])
        some = dice.text(f"out[«0|{i} - 1|max(0, {i} - w)|floor({i} / 2)» .. {i} - 1]")
        feed = dice.text(f"""
            2 × sum({some})
            max({some})
            min({some}, out[0])
            concat(in[0], {some})
            sum({some}) / {i}
            0.5 * out[{i} - 1] + in[0] / 2
            sum(out[j] for j in 0 .. {i} - 1 if ({i} - j) == 1 or ({i} - j) == 2)
            sum(0.5 * out[j] for j in 0 .. {i} - 1)
            in[{i} - 1] + out[{i} - 1]
            out[{i} - 1] if {i} == 1 else out[{i} - 1] + out[{i} - 2]
            sum(out[{i} - 1, 0], in[0 .. {i} - 1])
            «|1.0 * »out[{i} - 1]
            mean({some})
            sum({dice.learn()} * out[j] for j in 0 .. {i} - 1)
            2 * {dice.learn()} * sum({some}) + {dice.learn()} * in[0]
        """)
        short = ""
        if dice.maybe(0.2):
            start = dice.text(f"""
                «|{dice.learn()} * »out[{i} - 1]
                sum(out[0 .. {i} - 1])
                mean(in[{i} - 1], out[{i} - 1])
            """)
            short = f"shortcut[{i}] = {start}; "
        all_of = "«sum(|max(|concat(in[0], »out[0 .. n - 1])"
        result = dice.text(f"«out[n - 1]|out[n - 1]|2 * out[n - 1]|{all_of}»")
        params = f"(w = {dice.randint(1, 3)})" if "- w" in feed else ""
        self.texts.append(f"rule {name}{params} {{ in[{i}] = {feed}; {short}result = {result} }}\n")
        return name

    # -- networks

    def _fed_back(self, stage: str) -> str:
        """A stage in a loop over time; its norms use the statistics of one sample."""
        via = self.dice.text("via «origin|sew|pa_a|pa_b|plain|ms_conv»")
        rule = self.dice.choice(["feedback_after_opening", *[self.declare_loop()] * 3])
        return f"{stage} {via} by {rule} with (norm = groupnorm(groups = 1))"

    def stages(self, shape: Shape) -> str:
        """A backbone with its connection and its rule."""
        dice = self.dice
        std = ["basic", "single", "bottleneck", "grouped", "wide", "dense"]
        own = [self.declare_block() for _ in range(dice.randint(0, 2))]
        wiring = [name for name in own if self._wires_itself(name)]
        parts = []
        for _ in range(dice.choice([1, 1, 2])):
            block = dice.choice([*own, *own, *std])
            width = 1 if block in ("grouped", "wide", "bottleneck") else dice.choice([2, 3, 4])
            args = dice.number(width)
            args += ", groups = 2, group_width = 64" if block == "grouped" else ""
            args += f", factor = {dice.number(2)}" if block == "wide" else ""
            stride = ", stride = 2" if block != "dense" and dice.maybe(0.3) else ""
            stage = f"stage({block}({args}), {dice.number(dice.randint(1, 3))}{stride})"
            if block in wiring and dice.maybe(0.6):
                parts.append(stage)
                continue
            if block in ("basic", "single", "bottleneck") and dice.maybe(0.25):
                parts.append(self._fed_back(stage))
                continue
            if block in wiring:
                connection = self.fresh("joined")
                out = dice.text("«branch + shortcut|branch|(branch + shortcut) -> spike»")
                body = f"projection = conv -> norm; out = {out}"
                self.texts.append(f"connection {connection} {{ {body} }}\n")
            elif block == "dense":
                connection = "dense_layer"
            else:
                origin = f"«origin|origin|origin(inter = {self.neuron()})»"
                tdbn = "tdbn" if self.threshold else "origin"
                known = f"«{origin}|sew|baa|pa_a|pa_b|plain|ms_conv|sew_iand|{tdbn}»"
                connection = dice.text(f"«{self.declare_connection()}|{known}»")
            wired = f"{stage} via {connection}"
            if dice.maybe(0.7):
                dense = "densely_additive«|_all|_after_opening»"
                rule = dice.text(f"«chain|{dense}|{self.declare_rule()}|{self.declare_rule()}»")
                rule = "densely_concatenated" if block == "dense" else rule
                wired += f" by {rule}"
            if dice.maybe(0.4):
                norm = "norm = «groupnorm(groups = 1)|batchnorm(init = 0.8)»"
                neuron, slope = f"neuron = {self.neuron()}", dice.choice(self.surrogates)
                settings = dice.some([neuron, norm, f"surrogate = {slope}"], 2)
                wired += " " + dice.text(f"with ({', '.join(settings)})") if settings else ""
            parts.append(wired)
        if dice.maybe(0.3):
            narrow = "transition" if shape.channels > 1 and (shape.size or 0) > 3 else "norm"
            between = f"«spike|norm -> spike|maxpool(2, padding = 1)|{narrow}»"
            parts.insert(1, dice.text(between))
        flow = " -> ".join(f"({p})" if dice.maybe(0.1) else p for p in parts)
        if dice.maybe(0.15):
            name = self.fresh("body")
            self.texts.append(f"backbone {name} = {flow}\n")
            return name + (dice.text("«|[0]|[0 .. 0]»") if "stage" in parts[0] else "")
        return flow

    def _wires_itself(self, name: str) -> bool:
        """Whether a block wires itself, or is an alias of one that does."""
        text = next((t for t in self.texts if t.startswith(f"block {name}(")), "")
        target = re.search(r"\) = (block_\d+)\(", text)
        return self._wires_itself(target[1]) if target else "{" in text

    def network(self, name: str) -> str:
        dice = self.dice
        channels, size = dice.choice([1, 2, 3]), dice.choice([4, 4, 6, 7, 8])
        neuron = dice.choice(self.neurons)
        self.threshold = neuron in STD_NEURONS and neuron not in ("readout", "ReLU")
        kind = dice.text("«image|image|image|image|events|events|poisson|latency|prepared|tokens»")
        source = f"image({channels}, {size}, {dice.number(size)})"
        if kind == "events":
            source = dice.text(f"events({channels}, {size}, {size}«|, bound = 1|, bound = 3»)")
        elif kind in ("poisson", "latency"):
            source += f" -> {kind}" + dice.choice(["", "(tau = 3)" if kind == "latency" else ""])
        elif kind == "prepared":
            source += " -> avgpool(2)"
        elif kind == "tokens":
            source = dice.text("tokens(«5|(2 + 3)»«|, length = 3»)")
        shape = Shape(channels, size // 2 if kind == "prepared" else size)
        dataflow = dice.maybe(0.4)
        self.names = ["in"]
        if dataflow and kind in ("image", "events") and dice.maybe(0.3):
            self.names = ["seen", "heard"]
            source = f"inputs(seen = {source}, heard = {source.replace(str(channels), '1', 1)})"
        self.steps = dice.choice([1, 2, 2, 3, 4])
        lines = [
            f"input = {source}",
            f"steps = {dice.number(self.steps)}",
            f"neuron = {STD_NEURONS.get(neuron, neuron)}",
            f"surrogate = {dice.choice(self.surrogates)}",
        ]
        if dice.maybe(0.5):
            tdbn = "tdbn|tdbn(0.9)" if self.threshold else "none"
            more = "«batchnorm(init = 0.9)|tebn|batchnorm(per_step = true)»"
            lines.append(dice.text(f"norm = «batchnorm|{more}|groupnorm(groups = 1)|{tdbn}»"))
        if dice.maybe(0.08):
            lines.append("zero_init = true")
        if dice.maybe(0.1):
            lines.append(f"init = {dice.start()}")
        if dice.maybe(0.06):
            lines.append(f"weight = {self.of_weights()}")
        if kind == "tokens":
            lines += self._of_tokens(at_once="length" in source)
        else:
            lines += self._dataflow(shape) if dataflow else self._parts(shape)
        text = " ".join(lines)
        params = [f"classes = {dice.randint(2, 5)}"] if "classes" in text else []
        params += [f"hidden = {dice.randint(2, 4)}"] if "hidden" in text else []
        given = f"({', '.join(params)})" if params else ""
        return f"network {name}{given} {{\n  " + "\n  ".join(lines) + "\n}\n"

    def _of_tokens(self, at_once: bool) -> list[str]:
        """Lines of a network of tokens. Its embedding may also compute the logits."""
        dice, width = self.dice, self.dice.choice([2, 3, 4])
        tied = not at_once and dice.maybe(0.3)
        lines = [f"table = shared(embedding({width}, vocabulary = 5))"] if tied else []
        first = "table" if tied else f"embedding({width})"
        lines.append(f"words = in -> {first} -> {self.norm(width)} -> spike")
        known = ["words"]
        for name in ("again", "later")[: dice.randint(0, 2)]:
            flow = "norm" if at_once else self.flow(Shape(width, None), 1, 3, keep=True)[0]
            of = f"«{' + '.join(known)}|{known[-1]} - 0.3 * {dice.drawn()}|0.5 * {known[-1]}»"
            lines.append(dice.text(f"{name} = ({of}) -> {flow} -> «tanh|spike|delay(1)»"))
            known.append(name)
        logits = "avgpool -> «|mean_over_time -> »linear(classes)" if at_once else "linear(classes)"
        logits = "tanh -> table" if tied else logits
        lines.append(dice.text(f"out = ({' + '.join(known)}) -> {logits}"))
        return lines

    def _parts(self, shape: Shape) -> list[str]:
        dice = self.dice
        stem, shape = self.flow(shape, 0, 2)
        conv, shape = self.conv(shape)
        stem = " -> ".join(step for step in (conv, stem and "norm", "spike") if step)
        lines = [f"stem = {stem}"]
        if dice.maybe(0.85):
            lines.append(f"stages = {self.stages(shape)}")
        scaled = "linear(2 * hidden) -> tebn -> spike(v_threshold = 0.4) -> linear(hidden) -> tanh"
        head = f"""
            avgpool -> «|mean_over_time -> »linear(classes)
            avgpool -> flatten -> linear(4) -> spike -> linear(classes, bias = false) -> mean_over_time
            mean_over_time -> «avgpool|norm -> spike» -> linear(classes)
            linear(classes) -> readout
            avgpool -> «dropout(0.2)|linear(hidden) -> norm -> spike» -> linear(classes)
            avgpool -> {scaled if self.threshold else "flatten"} -> linear(classes)
        """
        middle = "«|spike -> |norm -> spike -> |tanh -> »"
        lines.append(f"head = {dice.text(middle + dice.text(head))}")
        return lines

    def _dataflow(self, shape: Shape) -> list[str]:
        """Lines that name values and layers, and ``out``."""
        dice = self.dice
        names = dice.sample(LINES, 5)
        lines, used = [], []
        first, wide = self.conv(shape)
        source = self.names[0]
        if len(self.names) > 1 and dice.maybe(0.5):
            source = f"concat({', '.join(self.names)})"
            first, wide = self.conv(Shape(shape.channels + 1, shape.size))
        shape = wide
        lines.append(f"{names[0]} = {source} -> {first} -> norm -> spike")
        known = [names[0]]
        if len(self.names) > 1 and "concat" not in source:
            stride = ", stride = 2" if "stride" in first else ""
            dilated = ", dilation = 2" if "dilation" in first else ""
            lines.append(f"{names[3]}s = heard -> conv({shape.channels}{stride}{dilated}) -> tanh")
            known.append(f"{names[3]}s")
        if dice.maybe(0.4):
            layer = self.flow(shape, 1, 2, keep=True)[0]
            if dice.maybe(0.5):  # no norm: its statistics would depend on the order of the calls
                conv = self.conv(shape, shape.channels, keep=True)[0]
                layer = f"shared({conv} -> {self.neuron()})"
            lines.append(f"{names[4]} = {layer}")
            used.append(names[4])
        for name in names[1 : dice.randint(2, 4)]:
            flow = self.flow(shape, 1, 3, keep=True)[0]
            if used and dice.maybe(0.5):
                flow += f" -> {used[0]}"
            lines.append(f"{name} = ({self.value(known, 1)}) -> {flow}")
            known.append(name)
        if dice.maybe(0.35):
            made, name = self.loop(known[-1], shape)
            lines += made
            known.append(name)
        if used and not any(used[0] in line.split("=", 1)[1] for line in lines[2:]):
            lines[-1] += f" -> {used[0]}"
        joined = " + ".join(known)
        if dice.maybe(0.2):  # a value without time beside values that vary
            lines.append(f"still = {known[0]} -> mean_over_time")
            joined += " " + dice.text("«+ still|- still|+ (still -> spike)|+ (still -> norm)»")
        if dice.maybe(0.15) and shape.size is not None and shape.size % 2 == 0:
            down = f"maxpool(2) -> conv({shape.channels}) -> norm -> spike"
            lines.append(f"down = {known[0]} -> {down}")
            joined += " + (down -> upsample(2))"
        if dice.maybe(0.1):
            joined += " " + dice.text(f"+ ({known[0]} -> «latency(tau = 2)|avgpool -> sigmoid»)")
        if dice.maybe(0.15):
            lines.append(f"share = {dice.learn()}")
            joined += f" + share * {known[0]} + (1 - share) * {known[-1]}"
        if dice.maybe(0.4):
            joined = f"concat({', '.join(known)})" if len(known) > 1 else known[0]
            if "still" in str(lines):
                joined = f"concat({joined}, still)"
            if "down" in str(lines):
                joined = f"concat({joined}, (down -> upsample))"
        if dice.maybe(0.6):
            lines.append(f"body = ({joined}) -> {self.stages(shape)}")
            joined = "body"
        end = dice.text("avgpool -> «mean_over_time -> |spike -> |»linear(classes)")
        classes = f"({joined}) -> {end}"
        if dice.maybe(0.3):
            extra = dice.text(f"""
                map = {known[0]} -> conv(2, kernel = 1)
                {known[-1]}
                {known[0]} -> mean_over_time
                inner = {self.value(known, 1)}
            """)
            classes = f"outputs(y = {classes}, {extra})"
        lines.append(f"out = {classes}")
        return lines

    def spec(self) -> str:
        dice = self.dice
        for _ in range(dice.choice([0, 1, 1, 2, 2])):
            self.declare_neuron()
        for _ in range(dice.choice([0, 1])):
            self.declare_surrogate()
        network = self.network("made")
        variants = ""
        if dice.maybe(0.2):
            neuron, slope = f"neuron = {self.neuron()}", dice.choice(self.surrogates)
            steps = f"steps = {dice.randint(1, 3)}"
            changes = dice.some([steps, neuron, f"surrogate = {slope}", "norm = batchnorm"], 2)
            given = "(classes = 6)" if "classes" in network.split("{")[0] else ""
            variants = f"network made_otherwise = made{given} {{ {'; '.join(changes)} }}\n"
        texts = [*self.texts, network, variants]
        if dice.maybe(0.7):
            texts.append(recipes.recipe(dice, self.fresh("trained")))
        if dice.maybe(0.2):
            dice.shuffle(texts)
        use = "use std\n\n"
        if dice.maybe(0.1):
            words = set(re.findall(r"[A-Za-z_]\w*", "".join(texts)))
            names = words & standard().keys() or {"IF"}  # at least one
            use = f"use std ({', '.join(sorted(names))})\n\n"
        return use + "".join(texts)


def spec(seed: int) -> str:
    return Maker(Dice(seed)).spec()
