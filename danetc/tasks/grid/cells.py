"""A grid of trainings: specs, axes and what each of their combinations asks for.

An axis is ``NAME=VALUE,VALUE,...``; commas in brackets part nothing. Its name is

========================================== ==============================================
classes                                    draw so many classes of the data
recipe                                     a recipe by its name
backbone, depth, connection, rule          that part of the network's ``stages``
recipe.PATH, as in recipe.epochs           a setting of the recipe
anything else, as steps or neuron.tau      a parameter or a setting of the network, or an argument
========================================== ==============================================
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from danetc.compiler import check_file
from danetc.compiler.frontend.topology import PARTS, TopologyError, restaged, settable
from danetc.dsl.diagnostics.diagnostic import SpecError, did_you_mean
from danetc.dsl.reading import shipped_specs
from danetc.dsl.recipe.settings import SETTINGS as RECIPE
from danetc.dsl.syntax.overrides import override_text
from danetc.errors import UserError
from danetc.setting import Setting, parse_setting

if TYPE_CHECKING:
    from danetc.compiler import Checked
    from danetc.tasks.training.request import TrainingRequest

CLASSES, RECIPES, PREFIX = "classes", "recipe", "recipe."
_OPEN, _CLOSE = "([{", ")]}"
_LONGEST = 40


@dataclass(frozen=True)
class Axis:
    """What is varied, and its values in their order."""

    name: str
    values: tuple[Setting, ...]


@dataclass(frozen=True)
class GridNetwork:
    """A network of a file, or of a shipped spec."""

    spec: str
    name: str
    checked: Checked


@dataclass(frozen=True)
class GridCell:
    """A combination: its name, its values on the axes, and the training it asks for.

    The name is that of its folder. It says the network and the values alone, so it is the same
    whatever else a grid holds.
    """

    name: str
    axes: Mapping[str, Setting]
    request: TrainingRequest


def parse_axis(text: str) -> Axis:
    """``steps=1,4`` as an axis. Raises ValueError."""
    name, equals, listed = (part.strip() for part in text.partition("="))
    values = [value.strip() for value in _split(listed)]
    if not equals or not all(values):
        raise ValueError(f"`{text}` is not NAME=VALUE,VALUE,..., as in steps=1,4")
    if name in ("seed", "seeds"):
        raise ValueError("every cell is trained with every seed: say --seeds N, not --grid")
    if name == "data":
        raise ValueError("accuracies on several data sets are no comparison: run it for each")
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"`{name}` has the value {twice[0]} twice")
    found = tuple(parse_setting(f"{name}={value}")[1] for value in values)
    if name == CLASSES and not all(type(value) is int and value >= 2 for value in found):
        raise ValueError(f"`{name}` takes numbers of classes, 2 or more, not {listed}")
    if name == RECIPES and not all(isinstance(value, str) for value in found):
        raise ValueError(f"`{name}` takes names of recipes, not {listed}")
    return Axis(name, found)


def _split(text: str) -> list[str]:
    """At commas that stand in no bracket."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in _OPEN) - (char in _CLOSE)
        if char == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def find_networks(patterns: Sequence[str], names: Sequence[str]) -> list[GridNetwork]:
    """The networks of all files, or those of ``names`` alone.

    A pattern with ``*``, ``?`` or ``[]`` stands for files; where no file matches, for shipped specs. Raises UserError with all that is wrong in any of them.
    """
    problems: list[str] = []
    specs: list[str] = []
    for pattern in patterns:
        found = _matching(pattern)
        if not found:
            hint = did_you_mean(pattern.strip("*"), shipped_specs())
            problems.append(
                f"no file and no shipped spec matches `{pattern}`" + (f"; {hint}" if hint else "")
            )
        specs += found
    for spec, count in Counter(map(_identity, specs)).items():
        if count > 1:
            problems.append(f"{spec} is given {count} times, so each cell of it would stand there")
    networks: list[GridNetwork] = []
    known: list[str] = []
    for spec in dict.fromkeys(specs):
        try:
            checked = check_file(spec)
            found = [name for name in checked.networks if not names or name in names]
            if not checked.networks:
                checked.declaration()  # says that there is none
        except SpecError as error:
            problems.append(f"every cell of {spec}:\n{error}")
            continue
        known += checked.networks
        networks += [GridNetwork(spec, name, checked) for name in found]
    if not problems:  # files that cannot be read may have them
        problems += _strangers(names, known)
    for name, count in Counter(each.name for each in networks).items():
        if count > 1:
            places = " and ".join(each.spec for each in networks if each.name == name)
            problems.append(f"{places} both have a network `{name}`; give one another name")
    if problems:
        raise UserError("\n".join(problems))
    return networks


def _matching(pattern: str) -> list[str]:
    if not glob.has_magic(pattern):
        return [pattern]
    files = sorted(name for name in glob.glob(pattern, recursive=True) if Path(name).is_file())
    if files:
        return [name for name in files if name.endswith(".danet")]
    depth = pattern.count("/")  # `*` is of one folder, as it is for files
    return [
        name for name in shipped_specs() if name.count("/") == depth and fnmatchcase(name, pattern)
    ]


def _identity(spec: str) -> str:
    """A file by its place, a shipped spec by its name."""
    return spec if spec in shipped_specs() else str(Path(spec).resolve())


def _strangers(names: Sequence[str], known: Sequence[str]) -> Iterator[str]:
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known)
            yield f"no spec has a network `{name}`" + (f"; {hint}" if hint else "")


