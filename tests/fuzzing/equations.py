"""Neurons and surrogates with random equations."""

from __future__ import annotations

from tests.fuzzing.dice import Dice

COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")


def smooth(dice: Dice, names: list[str], depth: int = 2) -> str:
    """A bounded expression of some names, built of functions that are defined everywhere."""
    if depth == 0 or dice.maybe(0.15):
        return dice.choice([*names, *names, dice.real(0.1, 1.5)])
    a, b = smooth(dice, names, depth - 1), smooth(dice, names, depth - 1)
    return dice.choice(
        [
            f"tanh({a})",
            f"sigmoid({a})",
            f"sin({a})",
            f"erf({a})",
            f"cos(2 * ({a}))",
            f"exp(-abs({a}))",
            f"log(1 + abs({a}))",
            f"sqrt(0.5 + ({a}) * ({a}))",
            f"abs({a} - 0.3)",
            f"min({a}, {b})",
            f"max({a}, {dice.real(0, 1)}, {b})",
            f"min({a}, {dice.real(0.2, 1)})",
            f"max({a}, 0)",
            f"({a} + {b})",
            f"({a} - {b})",
            f"0.5 * ({a}) * tanh({b})",
            f"({a}) / (1 + abs({b}))",
            f"-{a}" if a[0] not in "-" else a,
            f"({a} if {truth(dice, names)} else {b})",
            f"({truth(dice, names)}) * {a}",
            f"(({truth(dice, names)}) + {b})",
            f"delay({a}, {dice.choice([0, 1, 1, 2, 3])})",
            f"0.5 * sum({a}, 0.5 * {b})",
            f"{dice.choice(['max', 'min'])}(j * ({a}) for j in -1 .. {dice.choice([1, 2])} if j != 0)",
            f"({a} if {truth(dice, names)} else {dice.real(0.1, 1)})",
        ]
    )


def truth(dice: Dice, names: list[str], depth: int = 1) -> str:
    """A comparison, or several."""
    sign = dice.choice(COMPARISONS)
    plain = f"{dice.choice(names)} {sign} {dice.real(-0.5, 1)}"
    if depth == 0:
        return plain
    other = truth(dice, names, 0)
    return dice.choice(
        [plain, plain, f"{plain} and {other}", f"{plain} or {other}", f"not {plain}"]
    )


def learnt(dice: Dice) -> str:
    start = dice.uniform(0.3, 0.7)
    bounds = dice.choice(["", "", ", above = 0.1", ", below = 1.5", ", above = 0.0, below = 1.0"])
    per = dice.choice(["", "", "", ", per = channel", ", per = step", ", per_step = true"])
    return f"learn({start:.2f}{bounds}{per})"


