"""Recipes: schema, layers, overrides, and every error."""

import json
import math
import pickle

import pytest

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Reporter, render
from danetc.dsl.loading import load_module
from danetc.dsl.recipe.item import Item, Summand
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.resolve import resolve_recipe
from danetc.dsl.recipe.schema import FloatType, IntType
from danetc.dsl.recipe.settings import SETTINGS, Recipe
from danetc.dsl.recipe.text import read_setting, write_setting
from danetc.dsl.syntax.overrides import OverrideValue
from danetc.dsl.syntax.source import SourceFile
from tests.tables import each_of

BASE = "epochs = 50\n optimizer = sgd(lr = 0.1)\n"
TWO = """
  phase first { epochs = 20;  steps = 1;  warmup = 2;  schedule = step(10, 15) }
  phase second { epochs = 10;  steps = 4;  schedule = step(5);  start = first }
  optimizer = sgd(lr = 0.1 * batch / 256, momentum = 0.9)
"""


def resolve(
    text: str, name: str = "r", **overrides: OverrideValue
) -> tuple[Recipe | None, list[Diagnostic]]:
    reporter = Reporter()
    module = load_module(SourceFile("main.danet", text), reporter)
    assert not reporter.diagnostics, "the text is meant to parse"
    found = module.names[name]
    given = {path.replace("__", "."): value for path, value in overrides.items()}
    return resolve_recipe(found.declaration, given, reporter, found.module), reporter.diagnostics


def good(text: str, name: str = "r", **overrides: OverrideValue) -> Recipe:
    recipe, errors = resolve(text, name, **overrides)
    assert not errors, "\n".join(render(item) for item in errors)
    assert recipe is not None
    return recipe


def bad(text: str, code: str, name: str = "r", **overrides: OverrideValue) -> Diagnostic:
    recipe, errors = resolve(text, name, **overrides)
    assert recipe is None
    assert [item.code for item in errors] == [code], "\n".join(render(item) for item in errors)
    assert render(errors[0])
    return errors[0]


def recipe(body: str) -> str:
    return f"recipe r {{\n {body} }}\n"


# -- values ----------------------------------------------------------------------------------------


def test_defaults() -> None:
    plain = good(recipe(BASE))
    (phase,) = plain.phases
    assert (phase.name, phase.epochs, phase.batch, phase.accumulate) == ("train", 50, 256, 1)
    arguments = {"lr": 0.1, "momentum": 0.0, "weight_decay": 0.0, "nesterov": False, "decay": "all"}
    assert phase.optimizer == Item("sgd", tuple(arguments.items()))
    assert phase.schedule == Item("constant")
    plain_loss = Item("cross_entropy", (("label_smoothing", 0.0), ("output", "")))
    assert phase.loss == (Summand(plain_loss),)
    assert (phase.steps, phase.clip, phase.ema, phase.start) == (None, None, None, None)
    assert (phase.augment, phase.evaluate, phase.precision) == ((), (), "float32")
    assert (plain.seed, plain.workers, plain.trials, plain.sync_norm) == (0, 0, 1, False)
    for key, row in SETTINGS.items():
        if row.default is not None:
            assert good(recipe(BASE + f" {key} = {row.default}\n")) == plain


NEEDED = {
    "lr": "0.1", "size": "32", "steps": "2", "start": "1.5", "end": "3", "teacher": '"runs/teacher"',
    "function": '"my_loss.py:focal"',
}  # fmt: skip
"""Values of arguments without a default."""


def with_item(family: str, name: str, **arguments: object) -> str:
    spec = ITEMS[family][name]
    given = {a.name: NEEDED[a.name] for a in spec.arguments if a.default is None} | arguments
    many = {} if spec.many is None else {spec.many.name: given.pop(spec.many.name, "10, 20")}
    written = [*map(str, many.values()), *(f"{key} = {value}" for key, value in given.items())]
    before = {"loss": "cross_entropy + ", "change": "surrogate(alpha = "}.get(family, "")
    after = ")" * (family == "change")
    key = "freeze" if family == "part" else family
    others = "epochs = 50\n" if family == "optimizer" else BASE
    return recipe(f"{others} {key} = {before}{name}({', '.join(written)}){after}")


