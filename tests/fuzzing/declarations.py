"""Random neurons, surrogates, blocks, connections and rules."""

from __future__ import annotations

from tests.fuzzing import equations
from tests.fuzzing.layers import Layers, Shape


class Declarations(Layers):
    """Each is written to ``texts``; what it is called is given back."""

    def declare_neuron(self) -> None:
        name = self.fresh("neuron")
        if self.dice.maybe(0.25):
            base = self.dice.choice(["IF", "LIF", "PLIF", "LIF_soft"])
            changes = self.dice.choice(
                [
                    "v_threshold = 0.6",
                    "v_threshold = learn(0.7, above = 0.1)",
                    "detach_reset = true",
                ]
            )
            self.texts.append(f"neuron {name} = {base}({changes})\n")
        else:
            self.texts.append(equations.neuron(self.dice, name))
        self.neurons += [name] * 3

    def declare_surrogate(self) -> None:
        name = self.fresh("slope")
        self.texts.append(equations.surrogate(self.dice, name))
        self.surrogates += [name] * 3

    def declare_block(self) -> str:
        """A flow of weights, or a block that wires itself; both take a width and a stride."""
        dice, name = self.dice, self.fresh("block")
        if dice.maybe(0.15):
            self.texts.append(
                f"block {name}(width, stride = 1) = {self.declare_block()}(width, stride = stride)\n"
            )
            return name
        if dice.maybe(0.6):
            middle = [
                f"conv(width, kernel = {dice.choice(['1', '3', 'k'])})"
                for _ in range(dice.randint(0, 2))
            ]
            middle += dice.some(["tanh", "dropout(0.2)"], 1)
            first = f"conv(width, kernel = k, stride = stride{dice.choice(['', ', bias = true'])})"
            steps = [first, *middle, "conv(width, kernel = 1)"]
            self.texts.append(f"block {name}(width, stride = 1, k = 3) = {' -> '.join(steps)}\n")
            return name
        lines = [f"a = in -> conv(width, stride = stride) -> {self.norm(2)} -> spike"]
        lines[0] = lines[0].replace("groupnorm(groups = 2)", "groupnorm(groups = 1)")
        lines.append(
            f"b = a -> {self.flow(Shape(2, 4), 1, 2, keep=True)[0]}".replace("conv(2", "conv(width")
        )
        lines[1] = lines[1].replace("groups = 2", "groups = 1")
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
        """A neuron with another input."""
        name = self.fresh("gated")
        self.texts.append(equations.gated(self.dice, name))
        return name

    def declare_layer(self) -> str:
        """A block that is used as a layer: it keeps the size of what it takes."""
        dice, name = self.dice, self.fresh("layer")
        lines = ["most = 2 * width", "wide = in -> conv(most / 2) -> norm"]
        lines += [f"again = {dice.choice(['norm -> spike', 'tanh', 'conv(width, kernel = 1)'])}"]
        out = (
            dice.choice(
                [
                    "(wide -> again) + (wide -> again)",
                    "concat(wide, in) -> conv(width, kernel = 1) -> again",
                    "wide -> again -> conv(channels(wide))",
                    "wide * (wide -> avgpool -> conv(channels(wide), kernel = 1) -> sigmoid) -> again",
                    "max(wide, wide -> again)",
                    *[self.attention() for _ in range(3)],
                ]
            )
            .replace("wide * (", "(wide * (")
            .replace("sigmoid) -> again", "sigmoid)) -> again")
        )
        lines.append(
            f"out = {out}".replace("max(wide, wide -> again)", "max(wide, (wide -> again))")
        )
        body = "\n  ".join(lines)
        self.texts.append(f"block {name}(width) {{\n  {body}\n}}\n")
        return name

    def attention(self) -> str:
        """A value of the size of ``wide``, which queries, keys and values are made of."""
        dice = self.dice
        layer = dice.choice(["spike", "spike", "norm", "norm -> spike", "tanh"])
        parts = [f"(wide -> {layer})", "wide", "in", "(in -> again)", "(wide -> mean_over_time)"]
        query = dice.choice(["(wide -> spike)", "wide", "(wide -> norm)"])
        key, value = dice.choice(parts), dice.choice(parts)
        scores = f"scores({query}, {key}{dice.choice(['', ', heads = width'])})"
        between = dice.choice(
            [
                "{}",
                "{}",
                "({} -> softmax(over = columns))",
                "({} -> spike)",
                *["({} / sqrt(1 + columns({})))"] * 3,
                *["({} / sqrt(1 + (in -> sigmoid -> running_mean)))"] * 2,
            ]
        )
        across = dice.choice(["rows(in)", "columns(in)"])
        between = between.replace("columns({})", across).format(scores)
        mixed = f"mix({between}, {value}{dice.choice(['', ', like = wide'])})"
        return f"(0.1 * {mixed}) -> {dice.choice(['again', 'norm', 'spike', 'again'])}"

    def declare_connection(self) -> str:
        dice, name = self.dice, self.fresh("wired")
        around = [
            *dice.some(["norm", "spike"], 2),
            "conv",
            *dice.some(["norm", "spike", "tanh"], 2),
        ]
        lines = [f"each = {' -> '.join(around)}"]
        if dice.maybe(0.5):
            last = dice.choice(
                [
                    "conv -> norm",
                    "conv",
                    "spike -> conv -> norm(init = 0.6)",
                    "conv(bias = true)",
                    "spike -> conv",
                ]
            )
            lines.append(f"last = {last}")
        if dice.maybe(0.15):
            lines[0] = lines[0].replace(
                "conv", dice.choice(["conv(bias = true)", "conv(dilation = 1)"])
            )
        projection = dice.choice(
            [
                "conv -> norm",
                "conv",
                "conv -> norm -> spike",
                "avgpool(stride) -> conv(stride = 1) -> norm",
                "norm -> conv(bias = true)",
            ]
        )
        lines.append(f"projection = {projection}")
        if dice.maybe(0.25):
            lines.append(f"identity = {dice.choice(['norm', 'none', 'spike', 'tanh'])}")
        names = ["branch", "shortcut"]
        if dice.maybe(0.3):
            gate = dice.choice(
                [
                    "avgpool -> conv(channels, kernel = 1, bias = true) -> sigmoid",
                    "sigmoid",
                    "droppath(p * i / n)",
                ]
            )
            lines.append(f"gate = branch -> {gate}")
            names.append("gate")
        join = dice.choice(
            ["branch + shortcut"] * 4
            + ["branch * shortcut", "(1 - branch) * shortcut", "branch", self.value(names)]
        )
        if "gate" in names and "gate" not in join:
            join = f"gate * ({join})"
        after = dice.choice(["", "", " -> inter", " -> norm -> inter", " -> spike"])
        join = f"({join}){after}" if after else join
        if dice.maybe(0.15):
            join = f"(({join}) if i < n - 1 or stride > 1 else branch)"
        lines.append(f"out = {join}")
        params = f"inter = {dice.choice(['spike', 'spike', self.neuron(), 'norm'])}, p = 0.3"
        params = params if "inter" in join or "p *" in str(lines) else ""
        self.texts.append(
            f"connection {name}({params}) {{\n  ".replace("()", "") + "\n  ".join(lines) + "\n}\n"
        )
        return name

    def declare_loop(self) -> str:
        """A rule that reads values of earlier steps, those of later blocks too."""
        dice, name = self.dice, self.fresh("back")
        late = dice.choice(
            ["out[n - 1]", "sum(out[0 .. n - 1])", "in[i]", "out[i]", "(out[0] / 2)"]
        )
        late = f"({dice.learn()} * {late})" if dice.maybe(0.2) else late
        feed = dice.choice(
            [
                f"out[i - 1] + ({late} -> delay({dice.randint(1, 2)}))",
                f"max(out[i - 1], {late} -> delay(1))",
                "out[i - 1] + sum(0.5 * (out[j] -> delay(j - i + 1)) for j in i .. n - 1)",
                f"out[i - 1] + 0.5 * ({late} -> delay(1) -> delay(1))",
            ]
        )
        first = dice.choice(["", "", "in[0] = in + 0.5 * (in -> delay(1)); "])
        result = dice.choice(["out[n - 1]", "out[n - 1] + (out[0] -> delay(1))"])
        self.texts.append(f"rule {name} {{ {first}in[i] = {feed}; result = {result} }}\n")
        return name

    def declare_rule(self) -> str:
        dice, name = self.dice, self.fresh("fed")
        index = dice.choice(["i", "k"])
        low = dice.choice(["0", f"{index} - 1", f"max(0, {index} - w)", f"floor({index} / 2)"])
        some = f"out[{low} .. {index} - 1]"
        feed = dice.choice(
            [
                f"sum({some})",
                f"sum({some})",
                f"max({some})",
                f"min({some}, out[0])",
                f"concat(in[0], {some})",
                f"sum({some}) / {index}",
                f"0.5 * out[{index} - 1] + in[0] / 2",
                f"sum(out[j] for j in 0 .. {index} - 1 if ({index} - j) == 1 or ({index} - j) == 2)",
                f"sum(0.5 * out[j] for j in 0 .. {index} - 1)",
                f"in[{index} - 1] + out[{index} - 1]",
                f"out[{index} - 1] if {index} == 1 else out[{index} - 1] + out[{index} - 2]",
                f"sum(out[{index} - 1, 0], in[0 .. {index} - 1])",
                f"1.0 * out[{index} - 1]",
                f"out[{index} - 1]",
                f"mean({some})",
                f"sum({dice.learn()} * out[j] for j in 0 .. {index} - 1)",
                f"2 * {dice.learn()} * sum({some}) + {dice.learn()} * in[0]",
            ]
        )
        short = ""
        if dice.maybe(0.2):
            start = dice.choice(
                [
                    f"out[{index} - 1]",
                    f"sum(out[0 .. {index} - 1])",
                    f"{dice.learn()} * out[{index} - 1]",
                    f"mean(in[{index} - 1], out[{index} - 1])",
                ]
            )
            short = f"shortcut[{index}] = {start}; "
        result = dice.choice(
            ["out[n - 1]"] * 3
            + [
                "sum(out[0 .. n - 1])",
                "max(out[0 .. n - 1])",
                "concat(in[0], out[0 .. n - 1])",
                "2 * out[n - 1]",
            ]
        )
        params = f"(w = {dice.randint(1, 3)})" if "- w" in feed else ""
        self.texts.append(
            f"rule {name}{params} {{ in[{index}] = {feed}; {short}result = {result} }}\n"
        )
        return name
