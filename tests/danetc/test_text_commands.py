"""check, fmt, explain, list, new, show, completion, summary and draw."""

import io
import json
import pickle
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest

import danetc
from danetc.commands.texts import COMPLETE
from danetc.main import main
from danetc.reference import TOPICS, topic

from .conftest import QUICK, SMALL, Run

WRONG = SMALL.replace("LIF", "LFI").replace("origin", "orgin")


def give_input(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))


def test_check_shows_every_error_of_every_file(danetc: Run, small: Path) -> None:
    Path("a.danet").write_text(WRONG)
    Path("b.danet").write_text("network {")
    result = danetc("check", "a.danet", small, "b.danet", "missing.danet")
    assert (result.status, result.out) == (1, "")
    places = ("a.danet:6:12", "a.danet:9:35", "b.danet:1:", "missing.danet")
    for told in (*places, "did you mean `LIF`?", "`danetc explain E"):
        assert told in result.err


def test_what_two_files_use_is_reported_once(danetc: Run) -> None:
    Path("shared.danet").write_text("block wrong(")
    for name in "ab":
        Path(f"{name}.danet").write_text(f'use "shared.danet"\n{SMALL}')
    result = danetc("check", "--json", "a.danet", "b.danet")
    places = [(item["path"], item["line"], item["column"]) for item in json.loads(result.out)]
    assert len(places) == len(set(places)) == 1