@pytest.mark.parametrize("family", ITEMS)
def test_every_item_with_its_defaults_written_out(family: str) -> None:
    for name, spec in ITEMS[family].items():
        given = [a for a in spec.arguments if a.default not in (None, "")]
        full = {a.name: str(a.default).lower() for a in given}
        assert good(with_item(family, name)).phases == good(with_item(family, name, **full)).phases


RANGES: dict[str, dict[str, tuple[str, float | None]]] = {
    # item: the interval and the default of each number; [ and ] include a bound, ( and ) do not
    "optimizer.sgd": {
        "lr": ("(0, 1000]", None), "momentum": ("[0, 1)", 0), "weight_decay": ("[0, 1]", 0),
    },
    "optimizer.adamw": {
        "lr": ("(0, 1000]", None), "weight_decay": ("[0, 1]", 0), "beta1": ("[0, 1)", 0.9),
        "beta2": ("[0, 1)", 0.999),
    },
    "optimizer.python": {"lr": ("(0, 1000]", None), "weight_decay": ("[0, 1]", 0)},
    "schedule.step": {"factor": ("(0, 1]", 0.1), "epochs": ("(0, 50)", None)},
    "schedule.cosine": {"end": ("[0, 1]", 0)},
    **{
        f"change.{name}": {
            "start": ("[-1e6, 1e6]", None), "end": ("[-1e6, 1e6]", None), "epochs": ("[0, 1e5]", 0)
        }
        for name in ("linear", "cosine")
    },
    "change.exponential": {
        "start": ("(0, inf)", None), "end": ("(0, inf)", None), "epochs": ("[0, 1e5]", 0),
    },
    "loss.cross_entropy": {"label_smoothing": ("[0, 1)", 0)},
    "loss.tet": {
        "weight": ("[0, 1]", 0.05), "target": ("[-1000, 1000]", 1), "label_smoothing": ("[0, 1)", 0),
    },
    "loss.distill": {"temperature": ("(0, inf)", 4)},
    "loss.firing_rate": {"target": ("[0, 1000]", 0), "power": ("[1, 4]", 2)},
    "loss.membrane": {"target": ("[-1000, 1000]", 1)},
    "gradient.truncated": {"steps": ("[1, 10000]", None)},
    "gradient.online": {"trace": ("[0, 1)", 0), "steps": ("[0, 10000]", 0)},
    "gradient.representation": {"slope": ("[0, 1e6]", 0)},
    "augment.random_resized_crop": {"size": ("[1, 10000]", None), "smallest": ("(0, 1]", 0.08)},
    "augment.random_crop": {"size": ("[1, 10000]", None), "padding": ("[0, 1000]", 0)},
    "augment.horizontal_flip": {"p": ("[0, 1]", 0.5)},
    "augment.rand_augment": {"n": ("[1, 20]", 2), "m": ("[0, 30]", 9)},
    "augment.color_jitter": {
        "brightness": ("[0, 10]", 0.4), "contrast": ("[0, 10]", 0.4), "saturation": ("[0, 10]", 0.4),
        "hue": ("[0, 0.5]", 0),
    },
    "augment.random_erasing": {"p": ("[0, 1]", 0.25)},
    "augment.mixup": {"alpha": ("(0, inf)", 0.2)},
    "augment.cutmix": {"alpha": ("(0, inf)", 1)},
    **{
        f"{family}.{name}": {"size": ("[1, 10000]", None)}
        for family in ("augment", "evaluate") for name in ("resize", "center_crop")
    },
}  # fmt: skip


def test_the_tables_have_all_numbers() -> None:
    numbers = [key for key, row in SETTINGS.items() if isinstance(row.type, IntType | FloatType)]
    assert sorted(BOUNDS) == sorted(numbers)
    for family in ITEMS.keys() - {"part"}:
        for name, spec in ITEMS[family].items():
            every = [*spec.arguments, *([spec.many] if spec.many else [])]
            found = {a.name: a.default for a in every if isinstance(a.type, IntType | FloatType)}
            known = RANGES.get(f"{family}.{name}", {})
            assert found == {key: default for key, (_, default) in known.items()}, (family, name)