def make_cells(
    networks: Sequence[GridNetwork], axes: Sequence[Axis], base: TrainingRequest, folder: Path
) -> list[GridCell]:
    """Every combination, in the order of the specs, then of the axes.

    ``base`` is what all ask for. Raises UserError with all that is wrong, by cell.
    """
    check_axes(networks, axes, base)
    cells: list[GridCell] = []
    failures: dict[str, list[str]] = {}
    for network in networks:
        for values in product(*(axis.values for axis in axes)):
            chosen = dict(zip((axis.name for axis in axes), values, strict=True))
            try:
                cells.append(make_cell(network, chosen, base, folder))
            except (SpecError, TopologyError) as error:
                name = cell_name(network.name, chosen)
                failures.setdefault(str(error), []).append(name)
    raise_failures(failures)
    return cells


def make_cell(
    network: GridNetwork, chosen: Mapping[str, Setting], base: TrainingRequest, folder: Path
) -> GridCell:
    """The cell of these values. Raises SpecError and TopologyError where a network cannot have them."""
    name = cell_name(network.name, chosen)
    request = _request(network, chosen, base, folder / name)
    return GridCell(name, {"network": network.name, **chosen}, request)


def raise_failures(failures: Mapping[str, Sequence[str]]) -> None:
    """Raise UserError where there are failures: their texts, with the cells that have them."""
    if not failures:
        return
    parts = []
    for text, names in failures.items():
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        plural = "s" if len(names) > 1 else ""
        parts.append(f"cell{plural} {'; '.join(names[:3])}{more}: {text}")
    raise UserError("\n".join([*parts, "nothing was trained"]))


def check_axes(
    networks: Sequence[GridNetwork], axes: Sequence[Axis], base: TrainingRequest
) -> None:
    """Raise UserError where an axis has no meaning for a network, or contradicts another or ``base``."""
    _check_names(axes, base)
    problems = [
        problem for network in networks for axis in axes if (problem := _unknown(axis, network))
    ]
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))


def _check_names(axes: Sequence[Axis], base: TrainingRequest) -> None:
    names = [axis.name for axis in axes]
    for name, count in Counter(names).items():
        if count > 1:
            raise UserError(f"`{name}` is an axis twice; give all its values in one --grid")
        if name in base.settings:
            raise UserError(f"`{name}` is an axis, and also set by --set; leave one of them out")
    if CLASSES in names and base.classes is not None:
        raise UserError("`classes` is an axis, and --classes is given; leave one of them out")
    if RECIPES in names and base.recipe is not None:
        raise UserError("`recipe` is an axis, and --recipe is given; leave one of them out")
    if "stages" in names and (part := next((name for name in PARTS if name in names), None)):
        raise UserError(f"`stages` and `{part}` both are axes, but {part} is a part of the stages")
    if {"backbone", "depth"} <= set(names):
        raise UserError("`backbone` and `depth` both are axes, but a depth is that of a backbone")


def _unknown(axis: Axis, network: GridNetwork) -> str | None:
    """What is wrong with an axis's name for a network."""
    name = axis.name
    if name in (CLASSES, RECIPES, *PARTS) or name.startswith(PREFIX):
        return None
    known = settable(network.checked, network.name)
    setting, dot, argument = name.partition(".")
    if setting in known:
        return None
    if setting in RECIPE:
        hint: str | None = f"did you mean `{PREFIX}{name}`?"
    else:
        axes = (CLASSES, RECIPES, *PARTS, *known)
        hint = did_you_mean(name, [f"{axis}{dot}{argument}" for axis in axes])
    hint = hint or f"an axis is {', '.join(dict.fromkeys([CLASSES, RECIPES, *PARTS, *known]))}"
    return f"--grid {name}: {network.name} has no parameter and no setting `{name}`; {hint}"


def _request(
    network: GridNetwork, chosen: Mapping[str, Setting], base: TrainingRequest, path: Path
) -> TrainingRequest:
    """What a cell asks for. A number of classes also sets the parameter of a network that has one."""
    settings = dict(base.settings)
    known = settable(network.checked, network.name)
    own = [name for name in chosen if name in PARTS and name in known]  # a parameter of that name
    parts = {name: str(chosen[name]) for name in chosen if name in PARTS and name not in own}
    for name, value in chosen.items():
        if name not in (CLASSES, RECIPES) and name not in parts:
            settings[name] = value
    if parts:
        settings["stages"] = restaged(network.checked, network.name, settings, parts)
    classes = chosen.get(CLASSES, base.classes)
    if classes is not None and CLASSES in known and CLASSES not in settings:
        settings[CLASSES] = classes
    recipe = chosen.get(RECIPES, base.recipe)
    return replace(
        base,
        spec=network.spec,
        network=network.name,
        output=path,
        settings=settings,
        classes=None if classes is None else int(classes),
        recipe=None if recipe is None else str(recipe),
    )


def cell_name(network: str, chosen: Mapping[str, Setting]) -> str:
    """``danet_c_r20,classes=5,rule=chain``: what a folder can be called."""
    return ",".join([network, *(f"{name}={_short(value)}" for name, value in chosen.items())])


def _short(value: Setting) -> str:
    text = override_text(value)
    short = re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII).strip("_")
    if short == text and len(short) <= _LONGEST:
        return short
    # What was left out still tells cells apart.
    return f"{short[:_LONGEST]}~{hashlib.sha256(text.encode()).hexdigest()[:6]}"
