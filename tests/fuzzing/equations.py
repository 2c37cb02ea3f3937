"""Neurons and surrogates with random equations."""

from tests.fuzzing.dice import Dice


def smooth(dice: Dice, names: list[str], depth: int = 2) -> str:
    """A bounded expression of some names, made of functions that are defined everywhere."""
    if depth == 0 or dice.maybe(0.15):
        return dice.choice([*names, *names, dice.real(0.1, 1.5)])
    a, b = smooth(dice, names, depth - 1), smooth(dice, names, depth - 1)
    return dice.text(f"""
        2 × «tanh|sigmoid|sin|erf»({a})
        cos(2 * ({a}))
        exp(-abs({a}))
        log(1 + abs({a}))
        sqrt(0.5 + ({a}) * ({a}))
        abs({a} - 0.3)
        «min|max»({a}, {b})
        max({a}, «0|{dice.real(0, 1)}, {b}»)
        min({a}, {dice.real(0.2, 1)})
        ({a} «+|-» {b})
        0.5 * ({a}) * tanh({b})
        ({a}) / (1 + abs({b}))
        -({a})
        ({a} if {truth(dice, names)} else «{b}|{dice.real(0.1, 1)}»)
        ({truth(dice, names)}) * {a}
        (({truth(dice, names)}) + {b})
        delay({a}, «0|1|1|2|3»)
        0.5 * sum({a}, 0.5 * {b})
        «max|min»(j * ({a}) for j in -1 .. «1|2» if j != 0)
    """)


def truth(dice: Dice, names: list[str], depth: int = 1) -> str:
    plain = f"{dice.choice(names)} {dice.text('«<|<=|>|>=|==|!=»')} {dice.real(-0.5, 1)}"
    if depth == 0:
        return plain
    return dice.text(f"«{plain}|{plain}|{plain} «and|or» {truth(dice, names, 0)}|not {plain}»")


def neuron(dice: Dice, name: str) -> str:
    """A neuron that spikes, gives whole numbers, or its membrane potential."""
    states = ["u"] if dice.maybe(0.85) else []
    states += ["w"] if states and dice.maybe(0.35) else []
    known = ["x", *states]
    learns = dice.maybe(0.35)
    lines = ["state u = «0.0|0.1|rest|0»"] if states else []
    lines += ["state w = «0.0|1.0|0.25»"] if "w" in states else []
    if learns:
        bounds, per = "«||, above = 0.1|, below = 1.5|, above = 0.0, below = 1.0»", "«channel|step»"
        more = f"«|||, per = {per}|, per_step = true»"
        lines.append(f"k = learn({dice.real(0.3, 0.7)}{bounds}{more})")
        known.append("k")
    gain = "«gain|1|1 / gain|(k + 0.5)»" if learns else "«gain|1|1 / gain»"
    leak = f"«0.5|(1 - 1 / tau)|exp(-1 / tau)|{'k' if learns else '0.7'}»"
    potential = f"{leak} * u + {gain} * x" if states else f"{gain} * x"
    potential += " + 0.1 * k" if learns else ""
    if dice.maybe(0.75):
        lines.append(f"a = {smooth(dice, known)}")
        potential += "« + 0.2 * a| - 0.3 * tanh(a)| + 0.1 * detach(a)»"
    if "w" in states:
        potential += " «- 0.2|+ 0.1» * w"
    if dice.maybe(0.25):
        weight = "«0.5|j / 4|learn(0.3)|learn(0.5 / (j + 1), below = 2)»"
        loop = "for j in «0|1» .. reach«| if j != 1»"
        potential += f" + sum({weight} * delay({dice.choice(known)}, j) {loop})"
    if dice.maybe(0.25):
        potential += " «- 0.3 * delay(s, 1)|+ 0.2 * delay(v, 2)|- 0.1 * delay(v, 1)»"
    if dice.maybe(0.15):
        potential += f" «+|- 0.5 *» {dice.drawn()}"
    lines.append(f"v = {potential}")
    step = dice.text("""
        3 × heaviside(v - th)
        1 - heaviside(th - v)
        heaviside(v - th) + heaviside(v - 2 * th)
        heaviside(v - th) - heaviside(-v - th)
        2 * heaviside(v - th)
        «round(min(max(v, 0), 4))|round(min(max(v, -1), 1)) / 2»
        heaviside(v - th) * (1 - heaviside(v - 3 * th))
        heaviside(v - th) if v < 2 else 1 - heaviside(-v)
        max(heaviside(v - th), heaviside(-v - 2 * th))
        «v|max(v, 0)|tanh(v)|(v > th) * v»
    """)
    lines.append(f"s = {step}")
    if states:
        lines.append("r = detach(s) if cut else s")
        reset = (
            "«v * (1 - r) + rest * r|v|(v if v < th else rest) - 0.1 * r|«v|min(v, 2)» - th * r»"
        )
        lines.append(f"u = {reset}")
    if "w" in states:
        lines.append("w = «0.5 * w + r|r|(v > th) + 0.1 * w + 0.0 * r»")
    body = "\n  ".join(map(dice.text, lines))
    given = f"tau = {dice.real(1.3, 4)}, th = {dice.real(0.3, 1)}, gain = {dice.real(0.8, 1.6)}"
    more = dice.text("reach = «1|2|3», rest = «0.0|0.1|-0.2», cut = «true|false»")
    return f"neuron {name}({given}, {more}) {{\n  {body}\n}}\n"


def gated(dice: Dice, name: str) -> str:
    """A neuron with an input ``gate``, and another one that may be a number."""
    potential = dice.text("""
        sigmoid(gate) * delay(v, 1) * (1 - delay(s, 1)) + x
        0.5 * delay(v, 1) - 0.2 * delay(s, 1) + x * (gate > 0.2) + 0.3 * gate
        x + tanh(gate) * learn(0.7)
        0.7 * delay(gate, 1) + max(x, gate)
        x * gate
    """)
    step = dice.text("«heaviside(v - 0.4)|v - other|round(min(max(v, 0), 3))»")
    return f"neuron {name}(gate, other = 0.2) {{ v = {potential} + 0.5 * other; s = {step} }}\n"


def surrogate(dice: Dice, name: str) -> str:
    """A surrogate, given as a smooth step or as its derivative."""
    body = dice.text("""
        y = 1 / (1 + exp(-a * x))
        y = sigmoid(a * x)
        y = 0.5 * tanh(a * x) + 0.5
        y = (1 + erf(a * x)) / 2
        z = a * x; y = z / (1 + abs(z))
        y = min(max(a * x, -1), 1)
        dy = sum(exp(-a * j * abs(x)) for j in 1 .. 3)
        dy = exp(-a * x * x)
        dy = (abs(x) < 1 / a) * a / 2
        dy = 1 / sqrt(1 + a * x * x)
        dy = max(1 - abs(x) / a, 0)
        dy = a if x > -0.5 and x < 0.5 else 0.1
        dy = 1 / (1 + log(1 + a * abs(x)))
        z = abs(x) > 1 or not x < 2; dy = 0.2 if z else a
    """)
    return f"surrogate {name}(a = {dice.real(1, 4)}) {{ {body} }}\n"
