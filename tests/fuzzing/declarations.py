"""Random neurons, surrogates, blocks, connections and rules."""

from __future__ import annotations

from tests.fuzzing import equations
from tests.fuzzing.layers import Layers, Shape


class Declarations(Layers):
    """Each is written to ``texts``; what it is called is given back."""

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
        """A flow of weights, or a block that wires itself; both take a width and a stride."""
        dice, name = self.dice, self.fresh("block")
        if dice.maybe(0.15):
            self.texts.append(
                f"block {name}(width, stride = 1) = {self.declare_block()}(width, stride = stride)\n"
            )
            return name
        if dice.maybe(0.6):
            middle = [dice.text("conv(width, kernel = «1|3|k»)") for _ in range(dice.randint(0, 2))]
            middle += dice.some(["tanh", "dropout(0.2)"], 1)
            first = dice.text("conv(width, kernel = k, stride = stride«|, bias = true»)")
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
        """A value of the size of ``wide``, which queries, keys and values are made of."""
        dice = self.dice
        layer = "«spike|spike|norm|norm -> spike|tanh»"
        part = f"«(wide -> {layer})|wide|in|(in -> again)|(wide -> mean_over_time)»"
        scores = f"scores(«(wide -> spike)|wide|(wide -> norm)», {part}«|, heads = width»)"
        between = dice.text(f"""
            {scores}
            {scores}
            ({scores} -> «softmax(over = columns)|spike»)
            ({scores} -> «softmax(over = columns)|spike»)
            ({scores} / sqrt(1 + «rows|columns»(in)))
            ({scores} / sqrt(1 + «rows|columns»(in)))
            ({scores} / sqrt(1 + «rows|columns»(in)))
            ({scores} / sqrt(1 + (in -> sigmoid -> running_mean)))
            ({scores} / sqrt(1 + (in -> sigmoid -> running_mean)))
        """)
        return dice.text(
            f"(0.1 * mix({between}, {part}«|, like = wide»)) -> «again|norm|spike|again»"
        )

    def declare_connection(self) -> str:
        dice, name = self.dice, self.fresh("wired")
        after = dice.some(["norm", "spike", "tanh"], 2)
        conv = dice.text("«||||conv(bias = true)|conv(dilation = 1)»") or "conv"
        around = [*dice.some(["norm", "spike"], 2), conv, *after]
        lines = [f"each = {' -> '.join(around)}"]
        if dice.maybe(0.5):
            lines.append(
                "last = «conv|conv -> norm|spike -> conv«| -> norm(init = 0.6)»|conv(bias = true)»"
            )
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
        """A rule that reads values of earlier steps, those of later blocks too."""
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
            sum({some})
            sum({some})
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
