"""`use`: files, the standard library, names, cycles and clashes; and files that are not specs."""

import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from danetc.dsl import loading
from danetc.dsl.diagnostics.diagnostic import Diagnostic, Reporter, SpecError, render, render_all
from danetc.dsl.loading import Module, library_file, load_module, standard, std_files
from danetc.dsl.reading import (
    LANGUAGE,
    MAX_FILE_BYTES,
    find_spec,
    read_source,
    shipped_specs,
    zoo_files,
)
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.printer import format_source
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tree import walk
from danetc.dsl.work import bounded

NEURON = "neuron {name} {{\n  s = heaviside(x - 1)\n}}\n"
A, N, LIF = (NEURON.format(name=name) for name in ("A", "N", "LIF"))


def load(folder: Path, **texts: str) -> tuple[Module, list[Diagnostic]]:
    """Writes each ``name=text`` to name.danet and loads main.danet."""
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


def test_names_come_with_their_modules() -> None:
    module, errors = loaded(f"use std (LIF, resnet50)\n{N}")
    assert not errors
    assert set(module.names) == {"LIF", "resnet50", "N"}
    again = loaded("use std\n")[0].names
    assert again["LIF"].declaration is module.names["LIF"].declaration
    for name, found in again.items():
        assert (found.declaration.name, found.module.own[name]) == (name, found.declaration)


@pytest.mark.parametrize("source", std_files(), ids=lambda source: source.name)
def test_a_std_file_in_parts_is_the_file_as_a_whole(source: SourceFile) -> None:
    reporter = Reporter()
    whole = parse(source, reporter)
    assert not reporter.diagnostics
    module = next(found.module for found in standard().values() if found.module.source is source)
    places, wanted = (  # equality of nodes ignores places
        [(node, node.span, getattr(node, "name_span", None)) for node in (*walk(it), *it.comments)]
        for it in (module.program, whole)
    )
    assert places == wanted
    assert [*module.own.items()] == [(item.name, item) for item in whole.declarations]
    load_module(library_file(source), reporter)  # type: ignore[arg-type]
    assert not reporter.diagnostics


