"""check, fmt, explain, list, new, show, completion, summary and draw."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from danetc.commands.texts import COMPLETE
from danetc.main import main
from danetc.reference import TOPICS, topic

from .conftest import SMALL, Run

WRONG = SMALL.replace("LIF", "LFI").replace("origin", "orgin")


def give_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


# -- check -----------------------------------------------------------------------------------------


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
    places = [(item["path"], item["line"], item["column"]) for item in found]
    assert places == [("a.danet", 6, 12), ("a.danet", 9, 35)]
    assert {"code", "message", "hint"} <= found[0].keys() & found[1].keys()
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
    assert "<stdin>:6:12" in danetc("check", "-").err


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


def test_fmt_rewrites_in_place_what_check_and_diff_only_show(
    danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, link = tmp_path / "a.danet", tmp_path / "link.danet"
    path.write_text(UGLY)
    path.chmod(0o640)
    link.symlink_to(path)
    (tmp_path / "wrong.danet").write_text("network a { input = ")
    assert danetc("fmt", "--check", path).status == 1
    assert "-network  a{" in danetc("fmt", "--diff", path).out
    assert danetc("fmt", "--check", "--diff", path).status == 1
    assert path.read_text() == UGLY
    result = danetc("fmt", "wrong.danet", link)
    assert (result.status, result.out) == (1, "")
    assert "wrong.danet:1:" in result.err
    assert (tmp_path / "wrong.danet").read_text() == "network a { input = "
    assert "reformatted" in result.err
    new = path.read_text()
    assert new != UGLY
    assert "# one" in new
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert danetc("fmt", path).err == ""
    assert danetc("fmt", "--check", path).status == 0
    assert path.read_text() == new
    give_input(monkeypatch, UGLY.encode())
    assert danetc("fmt", "-").out == new


# -- explain ---------------------------------------------------------------------------------------


def test_explain_prints_all_that_a_name_means(danetc: Run) -> None:
    out = danetc("explain", "sigmoid").out
    for head in ("operation", "neuron function", "surrogate"):
        assert f"# sigmoid ({head})" in out
    found = json.loads(danetc("explain", "LIF", "--json").out)
    assert [(entry["kind"], entry["place"].partition(":")[0]) for entry in found] == [
        ("neuron", "std/neurons.danet")
    ]
    assert "tau" in [each["name"] for each in found[0]["parameters"]]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("LIFNode", ["write `LIF(tau = 2.0)`", "# LIF (neuron)"]),
        ("nn.Conv2d", ["write `conv(WIDTH", "# conv (operation)"]),
        (
            "T",
            ["expression: the number of time steps is `steps`", "network, recipe: write `steps`"],
        ),
        ("timesteps", ["command line: write `--set steps=4`", "# steps (network setting)"]),
        ("residual", ["is `shortcut` in the `out`", "# shortcut (word)"]),
        ("fine-tuning", ["`danetc train RUN`", "# freeze (setting)"]),
    ],
)
def test_names_of_other_libraries_are_explained(danetc: Run, name: str, said: list[str]) -> None:
    for command in ("explain", "help"):
        result = danetc(command, name)
        assert result.status == 0
        assert all(text in result.out for text in said), result.out
    first = json.loads(danetc("explain", name, "--json").out)[0]
    assert (first["name"], first["kind"]) == (name, "no name of danetc")


def test_help_is_that_of_a_command(danetc: Run) -> None:
    assert danetc("help", "train").out == danetc("train", "--help").out
    assert danetc("help").out.strip() == danetc("--help").out.strip()
    assert danetc("help", "nosuch").err == danetc("explain", "nosuch").err


def test_an_unknown_name_gets_a_hint(danetc: Run) -> None:
    for near, name in (("E0020", "E0"), ("cnov", "conv"), ("orgin", "origin")):
        danetc.fails(f"nothing is called {near}; did you mean `{name}", "explain", near)


# -- list, new and show ----------------------------------------------------------------------------


def test_list_fits_the_terminal(danetc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(json.loads(danetc("list", "--json").out)) == set(TOPICS)
    assert {line.split()[0] for line in danetc("list").out.splitlines()} == set(TOPICS)
    for subject in TOPICS:
        names = {entry["name"] for entry in json.loads(danetc("list", subject, "--json").out)}
        lines = danetc("list", subject).out.splitlines()
        assert {line.split("  ")[0] for line in lines} == names
        assert len(lines) == len(names) > 0
    monkeypatch.setattr("danetc.output.table._terminal_width", lambda: 60)
    lines = danetc("list", "operations").out.splitlines()
    assert max(map(len, lines)) <= 60
    assert len(lines) > len(topic("operations"))


def test_new_writes_a_spec_that_checks_and_trains(danetc: Run, tmp_path: Path) -> None:
    made = danetc.passes("new", "my_first")
    assert "danetc train my_first.danet --data digits" in made.out
    assert danetc("check", "--deny-warnings", "my_first.danet").status == 0
    assert danetc("fmt", "--check", "my_first.danet").status == 0
    quick = ("--set", "recipe.epochs=1", "--set", "width=4", "--backend", "eager", "-q")
    assert danetc("train", "my_first.danet", "--data", "digits", *quick).status == 0
    danetc.fails("my_first.danet exists already", "new", "my_first")
    assert danetc("new", "3-nets").status == 1


def test_show_prints_specs_files_of_std_names_and_lines(danetc: Run, small: Path) -> None:
    assert danetc("show", small).out.strip() == small.read_text().strip()
    text = (Path(__file__).parents[2] / "dsl/std/neurons.danet").read_text()
    assert danetc("show", "std/neurons.danet").out.strip() == text.strip()
    assert danetc("show", "LIF").out.startswith("neuron LIF(")
    assert "network zoo" not in danetc("show", "zoo/spikformer").out
    around = danetc("show", "std/neurons.danet:12:3").out.splitlines()
    assert [line for line in around if line.startswith(">")] == [
        f"> 12 | {text.splitlines()[11]}".rstrip()
    ]
    assert json.loads(danetc("show", "std/rules.danet:3", "--json").out)["line"] == 3
    assert "did you mean `std/rules.danet`?" in danetc("show", "std/rule.danet").err
    assert "has lines 1 to" in danetc("show", "std/rules.danet:999").err


def test_every_place_that_an_error_cites_can_be_shown(danetc: Run, small: Path) -> None:
    small.write_text(SMALL + "connection sew { each = conv; out = branch }")
    found = json.loads(danetc("check", "--json", small).out)
    places = [(each["path"], each["line"]) for item in found for each in (item, *item["labels"])]
    assert any(path.startswith("std/") for path, _ in places)
    for path, line in places:
        assert danetc("show", f"{path}:{line}").status == 0


# -- completion ------------------------------------------------------------------------------------


def test_completion_is_a_script(danetc: Run) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert COMPLETE in danetc("completion", shell).out


def test_a_completion(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv(COMPLETE, "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "danetc dra")
    monkeypatch.setenv("COMP_CWORD", "1")
    with pytest.raises(SystemExit):
        main([])
    assert "plain,draw" in capsys.readouterr().out.splitlines()


# -- summary and draw ------------------------------------------------------------------------------


def test_summary_counts_parameters(danetc: Run, small: Path) -> None:
    assert "25,557,032" in danetc("summary", "danet_c_r50").out
    more, fewer = (
        json.loads(danetc("summary", small, "--set", f"classes={n}", "--json").out)
        for n in (11, 10)
    )
    assert more["parameters"] == fewer["parameters"] + 5  # 4 weights and a bias


def test_a_setting_may_read_the_parameters_of_the_network(danetc: Run) -> None:
    stages = "stages=resnet18(width = width) via origin"
    changed = danetc.passes(
        "summary", "danet_c_r18", "--set", "width=32", "--set", stages, "--json"
    )
    written = danetc("summary", "danet_c_r18", "--set", "width=32", "--json")
    assert json.loads(changed.out)["parameters"] == json.loads(written.out)["parameters"]
    assert "chain" in changed.out
    assert "chain" not in written.out
    failed = danetc.fails(
        "--set:1:", "summary", "danet_c_r18", "--set", stages.replace("= width", "= widht")
    )
    assert "unknown name `widht`" in failed.err


def test_an_unknown_setting_is_the_spec_authors_error(danetc: Run, small: Path) -> None:
    for command in ("summary", "build", "draw"):
        result = danetc.fails("did you mean `steps`?", command, small, "--set", "stepz=2")
        assert "--set" in result.err


def test_draw_without_output_writes_beside_it(danetc: Run, tmp_path: Path, small: Path) -> None:
    folder = tmp_path / "nets"
    folder.mkdir()
    small.rename(folder / "a.net.danet")
    assert danetc("draw", "nets/a.net.danet").status == 0
    assert (folder / "a.net.svg").is_file()
    result = danetc("draw", "zoo/plif_net", "--level", "network")
    assert (result.status, result.out) == (0, "written to plif_net.svg\n")
    assert (tmp_path / "plif_net.svg").is_file()
