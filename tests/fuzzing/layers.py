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
    "sigmoid",
    "sigmoid(alpha = 3)",
    "sigmoid(alpha = scheduled(3))",
    "atan",
    "triangle(0.8)",
    "rectangle(width = 2)",
    "dspike(2)",
    "multi_gaussian",
    "s2nn",
    "leaky_k_relu(leak = 0.1)",
]


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
        dice = self.dice
        forms = [
            "norm",
            "norm",
            "batchnorm",
            "batchnorm(init = 0.5)",
            "batchnorm(per_step = true)",
            "batchnorm(statistics = step)",
            "batchnorm(statistics = cumulative)",
            "tebn",
        ]
        forms += [
            f"groupnorm(groups = {dice.choice([g for g in (1, 2, channels) if channels % g == 0])})"
        ]
        forms += [f"tdbn({dice.real(0.5, 1)})", "tdbn"] if self.threshold else []
        return dice.choice(forms)

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
        return f"conv({', '.join(args)})", Shape(width, size)

    def layer(self, shape: Shape, keep: bool = False) -> tuple[str, Shape]:
        """One layer; with ``keep`` one that keeps the shape."""
        dice, size = self.dice, shape.size
        if size is None:
            width = shape.channels if keep else dice.choice([2, 3, 5])
            forms = [
                (f"linear({width}{dice.choice(['', ', bias = false'])})", Shape(width, None)),
                *(
                    (text, shape)
                    for text in (self.neuron(), self.norm(shape.channels), "tanh", "flatten")
                ),
            ]
            return dice.choice(forms)
        same = [
            self.conv(shape, shape.channels, keep=True)[0],
            self.norm(shape.channels),
            self.norm(shape.channels),
            "spike",
            "spike",
            self.neuron(),
            dice.choice(
                ["tanh", "softplus", "sigmoid", "gelu", "gelu", "softmax", "softmax(over = rows)"]
            ),
            dice.choice(
                ["softmax(over = time)", f"shuffle({shape.channels})", "swap(rows, columns)"]
            ),
            dice.choice(
                [
                    f"{name}(over = {axis})"
                    for name in ("sum", "mean", "max")
                    for axis in ("time", *(["channels"] if shape.channels == 1 else []))
                ]
            ),
            dice.choice(
                [
                    "conv(kernel = 2, over = time)",
                    f"conv({shape.channels}, kernel = 2, over = time, padding = same, bias = true)",
                    f"linear(over = time{dice.choice(['', self.window()])})",
                    f"conv({shape.channels}, over = {dice.choice(['rows', 'columns'])})",
                    f"conv({shape.channels}, kernel = {dice.choice([2, 4])}, padding = same)",
                    f"linear({size}, over = rows, bias = false)",
                ]
            ),
            dice.choice(["layernorm", "batchnorm(eps = 0.01)", "batchnorm(bias = false)", "relu"]),
            dice.choice(
                ["dropout(0.3, per = sample)", "batchnorm(pad = 1) -> avgpool(3, stride = 1)"]
            ),
            self.other_size(shape.channels, size),
            self.other_size(shape.channels, size),
            dice.choice(["dropout(0.3)", "droppath(0.4)", "dropout(0)", "droppath", "dropout"]),
            dice.choice(["identity", "none", "maxpool(1)", "upsample(1)", "avgpool(1)"]),
            dice.choice(["delay", "delay(1)", "delay(2)"]),
            dice.choice(["maxpool(3, stride = 1)", "avgpool(3, stride = 1, padding = 1)"]),
        ]
        if dice.maybe(0.08):
            by_name = dice.choice(["", "width = "])
            same = [f"{self.declare_layer()}({by_name}{shape.channels})"]
        elif dice.maybe(0.06):
            same = [
                f"({self.norm(shape.channels)} if steps {dice.choice(['>', '<=', '=='])} 2 else none)",
                f"({dice.choice(['spike', 'tanh'])} if {dice.condition()} else identity)",
            ]
        if keep or dice.maybe(0.6):
            text = dice.choice(same)
            if text.startswith("spike") and self.threshold and dice.maybe(0.1):
                text = "spike(v_threshold = 0.6)"
            if text == "norm" and dice.maybe(0.15):
                text = "norm(init = 0.7)"
            return text, shape
        if size >= 4 and dice.maybe(0.5):
            text = dice.choice(
                [
                    "maxpool(2)",
                    "avgpool(2)",
                    "maxpool(3, stride = 2)",
                    "maxpool(2, stride = 2, padding = 1)",
                ]
            )
            new = {"maxpool(3, stride = 2)": (size - 1) // 2 + 1}.get(text, size // 2)
            new = size // 2 + 1 if "padding" in text else new
            return text, Shape(shape.channels, new)
        if size <= 4 and dice.maybe(0.3):
            forms = ["upsample", "upsample(2)", "upsample(mode = bilinear)"]
            more = dice.choice(["", ", kernel = 3, padding = 1, output_padding = 1"])
            forms.append(f"conv_transposed({shape.channels}{more})")
            return dice.choice(forms), Shape(shape.channels, 2 * size)
        return self.conv(shape)

    def other_size(self, channels: int, size: int) -> str:
        """A flow through maps of another size, or other channels, that gives what it takes."""
        dice = self.dice
        given = f"rows = {size}, columns = {size}"
        forms = [
            "pad(1) -> maxpool(3, stride = 1, padding = 0)",
            f"pad(1, 2) -> upsample({given})",
            "pad(1, 0, over = rows) -> conv(" + f"{channels}, kernel = 2, over = rows)",
            *[f"upsample(2, over = channels) -> sum(over = channels, groups = {channels})"] * 2,
            f"conv({channels}, stride = 2) -> upsample({given}{dice.choice(['', ', mode = bilinear'])})",
        ]
        if size % 2 == 0:
            forms += [f"avgpool(2) -> conv_transposed({channels})"] * 2
            forms += ["avgpool(2) -> upsample(2, mode = bilinear)"] * 2
        if channels == self.steps:
            forms += ["swap(time, channels)"] * 6
        return dice.choice(forms)

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
            dice.choice(["tanh", "sigmoid", "dropout(0.3)", "delay(1)", "delay(2)"]),
            "maxpool(3, stride = 1)",
        ]
        return " -> ".join(dice.some(layers, 3) or ["conv(" + dice.number(shape.channels) + ")"])

    def loop(self, source: str, shape: Shape) -> tuple[list[str], str]:
        """Lines of a loop over time that is fed by a value, and the name of what it gives."""
        dice = self.dice
        a, b = self.fresh("loop"), self.fresh("back")
        join = dice.choice(["({} + {})", "({} - {})", "max({}, {})", "({} + 0.5 * {})"])
        steps = dice.choice(["", "(1)", "(1)", "(2)", "(3)", f"(1, like = {source})"])
        back = f"({{}} -> delay{steps}{dice.choice(['', ' -> ' + self.in_loop(shape)])})"
        end = dice.choice([" -> spike", " -> " + self.in_loop(shape), " -> tanh"])
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
        masked = self.dice.choice(["", ", masked = 0.3", ", masked = scheduled(0.6)"])
        return f", window = {self.dice.choice(['1', '(2 if steps > 1 else 1)', 'steps'])}{masked}"

    def value(self, names: list[str], depth: int = 2) -> str:
        """Values of one shape, joined."""
        dice = self.dice
        if depth == 0 or (len(names) == 1 and dice.maybe(0.3)):
            return dice.choice(names)
        a, b = self.value(names, depth - 1), self.value(names, depth - 1)
        gated = self.declare_gated() if dice.maybe(0.1) else ""
        if gated:
            more = (
                f", other = {dice.choice([dice.choice(names), '0.3'])}" if dice.maybe(0.4) else ""
            )
            return f"(({a}) -> {gated}(gate = {b}{more}))"
        axis = dice.choice(["channels", "rows", "columns", "pixels", "time"])
        bare = dice.choice(names)
        return dice.choice(
            [
                f"({a} + {b})",
                f"({a} + {b})",
                f"({a} - {b})",
                f"{a} * {b}",
                f"(1 - {a}) * {b}",
                f"max({a}, {b})",
                f"min({a}, {b}, {a})",
                f"({a} + 0.5)",
                f"{dice.real(0.3, 2)} * {a}",
                f"{dice.choice(['2', '3', '1.0', '0.5', '-1'])} * {a}",
                f"{a} / {dice.choice(['2', '3', '0.5'])}",
                f"(-{a})",
                f"({a} - 1)",
                f"({bare} -> tanh) / (2 + (({b}) -> sigmoid))",
                f"{a} * (({b}) -> avgpool -> sigmoid)",
                f"{a} * (({b}) -> {dice.choice(['sum', 'mean', 'max'])}(over = {axis}) -> tanh)",
                f"{a} * (({b}) -> avgpool -> flatten -> tanh)",
                f"({a} - (({b}) -> {dice.choice(['mean', 'max'])}(over = {axis})))",
                f"({a} + (({b}) -> detach))",
                f"{a} * ({bare}[0 .. 0] -> tanh)",
                f"{a} * ({bare} -> sum(over = channels) -> swap(time, channels) -> tanh -> swap(time, channels))",
                f"({a} if {dice.condition()} else {b})",
                f"{dice.learn()} * {a}",
                f"({a} + {dice.learn()})",
                f"({a} - (1 - {dice.learn()}) * {b})",
                f"max({a}, {dice.learn()})",
            ]
        )
