"""The cells of a grid: every combination of a network with a value on each axis.

An axis is ``NAME=VALUE,VALUE,...``; commas inside brackets do not separate values. The name is

========================================== ==============================================
classes                                    number of classes to draw from the data
recipe                                     name of a recipe
backbone, depth, connection, rule          that part of the network's ``stages``
recipe.PATH, as in recipe.epochs           setting of the recipe
anything else, as steps or neuron.tau      parameter or setting of the network, or an argument
========================================== ==============================================
"""

from __future__ import annotations

import glob
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from danetc.arguments import Setting, parse_setting
from danetc.compiler import check_file
from danetc.compiler.frontend.topology import PARTS, restaged, settable
from danetc.dsl.diagnostics.diagnostic import SpecError, instead
from danetc.dsl.reading import shipped_specs
from danetc.dsl.recipe.settings import SETTINGS as RECIPE
from danetc.dsl.syntax.overrides import override_text
from danetc.errors import UserError

if TYPE_CHECKING:
    from danetc.compiler import Checked
    from danetc.requests import TrainingRequest

CLASSES, RECIPES, PREFIX = "classes", "recipe", "recipe."
_LONGEST = 40


@dataclass(frozen=True)
class Axis:
    """A setting that is varied, and its values in order."""

    name: str
    values: tuple[Setting, ...]


@dataclass(frozen=True)
class GridNetwork:
    """A network of a spec file, or of a shipped spec."""

    spec: str
    name: str
    checked: Checked


@dataclass(frozen=True)
class GridCell:
    """A network with a value on each axis, and the request of its training.

    ``name`` is also the name of the folder. It depends only on the network and the values, so a cell
    has the same name in every grid.
    """

    name: str
    axes: Mapping[str, Setting]
    request: TrainingRequest