@each_of(list(RANGES.items()))
def test_ranges_of_an_item(item: str, rows: dict[str, tuple[str, float | None]]) -> None:
    family, name = item.split(".")
    spec = ITEMS[family][name]
    whole = {a.name for a in spec.arguments if isinstance(a.type, IntType)}
    for key, (interval, _) in rows.items():
        for end, away in zip(interval[1:-1].split(","), (-math.inf, math.inf), strict=True):
            bound, closed = float(end), interval[0 if away < 0 else -1] in "[]"
            inner = math.nextafter(bound, -away)
            values = [bound, math.nextafter(bound, away)] if closed else [inner, bound]
            if key in whole:
                values = [int(bound), int(bound) + (1 if away > 0 else -1)]
            inside, outside = (f"{value!r}".replace("inf", "1e999") for value in values)
            assert good(with_item(family, name, **{key: inside})), (item, key, inside)
            ends = item == "schedule.step" and away > 0 and key == "epochs"
            code = "E0807" if ends else "E0803"  # the epoch is after the last one of the recipe
            assert bad(with_item(family, name, **{key: outside}), code), (item, key, outside)


# -- phases and layers -----------------------------------------------------------------------------


FLAGS = "clip = 1.0\n ema = 0.99\n augment = horizontal_flip\n"
BY_BATCH = "optimizer = sgd(lr = 0.1 * batch / 256)"
HALF = "warmup = epochs / 10\n schedule = step(epochs / 2)"
VALUES: list[tuple[str, dict[str, OverrideValue], dict[str, object]]] = [
    # expressions of other settings; a quotient without remainder is an integer
    ("batch = 512\n epochs = 3 * 10\n warmup = epochs / 10\n"
     "optimizer = adamw(0.1 * sqrt(batch / 128) - min(1, 2, 0.5) / 10)", {},
     {"train.optimizer.lr": pytest.approx(0.15), "train.warmup": 3.0, "train.epochs": 30}),
    (BASE + "accumulate = 512 / 256", {}, {"train.accumulate": 2}),
    ("phase a { batch = 128; epochs = 1 }\n phase b { batch = 512; epochs = 1 }\n" + BY_BATCH, {},
     {"a.optimizer.lr": 0.05, "b.optimizer.lr": 0.2}),
    (BASE + "warmup = max(1, 2, min(7, 3)) + sqrt(4) * 0.5\n batch = 3 * (7 - 2) / 5", {},
     {"train.warmup": 4.0, "train.batch": 3}),
    # a setting of the recipe applies to all phases that do not have it
    (TWO + "batch = 512\n warmup = 1\n", {},
     {"first.batch": 512, "second.batch": 512, "first.warmup": 2.0, "second.warmup": 1.0,
      "first.optimizer.lr": 0.2, "second.start": "first"}),
    # overrides by path
    (TWO, {"batch": 512, "second.batch": "2 * 512", "recipe.first.precision": "bf16",
           "optimizer.momentum": 0.5, "second.optimizer.lr": "1e-05"},
     {"first.batch": 512, "second.batch": 1024, "first.precision": "bf16",
      "second.precision": "float32", "first.optimizer.momentum": 0.5,
      "second.optimizer.momentum": 0.5, "first.optimizer.lr": 0.2, "second.optimizer.lr": 1e-5}),
    (BASE, {"optimizer.lr": 0.5, "optimizer": "adamw(lr = 1)"},
     {"train.optimizer.lr": 0.5, "train.optimizer.name": "adamw"}),
    (BASE + FLAGS, {}, {"train.clip": 1.0}),
    (BASE + FLAGS, {"clip": "none", "ema": "none", "augment": "none"},
     {"train.clip": None, "train.ema": None, "train.augment": ()}),
    # an override can correct an error of the recipe
    (BASE + "batch = 0", {"batch": 64}, {"train.batch": 64}),
    ("optimizer = sgd(lr = 1)", {"epochs": 3}, {"train.epochs": 3}),
    # a short run keeps the shape of its schedule; overrides and expressions of `epochs` are not scaled
    (TWO, {"epochs": 4},
     {"first.schedule.epochs": (2.0, 3.0), "first.warmup": pytest.approx(0.4),
      "second.schedule.epochs": (2.0,)}),
    (TWO, {"first.epochs": 4, "first.schedule": "step(3)"}, {"first.schedule.epochs": (3.0,)}),
    (BASE + "freeze = stem + stages(0)\n lr_scale = 2 * stages(1) + 3 * head", {}, {}),
    (BASE + HALF, {"epochs": 10}, {"train.warmup": 1.0, "train.schedule.epochs": (5.0,)}),
]  # fmt: skip


