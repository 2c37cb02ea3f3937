"""Misspelt names in specs: the right word is suggested, and no word if none is near.

Every name of the language and of the standard library is misspelt at its places: two letters are
swapped, or one is deleted, doubled, replaced or inserted. ``benchmarks/suggestion_report.py`` tries
all of them and prints the shares by place. The tests here try a sample.
"""

import random
import re
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from danetc.compiler.ir.ops import OPS
from danetc.compiler.lowering.blocks import CONNECTION_PARTS
from danetc.compiler.lowering.environment import JOINS, MATH
from danetc.compiler.lowering.networks import SETTINGS as NETWORK_SETTINGS
from danetc.dsl import work
from danetc.dsl.diagnostics.diagnostic import Reporter, did_you_mean
from danetc.dsl.diagnostics.habits import habits
from danetc.dsl.diagnostics.suggestions import MAX_CANDIDATES, edits, nearest
from danetc.dsl.loading import load_module, standard
from danetc.dsl.neuron.opcodes import functions
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tree import DECLARATION_KINDS, Declaration
from tests.compiler.error_cases import errors

KINDS = ("swap", "delete", "double", "replace", "insert")
_LETTERS = string.ascii_lowercase + "_"


@dataclass(frozen=True)
class Place:
    """A place for names: the valid names, and a spec with one name, which may be misspelt."""

    what: str
    names: tuple[str, ...]
    spec: Callable[[str], str]


def network(**parts: str) -> str:
    """A small network with some of its parts replaced."""
    settings = {
        "input": "image(3, 16, 16)",
        "neuron": "IF",
        "surrogate": "sigmoid",
        "stem": "conv(8) -> norm -> spike",
        "stages": "stage(basic(8), 1) via origin",
        "head": "avgpool -> mean_over_time -> linear(classes)",
        **parts,
    }
    body = "\n".join(f"  {name} = {value}" for name, value in settings.items())
    return f"use std\nnetwork tiny(classes = 10) {{\n{body}\n}}\n"


def recipe(line: str = "", **settings: str) -> str:
    lines = {"epochs": "90", "optimizer": "sgd(lr = 0.1)", **settings}
    body = "\n".join(f"  {name} = {value}" for name, value in lines.items())
    return f"use std\nrecipe r {{\n{body}\n{line}\n}}\n"


def declarations_of_std() -> list[Declaration]:
    """The declarations of the standard library."""
    module = load_module(SourceFile("all", "use std"), Reporter())
    return [module.names[name].declaration for name in sorted(standard())]


STANDARD = declarations_of_std()
NORMS = tuple(name for name, op in OPS.items() if op.norm is not None)
PUBLIC = tuple(name for name, op in OPS.items() if op.public)


def declared(kind: str) -> tuple[str, ...]:
    return tuple(item.name for item in STANDARD if item.kind == kind)


USES: Mapping[str, Callable[[str], str]] = {
    "neuron": lambda use: network(neuron=use),
    "surrogate": lambda use: network(surrogate=use),
    "connection": lambda use: network(stages=f"resnet20 via {use}"),
    "rule": lambda use: network(stages=f"resnet20 via origin by {use}"),
    "backbone": lambda use: network(stages=f"{use} via origin"),
    "block": lambda use: network(stages=f"stage({use}, 1) via origin"),
    "recipe": lambda use: f"use std\nrecipe r = {use} {{ epochs = 90 }}",
}
"""A spec that uses a declaration, for each kind."""