def neuron(dice: Dice, name: str) -> str:
    """A neuron that spikes, gives whole numbers, or its membrane potential."""
    states = ["u"] if dice.maybe(0.85) else []
    states += ["w"] if states and dice.maybe(0.35) else []
    known = ["x", *states]
    learns = dice.maybe(0.35)
    lines = [f"state u = {dice.choice(['0.0', '0.1', 'rest', '0'])}"] if states else []
    lines += [f"state w = {dice.choice(['0.0', '1.0', '0.25'])}"] if "w" in states else []
    if learns:
        lines.append(f"k = {learnt(dice)}")
        known.append("k")
    gain = dice.choice(["gain", "1", "1 / gain", "(k + 0.5)" if learns else "gain"])
    leak = dice.choice(["0.5", "(1 - 1 / tau)", "exp(-1 / tau)", "k" if learns else "0.7"])
    potential = f"{leak} * u + {gain} * x" if states else f"{gain} * x"
    if learns and "k" not in potential:
        potential += " + 0.1 * k"
    if dice.maybe(0.75):
        lines.append(f"a = {smooth(dice, known)}")
        potential += dice.choice([" + 0.2 * a", " - 0.3 * tanh(a)", " + 0.1 * detach(a)"])
    if "w" in states:
        potential += dice.choice([" - 0.2 * w", " + 0.1 * w"])
    if dice.maybe(0.25):
        weight = dice.choice(["0.5", "j / 4", "learn(0.3)", "learn(0.5 / (j + 1), below = 2)"])
        held = dice.choice(known)
        loop = f"for j in {dice.choice([0, 1])} .. reach{dice.choice(['', ' if j != 1'])}"
        potential += f" + sum({weight} * delay({held}, j) {loop})"
    if dice.maybe(0.25):
        potential += dice.choice(
            [" - 0.3 * delay(s, 1)", " + 0.2 * delay(v, 2)", " - 0.1 * delay(v, 1)"]
        )
    lines.append(f"v = {potential}")
    step = dice.choice(
        [
            "heaviside(v - th)",
            "heaviside(v - th)",
            "heaviside(v - th)",
            "1 - heaviside(th - v)",
            "heaviside(v - th) + heaviside(v - 2 * th)",
            "heaviside(v - th) - heaviside(-v - th)",
            "2 * heaviside(v - th)",
            "round(min(max(v, 0), 4))",
            "round(min(max(v, -1), 1)) / 2",
            "heaviside(v - th) * (1 - heaviside(v - 3 * th))",
            "heaviside(v - th) if v < 2 else 1 - heaviside(-v)",
            "max(heaviside(v - th), heaviside(-v - 2 * th))",
            "v",
            "max(v, 0)",
            "tanh(v)",
            "(v > th) * v",
        ]
    )
    lines.append(f"s = {step}")
    lines.append("r = detach(s) if cut else s")
    if states:
        lines.append(
            dice.choice(
                [
                    "u = v * (1 - r) + rest * r",
                    "u = v - th * r",
                    "u = v",
                    "u = (v if v < th else rest) - 0.1 * r",
                    "u = min(v, 2) - th * r",
                ]
            )
        )
    if "w" in states:
        lines.append(dice.choice(["w = 0.5 * w + r", "w = r", "w = (v > th) + 0.1 * w + 0.0 * r"]))
    body = "\n  ".join(lines)
    gains = dice.real(0.8, 1.6)
    if not states:
        body = body.replace("r = detach(s) if cut else s", "").rstrip()
    return (
        f"neuron {name}(tau = {dice.real(1.3, 4)}, th = {dice.real(0.3, 1)}, gain = {gains}, "
        f"reach = {dice.choice([1, 2, 3])}, "
        f"rest = {dice.choice(['0.0', '0.1', '-0.2'])}, cut = {dice.choice(['true', 'false'])}) {{\n  {body}\n}}\n"
    )


def gated(dice: Dice, name: str) -> str:
    """A neuron with an input ``gate``, and another one that may be a number."""
    potential = dice.choice(
        [
            "sigmoid(gate) * delay(v, 1) * (1 - delay(s, 1)) + x",
            "0.5 * delay(v, 1) - 0.2 * delay(s, 1) + x * (gate > 0.2) + 0.3 * gate",
            "x + tanh(gate) * learn(0.7)",
            "0.7 * delay(gate, 1) + max(x, gate)",
            "x * gate",
        ]
    )
    step = dice.choice(["heaviside(v - 0.4)", "v - other", "round(min(max(v, 0), 3))"])
    return f"neuron {name}(gate, other = 0.2) {{ v = {potential} + 0.5 * other; s = {step} }}\n"


def surrogate(dice: Dice, name: str) -> str:
    """A smooth step, or the derivative itself."""
    body = dice.choice(
        [
            "y = 1 / (1 + exp(-a * x))",
            "y = sigmoid(a * x)",
            "y = 0.5 * tanh(a * x) + 0.5",
            "y = (1 + erf(a * x)) / 2",
            "z = a * x; y = z / (1 + abs(z))",
            "dy = sum(exp(-a * j * abs(x)) for j in 1 .. 3)",
            "y = min(max(a * x, -1), 1)",
            "dy = exp(-a * x * x)",
            "dy = (abs(x) < 1 / a) * a / 2",
            "dy = 1 / sqrt(1 + a * x * x)",
            "dy = max(1 - abs(x) / a, 0)",
            "dy = a if x > -0.5 and x < 0.5 else 0.1",
            "dy = 1 / (1 + log(1 + a * abs(x)))",
            "z = abs(x) > 1 or not x < 2; dy = 0.2 if z else a",
        ]
    )
    return f"surrogate {name}(a = {dice.real(1, 4)}) {{ {body} }}\n"