@each_of(VALUES)
def test_values(
    body: str, overrides: dict[str, OverrideValue], expected: dict[str, object]
) -> None:
    found = good(recipe(body), **overrides)
    for path, value in expected.items():
        phase, key, *argument = path.split(".")
        seen = getattr(next(each for each in found.phases if each.name == phase), key)
        if argument:
            seen = seen.name if argument == ["name"] else seen[argument[0]]
        assert seen == value, path
        assert type(seen) is type(value) or not isinstance(value, int)


def test_a_variant_changes_only_what_it_names() -> None:
    text = recipe(TWO) + (
        "recipe small = r {\n phase second { steps = 8 }\n seed = 3\n}\n"
        "recipe mine = r {\n batch = 64\n phase third { epochs = 2\n start = second }\n}\n"
        "recipe again = mine { phase first { batch = 32 } }\n"
    )
    base, small, mine = good(text), good(text, "small"), good(text, "mine")
    assert small.phases[0] == base.phases[0]
    assert (small.phases[1].steps, small.phases[1].epochs) == (8, base.phases[1].epochs)
    assert (base.seed, small.seed, small.name) == (0, 3, "small")
    assert good(text, sync_norm=True).sync_norm
    # a setting of a variant replaces those of base phases; a variant may add a phase
    assert [phase.name for phase in mine.phases] == ["first", "second", "third"]
    assert [phase.batch for phase in mine.phases] == [64, 64, 64]
    assert [phase.batch for phase in good(text, "again").phases] == [32, 64, 64]


# -- overrides -------------------------------------------------------------------------------------


def test_a_sum_of_terms() -> None:
    text = "loss = cross_entropy + 0.4 * mse(output = early) + firing_rate(0.1) * (1 / 8) + tet"
    (term,) = good(recipe(BASE), loss__label_smoothing=0.1).phases[0].loss
    assert term.item["label_smoothing"] == 0.1
    (phase,) = good(recipe(BASE + text), loss__tet__weight=0.5).phases
    assert [(term.factor, term.item.name) for term in phase.loss] == [
        (1.0, "cross_entropy"), (0.4, "mse"), (0.125, "firing_rate"), (1.0, "tet"),
    ]  # fmt: skip
    assert (phase.loss[1].item["output"], phase.loss[3].item["weight"]) == ("early", 0.5)
    written = write_setting("loss", phase.loss)
    assert read_setting("loss", written, "the test") == phase.loss
    assert "0.4 * mse(output = early)" in written


def test_values_as_text() -> None:
    steps = "random_crop(32, padding = 4) -> horizontal_flip -> normalize(cifar10) -> mixup"
    text = BASE + f"schedule = step(5, 8, factor = 0.5)\n augment = {steps}\n"
    (phase,) = good(recipe(text + "change = surrogate(alpha = linear(1.0, 5.0))")).phases
    assert write_setting("schedule", phase.schedule) == "step(5, 8, factor = 0.5)"
    change = "surrogate(alpha = linear(start = 1, end = 5, epochs = 0))"
    assert write_setting("change", phase.change) == change
    assert "nesterov = false" in write_setting("optimizer", phase.optimizer)
    names = ["random_crop", "horizontal_flip", "normalize", "mixup"]
    assert [item.name for item in phase.augment] == names
    crop, flip, normalize, _ = phase.augment
    assert (crop["padding"], flip["p"], normalize["statistics"]) == (4, 0.5, "cifar10")
    for key in ("schedule", "change", "augment", "optimizer"):
        value = getattr(phase, key)
        assert read_setting(key, write_setting(key, value), "the test") == value
    step = {"name": "step", "epochs": [2.0, 4.0], "factor": 0.5}
    assert write_setting("schedule", step) == "step(2, 4, factor = 0.5)"
    term = {"name": "cross_entropy", "label_smoothing": 0.1, "factor": 0.5}
    assert write_setting("loss", [term]) == "0.5 * cross_entropy(label_smoothing = 0.1)"