def places() -> Iterator[Place]:
    """All places, from the tables of the language, so new rows are included."""
    for kind, use in USES.items():
        yield Place(kind, declared(kind), use)
    for item in STANDARD:
        if item.params and item.kind in USES:
            use = USES[item.kind]
            names = tuple(param.name for param in item.params)
            yield Place(f"parameter of a {item.kind}", names, lambda name, use=use, item=item: use(f"{item.name}({name} = 1)"))  # type: ignore[misc]  # fmt: skip
    yield Place("operation in a flow", PUBLIC, lambda name: network(stem=f"conv(8) -> {name}"))
    yield Place("operation called", PUBLIC, lambda name: network(stem=f"conv(8) -> {name}(1)"))
    neurons = declared("neuron")
    yield Place("neuron in a flow", neurons, lambda name: network(stem=f"conv(8) -> {name}"))
    yield Place("norm", (*NORMS, "none"), lambda name: network(norm=name))
    for op in PUBLIC:
        names = tuple(parameter.name for parameter in OPS[op].parameters)
        yield Place("parameter of an operation", names, lambda name, op=op: network(stem=f"conv(8) -> {op}({name} = 1)"))  # type: ignore[misc]  # fmt: skip
    yield Place("function", tuple(MATH), lambda name: network(stem=f"conv({name}(8.0))"))
    yield Place("use std", tuple(sorted(standard())), lambda name: f"use std ({name})")
    yield Place("setting of a network", NETWORK_SETTINGS, lambda name: network(**{name: "4"}))
    yield Place(
        "part of a connection",
        CONNECTION_PARTS,
        lambda name: f"connection c {{ out = branch + shortcut; {name} = spike }}",
    )
    yield Place(
        "value in a connection",
        ("branch", "shortcut"),
        lambda name: f"connection c {{ each = conv; out = {name} -> norm }}",
    )
    yield Place(
        "join of a rule",
        tuple(JOINS),
        lambda name: f"rule r {{ in[i] = {name}(in[0], out[i - 1]); result = out[n - 1] }}",
    )
    yield Place(
        "function of an equation",
        tuple(functions()),
        lambda name: f"neuron N {{ v = {name}(x, 1); s = heaviside(v) }}",
    )
    yield Place("word of a declaration", DECLARATION_KINDS, lambda name: f"{name} some {{ a = 1 }}")
    yield Place("setting of a recipe", tuple(SETTINGS), lambda name: recipe(f"  {name} = 1"))


def misspellings(word: str, kind: str, choose: random.Random) -> list[str]:
    """The word with one slip of this kind at every letter. New letters are random."""
    ends = range(len(word))
    letters = _LETTERS + string.digits if word[-1].isdigit() else _LETTERS
    match kind:
        case "swap":
            found = [word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in ends[:-1]]
        case "delete":
            found = [word[:i] + word[i + 1 :] for i in ends]
        case "double":
            found = [word[: i + 1] + word[i:] for i in ends]
        case "replace":
            found = [word[:i] + choose.choice(letters) + word[i + 1 :] for i in ends]
        case _:
            found = [word[:i] + choose.choice(letters) + word[i:] for i in range(len(word) + 1)]
    return [item for item in dict.fromkeys(found) if re.fullmatch(r"[A-Za-z_]\w*", item)]


@dataclass(frozen=True)
class Case:
    place: Place
    kind: str
    name: str
    wrong: str

    def suggested(self) -> tuple[str, ...] | None:
        """The suggestions of the errors about the wrong name, or None if there are no such errors."""
        found = errors(self.place.spec(self.wrong))
        hints = [item.hint or "" for item in found if self.wrong in item.span.text]
        asked = next((hint for hint in hints if hint.startswith(("did you mean", "write"))), "")
        return tuple(re.findall(r"`(.+?)`", asked)) if hints else None


def cases(choose: random.Random) -> Iterator[Case]:
    """Every name misspelt at every place, once for each letter and kind of slip.

    A slip is left out if it gives another name of this place or of another language, or if the name or
    the slip is a single letter.
    """
    others = {row.name for row in habits()}
    for place in places():
        known = {other.casefold() for other in (*place.names, *others)}  # case does not count
        for name in place.names:
            for kind in KINDS:
                for wrong in misspellings(name, kind, choose):
                    if wrong.casefold() not in known and min(len(name), len(wrong)) > 1:
                        yield Case(place, kind, name, wrong)