def parse_axis(name: str, listed: str) -> Axis:
    """Parse the values of an axis, such as ``1,4``. Raises ValueError."""
    values = [value.strip() for value in _split(listed)]
    if not all(values):
        raise ValueError(f"`{name}={listed}` is not NAME=VALUE,VALUE,..., as in steps=1,4")
    if name in ("seed", "seeds"):
        raise ValueError("every cell is trained with every seed: use --seeds N, not --grid")
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
    """Split at the commas outside brackets."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if char == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def find_networks(patterns: Sequence[str], names: Sequence[str]) -> list[GridNetwork]:
    """Return the networks of all files, or only those called ``names``.

    A pattern with ``*``, ``?`` or ``[]`` matches files or, if there are none, shipped specs. Raises
    UserError.
    """
    specs = [spec for pattern in patterns for spec in _matching(pattern)]
    networks: list[GridNetwork] = []
    for spec in specs:
        try:
            checked = check_file(spec)
            if not checked.networks:
                checked.declaration()  # raise an error if there is no network
        except SpecError as error:
            raise UserError(f"every cell of {spec}:\n{error}") from error
        networks += [GridNetwork(spec, name, checked) for name in checked.networks]
    known = [each.name for each in networks]
    for name in names:
        if name not in known:
            raise UserError(f"no spec has a network `{name}`; {instead(name, known)}")
    networks = [each for each in networks if not names or each.name in names]
    for name, count in Counter(each.name for each in networks).items():
        if count > 1:
            both = " and ".join(each.spec for each in networks if each.name == name)
            raise UserError(f"{both} both have a network `{name}`, but each cell has one folder")
    return networks


def _matching(pattern: str) -> list[str]:
    """Return the specs of a pattern. Raises UserError without any."""
    if not glob.has_magic(pattern):
        return [pattern]
    files = sorted(name for name in glob.glob(pattern, recursive=True) if Path(name).is_file())
    depth = pattern.count("/")  # `*` stays within one folder, as it does for files
    found = [name for name in files if name.endswith(".danet")] or [
        name for name in shipped_specs() if name.count("/") == depth and fnmatchcase(name, pattern)
    ]
    if not found:
        raise UserError(f"no file and no shipped spec matches `{pattern}`")
    return found


def combinations(
    networks: Sequence[GridNetwork], axes: Sequence[Axis], base: TrainingRequest
) -> list[tuple[GridNetwork, dict[str, Setting]]]:
    """Return every network with every combination of values. Raises UserError as ``check_axes``."""
    names = [axis.name for axis in axes]
    check_axes(networks, names, base)
    found = product(networks, product(*(axis.values for axis in axes)))
    return [(network, dict(zip(names, values, strict=True))) for network, values in found]


def check_axes(
    networks: Sequence[GridNetwork], names: Sequence[str], base: TrainingRequest
) -> None:
    """Raise UserError if an axis means nothing to a network, or conflicts with another or ``base``."""
    fixed = {*base.set, *(name for name in (CLASSES, RECIPES) if getattr(base, name) is not None)}
    if both := [name for name in names if name in fixed]:
        raise UserError(f"`{both[0]}` is both an axis and a fixed setting; drop one of them")
    if "stages" in names and (part := next((name for name in PARTS if name in names), None)):
        raise UserError(f"`stages` and `{part}` are both axes, but {part} is a part of the stages")
    if {"backbone", "depth"} <= set(names):
        raise UserError("`backbone` and `depth` are both axes, but a depth is that of a backbone")
    always = (CLASSES, RECIPES, *PARTS)
    for network, name in product(networks, names):
        known = settable(network.checked, network.name)
        setting, dot, argument = name.partition(".")
        if name in always or name.startswith(PREFIX) or setting in known:
            continue
        axes = [f"{each}{dot}{argument}" for each in dict.fromkeys([*always, *known])]
        recipe = [PREFIX + name] if setting in RECIPE else []
        hint = instead(name, recipe or axes, "the axes are")
        raise UserError(
            f"--grid {name}: {network.name} has no parameter and no setting `{name}`; {hint}"
        )


def make_cell(
    network: GridNetwork, chosen: Mapping[str, Setting], base: TrainingRequest, folder: Path
) -> GridCell:
    """Return the cell of these values.

    A number of classes also sets the network's parameter ``classes``, if it has one. Raises
    SpecError and TopologyError for values that the network cannot have.
    """
    known = settable(network.checked, network.name)
    parts = {
        name: str(value) for name, value in chosen.items() if name in PARTS and name not in known
    }
    own = {name: value for name, value in chosen.items() if name not in (CLASSES, RECIPES, *parts)}
    settings = {**base.set, **own}
    if parts:
        settings["stages"] = restaged(network.checked, network.name, settings, parts)
    classes = chosen.get(CLASSES, base.classes)
    if classes is not None and CLASSES in known and CLASSES not in settings:
        settings[CLASSES] = classes
    recipe = chosen.get(RECIPES, base.recipe)
    name = cell_name(network.name, chosen)
    training = replace(
        base,
        spec=network.spec,
        network=network.name,
        output=folder / name,
        set=settings,
        classes=None if classes is None else int(classes),
        recipe=None if recipe is None else str(recipe),
    )
    return GridCell(name, {"network": network.name, **chosen}, training)


def cell_name(network: str, chosen: Mapping[str, Setting]) -> str:
    """Return a valid name of a folder, such as ``danet_c_r20,classes=5,rule=chain``."""
    return ",".join([network, *(f"{name}={_short(value)}" for name, value in chosen.items())])


def _short(value: Setting) -> str:
    text = override_text(value)
    short = re.sub(r"[^\w.+-]+", "_", text, flags=re.ASCII).strip("_")
    if short == text and len(short) <= _LONGEST:
        return short
    # The hash distinguishes values that differ only in omitted characters.
    return f"{short[:_LONGEST]}~{hashlib.sha256(text.encode()).hexdigest()[:6]}"