def test_a_recipe_is_plain_data_with_origins() -> None:
    two = good(recipe(TWO))
    assert pickle.loads(pickle.dumps(two)) == two
    assert json.loads(json.dumps(two.as_dict()))["phases"][1]["start"] == "first"
    changed = good(recipe(TWO), second__epochs=5, optimizer__lr=0.5)
    origins = changed.as_dict()["origins"]
    assert origins["first.epochs"] == "main.danet:3:17"
    assert origins["second.epochs"] == "--set"
    assert origins["second.optimizer.lr"] == "--set"
    assert origins["first.clip"] == "default"
    assert origins["second.schedule"] == "main.danet:4:44, scaled by 0.5"


@each_of(
    [
        ("epoch", 5, "E0801", "epoch"),
        ("third__epochs", 5, "E0801", "third.epochs"),
        ("second__seed", 5, "E0801", "second.seed"),
        ("start", "first", "E0801", "start"),
        ("augment__size", 5, "E0801", "augment.size"),
        ("optimizer__momentun", 0.5, "E0801", "0.5"),
        ("optimizer__lr__x", 0.5, "E0801", "optimizer.lr.x"),
        ("epochs", 2.5, "E0802", "2.5"),
        ("epochs", True, "E0802", "true"),
        ("epochs", "5; seed = 3", None, None),
        ("epochs", "", None, None),
        ("optimizer", "sgd lr = 0.1)", "E0108", "sgd lr"),
        ("batch", "1e400", "E0803", "1e400"),
        ("batch", -5, "E0803", "-5"),
        ("optimizer__lr", "nan", "E0802", "nan"),
        ("second__start", "second", "E0806", "second"),
    ]
)
def test_overrides(path: str, value: OverrideValue, code: str | None, marked: str | None) -> None:
    result, errors = resolve(recipe(TWO), **{path: value})
    assert result is None
    assert {item.span.source.name for item in errors} == {"--set"}
    if code is not None:
        assert (errors[0].code, errors[0].span.text) == (code, marked)


def test_each_of_several_wrong_overrides_has_its_place() -> None:
    given = {"epoch": 5, "batch": -5, "optimizer__momentum": 2, "third__epochs": 1}
    result, errors = resolve(recipe(TWO), **given)
    assert result is None
    found = {item.span.text: item.code for item in errors}
    assert found == {"epoch": "E0801", "-5": "E0803", "2": "E0803", "third.epochs": "E0801"}
    assert all("--set" in render(item).splitlines()[1] for item in errors)


BOUNDS: dict[str, tuple[float | str, ...]] = {
    # setting: the least and the greatest allowed value, then values that are not allowed
    "epochs": (1, 100_000, 0, 100_001),
    "steps": (1, 10_000, 0, 10_001),
    "batch": (1, 1_000_000, 0, 1_000_001),
    "accumulate": (1, 10_000, 0, 10_001),
    "warmup": (0, 99_999.5, -0.001, 100_000.5),
    "clip": (1e-300, 1e300, 0, -1),
    "ema": (1e-300, 1 - 1e-16, 0, 1),
    "seed": (0, 2**32 - 1, -1, 2**32),
    "workers": (0, 1024, -1, 1025),
    "trials": (1, 1000, 0, 1001),
    "checkpoint_every": (0, 1_000_000_000, -1, 1_000_000_001),
    "checkpoint_minutes": (0, 100_000, -0.001, 100_000.5),
    "keep_every": (0, 1_000_000_000, -1, 1_000_000_001),
}


@each_of(BOUNDS)
def test_bounds_of_a_setting(key: str) -> None:
    *inside, below, above = BOUNDS[key]
    room = {"epochs": 100_000, "batch": 10_000}  # room for a long warm-up and many parts
    for value in inside:
        found = good(recipe(BASE), **({} if key in room else room), **{key: value})
        phase = found.phases[0]
        assert getattr(found if SETTINGS[key].scope == "recipe" else phase, key) == value
    for value in (below, above):
        assert bad(recipe(BASE), "E0803", **{key: value}).span.text == str(value)


