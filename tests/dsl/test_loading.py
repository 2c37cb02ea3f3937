"""`use`: files, the standard library, names, circles and clashes."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from danetc.dsl import loading
from danetc.dsl.diagnostics.diagnostic import Diagnostic, Reporter, render
from danetc.dsl.loading import Module, library_file, load_module, standard, std_files
from danetc.dsl.reading import LANGUAGE, zoo_files
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.printer import format_source
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tree import Program, walk
from danetc.dsl.work import bounded
from tests.tables import each_of

NEURON = "neuron {name} {{\n  s = heaviside(x - 1)\n}}\n"


def load(folder: Path, **texts: str) -> tuple[Module, list[Diagnostic]]:
    """Writes ``name=text`` as name.danet and loads main.danet."""
    for name, text in texts.items():
        (folder / f"{name}.danet").write_text(text, encoding="utf-8")
    reporter = Reporter()
    return load_module(folder / "main.danet", reporter), reporter.diagnostics


def one(diagnostics: list[Diagnostic], code: str) -> Diagnostic:
    assert [item.code for item in diagnostics] == [code]
    assert render(diagnostics[0])
    return diagnostics[0]


def loaded(text: str) -> tuple[Module, list[Diagnostic]]:
    reporter = Reporter()
    return load_module(SourceFile("main.danet", text), reporter), reporter.diagnostics


# -- names -----------------------------------------------------------------------------------------


def test_own_names_come_with_their_module() -> None:
    module, errors = loaded(NEURON.format(name="N"))
    assert not errors
    found = module.names["N"]
    assert found.module is module
    assert found.declaration is module.program.declarations[0]


def test_std_names_resolve_in_std() -> None:
    module, errors = loaded("use std\n")
    assert not errors
    backbone = module.names["resnet50"]
    assert backbone.declaration.kind == "backbone"
    assert backbone.module.source.name == "std/backbones.danet"
    assert backbone.module.names["bottleneck"].declaration.kind == "block"


def test_std_declarations_are_the_same_objects_in_every_load() -> None:
    first, second = loaded("use std\n")[0], loaded("use std (LIF)\n")[0]
    assert first.names["LIF"].declaration is second.names["LIF"].declaration


def test_declarations_of_std_are_parsed_when_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loading, "_std", cache(loading._Std))
    parsed: list[str] = []
    parse = loading.parse

    def counting(source: SourceFile, reporter: Reporter, part: Span | None = None) -> Program:
        program = parse(source, reporter, part)
        parsed.extend([source.name, *(item.name for item in program.declarations)])
        return program

    monkeypatch.setattr(loading, "parse", counting)
    module, _ = loaded("use std\n")
    assert parsed == ["main.danet"]
    found = [module.names[name] for name in ("LIF", "PLIF", "LIF")]
    assert found[0].declaration is found[2].declaration
    assert parsed[1:] == ["std/neurons.danet", "LIF", "std/neurons.danet", "PLIF"]
    parsed.clear()
    assert "bottleneck" in module.names["resnet50"].module.names
    assert parsed == ["std/backbones.danet", "resnet50"]


def test_every_std_name_is_declared_where_the_scan_finds_it() -> None:
    module, _ = loaded("use std\n")
    for name, found in module.names.items():
        assert found.declaration.name == name
        assert found.declaration.span.source is found.module.source
        assert found.declaration is found.module.own[name]


def places(program: Program) -> list[tuple[object, ...]]:
    """All nodes and comments of a tree with where they stand, which is no part of equality."""
    nodes = [*walk(program), *program.comments]
    return [(node, node.span, getattr(node, "name_span", None)) for node in nodes]


@pytest.mark.parametrize("source", std_files(), ids=lambda source: source.name)
def test_a_std_file_in_parts_is_the_file_as_a_whole(source: SourceFile) -> None:
    reporter = Reporter()
    whole = parse(source, reporter)
    assert not reporter.diagnostics
    module = next(found.module for found in standard().values() if found.module.source is source)
    assert places(module.program) == places(whole)
    assert list(module.own) == [item.name for item in whole.declarations]
    assert tuple(module.own.values()) == whole.declarations
    path = library_file(source)
    assert path is not None
    load_module(path, reporter)
    assert not reporter.diagnostics


def test_a_list_of_names_brings_those_alone() -> None:
    module, errors = loaded("use std (LIF, resnet18)\n")
    assert not errors
    assert set(module.names) == {"LIF", "resnet18"}


def test_a_file_gives_its_own_declarations_and_not_what_it_uses(tmp_path: Path) -> None:
    module, errors = load(tmp_path, main='use "a.danet"\n', a="use std\n" + NEURON.format(name="A"))
    assert not errors
    assert set(module.names) == {"A"}
    assert "LIF" in module.names["A"].module.names


def test_paths_are_relative_to_the_file_that_uses_them(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "a.danet").write_text('use "b.danet"\nuse "../c.danet"\n')
    (tmp_path / "lib" / "b.danet").write_text(NEURON.format(name="B"))
    (tmp_path / "c.danet").write_text(NEURON.format(name="C"))
    module, errors = load(tmp_path, main='use "lib/a.danet"\nuse "lib/b.danet"\n')
    assert not errors
    assert set(module.names) == {"B"}
    assert module.names["B"].module.source.name == str(tmp_path / "lib" / "b.danet")


def test_one_file_by_two_ways_is_loaded_once_and_does_not_clash(tmp_path: Path) -> None:
    module, errors = load(
        tmp_path,
        main='use "b.danet"\nuse "a.danet"\nuse "./b.danet" (B)\n',
        a='use "b.danet"\n' + NEURON.format(name="A"),
        b=NEURON.format(name="B"),
    )
    assert not errors
    inner = module.names["A"].module.names["B"]
    assert inner.declaration is module.names["B"].declaration
    assert inner.module is module.names["B"].module


# -- errors ----------------------------------------------------------------------------------------


A, N = NEURON.format(name="A"), NEURON.format(name="N")
CHAIN = {f"f{number}": f'use "f{number + 1}.danet"\n' for number in range(300)}
LIF = NEURON.format(name="LIF")
NETWORK = "network N {\n}\n"
TWO_OF_A_NAME = 'use "a.danet" (N)\nuse "b.danet" (N)\n'
ERRORS: dict[str, tuple[dict[str, str], str, list[str], str]] = {
    # files: its code, each place that it shows, a part of its message or hint
    "a missing file with a similar one beside it": (
        {"main": 'use "blokcs.danet"\n', "blocks": ""},
        "E0201", ["main.danet:1"], "did you mean `blocks.danet`?",
    ),
    "a file missing by two ways": (
        {"main": 'use "a.danet"\nuse "gone.danet"\n', "a": 'use "gone.danet"\n'},
        "E0201", ["a.danet:1"], "gone.danet",
    ),
    "an unknown name of a list": (
        {"main": "use std (LFI, resnet18)\n"}, "E0205", ["main.danet:1"], "did you mean `LIF`?",
    ),
    "an unknown library": ({"main": "use stdd\n"}, "E0207", ["main.danet:1"], "did you mean `std`?"),
    "an unknown file of the zoo": (
        {"main": "use zoo.tokns\n"}, "E0207", ["main.danet:1"], "did you mean `zoo.tokens`?",
    ),
    "the zoo as a whole": ({"main": "use zoo\n"}, "E0207", ["main.danet:1"], "`use zoo.tokens`"),
    "a path with the name of a library": ({"main": 'use "zoo.tokens"\n'}, "E0201", ["main.danet:1"], ""),
    "a network twice, beside a neuron": (
        {"main": f"{NETWORK}{N}{NETWORK}"}, "E0206", ["main.danet:6", "main.danet:1"], "N",
    ),
    "two imported networks, one of them beside a neuron": (
        {"main": TWO_OF_A_NAME, "a": NETWORK + N, "b": f"\n{NETWORK}"},
        "E0204", ["main.danet:2", "b.danet:2", "main.danet:1", "a.danet:1"], "N",
    ),
    "an own network, and another beside a neuron": (
        {"main": f'use "a.danet"\n{NETWORK}', "a": NETWORK + N},
        "E0204", ["main.danet:2", "main.danet:1", "a.danet:1"], "N",
    ),
    "a path without quotes": (
        {"main": "use blocks\n", "blocks": ""}, "E0207", ["main.danet:1"], '`use "blocks.danet"`',
    ),
    "a circle": (
        {"main": 'use "a.danet"\n', "a": 'use "b.danet"\n', "b": '\nuse "main.danet"\n'},
        "E0203", ["b.danet:2", "a.danet:1", "main.danet:1"], "",
    ),
    "a file that uses itself": (
        {"main": 'use "./main.danet"\n'}, "E0203", ["main.danet:1"], "the file uses itself",
    ),
    "an own declaration and a taken one": (
        {"main": f"use std\n{LIF}"}, "E0204", ["main.danet:2", "main.danet:1", "neurons.danet"], "LIF",
    ),
    "two taken declarations": (
        {"main": TWO_OF_A_NAME, "a": N, "b": f"\n{N}"},
        "E0204", ["main.danet:2", "b.danet:2", "main.danet:1", "a.danet:1"], "N",
    ),
    "two declarations of one name": (
        {"main": f"{N}rule N {{\n  in[i] = out[i - 1]\n}}\n"},
        "E0206", ["main.danet:4", "main.danet:1"], "N",
    ),
    "a long chain": ({"main": 'use "f0.danet"\n', **CHAIN}, "E0901", ["f48.danet:1"], "50 files"),
}  # fmt: skip


def test_errors(tmp_path: Path) -> None:
    for number, (title, (texts, code, places, words)) in enumerate(ERRORS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        error = one(load(folder, **texts)[1], code)
        spans = [error.span, *(label.span for label in error.labels)]
        found = [f"{Path(span.source.name).name}:{span.line}" for span in spans]
        assert len(found) == len(places), (title, found)
        assert all(map(str.startswith, found, places)), (title, found)
        assert words in f"{error.message} {error.hint}", title


def test_imported_names_are_work() -> None:
    with bounded() as work:
        loaded("use std\n")
    assert len(standard()) <= work.steps < len(standard()) + 100


def test_a_recipe_of_the_file_shadows_that_of_std(tmp_path: Path) -> None:
    recipe = "recipe digits { epochs = 1; optimizer = sgd(lr = 0.1) }\n"
    for use in ("use std\n", "use std (digits)\n"):
        module, errors = load(tmp_path, main=use + recipe)
        assert errors == []
        assert module.names["digits"].module is module
    _, errors = load(tmp_path, main='use std\nuse "a.danet"\n', a=recipe)
    one(errors, "E0204")
    _, errors = load(tmp_path, main=f"use std\n{recipe.replace('digits', 'LIF')}")
    one(errors, "E0204")


@pytest.mark.parametrize(
    "texts",
    [
        {"main": NETWORK + N},
        {"main": N + NETWORK},
        {"main": f'use "a.danet"\n{NETWORK}', "a": N},
        {"main": f'use "a.danet"\n{N}', "a": NETWORK},
        {"main": TWO_OF_A_NAME, "a": NETWORK, "b": N},
        {"main": TWO_OF_A_NAME, "a": N, "b": NETWORK},
        {"main": 'use "a.danet" (N)\n', "a": NETWORK + N},
        {"main": 'use "a.danet"\n', "a": NETWORK + N},
    ],
)
def test_a_network_may_have_the_name_of_its_neuron(texts: dict[str, str], tmp_path: Path) -> None:
    variant = "network other = N {\n  neuron = N\n}\n"
    module, errors = load(tmp_path, **{**texts, "main": texts["main"] + variant})
    assert errors == []
    assert module.names["N"].declaration.kind == "neuron"
    base = module.resolve("other").base
    assert base is not None
    assert base.declaration.kind == "network"


def test_files_of_the_zoo_from_any_folder(tmp_path: Path) -> None:
    text = "use zoo.tokens (mlp)\nuse zoo.vit\n"
    module, errors = load(tmp_path, main=text)
    assert errors == []
    assert {"mlp", "vit", "encoder"} < module.names.keys()
    assert format_source(module.program) == text
    folder = Path(loading.__file__).resolve().parents[1] / "specs/zoo"
    assert len(zoo_files()) == len([*folder.rglob("*.danet")]), "no two files have one name"


def test_names_that_an_error_excuses(tmp_path: Path) -> None:
    """They are no second error where they are used, and neither is what was meant by one."""
    module, _ = load(tmp_path, main='use "missing.danet" (A)\n')
    assert (module.excuses("A"), module.excuses("B")) == (True, False)
    module, errors = loaded("use std (LFI, resnet18)\n")
    assert one(errors, "E0205").span.text == "LFI"
    assert [module.excuses(name) for name in ("LFI", "LIF", "resnet50")] == [True, True, False]
    assert load(tmp_path, main='use "missing.danet"\n')[0].excuses("anything")


def test_a_circle_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "other.danet").symlink_to(tmp_path / "main.danet")
    _, errors = load(tmp_path, main='use "other.danet"\n')
    one(errors, "E0203")


def test_errors_of_an_imported_file_stand_there_once(tmp_path: Path) -> None:
    main, wrong = 'use "a.danet" (A, Lost)\nuse "b.danet"\n', "neuron Lost { s = ) }\n"
    module, errors = load(tmp_path, main=main, a=A + wrong, b='use "a.danet"\n')
    assert {Path(item.span.source.name).name for item in errors} == {"a.danet"}
    assert all(item.code.startswith("E01") for item in errors)
    assert len({(item.code, item.span) for item in errors}) == len(errors)
    assert "A" in module.names
    assert module.excuses("Lost") or "Lost" in module.names


# -- files -----------------------------------------------------------------------------------------


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "a.danet"
    path.write_bytes(b"\xef\xbb\xbf" + NEURON.format(name="N").encode())
    reporter = Reporter()
    assert set(load_module(path, reporter).names) == {"N"}
    assert not reporter.diagnostics


def test_a_binary_file_that_is_used(tmp_path: Path) -> None:
    (tmp_path / "a.danet").write_bytes(b"\xff\xfe\0")
    _, errors = load(tmp_path, main='use "a.danet"\n')
    assert one(errors, "E0202").span.source.name == str(tmp_path / "main.danet")


def test_too_many_files_and_too_much_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        (tmp_path / f"f{number}.danet").write_text("# " + "x" * 1000 + "\n")
    uses = "".join(f'use "f{number}.danet"\n' for number in range(5))
    monkeypatch.setattr(loading, "MAX_FILES", 4)
    _, errors = load(tmp_path, main=uses)
    assert {item.code for item in errors} == {"E0901"}
    monkeypatch.setattr(loading, "MAX_FILES", 100)
    monkeypatch.setattr(loading, "MAX_TOTAL_SIZE", 3500)
    _, errors = load(tmp_path, main=uses)
    assert len(errors) == 2
    assert {item.code for item in errors} == {"E0901"}


def test_a_file_of_a_later_version_is_not_read_any_further(tmp_path: Path) -> None:
    """Nothing else of it is an error, and names that it was to give are excused."""
    module, errors = loaded(f"# danet {LANGUAGE + 1}\nnetwork a {{ x = = }}\n")
    error = one(errors, "E0121")
    assert (error.span.line, error.span.text) == (1, str(LANGUAGE + 1))
    assert not module.complete
    _, errors = load(
        tmp_path, main='use "lib.danet" (N)\n', lib=f"#danet {LANGUAGE + 1}\nnew words\n"
    )
    assert one(errors, "E0121").span.source.name.endswith("lib.danet")


@each_of([f"# danet {LANGUAGE}", "# danet 2 is not out yet", "#  a comment"])
def test_files_of_this_version_are_read(line: str) -> None:
    module, errors = loaded(f"{line}\n{NEURON.format(name='N')}")
    assert not errors
    assert set(module.own) == {"N"}
