"""Recipes with random settings, from the schema's own rows."""

from math import inf

from danetc.dsl.recipe import schema as t
from danetc.dsl.recipe.items import ITEMS, LOSSES
from danetc.dsl.recipe.settings import SETTINGS
from tests.fuzzing.dice import Dice
from tests.reference.training import OF_AN_OUTPUT

SMALL = {"epochs": (2, 6), "batch": (4, 16), "steps": (1, 3), "accumulate": (1, 1), "size": (4, 8)}


def recipe(dice: Dice, name: str) -> str:
    """A recipe, possibly of two phases, possibly a variant of another one."""
    phases = dice.maybe(0.25)
    lines = _lines(dice, ["phase", "recipe"], required=True)
    if phases:
        first = _lines(dice, ["phase"], required=False)
        second = [line for line in _lines(dice, ["phase"], required=False) if "steps" not in line]
        start = "start = one" if dice.maybe(0.8) else "start = none"
        lines.insert(0, f"phase one {{ {'; '.join(first)} }}")
        lines.insert(1, f"phase two {{ {'; '.join([start, *second])} }}")
    is_base = not phases and dice.maybe(0.2)
    text = f"recipe {name}{'_base' * is_base} {{\n  " + "\n  ".join(lines) + "\n}\n"
    if is_base:
        changed = _lines(dice, ["phase", "recipe"], required=False)
        text += f"recipe {name} = {name}_base {{ {'; '.join(changed)} }}\n"
    return text


def _lines(dice: Dice, scopes: list[str], *, required: bool) -> list[str]:
    rows = [
        (key, row)
        for key, row in SETTINGS.items()
        if row.scope in scopes and row.type != t.SumType("part")  # the network is unknown here
    ]
    return [
        f"{key} = {_setting(dice, key, row)}"
        for key, row in rows
        if (row.required and required)
        or (not row.required and dice.maybe(0.6 if isinstance(row.type, t.FlowType) else 0.3))
    ]


def _setting(dice: Dice, key: str, row: t.Setting) -> str:
    if key in SMALL:
        number = dice.randint(*SMALL[key])
        plus, root = f"{number - 1} + 1", f"sqrt({number * number})"
        forms = [str(number), plus, str(number), root, f"{number + 1} - 1", f"2 * {number} / 2"]
        forms.append(f"max({number}, min(1, 2))")
        return dice.choice(forms)
    if key == "warmup":
        return dice.choice(["0", "1", "0.5"])
    if row.default is None and not row.required and dice.maybe(0.1):
        return "none"
    return _value(dice, row.type)


def _value(dice: Dice, kind: t.Type, name: str = "") -> str:
    match kind:
        case t.IntType(low, high):
            if name in SMALL:
                return str(dice.randint(*SMALL[name]))
            return str(dice.randint(low, min(high, low + 12)))
        case t.FloatType(low, high):
            top = min(high, 1.0 if name != "factor" else 0.9)
            top = top if high != inf else 2.0
            if low >= 1:
                return f"{dice.uniform(low, min(high, low + 1)):.3f}"
            return f"{dice.uniform(max(low, 0.001), top) * 0.98:.3f}"
        case t.WordType.BOOL:
            return dice.choice(["true", "false"])
        case t.ChoiceType(words):
            return dice.choice(words)
        case t.ItemType(family):
            return _item(dice, dice.choice(_written(family)))
        case t.SumType():
            names = dice.some([*OF_AN_OUTPUT], 2) or ["cross_entropy"]
            some = [LOSSES[name] for name in names + dice.some(["firing_rate"], 1)]
            factors = [dice.choice(["", "0.5 * ", "(1 / 4) * "]) for _ in some]
            terms = [f + _item(dice, item) for f, item in zip(factors, some, strict=True)]
            return " + ".join(terms)
        case t.ChangeType(family, parts):
            changed = [f"{part}(tau = {_item(dice, dice.choice([*ITEMS[family].values()]))})"
                    for part in dice.some([*parts], 2)]  # fmt: skip
            return " + ".join(changed) or "none"
        case t.FlowType(family):
            steps = dice.some(_written(family), 5)
            steps.sort(key=lambda item: item.whole_batch)
            return " -> ".join(_item(dice, step) for step in steps) or "none"
        case t.WordType.NAME:
            return "IF" if name == "neuron" else "out"
        case t.WordType.PHASE:
            return "none"
        case t.WordType.LAYERS:
            return '"*"'


def _written(family: str) -> list[t.ItemSpec]:
    """The items of a family that need no file of the user."""
    return [item for item in ITEMS[family].values() if not item.others]


def _item(dice: Dice, item: t.ItemSpec) -> str:
    args = []
    if item.many is not None:
        args += [str(place) for place in sorted(dice.sample([1, 1.25, 1.5], dice.randint(1, 2)))]
    for argument in item.arguments:
        share = 0.4 if argument.name == "neuron" else 0.6
        if argument.default is None or dice.maybe(share):
            args.append(f"{argument.name} = {_argument(dice, argument)}")
    if any("nesterov = true" in arg for arg in args):
        args = [arg for arg in args if "momentum" not in arg] + ["momentum = 0.8"]
    return item.name + (f"({', '.join(args)})" if args else "")


def _argument(dice: Dice, argument: t.Argument) -> str:
    if argument.name == "lr":
        return dice.choice(["0.01", "0.1 * batch / 256", "0.002"])
    return _value(dice, argument.type, argument.name)
