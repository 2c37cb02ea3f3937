"""The classes of a standalone model: which scopes share one, which take a size as a parameter."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from danetc.compiler.emit.python_names import WIDTH, items_of, words, wrapped

Path = tuple[str, ...]

_MANY = 5
"""So many classes that differ in one size become one class: fewer read better side by side."""
_NUMBER = re.compile(r"(?<![\w.\0])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?(?![\w.\0])", re.ASCII)
_REFERENCE = re.compile(r"\0(\d+)\0\(([^()]*)\)")
_HEAD = "    def __init__(self) -> None:"


@dataclass(eq=False)
class ClassText:
    """A class of the text, with all the scopes that it stands for.

    ``body`` are its lines below the docstring; other classes stand in it by number, see
    ``reference``. ``argument`` is what this class's scopes give to the parameter of ``merged``.
    """

    body: tuple[str, ...]
    number: int
    base: str = "nn.Module"
    paths: list[Path] = field(default_factory=list)
    flows: set[str] = field(default_factory=set)
    name: str = ""
    merged: ClassText | None = None
    argument: str = ""
    parameter: str = ""

    @property
    def reference(self) -> str:
        """An expression for an instance, until all classes have names."""
        return f"\0{self.number}\0()"


def merge(classes: Sequence[ClassText]) -> list[ClassText]:
    """The classes to write. Many that differ in nothing but one size become one."""
    while any(_merge_group(group, classes) for group in _groups(classes)):
        for item in classes:
            text = "\n".join(item.body)
            text = _REFERENCE.sub(lambda found: _merged(found, classes), text)
            item.body = tuple(text.split("\n"))
    return [item for item in classes if item.merged in (None, item)]


def _groups(classes: Sequence[ClassText]) -> list[list[ClassText]]:
    """Classes that differ in numbers alone: everywhere in the network, and in one scope."""
    everywhere: dict[object, list[ClassText]] = {}
    together: dict[object, list[ClassText]] = {}
    for item in classes:
        if item.merged is None:
            template, _ = _template(item.body)
            everywhere.setdefault(template, []).append(item)
            together.setdefault((template, item.paths[0][:-1]), []).append(item)
    return [group for group in (*everywhere.values(), *together.values()) if len(group) >= _MANY]


def _merge_group(group: Sequence[ClassText], classes: Sequence[ClassText]) -> bool:
    """Make the first class of a group stand for all, if they differ in one size."""
    if any(item.merged for item in group):
        return False
    first = group[0]
    template, _ = _template(first.body)
    columns = list(zip(*(_template(item.body)[1] for item in group), strict=True))
    varying = {column for column in columns if len(set(column)) > 1}
    if len(varying) != 1:
        return False
    (sizes,) = varying
    holes = [column == sizes for column in columns]
    first.parameter = _parameter("\n".join(template), holes.index(True), classes)
    kind = "int" if all(size.lstrip("-").isdigit() for size in sizes) else "float"
    pairs = zip(holes, columns, strict=True)
    body = _filled(template, (first.parameter if hole else column[0] for hole, column in pairs))
    first.body = (_HEAD.replace("self", f"self, {first.parameter}: {kind}"), *body[1:])
    for item, size in zip(group, sizes, strict=True):
        item.merged, item.argument = first, size
        if item is not first:
            first.paths += item.paths
            first.flows |= item.flows
    return True


def _merged(found: re.Match[str], classes: Sequence[ClassText]) -> str:
    """A reference to a class that was merged, as one to the class that stands for it now."""
    item = classes[int(found[1])]
    if item.merged is None or found[2]:
        return found[0]
    return f"\0{item.merged.number}\0({item.argument})"


def _template(body: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The lines with a hole for each number that a constructor gets, and the numbers."""
    end = body.index("")
    text = "\n".join(body[:end])
    return (*_NUMBER.sub("\1", text).split("\n"), *body[end:]), tuple(_NUMBER.findall(text))


def _filled(template: tuple[str, ...], values: Iterator[str]) -> tuple[str, ...]:
    return tuple(re.sub("\1", lambda _: next(values), "\n".join(template)).split("\n"))


def _parameter(template: str, hole: int, classes: Sequence[ClassText]) -> str:
    """A name for the size in a hole: the keyword before it, or what it is of a layer."""
    before = re.split("\1", template)[hole]
    if (label := re.search(r"(\w+)=$", before)) is not None:
        return label[1]
    if (inner := re.search(r"\0(\d+)\0\($", before)) is not None:
        return classes[int(inner[1])].parameter
    if re.search(r"Drop(out|Path)\($", before) is not None:
        return "p"
    return "channels" if re.search(r"(Conv2d|Norm\dd|Linear)\($", before) else "size"


def class_text(item: ClassText, classes: Sequence[ClassText]) -> str:
    """The text of a class, when all classes have names."""

    def instance(found: re.Match[str]) -> str:
        return f"{classes[int(found[1])].name}({found[2]})"

    first = ".".join(map(words, item.paths[0])) or "The network"
    if len(item.paths) > 1:
        first += f" and {len(item.paths) - 1} more like it"
    flow = next(iter(item.flows)) if len(item.flows) == 1 else ""
    doc = [f'    """{first}{": " if flow else ""}{flow}."""']
    if len(doc[0]) > WIDTH:
        doc = [f'    """{first}.', "", f"    {flow}", '    """']
    parameters = {made.merged.name: made.merged.parameter for made in classes if made.merged}
    lines = [
        f"class {item.name}({item.base}):",
        *doc,
        "",
        *(_ranged(_REFERENCE.sub(instance, line), parameters) for line in item.body),
    ]
    return "\n".join(wrapped(lines))


def _ranged(line: str, parameters: dict[str, str]) -> str:
    """A list of ``Block(64), Block(96), Block(128)`` as a comprehension."""
    found = re.fullmatch(r"(.*nn\.ModuleList\(\[)(.*)(\]\))", line)
    if found is None:
        return line
    result: list[str] = []
    items = items_of(found[2])
    sizes = [re.fullmatch(r"(\w+)\((\d+)\)", item) for item in items]
    index = 0
    while index < len(items):
        run = _progression(sizes[index:])
        match = sizes[index]
        if len(run) > 2 and match is not None and match[1] in parameters:
            name, step = parameters[match[1]], run[1] - run[0]
            numbers = f"range({run[0]}, {run[-1] + step}, {step})"
            result.append(f"*({match[1]}({name}) for {name} in {numbers})")
        else:
            run = run[:1]
            result.append(items[index])
        index += max(1, len(run))
    if len(result) == 1 and result[0].startswith("*("):
        return f"{found[1][:-1]}{result[0][2:-1]}{found[3][1:]}"
    return f"{found[1]}{', '.join(result)}{found[3]}"


def _progression(sizes: Sequence[re.Match[str] | None]) -> list[int]:
    """The sizes of the first items as far as they have one class and grow by one step."""
    run: list[int] = []
    first = sizes[0]
    for match in sizes:
        if match is None or first is None or match[1] != first[1]:
            break
        size = int(match[2])
        if (len(run) > 1 and size - run[-1] != run[1] - run[0]) or (run and size <= run[-1]):
            break
        run.append(size)
    return run
