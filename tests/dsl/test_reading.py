"""Texts of specs: what is no text, what is not there, what comes with the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from danetc.dsl.diagnostics import Diagnostic, SpecError, render
from danetc.dsl.reading import MAX_FILE_BYTES, find_spec, read_source, shipped_specs


def failing(path: Path) -> Diagnostic:
    with pytest.raises(SpecError) as caught:
        read_source(path)
    assert str(path) in str(caught.value)
    (only,) = caught.value.diagnostics
    assert render(only)
    return only


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\0", "E0202"),
        (b"network a\0b", "E0202"),
        ("# größer".encode("utf-16"), "E0202"),
        (b"# " + b"x" * MAX_FILE_BYTES, "E0901"),
    ],
)
def test_what_is_no_text(tmp_path: Path, data: bytes, code: str) -> None:
    path = tmp_path / "a.danet"
    path.write_bytes(data)
    assert failing(path).code == code


def test_the_line_of_a_wrong_byte_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.danet"
    path.write_bytes(b"# one\n# gr\xf6\xdfer\n")
    assert "0xf6 in line 2" in failing(path).message


def test_folders_and_missing_files(tmp_path: Path) -> None:
    assert failing(tmp_path).code == "E0202"
    assert failing(tmp_path / "a.danet").code == "E0201"
    assert failing(tmp_path / "a" / "b.danet").hint == f"there is no folder `{tmp_path}/a` either"


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.danet"
    with path.open("wb") as stream:
        stream.truncate(100 * 1024**3)  # sparse: reading it all would fill the memory
    assert failing(path).code == "E0901"


def test_a_file_without_text_is_shown_by_its_name_alone(tmp_path: Path) -> None:
    error = failing(tmp_path / "a.danet")
    assert render(error).splitlines() == [
        f"error[E0201]: {error.message}",
        f" --> {tmp_path}/a.danet",
    ]


# -- shipped specs ---------------------------------------------------------------------------------


def test_a_spec_is_found_by_path_first_and_by_name_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
def test_a_spec_that_is_not_there(
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