@pytest.mark.thorough
def test_misspelt_names_get_the_right_word() -> None:
    choose = random.Random(0)
    everything = list(cases(choose))
    for kinds, share in ((("swap",), 0.98), (KINDS[1:], 0.99)):
        some = [case for case in everything if case.kind in kinds]
        sample = choose.sample(some, 150)
        found = [(case, case.suggested()) for case in sample]
        asked = [(case, names) for case, names in found if names is not None]
        assert len(asked) > 140
        missed = [(case.name, case.wrong, names) for case, names in asked if case.name not in names]
        assert 1 - len(missed) / len(asked) >= share, missed


def _reference(a: str, b: str) -> int:
    """The optimal string alignment distance, computed by its definition."""
    if not a or not b:
        return len(a) + len(b)
    found = [_reference(a[:-1], b) + 1, _reference(a, b[:-1]) + 1]
    found.append(_reference(a[:-1], b[:-1]) + (a[-1] != b[-1]))
    if len(a) > 1 and len(b) > 1 and a[-2:] == b[-1] + b[-2]:
        found.append(_reference(a[:-2], b[:-2]) + 1)
    return min(found)


def test_edits_are_those_of_the_definition() -> None:
    choose = random.Random(0)
    for _ in range(300):
        a, b = ("".join(choose.choices("abc", k=choose.randrange(6))) for _ in "ab")
        for limit in (1, 2, 3):
            assert edits(a, b, limit) == min(_reference(a, b), limit + 1), (a, b, limit)


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    known = [*standard(), *PUBLIC, *MATH, "learn", "concat", "stage", "spike", "norm", "channels"]
    for name in ("attention", "einsum", "mean", "tab", "sum", "layer", "resnet99"):
        assert nearest(name, known) == (), name


def test_names_that_may_stand_there_come_first() -> None:
    assert nearest("sigmod", ["step", "sigmodx"], ["sigmoid"]) == ("sigmodx",)
    assert nearest("sigmod", ["step", "tanh"], ["sigmoid"]) == ("sigmoid",)
    assert nearest("sgmod", ["step", "tanh"], ["sigmoid"]) == ()  # two edits from another place
    (found,) = errors(network(stages="resnet20 via tbdn by chain"))
    assert found.hint == "did you mean `tdbn`?"
    (found,) = errors(network(norm="tbn"))
    assert found.hint == "did you mean `tebn` or `tdbn`?"


def test_several_that_are_equally_near_are_named() -> None:
    assert did_you_mean("vgg1", ["vgg11", "vgg16"]) == "did you mean `vgg11` or `vgg16`?"
    nets = ["densenet121", "densenet201"]
    assert did_you_mean("densenet211", nets) == "did you mean `densenet121`?"
    assert did_you_mean("kernel_size", ["stride", "kernel"]) == "did you mean `kernel`?"


def test_the_work_for_one_name_is_bounded() -> None:
    many, long = [f"name_{number:06}" for number in range(20_000)], "x" * 100_000
    for name, known, most in (
        ("n_00000x", many, 2 * MAX_CANDIDATES),
        (long, many, 0),
        ("n", [long], 0),
    ):
        with work.bounded() as spent:
            nearest(name, known, known)
        assert work.MAX_COMPARED - spent.letters <= most * len(name)


def test_a_shared_word_counts_from_four_letters_on() -> None:
    for known, found in (("norm", ("norm",)), ("max", ())):
        assert nearest(f"{known}_of_everything", [known, "unlike"], words=True) == found


def test_the_edits_that_are_allowed_grow_with_the_length() -> None:
    for most, length in ((1, 2), (1, 6), (2, 7), (2, 11), (3, 12)):
        name = string.ascii_lowercase[:length]
        for edited in range(1, min(5, length)):
            other = "wxyz"[:edited] + name[edited:]
            assert nearest(name, [other]) == ((other,) if edited <= most else ()), (name, other)
    for name, other in (("a", "aa"), ("aa", "a")):  # a single letter may be doubled
        assert nearest(name, [other]) == (other,)
    for name, other in (("a", "aaa"), ("aaa", "a"), ("a", "ab"), ("b", "a")):
        assert nearest(name, [other]) == ()
