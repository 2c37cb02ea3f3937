"""check, fmt, explain, summary and draw."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

from danetc.commands.explain import LISTS
from danetc.vocabulary import TOPICS

from .conftest import SMALL, Run

WRONG = SMALL.replace("LIF", "LFI").replace("origin", "orgin")


def give_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


# -- check -----------------------------------------------------------------------------------------


def test_check_is_quiet_about_good_specs(danetc: Run, small: Path) -> None:
    result = danetc("check", small, "danet_c_r18")
    assert (result.status, result.err) == (0, "")
    assert "no errors" in result.out


def test_check_shows_every_error_of_every_file(danetc: Run, tmp_path: Path, small: Path) -> None:
    (tmp_path / "a.danet").write_text(WRONG)
    (tmp_path / "b.danet").write_text("network {")
    result = danetc("check", "a.danet", small, "b.danet", "missing.danet")
    assert result.status == 1
    assert result.out == ""
    for place in ("a.danet:6:12", "a.danet:9:35", "b.danet:1:", "missing.danet"):
        assert place in result.err
    assert "did you mean `LIF`?" in result.err
    assert "`danetc explain E" in result.err


def test_check_json_is_a_list_of_objects(danetc: Run, tmp_path: Path, small: Path) -> None:
    (tmp_path / "a.danet").write_text(WRONG)
    result = danetc("check", "--json", "a.danet", small)
    assert (result.status, result.err) == (1, "")
    found = json.loads(result.out)
    assert [(item["path"], item["line"], item["column"]) for item in found] == [
        ("a.danet", 6, 12),
        ("a.danet", 9, 35),
    ]
    for item in found:
        assert {"code", "message", "path", "line", "column", "end", "hint"} <= item.keys()
    assert found[0]["end"] == {"line": 6, "column": 15}
    good = danetc("check", "--json", small)
    assert (good.status, json.loads(good.out)) == (0, [])


def test_what_two_files_use_is_reported_once(danetc: Run, tmp_path: Path) -> None:
    (tmp_path / "shared.danet").write_text("block wrong(")
    for name in "ab":
        (tmp_path / f"{name}.danet").write_text(f'use "shared.danet"\n{SMALL}')
    result = danetc("check", "--json", "a.danet", "b.danet")
    places = [(item["path"], item["line"], item["column"]) for item in json.loads(result.out)]
    assert len(places) == len(set(places)) == 1


def test_check_reads_standard_input(danetc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    give_input(monkeypatch, SMALL.encode())
    assert danetc("check", "-").status == 0
    give_input(monkeypatch, WRONG.encode())
    result = danetc("check", "-")
    assert result.status == 1
    assert "<stdin>:6:12" in result.err


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"\x7fELF" + bytes(200), b"# \n" * 500_000])
def test_junk_is_a_clear_error(
    danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    (tmp_path / "junk.danet").write_bytes(data)
    for command in ("check", "fmt", "build", "summary"):
        assert danetc(command, "junk.danet").status == 1
    give_input(monkeypatch, data)
    assert danetc("check", "-").status == 1
    assert [path.name for path in tmp_path.iterdir()] == ["junk.danet"]


# -- fmt -------------------------------------------------------------------------------------------

UGLY = "use std\nnetwork  a{input=image(1,8,8);steps=1 # one\nneuron=IF}\n"


def test_fmt_rewrites_in_place_once(danetc: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.danet"
    path.write_text(UGLY)
    path.chmod(0o640)
    link = tmp_path / "link.danet"
    link.symlink_to(path)
    result = danetc("fmt", link)
    assert (result.status, result.out) == (0, "")
    assert "reformatted" in result.err
    new = path.read_text()
    assert new != UGLY
    assert "# one" in new
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert danetc("fmt", path).err == ""
    assert path.read_text() == new


def test_fmt_check_and_diff_change_nothing(danetc: Run, tmp_path: Path) -> None:
    path = tmp_path / "a.danet"
    path.write_text(UGLY)
    assert danetc("fmt", "--check", path).status == 1
    diff = danetc("fmt", "--diff", path)
    assert diff.status == 0
    assert "-network  a{" in diff.out
    assert path.read_text() == UGLY
    assert danetc("fmt", "--check", "--diff", path).status == 1
    danetc("fmt", path)
    assert danetc("fmt", "--check", path).status == 0


def test_fmt_from_input_to_output(
    danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_input(monkeypatch, UGLY.encode())
    result = danetc("fmt", "-")
    (tmp_path / "a.danet").write_text(UGLY)
    danetc("fmt", "a.danet")
    assert result.out == (tmp_path / "a.danet").read_text()


def test_fmt_leaves_a_file_with_a_syntax_error(danetc: Run, tmp_path: Path) -> None:
    (tmp_path / "a.danet").write_text("network a { input = ")
    (tmp_path / "b.danet").write_text(UGLY)
    result = danetc("fmt", "a.danet", "b.danet")
    assert result.status == 1
    assert "a.danet:1:" in result.err
    assert (tmp_path / "a.danet").read_text() == "network a { input = "
    assert (tmp_path / "b.danet").read_text() != UGLY


# -- explain ---------------------------------------------------------------------------------------


def test_explain_prints_a_page(danetc: Run) -> None:
    result = danetc("explain", "e0201")
    assert result.status == 0
    assert result.out.startswith("# E0201: ")
    assert "## Fixed" in result.out


def test_explain_list_has_every_page(danetc: Run) -> None:
    lines = danetc("explain", "--list").out.splitlines()
    pages = {
        path.stem for path in (Path(__file__).parents[2] / "dsl/diagnostics/explain").glob("*.md")
    }
    assert {line.split(":")[0] for line in lines} == pages


@pytest.mark.parametrize(
    ("topic", "name", "usage"),
    [
        ("operations", "maxpool", "maxpool(kernel, stride, padding)"),
        ("operations", "stage", "stage(BLOCK, N, stride = 1)"),
        ("operations", "heaviside", "heaviside(x)"),
        ("std", "origin", "origin(inter = spike)"),
        ("settings", "batch", "batch = ..."),
        ("settings", "step", "step(epochs, ..., factor = 0.1)"),
    ],
)
def test_explain_lists_what_a_spec_can_name(danetc: Run, topic: str, name: str, usage: str) -> None:
    assert usage in [line.strip() for line in danetc("explain", topic).out.splitlines()]
    words = json.loads(danetc("explain", topic, "--json").out)
    assert usage in [word["usage"] for word in words if word["name"] == name]


def test_every_list_can_be_asked_for() -> None:
    assert set(LISTS) == TOPICS.keys()


def test_an_unknown_code_gets_a_hint(danetc: Run) -> None:
    result = danetc("explain", "E0020")
    assert result.status == 1
    assert "there is no code E0020" in result.err


# -- summary and draw ------------------------------------------------------------------------------


def test_summary_prints_the_facts(danetc: Run, small: Path) -> None:
    result = danetc("summary", "danet_c_r50")
    assert result.status == 0
    assert "25,557,032" in result.out
    facts = json.loads(danetc("summary", "danet_c_r50", "--json").out)
    assert "25557032" in json.dumps(facts)
    more = json.loads(danetc("summary", small, "--set", "classes=11", "--json").out)
    fewer = json.loads(danetc("summary", small, "--json").out)
    assert more["parameters"] == fewer["parameters"] + 5  # 4 weights and a bias


def test_a_setting_may_read_the_parameters_of_the_network(danetc: Run) -> None:
    stages = "stages=resnet18(width = width) via origin"
    changed = danetc("summary", "danet_c_r18", "--set", "width=32", "--set", stages, "--json")
    assert changed.status == 0, changed.err
    written = danetc("summary", "danet_c_r18", "--set", "width=32", "--json")
    assert json.loads(changed.out)["parameters"] == json.loads(written.out)["parameters"]
    assert "chain" in changed.out
    assert "chain" not in written.out
    failed = danetc("summary", "danet_c_r18", "--set", stages.replace("= width", "= widht"))
    assert failed.status == 1
    assert "--set:1:" in failed.err
    assert "unknown name `widht`" in failed.err


def test_draw_writes_a_picture(danetc: Run, tmp_path: Path, small: Path) -> None:
    assert danetc("draw", small, "-o", "out.svg").status == 0
    root = ElementTree.parse(tmp_path / "out.svg").getroot()
    assert root.tag.endswith("svg")


def test_draw_into_a_missing_folder_is_an_error(danetc: Run, small: Path) -> None:
    result = danetc("draw", small, "-o", "no/such/out.svg")
    assert result.status == 1
    assert "no/such" in result.err


def test_an_unknown_setting_is_the_spec_authors_error(danetc: Run, small: Path) -> None:
    for command in (["summary", small], ["build", small], ["draw", small, "-o", "x.svg"]):
        result = danetc(*command, "--set", "stepz=2")
        assert result.status == 1
        assert "did you mean `steps`?" in result.err
        assert "--set" in result.err