# -- errors ----------------------------------------------------------------------------------------


ERRORS = [  # body, code, marked text, beginning of label, hint and other places
    (BASE + "warm_up = 5", "E0801", "warm_up", "not a setting here; did you mean `warmup`?"),
    (BASE + "phase a { seed = 5 }", "E0801", "seed", "not a setting here; move it out of the phase"),
    (BASE + "start = a", "E0801", "start", "not a setting here; move it into a phase"),
    (BASE + "phase { steps = 2 }", "E0805", "phase { steps = 2 }", "phase NAME { ... }"),
    (BASE + "augment { size = 3 }", "E0801", "augment { size = 3 }", "not a setting; a setting is written `augment = ...`"),
    (BASE + "epochs[0] = 3", "E0801", "epochs[0] = 3", "not a setting"),
    (BASE + "state u = 3", "E0801", "state u = 3", "not a setting"),
    (BASE + "warmup = bacth / 100", "E0801", "bacth", "unknown name; did you mean `batch`?"),
    (BASE + "schedule = step(5, facter = 0.5)", "E0801", "facter = 0.5", "has no argument `facter`; did you mean `factor`?"),
    (BASE + "loss = cross_entropy(0.1, early, 0.2)", "E0801", "0.2", "takes fewer arguments"),
    (BASE + "sync_norm = 1", "E0802", "1", "expected `true` or `false`"),
    (BASE + "batch = max(8)", "E0802", "max(8)", "expected a whole number"),
    (BASE + "batch = horizontal_flip -> mixup", "E0802", "horizontal_flip -> mixup", "expected a whole number"),
    (BASE + "batch = 100 / 3", "E0802", "100 / 3", "not a whole number"),
    (BASE + 'loss = "tet"', "E0802", '"tet"', "expected a loss, or a weighted sum of them"),
    (BASE + "precision = mixed", "E0802", "mixed", "expected `float32`, `tf32`, `bf16` or `fp16`"),
    (BASE + "augment = horizontal_flip -> 3", "E0802", "3", "expected steps joined by `->`, or `none`"),
    (BASE + "clip = 0", "E0803", "0", "must be above 0"),
    ("epochs = 5\n batch = 0\n optimizer = sgd(lr = batch / 256)", "E0803", "0", "must be from 1 to 1000000"),
    (BASE + "batch = 1 / 0", "E0803", "1 / 0", "division by zero"),
    (BASE + "batch = 1e15", "E0803", "1e15", "must be from 1 to 1000000"),
    (BASE + "batch = sqrt(-1)", "E0803", "sqrt(-1)", "not a number that can be computed"),
    (BASE + "seed = " + "9" * 5000, "E0803", None, "the number is too large"),
    (BASE + "loss = cross_entropy(label_smoothing = 1)", "E0803", "1", "must be at least 0 and below 1"),
    (BASE + "loss = mse - cross_entropy", "E0802", "mse - cross_entropy", "expected a loss, or a weighted sum of them"),
    (BASE + "loss = mse + 0 * cross_entropy", "E0803", "0", "must be above 0"),
    (BASE + "loss = mse + distill(teacher = runs)", "E0802", "runs", "expected a path in quotes"),
    (BASE + "loss = mse + mes", "E0804", "mes", "unknown name; did you mean `mse`?"),
    (BASE + "loss = mse + 0.1 * l1(stem)", "E0804", "l1", "unknown name; write `firing_rate(power = 1)` for sparse spikes"),
    (BASE + "augment = horizontal_flip(p = 2)", "E0803", "2", "must be at least 0 and at most 1"),
    (BASE + "schedule = cosinus", "E0804", "cosinus", "unknown name; did you mean `cosine`?"),
    (BASE + "augment = horizontal_flip -> auto_augmnt(3)", "E0804", "auto_augmnt", "unknown name; did you mean `auto_augment`?"),
    ("epochs = 5", "E0805", "r", "`optimizer` is missing: optimizer that updates the weights"),
    ("optimizer = sgd(lr = 0.1)\n phase only { steps = 2 }", "E0805", "only", "`epochs` is missing: number of passes over the training data"),
    (BASE + "schedule = step(factor = 0.5)", "E0805", "step", "needs `epochs`: epochs, counted from the start of the phase"),
    (BASE + "warmup = steps", "E0805", "steps", "has no value here; set `steps` in the recipe"),
    (BASE + "phase a { start = a }", "E0806", "a", "must be an earlier phase"),
    (BASE + "phase a { start = b }\n phase b { }", "E0806", "b", "must be an earlier phase"),
    (BASE + "schedule = step(20, 10)", "E0807", "10", "must be above 20 and below 50"),
    (BASE + "schedule = step(20, 20)", "E0807", "20", "must be above 20 and below 50"),
    (BASE + "schedule = step(20, 50)", "E0807", "50", "must be above 20 and below 50"),
    (BASE + "warmup = 50", "E0808", "50", "must be below 50; 50: of these epochs"),
    (BASE + "epochs = 3", "E0809", "epochs", "set again here; epochs: first here"),
    (BASE + "phase a { }\n phase a { }", "E0809", "a", "written again here; a: first here"),
    (BASE + "schedule = step(5, factor = 0.5, factor = 0.1)", "E0809", "factor = 0.1", "is given `factor` twice"),
    (BASE + "accumulate = 3", "E0811", "3", "does not divide the batch"),
    (BASE + "augment = mixup -> horizontal_flip", "E0811", "horizontal_flip", "move this before it; mixup: images are mixed here"),
    (BASE + "freeze = 2 * stem", "E0811", "2 * stem", "not one factor"),
    (BASE + "lr_scale = 2 * head + 3 * head", "E0811", "2 * head + 3 * head", "not one factor"),
    (BASE + "freeze = stages\n lr_scale = 2 * stages(1)", "E0811", "2 * stages(1)", "not one factor"),
    (BASE + "batch = accumulate\n accumulate = batch", "E0811", "batch", "needs its own value; accumulate: through this setting"),
    ("epochs = 2\n optimizer = sgd(lr = 0.1, nesterov = true)", "E0811", "sgd(lr = 0.1, nesterov = true)", "has a momentum of 0; set `momentum = 0.9`, or leave out `nesterov`"),
    (BASE + "warmup = " + "+".join(["1"] * 100), "E0808", None, "must be below 50; 50: of these epochs"),
]  # fmt: skip


