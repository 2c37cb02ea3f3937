"""``danetc.editor.bridge``: the requests of the page to danetc, without a browser."""

import json
import subprocess
import sys
from typing import Any

import pytest

import danetc
from danetc.compiler.draw import LEVELS, engine
from danetc.compiler.draw.engine import run_program
from danetc.editor import bridge

SPEC = """use std

network small(classes = 10) {
  input = image(3, 16, 16)
  steps = 2
  neuron = LIF
  surrogate = atan
  stem = conv(8) -> norm -> spike  # 𝄞 counts twice in UTF-16
  stages = stage(basic(8), 3) via origin by densely_additive
  head = avgpool -> mean_over_time -> linear(classes)
}

network chained = small { stages = stage(basic(8), 3) via origin }
network named = small { stages = stage(basic(8), 3) via origin by densely_additive }
"""
NAME = "<text>"
BLOCKED = """
PIL click filelock jinja2 lark markupsafe multiprocessing numpy platformdirs psutil pygls rich
safetensors subprocess torch torchvision
"""
"""Modules that a browser's Python lacks, or would have to load in addition."""

ALONE = """
import json, sys

class Gone:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split():
            raise ModuleNotFoundError(f"there is no {name} here", name=name)

sys.meta_path.insert(0, Gone())
for name in sys.argv[1].split():
    assert name not in sys.modules, name
from danetc.editor import bridge, open_files, outline

bridge.draw_with(lambda text, engine, form: '<svg xmlns="http://www.w3.org/2000/svg"></svg>')
asked = json.loads(sys.stdin.read())
replies = {}
for method in bridge.METHODS:
    request = {**asked, "left": asked, "right": asked, "method": method}
    replies[method] = json.loads(bridge.answer(json.dumps(request)))
print(json.dumps(replies))
"""


def ask(method: str, text: str = SPEC, **more: Any) -> Any:
    request = {"method": method, "name": NAME, "text": text, **more}
    reply = json.loads(bridge.answer(json.dumps(request)))
    return reply.get("result", reply)


def taken(text: str, range_: tuple[int, int]) -> str:
    start, end = range_
    return text.encode("utf-16-le")[2 * start : 2 * end].decode("utf-16-le")


def at(text: str, part: str) -> int:
    return len(text.partition(part)[0].encode("utf-16-le")) // 2


@pytest.mark.thorough
def test_every_method_answers_with_nothing_but_the_standard_library_and_networkx() -> None:
    """The browser has no torch, no click and no processes."""
    asked = {"name": "a.danet", "text": SPEC, "level": "stage", "at": at(SPEC, "origin by") + 3}
    command = [sys.executable, "-c", ALONE, BLOCKED]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    replies = json.loads(done.stdout)
    assert replies.keys() == bridge.METHODS.keys()
    unanswered = [method for method, reply in replies.items() if not reply.get("result")]
    assert unanswered == ["compare"]  # it needs Graphviz, which is missing here


def test_an_error_has_its_place_and_a_mend_clears_it() -> None:
    wrong = SPEC.replace("origin by densely", "orijin by densely", 1)
    found = ask("check", wrong)
    (error,) = [item for item in found["diagnostics"] if item["severity"] == "error"]
    assert (error["code"], taken(wrong, error["range"])) == ("E0210", "orijin")
    assert "`origin`" in error["hint"]
    (edit,) = error["fixes"][0]["edits"]
    assert (taken(wrong, edit["range"]), edit["text"]) == ("orijin", "origin")
    assert found["networks"] == []
    mended = ask("check")
    assert mended["diagnostics"] == []
    assert mended["networks"] == ["small", "chained", "named"]


def test_places_are_those_of_javascript() -> None:
    hint = next(hint for hint in ask("check")["hints"] if hint["at"] > at(SPEC, "stages"))
    assert taken(SPEC, (0, hint["at"])).endswith("head = avgpool")
    found = ask("hover", at=at(SPEC, "densely_additive") + 2)
    assert taken(SPEC, found["range"]) == "densely_additive"
    assert "rule densely_additive" in found["markdown"]
    assert ask("hover", at=at(SPEC, "\nnetwork chained")) is None
    place = ask("definition", at=at(SPEC, "linear(classes)") + 8)
    assert taken(SPEC, place["range"]).startswith("classes")
    assert ask("definition", at=at(SPEC, "LIF") + 1)["place"].startswith("std/neurons.danet:")
    written = SPEC.replace("via origin }", "via ori }")
    proposals = ask("complete", written, at=at(written, "ori }") + 3)
    assert "origin" in [each["name"] for each in proposals]
    assert taken(written, proposals[0]["range"]) == "ori"


@pytest.mark.parametrize("level", LEVELS)
def test_pictures_are_those_of_the_command(level: str) -> None:
    found = ask("draw", level=level, network="chained")
    assert found["svg"].encode() == danetc.draw(text=SPEC, network="chained", level=level)
    assert found["network"] == "chained"
    for box in found["places"].values():
        for span in box["spans"]:
            assert taken(SPEC, span)


def test_what_cannot_be_answered_says_why() -> None:
    assert ask("draw", "", level="stage") == {
        "error": "the file declares no network\nadd `network NAME { ... }`"
    }
    bare = SPEC.replace("stages = stage(basic(8), 3) via origin by densely_additive", "", 1)
    assert "no stages of blocks" in ask("draw", bare, level="block")["error"]
    assert "unknown name" in ask("summary", SPEC.replace("atan", "atam"))["error"]
    assert "error" in ask("format", SPEC.replace("steps = 2", "steps 2"))


@pytest.mark.thorough
def test_another_graphviz_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def render(text: str, engine: str, form: str) -> str:
        asked.append((engine, form))
        return run_program([text], engine, form).decode()

    expected = {level: danetc.draw(text=SPEC, network="small", level=level) for level in LEVELS}
    monkeypatch.setattr(engine, "_layout", run_program)
    bridge.draw_with(render)
    for level in LEVELS:
        assert ask("draw", level=level)["svg"].encode() == expected[level]
    assert set(asked) == {("nop2", "svg"), ("dot", "json0")}

    def fails(text: str, engine: str, form: str) -> str:
        raise RuntimeError("out of memory")

    bridge.draw_with(fails)
    assert ask("draw", level="network") == {"error": "Graphviz failed: out of memory"}


def test_two_specs_side_by_side() -> None:
    def sides(left: str, right: str) -> dict[str, Any]:
        spec = {"text": SPEC, "name": NAME}
        return {"left": {**spec, "network": left}, "right": {**spec, "network": right}}

    assert ask("equiv", **sides("small", "named"))["verdict"] == "equal"
    other = ask("equiv", **sides("small", "chained"))
    assert (other["verdict"], other["first"]["left"]["op"]) == ("different", "conv")
    assert "chained" in ask("compare", **sides("small", "chained"))["svg"]


def test_facts_and_texts() -> None:
    assert [stage["rule"] for stage in ask("summary")["stages"]] == ["densely_additive"]
    assert ask("summary", network="chained")["name"] == "chained"
    proved = ask("prove")
    assert {item["verdict"] for item in proved["findings"]} == {"not checked", "does not apply"}
    assert "shortest path" in proved["paths"][0]["says"]
    model = ask("model", network="chained")
    assert model.startswith('"""chained: a spiking network of 2 time steps')
    compile(model, "model.py", "exec")
    formatted = ask("format", SPEC.replace("  steps = 2", "steps=2"))
    assert "\n  steps     = 2\n" in formatted
    assert ask("format", formatted) == formatted
