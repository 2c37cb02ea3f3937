"""What the page shows before Python is there: examples, and words to colour.

``python -m editors.playground.data FOLDER`` writes ``data.json``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import danetc
from danetc.dsl.reading import SUFFIX, ZOO, shipped_specs
from editors.highlighting import words

FIRST = "first"
HERE = Path(__file__).parent


def examples() -> Iterator[dict[str, str]]:
    """Specs to begin with: ``file`` is the name that their `use "..."` starts from."""
    text = (HERE / "first.danet").read_text("utf-8")
    yield _example(FIRST, "First steps", "A network and a variant of it", "first.danet", text)
    shipped = shipped_specs()
    for own in ("own_neuron", "own_connection", "own_rule"):
        title = own.replace("_", " ").capitalize()
        yield _example(own, "First steps", title, f"{own}.danet", shipped[own].read_text("utf-8"))
    for name, place in shipped.items():
        if name.startswith(ZOO):
            title = name.removeprefix(ZOO)
            yield _example(name, "The zoo", title, f"{name}.danet", place.read_text("utf-8"))
        elif not name.startswith("own_"):
            text = place.read_text("utf-8")
            yield _example(name, "The paper and its comparisons", name, f"{name}.danet", text)
    for entry in sorted(files("danetc.dsl.std").iterdir(), key=lambda each: each.name):
        if entry.name.endswith(SUFFIX):
            name, text = f"std/{entry.name}", entry.read_text("utf-8")
            yield _example(
                name.removesuffix(SUFFIX), "The standard library", name, f"../dsl/{name}", text
            )


def _example(id: str, group: str, title: str, file: str, text: str) -> dict[str, str]:
    return {"id": id, "group": group, "title": title, "file": file, "text": text}


def main(folder: Path) -> None:
    found = list(examples())
    groups = {name: sorted(group) for name, group in words().items()}
    data = {"version": danetc.__version__, "first": FIRST, "words": groups, "examples": found}
    (folder / "data.json").write_text(json.dumps(data, separators=(",", ":")), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