@each_of(ERRORS)
def test_errors(body: str, code: str, marked: str | None, shown: str) -> None:
    error = bad(recipe(body), code)
    if marked is not None:
        assert error.span.text == marked
    places = (f"{label.span.text}: {label.text}" for label in error.labels)
    assert "; ".join(filter(None, [error.label, error.hint, *places])).startswith(shown)


def test_all_errors_in_one_run() -> None:
    _, errors = resolve(recipe("epochs = 0\n optimizer = sdg(lr = 0.1)\n seeed = 3\n batch = x\n"))
    assert sorted(item.code for item in errors) == ["E0801", "E0802", "E0803", "E0804"]


LONG = "+".join("1" * 300)
FOLLOWED = {
    # missing settings and errors at the place of a syntax error are not reported; other errors are
    recipe("epochs = 5 5\n optimizer = sgd(lr = 2000)\n batch = (\n seed = -1"): (
        "E0108 5 5, E0112 =, E0803 2000"
    ),
    recipe(BASE + "warm_up = 3") + "recipe other { epochs = = 3 }\n": "E0119 = =, E0801 warm_up",
    recipe("epochs = 5 5\n optimizer = sgd(lr = 0.1)"): "E0108 5 5",
    recipe("epochs = = 5\n optimizer = sgd(lr = 0.1)"): "E0119 = =",
    recipe("epochs = 5\n optimizer = sgd(lr = 0.1\n batch = 3"): "E0103 (",
    recipe(f"epochs = {LONG}\n optimizer = sgd(lr = 0.1)"): f"E0902 {LONG}",
    recipe("phase a  epochs = 5 }\n phase b { start = a }\n" + BASE): "E0101 a",
}  # fmt: skip