def test_paths_are_relative_to_the_file_that_uses_them(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    texts = {"lib/a": 'use "b.danet"\nuse "../c.danet"\n', "lib/b": NEURON.format(name="B")}
    main = 'use "lib/a.danet"\nuse "lib/b.danet"\n'
    module, errors = load(tmp_path, main=main, c=NEURON.format(name="C"), **texts)
    assert not errors
    assert set(module.names) == {"B"}
    assert module.names["B"].module.source.name == str(tmp_path / "lib" / "b.danet")


def test_one_file_by_two_ways_is_loaded_once_and_does_not_clash(tmp_path: Path) -> None:
    main = 'use "b.danet"\nuse "a.danet"\nuse "./b.danet" (B)\n'
    module, errors = load(tmp_path, main=main, a=f'use "b.danet"\n{A}', b=NEURON.format(name="B"))
    assert not errors
    inner = module.names["A"].module.names["B"]
    assert inner.declaration is module.names["B"].declaration
    assert inner.module is module.names["B"].module


# -- errors ----------------------------------------------------------------------------------------


CHAIN = {f"f{number}": f'use "f{number + 1}.danet"\n' for number in range(300)}
NETWORK = "network N {\n}\n"
TWO_OF_A_NAME = 'use "a.danet" (N)\nuse "b.danet" (N)\n'
ERRORS: dict[str, tuple[dict[str, str], str, list[str], str]] = {
    # files, code of the error, each place that it shows, part of its message or hint
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
    one(load(tmp_path, main='use std\nuse "a.danet"\n', a=recipe)[1], "E0204")
    one(load(tmp_path, main=f"use std\n{recipe.replace('digits', 'LIF')}")[1], "E0204")


def test_a_network_may_have_the_name_of_its_neuron(tmp_path: Path) -> None:
    for main, *files in (
        [NETWORK + N],
        [N + NETWORK],
        [f'use "a.danet"\n{NETWORK}', N],
        [f'use "a.danet"\n{N}', NETWORK],
        [TWO_OF_A_NAME, NETWORK, N],
        [TWO_OF_A_NAME, N, NETWORK],
        ['use "a.danet" (N)\n', NETWORK + N],
        ['use "a.danet"\n', NETWORK + N],
    ):
        others = dict(zip("ab", files, strict=False))
        module, errors = load(
            tmp_path, main=f"{main}network other = N {{ neuron = N }}\n", **others
        )
        assert errors == [], (main, files)
        kinds = module.names["N"].declaration.kind, module.resolve("other").base.declaration.kind
        assert kinds == ("neuron", "network"), (main, files)


def test_files_of_the_zoo_from_any_folder(tmp_path: Path) -> None:
    text = "use zoo.tokens (mlp)\nuse zoo.vit\n"
    module, errors = load(tmp_path, main=text)
    assert errors == []
    assert {"mlp", "vit", "encoder"} < module.names.keys()
    assert format_source(module.program) == text
    folder = Path(loading.__file__).resolve().parents[1] / "specs/zoo"
    assert len(zoo_files()) == len([*folder.rglob("*.danet")]), "no two files have one name"


def test_a_circle_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "other.danet").symlink_to(tmp_path / "main.danet")
    one(load(tmp_path, main='use "other.danet"\n')[1], "E0203")


def test_names_that_an_error_excuses(tmp_path: Path) -> None:
    module, _ = load(tmp_path, main='use "missing.danet" (A)\n')
    assert (module.excuses("A"), module.excuses("B")) == (True, False)
    module, errors = loaded("use std (LFI, resnet18)\n")
    assert one(errors, "E0205").span.text == "LFI"
    assert [module.excuses(name) for name in ("LFI", "LIF", "resnet50")] == [True, True, False]
    assert load(tmp_path, main='use "missing.danet"\n')[0].excuses("anything")


def test_errors_of_an_imported_file_stand_there_once(tmp_path: Path) -> None:
    main, wrong = 'use "a.danet" (A, Lost)\nuse "b.danet"\n', "neuron Lost { s = ) }\n"
    module, errors = load(tmp_path, main=main, a=A + wrong, b='use "a.danet"\n')
    assert {Path(item.span.source.name).name for item in errors} == {"a.danet"}
    assert all(item.code.startswith("E01") for item in errors)
    assert len({(item.code, item.span) for item in errors}) == len(errors)
    assert "A" in module.names
    assert module.excuses("Lost") or "Lost" in module.names


# -- files -----------------------------------------------------------------------------------------


def test_too_many_files_and_too_much_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {f"f{number}": "# " + "x" * 1000 + "\n" for number in range(5)}
    texts["main"] = "".join(f'use "{name}.danet"\n' for name in texts)
    for files, size in ((4, 10**6), (100, 3500)):
        monkeypatch.setattr(loading, "MAX_FILES", files)
        monkeypatch.setattr(loading, "MAX_TOTAL_SIZE", size)
        _, errors = load(tmp_path, **texts)
        assert [item.code for item in errors] == ["E0901"] * 2


def test_a_file_of_a_later_version_is_not_read_any_further(tmp_path: Path) -> None:
    """The file has no other error, and names imported from it are not reported as missing."""
    for line in (f"# danet {LANGUAGE}", "# danet 2 is not out yet", "#  a comment"):
        module, errors = loaded(f"{line}\n{N}")
        assert (errors, set(module.own)) == ([], {"N"})
    module, errors = loaded(f"# danet {LANGUAGE + 1}\nnetwork a {{ x = = }}\n")
    error = one(errors, "E0121")
    assert (error.span.line, error.span.text) == (1, str(LANGUAGE + 1))
    assert not module.complete
    lib = f"#danet {LANGUAGE + 1}\nnew words\n"
    _, errors = load(tmp_path, main='use "lib.danet" (N)\n', lib=lib)
    assert one(errors, "E0121").span.source.name.endswith("lib.danet")


# -- texts of specs --------------------------------------------------------------------------------


def failing(path: Path) -> Diagnostic:
    with pytest.raises(SpecError) as caught:
        read_source(path)
    assert str(path) in str(caught.value)
    (only,) = caught.value.diagnostics
    assert render(only)
    return only


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0", "E0202", ""),
        (b"network a\0b", "E0202", ""),
        ("# größer".encode("utf-16"), "E0202", ""),
        (b"\n# gr\xf6\xdfer\n", "E0202", "0xf6 in line 2"),
        (b"# " + b"x" * MAX_FILE_BYTES, "E0901", ""),
        (100 * 1024**3, "E0901", ""),  # a sparse file: reading all of it would fill the memory
    ],
)
def test_what_is_no_text(tmp_path: Path, data: bytes | int, code: str, words: str) -> None:
    path = tmp_path / "a.danet"
    with path.open("wb") as stream:
        stream.truncate(data) if isinstance(data, int) else stream.write(data)
    error = failing(path)
    assert error.code == code
    assert words in error.message


