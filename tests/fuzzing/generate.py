"""Random specs over the whole language, most of which the checker accepts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from danetc.dsl.loading import standard
from tests.fuzzing import recipes
from tests.fuzzing.declarations import Declarations
from tests.fuzzing.dice import Dice
from tests.fuzzing.layers import STD_NEURONS, Shape

LINES = ["a", "b", "left", "gate", "conv1", "training", "norm2", "feat", "class", "state"]


class Maker(Declarations):
    """Makes one spec."""

    names: Sequence[str] = ("in",)  # of the network's inputs

    def _fed_back(self, stage: str) -> str:
        """A stage in a loop over time, whose norms have the statistics of one sample."""
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
                self.texts.append(
                    f"connection {connection} {{ projection = conv -> norm; out = {out} }}\n"
                )
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
        """Whether a block is one that wires itself, or stands for one."""
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
        """Lines of a network of tokens. Its embedding may give the logits, too."""
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
            if dice.maybe(0.5):  # no norm, whose statistics would say in which order it stands
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
        if dice.maybe(0.2):  # what does not vary beside what does
            lines.append(f"still = {known[0]} -> mean_over_time")
            joined += " " + dice.text("«+ still|- still|+ (still -> spike)|+ (still -> norm)»")
        if dice.maybe(0.15) and shape.size is not None and shape.size % 2 == 0:
            lines.append(
                f"down = {known[0]} -> maxpool(2) -> conv({shape.channels}) -> norm -> spike"
            )
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
            use = f"use std ({', '.join(sorted(self._std_names(''.join(texts))))})\n\n"
        return use + "".join(texts)

    @staticmethod
    def _std_names(text: str) -> set[str]:
        """The names of the standard library in a text, one more where there is none."""
        words = set(re.findall(r"[A-Za-z_]\w*", text))
        return (words & standard().keys()) or {"IF"}


def spec(seed: int) -> str:
    """The text of one spec; the same for the same seed."""
    return Maker(Dice(seed)).spec()