@each_of(FOLLOWED)
def test_what_follows_a_syntax_error(text: str) -> None:
    reporter = Reporter()
    module = load_module(SourceFile("main.danet", text), reporter)
    found = [resolve_recipe(each, {}, reporter, module) for each in module.own.values()]
    assert "E08" not in FOLLOWED[text] or found[0] is None
    shown = ", ".join(f"{item.code} {item.span.text}" for item in reporter.diagnostics)
    assert shown == FOLLOWED[text]


SUM = recipe(BASE + "loss = cross_entropy + tet")
OTHER = recipe(BASE) + "rule chain { in[i] = out[i - 1] }\n"
HINTS: list[tuple[str, dict[str, OverrideValue], str, str]] = [
    (recipe(BASE + "schedule = step(20, 20)"), {}, "E0807", "goes back from epoch 20 to 20"),
    (recipe(BASE + "schedule = step(20, 50)"), {}, "E0807", "epoch 50 of the schedule is never"),
    (recipe(TWO), {"second.warmpu": 3}, "E0801", "did you mean `warmup`?"),
    (SUM, {"loss.label_smoothing": 0.1}, "E0801", "`loss.cross_entropy.label_smoothing`"),
    (SUM, {"loss.mze.label_smoothing": 0.1}, "E0801", "did you mean `mse`?"),
    (OTHER + "recipe m = rr { }", {}, "E0810", "did you mean `r`?"),
    (OTHER + "recipe m = r(3) { }", {}, "E0810", "write `= r { ... }`"),
    (OTHER + "recipe m = chain { }", {}, "E0810", "chain"),
    (OTHER + "recipe m = 3 { }", {}, "E0810", ""),
    (f"recipe m(e) {{\n{BASE}}}", {}, "E0801", ""),
]


@each_of(HINTS)
def test_hints(text: str, overrides: dict[str, OverrideValue], code: str, hint: str) -> None:
    error = bad(text, code, "m" if "recipe m" in text else "r", **overrides)
    assert hint in f"{error.message} {error.hint}"
    assert ("several terms" in error.message) == ("loss.label_smoothing" in overrides)
    assert hint != "chain" or error.labels[0].span.text == hint


def test_circles_and_long_chains_of_recipes() -> None:
    text = "recipe r = b { }\nrecipe b = c { }\nrecipe c = r { }\n"
    assert [label.span.line for label in bad(text, "E0203").labels] == [2, 3]
    bad("recipe r = r { epochs = 3 }", "E0203")
    text = recipe(BASE) + "recipe r0 = r { }\n"
    text += "".join(f"recipe r{number + 1} = r{number} {{ }}\n" for number in range(25))
    assert good(text, "r18").phases[0].epochs == 50
    bad(text, "E0901", "r19")


# -- the library and the pages ---------------------------------------------------------------------


PAPER = {  # reading.md, "Training": phase -> steps, epochs, warm-up, lr, decay, schedule
    ("imagenet_ablation", 0): (1, 50, 5, 0.1, 1e-4, (30, 40, 45)),
    ("imagenet_one_step", 0): (1, 120, 15, 0.1, 1e-4, (60, 105, 115)),
    ("imagenet_two_phase", 0): (1, 120, 15, 0.1, 1e-4, (60, 105, 115)),
    ("imagenet_two_phase", 1): (4, 45, 10, 0.02, 1e-5, (30, 40)),
    ("imagenet_5_20", 0): (4, 100, 5, 0.1, 1e-4, "cosine"),
    ("imagenet_100", 0): (4, 50, 5, 0.1, 1e-4, "cosine"),
}


def test_the_recipes_of_the_paper() -> None:
    for (name, number), row in PAPER.items():
        found = good("use std\n", name)
        phase = found.phases[number]
        schedule, of_sgd = phase.schedule, phase.optimizer
        decay = schedule.name if schedule.name == "cosine" else schedule["epochs"]
        seen = (phase.steps, phase.epochs, phase.warmup, of_sgd["lr"], of_sgd["weight_decay"])
        assert row == (*seen, decay)
        assert (of_sgd["momentum"], phase.batch, found.trials) == (0.9, 256, 3)
    assert good("use std\n", "imagenet_two_phase").phases[1].start == "one_step"
