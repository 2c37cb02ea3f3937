"""Random layers, flows and values of shapes that are kept account of."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.fuzzing.dice import Dice

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
class Layers:
    """Makes one spec. ``neurons`` and so on are the names that it has declared."""

    dice: Dice
    texts: list[str] = field(default_factory=list)
    neurons: list[str] = field(default_factory=lambda: [*STD_NEURONS])
    surrogates: list[str] = field(default_factory=lambda: [*SURROGATES])
    steps: int = 0  # of the network being made
    threshold: bool = True  # whether the network's neuron has one, for tdbn
    count: int = 0

    def declare_layer(self) -> str:
        raise NotImplementedError

    def declare_gated(self) -> str:
        raise NotImplementedError

    def fresh(self, base: str) -> str:
        self.count += 1
        return f"{base}_{self.count}"

    # -- layers

    def neuron(self) -> str:
        name = self.dice.choice(self.neurons)
        return STD_NEURONS.get(name, name)

    def norm(self, channels: int) -> str:
        groups = "|".join(str(g) for g in (1, 2, channels) if channels % g == 0)
        forms = f"""
            norm
            norm
            «batchnorm|batchnorm(«init = 0.5|per_step = true|statistics = «step|cumulative»»)»
            «batchnorm|batchnorm(«init = 0.5|per_step = true|statistics = «step|cumulative»»)»
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
        """A layer that is applied to weights."""
        return self.dice.text(f"""
            «tanh|gelu|layernorm|none|identity|mask(0.7)|mask(parts = 1)»
            «tanh -> mask(0.5)|tanh -> tanh»
            {self.declare_of_weights()}
        """)

    def declare_of_weights(self) -> str:
        """A block that keeps the shape of weights, of any layer."""
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
                return dice.text(f"linear({width}«|, bias = false»{of_weights})"), Shape(
                    width, None
                )
            return dice.text(f"«{self.neuron()}|{self.norm(shape.channels)}|tanh|flatten»"), shape
        channels = shape.channels
        axis = "«time|channels»" if channels == 1 else "time"
        same = f"""
            {self.conv(shape, channels, keep=True)[0]}
            {self.norm(channels)}
            {self.norm(channels)}
            spike
            spike
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
            text = dice.text(
                "«maxpool(2)|avgpool(2)|maxpool(«3, stride = 2|2, stride = 2, padding = 1»)»"
            )
            new = {"maxpool(3, stride = 2)": (size - 1) // 2 + 1}.get(text, size // 2)
            new = size // 2 + 1 if "padding" in text else new
            return text, Shape(shape.channels, new)
        if size <= 4 and dice.maybe(0.3):
            wider = f"conv_transposed({channels}«|, kernel = 3, padding = 1, output_padding = 1»)"
            text = dice.text(f"«upsample|upsample(2)|upsample(mode = bilinear)|{wider}»")
            return text, Shape(channels, 2 * size)
        return self.conv(shape)

    def other_size(self, channels: int, size: int) -> str:
        """A flow through maps of another size, or other channels, that gives what it takes."""
        dice = self.dice
        given = f"rows = {size}, columns = {size}"
        forms = f"""
            pad(1) -> maxpool(3, stride = 1, padding = 0)
            pad(1, 2) -> upsample({given})
            pad(1, 0, over = rows) -> conv({channels}, kernel = 2, over = rows)
            upsample(2, over = channels) -> sum(over = channels, groups = {channels})
            upsample(2, over = channels) -> sum(over = channels, groups = {channels})
            conv({channels}, stride = 2) -> upsample({given}«|, mode = bilinear»)
        """
        if size % 2 == 0:
            even = f"avgpool(2) -> «conv_transposed({channels})|upsample(2, mode = bilinear)»\n"
            forms += 4 * even
        if channels == self.steps:
            forms += 6 * "swap(time, channels)\n"
        return dice.text(forms)

    def flow(self, shape: Shape, least: int, most: int, keep: bool = False) -> tuple[str, Shape]:
        steps = []
        for _ in range(self.dice.randint(least, most)):
            text, shape = self.layer(shape, keep)
            steps.append(text)
        return " -> ".join(steps), shape

    def in_loop(self, shape: Shape) -> str:
        """A flow that keeps the shape and can run one step after the other."""
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
        """Lines of a loop over time that is fed by a value, and the name of what it gives."""
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
            case "far":  # what is delayed is more than a name
                far = f"({a} -> {self.in_loop(shape)} -> delay{steps})"
                return [f"{a} = {join.format(source, far)}{end}"], a
        inner = f"({join.format(back.format(a), f'({b} -> delay(2))')})"
        lines = [f"{a} = ({source} + {inner}){end}", f"{b} = ({a} + ({b} -> delay(1))) -> tanh"]
        return lines, dice.choice([a, b])

    def window(self) -> str:
        """Of time steps, of which a variant may have fewer."""
        masked = "«|, masked = 0.3|, masked = scheduled(0.6)»"
        return self.dice.text(f", window = «1|(2 if steps > 1 else 1)|steps»{masked}")

    def value(self, names: list[str], depth: int = 2) -> str:
        """Values of one shape, joined."""
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
            ({a} «+|+|-» {b})
            ({a} «+|+|-» {b})
            {a} * {b}
            (1 - {a}) * {b}
            «max({a}, {b})|min({a}, {b}, {a})»
            «max({a}, {b})|min({a}, {b}, {a})»
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