def test_folders_and_missing_files(tmp_path: Path) -> None:
    assert failing(tmp_path).code == "E0202"
    assert failing(tmp_path / "a" / "b.danet").hint == f"there is no folder `{tmp_path}/a` either"
    error = failing(tmp_path / "a.danet")
    shown = [f"error[E0201]: {error.message}", f" --> {tmp_path}/a.danet"]
    assert render(error).splitlines() == shown


# -- files that are not specs --------------------------------------------------------------------


def test_only_files_that_end_in_danet_are_opened_and_quoted(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2 = {{{")
    (tmp_path / "link.danet").symlink_to(tmp_path / "secret")
    (tmp_path / "good.danet").write_text("use std")
    (tmp_path / "other.danet").symlink_to(tmp_path / "good.danet")
    for name, says in [("secret", "does not end in"), ("link.danet", "is a link to a file that")]:
        error = failing(tmp_path / name)
        assert error.code == "E0202"
        assert says in error.message
    assert read_source(tmp_path / "other.danet").text == "use std"
    reporter = Reporter()
    for name in ("secret", "link.danet", f"{tmp_path}/secret"):
        load_module(SourceFile(str(tmp_path / "spec.danet"), f'use "{name}"'), reporter)
    assert [item.code for item in reporter.diagnostics] == ["E0202"] * 3
    assert "hunter2" not in render_all(reporter.diagnostics)


LINKS = {
    "fifo": None,
    "link to fifo": "real.danet",
    "link to device": "/dev/zero",
    "link to endless /proc file": "/proc/kmsg",
    "link to itself": "bad.danet",
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs on this system")
@pytest.mark.parametrize("kind", LINKS)
def test_only_files_are_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Other files are opened neither as the spec nor by `use`: opening a FIFO could block forever."""
    bad = tmp_path / "bad.danet"
    target = LINKS[kind]
    if "fifo" in kind:
        os.mkfifo(tmp_path / (target or "bad.danet"))
    if target is not None:
        bad.symlink_to(tmp_path / target)  # an absolute target is unchanged
    standard()  # load the library before opened files are counted
    opened = Mock(wraps=os.open)
    monkeypatch.setattr(os, "open", opened)
    assert failing(bad).code in ("E0201", "E0202")
    reporter = Reporter()
    spec = SourceFile(str(tmp_path / "spec.danet"), 'use "bad.danet"')
    load_module(spec, reporter)
    (error,) = reporter.diagnostics
    assert error.code in ("E0201", "E0202")
    assert error.span.source is spec
    opened.assert_not_called()


# -- shipped specs ---------------------------------------------------------------------------------


def test_specs_by_path_and_then_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "danet_c_r50").mkdir()  # a build folder of the same name does not hide the spec
    assert find_spec("danet_c_r50") == shipped_specs()["danet_c_r50"]
    (tmp_path / "mine.danet").write_text("")
    assert find_spec("mine.danet") == Path("mine.danet")


def test_missing_specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.danet").write_text("")
    for name, hint in (
        ("danet_cr50", "did you mean `danet_c_r50`?"),
        ("danet_c_r50x.danet", "did you mean `danet_c_r50`?"),
        ("min", "did you mean `mine.danet`?"),
        ("mien.danet", "did you mean `mine.danet`?"),
        *((name, None) for name in ("a\0b", "x" * 5000, "", ".", "__import__('os')")),
    ):
        with pytest.raises(SpecError) as caught:
            find_spec(name)
        (only,) = caught.value.diagnostics
        assert hint is None or (only.code, only.hint) == ("E0201", hint)
