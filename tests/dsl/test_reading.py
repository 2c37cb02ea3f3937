"""Texts of specs: what is no text, what is not there, what comes with the package."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Reporter, SpecError, render, render_all
from danetc.dsl.loading import load_module, standard
from danetc.dsl.reading import MAX_FILE_BYTES, find_spec, read_source, shipped_specs
from danetc.dsl.syntax.source import SourceFile


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
    ],
)
def test_what_is_no_text(tmp_path: Path, data: bytes, code: str, words: str) -> None:
    path = tmp_path / "a.danet"
    path.write_bytes(data)
    error = failing(path)
    assert error.code == code
    assert words in error.message


def test_folders_and_missing_files(tmp_path: Path) -> None:
    assert failing(tmp_path).code == "E0202"
    assert failing(tmp_path / "a" / "b.danet").hint == f"there is no folder `{tmp_path}/a` either"
    error = failing(tmp_path / "a.danet")
    shown = [f"error[E0201]: {error.message}", f" --> {tmp_path}/a.danet"]
    assert render(error).splitlines() == shown


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.danet"
    with path.open("wb") as stream:
        stream.truncate(100 * 1024**3)  # sparse: reading it all would fill the memory
    assert failing(path).code == "E0901"


# -- files that are no specs ---------------------------------------------------------------------


def test_only_files_that_end_in_danet_are_opened(tmp_path: Path) -> None:
    (tmp_path / "passwd").write_text("root:x:0:0")
    (tmp_path / "link.danet").symlink_to(tmp_path / "passwd")
    (tmp_path / "good.danet").write_text("use std")
    (tmp_path / "other.danet").symlink_to(tmp_path / "good.danet")
    for name, says in [("passwd", "does not end in"), ("link.danet", "is a link to a file that")]:
        error = failing(tmp_path / name)
        assert error.code == "E0202"
        assert says in error.message
    assert read_source(tmp_path / "other.danet").text == "use std"
    # a shipped spec is not hidden by a file of its name that is no spec
    assert find_spec("danet_c_r50") == shipped_specs()["danet_c_r50"]


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
    """Neither as the spec nor by `use`: opening one could wait for ever."""
    bad = tmp_path / "bad.danet"
    target = LINKS[kind]
    if "fifo" in kind:
        os.mkfifo(tmp_path / (target or "bad.danet"))
    if target is not None:
        bad.symlink_to(tmp_path / target)  # an absolute target stays as it is
    standard()  # reads the files of the library
    opened: list[str] = []
    really = os.open

    def watched(path: str, *rest: int) -> int:
        opened.append(str(path))
        return really(path, *rest)

    monkeypatch.setattr(os, "open", watched)
    assert failing(bad).code in ("E0201", "E0202")
    reporter = Reporter()
    spec = SourceFile(str(tmp_path / "spec.danet"), 'use "bad.danet"')
    load_module(spec, reporter)
    (error,) = reporter.diagnostics
    assert error.code in ("E0201", "E0202")
    assert error.span.source is spec
    assert opened == []


def test_no_excerpt_shows_a_file_that_is_no_spec(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2 = {{{")
    (tmp_path / "secret.danet").symlink_to(tmp_path / "secret")
    reporter = Reporter()
    for name in ("secret", "secret.danet", f"{tmp_path}/secret"):
        load_module(SourceFile(str(tmp_path / "spec.danet"), f'use "{name}"'), reporter)
    assert [item.code for item in reporter.diagnostics] == ["E0202"] * 3
    assert "hunter2" not in render_all(reporter.diagnostics)


# -- shipped specs ---------------------------------------------------------------------------------


def test_specs_by_path_and_then_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "danet_c_r50").mkdir()  # a build folder of that name does not hide the spec
    assert find_spec("danet_c_r50") == shipped_specs()["danet_c_r50"]
    (tmp_path / "mine.danet").write_text("")
    assert find_spec("mine.danet") == Path("mine.danet")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("danet_cr50", "did you mean `danet_c_r50`?"),
        ("danet_c_r50x.danet", "did you mean `danet_c_r50`?"),
        ("min", "did you mean `mine.danet`?"),
        ("mien.danet", "did you mean `mine.danet`?"),
    ],
)
def test_missing_spec(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.danet").write_text("")
    with pytest.raises(SpecError) as caught:
        find_spec(name)
    (only,) = caught.value.diagnostics
    assert (only.code, only.hint) == ("E0201", hint)


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "", ".", "__import__('os')"])
def test_names_that_no_file_has(name: str) -> None:
    with pytest.raises(SpecError):
        find_spec(name)
