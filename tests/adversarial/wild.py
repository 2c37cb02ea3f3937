"""Random specs from a grammar: most are wrong, and some ask for much work."""

import re
from random import Random

from tests.adversarial.specs import HEAD, STEM, TAIL, Files

DECLARED = {
    "block": "basic(4)|bottleneck(1)|basic(4, stride = 1)",
    "backbone": "resnet18|densenet121|resnet152",
    "connection": "origin|pa_a|sew|ms|dense_layer|tdbn",
    "rule": "chain|densely_additive|densely_concatenated|window(3)|powers_of_two",
    "neuron": "IF|LIF|PLIF|ReLU|LIF(tau = 4.0)",
    "network": "danet",
}
"""Names of each kind besides those that the spec declares."""

GRAMMAR = {
    "number": [
        "1", "2", "4", "8", "40", "300", "0", "64", "20000", f"{10**18}", "1e308", "0.5", "-1", "NOW",
        "(<number* + >)", "max(<number*, >, 1)", "(<number> if <number> > 0 else <number>)",
        "(<number> * <number>)", "floor(<number> / 2)",
    ],
    "layer": [
        "norm", "spike", "identity", "dropout(0.5)", "maxpool(3, stride = 1)", "conv(4)",
        "conv(<number>, kernel = 1)", "conv(4, kernel = 3)", "<@neuron>", "<@block>",
        "(<layer* -> >)", "<stages>",
    ],
    "stages": [
        "<@backbone>", "stage(<@block>, 2)", "stage(<@block>, <number>)", "(<stages* -> >)",
        "(<stages>)[0 .. 0]", "(<stages>)[0 .. 3]", "(<stages>) with (neuron = <@neuron>)",
    ],
    "term": [
        "out[0 .. i - 1]", "out[0 .. max(0, i - 2)]", "out[max(0, min(i - 1, <number>))]",
        "sum(in[0 .. j] for j in 0 .. <number> if <number> > 0)",
        "sum(<term*, >)", "max(<term*, >)", "concat(<term*, >)",
    ],
    "flow": ["NOW -> <layer>", "(BEFORE + NOW) -> <layer>", "max(BEFORE, NOW)", "(1 - BEFORE) * NOW"],
    "equation": [
        "BEFORE * NOW + x", "exp(BEFORE) - NOW", "max(BEFORE, NOW)", "heaviside(BEFORE - NOW)",
        "BEFORE if NOW > x else NOW", "sigmoid(BEFORE * NOW)", "NOW / (BEFORE * BEFORE + 1)",
    ],
    "declaration": [
        f"network NAME {{ {STEM}; stages = (<stages>) via <@connection> by <@rule>; {TAIL} }}",
        f"network NAME {{ {HEAD}\n<#flow>\nout = NOW }}",
        "network NAME = <@network> { steps = <number> }",
        "block NAME { <#flow>\nout = NOW }",
        "block NAME(p = <number>, q = <number>) { <#flow>\nout = NOW }",
        "backbone NAME(x = <stages>, y = <stages>) = <stages>",
        "connection NAME { each = <layer* -> > -> conv; projection = conv; "
        "out = (branch + shortcut) -> <layer> }",
        "rule NAME { in[i] = sum(<term>); result = sum(<term>, out[n - 1]) }",
        "neuron NAME { <#equation>\ns = heaviside(NOW) }",
        "neuron NAME { state u = 0.5\n<#equation>\ns = heaviside(NOW + u)\nu = u + NOW }",
    ],
}  # fmt: skip
"""``<@kind>`` is a name, ``<symbol* + >`` is one piece many times or many pieces, and ``<#symbol>`` is
lines that read the lines before them as NOW and BEFORE."""


class Wild:
    def __init__(self, random: Random) -> None:
        self.random = random
        self.names: dict[str, list[str]] = {}

    def some(self, symbol: str, depth: int = 0) -> str:
        forms = GRAMMAR[symbol]
        if depth > 5:
            forms = [form for form in forms if "<" not in form.replace("<@", "")]
        form = self.random.choice(forms)
        return re.sub(r"<([@#]?)(\w+)(?:\*([^>]*>?[^>]*))?>", lambda m: self.part(m, depth), form)

    def part(self, match: re.Match[str], depth: int) -> str:
        sign, symbol, join = match.groups()
        if sign == "@":
            own = self.names.get(symbol, [])
            some = own if own and self.random.random() < 0.6 else DECLARED[symbol].split("|")
            return self.random.choice(some)
        if sign == "#":
            return self.lines(symbol)
        first = self.some(symbol, depth + 1)
        if join is None:
            return first
        count = min(self.random.choice((1, 1, 2, 3, 10, 60)), 1 + 2000 // len(first))
        if self.random.random() < 0.5:
            return str(join).join([first] * count)
        others = [self.some(symbol, depth + 1) for _ in range(min(count, 4) - 1)]
        return str(join).join([first, *others])

    def lines(self, symbol: str) -> str:
        names = ["x" if symbol == "equation" else "in"]
        lines = []
        for i in range(self.random.choice((1, 3, 20, 100))):
            value = self.some(symbol, 3).replace("NOW", names[-1])
            lines.append(f"a{i} = {value.replace('BEFORE', names[-2:][0])}")
            names.append(f"a{i}")
        self.last = names[-1]
        return "\n".join(lines)

    def text(self, size: int) -> str:
        """Declarations; some are repeated many times, since repetition costs most."""
        parts = ["use std"]
        while sum(map(len, parts)) < size // 2:
            self.last = "1"
            part = self.some("declaration")
            part = part.replace("NOW", self.last)
            for _ in range(self.random.choice((1, 1, 1, 3, 30, 300))):
                if sum(map(len, parts)) + len(part) < size:
                    name = f"n{len(parts)}"
                    parts.append(part.replace("NAME", name))
                    self.names.setdefault(part.split()[0], []).append(name)
        return "\n".join(parts)


def wild(seed: int, size: int) -> Files:
    """A random spec, the same for each seed."""
    return {"main.danet": Wild(Random(seed)).text(size)}