def test_check_reads_standard_input(danetc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    give_input(monkeypatch, SMALL.encode())
    assert danetc("check", "-").status == 0
    give_input(monkeypatch, WRONG.encode())
    assert "<stdin>:6:12" in danetc("check", "-").err


UGLY = "use std\nnetwork  a{input=image(1,8,8);steps=1 # one\nneuron=IF}\n"


def test_fmt_rewrites_in_place_what_check_and_diff_only_show(
    danetc: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, link, wrong = (Path(f"{name}.danet") for name in ("a", "link", "wrong"))
    path.write_text(UGLY)
    path.chmod(0o640)
    link.symlink_to(path)
    wrong.write_text("network a { input = ")
    assert danetc("fmt", "--check", path).status == 1
    assert "-network  a{" in danetc("fmt", "--diff", path).out
    assert danetc("fmt", "--check", "--diff", path).status == 1
    assert path.read_text() == UGLY
    result = danetc("fmt", wrong, link)
    assert (result.status, result.out) == (1, "")
    assert "wrong.danet:1:" in result.err
    assert wrong.read_text() == "network a { input = "
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


def test_explain_prints_all_that_a_name_means(danetc: Run) -> None:
    out = danetc("explain", "sigmoid").out
    for head in ("operation", "neuron function", "surrogate"):
        assert f"# sigmoid ({head})" in out
    (found,) = danetc.json("explain", "LIF")
    assert (found["kind"], found["place"].partition(":")[0]) == ("neuron", "std/neurons.danet")
    assert "tau" in [each["name"] for each in found["parameters"]]


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
        shown = danetc.passes(command, name).out
        assert all(text in shown for text in said), shown
    first = danetc.json("explain", name)[0]
    assert (first["name"], first["kind"]) == (name, "no name of danetc")


def test_help_is_that_of_a_command(danetc: Run) -> None:
    assert danetc("help", "train").out == danetc("train", "--help").out
    assert danetc("help").out.strip() == danetc("--help").out.strip()
    assert danetc("help", "nosuch").err == danetc("explain", "nosuch").err


def test_an_unknown_name_gets_a_hint(danetc: Run) -> None:
    for near, name in (("E0020", "E0"), ("cnov", "conv"), ("orgin", "origin")):
        danetc.fails(f"nothing is called {near}; did you mean `{name}", "explain", near)


def test_list_fits_the_terminal(danetc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(danetc.json("list")) == set(TOPICS)
    assert {line.split()[0] for line in danetc("list").out.splitlines()} == set(TOPICS)
    for subject in TOPICS:
        names = {entry["name"] for entry in danetc.json("list", subject)}
        lines = danetc("list", subject).out.splitlines()
        assert {line.split("  ")[0] for line in lines} == names
        assert len(lines) == len(names) > 0
    monkeypatch.setattr("danetc.output.table._terminal_width", lambda: 60)
    lines = danetc("list", "operations").out.splitlines()
    assert max(map(len, lines)) <= 60
    assert len(lines) > len(topic("operations"))


def test_new_writes_a_spec_without_warnings(danetc: Run) -> None:
    danetc.passes("new", "my_first")
    for command in (("check", "--deny-warnings"), ("fmt", "--check")):
        danetc.passes(*command, "my_first.danet")
    danetc.fails("my_first.danet exists already", "new", "my_first")
    assert danetc("new", "3-nets").status == 1


def test_show_prints_specs_files_of_std_names_and_lines(danetc: Run, small: Path) -> None:
    assert danetc("show", small).out.strip() == small.read_text().strip()
    text = (Path(__file__).parents[2] / "dsl/std/neurons.danet").read_text()
    assert danetc("show", "std/neurons.danet").out.strip() == text.strip()
    assert danetc("show", "LIF").out.startswith("neuron LIF(")
    assert "network zoo" not in danetc("show", "zoo/spikformer").out
    around = danetc("show", "std/neurons.danet:12:3").out.splitlines()
    (marked,) = (line for line in around if line.startswith(">"))
    assert marked == f">   12 | {text.splitlines()[11]}".rstrip()
    assert danetc.json("show", "std/rules.danet:3")["line"] == 3
    assert "did you mean `std/rules.danet`?" in danetc("show", "std/rule.danet").err
    assert "has lines 1 to" in danetc("show", "std/rules.danet:999").err


def test_every_place_that_an_error_cites_can_be_shown(danetc: Run, small: Path) -> None:
    small.write_text(SMALL + "connection sew { each = conv; out = branch }")
    found = json.loads(danetc("check", "--json", small).out)
    places = [(each["path"], each["line"]) for item in found for each in (item, *item["labels"])]
    assert any(path.startswith("std/") for path, _ in places)
    for path, line in places:
        assert danetc("show", f"{path}:{line}").status == 0


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


def test_draw_without_output_writes_beside_it(danetc: Run, small: Path) -> None:
    Path("nets").mkdir()
    small.rename("nets/a.net.danet")
    danetc.passes("draw", "nets/a.net.danet")
    assert Path("nets/a.net.svg").is_file()
    result = danetc("draw", "zoo/plif_net", "--level", "network")
    assert (result.status, result.out) == (0, "written to plif_net.svg\n")
    assert Path("plif_net.svg").is_file()


# -- spec warnings reach the user once in every command and change no result -----------------------


LEAKY = SMALL.replace("neuron = LIF", "neuron = LIF(tau = 0.5)")


@pytest.fixture
def leaky(tmp_path: Path) -> Path:
    path = tmp_path / "leaky.danet"
    path.write_text(LEAKY + QUICK)
    return path


def test_check_shows_warnings_too(danetc: Run, leaky: Path, small: Path) -> None:
    result = danetc("check", leaky, small)
    assert (result.status, result.out) == (0, "2 specs checked, no errors, 1 warning\n")
    warning, more = "warning[W0301]: the state `u` of `LIF`", "`danetc explain W0301` tells more"
    for told in (warning, f"{leaky}:6:12", f"1 warning; {more}"):
        assert told in result.err
    danetc.fails("--deny-warnings", "check", "--deny-warnings", leaky, small)
    (found,) = danetc.json("check", leaky)
    assert (found["code"], found["severity"]) == ("W0301", "warning")
    assert (found["line"], found["column"], found["end"]) == (6, 12, {"line": 6, "column": 26})
    Path("wrong.danet").write_text(SMALL.replace("LIF", "LFI"))
    result = danetc("check", leaky, "wrong.danet")
    assert (result.status, result.out) == (1, "")
    assert "warning[W0301]" in result.err
    assert "1 error, 1 warning; `danetc explain E0210`" in result.err
    both = json.loads(danetc("check", "--json", leaky, "wrong.danet").out)
    assert [item["severity"] for item in both] == ["warning", "error"]
    leaky.write_text(LEAKY.replace("origin", "orign"))
    assert "W0" not in danetc("check", leaky).err  # the error may have caused the warning


@pytest.mark.parametrize(
    "line",
    [
        "summary leaky.danet",
        "build leaky.danet -o out",
        "draw leaky.danet -o out.gv",
        "draw leaky.danet leaky.danet -o out.gv",
        "equiv leaky.danet leaky.danet",
        "train leaky.danet --data digits --backend eager -o out -q",
    ],
)
def test_commands_say_it_once_and_go_on(danetc: Run, leaky: Path, line: str) -> None:
    result = danetc(*line.split())
    assert (result.status, result.err.count("warning[W0301]")) == (0, 1)
    assert "warning" not in result.out


def test_a_recipe_is_looked_at_with_its_settings(danetc: Run, small: Path) -> None:
    arguments = ("train", small, "--data", "digits", "--dry-run")
    result = danetc.passes(*arguments, "--set", "recipe.optimizer.lr=50")
    assert "warning[W0401]: a learning rate of 50" in result.err


def test_one_of_several_processes_says_it(
    capsys: pytest.CaptureFixture[str], leaky: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        assert main(["summary", str(leaky)]) == 0
        assert ("W0301" in capsys.readouterr().err) == (rank == "0")


def test_python_gets_warnings(leaky: Path, small: Path) -> None:
    assert danetc.check(small) == ()
    (found,) = danetc.check(leaky)
    assert (found.code, found.severity, found.span.line) == ("W0301", "warning", 6)
    assert main(["summary", str(leaky)]) == 0  # Python's warnings stay unchanged
    with pytest.warns(danetc.SpecWarning) as caught:
        danetc.build(leaky, backend="eager")
    (warning,) = caught
    assert warning.filename == __file__
    again = pickle.loads(pickle.dumps(warning.message))
    assert str(again) == str(warning.message)
    assert [each.code for each in again.diagnostics] == ["W0301"]
    assert "warning[W0301]" in str(warning.message)
    with warnings.catch_warnings():
        warnings.simplefilter("error", danetc.SpecWarning)
        with pytest.raises(danetc.SpecWarning):
            danetc.build(leaky, backend="eager")
